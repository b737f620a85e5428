"""Descriptions of sweeps that earlier versions of the code wrote."""

from __future__ import annotations

import json

import pytest
from upath import UPath

from ssense.data.recordings.segments import SegmentSpec
from ssense.data.shards import Manifest
from ssense.engine.core.origin import DatasetOrigin, RecordingOrigin
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import FORMAT_VERSION, Description
from ssense.engine.records.ledger import Ledger
from ssense.engine.tasks.recording_plan import SMALL
from ssense.errors import UserError
from ssense.files.sealed_json import unsealed, write_sealed
from ssense.specification import plain
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec

TEXT = TextSpec(weights="untrained")


@pytest.fixture
def earlier(tmp_path) -> Ledger:
    """A ledger whose description has no groups of the data, and whose shards have a manifest."""
    ledger = Ledger(UPath(tmp_path) / "sweeps" / "masking-0")
    sweep = Sweep(
        question="masking",
        dataset_digest="d",
        specification=SentenceSpec(),
        families=(Family(name="all", levels={}),),
        configurations=1,
        seeds=(0, 1),
    )
    origin = RecordingOrigin(
        subject="sub_9", title="Film", shards="s0", recording="there", text=TEXT
    )
    ledger.describe(Description(sweep=sweep, origin=origin))
    path = ledger.folder / "sweep.json"
    content = unsealed(json.loads(path.read_text()), without="format")
    for group in ("data", "features", "target"):
        del content["sweep"]["specification"][group]
    write_sealed(path, {"format": FORMAT_VERSION, **content})
    return ledger


def write_manifest(ledger: Ledger, segments: dict) -> None:
    Manifest(
        digest="s0",
        origin={},
        settings={"segments": segments, "superlets": plain(SMALL) | {"kind": "superlets"}},
        sources={},
        sampling_rate_hz=512,
        electrodes=("a",),
        dropped={},
    ).write(ledger.storage / "shards" / "s0")


def test_what_the_shards_were_made_by_stands_for_the_groups_of_the_data(earlier):
    name = earlier.folder.name
    segments = plain(SegmentSpec(line_hz=50.0, context_after_s=2.0))
    for later in ("reference", "subset"):
        del segments[later]
    write_manifest(earlier, segments | {"electrodes": "clean-laplacian"})
    found = earlier.description().sweep.specification
    assert isinstance(found, SentenceSpec)
    assert found.data == SegmentSpec(line_hz=50.0, context_after_s=2.0)
    assert found.features == SMALL
    assert found.target == TEXT
    assert earlier.folder.name == name


def test_defaults_stand_for_them_where_the_shards_are_gone(earlier):
    found = earlier.description().sweep.specification
    assert found == SentenceSpec()


def test_what_a_description_says_is_not_replaced(earlier):
    described = earlier.description()
    earlier.describe(described)
    write_manifest(earlier, plain(SegmentSpec(line_hz=50.0)))
    assert earlier.description().sweep.specification == SentenceSpec()


def test_a_target_of_before_there_were_others_is_a_tower_of_open_clip_s(tmp_path):
    """Neither the specification nor any origin named a kind then."""
    ledger = Ledger(UPath(tmp_path) / "sweeps" / "masking-0")
    tower = TextSpec(model="RN50-quickgelu", weights="yfcc15m", layer=3)
    sweep = Sweep(
        question="masking",
        dataset_digest="d",
        specification=SentenceSpec(target=tower),
        families=(Family(name="layer", levels={"target.layer": (3, 6)}),),
        configurations=2,
        seeds=(0, 1),
    )
    dataset = DatasetOrigin(digest="d", changes={}, shards="s", text=TEXT)
    origin = RecordingOrigin(
        subject="a", title="b", shards="s", recording="c", text=tower, datasets=(dataset,)
    )
    description = Description(sweep=sweep, origin=origin)
    ledger.describe(description)
    path = ledger.folder / "sweep.json"
    content = unsealed(json.loads(path.read_text()), without="format")
    stored = [
        content["sweep"]["specification"]["target"],
        content["origin"]["text"],
        content["origin"]["datasets"][0]["text"],
    ]
    for target in stored:
        assert target.pop("kind") == "open-clip"
        assert target.keys() == {"model", "weights", "layer"}
    write_sealed(path, {"format": FORMAT_VERSION, **content})
    assert ledger.description() == description
    stored[0]["kind"] = "no-such"
    write_sealed(path, {"format": FORMAT_VERSION, **content})
    with pytest.raises(UserError, match=r"target\.kind is 'no-such', not one of open-clip, sent"):
        ledger.description()
