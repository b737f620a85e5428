from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
from upath import UPath

from analysis.report.origin import (
    KeptControls,
    data_facts,
    provenance_facts,
    read_controls,
    sweep_facts,
)
from ssense.data.paired import PairedStimuli
from ssense.data.shards import Manifest
from ssense.engine.core.cell import dataset_choice
from ssense.engine.core.origin import DatasetOrigin, RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.errors import UserError
from ssense.retrieval import METRICS
from ssense.specification import configured
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec

SIZES = {"train": 60.0, "test": 20}
ORIGIN = RecordingOrigin(
    subject="sub_9",
    title="Tiny",
    shards="0123",
    recording="there",
    text=TextSpec(weights="untrained"),
)


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    sweep = Sweep(
        question="masking",
        dataset_digest="feed",
        specification=SentenceSpec(),
        families=(Family(name="no masking", levels={}),),
        configurations=1,
        seeds=(0, 1),
    )
    ledger = Ledger(UPath(tmp_path) / "storage" / "sweeps" / "sweep")
    ledger.describe(Description(sweep=sweep, origin=ORIGIN, policy="full"))
    return ledger


@pytest.fixture
def shards(tmp_path) -> UPath:
    folder = UPath(tmp_path) / "storage" / "shards" / "0123"
    manifest = Manifest(
        digest="0123",
        origin={"recording_rate_hz": 512},
        settings={},
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
        weights_digest=str(seed),
        finished_at=finished_at,
    )


def test_the_data_report_is_quoted_line_by_line(ledger, shards):
    (shards / "data_report.md").write_text(
        "# Data of sub_9\n\n**Channels:** 2 of 3 kept.\n\n| | channels |\n\n**Repeats:** "
        "9 sentences share their text: “oh **yeah**: well” 3×.\n\n**Leakage:** random: 67 %.\n"
    )
    facts = dict(
        data_facts(ledger, ledger.description(), ORIGIN, {"all": {}}, SIZES, {"feed": 0.65})
    )
    assert facts["Recording"] == "sub_9, Tiny"
    assert facts["Split"] == "random, by seed: 60 train, 20 test (means over seeds)"
    assert facts["Electrodes"] == "2: LT1, <b>"
    assert facts["Channels"] == "2 of 3 kept."
    assert facts["Repeats"] == "9 sentences share their text: “oh **yeah**: well” 3×."
    # That of the report is of random splits of all sentences.
    assert facts["Leakage"].startswith("65 % of the test segments share samples with training")


def with_report(folder: UPath, **lines: str) -> None:
    (folder / "data_report.md").write_text(
        "".join(f"**{name}:** {words}.\n\n" for name, words in lines.items())
    )


def test_what_is_true_of_all_datasets_is_said_once_and_each_says_its_own(ledger, shards):
    other = shards.parent / "4567"
    shutil.copytree(shards, other)
    with_report(shards, Channels="2 of 3 kept", Sentences="9 of 9 kept")
    with_report(other, Channels="2 of 3 kept", Sentences="8 of 9 kept; straddles a pause: 1")
    numbers = np.arange(8)
    paired = PairedStimuli(numbers, numbers, np.stack([numbers, numbers + 1.0], axis=1))
    paired.write(ledger.storage)
    late = {"data.context_after_s": 2.0}
    made = {"text": ORIGIN.text, "paired": paired.digest}
    datasets = (
        DatasetOrigin(digest="feed", changes={}, shards="0123", **made),
        DatasetOrigin(digest="late", changes=late, shards="4567", **made),
    )
    origin = dataclasses.replace(ORIGIN, paired=paired.digest, datasets=datasets)
    description = ledger.description()
    choices = {
        dataset_choice(configured(SentenceSpec(), each.changes)): each.digest for each in datasets
    }
    sweep = dataclasses.replace(description.sweep, datasets=choices)
    description = dataclasses.replace(description, sweep=sweep, origin=origin)
    chosen = {"as published": {}, "after": late, "rate": {"training.learning_rate": 1e-3}}
    leaks = {"feed": 0.62, "late": 0.69}
    facts = dict(data_facts(ledger, description, origin, chosen, SIZES, leaks))
    assert facts["Common sentences"].startswith("8, those that every dataset of the sweep and")
    assert facts["Channels"] == "2 of 3 kept."
    assert facts["Electrodes"] == "2: LT1, <b>"
    assert "Sentences" not in facts
    own = "as specified; Sentences: 9 of 9 kept; Leakage: 62 % of the test segments"
    assert facts["Data of as published"].startswith(own)
    assert facts["Data of rate"] == facts["Data of as published"]
    assert facts["Data of after"].startswith(
        "context after 2 s; Sentences: 8 of 9 kept; straddles a pause: 1; Leakage: 69 % of the"
    )


