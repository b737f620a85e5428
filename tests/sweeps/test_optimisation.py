from __future__ import annotations

import pytest

from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.records.find import find_ledger
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.files.storage import open_storage
from ssense.specification import configured
from sweeps.optimisation import main


@pytest.mark.usefixtures("local_ray")
def test_another_sweep_runs_on_the_same_engine(tmp_path, capsys):
    main(
        RecordingOptions(
            storage=str(tmp_path),
            synthetic=SyntheticSpec(sentences=60, electrodes=5),
            configurations=1,
            seeds=(0,),
            max_epochs=1,
            yes=True,
        )
    )
    ledger = find_ledger(open_storage(str(tmp_path)))
    assert ledger.folder.name.startswith("optimisation-")
    shared = ledger.description().sweep.specification
    specs = [configured(shared, row.configuration) for row in ledger.description().rows]
    published, rate, temperature, both = (
        (s.training.learning_rate, s.objective.temperature) for s in specs
    )
    assert published == (5e-4, 0.07)
    assert (rate[1], temperature[0]) == (0.07, 5e-4)
    records = ledger.records().values()
    assert all(record.done for record in records)
    # What the configurations name is what was trained: other values, another loss.
    losses = {record.history[0]["loss"] for record in records}
    assert len(losses) == len({published, rate, temperature, both}) == len(records)
    shown = capsys.readouterr().out
    assert "learning rate + temperature" in shown
    assert "analysis/evaluate.py" in shown
