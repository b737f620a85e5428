"""What a report says of sweeps over sentences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from upath import UPath

from analysis.measure.evaluation import Evaluation
from analysis.measure.seed_results import FRESH_SEEDS, SEARCH_SEEDS, caption, table_rows
from analysis.report.sentences import SentenceReport
from ssense.choices import SplitKind
from ssense.data.dataset import Dataset
from ssense.data.paired import PairedStimuli
from ssense.data.shards import Manifest, write_shard
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.training.sentences import SentenceSpec


def report_on(
    folder: UPath, subject: str = "sub_9", title: str = "Ant-Man", split: SplitKind = "random"
) -> SentenceReport:
    sweep = Sweep(
        question="masking",
        dataset_digest="dataset",
        specification=SentenceSpec(split=split),
        families=(Family(name="no masking", levels={}),),
        configurations=1,
        seeds=(0, 1),
    )
    origin = RecordingOrigin(subject=subject, title=title, shards="0123", recording="there")
    ledger = Ledger(folder)
    description = Description(sweep=sweep, origin=origin)
    ledger.describe(description)
    dataset = Dataset(
        digest="dataset",
        spectrograms=np.zeros((0, 1, 1, 1), np.float16),
        targets=np.zeros((0, 512), np.float32),
        stimuli=(),
        spans_s=np.zeros((0, 2)),
    )
    return SentenceReport.of(ledger, description, origin, dataset)


def caption_of(report: SentenceReport, protocol: str, evaluation: Evaluation) -> str:
    tested, end = report.tested(evaluation), report.caption_end(protocol)
    return caption(evaluation, tested, "chosen before", end)


@pytest.mark.parametrize(
    ("subject", "title", "is_there"),
    [("sub_9", "Ant-Man", True), ("sub_9", "Tiny", False), ("sub_1", "Ant-Man", False)],
)
def test_the_published_table_stands_beside_the_same_recording_alone(
    tmp_path, evaluation, subject, title, is_there
):
    rows = report_on(UPath(tmp_path), subject, title).published()
    assert bool(rows) == is_there
    if rows:
        assert rows[0]["family"] == "no masking (SSENSE)"
        assert rows[0]["Recall@10"] == "10.68 ± 1.40"
        assert list(rows[0]) == list(table_rows(evaluation)[0])


def test_a_caption_says_on_what_and_how_chosen(tmp_path, evaluation):
    words = caption_of(report_on(UPath(tmp_path)), SEARCH_SEEDS, evaluation)
    assert words == (
        "sub_9, Ant-Man: held-out test splits of 292 sentences, mean ± sd over 10 seeds "
        "(0 1 2 3 4 5 6 7 8 9). Each family's best configuration by mean validation Recall@10; "
        "chosen before. Text: ViT-B-32-quickgelu, openai."
    )


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("grouped", " of 292 sentences, repeated ones kept together, mean ± sd over"),
        (
            "blocked",
            " of 292 sentences in whole stretches of the recording, at least 7 s from all others, "
            "mean ± sd over",
        ),
        (
            "held-out",
            " of 292 sentences at the end of the recording, at least 7 s behind all others and the "
            "same for every seed, so that claims are about these sentences, mean ± sd over",
        ),
    ],
)
def test_a_caption_says_what_kind_of_split_it_is(tmp_path, evaluation, split, words):
    report = report_on(UPath(tmp_path), split=split)
    assert words in caption_of(report, SEARCH_SEEDS, evaluation)


@pytest.mark.parametrize("split", ["random", "grouped", "blocked", "held-out"])
def test_the_caption_of_fresh_seeds_says_what_the_search_has_seen(tmp_path, evaluation, split):
    report = report_on(UPath(tmp_path), split=split)
    search, fresh = (caption_of(report, name, evaluation) for name in (SEARCH_SEEDS, FRESH_SEEDS))
    limit = (
        " Fresh seeds lessen what the choice owes to its seeds, not to these sentences: they deal "
        "out the same ones again,"
    )
    assert limit not in search
    assert (limit in fresh) == (split != "held-out")


@pytest.mark.parametrize("kept", [None, [9, 4]])
def test_spoken_durations_are_those_of_the_sentences_that_the_dataset_has(tmp_path, kept):
    numbers, onset, offset = [4, 7, 9], [1.0, 3.0, 8.0], [1.5, 4.0, 10.0]
    shards = UPath(tmp_path) / "shards" / "0123"
    columns = {
        "text": ["a", "b", "c"],
        "start": [0, 1, 2],
        "stop": [1, 2, 3],
        "sentence_idx": numbers,
        "onset_s": onset,
        "offset_s": offset,
    }
    shard = write_shard(shards / "part-00000.parquet", "0123", columns, np.zeros((3, 1, 1, 1)))
    Manifest(
        digest="0123", origin={}, settings={}, sources={}, sampling_rate_hz=512.0,
        electrodes=("a",), dropped={}, shards=[shard],
    ).write(shards)  # fmt: skip
    report = report_on(UPath(tmp_path) / "sweeps" / "a")
    if kept is not None:
        paired = PairedStimuli(np.array(kept), np.zeros(2, int), np.zeros((2, 2)))
        report = dataclasses.replace(report, paired=paired)
    assert report.spoken_s().tolist() == ([0.5, 1.0, 2.0] if kept is None else [2.0, 0.5])
