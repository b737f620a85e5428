"""What the engine asks of data, which is planned before it is made, and made before cells run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol, Self

import numpy as np
import torch
from upath import UPath

from ssense.choices import SplitKind
from ssense.cli.screen import say
from ssense.data.splits import meet
from ssense.engine.core.origin import Origin
from ssense.engine.core.sweep import Family, Sweep
from ssense.errors import UserError
from ssense.specification import configured
from ssense.training.loop import SELECTION_RANK, Examples, Splittable
from ssense.training.sentences import SHARE
from ssense.training.tasks import TaskSpec


class DataPlan(Splittable, Protocol):
    """Datasets that are known before they are made: `RecordingData` and `ImagePlan`.

    Each is for the specifications of its own task, and for the kinds of split that those have. Its
    split is that of all its datasets.

    Attributes:
        storage: Storage of what is made.
        digest: Digest of the dataset of the specification.
        datasets: Digests of all datasets by `dataset_choice`; none where there is but one.
        n_subjects: How many subjects the same call sweeps, one after another; their evaluation
            compares them.
    """

    @property
    def storage(self) -> UPath: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def datasets(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def n_subjects(self) -> int: ...  # noqa: D102

    def covering(self, specification: Any, families: Iterable[Family]) -> Self:
        """Extend the plan by all that the cells of some families need.

        Raises:
            UserError: A family has a level that data can't be made for.
        """
        ...

    def check_splits(self, kind: Any, seeds: Iterable[int]) -> None:
        """Refuse seeds with too few candidates to choose an epoch by."""
        ...

    def examples(self, n: int, device: torch.device) -> Examples:
        """Made-up examples of the shapes of the dataset that a cell takes longest on."""
        ...

    def lines(
        self, specification: Any, families: Iterable[Family], seeds: Iterable[int]
    ) -> list[str]:
        """What datasets cost, where there are several, and what encoders train; a line each.

        Args:
            specification: What every cell shares.
            families: Families to compare.
            seeds: Seeds by which the data are divided.
        """
        ...

    def check_room(
        self, wanted: Collection[str], shared: int | None, whole: int | None = None
    ) -> None:
        """Refuse datasets that neither disk nor memory has room for, before anything is made.

        Args:
            wanted: Digests of the datasets.
            shared: Bytes of memory that cells on a machine share; None where that is not known.
            whole: Bytes of memory of the machine; None where that is not known.

        Raises:
            UserError: There is not enough room; the message has what is needed.
        """
        ...

    def check_cells(
        self, specification: Any, families: Iterable[Family], memory: int, *, on_gpu: bool
    ) -> None:
        """Refuse cells that a machine's memory can't hold, before one is timed.

        Args:
            specification: What every cell shares.
            families: Families to compare.
            memory: Bytes of memory of the machine.
            on_gpu: Whether batches are in the memory of a GPU instead.

        Raises:
            UserError: A cell takes more; the message has how much.
        """
        ...

    def warm(self, specification: Any, families: Iterable[Family] = ()) -> None:
        """Get what may be missing on a machine without a network, before anything is started."""
        ...

    def is_made(self, wanted: Collection[str]) -> bool:
        """Whether nothing is left to `make` of some datasets, by digest."""
        ...

    def make(self, wanted: Collection[str], *, use_gpus: bool | None = None) -> None:
        """Compute on the running Ray what cells of some datasets need."""
        ...

    def load(self, wanted: str) -> Any:
        """The dataset of a digest."""
        ...

    def origin(self) -> Origin:
        """What the sweep keeps of where its datasets come from."""
        ...


def say_other_code(made: Mapping[UPath, str], now: str) -> None:
    """Say what is kept that another version of the code has made, if anything is.

    Args:
        made: The version that made each file or folder; empty where it was not noted.
        now: The version that would make it now.
    """
    if others := [str(path) for path, code in made.items() if code not in ("", now)]:
        say(
            "  computed by another version of the code. If it computes otherwise now, delete "
            f"{', '.join(others)}."
        )


def with_shares(sweep: Sweep) -> list[TaskSpec]:
    """The specification of a sweep with each share of the training data that its cells have."""
    shares = {share: None for each in sweep.families for share in each.levels.get(SHARE, (None,))}
    changes = ({} if share is None else {SHARE: share} for share in shares)
    return [configured(sweep.specification, change) for change in changes]


def check_shares(sweep: Sweep, data: Splittable) -> None:
    """Refuse a share of the training data that leaves a cell too little to train on.

    Args:
        sweep: The sweep whose cells are to be trained.
        data: The data that its seeds divide.

    Raises:
        UserError: A share leaves too few at a seed; the message has both, and their number.
    """
    specifications = with_shares(sweep)
    for seed in sweep.seeds:
        split = data.split(sweep.specification.split, seed)
        for specification in specifications:
            try:
                specification.cell_split(split, seed)
            except ValueError as error:
                raise UserError(
                    f"{SHARE}, at seed {seed}: {error}. Give larger shares, or a longer recording."
                ) from error


def first_poor_split(data: Splittable, kind: str, seeds: Iterable[int]) -> tuple[int, int] | None:
    """The first seed with too few validation stimuli to choose an epoch by, and their number.

    Args:
        data: The data to be divided; dividing may raise ValueError where they are too few.
        kind: The kind of the splits.
        seeds: Seeds to look at.
    """
    for seed in seeds:
        try:
            n_candidates = data.n_candidates(data.split(kind, seed))
        except ValueError:
            n_candidates = 0
        if n_candidates <= SELECTION_RANK:
            return seed, n_candidates
    return None


class Timed(Splittable, Protocol):
    """Data whose examples have a time: a dataset of sentences, or the plan of one.

    Attributes:
        spans_s: Start and end of each example's signal, `[N, 2]`, seconds.
    """

    @property
    def spans_s(self) -> np.ndarray: ...  # noqa: D102


def first_meeting(data: Timed, kind: SplitKind, seeds: Iterable[int]) -> int | None:
    """The first seed at which parts of a split share samples that its kind keeps apart.

    Args:
        data: The data to be divided.
        kind: The kind of the splits.
        seeds: Seeds to look at.
    """
    return next((s for s in seeds if meet(data.split(kind, s), kind, data.spans_s)), None)
