"""Which half precision the devices of this machine compute fast in."""

import functools
import re
import time
from pathlib import Path

import tensorflow as tf

from tfsqueeze.core import devices

CPU_FLAGS = ("amx_bf16", "avx512_bf16")
WORTHWHILE = 1.2
MATRIX_SIZE = 512
ROUNDS = 5


def fastest_precision() -> str:
    """The precision that trains fastest here without harm: "bfloat16", "float16" or "float32".

    TPUs and GPUs from compute capability 8.0 get bfloat16, which has float32's range; other GPUs with
    tensor cores float16. A CPU gets bfloat16 if it has instructions for it; where the system does not tell,
    if it multiplies matrices faster in it (a fraction of a second). It never gets float16, which TensorFlow
    emulates there.
    """
    if tf.config.list_logical_devices("TPU"):
        return "bfloat16"
    if devices.has_gpu():
        capability = _gpu_capability()
        if capability is None:
            return "float16"
        return "bfloat16" if capability >= (8, 0) else "float16" if capability >= (7, 0) else "float32"
    return "bfloat16" if cpu_has_bfloat16() else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions that TensorFlow uses."""
    flags = _cpu_flags()
    if flags is None:
        return bfloat16_speedup() >= WORTHWHILE
    return any(flag in flags for flag in CPU_FLAGS)


@functools.cache
def bfloat16_speedup() -> float:
    """How many times faster the CPU multiplies matrices in bfloat16 than in float32."""
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    with tf.device("CPU:0"):
        matrices = {name: tf.cast(tf.random.normal([MATRIX_SIZE] * 2, seed=0), name) for name in seconds}
        for _ in range(ROUNDS):
            for name, matrix in matrices.items():
                start = time.perf_counter()
                tf.matmul(matrix, matrix).numpy()
                seconds[name].append(time.perf_counter() - start)
    return min(seconds["float32"]) / min(seconds["bfloat16"])


def _cpu_flags() -> set[str] | None:
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return set(found[1].split()) if found else None


def _gpu_capability() -> tuple[int, int] | None:
    """The compute capability of the weakest GPU; None where it is not one of NVIDIA's."""
    details = [
        tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")
    ]
    found = [detail["compute_capability"] for detail in details if "compute_capability" in detail]
    return min(found) if found else None
