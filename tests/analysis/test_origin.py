from __future__ import annotations

import math

import numpy as np
import pytest
from upath import UPath

from analysis.origin import control_scores, data_facts, provenance_facts
from ssense.data.shards import Manifest
from ssense.errors import UserError
from ssense.retrieval import METRICS
from ssense.training import TrainingSpec
from sweeps.engine.ledger import Ledger, Record
from sweeps.engine.sweep import Family, Sweep

ORIGIN = {
    "digest": "feed",
    "shards": "0123",
    "subject": "sub_9",
    "title": "Tiny",
    "text": "ViT-B-32-quickgelu, untrained",
}


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    sweep = Sweep(
        claim="masking",
        dataset_digest="feed",
        training=TrainingSpec(),
        families=(Family(name="no masking", levels={}),),
        configurations=1,
        seeds=(0, 1),
    )
    ledger = Ledger(UPath(tmp_path) / "sweep")
    ledger.write_sweep(sweep, [], ORIGIN, "full", [])
    return ledger


@pytest.fixture
def shards(tmp_path) -> UPath:
    folder = UPath(tmp_path) / "0123"
    manifest = Manifest(
        digest="0123",
        origin={"recording_rate_hz": 512},
        sources={},
        sampling_rate_hz=512,
        electrodes=("LT1", "<b>"),
        dropped={},
    )
    manifest.write(folder)
    return folder


def record(seed: int, finished_at: str, device: str = "CPU", status: str = "done") -> Record:
    return Record(
        signature=f"cell{seed}",
        configuration={},
        seed=seed,
        status=status,
        dataset_digest="feed",
        versions={"python": "3.11.7", "torch": "2.15"},
        device=device,
        code_digest="0123456789abcdef",
        commit="abcdef0123",
        dirty=True,
        encoder_digest=str(seed),
        finished_at=finished_at,
    )


def test_the_data_report_is_quoted_line_by_line(ledger, shards):
    (shards / "data_report.md").write_text(
        "# Data of sub_9\n\n**Channels:** 2 of 3 kept.\n\n| | channels |\n\n**Repeats:** "
        "9 sentences share their text: “oh **yeah**: well” 3×.\n\n**Leakage:** random: 67 %.\n"
    )
    facts = dict(data_facts(ledger, shards, {"train": 60, "validation": 20, "test": 20}))
    assert facts["Recording"] == "sub_9, Tiny"
    assert facts["Split"] == "random, by seed: 60 train, 20 validation, 20 test"
    assert facts["Electrodes"] == "2: LT1, <b>"
    assert facts["Channels"] == "2 of 3 kept."
    assert facts["Repeats"] == "9 sentences share their text: “oh **yeah**: well” 3×."
    assert facts["Leakage"] == "random: 67 %."


def test_a_missing_data_report_is_said(ledger, shards):
    facts = dict(data_facts(ledger, shards, {"train": 60}))
    assert facts["Data report"] == "none was kept with the spectrograms"


def test_provenance_names_what_made_the_cells_that_are_done(ledger):
    records = [
        record(0, "2026-01-02T00:00:00+00:00"),
        record(1, "2026-01-01T00:00:00+00:00", device="NVIDIA H200"),
        record(2, "2026-01-09T00:00:00+00:00", device="broken", status="failed"),
    ]
    facts = dict(provenance_facts(ledger, records, "today"))
    assert facts["Report written"] == "today"
    assert facts["Cells finished"] == "2026-01-01T00:00:00+00:00 to 2026-01-02T00:00:00+00:00"
    assert facts["Code"] == "0123456789abcdef, commit abcdef0 with changes, 2 cells"
    assert facts["Versions"] == "python 3.11.7, torch 2.15"
    assert facts["Devices"] == "CPU, NVIDIA H200"
    assert facts["Requirements"] == "not noted"
    assert facts["Looks at test splits"] == "0"
    again = provenance_facts(ledger, records[::-1], "tomorrow")
    changed = [now for then, now in zip(facts.items(), again, strict=True) if then != now]
    assert changed == [("Report written", "tomorrow")]


def write_controls(ledger: Ledger, content: str) -> UPath:
    path = ledger.folder / "controls" / "controls.csv"
    path.parent.mkdir()
    path.write_text(content)
    return path


def test_controls_are_read_by_name_whatever_other_columns_there_are(ledger):
    assert control_scores(ledger) == {}
    rows = ["seed,recall@50,recall@10,note,control,recall@1,mrr"]
    rows += ["0,.5,.25,x,noise,.125,.1", '0,.1,.2,"a, b",shift,.3,nan', "1,.75,.5,y,noise,0,.2"]
    write_controls(ledger, "\n".join(rows))
    scores = control_scores(ledger)
    assert list(scores) == ["noise", "shift"]
    assert {m: list(scores["noise"][m]) for m in METRICS} == {
        "recall@1": [0.125, 0],
        "recall@10": [0.25, 0.5],
        "recall@50": [0.5, 0.75],
        "mrr": [0.1, 0.2],
    }
    assert math.isnan(scores["shift"]["mrr"][0])
    assert isinstance(scores["shift"]["recall@10"], np.ndarray)


@pytest.mark.parametrize(
    "content",
    [
        "control,seed,recall@1\nnoise,0,.1\n",
        "control,seed,recall@1,recall@10,recall@50,mrr\nnoise,0,.1,none,.2,.3\n",
        "control,seed,recall@1,recall@10,recall@50,mrr\nnoise,0,.1\n",
    ],
)
def test_a_damaged_table_of_controls_is_refused(ledger, content):
    path = write_controls(ledger, content)
    with pytest.raises(UserError) as error:
        control_scores(ledger)
    assert str(error.value).startswith(f"{path} is no table of control, seed and metrics (")
    assert len(str(error.value).splitlines()) == 1
