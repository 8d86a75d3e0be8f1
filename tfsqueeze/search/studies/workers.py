"""Which process works on a trial, its signs of life, and whether it still lives."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.trial import FrozenTrial

WORKER = "worker"


@functools.cache
def machine() -> str:
    """The running system and the space of process numbers this process sees; "" where it cannot be told.

    Containers of one machine have process numbers of their own, and a restarted machine gives them anew.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def mark_worker(study, trial: FrozenTrial) -> None:
    """Notes on a trial that this thread works on it, before anything that takes time."""
    study._storage.set_trial_user_attr(trial._trial_id, WORKER, _mark())
    if is_heartbeat_enabled(study._storage):
        study._storage.record_heartbeat(trial._trial_id)


@contextlib.contextmanager
def signs_of_life(study, trial_id: int) -> Iterator[None]:
    """Tells the storage at every interval that the trial's worker lives.

    Unlike Optuna's own thread, one failed message, such as one to a busy database, does not end them.
    """
    if not is_heartbeat_enabled(study._storage):
        yield
        return
    is_over = threading.Event()

    def tell():
        while not is_over.wait(study._storage.get_heartbeat_interval()):
            with contextlib.suppress(Exception):
                study._storage.record_heartbeat(trial_id)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def is_abandoned(trial: FrozenTrial) -> bool:
    """Whether nobody works on a running trial any more, as far as can be told on this machine.

    It is asked between two trials: what this thread had begun then was interrupted. Of other machines
    nothing is known: there the signs of life tell, after a while.
    """
    mark = trial.user_attrs.get(WORKER)
    if not mark or mark == _mark():
        return bool(mark)
    if not machine() or mark["machine"] != machine():
        return False
    try:
        os.kill(mark["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    started = _started(mark["process"])
    return started is not None and started != mark["started"]


def _mark() -> dict:
    process = os.getpid()
    thread = threading.get_ident()
    return {"machine": machine(), "process": process, "thread": thread, "started": _started(process)}


def _started(process: int) -> str | None:
    """When a process began, in the system's ticks; "" if it has ended already, None if it cannot be told."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program, in brackets, may hold spaces and brackets; the state follows it.
    state, *others = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else others[18]
