from __future__ import annotations

import pytest
from upath import UPath

from analysis.report.origin import KeptControls, data_facts, provenance_facts, read_controls
from ssense.data.shards import Manifest
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError
from ssense.retrieval import METRICS
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec

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
        data_facts(ledger, ledger.description(), ORIGIN, {"all": {}}, {"train": 60.0, "test": 20})
    )
    assert facts["Recording"] == "sub_9, Tiny"
    assert facts["Split"] == "random, by seed: 60 train, 20 test (means over seeds)"
    assert facts["Electrodes"] == "2: LT1, <b>"
    assert facts["Channels"] == "2 of 3 kept."
    assert facts["Repeats"] == "9 sentences share their text: “oh **yeah**: well” 3×."
    assert facts["Leakage"] == "random: 67 %."


@pytest.mark.usefixtures("shards")
def test_a_missing_data_report_is_said(ledger):
    facts = dict(data_facts(ledger, ledger.description(), ORIGIN, {"all": {}}, {"train": 60}))
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
