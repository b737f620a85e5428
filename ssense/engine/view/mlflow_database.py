"""MLflow's database of a storage: where it is, and how it gets the schema of this MLflow.

STORAGE/mlflow.db      all runs
STORAGE/mlartifacts/   their files

A database names the folder of its artifacts by an absolute path, and has the schema of one version
of MLflow. A storage is moved and copied, and MLflow is replaced by a later version.
"""

from __future__ import annotations

import os
import re
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from upath import UPath

from ssense.cli.command import python, shell_command
from ssense.cli.screen import say
from ssense.cli.subcommand import started
from ssense.errors import UserError, one_line, printable
from ssense.files.digest import digest
from ssense.files.storage import cache_folder, is_local, partial_file, place_new

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"

NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Environment of a server without the processes that evaluate language models."""

# Names of SQLite's errors that concern the disk or other processes, not the tables.
_OF_THE_PLACE = (
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
    sqlite3.SQLITE_PROTOCOL,
)
_OF_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED_S = 3.0  # wait for a locked database; MLflow's own requests take far less
_PRIMARY = 0xFF  # low bits of an error's code; the higher ones say more


def tracking_uri(storage: UPath) -> str:
    """MLFLOW_TRACKING_URI, or a database in the storage, by its absolute path.

    A database needs a disk. Where the storage is none, the view is kept in the user's cache, and
    can be made again from the ledger anywhere.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or database_uri(home(storage) / DATABASE)


def is_own() -> bool:
    """Whether views are in the storage's own database, which nothing else is kept in."""
    return not os.environ.get("MLFLOW_TRACKING_URI")


def home(storage: UPath) -> Path:
    """Folder of the database and the artifacts, where no server keeps them."""
    if is_local(storage):
        return Path(str(storage)).resolve()
    return cache_folder() / "mlflow" / digest(str(storage))


def database_uri(path: Path) -> str:
    """Address of a SQLite database by its absolute path, whatever characters that has."""
    from sqlalchemy import URL

    plain = f"sqlite:///{path}"
    quoted = URL.create("sqlite", database=str(path)).render_as_string()
    # Of an address that begins like the plain one MLflow takes the rest for a path as it stands,
    # and makes its folder: a second one, whose name is quoted.
    return plain if quoted == plain else quoted.replace("sqlite:", "sqlite+pysqlite:", 1)


def is_server(uri: str) -> bool:
    """Whether an address is that of a server, which has pages of its own."""
    return uri.partition(":")[0].lower() in ("http", "https")


def shown_address(uri: str) -> str:
    """An address as it may be printed: without a password."""
    hidden = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", hidden)


def is_database(uri: str) -> bool:
    """Whether an address is that of a database, not of a server or a folder."""
    return uri.partition(":")[0].partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql")


def database_path(uri: str) -> Path | None:
    """The file of a SQLite database; None for any other address."""
    from sqlalchemy import make_url

    if not uri.startswith("sqlite"):
        return None
    path = make_url(uri).database
    return Path(path) if path and path != ":memory:" else None


def browse_command(storage: UPath) -> str:
    """The command that shows the view in a browser; an address with a password by its variable."""
    uri = tracking_uri(storage)
    shown = shown_address(uri)
    if is_server(uri):
        return shown
    if started.head:
        return shell_command("-m", "ssense.engine.view.mlflow_ui", storage=storage)
    address = shlex.quote(uri) if shown == uri else '"$MLFLOW_TRACKING_URI"'
    jobs = " ".join(f"{name}={value}" for name, value in NO_JOBS.items())
    return f"{jobs} {shlex.quote(python())} -m mlflow ui --backend-store-uri {address}"


def prepare_database(uri: str, *, own: bool) -> None:
    """Make a database where there is none, or bring it to the schema of this MLflow.

    Either is done completely or not at all: MLflow can't work with half of its tables. A database
    that can't be brought to this schema, such as one of a later MLflow, is kept under another name,
    and a new one is made.

    Args:
        uri: Address of the database; of a server, nothing is done.
        own: Whether nothing but views is kept in it; else it is left as it is.

    Raises:
        UserError: The database has another schema and must not be changed; or it is damaged, can't
            be written or is locked, and is left as it is.
    """
    path = database_path(uri)
    if path is None:
        return
    try:
        _prepare(uri, path, own=own)
    except Exception as error:
        if isinstance(error, OSError) or _code(error) in _OF_THE_PLACE:
            raise UserError(
                f"{path} can't be used ({_reason(error)}). Free space, or close other programs "
                "that use it, and run the same command again."
            ) from error
        if _code(error) in _OF_DAMAGE:
            advice = "Delete it: it is made again" if own else "Restore a copy of it"
            raise UserError(f"{path} is damaged ({_reason(error)}). {advice}.") from error
        raise


