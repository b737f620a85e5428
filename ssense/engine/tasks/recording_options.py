"""Options of sweeps on a recording, with defaults for real and for synthetic data.

Imports that take seconds are inside the functions that need them: flags are checked first.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from ssense.choices import (
    ENCODER_WEIGHTS,
    ENCODERS,
    TEXT_TOWER,
    UNTRAINED,
    BatchNorm,
    Electrodes,
    Precision,
    Reference,
    SpectrogramName,
    SplitKind,
)
from ssense.data.recordings.tables.table_spec import TableSpec
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.checks import (
    check_encoder,
    check_place,
    check_target,
    check_weights,
)
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.errors import UserError, one_line, printable

if TYPE_CHECKING:
    from ssense.data.recordings.recording_source import RecordingSource
    from ssense.data.recordings.segments import SegmentSpec
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.data_plan import DataPlan
    from ssense.engine.tasks.recording_data import RecordingData
    from ssense.targets.sentence_embeddings import AnyTargetSpec
    from ssense.training.sentences import AnyEncoderSpec, SentenceSpec


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Values of the options that are left out."""

    spectrogram: SpectrogramName
    text_weights: str
    encoder_weights: str
    batch_size: int
    precision: Precision | None  # None: the faster one here
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
    precision=None,
    max_epochs=5,
    configurations=3,
    seeds=tuple(range(5)),
)


WHICH_RECORDING = ("subject", "trial", "session", "task", "acquisition", "run", "sentences")
"""Options that say which recording of a place is meant, and what was said in it."""


