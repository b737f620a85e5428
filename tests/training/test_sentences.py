from __future__ import annotations

import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import chain, count, product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from upath import UPath

from ssense.data.dataset import Dataset, Pairs
from ssense.model.encoders.spectrogram_encoder import (
    ResNetSpec,
    SpectrogramEncoder,
    build_encoder,
)
from ssense.model.losses import info_nce
from ssense.model.masking import Masking
from ssense.retrieval import METRICS, NonFiniteError, chance_metrics
from ssense.specification import configured, field_names
from ssense.training import loop
from ssense.training import sentences as module
from ssense.training.checkpoint import CheckpointFile
from ssense.training.loop import (
    Checkpoint,
    Fit,
    Stream,
    evaluate,
    fit,
    initial_model,
    stream_seed,
)
from ssense.training.sentences import SentenceSpec, TrainingSpec

N, ELECTRODES, SIDE, LATENT = 64, 2, 17, 4
TRAIN, VALIDATION = np.arange(40), np.arange(40, N)
MASKED = Masking(electrode=0.5, frequency=0.25, time=0.25)


def embed(encoder, pairs):
    """Embeddings of spectrograms and of their sentences."""
    return SentenceSpec().embed(encoder, pairs)[:2]


def spec(**settings) -> SentenceSpec:
    """A specification with some fields replaced, by the last part of their names."""
    names = {name.rpartition(".")[2]: name for name in field_names(SentenceSpec)}
    values = {"weights": "random", "batch_size": 16, "max_epochs": 2} | settings
    return configured(
        SentenceSpec(), {names.get(name, name): value for name, value in values.items()}
    )


