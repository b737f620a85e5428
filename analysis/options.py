"""Options of the analysis commands; imports nothing slow, so that flags are checked at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ssense.engine.core.checks import check_folder, check_seeds, check_shares, check_storage
from ssense.errors import UserError, printable

_REPOSITORY = re.compile(r"(?!.*(--|\.\.))\w[\w.-]*/\w[\w.-]{0,95}(?<!\.git)(?<![.-])")
MapKind = Literal["electrodes", "times", "bands", "times-bands"]
Fill = Literal["mean", "zero"]
Space = Literal["recorded", "mni152", "mni305", "none"]
MapPrecision = Literal["auto", "bf16", "float32"]
TrainedControlName = Literal["noise", "shifted", "window", "blocked", "grouped"]


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Flags of the test evaluation."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """The sweep: its name, a beginning of it, or words such as "masking sub_9" [the one worked on
    last; if that is of images, each subject's last one]."""
    sweeps: tuple[str, ...] = ()
    """Sweeps over images, by name or in words, one per subject [see --sweep]."""
    confirm_seeds: tuple[int, ...] = ()
    """Fresh seeds at which to train and evaluate the chosen configurations too. They draw other
    test splits, except of images and of --split held-out, whose seeds share one [no fresh ones]."""
    allow_missing: bool = False
    """Go without the cells that are missing, and name them in the report."""
    cpus_per_cell: int = 1
    """CPU cores of one cell at fresh seeds; as in the sweep, for the same results."""
    gpus_per_cell: float | None = None
    """GPU share of one cell at fresh seeds [1 where there are GPUs]."""

    def __post_init__(self) -> None:
        """Refuse a cell without a core, odd shares of GPUs, impossible seeds and no storage."""
        if self.sweep is not None and self.sweeps:
            raise UserError("--sweep and --sweeps are both given. Leave one of them out.")
        check_shares(self.cpus_per_cell, self.gpus_per_cell)
        if self.confirm_seeds:
            check_seeds(self.confirm_seeds, "--confirm-seeds")
        check_storage(self.storage)


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """Flags of the controls."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """The sweep: its name, a beginning of it, or words such as "masking sub_9" [the one worked on
    last]."""
    allow_missing: bool = False
    """Go without the cells that are missing."""
    permutations: int = 1000
    """Permutations of the pairing at each seed."""
    train: tuple[TrainedControlName, ...] = ()
    """Controls that need training too, a cell per seed each: noise, shifted, window, blocked,
    grouped [those without training, and what an earlier run trained]."""
    recording: str | None = None
    """Folder of the recording, where it has moved since the sweep [where it was]."""
    cpus_per_cell: int = 1
    """CPU cores of one cell; as in the sweep, for comparable results."""
    gpus_per_cell: float | None = None
    """GPU share of one cell [1 where there are GPUs]."""

    def __post_init__(self) -> None:
        """Refuse no permutations, a cell without a core, odd shares of GPUs and missing folders."""
        check_shares(self.cpus_per_cell, self.gpus_per_cell)
        if self.permutations < 1:
            raise UserError(f"--permutations must be at least 1, got {self.permutations}.")
        check_folder("--recording", self.recording)
        check_storage(self.storage)


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """Flags of the maps."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """The sweep, an evaluated one: its name, a beginning of it, or words such as "masking sub_9"
    [the one worked on last]."""
    families: tuple[str, ...] = ()
    """Families whose chosen configuration is mapped [the one that leads on the validation
    splits]."""
    maps: tuple[MapKind, ...] = ("electrodes", "times", "bands")
    """Maps to make: electrodes, left out and alone, with their shafts and regions; times, windows
    that are hidden; bands of frequency; times-bands, each window in each band."""
    fill: Fill = "mean"
    """What stands in place of what is hidden: mean, that of the training sentences at the same
    electrode, frequency and time; or zero."""
    windows: int = 10
    """Windows of time, of equal length but for rounding."""
    bands: int = 8
    """Bands of frequency, of as many rows each but for rounding."""
    sentences: int | None = None
    """Test sentences of each seed that windows and bands are hidden from, drawn by the seed; 0 for
    all. Electrodes are always left out of all [all; 24 of encoders with ResNet-18, which takes a
    pass over all electrodes for each]."""
    permutations: int = 1000
    """Permutations of the pairing at each seed, for the threshold over a map."""
    check_seeds: int = 3
    """Seeds at which untrained encoders and those of the Gaussian-noise control are mapped too."""
    precision: MapPrecision = "auto"
    """Precision of ResNet-18: auto, bf16 where there are units for it and the ten best candidates
    are those of float32 but for 5 %; bf16; or float32."""
    space: Space = "recorded"
    """Space of the coordinates, to draw electrodes on a glass brain: recorded, as the recording
    says; mni152 or mni305 (fsaverage) where it does not; or none, to draw them by shaft."""
    coordinates: str | None = None
    """Table of contacts and where they lie, a CSV with the columns electrode, x, y and z, mm, and
    perhaps space [those of the recording]."""
    regions: str | None = None
    """Table of contacts and their regions, a CSV with the columns electrode and region; regions are
    left out and alone too [those of the recording]."""
    atlas: str | None = None
    """Atlas to name regions by: dosenbach, of centres, which comes with nilearn; harvard-oxford or
    aal, which nilearn downloads; or a NIfTI file of numbered regions in MNI152 [as --regions]."""
    atlas_labels: str | None = None
    """Names of the regions of such a file, a CSV with the columns index and name [their
    numbers]."""
    recording: str | None = None
    """Folder of the recording, where it has moved since the sweep, for the check by Gaussian noise
    [where it was]."""
    allow_missing: bool = False
    """Go without the cells that are missing."""
    cpus_per_cell: int = 1
    """CPU cores of a cell whose encoder was deleted and is made again; as in the sweep."""
    gpus_per_cell: float | None = None
    """GPU share of such a cell [1 where there are GPUs]."""

    def __post_init__(self) -> None:
        """Refuse no maps, windows, bands or permutations, and a storage that is not there."""
        check_shares(self.cpus_per_cell, self.gpus_per_cell)
        # Of fewer than 19 permutations the largest effect is at none below p = .05.
        leasts = {"windows": 1, "bands": 1, "permutations": 19, "check_seeds": 2}
        for name, least in leasts.items():
            if (given := getattr(self, name)) < least:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} must be at least {least}, got {given}.")
        if self.sentences is not None and (self.sentences < 0 or self.sentences == 1):
            raise UserError(f"--sentences must be at least 2, or 0 for all, got {self.sentences}.")
        if not self.maps:
            raise UserError("--maps is empty. Name a map, such as electrodes.")
        if self.atlas is not None and self.regions is not None:
            raise UserError("--atlas and --regions are both given. Leave one of them out.")
        if self.atlas_labels is not None and self.atlas is None:
            raise UserError("--atlas-labels is of --atlas, which is missing. Give both or neither.")
        check_storage(self.storage)


@dataclass(frozen=True, kw_only=True)
class GeneralisationOptions:
    """Flags of the temporal generalisation."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """The sweep over windows, an evaluated one: its name, a beginning of it, or words such as
    "windows sub_9" [the one worked on last]."""
    allow_missing: bool = False
    """Go without the cells that are missing."""
    cpus_per_cell: int = 1
    """CPU cores of a cell whose encoder was deleted and is made again; as in the sweep."""
    gpus_per_cell: float | None = None
    """GPU share of such a cell [1 where there are GPUs]."""

    def __post_init__(self) -> None:
        """Refuse a cell without a core, odd shares of GPUs, and a storage that is not there."""
        check_shares(self.cpus_per_cell, self.gpus_per_cell)
        check_storage(self.storage)


@dataclass(frozen=True, kw_only=True)
class RecordingsOptions:
    """Flags of the comparison over subjects."""

    storage: str = "storage"
    """Where the sweeps were kept."""
    sweeps: tuple[str, ...] = ()
    """Sweeps, by name or in words, one per recording, of at least two subjects [to be given]."""

    def __post_init__(self) -> None:
        """Refuse a storage that is not there, and no sweeps."""
        check_storage(self.storage)
        if not self.sweeps:
            raise UserError(
                "--sweeps is missing. Give one evaluated sweep per recording, of at least two "
                "subjects; analysis/catalogue.py lists all sweeps."
            )


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Flags of the export of a model."""

    storage: str = "storage"
    """Where the sweep was kept."""
    sweep: str | None = None
    """The sweep: its name, a beginning of it, or words such as "masking sub_9" [the one worked on
    last]."""
    family: str | None = None
    """The family whose best configuration is exported, the model of its first seed [the family
    whose best configuration is best]."""
    cell: str | None = None
    """A cell in place of a family's best, by the beginning of its signature or as it is shown,
    "electrode 0.75, seed 1" [none; see --family]."""
    out: str | None = None
    """The new folder [to be given]."""
    push: str | None = None
    """Repository of a model hub to push the folder to, as USER/NAME; it is made, for its members
    alone, if it is not there [not pushed]."""
    dry_run: bool = False
    """Push nothing, but list what --push would, with its size."""

    def __post_init__(self) -> None:
        """Refuse a storage that is not there, no folder, and what contradicts itself."""
        check_storage(self.storage)
        if not self.out:
            raise UserError("--out is missing. Give the folder to write, such as --out my_model.")
        if self.family is not None and self.cell is not None:
            raise UserError("--family and --cell are both given. Leave one of them out.")
        if self.dry_run and self.push is None:
            raise UserError("--dry-run is about --push, which is missing. Give it, or neither.")
        if self.push is not None and not _REPOSITORY.fullmatch(self.push):
            raise UserError(
                f"--push {printable(self.push)} names no repository. Give it as USER/NAME."
            )


@dataclass(frozen=True, kw_only=True)
class CatalogueOptions:
    """Flags of the list of sweeps."""

    storage: str = "storage"
    """Where the sweeps were kept."""

    def __post_init__(self) -> None:
        """Refuse a storage that is not there."""
        check_storage(self.storage)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Flags of the check of a storage."""

    storage: str = "storage"
    """Where the sweeps were kept; a path or a URL."""

    def __post_init__(self) -> None:
        """Refuse a storage that is not there."""
        check_storage(self.storage)


@dataclass(frozen=True, kw_only=True)
class ResultsOptions:
    """Flags of the comparison of results of any origin."""

    results: str
    """Table of scores, a CSV with the columns configuration, seed and a score."""
    n_train: int | None = None
    """Items of the training split [as the file says; else needed for a single recording]."""
    n_test: int | None = None
    """Items of the test split; 0 if seeds share their splits [as the file says; else needed for a
    single recording]."""
    metric: str | None = None
    """Column of the score, where there are several [the only one; recall@10 among several, or
    recall@1 of images]."""
    baseline: str | None = None
    """Configuration to compare all others with [every pair]."""
    equivalence: str | None = None
    """Differences up to this mean nothing in practice: a number in the unit of the scores, or
    percentage points with a percent sign, as 0.5% [0.5%; none where scores are no percentages]."""
    out: str | None = None
    """Where to write the tables too: a .csv of the tests, a .tex of all tables, or a folder for
    both [on the screen alone]."""

    def __post_init__(self) -> None:
        """Refuse sizes, a region of equivalence and files that there can't be."""
        if self.n_train is not None and self.n_train < 1:
            raise UserError(f"--n-train must be at least 1, got {self.n_train}.")
        if self.n_test is not None and self.n_test < 0:
            raise UserError(f"--n-test must be at least 0, got {self.n_test}.")
        if self.equivalence is not None and not _is_size(self.equivalence):
            raise UserError(
                f"--equivalence must be at least 0, such as 0.005 or 0.5%, got "
                f"{printable(self.equivalence, 30)}."
            )
        if self.out and Path(self.out).suffix.lower() not in ("", ".csv", ".tex"):
            raise UserError(f"--out {printable(self.out)} must be a .csv, a .tex or a folder.")


def _is_size(text: str) -> bool:
    try:
        return "_" not in text and 0 <= float(text.removesuffix("%")) < math.inf
    except ValueError:
        return False
