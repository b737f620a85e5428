from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from upath import UPath

from analysis.control.scores import permutation_pvalue
from analysis.control.untrained import (
    ACOUSTIC,
    BINNED,
    BOTH,
    LENGTH,
    MODEL,
    ONSET,
    PERMUTED,
    SIMILAR,
    SIMILAR_CHANCE,
    SentenceTable,
    brainless_scores,
    of_scores,
    read_sentence_table,
)
from analysis.control.untrained import TEXT as TEXT_CONTROL
from ssense.data.dataset import Dataset
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.shards import Manifest, shard_name, write_shard
from ssense.data.splits import Split, seeded_split
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.data.synthetic.sentence_timings import read_sentence_timings
from ssense.files.digest import file_digest
from ssense.retrieval import chance_metrics, metrics_of, ranks_of
from ssense.targets.sentence_embeddings import cached_embeddings
from ssense.targets.text import TextSpec


def without_brain(sentences: SentenceTable, split: Split) -> dict[str, dict[str, float]]:
    """Metrics of the controls that see no signal, on one test split."""
    own = torch.arange(len(split.test))
    found = brainless_scores(sentences, split)
    return {name: metrics_of(ranks_of(scores, own)) for name, scores in found.items()}


def sentences_of(folder: Path, **spec: object) -> SentenceTable:
    write_synthetic(folder / "recording", SyntheticSpec(coupling=0, **spec))
    recording = open_brain_treebank(folder / "recording", "sub_9", "trial000")
    segments = select_segments(recording, SegmentSpec.literal())
    text = cached_embeddings(segments.text, TextSpec(weights="untrained"), UPath(folder / "text"))
    return SentenceTable(
        duration=torch.from_numpy(segments.offset_s - segments.onset_s),
        onset=torch.from_numpy(np.asarray(segments.onset_s)).double(),
        length=torch.tensor([float(len(words)) for words in segments.text]).double(),
        targets=text.double(),
    )


def recalls(sentences: SentenceTable, control: str) -> tuple[float, float]:
    """Mean Recall@10 of a control over seeds, and chance."""
    n = len(sentences.duration)
    splits = [seeded_split(n, seed) for seed in range(10)]
    found = [without_brain(sentences, split)[control]["recall@10"] for split in splits]
    return float(np.mean(found)), chance_metrics(len(splits[0].test))["recall@10"]


def test_durations_that_vary_give_sentences_away_and_equal_ones_do_not(tmp_path):
    varying = sentences_of(tmp_path / "varying")
    for control in (LENGTH, TEXT_CONTROL):
        recall, chance = recalls(varying, control)
        assert recall > 1.5 * chance
    equal = sentences_of(tmp_path / "equal", equal_durations=True)
    assert equal.duration.max() - equal.duration.min() <= 0.002  # by rounding
    for control in (LENGTH, TEXT_CONTROL):
        recall, chance = recalls(equal, control)
        assert recall == pytest.approx(chance, abs=0.25 * chance)


def test_sentences_that_follow_each_other_are_told_by_their_onset():
    n = 200
    onset = torch.arange(n).double()
    scene = torch.randn(20, 16, generator=torch.Generator().manual_seed(0)).double()
    text = scene[torch.arange(n) // 10] + 0.1 * torch.randn(
        n, 16, generator=torch.Generator().manual_seed(1)
    )
    alone = SentenceTable(duration=torch.rand(n).double(), onset=onset, length=onset, targets=text)
    found = without_brain(alone, seeded_split(n, 0))
    chance = chance_metrics(40)["recall@10"]
    assert found[ONSET]["recall@10"] > 2 * chance
    assert found[TEXT_CONTROL]["recall@10"] < 2 * chance


def test_durations_that_are_all_the_same_give_nothing_away():
    n = 200
    text = torch.randn(n, 16, generator=torch.Generator().manual_seed(0)).double()
    same = SentenceTable(
        duration=torch.full((n,), 3.5).double(),
        onset=torch.arange(n).double(),
        length=torch.arange(n).double() % 40,
        targets=text,
    )
    found = [without_brain(same, seeded_split(n, seed)) for seed in range(10)]
    chance = chance_metrics(40)["recall@10"]
    for control in (LENGTH, TEXT_CONTROL):
        mean = np.mean([each[control]["recall@10"] for each in found])
        assert mean == pytest.approx(chance, abs=0.3 * chance)


ANT_MAN = Path(__file__).parents[2] / "data" / "antman_sentence_timings.csv"


