"""Every benchmark at its smallest size, and the commands that the documents give for them."""

from __future__ import annotations

import json
import math
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic

REPOSITORY = Path(__file__).parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
FIGURES = REPOSITORY / "docs" / "benchmarks.md"
NAMES = sorted(path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text())

RECORDING, FIGURE = "RECORDING", "FIGURE"  # in the place of a small recording, and of a new file
SMALLEST = {
    "batch_memory.py": "--batch-size 2 --electrodes 1 --sentences 4",
    "claims.py": (
        "--worlds 1 --null 1 --coupled 0 --sentences 60 --seeds 2 --epochs 1 --processes 1"
    ),
    "cost_growth.py": f"{FIGURE} --axes electrodes --points 2",
    "data_path.py": "--sentences 8 --electrodes 1 --rounds 1",
    "datasets.py": "--sentences 60 --electrodes 3 --epochs 1 --seeds 1 --rounds 1",
    "full_size.py": RECORDING,
    "gpu.py": "--parts superlets --channels 1 --least-s 0.001",
    "image_cell.py": "--concepts 203 --subjects 2 --rounds 1",
    "main_job.py": (
        '--flags="--seeds 0 1 --max-epochs 1 --configurations 1 --ratios 0.5 --encoder linear '
        '--synthetic.sentences 60 --synthetic.electrodes 4"'
    ),
    "map_worlds.py": (
        "--told 1 --null 0 --padded 1 --sentences 60 --seeds 2 --queries 8 --processes 1"
    ),
    "maps.py": "--sentences 12 --electrodes 2 --measured 2 --seeds 2 --epochs 1 --rounds 1",
    "packing.py": "--at-once 1 --electrodes 1 --sentences 8 --seconds 0.1",
    "precision.py": "--seeds 2 --max-epochs 1 --sentences 60",
    "precompute.py": f"--recording {RECORDING}",
    "race.py": "--sweeps 2",
    "scale.py": "--workers 4 --cells 40",
    "superlets.py": "--rounds 1 --channels 2",
    "sweep_overhead.py": "--seeds 1 --others 1 --bare 0 --sentences 20",
    "training_step.py": "--electrodes 1 --sentences 8 --batch-size 4 --rounds 1 --least-s 0.01",
}
WITHOUT_JSON = {
    "full_size.py": r"cells \d+ h, \d+\.\d+ core-hours each",
    "race.py": r"^ +32 +6  race, ahead +0\.\d+ +0\.\d+ +\d+\.\d +\d\.\d+ ",
    "scale.py": r"^race, TPE +\d+ .+% .+ in \d+ s$",
    "superlets.py": r"\d+x faster than 598 fftconvolve calls .+ \d+\.\dx its inverse FFTs",
    "sweep_overhead.py": r"overhead -?\d+\.\d+ s, -?\d+ x the engine's$",
}

# On one core their Ray has a single worker: each takes longer to start than all that it does.
ONE_CORE = {"full_size.py", "main_job.py", "precision.py", "precompute.py"}

# Libraries take most of a small benchmark's time: one process loads them, and is divided for each.
LAUNCHER = """
import contextlib, importlib, json, os, runpy, sys
import matplotlib.figure, ray.data, ray.tune
import analysis.measure.evaluation, ssense.engine.tasks.recording_options
import ssense.engine.view.tracking, ssense.engine.work.workers
import ssense.cli.command

folder, names = sys.argv[1], sys.argv[2:]
sys.path[0] = folder
for name in names:
    with contextlib.suppress(Exception):  # which its own test will show
        importlib.import_module(name.removesuffix(".py"))

def only_parse(options, command):
    ssense.cli.command.check_flags(options)

def run(name, arguments):
    sys.argv = [os.path.join(folder, name), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if not pid:
        with open(order["shown"], "wb") as shown:
            os.dup2(shown.fileno(), 1)
            os.dup2(shown.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if order["one_core"] and hasattr(os, "sched_setaffinity"):  # macOS has none
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        if order["only_parse"]:
            ssense.cli.command.run_command = only_parse
        for name, *arguments in order["commands"]:
            run(name, arguments)
        raise SystemExit(0 if order["only_parse"] else "it has no run_command")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """A benchmark that was run: its exit status and all that it printed."""

    status: int
    shown: str


Launch = Callable[..., Ended]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Run a command, the name of a benchmark and its arguments; or parse several and run none."""
    shown = tmp_path_factory.mktemp("shown") / "shown.txt"
    command = [sys.executable, "-c", LAUNCHER, str(BENCHMARKS), *NAMES]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def run(*commands: Sequence[str], only_parse: bool = False) -> Ended:
            order = {
                "commands": commands,
                "only_parse": only_parse,
                "shown": str(shown),
                "one_core": not only_parse and commands[0][0] in ONE_CORE,
            }
            process.stdin.write(f"{json.dumps(order)}\n")
            process.stdin.flush()
            return Ended(int(process.stdout.readline()), shown.read_text())

        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    write_synthetic(folder, SyntheticSpec(sentences=70, electrodes=5, sampling_rate=512))
    return folder


