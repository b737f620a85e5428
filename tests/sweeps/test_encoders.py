"""The encoders side by side, one of the user's own among them, from the plan to the report."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from analysis import evaluate
from analysis.options import EvaluationOptions
from analysis.verify import find_faults
from ssense.choices import ENCODERS
from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.records.find import find_ledger
from ssense.engine.reproduce import reproduce_cell
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError
from ssense.files.storage import open_storage
from sweeps.encoders import main

OWN = """
import torch


class Strengths(torch.nn.Module):
    def __init__(self, electrodes, frequencies, frames, dimensions, coordinates):
        super().__init__()
        self.is_left = (coordinates[:, :1] < 0).float()
        self.head = torch.nn.Linear(2 * electrodes * frequencies, dimensions)

    def forward(self, x):
        strengths = x.mean(dim=-1)
        left = strengths * self.is_left.to(x.device)
        return self.head(torch.cat([left, strengths - left], dim=1).flatten(1))
"""


@pytest.mark.usefixtures("local_ray")
def test_encoders_are_compared_beside_one_of_ones_own(tmp_path, capsys):
    file = tmp_path / "own.py"
    file.write_text(OWN)
    storage = tmp_path / "storage"
    main(
        RecordingOptions(
            storage=str(storage),
            synthetic=SyntheticSpec(sentences=70, electrodes=5, quirks=True),
            encoder=f"{file}:Strengths",
            configurations=1,
            seeds=(0, 1),
            max_epochs=1,
            yes=True,
        )
    )
    shown = capsys.readouterr().out
    ledger = find_ledger(open_storage(str(storage)))
    records = ledger.records().values()
    assert len(records) == 2 * (len(ENCODERS) + 1)
    assert all(record.done and math.isfinite(record.best["loss"]) for record in records)
    assert "encoder: own with coordinates, " in shown
    assert [name for name in ENCODERS if f"  encoder: {name}, " not in shown] == []
    assert "  encoder: attention with coordinates, " in shown
    sweep = ledger.description().sweep
    assert sweep.family("attention").levels["encoder.coordinates"] == (False, True)
    own = next(each for each in records if each.configuration["encoder"] == "own")
    assert reproduce_cell(ledger.storage, own.signature, threads=1).exact
    assert list(find_faults(open_storage(str(storage)), Counter())) == []

    evaluate.main(EvaluationOptions(storage=str(storage)))
    assert "Strengths vs chance" in capsys.readouterr().out
    file.write_text(OWN + "\n")
    with pytest.raises(UserError, match=r"own\.py:Strengths is not as it was"):
        evaluate.main(EvaluationOptions(storage=str(storage)))
