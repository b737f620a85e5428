"""Where the time of the main job goes: `make sweep` in one process, and in two, stage by stage.

    python benchmarks/main_job.py --rounds 3

Each round runs the sweep with its evaluation in the same process, as `make sweep` does, and then
the same in two commands, each in a storage of its own. A stage begins with the line on screen that
announces it; what comes before the first line is the start of the process. Beside the seconds stand
those of the processors, of all processes that the command waited for.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to run."""

    rounds: int = 1
    """How often both are run."""
    flags: str = ""
    """Further flags of the sweep, such as "--seeds 0 1 --max-epochs 1"."""

    def __post_init__(self) -> None:
        at_least(self, rounds=1)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import itertools
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).parents[1]
STAGES = {
    "recording": "No --recording given",
    "plan": "Reading ",
    "Ray": "Starting Ray",
    "text": "Text embeddings",
    "spectrograms": "Spectrograms",
    "training": "Training ",
    "result": "MLflow view",
    "evaluation": "Test evaluation of",
    "report": "Report ...",
    "MLflow": "MLflow ...",
}
"""What a stage's first line begins with, in the order in which they come."""


def stages_of(commands: Sequence[Sequence[str]]) -> dict[str, float]:
    """Run commands one after another; return the seconds of each stage, and of all."""
    begun: list[tuple[str, float]] = []
    start = time.perf_counter()
    before = _processor_s()
    for command in commands:
        begun.append(("start", time.perf_counter()))
        for line in _lines(command):
            begun += [
                (stage, time.perf_counter())
                for stage, beginning in STAGES.items()
                if line.startswith(beginning)
            ]
    begun.append(("", time.perf_counter()))
    seconds = dict.fromkeys(["start", *STAGES], 0.0)
    for (stage, at), (_, until) in itertools.pairwise(begun):
        seconds[stage] += until - at
    total = {"wall": time.perf_counter() - start, "processors": _processor_s() - before}
    return seconds | total


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _lines(command: Sequence[str]) -> Iterator[str]:
    """The lines that a command prints, as they come.

    Raises:
        RuntimeError: The command fails.
    """
    with subprocess.Popen(
        [sys.executable, "-u", *command], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with exit code {process.returncode}")


def main(options: Options) -> None:
    """Time the main job in one process and in two."""
    found: dict[str, list[dict[str, float]]] = {"one process": [], "two processes": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for name, rounds in found.items():
                place = ["--storage", str(Path(folder, f"{number} {name}"))]
                sweep = ["sweeps/masking.py", "--yes", *place, *shlex.split(options.flags)]
                evaluation = ["analysis/evaluate.py", *place]
                one = name == "one process"
                rounds.append(stages_of([[*sweep, "--evaluate"]] if one else [sweep, evaluation]))
    medians = {
        name: {stage: median(each[stage] for each in rounds) for stage in rounds[0]}
        for name, rounds in found.items()
    }
    print(f"{'stage':<14}" + "".join(f"{name:>16}" for name in medians))
    for stage in medians["one process"]:
        print(f"{stage:<14}" + "".join(f"{times[stage]:>14.1f} s" for times in medians.values()))
    ratio = medians["two processes"]["wall"] / medians["one process"]["wall"]
    print(f"two processes take {ratio:.2f} times as long")
    print(json.dumps(medians | {"ratio": ratio}))


if __name__ == "__main__":
    run_command(Options, main)
