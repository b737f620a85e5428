"""Options that every sweep shares, whatever its cells train.

Imports that take seconds are inside the functions that need them: flags are checked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ssense.choices import ENCODER_WEIGHTS, PolicyName
from ssense.engine.core.checks import check_above_0, check_seeds, check_shares, check_weights
from ssense.errors import UserError, printable

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Family, Levels, Sweep
    from ssense.engine.tasks.data_plan import DataPlan
    from ssense.training.tasks import TaskSpec


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Flags of a sweep.

    Attributes:
        groups: Names of the flags by the title under which the help shows them.
        above_0: Names of the flags whose values must be above 0.
    """

    groups: ClassVar[Mapping[str, Sequence[str]]] = {
        "training": ("max_epochs",),
        "search": (
            *("configurations", "seeds", "policy", "granted_only"),
            *("budget_cells", "budget_hours"),
        ),
        "resources": ("cpus_per_cell", "gpus_per_cell", "price_per_device_hour"),
        "ledger": (
            *("storage", "keep_version", "retrain_version", "keep_encoders", "cell"),
            *("dry_run", "yes", "evaluate"),
        ),
    }
    above_0: ClassVar[Sequence[str]] = (
        "max_epochs",
        "configurations",
        "budget_cells",
        "budget_hours",
        "price_per_device_hour",
    )
    storage: str = "storage"
    """Where everything is kept: data made ready, ledger, encoders, MLflow database."""
    max_epochs: int | None = None
    """Most epochs of a cell [100; 5 if synthetic]."""
    configurations: int | None = None
    """Configurations to try in each family [10; 3 if synthetic]."""
    seeds: tuple[int, ...] | None = None
    """Seeds that every configuration meets [0 to 9; 0 to 4 if synthetic]."""
    policy: PolicyName = "race"
    """How seeds are spent: a race without configurations that are clearly behind; or full, every
    cell."""
    granted_only: bool = False
    """Leave a worker idle rather than train a cell that the race may not ask for: where cells are
    billed one by one. It changes no result. With --budget-cells it is always so."""
    budget_cells: int | None = None
    """Most cells to train now; the same command continues later [all]."""
    budget_hours: float | None = None
    """Hours after which no cell is started; the same command continues later [no limit]."""
    keep_version: tuple[str, ...] = ()
    """Other versions of the code whose cells count here, by name; remembered [those of earlier
    calls]."""
    retrain_version: tuple[str, ...] = ()
    """Other versions of the code whose cells are trained again, by name [no version]."""
    keep_encoders: bool = False
    """Keep the encoders of all cells; else those of configurations that no evaluation asks for, as
    they are not the best of their family, are deleted in the end. `cell` makes any again."""
    cell: str | None = None
    """A finished cell, by the beginning of its signature or as it is shown, "electrode 0.75, seed
    1": train it again, alone, and say whether it is the same to the bit [none; it sweeps]."""
    price_per_device_hour: float | None = None
    """What an hour of one cell costs, for the plan: its machine's price by the cells it trains at a
    time [no price]."""
    cpus_per_cell: int = 1
    """CPU cores of one cell; without GPUs, a machine trains as many cells as its cores hold."""
    gpus_per_cell: float | None = None
    """GPUs of one cell; 0.5 trains two on each, both in half of its memory [1 where there are
    GPUs]."""
    dry_run: bool = False
    """Show the plan and stop."""
    yes: bool = False
    """Start without asking, and without timing a cell for the plan."""
    evaluate: bool = False
    """Evaluate the finished sweep on its test splits at once, as analysis/evaluate.py does."""

    def __post_init__(self) -> None:
        """Refuse a cell without a core, shares of GPUs that mean nothing, and one seed to test."""
        check_shares(self.cpus_per_cell, self.gpus_per_cell)
        check_above_0(self, self.above_0)
        if self.seeds is None:
            return
        check_seeds(self.seeds)
        if self.evaluate and len(self.seeds) < 2:
            raise UserError(
                f"--evaluate: nothing can be tested with the single seed {self.seeds[0]}. Give two "
                "or more, such as --seeds 0 1, or leave out --evaluate."
            )

    @property
    def defaults(self) -> Any:
        """What stands in for options left out: an object with their names."""
        raise NotImplementedError

    def value(self, name: str) -> Any:
        """An option's value, or what stands in for it."""
        given = getattr(self, name)
        return getattr(self.defaults, name) if given is None else given

    @property
    def runs_ahead(self) -> bool:
        """Whether idle workers train cells that the race may ask for later; full asks for all."""
        return self.policy == "race" and not self.granted_only and self.budget_cells is None

    def weights(self, name: str) -> str:
        """Weights by an option's name; a file by its whole path.

        Raises:
            UserError: The file can't be read.
        """
        return _with_whole_path(str(self.value(name)))

    def specification(self) -> TaskSpec:
        """What makes the result of a cell, before a configuration changes it.

        Raises:
            UserError: A value is out of range.
        """
        raise NotImplementedError

    def datasets(self) -> Iterator[DataPlan]:
        """The datasets to sweep, one after another.

        Raises:
            UserError: A dataset can't be read, or the storage can't be written to.
        """
        raise NotImplementedError

    def compared(self, families: Mapping[str, Mapping[str, Levels]]) -> tuple[Family, ...]:
        """The families of a sweep, checked as far as no data are needed.

        Args:
            families: Levels by hyperparameter, by name of the family.

        Raises:
            UserError: A value is out of range, a level names no field, or weights are no file.
        """
        from ssense.engine.core.sweep import check_different, checked_levels, family_of

        specification = self.specification()
        compared = []
        for name, levels in checked_levels(specification, families).items():
            found = {field: _found(name, field, levels[field]) for field in levels}
            compared.append(family_of(specification, name, found))
        check_different(specification, compared)
        return tuple(compared)

    def sweep(
        self, question: str, data: DataPlan, families: Mapping[str, Mapping[str, Levels]]
    ) -> Sweep:
        """The sweep of a question on a dataset, as long and as trained as these options say.

        Args:
            question: Short name of the question.
            data: The dataset to train on.
            families: Levels by hyperparameter, by name of the family.

        Raises:
            UserError: A value is out of range, a level names no field, or weights are no file.
        """
        from ssense.engine.core.sweep import Sweep, proposals_at_once

        specification, compared = self.specification(), self.compared(families)
        covering = data.covering(specification, compared)
        return Sweep(
            question=question,
            dataset_digest=covering.digest,
            datasets=covering.datasets,
            specification=specification,
            families=compared,
            configurations=self.value("configurations"),
            seeds=self.value("seeds"),
            proposals_at_once=proposals_at_once(self.value("configurations")),
            spread_proposals=True,
            unordered_names=True,
        )


def _found(family: str, field: str, levels: Levels) -> Levels:
    """The levels of a field; files and folders by their whole path: workers run elsewhere.

    Raises:
        UserError: Initial weights are neither a known name nor a file that can be read.
    """
    from ssense.engine.tasks.target_option import PLACES, whole_path

    if field in PLACES:
        return tuple(whole_path(str(level)) for level in levels)
    if not field.endswith("weights"):
        return levels
    if field == "encoder.weights":
        for weights in levels:
            check_weights(f"family {printable(family)}: {field}", str(weights), ENCODER_WEIGHTS)
    return tuple(_with_whole_path(str(weights)) for weights in levels)


def _with_whole_path(weights: str) -> str:
    """Weights by name, or the whole path of their file: workers run in other folders."""
    from ssense.files.digest import weights_file

    path = weights_file(weights)
    return str(path.resolve()) if path else weights
