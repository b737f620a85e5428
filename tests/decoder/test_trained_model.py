from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segment_signals import read_segments
from ssense.engine.sweep_data import sweep_dataset
from ssense.errors import UserError
from ssense.retrieval import retrieval_metrics, retrieval_ranks
from ssense.training.loop import evaluate
from ssense.training.process import any_device


@pytest.fixture(scope="module")
def pairs(result):
    return sweep_dataset(result.ledger).on(any_device())


def test_embeddings_of_the_recording_are_those_of_the_evaluation(model, recording, result, pairs):
    """Of the validation split, whose metrics the ledger has, and the training split."""
    split, stimuli = result.dataset.split(model.seed), result.dataset.stimuli
    mine = model.stimuli(recording)
    allowed = np.sort(np.concatenate([split.train, split.validation]))
    numbers = stimuli["sentence_idx"].to_numpy()
    assert mine["sentence_idx"].tolist() == numbers[allowed].tolist()  # none of the test
    assert mine["text"].tolist() == stimuli["text"].iloc[allowed].tolist()
    found = model.embed(recording)
    wanted = model.specification.embed(model.encoder, pairs.select(allowed)).queries
    np.testing.assert_allclose(found, normalize(wanted, dim=1).cpu().numpy(), atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    validation = pairs.select(split.validation)
    best = result.record(model.signature).best
    metrics = evaluate(model.specification, model.encoder, validation)
    assert metrics == pytest.approx({name: best[name] for name in metrics}, abs=1e-6)
    rows = np.searchsorted(allowed, split.validation)
    texts = torch.from_numpy(result.dataset.targets[split.validation])
    own = torch.arange(len(rows))
    assert retrieval_metrics(torch.from_numpy(found[rows]), texts, own) == pytest.approx(metrics)


def test_only_of_its_own_recording_is_the_test_split_left_out(model, recording, result):
    n_test = len(result.dataset.split(model.seed).test)
    edited = dataclasses.replace(model, recording_digest="of another")
    assert edited.stimuli(recording).equals(model.stimuli(recording))  # by texts and onsets
    others = [dataclasses.replace(each, onset_s=0.0) for each in model.held_out_sentences]
    another = dataclasses.replace(edited, held_out_sentences=tuple(others))
    assert len(another.stimuli(recording)) - len(model.stimuli(recording)) == n_test
    everything = frozenset(result.dataset.stimuli["sentence_idx"])
    with pytest.raises(UserError, match="has no sentence but those of the model's test split"):
        dataclasses.replace(model, held_out=everything).embed(recording)


def test_ranks_are_those_of_the_metrics_ties_included(model):
    """Candidates repeat, as sentences do: equal ones share a mid-rank."""
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((600, 16)).astype(np.float32)  # more than a block
    candidates = rng.standard_normal((40, 16)).astype(np.float32)[rng.integers(0, 30, 50)]
    truth = rng.integers(0, 50, 600)
    found = model.retrieve(queries, candidates, k=50)
    assert len(found) == 600 * 50
    own = found[found["candidate"] == truth[found["query"]]].sort_values("query")
    tensors = map(torch.from_numpy, (queries, candidates, truth))
    assert own["rank"].tolist() == retrieval_ranks(*tensors).tolist()
    by_query = found.groupby("query")
    assert by_query["rank"].apply(lambda ranks: ranks.is_monotonic_increasing).all()
    assert by_query["cosine_similarity"].apply(lambda c: c.is_monotonic_decreasing).all()
    first = found.iloc[0]
    one, other = queries[0].astype(float), candidates[first["candidate"]].astype(float)
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert first["cosine_similarity"] == pytest.approx(cosine)


def test_sentences_are_retrieved_by_the_sweep_s_own_target(model, recording, result):
    split, stimuli = result.dataset.split(model.seed), result.dataset.stimuli
    texts = [*stimuli["text"].iloc[split.validation[:5]], "A sentence that nobody said."]
    found = model.retrieve(recording, texts, k=2)
    assert list(found) == ["query", "sentence", "rank", "candidate", "cosine_similarity"]
    assert found["sentence"].tolist() == np.repeat(model.stimuli(recording)["text"], 2).tolist()
    assert {*found["candidate"]} <= {*texts}
    embedded = model.embed_texts(texts)
    np.testing.assert_allclose(
        embedded[:5], result.dataset.targets[split.validation[:5]], atol=1e-6
    )
    by_embeddings = model.retrieve(model.embed(recording), embedded, k=2)
    assert [texts[place] for place in by_embeddings["candidate"]] == found["candidate"].tolist()
    assert by_embeddings["sentence"].isna().all()
    np.testing.assert_allclose(
        by_embeddings["cosine_similarity"], found["cosine_similarity"], atol=1e-6
    )


def test_segments_as_arrays_are_embedded_as_those_of_the_recording(model, recording):
    segments = model.preprocessing.segments(recording)
    rows = [row for row, n in enumerate(segments.sentence_idx) if n not in model.held_out][:4]
    wanted = model.embed(recording)[:4]
    prepared = read_segments(recording, segments, model.preprocessing.data, rows)
    np.testing.assert_allclose(model.embed(prepared, prepared=True), wanted, atol=1e-6)
    np.testing.assert_allclose(
        model.embed(torch.from_numpy(prepared), prepared=True), wanted, atol=1e-6
    )
    raw = []
    for row in rows:
        span = [(int(segments.start[row]) - model.lead_samples, int(segments.stop[row]))]
        raw.append(np.stack([recording.read_channel(name, span)[0] for name in model.contacts]))
    found = model.embed(raw, lead_samples=model.lead_samples)
    assert (found * wanted).sum(axis=1) == pytest.approx(np.ones(4), abs=1e-3)
    retrieved = model.retrieve(raw, wanted, k=1, lead_samples=model.lead_samples)
    assert retrieved["candidate"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "candidates are empty"),
        ("She left.", "candidates are one text, She left."),
        (["She left.", 3], "candidate 1 is 3, no text"),
        (["She left.", "  "], "candidate 1 is ' ', no text"),
        (7, "candidates are of the type int"),
        (np.ones((2, 3)), "candidates have 3 dimensions, and the embeddings of the signals 4"),
        (np.full((2, 4), np.nan), "candidates hold NaN or infinity"),
        (np.ones((0, 4)), r"candidates are float64 [0, 4], not numbers [N, D]"),
    ],
)
def test_candidates_that_can_t_be_retrieved_are_refused(model, candidates, message):
    with pytest.raises(UserError) as refused:
        model.retrieve(np.ones((2, 4)), candidates)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("k", [0, 1.5, True])
