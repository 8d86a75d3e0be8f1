"""A PostgreSQL server for tests, from the system's packages, on a socket in a folder of its own."""

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

USER = "tester"
START_SECONDS = 60


def programs() -> str | None:
    """The folder of `initdb` and `postgres`, or None if PostgreSQL is not installed."""
    folders = [os.path.dirname(os.path.realpath(found)) for found in filter(None, [shutil.which("initdb")])]
    folders += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    return next((folder for folder in folders if os.path.exists(os.path.join(folder, "postgres"))), None)


def reason_to_skip() -> str:
    """Why no server can be started here, or ""."""
    if programs() is None:
        return "PostgreSQL is not installed (apt-get install postgresql)"
    if os.geteuid() == 0 and _unprivileged() is None:
        return "PostgreSQL refuses to run as root, and there is no other user"
    return ""


@contextlib.contextmanager
def server():
    """Runs a server for the time of the block, and gives the URL of its database."""
    folder = tempfile.mkdtemp(prefix="pg")
    user = _unprivileged() if os.geteuid() == 0 else None
    as_user = {"user": user, "cwd": folder} if user else {"cwd": folder}
    if user:
        shutil.chown(folder, user)
    data = os.path.join(folder, "data")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    initdb = [os.path.join(programs(), "initdb"), "-D", data, "-U", USER, "-A", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, **quiet, **as_user)
    options = ["-D", data, "-k", folder, "-F", "-c", "listen_addresses="]
    process = subprocess.Popen([os.path.join(programs(), "postgres"), *options], **quiet, **as_user)
    try:
        end = time.monotonic() + START_SECONDS
        while not os.path.exists(os.path.join(folder, ".s.PGSQL.5432")):
            assert process.poll() is None and time.monotonic() < end, "PostgreSQL did not start"
            time.sleep(0.1)
        yield f"postgresql+psycopg://{USER}@/postgres?host={folder}"
    finally:
        # PostgreSQL's fast shutdown; on SIGTERM it would wait for the test's own connections to end.
        process.send_signal(signal.SIGINT)
        process.wait(timeout=START_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str | None:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)