def ant_man() -> SentenceTable:
    """When the sentences of a real movie were said and how long they are, with made-up topics.

    SentenceTable of over 30 characters, a quarter, are about something, which changes every minute;
    the others are about nothing. So onset retrieves about as well as by the real dialogue.
    """
    timings = read_sentence_timings(ANT_MAN)
    n_characters = np.genfromtxt(ANT_MAN, delimiter=",", names=True)["n_characters"]
    kept = timings.offset_s - timings.onset_s < 4
    onset, generator = timings.onset_s[kept], np.random.default_rng(0)
    topics = generator.standard_normal((200, 48))[np.floor(onset / 60).astype(int)]
    share = np.where(n_characters[kept] > 30, 0.43, 0.0)[:, None]
    text = np.sqrt(share) * topics + np.sqrt(1 - share) * generator.standard_normal(topics.shape)
    return SentenceTable(
        duration=torch.from_numpy(timings.offset_s[kept] - onset),
        onset=torch.from_numpy(onset),
        length=torch.from_numpy(n_characters[kept]),
        targets=torch.from_numpy(text),
    )


def test_duration_and_place_together_reach_what_neither_does_alone_on_a_real_movie():
    # By the words of the real dialogue (tf-idf, 100 dimensions) it is 10.8, 15.4 and 21.0 %.
    sentences = ant_man()
    splits = [seeded_split(len(sentences.onset), seed) for seed in range(4)]
    found = [without_brain(sentences, split) for split in splits]
    recall = {
        name: 100 * np.mean([each[name]["recall@10"] for each in found])
        for name in (LENGTH, ONSET, BOTH)
    }
    assert len(sentences.onset) == 1415
    assert recall[LENGTH] == pytest.approx(11, abs=2)
    assert recall[ONSET] == pytest.approx(16, abs=3)
    assert recall[BOTH] == pytest.approx(21, abs=3)
    assert recall[BOTH] > max(recall[LENGTH], recall[ONSET]) + 2


def test_where_only_one_of_the_two_knows_anything_the_other_does_no_harm():
    n, generator = 600, np.random.default_rng(0)
    length = generator.uniform(5, 60, n)
    alone = SentenceTable(
        duration=torch.from_numpy(length / 15 + 0.01 * generator.standard_normal(n)),
        onset=torch.arange(n).double(),
        length=torch.from_numpy(length),
        targets=torch.from_numpy(generator.standard_normal((n, 16))),
    )
    found = [without_brain(alone, seeded_split(n, seed)) for seed in range(3)]
    mean = {name: np.mean([each[name]["recall@10"] for each in found]) for name in found[0]}
    assert mean[LENGTH] > 0.9
    assert mean[BOTH] == pytest.approx(mean[LENGTH], abs=0.02)


def test_sentences_that_sound_alike_are_told_by_their_sound():
    n, generator = 300, np.random.default_rng(0)
    sound = generator.standard_normal((n, 2))
    text = np.tanh(sound @ generator.standard_normal((2, 24)))
    acoustics = np.column_stack([1e4 * sound, np.full(n, 3.0), generator.standard_normal(n)])
    acoustics[generator.random(acoustics.shape) < 0.05] = np.nan
    sentences = SentenceTable(
        duration=torch.ones(n).double(),
        onset=torch.arange(n).double(),
        length=torch.ones(n).double(),
        targets=torch.from_numpy(text),
        acoustics=torch.from_numpy(acoustics),
    )
    found = without_brain(sentences, seeded_split(n, 0))
    chance = chance_metrics(60)["recall@10"]
    assert found[ACOUSTIC]["recall@10"] > 3 * chance
    assert found[ONSET]["recall@10"] < 2 * chance


def test_sentences_whose_sound_nobody_knows_are_retrieved_by_chance_or_not_at_all():
    n = 100
    known = {
        "duration": torch.ones(n).double(),
        "onset": torch.arange(n).double(),
        "length": torch.ones(n).double(),
        "targets": torch.randn(n, 8, generator=torch.Generator().manual_seed(0)).double(),
    }
    unknown = SentenceTable(**known, acoustics=torch.full((n, 2), torch.nan).double())
    found = [without_brain(unknown, seeded_split(n, seed))[ACOUSTIC] for seed in range(5)]
    chance = chance_metrics(20)["recall@10"]
    assert [each["recall@10"] for each in found] == pytest.approx([chance] * 5)
    assert ACOUSTIC not in without_brain(SentenceTable(**known), seeded_split(n, 0))


# ---------------------------------------------------------------- what is known of sentences


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "recording"
    write_synthetic(folder, SyntheticSpec(sentences=40, electrodes=3, sampling_rate=128))
    return folder


