from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from huggingface_hub.utils import filter_repo_objects
from upath import UPath

import ssense
from analysis.evaluate import main as evaluate
from analysis.export import export_files, main, push
from analysis.measure.looks import read_looks
from analysis.options import EvaluationOptions, ExportOptions
from analysis.report.model_card import NOT_EVALUATED, _head
from analysis.report.origin import CONTROLS, CONTROLS_IN_WORDS
from ssense.api.result import SweepResult
from ssense.decoder.folder import CARD, renew_card, write_files
from ssense.engine.core.sweep import Row
from ssense.engine.records.reports import FOLDER as REPORTS
from ssense.engine.records.reports import Report, keep_report, kept_reports, table_file, table_rows
from ssense.errors import UserError
from ssense.files.storage import write_whole
from ssense.files.tables import csv_table
from ssense.retrieval import METRICS, RECALL_AT, metrics_of, retrieval_ranks

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copied(unseen_sweep, linked, tmp_path) -> SweepResult:
    """The tiny sweep in a storage of its own, whose test splits nobody looked at."""
    storage = linked(unseen_sweep, tmp_path / "storage")
    return SweepResult(ssense.open(storage).sweeps["tiny"].ledger)


@pytest.fixture(scope="module")
def evaluated(unseen_sweep, linked, tmp_path_factory) -> SweepResult:
    storage = linked(unseen_sweep, tmp_path_factory.mktemp("evaluated") / "storage")
    evaluate(EvaluationOptions(storage=str(storage)))
    return ssense.open(storage).sweeps["tiny"]


def export(result: SweepResult, out: Path, **changes: object) -> Path:
    main(ExportOptions(storage=str(result.ledger.storage), out=str(out), **changes))
    return out


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_without_an_evaluation_nothing_of_the_test_is_exported_and_the_card_says_so(
    copied, tmp_path
):
    out = export(copied, tmp_path / "my model")
    loaded, model = ssense.load(out), copied.model()
    assert loaded.signature == model.signature == copied.best().signature
    embeddings = pd.read_parquet(out / "embeddings.parquet")
    ranks = pd.read_parquet(out / "ranks.parquet")
    assert set(embeddings["part"]) == set(ranks["part"]) == {"validation"}
    split, stimuli = copied.dataset.split(0), copied.dataset.stimuli
    validation = stimuli.iloc[split.validation]
    for table in (embeddings, ranks):
        assert table["sentence_idx"].tolist() == validation["sentence_idx"].tolist()
        assert table["sentence"].tolist() == validation["text"].tolist()
        assert table["onset_s"].tolist() == validation["onset_s"].tolist()
    brain, text = (np.stack(embeddings[name]) for name in ("embedding", "target"))
    assert brain.dtype == np.float32
    np.testing.assert_array_equal(text, copied.dataset.targets[split.validation])
    tensors = torch.from_numpy(brain), torch.from_numpy(text), torch.arange(len(text))
    assert ranks["rank"].tolist() == retrieval_ranks(*tensors).tolist()
    best = copied.record(model.signature).best
    assert metrics_of(torch.tensor(ranks["rank"]), RECALL_AT) == pytest.approx(
        {name: best[name] for name in ("recall@1", "recall@10", "recall@50", "mrr")}
    )
    assert set(ranks["candidates"]) == {len(text)}
    assert all(len(first) == 5 for first in ranks["retrieved"])
    hits = [
        own == first[0] for own, first in zip(ranks["sentence"], ranks["retrieved"], strict=True)
    ]
    assert sum(hits) >= (ranks["rank"] == 1).sum()
    card = (out / CARD).read_text()
    assert NOT_EVALUATED in card
    assert "# my model\n" in card
    assert f"seed {model.seed}" in card
    assert "a trial of the machinery, not a result" in card  # its text tower is untrained
    assert "model-index" not in front_matter(card)
    assert front_matter(card)["library_name"] == "ssense"
    assert not list(copied.ledger.storage.rglob("look-*"))