def separable(noise: float = 0.3) -> Pairs:
    """Spectrograms and sentences that are two linear views of the same few latent numbers."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((N, LATENT))
    text = latent @ rng.standard_normal((LATENT, 512))
    pattern = (latent @ rng.standard_normal((LATENT, SIDE * SIDE))).reshape(N, 1, SIDE, SIDE)
    x = pattern + noise * rng.standard_normal((N, ELECTRODES, SIDE, SIDE))
    return Dataset(
        digest="0",
        spectrograms=x.astype(np.float16),
        targets=(text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32),
        stimuli=tuple(map(str, range(N))),
        spans_s=np.arange(2.0 * N).reshape(N, 2),
    ).on(torch.device("cpu"))


@dataclass(frozen=True)
class Recorded(Pairs):
    """Pairs that note every index a batch was asked for."""

    asked: list[list[int]] = field(default_factory=list)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(index.tolist())
        return super().batch(index)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return separable()


@pytest.fixture(scope="module")
def train(pairs) -> Pairs:
    return pairs.select(TRAIN)


@pytest.fixture(scope="module")
def validation(pairs) -> Pairs:
    return pairs.select(VALIDATION)


@pytest.fixture(scope="module")
def short(train, validation) -> Fit:
    return fit(train, validation, spec(masking=MASKED), seed=3)


def recorded(pairs: Pairs) -> Recorded:
    return Recorded(pairs.spectrograms, pairs.targets, pairs.rows)


def equal_states(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def copied(encoder: SpectrogramEncoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


# ---------------------------------------------------------------- learning


def test_an_encoder_learns_what_can_be_learnt(train, validation):
    result = fit(train, validation, spec(max_epochs=6, learning_rate=1e-3), seed=0)
    losses = [epoch["loss"] for epoch in result.history]
    assert losses[0] > 2 > 1 > losses[-1]
    chance = chance_metrics(len(validation))
    assert result.best["recall@10"] > chance["recall@10"] + 0.2
    assert result.best["mrr"] > 1.5 * chance["mrr"]


def test_epochs_are_those_of_a_hand_written_loop(train, short):
    """With no evaluation in between: it must not disturb the training."""
    torch.manual_seed(stream_seed(3, Stream.WEIGHTS))
    encoder = spec().initial(train).train()
    optimiser = torch.optim.Adam(encoder.parameters(), lr=5e-4, fused=True)
    order, masks = (
        torch.Generator().manual_seed(stream_seed(3, stream))
        for stream in (Stream.ORDER, Stream.MASKS)
    )
    for epoch in short.history:
        loss_sum = 0.0
        for index in torch.randperm(40, generator=order).split(16):
            x, text = train.batch(index)
            loss = info_nce(encoder(MASKED.apply(x, masks)), text, 0.07)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += loss.item() * len(index)  # the last batch has 8 pairs
        assert epoch["loss"] == pytest.approx(loss_sum / 40, rel=1e-6)


# ---------------------------------------------------------------- a single pair


def one_electrode(pairs: Pairs) -> Pairs:
    return Pairs(pairs.spectrograms[:, :1], pairs.targets)


@pytest.mark.parametrize("electrodes", [1, 2])
def test_a_last_batch_of_one_pair_ends_no_training(pairs, electrodes):
    some = Pairs(pairs.spectrograms[:, :electrodes], pairs.targets)
    train, validation = some.select(np.arange(33)), some.select(VALIDATION)
    result = fit(train, validation, spec(max_epochs=1), seed=0)
    assert np.isfinite(result.history[0]["loss"])
    assert result.history[0]["loss"] > 1


def test_a_pair_that_cannot_pass_by_itself_has_a_loss_of_0_and_changes_nothing(pairs):
    training, alone = spec(), one_electrode(pairs)
    encoder = build_encoder("random", dimensions=512).train()
    optimiser, masks = training.optimiser(encoder), torch.Generator().manual_seed(0)
    training.step(encoder, optimiser, alone, torch.arange(8), masks)
    before = copied(encoder)
    loss = training.step(encoder, optimiser, alone, torch.tensor([9]), masks)
    assert (loss.shape, loss.item()) == ((), 0)
    assert equal_states(copied(encoder), before)


def test_a_pair_that_can_pass_by_itself_has_a_loss_of_0_and_takes_adam_s_step(pairs):
    """As the paper's loop would: the gradient is 0, the moments of earlier steps are not."""
    training = spec()
    encoder = build_encoder("random", dimensions=512).train()
    optimiser, masks = training.optimiser(encoder), torch.Generator().manual_seed(0)
    training.step(encoder, optimiser, pairs, torch.arange(8), masks)
    before = copied(encoder)
    loss = training.step(encoder, optimiser, pairs, torch.tensor([9]), masks)
    assert loss.item() == 0
    assert all(not parameter.grad.any() for parameter in encoder.parameters())
    assert not equal_states(copied(encoder), before)


@pytest.mark.parametrize(("n", "chunk", "parts"), [(9, 4, [4, 5]), (5, 1, [2, 3]), (8, 4, [4, 4])])
def test_a_pair_left_over_by_chunks_joins_the_chunk_before_it(pairs, n, chunk, parts):
    alone, seen = one_electrode(pairs), []
    encoder = build_encoder("random", dimensions=512).train()
    encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    training = spec(chunk=chunk)
    optimiser, masks = training.optimiser(encoder), torch.Generator().manual_seed(0)
    loss = training.step(encoder, optimiser, alone, torch.arange(n), masks)
    assert loss > 0
    assert seen == 2 * parts  # without a graph, then with one


def test_chunks_stay_as_they_are_where_a_single_pair_can_pass(pairs):
    seen: list[int] = []
    encoder = build_encoder("random", dimensions=512).train()
    encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    training = spec(chunk=4)
    optimiser, masks = training.optimiser(encoder), torch.Generator().manual_seed(0)
    training.step(encoder, optimiser, pairs, torch.arange(9), masks)
    assert seen == 2 * [4, 4, 1]


def test_a_batch_size_of_one_is_refused():
    with pytest.raises(
        ValueError, match="batch_size must be at least 2, got 1: negatives are the other pairs"
    ):
        SentenceSpec(training=TrainingSpec(batch_size=1))


