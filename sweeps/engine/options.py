"""The command line that every sweep shares, and what its defaults are for which recording."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from upath import UPath

from ssense.data.brain_treebank import SegmentSpec, open_recording
from ssense.data.segments import Electrodes
from ssense.data.splits import SplitKind
from ssense.data.synthetic import FORMAT_VERSION, SyntheticSpec, write_synthetic
from ssense.digest import digest
from ssense.errors import UserError, one_line
from ssense.model.encoder import Precision
from ssense.model.text import UNTRAINED, TextSpec
from ssense.signal.superlets import SuperletSpec
from ssense.storage import is_local, locate, open_storage, upload, write_whole
from ssense.training import TrainingSpec
from sweeps.engine.precompute import DatasetPlan, fetch_recording, plan_dataset
from sweeps.engine.progress import say, step
from sweeps.engine.race import PolicyName
from sweeps.engine.sweep import Family, Levels, Sweep, check_seeds

WHOLE = "complete"
"""Name of a file that says that a recording in an object store is all there."""

SpectrogramName = Literal["brainbert", "brainbert-50", "small"]

# Coarse enough for a ResNet-18 to learn on a laptop within seconds; for trials, not for papers.
SMALL = SuperletSpec(
    minimum_hz=8.0,
    maximum_hz=120.0,
    n_frequencies=16,
    base_cycles=3.0,
    order_min=1,
    order_max=5,
    decimation=100,
    edge_clip=1,
)
SPECTROGRAMS: dict[SpectrogramName, SuperletSpec] = {
    "brainbert": SuperletSpec.brainbert(),
    "brainbert-50": SuperletSpec.brainbert_defaults_50(),
    "small": SMALL,
}


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Values of the options that are left out."""

    spectrogram: SpectrogramName
    text_weights: str
    encoder_weights: str
    batch_size: int
    precision: Precision
    max_epochs: int
    configurations: int
    seeds: tuple[int, ...]


