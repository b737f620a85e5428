"""How SSENSE trains: masked batches, InfoNCE, Adam, judged by retrieval (sections 2.4 and 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssense.choices import Precision, SplitKind
from ssense.data.dataset import Pairs
from ssense.data.recordings.segments import SegmentSpec
from ssense.data.splits import (
    BLOCKS,
    Split,
    resampled_sizes,
    split_identity,
    training_share,
)
from ssense.errors import UserError
from ssense.model.encoders.attention import AttentionSpec
from ssense.model.encoders.convolution import ConvolutionSpec
from ssense.model.encoders.encoder import Encoder
from ssense.model.encoders.linear import LinearSpec
from ssense.model.encoders.own import OwnSpec
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.model.losses import OneWayInfoNCE, backward_in_chunks, info_nce
from ssense.model.masking import Masking
from ssense.precision import full_precision
from ssense.retrieval import RECALL_AT
from ssense.signal.features import AnyFeatureSpec
from ssense.signal.superlets import SuperletSpec
from ssense.specification import require_positive
from ssense.targets.sentence_embeddings import AnyTargetSpec
from ssense.targets.text import TextSpec
from ssense.training.loop import SELECTION_METRIC, Embeddings, Stream, stream_seed
from ssense.training.optimiser import Adam

AnyEncoderSpec = ResNetSpec | LinearSpec | ConvolutionSpec | AttentionSpec | OwnSpec
"""The encoders, by `kind`; see `ssense.model.encoders.encoder.EncoderSpec` for what they share."""

SHARE = "training.share"
"""The field of a learning curve, by its dotted name."""

SPECTROGRAMS_PER_PASS = 2048  # of an evaluation at a time: enough to fill a GPU


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """How the encoder of SSENSE is trained (section 2.5, and what the paper leaves open).

    Attributes:
        batch_size: Pairs of a step.
        learning_rate: Learning rate of Adam.
        patience: Epochs without a better validation Recall@10 before training stops.
        max_epochs: The most epochs.
        chunk: Pairs that pass the encoder together. The gradient of a larger batch is that of the
            whole batch, in several passes; batch normalisation then sees a chunk at a time.
        precision: Precision of the encoder, see `Encoder`; the loss and Adam are float32
            in either.
        share: Share of the training sentences to train on, above 0 and up to 1 (all of them),
            drawn at random by the seed, see `splits.training_share`. An epoch of fewer sentences
            has fewer steps. Validation and test are as without it.

    Raises:
        ValueError: A value is not positive, a share is above 1, or a batch has no negatives.
    """

    batch_size: int = 32
    learning_rate: float = 5e-4
    patience: int = 5
    max_epochs: int = 100
    chunk: int = 32
    precision: Precision = "float32"
    share: float = 1.0

    def __post_init__(self) -> None:
        require_positive(
            self, "batch_size", "learning_rate", "patience", "max_epochs", "chunk", "share"
        )
        if self.share > 1:
            raise ValueError(f"share must be at most 1, got {self.share}")
        if self.batch_size == 1:
            raise ValueError(
                "batch_size must be at least 2, got 1: negatives are the other pairs of a batch"
            )


@dataclass(frozen=True, kw_only=True)
class SentenceSpec:
    """What makes the result of a cell that retrieves sentences, besides its recording and seed.

    Attributes:
        split: How a seed divides the sentences; `fit` is given the parts.
        data: How sentences become segments of signal.
        features: What a segment becomes before the encoder.
        target: What embeds the sentences: a frozen model, a file of vectors, or code of one's own.
        encoder: The network that embeds spectrograms.
        masking: What training hides of them.
        objective: The loss of a batch.
        training: How it is minimised.
        contacts: Digest of where the contacts of the recording lie, see `Coordinates`; None where
            no encoder is told. A sweep's plan sets it. The dataset's digest leaves coordinates out,
            so that only cells of such an encoder depend on them.
    """

    split: SplitKind = "random"
    data: SegmentSpec = field(default_factory=SegmentSpec)
    features: AnyFeatureSpec = field(default_factory=SuperletSpec)
    target: AnyTargetSpec = field(default_factory=TextSpec)
    encoder: AnyEncoderSpec = field(default_factory=ResNetSpec)
    masking: Masking = field(default_factory=Masking)
    objective: OneWayInfoNCE = field(default_factory=OneWayInfoNCE)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    contacts: str | None = None

    kind: ClassVar[str] = "sentences"
    stimulus: ClassVar[str] = "sentence"
    primary: ClassVar[str] = SELECTION_METRIC
    recall_at: ClassVar[tuple[int, ...]] = RECALL_AT
    test_blocks: ClassVar[int] = BLOCKS  # neighbours in a film are alike
    chosen_by_test: ClassVar[bool] = False
    data_groups: ClassVar[tuple[str, ...]] = ("data", "features", "target")

    @property
    def shares_test(self) -> bool:
        """Whether all seeds share one test split."""
        return self.split == "held-out"

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of fields that a cell's result does not depend on."""
        return () if self.encoder.uses_coordinates else ("contacts",)

    def by_content(self) -> SentenceSpec:
        """Name what comes from a file by its content, wherever the file lies."""
        return replace(self, encoder=self.encoder.by_content(), target=self.target.by_content())

    def untrained(self) -> SentenceSpec:
        """The same specification with random weights, which need no download."""
        return replace(self, encoder=self.encoder.untrained())

    def split_identity(self) -> list[Any]:
        """What the split depends on besides the sentences and the seed, as plain values."""
        return split_identity(self.split)

    def cell_split(self, split: Split, seed: int) -> Split:
        """The split of a seed as a cell has it, with its share of the training sentences.

        Raises:
            ValueError: The share leaves too few to train on.
        """
        return training_share(split, self.training.share, stream_seed(seed, Stream.SHARE))

    def resampled_sizes(self, split: Split) -> tuple[int, int]:
        """Sentences that seeds draw again for training and test, see `splits.resampled_sizes`."""
        return resampled_sizes(self.split, split)

    def initial(self, train: Pairs) -> Encoder:
        """The encoder that a training starts from, on the CPU.

        Raises:
            UserError: It can't be built, see `EncoderSpec`, or the electrodes lie elsewhere than
                the specification says.
        """
        found = train.coordinates.contacts if train.coordinates else self.contacts
        if self.encoder.uses_coordinates and found != self.contacts:
            raise UserError(
                f"the coordinates of the contacts have the digest {found}, not "
                f"{self.contacts or 'one that the specification names'}. Restore those that the "
                "sweep was begun with, or run the sweep again."
            )
        return self.encoder.build(train, self.training.precision)

    def optimiser(self, encoder: Encoder) -> Adam:
        """Adam (SSENSE, section 2.5)."""
        return Adam(encoder.parameters(), self.training.learning_rate)

    def step(
        self,
        encoder: Encoder,
        optimiser: Adam,
        train: Pairs,
        index: Tensor,
        masks: torch.Generator,
    ) -> Tensor:
        """Mask the pairs of an index, and take one step on them.

        Returns:
            The loss of the batch before the step, on its device.
        """
        x, text = train.batch(index)
        return train_step(encoder, optimiser, self.masking.apply(x, masks), text, self)

    def rebuild(self, state: Mapping[str, Tensor], pairs: Pairs) -> Encoder:
        """The trained encoder of a state dictionary, on the device of some pairs.

        Raises:
            ValueError: The state is another model's.
        """
        return self.encoder.rebuild(state, self.training.precision).to(pairs.device)

    def learned(self, model: Any) -> dict[str, float]:  # noqa: ARG002
        """Nothing that is worth a curve of its own."""
        return {}

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse a state dictionary of another model; one of the user's own is not looked into.

        Raises:
            ValueError: The state is another model's.
        """
        if not isinstance(self.encoder, OwnSpec):  # whose file a check does not run
            self.encoder.rebuild(state, self.training.precision)

    @torch.inference_mode()
    def embed(self, encoder: Encoder, pairs: Pairs) -> Embeddings:
        """Embed the spectrograms of a part beside its sentences, in evaluation mode.

        Float32 is float32 here as it was in the training, whatever the process allows.
        """
        encoder.eval()
        index = torch.arange(len(pairs), device=pairs.device)
        parts = index.split(max(1, SPECTROGRAMS_PER_PASS // pairs.spectrograms.shape[1]))
        with full_precision(pairs.device.type):
            brain, text = zip(*((encoder(x), t) for x, t in map(pairs.batch, parts)), strict=True)
        stimuli = index if pairs.rows is None else pairs.rows
        return Embeddings(torch.cat(brain), torch.cat(text), index, stimuli)


def train_step(
    encoder: Encoder,
    optimiser: Adam,
    x: Tensor,
    text: Tensor,
    spec: SentenceSpec,
) -> Tensor:
    """Take one step on a masked batch `[B, E, 1, F, T]` and its texts `[B, D]`.

    A single pair has no negatives: its loss and gradient are 0, whatever its embedding. Where it
    can't pass the encoder by itself, there is no step.

    Returns:
        The loss of the batch before the step, on its device.
    """
    if len(x) == 1 and not encoder.trains_on_one(x):
        return torch.zeros((), device=x.device)
    optimiser.zero_grad()
    loss = backward_in_chunks(
        encoder,
        _chunks(encoder, x, spec.training.chunk),
        lambda brain: info_nce(brain, text, spec.objective.temperature),
    )
    optimiser.step()
    return loss


def _chunks(encoder: Encoder, x: Tensor, size: int) -> tuple[Tensor, ...]:
    """Parts of a batch; one pair that can't pass by itself joins the part before it."""
    if not encoder.passes_in_chunks:
        return (x,)
    one_passes = encoder.trains_on_one(x)
    parts: tuple[Tensor, ...] = x.split(size if one_passes else max(size, 2))
    if one_passes:
        return parts
    *others, last = parts
    if others and len(last) == 1:
        return *others[:-1], torch.cat([others[-1], last])
    return *others, last
