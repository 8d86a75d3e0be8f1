"""A first run of a file in a child process, because a damaged file can crash, hang or fill the memory."""

import subprocess
import sys

from tfsqueeze.tflite.structure import TFLiteFile

SECONDS = 60
_FIRST_RUN = """
import os, sys
try:
    import resource
    limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 3 // 4
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
except (ImportError, ValueError, OSError):
    pass
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_content=sys.stdin.buffer.read(), num_threads=1)
interpreter.allocate_tensors()
interpreter.invoke()
"""


def check_runs(file: TFLiteFile) -> TFLiteFile:
    """Returns `file` if the interpreter survives one run of it.

    A flatbuffer that parses can still hold a shape or a number that was damaged. Files with a checksum
    were verified when they were read, and files with select-TF operators need TensorFlow to run, which
    takes too long to load a second time; both are returned without a run.

    Args:
        file: a parsed `.tflite` file.

    Raises:
        ValueError: if the run fails, crashes, or takes more than a minute.
    """
    has_select_tf = any(operator.is_select_tf for graph in file.subgraphs for operator in graph.operators)
    if file.has_checksum or has_select_tf:
        return file
    command = [sys.executable, "-c", _FIRST_RUN]
    try:
        done = subprocess.run(command, input=file.content, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"One run of the .tflite file did not end within {SECONDS} seconds.") from error
    if done.returncode:
        raise ValueError(f"The .tflite file does not run: {_reason(done)}")
    return file


def _reason(done) -> str:
    if done.returncode < 0:
        return f"it crashes the interpreter (signal {-done.returncode}). It is damaged: export it again."
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "the interpreter gives no reason."
