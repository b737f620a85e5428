"""What all sweeps take from the command line."""

from __future__ import annotations

import torch

from ssense.engine.core.cell import Cell, signature
from ssense.engine.tasks.recording_options import SweepOptions


class Planned:
    """A dataset as far as a sweep's definition looks at it."""

    digest = "0"

    def covering(self, *_):
        return self


def test_weights_among_levels_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, "own.pt")
    families = {"weights": {"encoder.weights": ("random", "own.pt")}}
    sweep = SweepOptions().sweep("start", Planned(), families)
    assert sweep.families[0].levels == {"encoder.weights": ("random", str(tmp_path / "own.pt"))}
    cell = Cell({"encoder.weights": sweep.families[0].levels["encoder.weights"][1]}, 0)
    here = signature(cell, sweep.specification, sweep.dataset_digest)
    monkeypatch.chdir("/")
    assert signature(cell, sweep.specification, sweep.dataset_digest) == here
