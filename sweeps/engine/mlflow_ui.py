"""MLflow's pages on the view that a storage has, for this machine alone.

python -m sweeps.engine.mlflow_ui --storage DIR
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from ssense.command import run_command, shell_command
from ssense.errors import UserError
from ssense.storage import open_storage
from sweeps.engine.mlflow_database import NO_JOBS, database_path, tracking_uri


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweeps are."""
    port: int = 5000
    """Of 127.0.0.1; nobody else is listened to."""


def main(options: PageOptions) -> None:
    """Serve MLflow's pages until they are interrupted."""
    uri = view_uri(options.storage)
    pages = ("--host", "127.0.0.1", "--port", str(options.port), "--backend-store-uri", uri)
    os.environ.update(NO_JOBS)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *pages])


def view_uri(location: str) -> str:
    """Address of the database that holds the view of a storage, which must be there already.

    Raises:
        UserError: there is no such storage, or no view in it; or a server keeps the view.
    """
    storage = open_storage(location, must_exist=True)
    uri = tracking_uri(storage)
    path = database_path(uri)
    if path is None:
        raise UserError(f"MLFLOW_TRACKING_URI is {uri}: that server has the pages. Open it.")
    if not path.is_file():
        again = shell_command("-m", "sweeps.engine.tracking", storage=location)
        raise UserError(
            f"{storage} has no MLflow database. Check --storage, or make it from the ledger by "
            f"{again}"
        )
    return uri


if __name__ == "__main__":
    run_command(PageOptions, main)
