"""Options of the engine's own commands; imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass

from ssense.engine.core.checks import check_storage
from ssense.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Flags of the rebuilding of MLflow's view."""

    storage: str = "storage"
    """Where the sweeps were kept."""
    sweep: str | None = None
    """Name of a sweep [all of them]."""

    def __post_init__(self) -> None:
        """Refuse a storage that is not there."""
        check_storage(self.storage)


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Flags of MLflow's server for a storage without a disk."""

    storage: str = "storage"
    """Where the copies are kept."""
    port: int = 5000
    """Port to listen at, on loopback."""

    def __post_init__(self) -> None:
        """Refuse a port that there can't be."""
        if not 0 < self.port < 2**16:
            raise UserError(f"--port must be from 1 to 65535, got {self.port}.")


@dataclass(frozen=True, kw_only=True)
class PageOptions(ServerOptions):
    """Flags of MLflow's pages on a storage, for this machine alone."""

    storage: str = "storage"
    """Where the sweeps are."""

    def __post_init__(self) -> None:
        """Refuse a port that there can't be, and a storage that is not there."""
        super().__post_init__()
        check_storage(self.storage)
