"""Write a made-up recording in Brain Treebank's layout.

python -m ssense.data.synthetic OUT --sentences 300 --electrodes 8 --coupling 1 --seed 0
python -m ssense.data.synthetic OUT --quirks                # as untidy as the published files
python -m ssense.data.synthetic OUT --timings sentences.csv # sentences when a real movie's are
"""

from __future__ import annotations

from ssense.cli.command import check_flags, inherited, run_command
from ssense.data.synthetic.spec import SyntheticCommand, SyntheticSpec

if __name__ == "__main__":
    check_flags(SyntheticCommand)  # before the imports that take seconds

from ssense.data.synthetic.recording import holds_synthetic, settled, write_synthetic
from ssense.data.synthetic.sentence_timings import read_sentence_timings
from ssense.errors import counted


def main(command: SyntheticCommand) -> None:
    """Write a synthetic recording in Brain Treebank's layout to the folder OUT."""
    table = None if command.timings is None else read_sentence_timings(command.timings)
    spec = settled(inherited(command, SyntheticSpec), table)
    there = holds_synthetic(command.out, spec, table)
    write_synthetic(command.out, spec, table)
    print(
        f"{command.out}: {'was already there' if there else 'written'}, "
        f"{counted(spec.sentences, 'sentence')}, {counted(spec.electrodes, 'contact')}, coupling "
        f"{spec.coupling:g}, {spec.sampling_rate:g} Hz, seed "
        f"{spec.seed}{', quirks' if spec.quirks else ''}"
    )


if __name__ == "__main__":
    run_command(SyntheticCommand, main)
