"""The datasets that a sweep of the storage was trained on, loaded again."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssense.engine.core.cell import Configuration
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import Ledger
from ssense.engine.tasks.registry import KeptData, kept_data
from ssense.errors import UserError
from ssense.training.tasks import TaskData

_HELD = 2  # datasets in memory, which may be gigabytes each


@dataclass
class SweepData:
    """The datasets of a sweep, each loaded when it is asked for.

    Attributes:
        name: Name of the sweep's folder.
        sweep: The sweep.
        kept: Its data, as far as the storage still has them.
    """

    name: str
    sweep: Sweep
    kept: KeptData
    _held: dict[str, TaskData] = field(default_factory=dict, init=False)

    def of(self, configuration: Configuration) -> TaskData:
        """The dataset that the cells of a configuration are trained on.

        Raises:
            UserError: The dataset can't be read, or is no longer the same.
        """
        wanted = self.sweep.dataset_of(configuration)
        if wanted not in self._held:
            data = self.kept.load(wanted)
            if data.digest != wanted:
                raise UserError(
                    f"the dataset of {self.name} was {wanted}, now it is {data.digest}: "
                    f"{self.kept.parts(wanted)} have changed. Restore them."
                )
            while len(self._held) >= _HELD:
                del self._held[next(iter(self._held))]
            self._held[wanted] = data
        return self._held[wanted]


def sweep_data(ledger: Ledger) -> SweepData:
    """The datasets of a sweep, none of them loaded yet.

    Raises:
        UserError: The sweep's description can't be read.
    """
    description = ledger.description()
    kept = kept_data(description.origin, ledger.storage)
    return SweepData(ledger.folder.name, description.sweep, kept)


def sweep_dataset(ledger: Ledger, configuration: Configuration | None = None) -> TaskData:
    """Load the dataset of a configuration; by default that of the sweep's specification.

    Raises:
        UserError: See `SweepData.of`.
    """
    return sweep_data(ledger).of(configuration or {})