def test_what_families_vary_is_no_setting_of_all(ledger):
    sweep = ledger.description().sweep
    levels = {"features": ("band-power",), "training.learning_rate": (1e-4, 1e-3)}
    families = (*sweep.families, Family(name="bands", levels=levels))
    search = Search(dataclasses.replace(sweep, families=families), Full())
    (shared,) = (v for name, v in sweep_facts(ledger, search) if name.startswith("Unless a row"))
    assert "training.batch size 32" in shared
    assert "encoder resnet-18" in shared
    for name in ("features", "learning rate", "contacts"):
        assert name not in shared


@pytest.mark.usefixtures("shards")
def test_a_missing_data_report_is_said(ledger):
    facts = dict(data_facts(ledger, ledger.description(), ORIGIN, {"all": {}}, SIZES, {}))
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


COLUMNS = (
    "seed,recall@50,recall@10,note,control,recall@1,mrr,configuration,family,"
    "mrr_chance,recall@1_chance,recall@10_chance,recall@50_chance"
)


def test_controls_are_read_by_name_whatever_other_columns_there_are(ledger):
    assert read_controls(ledger) is None
    rows = [COLUMNS, "0,.5,.25,x,noise,.125,.1,e 0.5,e,.01,.02,.03,.04"]
    rows += ['0,.1,.2,"a, b",shift,.3,0,–,none,0,0,0,0']
    rows += ["1,.75,.5,y,noise,0,.2,e 0.5,e,.11,.12,.13,.14"]
    write_controls(ledger, "\n".join(rows))
    found = read_controls(ledger)
    assert list(found.scores) == ["noise", "shift"]
    noise = found.scores["noise"]
    assert {m: list(noise.scores[m]) for m in METRICS} == {
        "recall@1": [0.125, 0],
        "recall@10": [0.25, 0.5],
        "recall@50": [0.5, 0.75],
        "mrr": [0.1, 0.2],
    }
    assert {m: list(noise.chance[m]) for m in METRICS} == {
        "recall@1": [0.02, 0.12],
        "recall@10": [0.03, 0.13],
        "recall@50": [0.04, 0.14],
        "mrr": [0.01, 0.11],
    }
    assert found.origins == {
        "noise": [("e", "e 0.5", 0), ("e", "e 0.5", 1)],
        "shift": [("none", "–", 0)],
    }


def test_controls_belong_to_one_configuration_at_all_its_seeds_in_any_order():
    def kept(**origins: list[tuple[str, str, int]]) -> KeptControls:
        return KeptControls(scores={}, origins=origins)

    both = [("e", "e 0.5", 1), ("e", "e 0.5", 0)]
    assert kept(a=both, b=both[::-1]).belong_to("e", "e 0.5", (0, 1))
    assert not kept(a=both, b=both[:1]).belong_to("e", "e 0.5", (0, 1))
    assert not kept(a=both, b=[*both, both[0]]).belong_to("e", "e 0.5", (0, 1))
    assert not kept(a=both).belong_to("e", "e 0.25", (0, 1))
    assert not kept(a=both).belong_to("f", "e 0.5", (0, 1))
    assert not kept(a=both).belong_to("e", "e 0.5", (0, 1, 2))


WHOLE = "0,.5,.25,x,noise,.125,.1,e 0.5,e,.01,.02,.03,.04"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("control,seed,recall@1\nnoise,0,.1\n", "recall@10"),
        (f"{COLUMNS.partition(',mrr_chance')[0]}\n{WHOLE}\n", "recall@1_chance"),
        (COLUMNS.replace("family", "families") + f"\n{WHOLE}\n", "family"),
        (COLUMNS + "\n" + WHOLE.replace(".25", "none"), "could not convert"),
        (COLUMNS + "\n" + WHOLE.replace(".25", "nan"), "recall@10 of noise, seed 0, is nan"),
        (COLUMNS + "\n" + WHOLE.replace(".03", "inf"), "recall@10_chance of noise, seed 0, is inf"),
        (COLUMNS + "\n" + WHOLE.removesuffix(",.03,.04"), "float() argument"),
        (COLUMNS + "\n0.5" + WHOLE.removeprefix("0"), "invalid literal"),
        (COLUMNS, "it has no rows"),
    ],
)
def test_a_damaged_table_of_controls_is_refused(ledger, content, why):
    path = write_controls(ledger, content)
    with pytest.raises(UserError) as error:
        read_controls(ledger)
    message = str(error.value)
    assert message.startswith(f"{path} is not a table of controls, seeds and metrics (")
    assert why in message
    assert message.endswith(
        f" analysis/controls.py --storage {ledger.storage} --sweep {ledger.folder.name} again."
    )
    assert len(message.splitlines()) == 1