def test_an_evaluation_that_was_counted_is_on_the_card_with_its_ranks(evaluated, tmp_path):
    result, looks = evaluated, list(evaluated.ledger.storage.rglob("look-*"))
    out = export(result, tmp_path / "model", family="no masking")
    ranks = pd.read_parquet(out / "ranks.parquet")
    scores = result.tests.set_index("seed").loc[0]
    test = ranks[ranks["part"] == "test"]
    numbers = result.dataset.stimuli["sentence_idx"].to_numpy()[result.dataset.split(0).test]
    assert test["sentence_idx"].tolist() == numbers.tolist()
    found = metrics_of(torch.tensor([*test["rank"]]), RECALL_AT)
    assert found == pytest.approx({name: scores[name] for name in found})
    card = (out / CARD).read_text()
    (index,) = front_matter(card)["model-index"]
    (measured,) = index["results"]
    values = {each["type"]: each["value"] for each in measured["metrics"]}
    assert values == pytest.approx(result.tests[list(values)].mean().to_dict(), abs=1e-6)
    comparison = result.comparisons.set_index("metric").loc["recall@10"]
    interval = f"[{100 * comparison['low']:.2f}, {100 * comparison['high']:.2f}]"
    assert interval in card
    assert f"{comparison['p_holm']:.3f}" in card
    assert "It is look 1 at these" in card
    assert "No controls were run for it" in card
    assert "the only one of its family: nothing chose it" in card
    assert "The seed is the first of the sweep's, and no score chose it." in card
    assert "Mean ± sd over 2 search seeds, among 40 held-out test sentences" in card
    assert "with Holm's correction" in card
    assert list(result.ledger.storage.rglob("look-*")) == looks  # no other was taken


def test_what_was_not_counted_stays_out(evaluated, linked, tmp_path):
    """A look that was withdrawn, or at another configuration, is none at this model."""
    storage = linked(evaluated.ledger.storage, tmp_path / "storage")
    result = ssense.open(storage).sweeps["tiny"]
    (look,) = storage.rglob("look-0001.json")
    (known,) = read_looks(look.parent).looks.values()
    assert len(export_files(result, result.best(), "m")["ranks.parquet"]) > 0
    assert b"has not been made" not in export_files(result, result.best(), "m")[CARD]
    look.unlink()
    assert known.seeds == [0, 1]
    files = export_files(result, result.best(), "m")
    assert NOT_EVALUATED.encode() in files[CARD]
    (tmp_path / "ranks.parquet").write_bytes(files["ranks.parquet"])
    assert set(pd.read_parquet(tmp_path / "ranks.parquet")["part"]) == {"validation"}


def evaluated_as(report: Report, look: int, configuration: str) -> Report:
    """A report of the tiny sweep as if another configuration had been its family's best."""
    rows = [
        row | {"configuration": configuration} for row in table_rows(report.files["table.json"])
    ]
    return dataclasses.replace(
        report,
        name=f"look {look}",
        tags={**report.tags, "look": str(look)},
        files={**report.files, "table.json": table_file(rows)},
        written_at=f"2100-01-0{look}T00:00:00+00:00",
    )


def test_scores_of_another_configuration_are_not_those_of_the_model(evaluated, linked, tmp_path):
    """Its look was counted, such as by controls, but what was scored then is the former best."""
    storage = linked(evaluated.ledger.storage, tmp_path / "storage")
    result = ssense.open(storage).sweeps["tiny"]
    ((report,), _) = kept_reports(result.ledger.folder)
    keep_report(result.ledger.folder, evaluated_as(report, 2, "electrode 0.5"))
    card = export_files(result, result.best(), "m")[CARD]
    assert b"It is look 1 at these" in card
    for path in result.ledger.folder.glob(f"{REPORTS}/*.zip"):
        path.unlink()
    keep_report(result.ledger.folder, evaluated_as(report, 2, "electrode 0.5"))
    files = export_files(result, result.best(), "m")
    assert NOT_EVALUATED.encode() in files[CARD]
    ranks = pd.read_parquet(io.BytesIO(files["ranks.parquet"]))
    assert set(ranks["part"]) == {"validation"}


