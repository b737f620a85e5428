"""Electrodes from the plan to the report, on a recording in which one contact carries the words."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from upath import UPath

from analysis import evaluate
from analysis.measure.electrodes import TriedElectrodes, first_by_seed
from analysis.options import EvaluationOptions
from ssense.data.recordings.segments import electrodes_of, subset_naming
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.cell import describe
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.errors import UserError
from sweeps.electrodes import ElectrodeOptions, electrode_sweep, main

NAMES = ["F1a1", "F1a2", "F1a3", "F1a4", "F1a5", "F1b1", "F1b2"]
RECORDING = SyntheticSpec(
    sentences=200,
    electrodes=7,
    sampling_rate=256,
    equal_durations=True,
    coupling=3,
    common_uv=5,
    responding="F1a2",
)
REGIONS = "electrode,region\nF1a1,STG\nF1a2,STG\nF1b1,insula\nF1a3,unknown\nF1a5,MTG\n"


def options(storage: UPath, **changes) -> ElectrodeOptions:
    values = {
        "storage": str(storage),
        "synthetic": RECORDING,
        "encoder": "linear",
        "reference": "none",
        "seeds": (0, 1, 2, 3),
        "max_epochs": 1,
        "precision": "float32",
        "yes": True,
    }
    return ElectrodeOptions(**(values | changes))


@pytest.fixture(scope="module")
def storage(tmp_path_factory, local_ray) -> Iterator[UPath]:  # noqa: ARG001 - it runs there
    """A storage with a sweep over electrodes, raced and evaluated."""
    folder = UPath(tmp_path_factory.mktemp("electrodes"))
    (folder / "regions.csv").write_text(REGIONS)
    main(options(folder, regions=str(folder / "regions.csv")))
    evaluate.main(EvaluationOptions(storage=str(folder)))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ledger(storage) -> Ledger:
    return find_ledger(storage)


def test_families_are_single_electrodes_shafts_and_regions_beside_all(ledger):
    families = {f.name: dict(f.levels) for f in ledger.description().sweep.families}
    assert families == {
        "all electrodes": {},
        "single electrode": {"data.subset": tuple(NAMES)},
        "shaft": {"data.subset": ("F1a: F1a1,F1a2,F1a3,F1a4,F1a5", "F1b: F1b1,F1b2")},
        "region": {"data.subset": ("STG: F1a1,F1a2",)},  # others are single electrodes
    }


def test_the_race_tries_every_electrode_and_drops_those_that_carry_no_words(ledger):
    tried = {r.configuration["data.subset"] for r in ledger.records().values() if r.configuration}
    assert {*NAMES} < tried
    dropped = {describe(row.configuration) for row, _ in ledger.description().decisions}
    assert len(dropped & {*NAMES}) >= 3
    assert not dropped & {"F1a2", "F1a", "STG"}


def test_the_contact_that_carries_the_words_is_the_best_and_is_tested(ledger):
    with (ledger.folder / "evaluation" / "electrodes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == {*NAMES, "F1a", "F1b", "STG"}
    best = {row["family"]: row["name"] for row in rows if row["tested"] == "True"}
    assert best == {"single electrode": "F1a2", "shaft": "F1a", "region": "STG"}
    single = [row for row in rows if row["family"] == "single electrode"]
    assert single[0]["name"] == "F1a2"
    assert single[0]["seeds"] == "4"
    assert min(int(row["seeds"]) for row in single) < 4
    page = (ledger.folder / "evaluation" / "report.html").read_text()
    assert "What electrodes reach by themselves" in page
    assert 'id="electrodes"' in page
    text = (ledger.folder / "evaluation" / "table.md").read_text()
    assert "The best of 7 by validation, single electrode: F1a2, the only one that met" in text
    assert "it is the best, or better than the next, is not" in page


def test_a_plan_has_a_line_for_many_datasets_that_share_features(storage, capsys):
    sized = {"regions": str(storage / "regions.csv"), "dry_run": True}
    many = SyntheticSpec(sentences=100, electrodes=20, sampling_rate=256, seed=1)
    main(options(storage, **sized, synthetic=many))
    said = capsys.readouterr().out
    assert "single electrode: 20 of 20 possible" in said
    assert "more, F1a1 to" in said
    assert "1 to 5 electrodes each, the features of as specified" in said
    assert said.count("the features of as specified") == 1
    assert "Left out: " in said


def test_groups_that_are_the_same_are_left_out_and_named(tmp_path, capsys):
    one_shaft = SyntheticSpec(sentences=60, electrodes=5, sampling_rate=256)
    given = options(tmp_path, synthetic=one_shaft)
    families = {f.name: f.size for f in electrode_sweep(given.plan_data(), given).families}
    assert families == {"all electrodes": 1, "single electrode": 5}
    said = "Left out: 1 group that is the same as what is in brackets, F1a (all electrodes)."
    assert said in capsys.readouterr().out


def test_a_single_electrode_has_nothing_to_be_compared_with(tmp_path):
    given = options(
        tmp_path,
        synthetic=SyntheticSpec(sentences=60, electrodes=3, sampling_rate=256),
        reference="laplacian",
    )
    with pytest.raises(UserError, match="the single electrode F1a2: there is nothing to compare"):
        electrode_sweep(given.plan_data(), given)


def test_regions_need_a_table_of_these_contacts(tmp_path, storage):
    data = options(storage).plan_data()
    with pytest.raises(UserError, match="--by region: sub_9 trial000 has nothing of this but"):
        electrode_sweep(data, options(storage, by=("region",)))
    with pytest.raises(UserError, match=r"--regions nowhere\.csv is no file"):
        electrode_sweep(data, options(storage, regions="nowhere.csv"))
    (tmp_path / "others.csv").write_text("electrode,region\nLA1,STG\n")
    with pytest.raises(UserError, match="names none of the 7 electrodes of the sweep"):
        electrode_sweep(data, options(storage, regions=str(tmp_path / "others.csv")))


def test_regions_that_the_recording_names_are_taken_without_a_table(storage, monkeypatch):
    data = options(storage).plan_data()
    named = {"F1a1": "STG", "F1a2": "STG", "F1b1": "insula", "F1b2": "insula", "F1a3": "insula"}
    monkeypatch.setattr(type(data.own.features.recording), "regions", named)
    sweep = electrode_sweep(data, options(storage))
    levels = sweep.family("region").levels["data.subset"]
    assert levels == ("STG: F1a1,F1a2", "insula: F1a3,F1b1,F1b2")


def test_a_subset_names_any_electrodes_and_no_others():
    odd = ["A1", "A[1]", "B*", "B2", "x?", "xy", "all", "C"]
    for name in odd:
        assert electrodes_of(subset_naming([name]), odd) == (name,)
    some = ["A[1]", "B*", "all"]
    assert electrodes_of(subset_naming(some, "a: b"), odd) == tuple(some)
    assert subset_naming(["A1", "C"], "STG") == "STG: A1,C"
    for unnamed in ("A,1", "D: 1", " A1"):
        with pytest.raises(ValueError, match="no subset can name"):
            subset_naming([unnamed])


def test_how_often_each_is_first_at_a_seed_counts_equals_in_parts():
    scores = [(0.5, 0.2, 0.3, 0.1), (0.5, 0.4, 0.1, 0.0), (0.9, 0.9)]
    tried = [
        TriedElectrodes(
            family="single electrode",
            configuration={"data.subset": f"A{number}"},
            electrodes=(f"A{number}",),
            scores=of,
            is_best=False,
        )
        for number, of in enumerate(scores)
    ]
    np.testing.assert_allclose(first_by_seed(tried, 4), [0.625, 0.375, 0.0])
    assert not first_by_seed(tried[2:], 4).any()