def test_the_history_names_epoch_loss_and_metrics(short):
    assert [epoch["epoch"] for epoch in short.history] == [1, 2]
    assert {tuple(epoch) for epoch in short.history} == {("epoch", "loss", *METRICS)}
    assert short.best is short.history[short.best_epoch - 1]


@pytest.mark.parametrize("dimensions", [24, 768])
def test_embeddings_have_the_dimensions_of_the_targets(train, validation, dimensions):
    tower = torch.randn(512, dimensions, generator=torch.Generator().manual_seed(0))
    parts = [replace(part, targets=part.targets @ tower) for part in (train, validation)]
    trained = fit(*parts, spec(max_epochs=1), seed=3)
    found = spec().embed(spec().rebuild(trained.weights, parts[1]), parts[1])
    assert found.queries.shape == found.candidates.shape == (len(parts[1]), dimensions)
    assert evaluate(spec(), spec().rebuild(trained.weights, parts[1]), parts[1]) == {
        name: trained.best[name] for name in METRICS
    }


def test_the_stored_encoder_scores_what_the_history_says(validation, short):
    encoder = SpectrogramEncoder(dimensions=512)
    encoder.load_state_dict(short.weights)
    metrics = evaluate(spec(), encoder, validation)
    assert metrics == {name: short.best[name] for name in METRICS}


# ---------------------------------------------------------------- precision and chunks


@pytest.mark.slow
def test_bf16_scores_as_float32_does_within_the_noise_between_seeds(train, validation):
    scores = np.array(
        [
            [
                fit(
                    train,
                    validation,
                    spec(max_epochs=5, learning_rate=1e-3, precision=precision),
                    seed,
                ).best["mrr"]
                for precision in ("bf16", "float32")
            ]
            for seed in range(6)
        ]
    )
    assert scores.mean() > 2 * chance_metrics(len(validation))["mrr"]
    noise = np.sqrt(scores.var(axis=0, ddof=1).sum() / len(scores))
    assert abs(scores[:, 0].mean() - scores[:, 1].mean()) < 4 * noise


def test_chunks_of_a_batch_are_other_numbers_and_learn_as_well(train, validation):
    whole, chunked = (
        fit(train, validation, spec(max_epochs=6, learning_rate=1e-3, chunk=chunk), seed=0)
        for chunk in (16, 6)
    )
    assert chunked.history[0]["loss"] != whole.history[0]["loss"]
    assert chunked.history[-1]["loss"] < chunked.history[0]["loss"] / 2
    assert chunked.best["recall@10"] > chance_metrics(len(validation))["recall@10"] + 0.2


# ---------------------------------------------------------------- one seed, one result


def test_two_fits_are_bitwise_equal(train, validation, short):
    fit(train, validation, spec(max_epochs=1), seed=9)  # leaves other random states behind
    again = fit(train, validation, spec(masking=MASKED), seed=3)
    assert again.history == short.history
    assert again.best_epoch == short.best_epoch
    assert equal_states(again.weights, short.weights)


def test_another_seed_is_another_result(train, validation, short):
    other = fit(train, validation, spec(masking=MASKED), seed=4)
    assert other.history[0]["loss"] != short.history[0]["loss"]


def test_masks_change_neither_weights_nor_batches(train, validation, monkeypatch):
    weights, orders, losses = [], [], []
    build = ResNetSpec.build

    def build_and_note(*arguments) -> SpectrogramEncoder:
        encoder = build(*arguments)
        weights.append(copied(encoder))
        return encoder

    monkeypatch.setattr(ResNetSpec, "build", build_and_note)
    for masking in (Masking(), MASKED):
        seen = recorded(train)
        result = fit(seen, validation, spec(masking=masking), seed=5)
        orders.append(seen.asked)
        losses.append(result.history[0]["loss"])
    assert equal_states(*weights)
    assert orders[0] == orders[1]
    assert losses[0] != losses[1]


