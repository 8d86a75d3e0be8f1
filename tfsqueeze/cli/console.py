"""What the command line shows: results on stdout, all else on stderr, errors without tracebacks."""

import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import click

PIPED_WIDTH = 100
INTERRUPTED = 130
_interrupted = threading.Event()


class Commands(click.Group):
    """A group whose commands end with an exit code and one message rather than a traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            click.echo("Interrupted, nothing half-written: the same command may be run again.", err=True)
            ctx.exit(INTERRUPTED)
        except Exception as error:
            if ctx.meta.get("debug"):
                raise
            raise click.ClickException(_message(error)) from error


def debug_option(command):
    """Adds `--debug` to a command."""
    option = click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_remember_debug,
        help="Show TensorFlow's own messages, and the traceback of an error.",
    )
    return option(command)


def output_option(what: str, name: str):
    """The required `--output` of a command.

    Args:
        what: the file, for the help: "The .tflite file".
        name: an example.
    """
    return click.option(
        "-o",
        "--output",
        required=True,
        type=click.Path(dir_okay=False),
        help=f"{what} to write, replaced only by a complete one. Example: -o {name}",
    )


def common_options(command):
    """Adds `--json` and `--debug` to a command."""
    option = click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print JSON alone on stdout, for scripts: `... --json | jq .metrics`.",
    )
    return option(debug_option(command))


@contextlib.contextmanager
def interrupts_remembered() -> Iterator[None]:
    """Lets Ctrl-C end the command even where a library's callback swallows the exception it raises."""

    def interrupt(signal_number, frame):
        _interrupted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _interrupted.clear()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Shows on stderr what is being done and for how long; other libraries' messages are kept away.

    Args:
        what: such as "Converting to int8".
    """
    with _quiet() as stderr, _warnings_to(stderr), _interruptible():
        if not stderr.isatty():
            print(f"{what} ...", file=stderr, flush=True)
            yield
            return
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(file=stderr), transient=True) as progress:
            progress.add_task(what, total=None)
            yield


def show(result) -> None:
    """Prints a report or a comparison on stdout, 100 columns wide where that is no terminal."""
    from rich.console import Console

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    console.print(result)


def show_json(data: dict) -> None:
    """Prints plain data as JSON on stdout; what is not finite becomes null, which JSON can hold."""
    click.echo(json.dumps(_finite(data), indent=2, default=str, allow_nan=False))


def save(result, paths) -> None:
    """Writes a report or comparison to files: as JSON, Markdown or a picture, by their endings."""
    for path in map(Path, paths):
        writers = {".json": result.to_json, ".md": result.to_markdown}
        writers.get(path.suffix.lower(), result.plot)(path)
        click.echo(f"Wrote {path}", err=True)


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def _interruptible():
    yield
    if _interrupted.is_set():
        raise KeyboardInterrupt


def _remember_debug(ctx, parameter, value):
    ctx.meta["debug"] = value


def _message(error: Exception) -> str:
    if isinstance(error, (ValueError, TypeError, OSError, ImportError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error} (run again with --debug for the traceback)"


def _is_debug() -> bool:
    ctx = click.get_current_context(silent=True)
    return bool(ctx and ctx.meta.get("debug"))


@contextlib.contextmanager
def _quiet():
    """Sends what the process writes to stdout and stderr to a file nobody reads; yields the true stderr.

    TensorFlow's C++ code writes to the file descriptors themselves, so these are what is redirected.
    """
    if _is_debug() or not _owns_descriptors():
        with contextlib.redirect_stdout(sys.stderr):
            yield sys.stderr
        return
    sys.stdout.flush()
    sys.stderr.flush()
    kept_out, kept_err = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as sink, os.fdopen(os.dup(2), "w") as stderr:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
        try:
            yield stderr
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for kept, descriptor in ((kept_out, 1), (kept_err, 2)):
                os.dup2(kept, descriptor)
                os.close(kept)


def _owns_descriptors() -> bool:
    """False where Python's streams are not the process's own, as under a test runner or in a notebook."""
    try:
        return sys.stdout.fileno() == 1 and sys.stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):
        return False


@contextlib.contextmanager
def _warnings_to(stderr):
    """Shows the warnings of this package as one line each and drops those of other libraries."""
    callers = (str(Path(__file__).parents[1]), str(Path(click.__file__).parent))

    def show_warning(message, category, filename, lineno, file=None, line=None):
        # A warning is attributed to whoever called this package: its own command line, or click.
        if filename.startswith(callers):
            print(f"Warning: {message}", file=stderr, flush=True)

    if _is_debug():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show_warning
        yield
