"""A learning curve from the plan to the report, on a recording where more data is known to help."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from upath import UPath

from analysis import evaluate
from analysis.control.untrained import (
    LENGTH,
    brainless_scores,
    read_sentence_table,
    run_untrained_controls,
)
from analysis.measure.evaluation import retrieval_of, splits_of, take_up
from analysis.options import EvaluationOptions
from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.reproduce import reproduce_cell
from ssense.engine.sweep_data import sweep_dataset
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError
from ssense.training.sentences import SHARE
from sweeps import learning_curve
from sweeps.learning_curve import main

# Sentences of one length, which words alone tell apart: each more that is heard names more of them.
RECORDING = SyntheticSpec(
    sentences=300, electrodes=8, sampling_rate=256, coupling=3, equal_durations=True
)
SEEDS = (0, 1, 2)
SHARES = learning_curve.SHARES[::2] + learning_curve.SHARES[-1:]  # fewer cells, and as telling


def options(storage: UPath, **changes) -> RecordingOptions:
    values = {
        "storage": str(storage),
        "synthetic": RECORDING,
        "encoder": "linear",
        "seeds": SEEDS,
        "max_epochs": 3,
        "precision": "float32",
        "yes": True,
    }
    return RecordingOptions(**(values | changes))


@pytest.fixture(scope="module")
def storage(tmp_path_factory, local_ray) -> Iterator[UPath]:  # noqa: ARG001 - it runs there
    """A storage with a learning curve, raced and evaluated."""
    folder = UPath(tmp_path_factory.mktemp("learning_curve"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning_curve, "SHARES", SHARES)
        main(options(folder))
    evaluate.main(EvaluationOptions(storage=str(folder)))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ledger(storage) -> Ledger:
    return find_ledger(storage)


def test_every_share_meets_every_seed_with_nested_sentences(ledger):
    records = ledger.records().values()
    assert len(records) == len(SHARES) * len(SEEDS)
    assert not ledger.description().decisions  # the race drops none
    sizes = {r.configuration[SHARE]: r.sizes for r in records}
    whole = sizes[1.0]["train"]
    assert whole > 150
    assert {share: each["train"] for share, each in sizes.items()} == {
        share: round(share * whole) for share in SHARES
    }
    assert len({(each["validation"], each["test"]) for each in sizes.values()}) == 1


def test_a_cell_with_a_share_is_reproduced_to_the_bit(storage, ledger):
    record = next(r for r in ledger.records().values() if r.configuration[SHARE] == SHARES[0])
    assert reproduce_cell(storage, record.signature, threads=1).exact


def test_more_data_gives_a_better_score_and_the_report_says_what_twice_would(ledger):
    folder = ledger.folder / "evaluation"
    with (folder / "learning_curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    scores, minutes, sentences = (
        np.array([float(row[name]) for row in rows]).reshape(len(SHARES), len(SEEDS))
        for name in ("recall@10", "minutes", "sentences")
    )
    assert (np.diff(scores.mean(axis=1)) > 0).all()
    assert (np.diff(minutes, axis=0) > 0).all()  # of every seed, as shares are nested
    assert minutes * 60 == pytest.approx(2.0 * sentences, rel=0.02)  # each takes two seconds
    page = (folder / "report.html").read_text()
    assert "What more data would give" in page
    assert 'id="learning_curve"' in page
    text = (folder / "table.md").read_text()
    (quote,) = [line for line in text.splitlines() if "twice the speech" in line]
    assert " do not tell a " in quote or "the only one of three curves" in quote
    assert "a straight line" not in quote  # far from it: from a tenth to a fifth it gains most
    assert "by a logarithmic line, a gain of +" in quote or "by a power law, a gain of +" in quote
    assert quote.split("<")[0] in page
    assert (folder / "learning_curve.pdf").exists()


def test_controls_have_the_share_that_the_configuration_was_trained_on(ledger):
    search, dataset = take_up(ledger), sweep_dataset(ledger)
    few = {SHARE: SHARES[0]}
    origin = ledger.description().origin
    table = read_sentence_table(
        ledger.storage / "shards" / origin.shards, dataset, UPath(origin.recording)
    )
    found = run_untrained_controls(ledger, search, few, dataset, table, permutations=2)
    splits = splits_of(dataset, search.sweep, few)
    assert {len(s.train) for s in splits.values()} == {r.sizes["train"] for r in search.done(few)}
    for seed, retrieval in zip(SEEDS, found[LENGTH].retrievals, strict=True):
        scores = brainless_scores(table, splits[seed])[LENGTH]
        expected = retrieval_of(scores, splits[seed].test, shared=False)
        assert np.array_equal(retrieval.ranks, expected.ranks)


def test_shares_that_leave_no_negatives_are_one_line_before_anything_starts(tmp_path):
    few = SyntheticSpec(sentences=60, electrodes=5, sampling_rate=256)
    main(options(tmp_path / "a", synthetic=few, dry_run=True))  # 4 of 35
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sweeps.learning_curve.SHARES", (0.02, 0.5, 1.0))
        with pytest.raises(UserError, match=r"a share of 0\.02 leaves 1 of \d\d to train on"):
            main(options(tmp_path / "b", synthetic=few))
    assert not (tmp_path / "b" / "sweeps").exists()
