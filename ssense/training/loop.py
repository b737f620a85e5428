"""The loop of every training: epochs, validation, early stopping, and what it takes to resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ssense.data.splits import Split
from ssense.retrieval import NonFiniteError, retrieval_metrics
from ssense.training.optimiser import Adam

SELECTION_RANK = 10
SELECTION_METRIC = f"recall@{SELECTION_RANK}"
"""The validation metric by which epochs and configurations are chosen (SSENSE, section 2.5)."""


class Examples(Protocol):
    """A part of a split on one device: brain signals, each paired with its stimulus."""

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        ...

    def __len__(self) -> int:
        """The number of pairs."""
        ...


Model = TypeVar("Model", bound=nn.Module)
Part = TypeVar("Part", bound=Examples, contravariant=True)


class Embeddings(NamedTuple):
    """What a model makes of a part: brain signals as queries, stimuli as candidates.

    Attributes:
        queries: Embeddings `[N, D]` of brain signals.
        candidates: Embeddings `[M, D]` of the stimuli to be retrieved.
        truth: The place `[N]` of each query's own stimulus among the candidates.
        stimuli: The stimulus `[M]` of the dataset that each candidate is.
    """

    queries: Tensor
    candidates: Tensor
    truth: Tensor
    stimuli: Tensor


class Training(Protocol):
    """Settings that the loop of a training needs.

    Attributes:
        precision: Precision that matrix products are computed in.
        batch_size: Pairs of a step.
        patience: Epochs without a better selection metric before training stops.
        max_epochs: The most epochs.
    """

    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def patience(self) -> int: ...  # noqa: D102
    @property
    def max_epochs(self) -> int: ...  # noqa: D102


class OnDevice(Protocol):
    """All examples of a dataset on one device.

    Attributes:
        device: The device.
    """

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    def select(self, rows: np.ndarray) -> Any:
        """The examples of some rows, a part of a split."""
        ...


class Splittable(Protocol):
    """Data that seeds divide: a dataset, or the plan of one."""

    def split(self, kind: Any, seed: int) -> Split:
        """Divide the examples, by one of the kinds that the task has."""
        ...

    def n_candidates(self, split: Split) -> int:
        """How many candidates a query of the validation split has."""
        ...


class Data(Splittable, Protocol):
    """The dataset of a task, which seeds divide.

    Attributes:
        digest: Digest that names the whole origin of the dataset.
        nbytes: Bytes of its arrays.
    """

    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def nbytes(self) -> int: ...  # noqa: D102

    def on(self, device: torch.device) -> OnDevice:
        """All examples on a device."""
        ...


class Specification(Protocol[Model, Part]):
    """What makes a cell's result beside its dataset and seed: a dataclass of parts and values.

    Attributes:
        kind: Name of the task, such as "sentences".
        stimulus: What one stimulus is called, such as "sentence".
        primary: The metric that tests are about.
        recall_at: Ranks that recalls are taken at.
        split: How a seed divides the data.
        shares_test: Whether all seeds share one test split.
        test_blocks: Blocks of neighbours that the stimuli of a shared test split are tested in;
            0 where each stimulus is a unit of its own.
        chosen_by_test: Whether the test itself chooses the epochs, and so the configurations.
        data_groups: Names of the parts that decide which dataset a cell is trained on; its digest
            stands for them.
        training: How its objective is minimised.
    """

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def stimulus(self) -> str: ...  # noqa: D102
    @property
    def primary(self) -> str: ...  # noqa: D102
    @property
    def recall_at(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def split(self) -> str: ...  # noqa: D102
    @property
    def shares_test(self) -> bool: ...  # noqa: D102
    @property
    def test_blocks(self) -> int: ...  # noqa: D102
    @property
    def chosen_by_test(self) -> bool: ...  # noqa: D102
    @property
    def data_groups(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def training(self) -> Training: ...  # noqa: D102

    def by_content(self) -> Self:
        """The same specification, with weights from a file named by their content."""
        ...

    def untrained(self) -> Self:
        """The same specification with random weights, which need no download."""
        ...

    def split_identity(self) -> list[Any]:
        """What the split depends on besides the dataset and the seed, as plain values."""
        ...

    def cell_split(self, split: Split, seed: int) -> Split:
        """The split of a seed as a cell has it: all of its training part, or a share.

        Raises:
            ValueError: The share leaves too few to train on.
        """
        ...

    def resampled_sizes(self, split: Split) -> tuple[int, int]:
        """Examples that seeds draw again for training and test, see `splits.resampled_sizes`."""
        ...

    def initial(self, train: Part) -> Model:
        """The model that training starts from; random weights come from the global generator."""
        ...

    def check_state(self, state: Mapping[str, Tensor]) -> None:
        """Refuse a state dictionary of another model, as far as that shows without any pairs.

        Raises:
            ValueError: The state is another model's.
        """
        ...

    def optimiser(self, model: Model) -> Adam:
        """The optimiser of all that is trained in the model."""
        ...

    def step(
        self,
        model: Model,
        optimiser: Adam,
        train: Part,
        index: Tensor,
        masks: torch.Generator,
    ) -> Tensor:
        """Take one step on the pairs of an index; return the loss before it, on the device."""
        ...

    def rebuild(self, state: Mapping[str, Tensor], examples: Part) -> Model:
        """The trained model of a state dictionary, on the device of some examples.

        Raises:
            ValueError: The state is another model's.
        """
        ...

    def embed(self, model: Model, examples: Part) -> Embeddings:
        """Embed a part in evaluation mode, in the precision that it was trained in."""
        ...

    def learned(self, model: Model) -> dict[str, float]:
        """What a training learned that is worth a curve, by names that begin with `LEARNED`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A trained cell: the history of its epochs and the model of the best one.

    Attributes:
        history: Training loss and validation metrics of each epoch, from 1.
        best_epoch: The first epoch with the highest validation Recall@10.
        weights: State dictionary of that epoch, on the CPU.
    """

    history: list[dict[str, float]]
    best_epoch: int
    weights: dict[str, Tensor]

    @property
    def best(self) -> dict[str, float]:
        """Metrics of the best epoch."""
        return self.history[self.best_epoch - 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Where a training stands after an epoch: all that `fit` needs to resume bitwise the same.

    Its tensors may be those of the running training, not copies, which change with the next epoch:
    write them down before `on_epoch` returns.

    Attributes:
        history: Training loss and validation metrics of each epoch so far, as in `Fit`.
        best_epoch: The best epoch so far, as in `Fit`.
        best_weights: State dictionary of the best epoch, on the CPU.
        weights: State dictionary of this epoch.
        moments: Adam's state by "key/parameter": "exp_avg/resnet.conv1.weight".
        order: State of the generator of the batches' order, uint8.
        masks: State of the generator of the masks, uint8.
    """

    history: tuple[dict[str, float], ...]
    best_epoch: int
    best_weights: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    order: Tensor
    masks: Tensor