def test_every_epoch_sees_each_pair_once_in_its_own_order(train, validation):
    seen = recorded(train)
    fit(seen, validation, spec(), seed=0)
    assert [len(batch) for batch in seen.asked] == [16, 16, 8] * 2
    epochs = [list(chain(*seen.asked[:3])), list(chain(*seen.asked[3:]))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("chunk", [4, 8])
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_no_value_is_read_within_an_epoch(pairs, validation, host_reads, precision, chunk):
    setting = spec(masking=MASKED, batch_size=8, chunk=chunk, precision=precision, max_epochs=1)
    counts = []
    for batches in (1, 4):
        with host_reads() as reads:
            fit(pairs.select(TRAIN[: 8 * batches]), validation, setting, seed=0)
        counts.append(reads.count)
    assert counts[0] == counts[1] > 0


def test_streams_of_all_seeds_differ():
    seeds = {stream_seed(*pair) for pair in product(range(300), Stream)}
    assert len(seeds) == 300 * len(Stream)
    assert max(seeds) < 2**64


# ---------------------------------------------------------------- what a fit can read


def test_rows_outside_both_splits_change_nothing(pairs, short):
    """The test split is out of reach: here it holds nothing but NaN."""
    unread = 30
    with_test = Pairs(
        torch.cat([torch.full_like(pairs.spectrograms[:unread], torch.nan), pairs.spectrograms]),
        torch.cat([torch.full_like(pairs.targets[:unread], torch.nan), pairs.targets]),
    )
    splits = (with_test.select(rows + unread) for rows in (TRAIN, VALIDATION))
    again = fit(*splits, spec(masking=MASKED), seed=3)
    assert again.history == short.history


def test_validation_pairs_are_not_masked_and_not_trained_on(train, validation):
    seen = recorded(validation)
    result = fit(train, seen, spec(masking=Masking(electrode=0.5)), seed=0)
    assert seen.asked == [list(range(24))] * 2
    encoder = SpectrogramEncoder(dimensions=512)
    encoder.load_state_dict(result.weights)
    brain, _ = embed(encoder, validation)
    with torch.inference_mode():
        x, _ = validation.batch(torch.arange(24))
        torch.testing.assert_close(brain, encoder.eval()(x), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- embedding and evaluation


@pytest.fixture(scope="module")
def encoder() -> SpectrogramEncoder:
    torch.manual_seed(0)
    return build_encoder("random", dimensions=512)


@pytest.mark.parametrize("images", [1, 15, 24 * ELECTRODES - 1])
def test_embeddings_do_not_depend_on_how_many_pass_together(
    encoder, validation, images, monkeypatch
):
    before = copied(encoder)
    expected, _ = embed(encoder.train(), validation)
    monkeypatch.setattr(module, "SPECTROGRAMS_PER_PASS", images)
    brain, sentences = embed(encoder.train(), validation)
    torch.testing.assert_close(brain, expected, rtol=1e-4, atol=1e-4)
    assert sentences.equal(validation.targets[validation.rows])
    assert equal_states(copied(encoder), before)  # running statistics too


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_embeddings_do_not_depend_on_what_the_process_allows(validation, precision):
    encoder = build_encoder("random", precision=precision, dimensions=512)
    expected, _ = embed(encoder, validation)
    allowed = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        found, _ = embed(encoder, validation)
        assert torch.backends.mkldnn.conv.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.conv.fp32_precision = allowed
    assert found.equal(expected)


def test_a_split_s_candidates_are_its_own_sentences(validation):
    class Oracle(SpectrogramEncoder):
        """Knows the sentence of each validation pair, in their order."""

        def forward(self, x: Tensor) -> Tensor:
            start, self.seen = getattr(self, "seen", 0), getattr(self, "seen", 0) + len(x)
            return validation.targets[validation.rows][start : start + len(x)]

    assert evaluate(spec(), Oracle(dimensions=512), validation) == dict.fromkeys(METRICS, 1.0)


# ---------------------------------------------------------------- stopping


Scripted = Callable[..., tuple[Fit, list[dict[str, Tensor]]]]


@pytest.fixture
def scripted(train, validation, monkeypatch) -> Scripted:
    """Fit with validation Recall@10 as scripted; also the encoder's state after each epoch."""

    def run(scores: list[float], **settings) -> tuple[Fit, list[dict[str, Tensor]]]:
        states: list[dict[str, Tensor]] = []

        def scores_of(_: SentenceSpec, encoder: SpectrogramEncoder, __: Pairs) -> dict[str, float]:
            states.append(copied(encoder))
            return dict.fromkeys(METRICS, 0.0) | {"recall@10": scores[len(states) - 1]}

        monkeypatch.setattr(loop, "evaluate", scores_of)
        few = train.select(np.arange(8))
        return fit(few, validation, spec(**{"max_epochs": 100} | settings), seed=0), states

    return run


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([0.5] * 9, 3, 4, 1),  # a tie is no improvement, and the first is the best
        ([0.1, 0.2, 0.2, 0.1, 0.2, 0.9], 3, 5, 2),
        ([0.1, 0.2, 0.1, 0.1, 0.3, 0.3, 0.3, 0.3, 0.9], 3, 8, 5),
        ([0.9, 0.1, 0.2, 0.3, 0.4, 0.5], 5, 6, 1),  # rising again is no improvement on the best
        ([0.0, 0.0, 0.9], 1, 2, 1),
        ([0.0] * 9, 5, 6, 1),  # even a zero is a best
    ],
)
def test_training_stops_after_epochs_without_improvement(scripted, scores, patience, epochs, best):
    result, states = scripted(scores, patience=patience)
    assert len(result.history) == len(states) == epochs
    assert result.best_epoch == best
    assert result.best["recall@10"] == max(scores[:epochs])


