"""MLflow's database of a storage: where it is, and what makes it one that this MLflow can use.

STORAGE/mlflow.db      all runs
STORAGE/mlartifacts/   their files

A database names the folder of its artifacts by an absolute path, and has the schema of one version
of MLflow. A storage is moved and copied, and MLflow is replaced by a later version.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from upath import UPath

from ssense.command import python
from ssense.digest import digest
from ssense.errors import UserError
from ssense.storage import cache_folder, is_local
from sweeps.engine.progress import say

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"

NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Environment of a server that starts none of the processes that evaluate language models."""


def tracking_uri(storage: UPath) -> str:
    """MLFLOW_TRACKING_URI, or a database in the storage, by its absolute path.

    A database needs a disk: of a storage that is none, the view is kept in the user's cache, and
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
    """What to type to see the view in a browser."""
    uri = tracking_uri(storage)
    if uri.startswith("http"):
        return uri
    jobs = " ".join(f"{name}={value}" for name, value in NO_JOBS.items())
    return f"{jobs} {shlex.quote(python())} -m mlflow ui --backend-store-uri {shlex.quote(uri)}"


def prepare_database(uri: str, *, own: bool) -> None:
    """Make a database where there is none, or bring it to the schema of this MLflow.

    Either is done whole or not at all: MLflow can't go on with half of its tables. What can't be
    brought to it, as of a later MLflow, is kept under another name, and a new database is made.

    Args:
        uri: Address of the database; of a server, nothing is done.
        own: Whether nothing but views is kept in it; else it is left as it is.

    Raises:
        UserError: it has another schema and is not to be changed.
    """
    path = database_path(uri)
    if path is None:
        return
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
    aside = path.with_name(f"{path.stem}-{schema}{path.suffix}")
    path.replace(aside)
    _make(path)
    say(
        f"  {path.name} was made by another MLflow and is kept as {aside.name}; a new one is "
        "made. python -m sweeps.engine.tracking shows all sweeps in it."
    )


def _forget_connections(uri: str) -> None:
    """Let MLflow open a database anew: it keeps connections, which lead to the file of before."""
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
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        tables = database.execute("select name from sqlite_master").fetchall()
        if ("alembic_version",) not in tables:
            return None
        found = database.execute("select version_num from alembic_version").fetchone()
    return found[0] if found else None


def _wanted_schema() -> str:
    from mlflow.store.db.utils import _get_latest_schema_revision

    return _get_latest_schema_revision()


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    _bring_up_to_date(partial)
    try:
        os.link(partial, path)
    except FileExistsError:  # another driver's, as whole as ours
        pass
    finally:
        partial.unlink()


def _upgrade(path: Path) -> bool:
    """Bring a copy to the schema of this MLflow and put it in place; say whether that is possible.

    It is not of a later MLflow's database, nor of one that was not finished.
    """
    partial = _partial(path)
    try:
        shutil.copyfile(path, partial)
        _bring_up_to_date(partial)
        partial.replace(path)
    except Exception:  # whatever a migration raises that finds other tables than it expects
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def _bring_up_to_date(path: Path) -> None:
    """Give a database all tables of this MLflow."""
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine_with_retry

    engine = create_sqlalchemy_engine_with_retry(database_uri(path))
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