def test_the_card_claims_no_more_than_is_known(evaluated, linked, tmp_path):
    """Seeds of each protocol, tests where there are any, and who had a chance to be chosen."""
    storage = linked(evaluated.ledger.storage, tmp_path / "storage")
    result = ssense.open(storage).sweeps["tiny"]
    ((report,), _) = kept_reports(result.ledger.folder)
    scores, tests = (table_rows(report.files[f"{each}.json"]) for each in ("scores", "tests"))
    fresh = [scores[0] | {"protocol": "fresh seeds", "seed": 10 + number} for number in range(3)]
    unknown = [row | {"p_holm": None, "low": None, "high": None} for row in tests]
    tables = {"scores.json": table_file(scores + fresh), "tests.json": table_file(unknown)}
    keep_report(result.ledger.folder, dataclasses.replace(report, files={**report.files, **tables}))
    result.search.rows.append(Row("no masking", {"masking.electrode": 0.5}))  # without a result
    card = export_files(result, result.best(), "m")[CARD].decode()
    assert "Mean ± sd over 2 search seeds and 3 fresh seeds, among 40" in card
    assert "What is not testable has no interval" in card
    assert "Holm" not in card
    assert "over 2 seeds (0 1) among the 1 of its family's 2 that have a result at each." in card


def test_the_card_names_no_place_of_a_machine(evaluated):
    configuration = {"target": "vectors", "target.file": "/home/somebody/words.npy"}
    record = dataclasses.replace(evaluated.best(), configuration=configuration)
    facts = SimpleNamespace(name="m", result=evaluated, record=record, families=["words"])
    head = _head(facts)
    assert "(words: vectors, words.npy; seed 0)" in head
    assert "somebody" not in head


def test_controls_are_on_the_card_where_they_are_of_the_model(evaluated, linked, tmp_path):
    storage = linked(evaluated.ledger.storage, tmp_path / "storage")
    result = ssense.open(storage).sweeps["tiny"]
    scores = {name: 0.09 for metric in METRICS for name in (metric, f"{metric}_chance")}
    known = {"control": "duration", "family": "no masking", "configuration": "–"}
    rows = [{**known, "seed": seed, **scores} for seed in (0, 1)]
    write_whole(result.ledger.folder / CONTROLS_IN_WORDS, "Duration alone reaches 9 %.\n")
    write_whole(result.ledger.folder / CONTROLS, csv_table(rows))
    card = export_files(result, result.best(), "m")[CARD].decode()
    assert "Controls:\n\n- Duration alone reaches 9 %.\n" in card
    write_whole(result.ledger.folder / CONTROLS, csv_table(rows[:1]))  # of other seeds
    card = export_files(result, result.best(), "m")[CARD].decode()
    assert "No controls were run for it" in card


def test_a_cell_that_is_named_is_exported_and_said_to_be_named(copied, tmp_path):
    out = export(copied, tmp_path / "model", cell="no masking, seed 1")
    assert ssense.load(out).seed == 1
    assert "The cell, and with it the seed, was named by hand" in (out / CARD).read_text()


def test_a_newer_card_replaces_the_one_that_was_written_but_none_that_was_edited(
    copied, tmp_path, capsys
):
    out = export(copied, tmp_path / "model")
    first = (out / CARD).read_bytes()
    newer = first + b"Controls were run since.\n"
    assert renew_card(UPath(out), newer)
    assert (out / CARD).read_bytes() == newer
    export(copied, out)  # the storage knows of none: the card as it is now
    assert (out / CARD).read_bytes() == first
    assert "was edited" not in capsys.readouterr().out
    (out / CARD).write_bytes(edited := first + b"Mine.\n")
    export(copied, out)
    assert f"Its card {out / CARD} was edited, and a newer one was not written" in (
        capsys.readouterr().out
    )
    assert (out / CARD).read_bytes() == edited
    (out / CARD).unlink()
    export(copied, out)
    assert (out / CARD).read_bytes() == first
    assert ssense.load(out).signature == copied.best().signature