@pytest.mark.parametrize("max_epochs", [1, 4])
def test_training_stops_at_the_last_epoch(scripted, max_epochs):
    result, _ = scripted([0.1, 0.2, 0.3, 0.4, 0.5], max_epochs=max_epochs)
    assert len(result.history) == result.best_epoch == max_epochs


def test_the_best_weights_is_that_of_its_epoch(scripted):
    result, states = scripted([0.1, 0.5, 0.2, 0.3], patience=2)
    assert result.best_epoch == 2
    matches = [equal_states(result.weights, state) for state in states]
    assert matches == [False, True, False, False]
    assert {tensor.device.type for tensor in result.weights.values()} == {"cpu"}
    assert not any(tensor.requires_grad for tensor in result.weights.values())


def test_each_epoch_is_reported_as_it_ends(train, validation):
    reported = []
    result = fit(train, validation, spec(), seed=0, on_epoch=reported.append)
    assert [list(checkpoint.history) for checkpoint in reported] == [
        result.history[:1],
        result.history,
    ]


def test_a_report_can_end_the_training(train, validation):
    with pytest.raises(Interrupted):
        fit(train, validation, spec(max_epochs=50), seed=0, on_epoch=Interruption(1))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_is_an_error(pairs, value):
    broken = Pairs(pairs.spectrograms.clone(), pairs.targets)
    broken.spectrograms[7, 0, 3, 3] = value
    with pytest.raises(NonFiniteError, match="the training loss became nan"):
        fit(broken.select(TRAIN), broken.select(VALIDATION), spec(), seed=0)


def test_so_is_a_last_step_whose_weights_the_validation_meets_first(train, validation):
    diverging = spec(batch_size=len(TRAIN), learning_rate=1e38)
    with pytest.raises(NonFiniteError, match="embeddings must be finite"):
        fit(train, validation, diverging, seed=0)


# ---------------------------------------------------------------- resuming


class Interrupted(Exception):  # noqa: N818 - not an error
    """Ends a training from within."""