def test_every_benchmark_has_a_smallest_size():
    assert sorted(SMALLEST) == NAMES


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_at_its_smallest_size_and_prints_figures(
    name, launch, recording, tmp_path
):
    places = {RECORDING: str(recording), FIGURE: str(tmp_path / "figure.png")}
    words = shlex.split(SMALLEST[name])
    ended = launch([name, *(places.get(word, word) for word in words)])
    assert ended.status == 0, ended.shown
    if name in WITHOUT_JSON:
        assert re.search(WITHOUT_JSON[name], ended.shown, re.M), ended.shown
    else:
        result = json.loads(ended.shown.splitlines()[-1])
        assert any(
            isinstance(value, int | float) and math.isfinite(value) for value in numbers(result)
        )
    if FIGURE in words:
        assert (tmp_path / "figure.png").stat().st_size > 0


@pytest.mark.parametrize(
    "command",
    [
        "batch_memory.py --batch-size 1",
        "batch_memory.py --sentences 1 --batch-size 2",
        "claims.py --seeds 1",
        "cost_growth.py figure.png --points 0",
        "data_path.py --rounds 0",
        "datasets.py --sentences 10",
        "gpu.py --channels 0",
        "image_cell.py --concepts 3",
        "main_job.py --rounds -1",
        "map_worlds.py --seeds 1",
        "maps.py --sentences 11",
        "packing.py --at-once 0",
        "packing.py --sentences 1",
        "precision.py --seeds 1",
        "precompute.py --electrodes 0",
        "race.py --sweeps 0",
        "scale.py --cells 1",
        "superlets.py --channels 0",
        "sweep_overhead.py --simulate 1",
        "training_step.py --batch-size 1",
    ],
)
def test_a_number_too_small_to_measure_anything_is_one_line(command, launch):
    ended = launch(shlex.split(command), only_parse=True)
    flag = re.search(r"--[a-z-]+", command)[0]
    assert ended.status == 2
    assert re.fullmatch(rf"error: {flag} must be at least .+ such as \d+\.\n", ended.shown)


def numbers(result: object) -> Iterator[object]:
    """All single values of a result, lists and groups resolved."""
    if isinstance(result, dict | list):
        for value in result.values() if isinstance(result, dict) else result:
            yield from numbers(value)
    else:
        yield result


def documented() -> list[list[str]]:
    """Every command of a benchmark in the documents and in the benchmarks themselves, in words."""
    table = FIGURES.read_text()
    # With its arguments, or the bare name of a benchmark, which stands for itself.
    found = set(re.findall(r"`([a-z_]+\.py --[^`]+)`", table))
    for path in [*BENCHMARKS.glob("*.py"), REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]:
        lines = path.read_text().replace("\\\n", " ")
        found |= set(re.findall(r"python benchmarks/([a-z_]+\.py[^#`\n]*)", lines))
    return sorted(map(shlex.split, found))


def test_the_commands_that_documents_give_are_understood(launch):
    commands = documented()
    assert {name for name, *_ in commands} == {*NAMES}  # each says in its head how it is called
    ended = launch(*commands, only_parse=True)
    assert ended.status == 0, ended.shown
    assert launch(["race.py", "--sweps", "2"], only_parse=True).status == 2


def test_the_table_of_figures_names_benchmarks_that_are_there():
    named = set(re.findall(r"\b([a-z_]+\.py)\b", FIGURES.read_text()))
    assert named == {*NAMES}
