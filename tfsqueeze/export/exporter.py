"""Makes, measures, chooses and writes the file of one variant."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfsqueeze.core.data import Examples, random_examples
from tfsqueeze.core.files import atomic_write
from tfsqueeze.export import litert, trained_quantization
from tfsqueeze.export.calibration import NEEDS_DATA, calibration_examples
from tfsqueeze.export.convert import Converter
from tfsqueeze.export.finish import finish
from tfsqueeze.export.isolation import convert_in_child
from tfsqueeze.export.localize import first_mismatch, largest_drops, layer_of
from tfsqueeze.export.operators import check_integer, float_counts
from tfsqueeze.export.parity import compare
from tfsqueeze.export.result import ExportResult, OutputParity
from tfsqueeze.export.source import Source
from tfsqueeze.tflite.file import read
from tfsqueeze.tflite.operators import select_operators
from tfsqueeze.tflite.runner import ports
from tfsqueeze.tflite.sparse_storage import store_sparse
from tfsqueeze.tflite.structure import TFLiteFile

_PARITY_EXAMPLES = 32
_CHOICE_EXAMPLES = 200
_CHOSEN = ("int8", "int4")
_RANDOM_EXAMPLES = 4
_LEAST_SNR_DB = {None: 80, "float16": 40, "dynamic": 15, "int8": 15, "int16x8": 20, "int4": 8}
_SAME_SNR_DB = 0.5
# XNNPACK refuses sparse kernels of integers.
SPARSE_KINDS = (None, "float16")
_WORTH_SPARSE = 0.8

_NOT_RUN = (
    "Not compared with the model: TensorFlow's operators need an interpreter with the Flex delegate, "
    "which this installation lacks."
)


@dataclass(frozen=True)
class Candidate:
    """A finished file, not yet written, and what was measured of it."""

    backend: str
    how: str
    file: TFLiteFile
    parity: dict[str, OutputParity]
    float_ops: dict[str, int]
    examples: int

    @property
    def name(self) -> str:
        return f"{self.backend}, {self.how}" if self.how else self.backend

    @property
    def snr_db(self) -> float:
        return min((output.snr_db for output in self.parity.values()), default=float("-inf"))

    @property
    def is_quantized(self) -> bool:
        """Whether any stored weight is an integer that stands for a real number."""
        return any(tensor.is_constant and tensor.is_quantized for tensor in self.file.main.tensors)

    def __str__(self) -> str:
        return f"{len(self.file.content):,} bytes, SNR {self.snr_db:.1f} dB"


class Exporter:
    """Exports variants of one source; takes the options of `export_tflite`."""

    def __init__(
        self,
        source: Source,
        representative_data=None,
        *,
        backend: str = "auto",
        samples: int = 200,
        allow_float: bool = False,
        allow_select_ops: bool = True,
        sparse: str | bool = "auto",
        seed: int = 0,
    ):
        self._source = source
        self._samples = None
        if representative_data is not None:
            self._samples = calibration_examples(representative_data, source.specs, samples)
        self._backend = backend
        self._allow_float = allow_float
        self._select_ops = allow_select_ops
        self._sparse = sparse
        self._seed = seed
        self._measured_on: dict[int, tuple[Examples, dict[str, np.ndarray]]] = {}
        self._converter = Converter(source, allow_select_ops=allow_select_ops)

    def write(self, target: Path, quantize: str | None, io_dtype: str = "float32") -> ExportResult:
        """Makes the file, checks it, writes it to `target`."""
        candidates, failures = self._candidates(quantize, io_dtype)
        if not candidates:
            raise failures[0]
        chosen = _best(candidates)
        if io_dtype != "float32":
            check_integer(chosen.file, io_dtype, self._allow_float)
        with atomic_write(target) as temporary:
            temporary.write_bytes(chosen.file.content)
        result = self._result(target, quantize, chosen, candidates)
        self._warn_if_poor(result, chosen)
        return result

    def _candidates(self, quantize, io_dtype) -> tuple[list[Candidate], list[ValueError]]:
        candidates, failures = [], []
        for backend in self._backends(quantize, io_dtype):
            contents = self._contents(backend, quantize, io_dtype)
            while True:
                try:
                    how, content = next(contents)
                    candidates.append(self._measure(backend, how, content, quantize))
                    if self._source.trained_ranges:
                        break
                except StopIteration:
                    break
                except ValueError as error:
                    failures.append(error)
        return candidates, failures

    def _backends(self, quantize, io_dtype: str) -> list[str]:
        trained = self._source.trained_ranges
        return ["converter"] if trained else _backends(self._backend, quantize, io_dtype)

    def _contents(self, backend: str, quantize, io_dtype: str) -> Iterator[tuple[str, bytes]]:
        if self._source.trained_ranges:
            kind = quantize if quantize == "int16x8" else "int8"
            content = self._converter.convert(kind, None, io_dtype)
            yield from trained_quantization.files(content, self._source.low_bits)
        elif backend == litert.BACKEND:
            keys = self._source.input_keys
            yield from litert.quantized_files(
                self._converter.float(), quantize, self._samples, keys, io_dtype
            )
        elif quantize not in NEEDS_DATA:
            yield "", self._converter.convert(quantize, None, io_dtype)
        elif self._source.loops:
            yield "", convert_in_child(self._source, quantize, self._samples, io_dtype, self._select_ops)
        else:
            yield "", self._converter.convert(quantize, self._samples, io_dtype)

    def _measure(self, backend: str, how: str, content: bytes, quantize) -> Candidate:
        if quantize in SPARSE_KINDS:
            content = self._with_sparse_kernels(content)
        file = read(finish(content, self._source.input_keys, self._source.output_keys))
        examples, expected = self._examples(_CHOICE_EXAMPLES if quantize in _CHOSEN else _PARITY_EXAMPLES)
        try:
            parity = compare(file, examples.inputs, expected)
        except ValueError as error:
            if not select_operators(file):
                raise self._with_remedy(error) from error
            parity = {}
        return Candidate(backend, how, file, parity, float_counts(file), len(examples))

    def _with_sparse_kernels(self, content: bytes) -> bytes:
        """The file with sparse kernels where that is wanted, and by default where it clearly pays."""
        if self._sparse is False:
            return content
        smaller = store_sparse(content)
        most = _WORTH_SPARSE * len(content) if self._sparse == "auto" else len(content)
        return smaller if len(smaller) < most else content

    def _with_remedy(self, error: ValueError) -> ValueError:
        """Some operations convert wrongly with a free batch axis and rightly with a fixed one."""
        if self._source.batch_size is None and "cannot be prepared" in str(error):
            return ValueError(f"{error} Try a fixed batch axis: export_tflite(..., batch_size=1).")
        return error

    def _examples(self, most: int) -> tuple[Examples, dict[str, np.ndarray]]:
        """Examples spread over the data, and the model's outputs on them, computed once."""
        if most not in self._measured_on:
            examples = self._drawn(most)
            self._measured_on[most] = examples, self._source.run(examples.inputs)
        return self._measured_on[most]

    def _drawn(self, most: int) -> Examples:
        if self._samples is None:
            return self._random()
        count = len(self._samples)
        return self._samples[np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))]

    def _random(self) -> Examples:
        """Random input, within the ranges where they are known."""
        ranges = self._source.input_ranges
        count = _PARITY_EXAMPLES if ranges else _RANDOM_EXAMPLES
        examples = random_examples(self._source.specs, count, seed=self._seed)
        generator = np.random.default_rng(self._seed)
        for name, (low, high) in ranges.items():
            shape = examples.inputs[name].shape
            examples.inputs[name] = generator.uniform(low, high, shape).astype("float32")
        return examples

    def _result(self, target, quantize, chosen: Candidate, candidates) -> ExportResult:
        file = chosen.file
        inputs, outputs = ports(file)
        return ExportResult(
            path=Path(target),
            bytes=len(file.content),
            quantize=quantize,
            backend=chosen.backend,
            inputs={port.name: port.dtype for port in inputs},
            outputs={port.name: port.dtype for port in outputs},
            batch_size=self._source.batch_size,
            parity=chosen.parity,
            parity_examples=chosen.examples,
            parity_data="random input" if self._samples is None else "representative data",
            float_ops=chosen.float_ops,
            select_ops=select_operators(file),
            sparse_kernels=_sparse_count(file),
            notes=[
                *self._source.notes,
                *([] if chosen.parity else [_NOT_RUN]),
                *(trained_quantization.storage_notes(file) if self._source.low_bits else []),
            ],
            candidates={c.name: str(c) for c in candidates} if len(candidates) > 1 else {},
        )

    def _warn_if_poor(self, result: ExportResult, chosen: Candidate) -> None:
        least = _LEAST_SNR_DB[result.quantize]
        poor = {name: parity for name, parity in result.parity.items() if parity.snr_db < least}
        if poor:
            listed = "; ".join(f"{name}: {parity}" for name, parity in poor.items())
            warnings.warn(
                f"The file {str(result.path)!r} matches the model poorly on {result.parity_examples} "
                f"examples of {result.parity_data}: {listed} (expected at least {least} dB)."
                f"{self._where_error_starts(chosen, result.quantize)}",
                stacklevel=4,
            )

    def _where_error_starts(self, chosen: Candidate, quantize) -> str:
        if self._source.trained_ranges:
            return ""
        examples, _ = self._examples(_PARITY_EXAMPLES)
        batch, model = examples[: self._source.batch_size or 8].inputs, self._source.model
        if quantize is None:
            layers = [] if model is None else first_mismatch(model, chosen.file, batch)
            return f" The error starts at {', '.join(map(repr, layers))}." if layers else ""
        reference = finish(self._converter.float(), self._source.input_keys, self._source.output_keys)
        drops = largest_drops(chosen.file, reference, batch)
        layers = {layer_of(name, model): ratio for name, ratio in drops}
        listed = ", ".join(f"{name!r} ({ratio:.0f} dB behind it)" for name, ratio in layers.items())
        return f" Most is lost at {listed}." if drops else ""