def shard_folder(folder: Path, recording: Path, with_sound: bool) -> tuple[UPath, Dataset]:
    """One shard as the precompute writes it, or as it wrote them before they told of sound."""
    opened = open_brain_treebank(recording, "sub_9", "trial000")
    segments = select_segments(opened, SegmentSpec.literal())
    table = {name: list(getattr(segments, name)) for name in ("sentence_idx", "onset_s")}
    table["offset_s"] = list(segments.offset_s)
    if with_sound:
        summaries = opened.transcript.acoustics(segments.sentence_idx)
        table |= {
            name: pa.array(values, pa.float64(), from_pandas=True)
            for name, values in summaries.items()
        }
    spectrograms = np.zeros((len(segments), 1, 1, 1), np.float16)
    shard = write_shard(UPath(folder) / shard_name(0), "0123", table, spectrograms)
    Manifest(
        digest="0123",
        origin={},
        settings={},
        sources={"transcript": file_digest(opened.files["transcript"])},
        sampling_rate_hz=128,
        electrodes=("A1",),
        dropped={},
        shards=(shard,),
    ).write(UPath(folder))
    dataset = Dataset(
        digest="0",
        spectrograms=spectrograms,
        targets=np.eye(len(segments), dtype=np.float32),
        stimuli=segments.text,
        spans_s=np.stack([segments.start, segments.stop], axis=1) / 128,
    )
    return UPath(folder), dataset


def test_the_duration_of_a_sentence_is_that_of_its_words(recording, tmp_path):
    folder, dataset = shard_folder(tmp_path, recording, with_sound=True)
    found = read_sentence_table(folder, dataset, UPath(recording))
    context_s = 0.5 + 1.0
    spans_s = torch.from_numpy(dataset.spans_s[:, 1] - dataset.spans_s[:, 0])
    torch.testing.assert_close(found.duration + context_s, spans_s, atol=2 / 128, rtol=0)


def test_the_sound_is_in_the_shards_or_else_in_the_recording_they_were_made_from(
    recording, tmp_path
):
    kept, dataset = shard_folder(tmp_path / "new", recording, with_sound=True)
    without, _ = shard_folder(tmp_path / "old", recording, with_sound=False)
    gone = UPath(tmp_path / "gone")
    sound = read_sentence_table(kept, dataset, gone).acoustics
    assert sound.shape == (len(dataset), 6)
    assert sound.isfinite().any(dim=0).all()
    again = read_sentence_table(without, dataset, UPath(recording)).acoustics
    torch.testing.assert_close(again, sound, equal_nan=True)
    assert read_sentence_table(without, dataset, gone).acoustics is None
    other = tmp_path / "other" / "transcripts" / "synthetic" / "features.csv"
    other.parent.mkdir(parents=True)
    other.write_bytes((recording / "transcripts/synthetic/features.csv").read_bytes() + b"\n")
    assert read_sentence_table(without, dataset, UPath(tmp_path / "other")).acoustics is None


# ---------------------------------------------------------------- permutations


@pytest.mark.parametrize(
    ("permuted", "p"),
    [([0.1] * 999, 1 / 1000), ([0.5], 1.0), ([0.4, 0.5, 0.6, 0.1], 3 / 5), ([0.1], 1 / 2)],
)
def test_a_permutation_p_counts_the_pairing_that_was_found(permuted, p):
    assert permutation_pvalue(0.5, permuted) == p


def test_a_perfect_model_has_the_smallest_p_and_one_that_knows_durations_a_large_one():
    n, permutations = 60, 99
    duration = torch.arange(1.0, n + 1).double() ** 2  # no two are similar but the longest
    found, pvalues = of_scores(torch.eye(n).double(), duration, permutations, seed=0)
    assert pvalues[PERMUTED] == 1 / (permutations + 1)
    assert found[MODEL]["recall@10"] == 1
    assert found[SIMILAR]["recall@1"] == 1
    assert found[SIMILAR_CHANCE]["recall@10"] == 1
    # Its ten bins of six sentences each are all that this one knows.
    bins = torch.arange(n) // 6
    _, pvalues = of_scores((bins[:, None] == bins[None]).double(), duration, permutations, seed=0)
    assert pvalues[BINNED] == 1
    assert pvalues[PERMUTED] == 1 / (permutations + 1)


def test_a_permutation_test_of_nothing_is_uniform():
    generator = torch.Generator().manual_seed(0)
    duration = torch.rand(40, generator=generator).double()
    pvalues = [
        of_scores(torch.rand(40, 40, generator=generator).double(), duration, 19, seed)[1][PERMUTED]
        for seed in range(200)
    ]
    assert np.mean(np.array(pvalues) <= 0.05) <= 0.09  # 5 %, and two standard errors
    assert min(pvalues) == 0.05