def test_a_number_of_candidates_that_makes_no_sense_is_refused(model, k):
    with pytest.raises(UserError, match="k must be a whole number from 1"):
        model.retrieve(np.ones((2, 4)), np.ones((2, 4)), k=k)


def test_embeddings_that_are_not_finite_are_refused(model):
    with pytest.raises(UserError, match="embeddings of signals hold NaN or infinity"):
        model.retrieve(np.full((2, 4), np.inf), np.ones((2, 4)))


def test_a_recording_in_memory_is_embedded_as_the_one_it_was_taken_from(model, recording):
    segments, rate_hz = model.preprocessing.segments(recording), recording.sampling_rate_hz
    before, after = model.preprocessing.data.context_samples(recording)
    whole = [(0, recording.n_samples)]
    signals = [recording.read_channel(name, whole)[0] for name in model.contacts]
    onset, offset = (segments.start + before) / rate_hz, (segments.stop - after) / rate_hz
    sentences = {"onset": onset, "duration": offset - onset, "text": segments.text}
    another = Recording.from_arrays(np.stack(signals), rate_hz, model.contacts, sentences)
    found, stimuli = model.embed(another), model.stimuli(another)
    rows = stimuli["sentence_idx"].to_numpy()
    assert [segments.text[row] for row in rows] == stimuli["text"].tolist()
    known = ~np.isin(segments.sentence_idx, [*model.held_out])
    assert known[rows].all()  # the test split stays locked
    tested = {text for text, is_known in zip(segments.text, known, strict=True) if not is_known}
    left_out = np.setdiff1d(np.flatnonzero(known), rows)
    assert {segments.text[row] for row in left_out} <= tested  # behind a pause, by its text
    places = np.searchsorted(np.flatnonzero(known), rows)
    np.testing.assert_allclose(found, model.embed(recording)[places], atol=1e-6)