def test_the_same_export_again_does_nothing_and_another_is_refused(copied, tmp_path, capsys):
    out = export(copied, tmp_path / "model")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    export(copied, out)
    assert f"{out} holds just this model already." in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(UserError, match="already exists and is not this exported model"):
        export(copied, out, cell="no masking, seed 1")
    (out / "target.json").write_text("{}")
    with pytest.raises(UserError, match="already exists and is not this exported model"):
        export(copied, out)
    assert not list(tmp_path.glob(".*"))  # nothing half-written


def test_a_full_disk_leaves_no_folder(copied, tmp_path, small_disk):
    with small_disk(10**6), pytest.raises(UserError, match="cannot write the exported model"):
        export(copied, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_dry_run_lists_what_would_be_pushed(copied, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: pytest.fail("it pushed"))
    out = export(copied, tmp_path / "model", push="lab/model", dry_run=True)
    shown = capsys.readouterr().out
    for path in out.iterdir():
        assert f"{path.stat().st_size / 1e3:,.1f} kB  {path.name}" in shown
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    assert f"Dry run: would push 8 files, {size:.1f} MB, to lab/model. Nothing" in shown


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of files as an export has them, but for what they hold."""
    named = ("model.safetensors", "configuration.json", "preprocessing.json", "target.json", CARD)
    write_files(tmp_path, dict.fromkeys(named, b"..."))
    return tmp_path


def test_what_else_lies_in_the_folder_is_never_pushed(folder, capsys, monkeypatch):
    uploaded = []

    class Hub:
        def create_repo(self, *_, **options):
            assert options["private"]

        def upload_folder(self, *, folder_path, allow_patterns, **_):
            names = [str(path.relative_to(folder_path)) for path in folder_path.rglob("*")]
            uploaded.extend(filter_repo_objects(names, allow_patterns=allow_patterns))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    pushed = sorted(path.name for path in folder.iterdir())
    (folder / "raw.fif").write_bytes(b"of a person")
    (folder / "notes").mkdir()
    (folder / "notes" / CARD).touch()
    push(folder, "lab/model", dry_run=True)
    push(folder, "lab/model", dry_run=False)
    assert sorted(uploaded) == pushed
    shown = capsys.readouterr().out
    assert shown.count("No part of the model, and not pushed: notes, raw.fif\n") == 2
    assert "Dry run: would push 6 files, 0.0 MB, to lab/model" in shown
    (folder / "target.json").write_bytes(b"changed")
    with pytest.raises(UserError, match=r"target\.json was changed"):
        push(folder, "lab/model", dry_run=False)


def test_a_hub_that_can_t_be_reached_is_a_line(folder):
    with pytest.raises(UserError, match=r"lab/model can't be pushed to \(.*\)\. Log in") as refused:
        push(folder, "lab/model", dry_run=False)  # tests are offline
    assert "\n" not in str(refused.value)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "analysis/export.py", *words]
    return subprocess.run(script, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": None}, "--out is missing. Give the folder to write"),
        ({"family": "a", "cell": "b"}, "--family and --cell are both given"),
        ({"dry_run": True}, "--dry-run is about --push, which is missing"),
        ({"push": "model"}, "--push model names no repository. Give it as USER/NAME"),
        ({"push": "https://huggingface.co/lab/model"}, "names no repository"),
        ({"push": "lab/model.git"}, "names no repository"),
        ({"storage": "/nowhere"}, "no storage at /nowhere"),
    ],
)
def test_flags_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(UserError) as refused:
        ExportOptions(**({"storage": str(tmp_path), "out": "model"} | options))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sweep": "context"}, "no sweep context in"),
        ({"family": "electrode"}, "no family electrode in tiny-"),
        ({"cell": "ffffff"}, "no finished cell ffffff"),
        ({"cell": "no masking, seed 9"}, "no finished cell is called no masking, seed 9"),
    ],
)
def test_what_is_not_in_the_storage_is_refused(copied, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        export(copied, tmp_path / "model", **options)
    assert not (tmp_path / "model").exists()


def test_the_command_exits_with_2_and_one_line(tmp_path):
    (tmp_path / "sweeps").mkdir()
    done = command("--storage", str(tmp_path), "--out", str(tmp_path / "model"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no sweep in {tmp_path}.")
    assert len(done.stderr.splitlines()) == 1
    assert UPath(tmp_path / "model").exists() is False
