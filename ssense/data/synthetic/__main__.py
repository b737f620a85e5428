"""Write a made-up recording, in Brain Treebank's layout or another.

python -m ssense.data.synthetic OUT --sentences 300 --electrodes 8 --coupling 1 --seed 0
python -m ssense.data.synthetic OUT --quirks               # as untidy as the published files
python -m ssense.data.synthetic OUT --timings times.csv    # sentences when a real movie's are
python -m ssense.data.synthetic OUT --as bids              # or edf: as laboratories keep theirs
"""

from __future__ import annotations

from ssense.cli.command import check_flags, inherited, next_line, run_command
from ssense.data.synthetic.spec import SyntheticCommand, SyntheticSpec

if __name__ == "__main__":
    check_flags(SyntheticCommand)  # before the imports that take seconds

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

from ssense.data.recordings.interchange import SENTENCES, write_bids, write_edf
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.synthetic.recording import (
    holds_synthetic,
    settled,
    synthetic_metadata,
    write_synthetic,
)
from ssense.data.synthetic.sentence_timings import SentenceTimings, read_sentence_timings
from ssense.errors import counted
from ssense.files.storage import scratch_folder, write_folder
from ssense.files.tables import read_json_as

TASK = "synthetic"
"""Label of the task in BIDS."""
SPECIFIED = {"bids": Path("sourcedata") / "synthetic.json", "edf": Path("synthetic.json")}
"""Where a folder of each format says what it was made by."""


def main(command: SyntheticCommand) -> None:
    """Write a synthetic recording to the folder OUT."""
    table = None if command.timings is None else read_sentence_timings(command.timings)
    spec = settled(inherited(command, SyntheticSpec), table)
    if command.as_ == "brain-treebank":
        there = holds_synthetic(command.out, spec, table)
        write_synthetic(command.out, spec, table)
    else:
        specified = command.out / SPECIFIED[command.as_]
        made_by = synthetic_metadata(spec, table)
        is_there = partial(_holds, specified, made_by)
        there = is_there()
        write = partial(_write_as, command.as_, spec, table)
        write_folder(command.out, f"synthetic recording as {command.as_}", write, is_there)
    print(
        f"{command.out}: {'was already there' if there else 'written'}, "
        f"{counted(spec.sentences, 'sentence')}, {counted(spec.electrodes, 'contact')}, coupling "
        f"{spec.coupling:g}, {spec.sampling_rate:g} Hz, seed "
        f"{spec.seed}{', quirks' if spec.quirks else ''}"
    )
    print(next_line("sweeps/masking.py", **_where(command)))


def _where(command: SyntheticCommand) -> dict[str, object]:
    """Flags of a sweep on the recording that a command has written."""
    if command.as_ != "edf":
        return {"recording": command.out}
    (path,) = command.out.glob("*.edf")
    return {"recording": path, "sentences": command.out / SENTENCES}


def _holds(path: Path, made_by: dict[str, object]) -> bool:
    return path.is_file() and read_json_as(path, dict) == made_by


def _write_as(as_: str, spec: SyntheticSpec, table: SentenceTimings | None, folder: Path) -> None:
    """Write the recording as Brain Treebank's beside it first, and that in another format."""
    with scratch_folder(folder.parent, f".{folder.name}.made-") as scratch:
        write_synthetic(scratch / "made", spec, table)
        measured = open_brain_treebank(scratch / "made")
        timeline = replace(measured.timeline, stated_hz=spec.sampling_rate)
        recording = replace(measured, timeline=timeline)  # at the rate that it was made with
        if as_ == "bids":
            write_bids(recording, folder, task=TASK)
        else:
            write_edf(recording, folder)
    specified = folder / SPECIFIED[as_]
    specified.parent.mkdir(exist_ok=True)
    specified.write_text(json.dumps(synthetic_metadata(spec, table), indent=1) + "\n")


if __name__ == "__main__":
    run_command(SyntheticCommand, main)
