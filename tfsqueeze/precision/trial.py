"""One step at a time in a child process, so that running out of memory harms nobody.

The step is traced here and stored as a SavedModel: the child needs TensorFlow alone, and none of the
user's classes.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfsqueeze.core.checks import UnsupportedModelError
from tfsqueeze.precision.memory import EXCEEDED, Watch

KILLED = (EXCEEDED, -9)


class Trials:
    """Tries batch sizes within a bound of memory.

    Args:
        folder: holds the SavedModel `step` and the example `example.npz`.
        memory: bytes the child may hold.
    """

    def __init__(self, folder: Path, memory: int):
        self._folder, self._memory = folder, memory
        self._child: subprocess.Popen | None = None

    def fits(self, batch_size: int) -> bool:
        """Whether a step with that many examples stays within the bound."""
        child = self._child or self._start()
        try:
            child.stdin.write(f"{batch_size}\n")
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer.strip() == "fits":
            return True
        self._raise_unless_memory(child, answer)
        self.close()
        return False

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def _start(self):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        command = [sys.executable, "-m", "tfsqueeze.precision.trial", str(self._folder), str(self._memory)]
        pipe = subprocess.PIPE
        with open(self._folder / "errors.txt", "w") as errors:
            self._child = subprocess.Popen(
                command, env=environment, stdin=pipe, stdout=pipe, stderr=errors, text=True
            )
        return self._child

    def _raise_unless_memory(self, child, answer) -> None:
        code = 0 if answer else child.wait()
        if answer.strip() == "exhausted" or code in KILLED:
            return
        reason = answer.strip() or (self._folder / "errors.txt").read_text().strip()[-500:]
        raise UnsupportedModelError(
            f"The step does not run in a process of its own (exit code {code}): {reason}"
        )


@contextlib.contextmanager
def child_trials(step, variables, example: list[np.ndarray], owner, memory: int) -> Iterator[Trials]:
    """Stores a step and lets it be tried in a child until the block ends.

    Args:
        step: a concrete function of the flat tensors of a batch.
        variables: what it reads and writes.
        example: one example for each tensor, with its batch axis of size 1.
        owner: a Keras model that may hold further resources (tables).
        memory: bytes the child may hold.
    """
    with tempfile.TemporaryDirectory(prefix="tfsqueeze-") as name:
        folder = Path(name)
        module = tf.Module()
        module.variables_of_step, module.step = variables, step
        module.owner = owner if isinstance(owner, tf.Module) else None
        tf.saved_model.save(module, str(folder / "step"))
        np.savez(folder / "example.npz", *example)
        trials = Trials(folder, memory)
        try:
            yield trials
        finally:
            trials.close()


def _serve(folder: Path, memory: int) -> None:
    """The child's side: reads batch sizes, answers whether each fits, and ends when one does not."""
    Watch(memory).start()
    with np.load(folder / "example.npz") as stored:
        example = [stored[name] for name in stored.files]
    loaded = tf.saved_model.load(str(folder / "step"))
    for line in sys.stdin:
        batch = [tf.constant(np.repeat(array, int(line), axis=0)) for array in example]
        try:
            for result in loaded.step(*batch):
                result.numpy()
            answer = "fits"
        except tf.errors.ResourceExhaustedError:
            answer = "exhausted"
        except tf.errors.OpError as error:
            answer = json.dumps(str(error)[:500])
        print(answer, flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
