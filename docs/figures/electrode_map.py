"""The electrode map of the README, by a real run on a synthetic recording.

    .venv/bin/python docs/figures/electrode_map.py [STORAGE]

The recording has sub_9's 106 contacts where those lie. Words evoke something in the six of one
shaft alone, in the left superior temporal gyrus; sentences last as long as each other. A linear
encoder is trained at ten seeds and evaluated, and each electrode by itself retrieves the sentences
of the test splits. What is printed belongs into the picture's caption.
"""

from __future__ import annotations

import csv
import shutil
import sys
import tempfile
from pathlib import Path

from analysis import evaluate, maps
from analysis.options import EvaluationOptions, MapOptions
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.budget import Budget
from ssense.engine.records.find import find_ledger
from ssense.engine.run import run_sweep
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.files.storage import open_storage

SHAFT = "T1b"
RECORDING = SyntheticSpec(
    sentences=600,
    electrodes=106,
    sampling_rate=256,
    equal_durations=True,
    pauses=0,
    responding=f"{SHAFT}*",
    coupling=3.0,
    common_uv=5.0,
)
PICTURE = Path(__file__).with_suffix(".png")


def make(storage: str) -> None:
    """Make the map in a storage, or what of it is missing, and copy its picture here."""
    options = RecordingOptions(
        storage=storage,
        seeds=tuple(range(10)),
        max_epochs=1,
        yes=True,
        encoder="linear",
        reference="none",
        precision="float32",
        synthetic=RECORDING,
    )
    data = options.plan_data()
    run_sweep(options.sweep("electrode-map", data, {"linear": {}}), data, options, Budget())
    evaluate.main(EvaluationOptions(storage=storage))
    maps.main(MapOptions(storage=storage, maps=("electrodes",), space="mni152"))
    folder = Path(str(find_ledger(open_storage(storage), None).folder)) / "maps"
    shutil.copy(folder / "electrode_alone.png", PICTURE)
    with (folder / "tests.csv").open(newline="") as file:
        shown = [
            row["name"]
            for row in csv.DictReader(file)
            if (row["what"], row["metric"], row["shown"])
            == ("electrode alone", "recall@10", "True")
        ]
    print(f"{PICTURE}: shown {', '.join(shown)}; words are in {SHAFT}1 to {SHAFT}6")


if __name__ == "__main__":
    if sys.argv[1:]:
        make(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            make(scratch)
