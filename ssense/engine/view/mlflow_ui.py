"""MLflow's pages on the view that a storage has, for this machine alone.

python -m ssense.engine.view.mlflow_ui --storage DIR
"""

from __future__ import annotations

from ssense.cli.command import check_flags, run_command, shell_command
from ssense.engine.view.view_options import PageOptions

if __name__ == "__main__":
    check_flags(PageOptions)  # before the imports that take seconds

import os
import sys

from ssense.engine.view.mlflow_database import (
    NO_JOBS,
    database_path,
    is_own,
    is_server,
    prepare_database,
    shown_address,
    tracking_uri,
)
from ssense.errors import UserError
from ssense.files.storage import open_storage


def main(options: PageOptions) -> None:
    """Serve MLflow's pages until they are interrupted."""
    uri = view_uri(options.storage)
    pages = ("--host", "127.0.0.1", "--port", str(options.port), "--backend-store-uri", uri)
    os.environ.update(NO_JOBS)
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "ui", *pages])


def view_uri(location: str) -> str:
    """Address of the database that holds the view of a storage, which must be there already.

    A database of an earlier MLflow is brought to the tables of this one.

    Raises:
        UserError: There is no such storage, or no view in it that this MLflow can show; or a server
            keeps the view.
    """
    storage = open_storage(location, must_exist=True)
    uri = tracking_uri(storage)
    if is_server(uri):
        address = shown_address(uri)
        raise UserError(f"MLFLOW_TRACKING_URI is {address}: that server has the pages. Open it.")
    path = database_path(uri)
    if path is not None and not path.is_file():
        again = shell_command("-m", "ssense.engine.view.tracking", storage=location)
        raise UserError(
            f"{storage} has no MLflow database. Check --storage, or make it from the ledger by "
            f"{again}"
        )
    prepare_database(uri, own=is_own())
    return uri


if __name__ == "__main__":
    run_command(PageOptions, main)
