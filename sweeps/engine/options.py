"""The command line of sweeps on a recording, and what its defaults are for which."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from upath import UPath

from ssense.data.brain_treebank import SegmentSpec, open_recording
from ssense.data.segments import Electrodes
from ssense.data.splits import SplitKind
from ssense.data.synthetic import FORMAT_VERSION, SyntheticSpec, write_synthetic
from ssense.digest import digest
from ssense.errors import UserError
from ssense.model.clip import UNTRAINED
from ssense.model.encoder import BatchNorm, Precision
from ssense.model.text import TextSpec
from ssense.signal.superlets import SuperletSpec
from ssense.storage import is_local, locate, open_storage, upload, write_whole
from ssense.training import TrainingSpec
from sweeps.engine.engine_options import EngineOptions
from sweeps.engine.precompute import DatasetPlan, fetch_recording, plan_dataset
from sweeps.engine.progress import say, step

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
class SweepOptions(EngineOptions):
    """Flags; each is also an environment variable, --max-epochs as SSENSE_MAX_EPOCHS."""

    recording: str | None = None
    """Folder of an unpacked Brain Treebank download, or its URL, from where every machine fetches
    it once. Without one, a synthetic recording is made."""
    subject: str = "sub_9"
    """Subject folder name."""
    trial: str = "trial000"
    """Which of the subject's recordings."""
    preset: Literal["literal", "paper"] = "literal"
    """How sentences become segments: as the paper is worded, or as it was most likely run."""
    electrodes: Electrodes = "clean-laplacian"
    """Clean contacts minus the mean of two clean neighbours; clean contacts; or all contacts."""
    line_hz: Literal[50, 60] = 60
    """Frequency of the mains where it was recorded, removed with its harmonics."""
    spectrogram: SpectrogramName | None = None
    """Superlet recipe: brainbert; brainbert-50, what BrainBERT's function computes without its
    settings file; or small, for trials [brainbert; small if synthetic]."""
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
    """Of the encoder: bf16, for GPUs and CPUs with units for it; or float32, without TF32 [bf16;
    float32 if synthetic]."""
    batch_norm: BatchNorm = "chunk"
    """What batch normalisation goes by. A batch above 32 pairs passes the encoder in chunks of 32,
    with the gradient of the whole batch: chunk, each by its own statistics, as the paper's batch
    of 32; frozen, all by those of the initial weights, as in one pass; for pretrained weights."""
    synthetic: SyntheticSpec = field(default_factory=SyntheticSpec)
    """The synthetic recording to make."""

    @property
    def defaults(self) -> Defaults:
        """What stands in for options left out."""
        return SYNTHETIC if self.recording is None else REAL

    def training(self) -> TrainingSpec:
        """How a cell is trained.

        Raises:
            UserError: a value is out of range.
        """
        values = {name: self.value(name) for name in ("batch_size", "precision", "max_epochs")}
        try:
            return TrainingSpec(
                split=self.split,
                encoder_weights=self.weights("encoder_weights"),
                batch_norm=self.batch_norm,
                **values,
            )
        except ValueError as error:
            raise UserError(f"{error}.") from error

    def datasets(self) -> Iterator[DatasetPlan]:
        """The recording's, see `plan_dataset`."""
        yield self.plan_dataset()

    def plan_dataset(self) -> DatasetPlan:
        """Open the recording, or make the synthetic one, and choose its sentences.

        Raises:
            UserError: the recording can't be read, the storage can't be written to, or nothing
                is left to train on.
        """
        source = self._synthetic_recording() if self.recording is None else locate(self.recording)
        with step(f"Reading {self.subject} {self.trial}"):
            recording = open_recording(
                fetch_recording(source, self.subject, self.trial), self.subject, self.trial
            )
        preset = SegmentSpec.paper() if self.preset == "paper" else SegmentSpec.literal()
        self._check_spectrogram(preset.sampling_rate_hz(recording))
        plan = plan_dataset(
            recording,
            dataclasses.replace(preset, electrodes=self.electrodes, line_hz=float(self.line_hz)),
            SPECTROGRAMS[self.value("spectrogram")],
            TextSpec(weights=self.weights("text_weights")),
            open_storage(self.storage),
            self.split,
            None if is_local(source) else source,
        )
        for line in plan.report.lines():
            say(line)
        return plan

    def _check_spectrogram(self, rate_hz: float) -> None:
        """Refuse a recipe with frequencies that the rate can't hold, and name those that fit."""
        name: SpectrogramName = self.value("spectrogram")
        if SPECTROGRAMS[name].maximum_hz < rate_hz / 2:
            return
        fitting = [
            f"--spectrogram {other}, up to {recipe.maximum_hz:g} Hz"
            for other, recipe in SPECTROGRAMS.items()
            if recipe.maximum_hz < rate_hz / 2
        ]
        least = min(recipe.maximum_hz for recipe in SPECTROGRAMS.values())
        advice = f"Use {' or '.join(fitting)}"
        if not fitting:
            advice = f"No recipe fits: give a recording of more than {2 * least:g} samples a second"
        raise UserError(
            f"{self.subject} {self.trial}: {rate_hz:g} samples a second hold frequencies below "
            f"{rate_hz / 2:g} Hz, and --spectrogram {name} reaches "
            f"{SPECTROGRAMS[name].maximum_hz:g} Hz. {advice}."
        )

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
