"""Maps of recordings whose truth is known, taken through the whole pipeline: a few of them.

`benchmarks/map_worlds.py` counts many.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from map_worlds import Options, carries, maps_of, report, world

from analysis.mapping.checks import check_similar
from analysis.mapping.durations import said_of_durations

OPTIONS = Options(sentences=400, seeds=4, queries=60)


@pytest.fixture(scope="module")
def told():
    """A recording in which two contacts, a band and a latency carry the words."""
    found = world("told", 0, OPTIONS)
    return found, {each.what: each for each in maps_of(found, OPTIONS)}


@pytest.mark.parametrize("what", ["electrode alone", "shaft left out", "time window"])
def test_contacts_and_latency_that_carry_the_words_are_found(told, what):
    found, maps = told
    truth = [carries(part, found.axes) for part in maps[what].parts]
    shown = maps[what].found.tolist()
    assert any(truth)
    assert all(shown[at] for at, is_true in enumerate(truth) if is_true)


def test_nothing_else_is_found(told):
    found, maps = told
    assert len(maps) == 6
    for each in maps.values():
        truth = [carries(part, found.axes) for part in each.parts]
        false = [at for at, is_true in enumerate(truth) if is_true is False]
        assert false
        assert not each.found[false].any(), each.what


def test_the_largest_band_lies_within_that_of_the_words(told):
    found, maps = told
    bands = maps["frequency band"]
    assert carries(bands.parts[int(bands.means.argmax())], found.axes)


def test_words_are_not_taken_for_durations(told):
    found, maps = told
    for each in maps.values():
        assert not check_similar(each).contradicts
        assert said_of_durations(each, found.axes, found.spoken_s) == []


def test_padding_shows_as_durations_and_where_it_lies():
    options = Options(seeds=5)
    found = world("padded", 20_000, options)  # 17 of 20 show it
    maps = {each.what: each for each in maps_of(found, options)}
    windows = maps["time window"]
    assert windows.found.any()
    # Where all are still being spoken nothing tells them apart, behind that how long they are does.
    first = min(at for at in range(len(windows.parts)) if windows.found[at])
    step_s = found.axes.step_s
    starts_s = np.array([found.axes.times_s[part.frames[0]] - step_s for part in windows.parts])
    assert starts_s[first] > found.spoken_s.min()
    check = check_similar(windows)
    assert check.contradicts
    assert check.left > 0.6
    said = " ".join(said_of_durations(windows, found.axes, found.spoken_s))
    assert "by how long sentences are" in said


def test_a_null_recording_has_empty_maps():
    counts = report("null", 10_000, OPTIONS)
    assert len(counts) == 6
    assert not any(each["any"] for each in counts.values())