LEARNED = "weight of "
"""What the names of learned values begin with in the history of an epoch."""


def validation_metrics(epoch: Mapping[str, float]) -> dict[str, float]:
    """The validation metrics in the history of an epoch."""
    return {
        name: value
        for name, value in epoch.items()
        if name not in ("epoch", "loss") and not name.startswith(LEARNED)
    }


class Stream(IntEnum):
    """Independent random streams of a seed, so that masks don't shift the order of batches.

    NOISE is the global generator's in an epoch, for dropout and the like; SHARE draws the part of
    the training data that a cell has.
    """

    WEIGHTS = 1
    ORDER = 2
    MASKS = 3
    NOISE = 4
    SHARE = 5


def fit(
    train: Part,
    validation: Part,
    specification: Specification[Model, Part],
    seed: int,
    *,
    on_epoch: Callable[[Checkpoint], Any] = lambda _: None,
    resume: Checkpoint | None = None,
) -> Fit:
    """Train with early stopping on validation Recall@10 (SSENSE, section 2.5).

    The same seed gives every configuration the same initial weights and order of batches. An
    interrupted training, resumed from a checkpoint, ends as it would have without interruption.

    Args:
        train: The training split, on the device to train on.
        validation: The validation split, on the same device.
        specification: What is trained, and how.
        seed: Seed of weights, order and masks.
        on_epoch: Function that is called after each epoch with where the training stands.
        resume: Where to resume, reached with the same splits, specification and seed on the same
            kind of device; it is not changed.

    Raises:
        NonFiniteError: The loss of an epoch, or an embedding of its validation, is not finite.
    """
    standing = _Standing.at_start(specification, train, seed)
    if resume is not None:
        standing.resume(resume)
    training, history = specification.training, standing.history
    torch.manual_seed(stream_seed(seed, Stream.NOISE, epoch=len(history)))
    while len(history) < min(training.max_epochs, standing.best_epoch + training.patience):
        loss = _train_epoch(standing, train, specification)
        metrics = evaluate(specification, standing.model, validation)
        standing.add(loss, metrics | specification.learned(standing.model))
        on_epoch(standing.checkpoint())
        torch.manual_seed(stream_seed(seed, Stream.NOISE, epoch=len(history)))
    return Fit(history=history, best_epoch=standing.best_epoch, weights=standing.best_weights)


