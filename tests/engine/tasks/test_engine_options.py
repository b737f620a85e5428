"""What all sweeps take from the command line."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from ssense.engine.core.cell import Cell, signature
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError


class Planned:
    """A dataset as far as a sweep's definition looks at it."""

    digest = "0"
    datasets: ClassVar[dict[str, str]] = {}

    def covering(self, *_):
        return self


def test_weights_among_levels_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, "own.pt")
    families = {"weights": {"encoder.weights": ("random", "own.pt")}}
    sweep = RecordingOptions().sweep("start", Planned(), families)
    assert sweep.families[0].levels == {"encoder.weights": ("random", str(tmp_path / "own.pt"))}
    cell = Cell({"encoder.weights": sweep.families[0].levels["encoder.weights"][1]}, 0)
    here = signature(cell, sweep.specification, sweep.dataset_digest)
    monkeypatch.chdir("/")
    assert signature(cell, sweep.specification, sweep.dataset_digest) == here


@pytest.mark.parametrize("level", ["imagnet", "none.pth"])
def test_weights_that_are_no_file_are_refused_before_anything_is_written(level):
    families = {"mine": {"encoder.weights": ("random", level)}}
    with pytest.raises(UserError) as error:
        RecordingOptions().sweep("start", Planned(), families)
    assert str(error.value) == (
        f"family mine: encoder.weights {level}: no such file. Give imagenet, random, or the path "
        "of a file."
    )


def test_a_file_that_is_named_twice_is_one_level(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pth").write_bytes(b"weights")
    levels = {"encoder.weights": ("own.pth", str(tmp_path / "own.pth"))}
    with pytest.raises(UserError, match=r"encoder\.weights has the level .* twice"):
        RecordingOptions().sweep("start", Planned(), {"mine": levels})


def test_an_evaluation_of_a_single_seed_is_refused_before_it_trains():
    with pytest.raises(UserError, match=r"^--evaluate: nothing .* the single seed 3\."):
        RecordingOptions(seeds=(3,), evaluate=True)
    assert RecordingOptions(seeds=(3, 4), evaluate=True).seeds == (3, 4)