@dataclass(frozen=True, kw_only=True)
class RecordingOptions(EngineOptions):
    """Flags of a sweep on a recording."""

    groups: ClassVar[Mapping[str, Sequence[str]]] = {
        "data": (
            *("recording", *WHICH_RECORDING, "table"),
            "split",
        ),
        "features": (
            *("preset", "resample_hz", "electrodes", "reference", "line_hz", "spectrogram"),
        ),
        "training": (
            "max_epochs",
            "batch_size",
            "precision",
            "encoder",
            "batch_norm",
            "encoder_weights",
            "target",
            "text_weights",
        ),
    } | {title: names for title, names in EngineOptions.groups.items() if title != "training"}
    above_0: ClassVar[Sequence[str]] = (*EngineOptions.above_0, "batch_size")

    recording: str | None = None
    """Folder of a BIDS data set or of an unpacked Brain Treebank download; a file that MNE reads,
    such as EDF, BrainVision or FIF; or the URL of one, from where every machine fetches it once.
    Without one, a synthetic recording is made [a synthetic one]."""
    subject: str | None = None
    """Which subject [the only one; sub_9 of Brain Treebank]."""
    trial: str | None = None
    """Which of a subject's recordings of Brain Treebank [trial000]."""
    session: str | None = None
    """Which session of BIDS [the only one]."""
    task: str | None = None
    """Which task of BIDS [the only one]."""
    acquisition: str | None = None
    """Which acquisition of BIDS [the only one]."""
    run: str | None = None
    """Which run of BIDS [the only one]."""
    sentences: str | None = None
    """Table of what was said, for a recording that comes without: onset, duration and text of
    sentences or words, as CSV, TSV, Whisper's JSON or a TextGrid [events.tsv of BIDS]."""
    table: TableSpec = field(default_factory=TableSpec)
    """How that table is read."""
    preset: Literal["literal", "paper"] = "literal"
    """How sentences become segments: as the paper is worded, or as it was most likely run."""
    resample_hz: float | None = None
    """Samples per second that signals are resampled to [the recording's own]."""
    electrodes: Electrodes = "clean"
    """Contacts to use: clean, those that the list of corrupted contacts does not name; or all."""
    reference: Reference = "laplacian"
    """What is subtracted from each contact: laplacian, the mean of its two neighbours; bipolar, the
    next contact; shaft-average, the mean of its shaft; average, the mean of all; or none."""
    line_hz: Literal[50, 60] = 60
    """Frequency of the mains where it was recorded, removed with its harmonics."""
    spectrogram: SpectrogramName | None = None
    """Recipe of features: superlets by brainbert; brainbert-50, what BrainBERT's function computes
    without its settings file; or small, for trials; fourier, short-time Fourier amplitudes; or
    high-gamma, the power from 70 to 150 Hz [brainbert; small if synthetic]."""
    target: str | None = None
    """What embeds sentences: MODEL or MODEL:WEIGHTS of open_clip; sentence-transformers:NAME or
    transformers:NAME, a name on Hugging Face's hub or a folder; vectors in a file .npy, .parquet or
    .safetensors; or one of your own, FILE.py:NAME [ViT-B-32-quickgelu]."""
    text_weights: str | None = None
    """Weights of a target of open_clip: openai or another tag, a local file, or untrained [openai;
    untrained if synthetic]."""
    encoder: str = ENCODERS[0]
    """What embeds spectrograms: resnet-18, as in the paper; attention, its electrodes weighted by
    what they say; convolution, a small one; linear, which ridge regression starts; or one of your
    own, FILE.py:CLASS."""
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
    """Precision of the encoder: bf16, for GPUs and CPUs with units for it; or float32, without TF32
    [bf16; if synthetic, the faster one on this machine]."""
    batch_norm: BatchNorm = "chunk"
    """What batch normalisation goes by. A batch above 32 pairs passes the encoder in chunks of 32,
    with the gradient of the whole batch: chunk, each by its own statistics, as the paper's batch
    of 32; frozen, all by those of the initial weights, as in one pass; for pretrained weights."""
    synthetic: SyntheticSpec = field(default_factory=SyntheticSpec)
    """The synthetic recording to make."""

    def __post_init__(self) -> None:
        """Refuse a recording or weights that are not there, and what tells one of none apart."""
        super().__post_init__()
        check_place("--recording", self.recording)
        for name in WHICH_RECORDING:
            if self.recording is None and (given := getattr(self, name)) is not None:
                raise UserError(
                    f"--{name} {printable(given)} is given without --recording: a synthetic one is "
                    "made. Give --recording too, or neither."
                )
        check_encoder("--encoder", self.encoder)
        check_weights("--encoder-weights", self.encoder_weights, ENCODER_WEIGHTS)
        check_target("--target", self.target, "--text-weights", self.text_weights)

    @property
    def defaults(self) -> Defaults:
        """What stands in for options left out."""
        return SYNTHETIC if self.recording is None else REAL

    def specification(self) -> SentenceSpec:
        """What makes the result of a cell, before a configuration changes it.

        Raises:
            UserError: A value is out of range.
        """
        from ssense.engine.tasks.recording_plan import SPECTROGRAMS
        from ssense.training.process import fast_precision, gpus_here
        from ssense.training.sentences import SentenceSpec, TrainingSpec

        values = {name: self.value(name) for name in ("batch_size", "precision", "max_epochs")}
        if values["precision"] is None:  # workers of a cluster may have other processors
            on_cluster = bool(os.environ.get("RAY_ADDRESS"))
            values["precision"] = (
                "float32" if on_cluster else fast_precision(gpus_here(self.gpus_per_cell))
            )
        try:
            return SentenceSpec(
                split=self.split,
                data=self._data(),
                features=SPECTROGRAMS[self.value("spectrogram")],
                target=self._target(),
                encoder=self._encoder(),
                training=TrainingSpec(**values),
            )
        except ValueError as error:
            raise UserError(f"{one_line(error)}.") from error

    def _data(self) -> SegmentSpec:
        from ssense.data.recordings.segments import SegmentSpec

        preset = SegmentSpec.paper() if self.preset == "paper" else SegmentSpec.literal()
        return dataclasses.replace(
            preset,
            resample_hz=self.resample_hz,
            electrodes=self.electrodes,
            reference=self.reference,
            line_hz=float(self.line_hz),
        )

    def _target(self) -> AnyTargetSpec:
        from ssense.engine.tasks.target_option import target_of

        return target_of(self.target or TEXT_TOWER, self.weights("text_weights"))

    def _encoder(self) -> AnyEncoderSpec:
        from ssense.model.encoders.own import OwnSpec
        from ssense.model.encoders.spectrogram_encoder import ResNetSpec
        from ssense.specification import configured
        from ssense.training.sentences import SentenceSpec

        if self.encoder not in ENCODERS:
            return OwnSpec.of(self.encoder)
        encoder = configured(SentenceSpec(), {"encoder": self.encoder}).encoder
        if not isinstance(encoder, ResNetSpec):
            return encoder
        weights = self.weights("encoder_weights")
        return dataclasses.replace(encoder, weights=weights, batch_norm=self.batch_norm)

    def datasets(self) -> Iterator[RecordingData]:
        """The recording's, see `plan_recording`."""
        yield self.plan_data()

    def sweep(
        self, question: str, data: DataPlan, families: Mapping[str, Mapping[str, Levels]]
    ) -> Sweep:
        """The sweep of a question on a dataset, see `EngineOptions.sweep`.

        Where an encoder is told where the electrodes lie, its specification says where that is.
        """
        from ssense.engine.tasks.recording_data import RecordingData, tells_coordinates
        from ssense.training.sentences import SentenceSpec

        made = super().sweep(question, data, families)
        specification = made.specification
        assert isinstance(specification, SentenceSpec)
        if not tells_coordinates(specification, made.families):
            return made
        assert isinstance(data, RecordingData)
        told = dataclasses.replace(specification, contacts=data.contacts)
        return dataclasses.replace(made, specification=told)

    def plan_data(self) -> RecordingData:
        """The data of the recording, of a synthetic one where none is given.

        Raises:
            UserError: See `plan_recording`; or given weights are unknown or another model's.
        """
        from ssense.data.recordings.recording_source import RecordingSource
        from ssense.engine.tasks.recording_plan import plan_recording, synthetic_recording
        from ssense.files.storage import locate, open_storage

        specification, recipe = self.specification(), self.value("spectrogram")
        self.check_given_weights(specification)
        if self.recording is None:
            made = synthetic_recording(self.synthetic, open_storage(self.storage))
            source = RecordingSource(place=str(made))
        else:
            source = self._source(str(locate(self.recording)))
        try:
            return plan_recording(source, specification, recipe, self.storage)
        except UserError as error:
            if self.recording is None or source.is_shared:
                raise
            given = f"--recording {printable(self.recording, 150)}"  # as it was typed
            raise UserError(str(error).replace(source.place, given, 1)) from error

    def _source(self, place: str) -> RecordingSource:
        from ssense.data.recordings.recording_source import RecordingSource

        given = {name: getattr(self, name) or "" for name in WHICH_RECORDING}
        return RecordingSource(place=place, table=self.table, **given)

    def check_given_weights(self, specification: SentenceSpec) -> None:
        """Refuse a given target that can't embed, and a file of another model's initial weights.

        Raises:
            UserError: They can't be used; the message names them.
        """
        from ssense.files.digest import weights_file
        from ssense.model.encoders.spectrogram_encoder import build_encoder

        if self.target is not None or self.text_weights is not None:
            specification.target.check()
        encoder = self.weights("encoder_weights")
        if weights_file(encoder):
            build_encoder(encoder, dimensions=1)  # refuses another model's