# SSENSE, and what it leaves open.
REAL = Defaults(
    spectrogram="brainbert",
    text_weights="openai",
    encoder_weights="imagenet",
    batch_size=32,
    precision="bf16",
    max_epochs=100,
    configurations=10,
    seeds=tuple(range(10)),
)
# The same code at a size for two cores and a few minutes, with nothing to download.
SYNTHETIC = Defaults(
    spectrogram="small",
    text_weights=UNTRAINED,
    encoder_weights="random",
    batch_size=16,
    precision="float32",  # fast on any processor; bf16 is not where units for it are missing
    max_epochs=5,
    configurations=3,
    seeds=tuple(range(5)),
)


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Flags; each is also an environment variable, --max-epochs as SSENSE_MAX_EPOCHS."""

    recording: str | None = None
    """Folder of an unpacked Brain Treebank download, or its URL, from where every machine fetches
    it once. Without one, a synthetic recording is made."""
    subject: str = "sub_9"
    """Subject folder name."""
    trial: str = "trial000"
    """Which of the subject's recordings."""
    storage: str = "storage"
    """Where everything is kept: spectrograms, ledger, encoders, MLflow database."""
    preset: Literal["literal", "paper"] = "literal"
    """How sentences become segments: as the paper is worded, or as it was most likely run."""
    electrodes: Electrodes = "clean-laplacian"
    """Clean contacts minus the mean of two clean neighbours; clean contacts; or all contacts."""
    spectrogram: SpectrogramName | None = None
    """Superlet recipe [brainbert; small for the synthetic recording]."""
    text_weights: str | None = None
    """CLIP text weights: openai, a local file, or untrained [openai; untrained if synthetic]."""
    encoder_weights: str | None = None
    """Initial ResNet-18 weights: imagenet, a local file, or random [imagenet; random if
    synthetic]."""
    split: SplitKind = "random"
    """How a seed divides the sentences: random, as in the paper; grouped, repeated sentences
    together; blocked, whole stretches of the recording, apart in time; held-out, one test split for
    all seeds, the end of the recording."""
    batch_size: int | None = None
    """Pairs per training batch; the others of a batch are a pair's negatives [32; 16 if
    synthetic]."""
    precision: Precision | None = None
    """Of the encoder: bf16, for GPUs and CPUs with units for it; or float32 [bf16; float32 if
    synthetic]."""
    max_epochs: int | None = None
    """Most epochs of a cell [100; 5 if synthetic]."""
    configurations: int | None = None
    """Configurations to try in each family [10; 3 if synthetic]."""
    seeds: tuple[int, ...] | None = None
    """Seeds that every configuration meets [0 to 9; 0 to 4 if synthetic]."""
    policy: PolicyName = "race"
    """How seeds are spent: a race without configurations that are clearly behind; full, every
    cell; or wilcoxon, Optuna's pruner, for comparison."""
    budget_cells: int | None = None
    """Most cells to train now; the same command goes on later."""
    budget_hours: float | None = None
    """Hours after which no cell is started; the same command goes on later."""
    keep_version: tuple[str, ...] = ()
    """Other versions of the code whose cells count here, by name; remembered."""
    retrain_version: tuple[str, ...] = ()
    """Other versions of the code whose cells are trained again, by name."""
    cell: str | None = None
    """Signature of a finished cell, or its beginning: train it again, alone, and say whether it is
    the same to the bit."""
    price_per_device_hour: float | None = None
    """What an hour of one cell's device costs, for the plan."""
    cpus_per_cell: int = 1
    """CPU cores of one cell."""
    gpus_per_cell: float | None = None
    """GPU share of one cell [1 where there are GPUs]."""
    synthetic: SyntheticSpec = field(default_factory=SyntheticSpec)
    """The synthetic recording to make."""
    dry_run: bool = False
    """Show the plan and stop."""
    yes: bool = False
    """Start without asking."""

    def __post_init__(self) -> None:
        """Refuse a cell without a core, and shares of GPUs that mean nothing."""
        if self.cpus_per_cell < 1:
            raise UserError(f"--cpus-per-cell must be at least 1, got {self.cpus_per_cell}.")
        for name in ("budget_cells", "budget_hours", "price_per_device_hour"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{name.replace('_', '-')} must be above 0, got {value}.")
        if self.seeds is not None:
            check_seeds(self.seeds)
        if self.gpus_per_cell is not None and not 0 <= self.gpus_per_cell < math.inf:
            raise UserError(f"--gpus-per-cell must be 0 or more, got {self.gpus_per_cell}.")
        if self.gpus_per_cell and self.gpus_per_cell > 1 and self.gpus_per_cell % 1:
            raise UserError(f"--gpus-per-cell above 1 must be whole, got {self.gpus_per_cell}.")

    @property
    def defaults(self) -> Defaults:
        """What stands in for options left out."""
        return SYNTHETIC if self.recording is None else REAL

    def value(self, name: str) -> Any:
        """An option's value, or what stands in for it."""
        given = getattr(self, name)
        return getattr(self.defaults, name) if given is None else given

    def training(self) -> TrainingSpec:
        """How a cell is trained.

        Raises:
            UserError: a value is out of range.
        """
        values = {name: self.value(name) for name in ("batch_size", "precision", "max_epochs")}
        try:
            return TrainingSpec(
                split=self.split, encoder_weights=self._weights("encoder_weights"), **values
            )
        except ValueError as error:
            raise UserError(f"{error}.") from error

    def sweep(
        self, claim: str, data: DatasetPlan, families: Mapping[str, Mapping[str, Levels]]
    ) -> Sweep:
        """The sweep of a claim on a dataset, as long and as trained as these options say.

        Args:
            claim: short name of the experiment.
            data: of the recording.
            families: levels by hyperparameter, by name of the family.

        Raises:
            UserError: a value is out of range.
        """
        return Sweep(
            claim=claim,
            dataset_digest=data.digest,
            training=self.training(),
            families=tuple(Family(name=name, levels=levels) for name, levels in families.items()),
            configurations=self.value("configurations"),
            seeds=self.value("seeds"),
        )

    def plan_dataset(self) -> DatasetPlan:
        """Open the recording, or make the synthetic one, and choose its sentences.

        Raises:
            UserError: the recording can't be read, the storage can't be written to, or nothing
                is left to train on.
        """
        source = self._synthetic_recording() if self.recording is None else self._recording()
        with step(f"Reading {self.subject} {self.trial}"):
            recording = open_recording(
                fetch_recording(source, self.subject, self.trial), self.subject, self.trial
            )
        preset = SegmentSpec.paper() if self.preset == "paper" else SegmentSpec.literal()
        plan = plan_dataset(
            recording,
            dataclasses.replace(preset, electrodes=self.electrodes),
            SPECTROGRAMS[self.value("spectrogram")],
            TextSpec(weights=self._weights("text_weights")),
            open_storage(self.storage),
            self.split,
            None if is_local(source) else source,
        )
        for line in plan.report.lines():
            say(line)
        return plan

    def _weights(self, name: str) -> str:
        """Weights by name; a file by its whole path, since workers run in folders of their own."""
        weights = str(self.value(name))
        return str(Path(weights).resolve()) if Path(weights).is_file() else weights

    def _recording(self) -> UPath:
        try:
            return locate(self.recording)
        except (ValueError, ImportError) as error:
            raise UserError(
                f"--recording {self.recording} can't be reached ({one_line(error)}). Give a folder "
                "or a URL such as s3://BUCKET/FOLDER."
            ) from error

    def _synthetic_recording(self) -> UPath:
        """Where the synthetic recording is: in the storage, for all machines to fetch."""
        name = f"synthetic-{digest(FORMAT_VERSION, self.synthetic)[:8]}"
        folder = open_storage(self.storage) / "recordings" / name
        say(f"No --recording given: using a synthetic one, in {folder}")
        say("Nothing is downloaded for it: encoder and CLIP text tower start untrained by default.")
        with step(f"  {self.synthetic.sentences} sentences, {self.synthetic.electrodes} contacts"):
            if is_local(folder):
                write_synthetic(Path(str(folder)), self.synthetic)
            elif not (folder / WHOLE).exists():
                with tempfile.TemporaryDirectory(prefix="ssense-") as scratch:
                    write_synthetic(Path(scratch) / name, self.synthetic)
                    upload(Path(scratch) / name, folder)
                write_whole(folder / WHOLE, b"")  # last: without it, it is uploaded again
        return folder
