"""What an export gives back: the file, what is in it, and how close it is to the model."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class OutputParity:
    """How far one output of the file is from the model's.

    Attributes:
        max_error: greatest absolute difference.
        snr_db: signal-to-noise ratio in decibels: 10 log10(sum(model^2) / sum(difference^2)).
        top1: fraction of examples with the same greatest class, for outputs of shape (n, classes).
    """

    max_error: float
    snr_db: float
    top1: float | None = None

    def __str__(self) -> str:
        top1 = "" if self.top1 is None else f", top-1 agreement {self.top1:.1%}"
        return f"max error {self.max_error:.3g}, SNR {self.snr_db:.1f} dB{top1}"


@dataclass
class ExportResult:
    """Result of `export_tflite`.

    Attributes:
        path: the written file.
        bytes: its size.
        quantize: what was asked for.
        backend: "converter" or "litert-quantizer", which made the file.
        inputs, outputs: NumPy dtype by name, as stored in the file.
        batch_size: the fixed batch size, or None if it is free.
        parity: agreement with the model by output name.
        parity_examples: how many examples it was measured on.
        parity_data: "representative data" or "random input".
        float_ops: operators that compute in float, with their number; empty in a full-integer file.
        select_ops: operators that need TensorFlow's own kernels (the Flex delegate).
        sparse_kernels: how many kernels are stored sparse.
        notes: what was done that the user may not expect.
        candidates: with `backend="auto"`, what each back-end measured.
    """

    path: Path
    bytes: int
    quantize: str | None
    backend: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    batch_size: int | None = None
    parity: dict[str, OutputParity] = field(default_factory=dict)
    parity_examples: int = 0
    parity_data: str = "random input"
    float_ops: dict[str, int] = field(default_factory=dict)
    select_ops: list[str] = field(default_factory=list)
    sparse_kernels: int = 0
    notes: list[str] = field(default_factory=list)
    candidates: dict[str, str] = field(default_factory=dict)

    @property
    def max_error(self) -> float:
        """Greatest absolute difference of any output; NaN if the file could not be run."""
        return max((output.max_error for output in self.parity.values()), default=float("nan"))

    @property
    def snr_db(self) -> float:
        """SNR of the worst output, in decibels; NaN if the file could not be run."""
        return min((output.snr_db for output in self.parity.values()), default=float("nan"))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, ready for JSON."""
        return {**asdict(self), "path": str(self.path)}

    def __str__(self) -> str:
        def ports(dtypes):
            return ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())

        batch = "free" if self.batch_size is None else self.batch_size
        lines = [
            f"{self.path}: {self.bytes:,} bytes, {self.quantize or 'float32'}, by the {self.backend}",
            f"  inputs {ports(self.inputs)} -> outputs {ports(self.outputs)}; batch {batch}",
        ]
        for name, parity in self.parity.items():
            lines.append(f"  {name}: {parity} (on {self.parity_examples} examples of {self.parity_data})")
        if self.quantize is not None and self.float_ops:
            listed = ", ".join(f"{name} x{count}" for name, count in self.float_ops.items())
            lines.append(f"  float operators: {listed}")
        if self.sparse_kernels:
            lines.append(f"  {self.sparse_kernels} kernels stored sparse, unpacked when the file is loaded")
        if self.select_ops:
            lines.append(f"  needs the Flex delegate for: {', '.join(self.select_ops)}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])
