"""MLflow's server for a storage without a disk: it listens on loopback, its store is backed up.

    python -m ssense.engine.view.mlflow_server --storage s3://BUCKET/ssense

A database needs a disk. It lies in the user's cache on this machine, with the artifacts; copies go
to STORAGE/mlflow/ every few minutes and at the end, and come back where the disk is a new one, or
another machine has served since. What is lost between two copies comes back from the ledger, by
`python -m ssense.engine.view.tracking`.
"""

from __future__ import annotations

from ssense.cli.command import check_flags, run_command
from ssense.engine.view.view_options import ServerOptions

if __name__ == "__main__":
    check_flags(ServerOptions)  # before the imports that take seconds

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import NoReturn

from upath import UPath

from ssense.cli.screen import say
from ssense.engine.view.mlflow_database import (
    NO_JOBS,
    copy_database,
    database_uri,
    prepare_database,
)
from ssense.errors import UserError, one_line
from ssense.files.digest import digest
from ssense.files.storage import (
    cache_folder,
    open_storage,
    partial_file,
    read_whole,
    relative_files,
    scratch_folder,
    write_whole,
)

BACK_UP_S = 300.0
_DATABASE, _ARTIFACTS = "mlflow.db", "artifacts"
_LAST_SEEN = "copy.sha256"
"""Name of the file here with the checksum of the copy that was made or fetched last."""


@dataclass(frozen=True)
class Store:
    """MLflow's database and artifacts on this machine, and their copies in the storage.

    Attributes:
        home: Folder on a disk of this machine.
        copies: Folder in the storage.
    """

    home: Path
    copies: UPath
    _copied: dict[str, object] = field(default_factory=dict)  # what each copy was made of

    @property
    def uri(self) -> str:
        """Address of the database."""
        return database_uri(self.home / _DATABASE)

    @property
    def artifacts(self) -> Path:
        """Folder of the artifacts."""
        return self.home / _ARTIFACTS

    def restore(self) -> bool:
        """Fetch the copies, unless the database here is what they were made of; say whether.

        Another machine may have served since this one did. The database that is here is then older,
        and is kept under another name.

        Raises:
            UserError: The storage can't be read, or the database here is damaged.
        """
        names = relative_files(self.copies)
        if _DATABASE not in names:
            return False
        content = read_whole(self.copies / _DATABASE)
        mark = hashlib.sha256(content).hexdigest()
        if (self.home / _DATABASE).exists() and self._last_seen() == mark:
            return False
        # The database last: what is half restored is restored again.
        for name in names:
            if name != _DATABASE:
                self._place(name, read_whole(self.copies / name))
        self._set_aside()
        self._place(_LAST_SEEN, mark.encode())
        self._place(_DATABASE, content)
        return True

    def _last_seen(self) -> str:
        path = self.home / _LAST_SEEN
        return path.read_text(errors="replace") if path.exists() else ""

    def _place(self, name: str, content: bytes) -> None:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(path) as partial:
            partial.write_bytes(content)

    def _set_aside(self) -> None:
        """Move the database that is here, with all that SQLite has not written into it yet."""
        database = self.home / _DATABASE
        if not database.exists():
            return
        places = (self.home / f"mlflow.{number}.db" for number in count(1))
        kept = next(place for place in places if not place.exists())
        try:
            copy_database(database, kept)
        except sqlite3.Error as error:
            kept.unlink(missing_ok=True)
            raise UserError(
                f"{database} is damaged ({one_line(error)}). Delete it: the newer one in "
                f"{self.copies} takes its place."
            ) from error
        for path in self.home.glob(f"{_DATABASE}*"):  # its journal too
            path.unlink()
        say(f"Another machine has served MLflow since: the database that was here is now {kept}")

    def back_up(self) -> int:
        """Copy what has changed since the last time into the storage; return how many files.

        Raises:
            UserError: The storage can't be written to.
        """
        changed = 0
        for path in sorted(self.artifacts.rglob("*")):
            if path.is_file():
                state = path.stat().st_size, path.stat().st_mtime_ns
                changed += self._copy(path.relative_to(self.home).as_posix(), state, path)
        with scratch_folder() as scratch:
            snapshot = scratch / _DATABASE
            copy_database(self.home / _DATABASE, snapshot)
            mark = hashlib.sha256(snapshot.read_bytes()).hexdigest()
            if self._copy(_DATABASE, mark, snapshot):
                self._place(_LAST_SEEN, mark.encode())
                changed += 1
        return changed

    def _copy(self, name: str, state: object, path: Path) -> bool:
        if self._copied.get(name) == state:
            return False
        write_whole(self.copies / name, path.read_bytes())
        self._copied[name] = state
        return True


def main(options: ServerOptions) -> None:
    """Serve MLflow on this machine alone, and keep copies of its store in the storage."""
    storage = open_storage(options.storage)
    store = Store(cache_folder() / "mlflow-server" / digest(str(storage)), storage / "mlflow")
    if store.restore():
        say(f"MLflow's store comes from {store.copies}")
    prepare_database(store.uri, own=True)
    store.artifacts.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, _end)
    server = subprocess.Popen(_command(store, options.port), env=os.environ | NO_JOBS)
    try:
        while not _has_ended(server, BACK_UP_S):
            _back_up(store)
        raise UserError(
            f"MLflow's server ended with {server.returncode}. Is port {options.port} taken?"
        )
    finally:
        server.terminate()
        server.wait()
        _back_up(store)


def _command(store: Store, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", store.uri),
        *("--artifacts-destination", str(store.artifacts)),
    ]


def _back_up(store: Store) -> None:
    try:
        store.back_up()
    except (UserError, OSError, sqlite3.Error) as error:  # either may be away for a while
        say(f"MLflow's store is not backed up: {error}")


def _has_ended(server: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        server.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    run_command(ServerOptions, main)