@dataclass
class Interruption:
    """Writes the checkpoint of one epoch, where there is a file to write to, and ends the training.

    The clock jumps, so that writing is always worthwhile.
    """

    epoch: int
    file: CheckpointFile | None = None

    def __call__(self, checkpoint: Checkpoint) -> None:
        if len(checkpoint.history) == self.epoch:
            assert self.file is None or self.file.save_if_worthwhile(checkpoint)
            raise Interrupted


def checkpoint_file(folder: Path) -> CheckpointFile:
    return CheckpointFile(UPath(folder) / "checkpoint", {}, clock=count(0, 1000).__next__)


SCORES = (0.2, 0.1, 0.5, 0.3, 0.4)  # the best epoch is 1, 1, 3, 3 and 3; no better one follows


def five_epochs(train: Pairs, validation: Pairs, **settings) -> Fit:
    """Fit until it stops early, with validation Recall@10 as scripted and all else real."""
    resume: Checkpoint | None = settings.get("resume")
    scores = iter(SCORES[len(resume.history) if resume else 0 :])

    def scripted_recall(*arguments) -> dict[str, float]:
        return evaluate(*arguments) | {"recall@10": next(scores)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate", scripted_recall)
        few = train.select(np.arange(12))
        setting = spec(masking=MASKED, batch_size=8, patience=2, max_epochs=100)
        return fit(few, validation, setting, seed=1, **settings)


@pytest.fixture(scope="module")
def uninterrupted(train, validation) -> tuple[Fit, Tensor]:
    """A result, and the global random state that it leaves behind."""
    result = five_epochs(train, validation)
    assert (len(result.history), result.best_epoch) == (5, 3)
    return result, torch.get_rng_state()


def assert_bitwise_equal(one: Fit, other: Fit) -> None:
    assert one.history == other.history
    assert one.best_epoch == other.best_epoch
    assert equal_states(one.weights, other.weights)


@pytest.mark.parametrize("epoch", range(1, 6))
def test_interrupted_after_any_epoch_a_resumed_fit_is_bitwise_equal(
    epoch, train, validation, uninterrupted, tmp_path
):
    expected, random_state = uninterrupted
    file = checkpoint_file(tmp_path)
    with pytest.raises(Interrupted):
        five_epochs(train, validation, on_epoch=Interruption(epoch, file))
    torch.manual_seed(epoch)
    resume = checkpoint_file(tmp_path).load()
    reported: list[Checkpoint] = []
    result = five_epochs(train, validation, resume=resume, on_epoch=reported.append)
    assert [len(checkpoint.history) for checkpoint in reported] == list(range(epoch + 1, 6))
    assert_bitwise_equal(result, expected)
    assert torch.get_rng_state().equal(random_state)
    file.delete()


@pytest.mark.parametrize("batch_norm", ["chunk", "frozen"])
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_every_kind_of_training_is_bitwise_the_same_after_an_interruption(
    precision, batch_norm, train, validation, tmp_path
):
    setting = spec(masking=MASKED, precision=precision, batch_norm=batch_norm, chunk=5)
    straight = fit(train, validation, setting, seed=3)
    file = checkpoint_file(tmp_path)
    with pytest.raises(Interrupted):
        fit(train, validation, setting, seed=3, on_epoch=Interruption(1, file))
    resume = checkpoint_file(tmp_path).load()
    assert_bitwise_equal(fit(train, validation, setting, seed=3, resume=resume), straight)
    file.delete()


def killed_in_the_third_epoch(folder: str) -> None:
    """What the test below runs in a process of its own: it hangs until it is killed."""

    class Hanging(Pairs):
        asked = count(1)

        def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
            if next(self.asked) == 8:  # of 3 batches in each epoch
                print("in the middle of an epoch", flush=True)
                time.sleep(600)
            return super().batch(index)

    torch.set_num_threads(1)
    pairs = separable()
    train = pairs.select(TRAIN)
    fit(
        Hanging(train.spectrograms, train.targets, train.rows),
        pairs.select(VALIDATION),
        spec(masking=MASKED, max_epochs=3),
        seed=3,
        on_epoch=lambda checkpoint: checkpoint_file(Path(folder)).save_if_worthwhile(checkpoint),
    )


def test_killed_in_the_middle_of_an_epoch_a_resumed_fit_is_bitwise_equal(
    train, validation, tmp_path
):
    script = "import sys; sys.path.insert(0, sys.argv[1]); import test_sentences as t; "
    script += "t.killed_in_the_third_epoch(sys.argv[2])"
    arguments = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "in the middle of an epoch\n"
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    file = checkpoint_file(tmp_path)
    resume = file.load()
    assert len(resume.history) == 2
    setting = spec(masking=MASKED, max_epochs=3)
    result = fit(train, validation, setting, seed=3, resume=resume)
    assert_bitwise_equal(result, fit(train, validation, setting, seed=3))
    file.delete()


def test_what_a_fit_resumes_from_is_left_as_it_was(train, validation, short):
    kept: list[Checkpoint] = []
    with pytest.raises(Interrupted):
        fit(
            train,
            validation,
            spec(masking=MASKED),
            seed=3,
            on_epoch=lambda checkpoint: (kept.append(checkpoint), Interruption(1)(checkpoint)),
        )
    for _ in range(2):
        again = fit(train, validation, spec(masking=MASKED), seed=3, resume=kept[0])
        assert_bitwise_equal(again, short)


def test_global_random_states_change_nothing(train, validation, short):
    def draw(_: Checkpoint) -> None:
        torch.rand(3), np.random.random(3), random.random()  # noqa: NPY002

    disturbed = fit(train, validation, spec(masking=MASKED), seed=3, on_epoch=draw)
    assert_bitwise_equal(disturbed, short)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_on_cuda_no_step_waits_for_the_device(pairs, precision):
    on_cuda = Pairs(pairs.spectrograms.cuda(), pairs.targets.cuda())
    setting = spec(masking=MASKED, precision=precision, chunk=4)
    encoder = initial_model(setting, on_cuda, seed=0)
    optimiser = setting.optimiser(encoder)
    index, masks = torch.arange(8, device="cuda"), torch.Generator("cuda").manual_seed(0)
    setting.step(encoder, optimiser, on_cuda, index, masks)  # loads libraries, makes the moments
    torch.cuda.set_sync_debug_mode("error")
    try:
        setting.step(encoder, optimiser, on_cuda, index, masks)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_resumed_fit_on_cuda_draws_the_same_batches_and_masks(pairs, tmp_path):
    on_cuda = Pairs(pairs.spectrograms.cuda(), pairs.targets.cuda())
    splits = on_cuda.select(TRAIN), on_cuda.select(VALIDATION)
    setting = spec(masking=MASKED, max_epochs=3)
    last: list[Checkpoint] = []
    straight = fit(*splits, setting, seed=3, on_epoch=last.append)
    with pytest.raises(Interrupted):
        fit(*splits, setting, seed=3, on_epoch=Interruption(1, checkpoint_file(tmp_path)))
    resume = checkpoint_file(tmp_path).load()
    resumed = fit(*splits, setting, seed=3, resume=resume, on_epoch=last.append)
    assert last[-1].masks.equal(last[2].masks)
    assert last[-1].order.equal(last[2].order)
    # Unless told otherwise, cuDNN adds in an order of its own.
    losses = [epoch["loss"] for epoch in straight.history]
    assert [epoch["loss"] for epoch in resumed.history] == pytest.approx(losses, rel=1e-2)


# ---------------------------------------------------------------- the specification


def test_defaults_are_the_paper_s():
    default = SentenceSpec()
    assert (
        default.training.learning_rate,
        default.objective.temperature,
        default.training.patience,
    ) == (5e-4, 0.07, 5)
    assert default.masking == Masking()


@pytest.mark.parametrize(
    "name", ["batch_size", "learning_rate", "temperature", "patience", "max_epochs", "chunk"]
)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_values_that_are_not_positive_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be positive, got {value}"):
        spec(**{name: value})