def _code(error: Exception) -> int | None:
    """What SQLite calls an error, which SQLAlchemy may have wrapped; None for another error."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
    return None if code is None else code & _PRIMARY


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "orig", None) or error)


def _prepare(uri: str, path: Path, *, own: bool) -> None:
    if os.path.lexists(path) and not path.is_file():
        raise UserError(f"{path} is not a file, or is a broken link. Delete it, and run again.")
    if not path.exists():
        _make(path)
        _forget_connections(uri)
        return
    found, wanted = _schema(path), _wanted_schema()
    if found == wanted:
        return
    if own:
        if not _upgrade(path):
            _replace(path, found or "unfinished")
        _forget_connections(uri)
    elif found is not None:  # MLflow itself puts tables where there are none
        upgrade = f"{shlex.quote(python())} -m mlflow db upgrade {shlex.quote(uri)}"
        raise UserError(
            f"{path} was made by another MLflow (its schema is {found}, this one's {wanted}). "
            f"Back it up and run {upgrade}, or name another database in MLFLOW_TRACKING_URI."
        )


def _replace(path: Path, schema: str) -> None:
    names = (f"{path.stem}-{schema}{again}{path.suffix}" for again in _numbers())
    aside = next(free for name in names if not (free := path.with_name(name)).exists())
    path.replace(aside)
    _make(path)
    say(
        f"  {path.name} was made by another MLflow and is kept as {aside.name}; a new one is "
        "made. python -m ssense.engine.view.tracking shows all sweeps in it."
    )


def _numbers() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in count(2))


def _forget_connections(uri: str) -> None:
    """Let MLflow open a database again: it keeps connections, which lead to the earlier file."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = SqlAlchemyStore._engine_map.get(uri)
    if engine is not None:
        engine.dispose()


def is_another_place(found: str, wanted: str) -> bool:
    """Whether artifacts are kept in the folder of a storage, and not where this one is now.

    Args:
        found: Where they are: an address that MLflow knows.
        wanted: Where they ought to be.
    """
    return found != wanted and found.startswith("file:") and f"/{ARTIFACTS}" in found


def place_experiment(uri: str, experiment_id: str, place: str) -> None:
    """Let an experiment keep the artifacts of further runs at another place.

    Args:
        uri: Address of the database.
        experiment_id: MLflow's own.
        place: Address of a folder.
    """
    what = "update experiments set artifact_location = :place where experiment_id = :id"
    _execute(uri, what, {"place": place, "id": int(experiment_id)})


def place_runs(uri: str, places: Mapping[str, str]) -> None:
    """Let runs have their artifacts at another place; MLflow itself can't change it.

    Args:
        uri: Address of the database.
        places: Addresses of folders, by the identifier of the run.
    """
    if places:
        what = "update runs set artifact_uri = :place where run_uuid = :id"
        _execute(uri, what, *({"place": place, "id": name} for name, place in places.items()))


def _execute(uri: str, what: str, *values: Mapping[str, object]) -> None:
    from mlflow.store.db.utils import create_sqlalchemy_engine
    from sqlalchemy import text

    engine = create_sqlalchemy_engine(uri)
    try:
        with engine.begin() as connection:
            connection.execute(text(what), list(values))
    finally:
        engine.dispose()


def _schema(path: Path) -> str | None:
    """The version of a database's schema; None where it has no tables, or was not finished."""
    # Opened for writing: SQLite takes back what a killed writer has left half done.
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
        tables = database.execute("select name from sqlite_master").fetchall()
        if ("alembic_version",) not in tables:
            return None
        found = database.execute("select version_num from alembic_version").fetchone()
    return re.sub(r"\W", "_", printable(str(found[0]))) if found else None  # it names a file


def _wanted_schema() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    revision: str = _get_latest_schema_revision()
    return revision


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        suppress(FileExistsError),  # another driver's, as whole as ours
        _partial_database(path, place_new) as partial,
    ):
        _bring_up_to_date(partial)


def _upgrade(path: Path) -> bool:
    """Bring a copy to the schema of this MLflow and put it in place; say whether that is possible.

    It is not possible for the database of a later MLflow, or for one that was not finished.

    Raises:
        OSError, sqlite3.Error, sqlalchemy.exc.DBAPIError: The disk is full, the database is locked
            or damaged, or the like, which says nothing of its tables.
    """
    try:
        # Not renamed onto it: who has it open would keep the old one, and leave its log.
        with _partial_database(path, copy_database) as partial:
            copy_database(path, partial)
            _bring_up_to_date(partial)
    except Exception as error:  # whatever a migration raises that finds unexpected tables
        if isinstance(error, OSError) or _code(error) in (*_OF_THE_PLACE, *_OF_DAMAGE):
            raise
        return False
    return True


def copy_database(path: Path, copy: Path) -> None:
    """Copy a SQLite database that may be being written: only SQLite's own copy is whole.

    Args:
        path: The database.
        copy: A new file, or a database whose content is replaced, in one transaction.

    Raises:
        sqlite3.Error: One can't be read, or the other can't be written.
        TimeoutError: A database is locked.
    """
    deadline = time.monotonic() + _LOCKED_S

    def check(status: int, *_: int) -> None:
        is_locked = status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        if is_locked and time.monotonic() > deadline:
            raise TimeoutError("database is locked")

    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(copy)) as other:
        database.backup(other, progress=check)


@contextmanager
def _partial_database(path: Path, place: Callable[[Path, Path], None]) -> Iterator[Path]:
    """A database beside `path` that is put there once it is whole; nothing of it stays beside."""
    with partial_file(path, place) as partial:
        try:
            yield partial
        finally:
            for own in ("-journal", "-wal", "-shm"):  # SQLite leaves them if the disk is full
                partial.with_name(partial.name + own).unlink(missing_ok=True)


def _bring_up_to_date(path: Path) -> None:
    """Give a database all tables of this MLflow."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    # Not MLflow's way that tries again for minutes: of a new file, an error does not pass.
    engine = create_sqlalchemy_engine(database_uri(path))
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
