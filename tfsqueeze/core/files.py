"""Writing files so that nothing is ever left half-written."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path) -> Iterator[Path]:
    """Gives a temporary path beside `path`; it takes the place of `path` only if the block succeeds.

    Args:
        path: the file to write. Its folder is made if it is missing.

    Yields:
        A path in the same folder to write to.

    Raises:
        ValueError: if `path` is a folder, or its folder cannot be made or written to.

    Example:
        >>> with atomic_write("model.tflite") as temporary:
        ...     temporary.write_bytes(content)
    """
    target = check_writable(path)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        temporary = folder / target.name
        yield temporary
        os.replace(temporary, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_writable(path) -> Path:
    """Returns `path` as a Path that can be written, making its folder; raises ValueError otherwise.

    Called before long work, so that a wrong target costs seconds and not the whole run.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(
            f"Expected a file to write. Received a folder: {str(target)!r}. Add a file name to it."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise ValueError(
            f"Cannot write {str(target)!r}: {error.strerror} ({str(target.parent)!r}). "
            "Choose a folder you may write to."
        ) from error
    return target