@dataclass(kw_only=True, eq=False)
class _Standing(Generic[Model]):
    """Where a training stands: all that changes from epoch to epoch.

    Attributes:
        model: The model in training.
        optimiser: The optimiser of the model.
        order: Generator of the batches' order.
        masks: Generator of the masks, on the device of the examples.
        history: Training loss and validation metrics of each epoch so far.
        best_epoch: The best epoch so far; 0 before the first.
        best_weights: State dictionary of the best epoch, on the CPU.
    """

    model: Model
    optimiser: Adam
    order: torch.Generator
    masks: torch.Generator
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def at_start(
        cls, specification: Specification[Model, Part], train: Part, seed: int
    ) -> _Standing[Model]:
        """Before the first epoch of a seed."""
        model = initial_model(specification, train, seed)
        return cls(
            model=model,
            optimiser=specification.optimiser(model),
            order=torch.Generator().manual_seed(stream_seed(seed, Stream.ORDER)),
            masks=torch.Generator(train.device).manual_seed(stream_seed(seed, Stream.MASKS)),
        )

    def resume(self, reached: Checkpoint) -> None:
        """Take up a training where a checkpoint of it was made."""
        self.history += reached.history
        self.best_epoch, self.best_weights = reached.best_epoch, dict(reached.best_weights)
        self.model.load_state_dict(reached.weights)
        _set_moments(self.optimiser, self.model, reached.moments)
        self.order.set_state(reached.order)
        self.masks.set_state(reached.masks)

    def add(self, loss: float, metrics: Mapping[str, float]) -> None:
        """Note an epoch that has ended, and keep its weights where it is the best so far."""
        best = self.history[self.best_epoch - 1] if self.best_epoch else None
        self.history.append({"epoch": len(self.history) + 1, "loss": loss, **metrics})
        if best is None or metrics[SELECTION_METRIC] > best[SELECTION_METRIC]:
            self.best_epoch, self.best_weights = len(self.history), _cpu_copy(self.model)

    def checkpoint(self) -> Checkpoint:
        """All that it takes to resume here; its tensors are those of the training, not copies."""
        return Checkpoint(
            history=tuple(self.history),
            best_epoch=self.best_epoch,
            best_weights=self.best_weights,
            weights=self.model.state_dict(),
            moments=_moments(self.optimiser, self.model),
            order=self.order.get_state(),
            masks=self.masks.get_state(),
        )


def evaluate(
    specification: Specification[Model, Part], model: Model, examples: Part
) -> dict[str, float]:
    """Retrieval metrics of a part among its own stimuli, the selection metric among them.

    Raises:
        NonFiniteError: An embedding is not finite.
    """
    found = specification.embed(model, examples)
    return retrieval_metrics(found.queries, found.candidates, found.truth, specification.recall_at)


def initial_model(specification: Specification[Model, Part], train: Part, seed: int) -> Model:
    """The model that the training of a seed starts from, on the device of the examples."""
    torch.manual_seed(stream_seed(seed, Stream.WEIGHTS))
    return specification.initial(train).to(train.device)


def stream_seed(seed: int, stream: Stream, epoch: int = 0) -> int:
    """Derive the seed of a random stream; those of distinct arguments are independent."""
    return int(np.random.SeedSequence([seed, stream, epoch]).generate_state(1, np.uint64)[0])


def _train_epoch(
    standing: _Standing[Model], train: Part, specification: Specification[Model, Part]
) -> float:
    model, optimiser, masks = standing.model, standing.optimiser, standing.masks
    model.train()
    total = torch.zeros((), device=train.device)  # summed on the device: no wait inside the epoch
    shuffled = torch.randperm(len(train), generator=standing.order).to(train.device)
    for index in shuffled.split(specification.training.batch_size):
        total += specification.step(model, optimiser, train, index, masks) * len(index)
    mean = total.item() / len(train)
    if not np.isfinite(mean):
        raise NonFiniteError(f"the training loss became {mean}")
    return mean


def _cpu_copy(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()
    }


def _moments(optimiser: Adam, model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{key}/{name}": tensor
        for name, parameter in model.named_parameters()
        for key, tensor in optimiser.state.get(parameter, {}).items()
    }


def _set_moments(optimiser: Adam, model: nn.Module, moments: Mapping[str, Tensor]) -> None:
    for label, tensor in moments.items():
        key, _, name = label.partition("/")
        parameter = model.get_parameter(name)
        # In the parameter's order in memory, which the kernel takes for granted.
        like = parameter if tensor.shape == parameter.shape else tensor
        kept = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device)
        optimiser.state[parameter][key] = kept.copy_(tensor)