def _sparse_count(file: TFLiteFile) -> int:
    """Tensors that share one buffer are one kernel."""
    sparse = [tensor for graph in file.subgraphs for tensor in graph.tensors if tensor.is_sparse]
    return len({tensor.content.ctypes.data for tensor in sparse})


def _backends(asked: str, quantize, io_dtype: str) -> list[str]:
    """Back-ends to try, the first preferred."""
    if quantize in (None, "float16"):
        return ["converter"]
    if quantize == "int4":
        return [litert.BACKEND]
    if asked == "auto":
        return ["converter"] if io_dtype == "uint8" else ["converter", litert.BACKEND]
    return [asked]


def _best(candidates: list[Candidate]) -> Candidate:
    """Quantized at all, then fewest float operators, then the better match, then the smaller file.

    The converter's "dynamic" leaves weights of fewer than 1,024 elements float, in a small model all of
    them: an exact match, and no saving.
    """
    candidates = [candidate for candidate in candidates if candidate.is_quantized] or candidates
    fewest = min(sum(candidate.float_ops.values()) for candidate in candidates)
    kept = [candidate for candidate in candidates if sum(candidate.float_ops.values()) == fewest]
    best = max(candidate.snr_db for candidate in kept)
    close = [candidate for candidate in kept if candidate.snr_db >= best - _SAME_SNR_DB]
    return min(close, key=lambda candidate: len(candidate.file.content))
