"""Latencies of operators on this machine, each timed once, and of networks as their sums."""

import contextlib
import functools
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import keras

from tfsqueeze.core.files import atomic_write
from tfsqueeze.export.precision import float32_compute
from tfsqueeze.search.architectures.operators import Operator, operators
from tfsqueeze.search.latencies import file_latencies

TIMED_RUNS = 100


class LatencyTable:
    """Milliseconds of operators, timed alone as one-layer float32 `.tflite` files on one thread.

    An operator is timed when a network with it is first asked for, and kept in a file: later searches on the
    same machine look it up. Networks of one search share most of their operators.

    Args:
        path: the file; None for one per machine in the user's cache folder (`XDG_CACHE_HOME`).
        runs: timed calls of each operator, >= 5.

    Attributes:
        entries: milliseconds by operator; 0 for those that cannot be run alone.

    Example:
        >>> table = LatencyTable("latencies.json")
        >>> milliseconds = table.predict(model)

    Source: Wu et al., FBNet, arXiv:1812.03443, section 3.3; Cai et al., ProxylessNAS, arXiv:1812.00332.
    """

    def __init__(self, path=None, runs: int = TIMED_RUNS):
        self.path = _default_path() if path is None else Path(path)
        self._runs = runs
        self.entries: dict[str, float] = self._stored()

    def predict(self, model: keras.Model) -> float:
        """Milliseconds of one call of a network with one example.

        It is the sum over its operators of what each adds to a call that computes next to nothing.

        Args:
            model: a built Sequential or Functional model.
        """
        idle = _idle()
        with float32_compute(model):
            found = operators(model)
            self._time({one.key: one for one in (idle, *found) if one.key not in self.entries})
        call = self.entries[idle.key]
        return call + sum(max(self.entries[one.key] - call, 0) for one in found)

    def _time(self, missing: dict[str, Operator]) -> None:
        if not missing:
            return
        with tempfile.TemporaryDirectory() as folder:
            paths = {}
            for index, (key, operator) in enumerate(missing.items()):
                # What TensorFlow's converter knows only within its surroundings counts nothing.
                with contextlib.suppress(Exception):
                    content = operator.convert()
                    paths[key] = Path(folder, f"{index}.tflite")
                    paths[key].write_bytes(content)
            timed = file_latencies(paths, self._runs)
        self.entries |= {key: timed.get(key, 0.0) for key in missing}
        # Other processes add to the same file.
        self.entries = {**self._stored(), **self.entries}
        # Where no cache can be written, as in a read-only container, the table ends with the program.
        with contextlib.suppress(OSError, ValueError), atomic_write(self.path) as temporary:
            temporary.write_text(json.dumps(self.entries, indent=1) + "\n", encoding="utf-8")

    def _stored(self) -> dict[str, float]:
        """What the file holds; a damaged one is begun anew, as it costs seconds to fill."""
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            return {str(key): float(value) for key, value in stored.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}


@functools.cache
def _idle() -> Operator:
    """An operator on one number: its time is that of calling an interpreter."""
    return operators(keras.Sequential([keras.Input((1,)), keras.layers.ReLU()]))[0]


def _default_path() -> Path:
    """One file for each processor and version of the interpreter."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tfsqueeze", "latencies")
    words = [_processor(), str(os.cpu_count()), version("ai-edge-litert")]
    return folder / ("-".join("".join(filter(_is_plain, word)) for word in words) + ".json")


def _is_plain(character: str) -> bool:
    return character.isalnum() or character in "._"


def _processor() -> str:
    """The processor's name as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
