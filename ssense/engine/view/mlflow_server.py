"""MLflow's server for a storage without a disk: it listens on loopback, its store is backed up.

    python -m ssense.engine.view.mlflow_server --storage s3://BUCKET/ssense

A database needs a disk. It lies in the user's cache on this machine, with the artifacts; copies go
to STORAGE/mlflow/ every few minutes and at the end, and come back where the disk is a new one. What
is lost between two copies comes back from the ledger, by `python -m ssense.engine.view.tracking`.
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
from ssense.errors import UserError
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
        """Fetch the copies where there is no database here; say whether there were any.

        Raises:
            UserError: The storage can't be read.
        """
        if (self.home / _DATABASE).exists():
            return False
        # The database last: what is half restored is restored again.
        names = sorted(relative_files(self.copies), key=lambda name: name == _DATABASE)
        for name in names:
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial_file(path) as partial:
                partial.write_bytes(read_whole(self.copies / name))
        return _DATABASE in names

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
            return changed + self._copy(
                _DATABASE, hashlib.sha256(snapshot.read_bytes()).digest(), snapshot
            )

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
