"""Where the trials of a study are kept: in memory, in a file, or on a server that many workers share."""

import contextlib
import math
import random
import time
import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

from tfsqueeze.core.files import check_writable
from tfsqueeze.search.studies.trial_states import requeue_stale

FILE_NAME = "study.db"
HEARTBEAT_SECONDS = 10
# Training blocks other threads at times, and servers are slow at times: silence this long is death.
GRACE_SECONDS = 60
# How long writers of one SQLite file wait for each other.
LOCK_SECONDS = 60
# Connections that were not used for so long may have been cut.
IDLE_SECONDS = 1
# Workers that start at once all make the tables of an empty database; those that come second fail once.
ATTEMPTS = 4


def open_storage(
    storage=None, output=None, *, heartbeat: int = HEARTBEAT_SECONDS, grace: int = GRACE_SECONDS
) -> BaseStorage:
    """Opens what keeps the trials.

    Files are SQLite databases: they survive `kill -9` and may be shared by the processes of one machine
    (not over network file systems). For several machines give the URL of a database server.

    Args:
        storage: a URL as Optuna takes it ("postgresql+psycopg://user@host/database",
            "mysql+pymysql://..."), the path of a file, or one of Optuna's storages; None for `study.db` in
            `output`.
        output: a folder; without it and `storage`, trials are kept in memory and end with the program.
        heartbeat: seconds between two signs of life of a worker.
        grace: seconds of silence after which its trial is given to others.

    Raises:
        ValueError: if the storage cannot be reached or is none.
        ImportError: if the database's driver is missing.
    """
    if isinstance(storage, BaseStorage):
        return storage
    if storage is None and output is None:
        return InMemoryStorage()
    url = storage_url(storage, output)
    attempt = 0
    while True:
        attempt += 1
        try:
            return _connect(url, heartbeat, grace)
        except ImportError as error:
            raise ImportError(
                f"The storage {readable(url)} needs a database driver that is not installed "
                f"({error.__cause__ or error}). For PostgreSQL `pip install 'psycopg[binary]'` and write "
                "postgresql+psycopg://..., for MySQL `pip install pymysql` and write mysql+pymysql://..."
            ) from error
        except Exception as error:
            if attempt == ATTEMPTS or not _may_pass(error):
                raise unreachable(url, error) from error
            time.sleep(random.uniform(0.2, 1.0))


def storage_url(storage, output) -> str:
    """The URL of a storage given as URL, file or folder."""
    if isinstance(storage, BaseStorage):
        return type(storage).__name__
    text = str(Path(output, FILE_NAME) if storage is None else storage)
    return text if "://" in text else f"sqlite:///{check_writable(text).absolute()}"


def readable(url: str) -> str:
    """The URL without its password."""
    import sqlalchemy

    with contextlib.suppress(sqlalchemy.exc.ArgumentError):
        return repr(sqlalchemy.make_url(url).render_as_string(hide_password=True))
    return repr(url)


def unreachable(url: str | None, error: Exception) -> ValueError:
    """The one error for a storage that does not answer."""
    cause = error.__cause__ or error
    reason = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return ValueError(
        f"Cannot reach the storage {readable(str(url))}: {reason[0] if reason else type(error).__name__}. "
        "Check that the server runs and that address, user, password and database are right, or leave "
        "`storage` out to keep the study in a file of the output folder."
    )


def storage_errors() -> tuple[type[Exception], ...]:
    """What a storage raises that is broken or does not answer."""
    import sqlalchemy

    return optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError


def _connect(url: str, heartbeat: int, grace: int) -> BaseStorage:
    options = {}
    if url.startswith("sqlite"):
        options["connect_args"] = {"timeout": LOCK_SECONDS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = RDBStorage(
            url,
            engine_kwargs=options,
            heartbeat_interval=heartbeat,
            grace_period=grace,
            heartbeat_stale_trial_callback=requeue_stale,
        )
    if url.startswith("sqlite"):
        _write_in_turn(storage.engine)
    else:
        _replace_cut_connections(storage.engine)
    return optuna.storages.get_storage(storage)


def _write_in_turn(engine) -> None:
    """Lets every transaction on a SQLite file take the lock at its beginning.

    Else two that have read and want to write block each other, which SQLite ends with an error at once,
    whatever time to wait it is given.
    """
    import sqlalchemy

    @sqlalchemy.event.listens_for(engine, "connect")
    def leave_transactions_to_us(connection, record):
        connection.isolation_level = None
        # With its write-ahead log SQLite survives the death of a process at a fraction of the waits for disk.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def lock(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()


def _replace_cut_connections(engine) -> None:
    """Looks whether a connection still holds before it is used again after a pause.

    A restarted server or a firewall cuts those that are idle. Looking at each use, as SQLAlchemy's own
    `pool_pre_ping` does, takes as long as half of what a trial asks of the storage.
    """
    import sqlalchemy

    @sqlalchemy.event.listens_for(engine, "checkin")
    def remember(connection, record):
        record.info["used"] = time.monotonic()

    @sqlalchemy.event.listens_for(engine, "checkout")
    def look(connection, record, proxy):
        if time.monotonic() - record.info.get("used", math.inf) < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # The pool makes other connections then.
            raise sqlalchemy.exc.InvalidatePoolError from error


def _may_pass(error: Exception) -> bool:
    """Whether another worker that makes the same tables just now may be the cause."""
    return any(word in str(error).lower() for word in ("already exists", "unique", "duplicate", "locked"))
