"""Keeps the converter's chatter off the user's terminal, and at hand for error messages."""

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


class Chatter:
    """What was printed while the block ran."""

    def __init__(self):
        self.text = ""


@contextlib.contextmanager
def quiet() -> Iterator[Chatter]:
    """Collects stdout and stderr, of Python and C++ alike, for the length of the block.

    The converter logs from C++ straight to the file descriptors, where neither `logging` nor
    `contextlib.redirect_stdout` reach. Everything is put back afterwards, also after an error.
    """
    chatter = Chatter()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_muted_logging())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        log = stack.enter_context(tempfile.TemporaryFile())
        stack.enter_context(_redirected(log.fileno()))
        # In notebooks and under test runners Python's streams are not the descriptors.
        printed = io.StringIO()
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(contextlib.redirect_stderr(printed))
        try:
            yield chatter
        finally:
            log.seek(0)
            chatter.text = printed.getvalue() + log.read().decode("utf-8", "replace")


@contextlib.contextmanager
def _muted_logging():
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _redirected(target: int):
    """Points file descriptors 1 and 2 to `target`; where one is closed there is nothing to do."""
    _flush()
    saved = {}
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            saved[descriptor] = os.dup(descriptor)
            os.dup2(target, descriptor)
    try:
        yield
    finally:
        _flush()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()
