"""What happens before a command begins: help, wrong flags and interrupts need nothing heavy."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
HEAVY = {"torch", "ray", "mlflow", "optuna", "matplotlib", "scipy", "numpy", "pyarrow", "rich"}
SCRIPTS = [
    *(f"sweeps/{name}.py" for name in ("masking", "optimisation", "learning_curve", "images")),
    *(f"analysis/{name}.py" for name in ("evaluate", "compare", "controls", "recordings")),
    *(f"analysis/{name}.py" for name in ("catalogue", "export", "verify")),
]
BENCHMARKS = sorted(
    f"benchmarks/{path.name}"
    for path in (REPOSITORY / "benchmarks").glob("*.py")
    if "run_command(" in path.read_text()  # others are parts of them
)
MODULES = [
    *(
        "analysis.compare",
        "analysis.catalogue",
        "sweeps.masking",
        "ssense.engine.view.tracking",
    ),
    *(
        "ssense.engine.view.mlflow_server",
        "ssense.data.synthetic",
        "ssense.data.synthetic.things",
    ),
    *("ssense.data.shards", "ssense.engine.view.mlflow_ui"),
]
COMMANDS = [
    *([script] for script in SCRIPTS),
    *(["-m", module] for module in MODULES),
    *(["-m", "ssense", *words] for words in ([], ["evaluate"], ["sweep", "masking"])),
]


def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def imported(log: str) -> set[str]:
    """Packages that `-X importtime` names."""
    lines = re.findall(r"^import time:.*\|\s*([\w.]+)$", log, re.MULTILINE)
    return {line.partition(".")[0] for line in lines}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[-1])
def test_help_imports_nothing_heavy(command):
    done = start("-X", "importtime", *command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: ")
    assert "Traceback" not in done.stdout
    assert "dataclasses" in imported(done.stderr)
    assert not HEAVY & imported(done.stderr)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sweeps/masking.py"], ["--seeds", "abc"]),
        (["sweeps/masking.py"], ["--max-epochs", "0"]),
        (["sweeps/masking.py"], ["--dry-run", "--encoder-weights", "abc"]),
        (["sweeps/masking.py"], ["--dry-run", "--text-weights", "/dev/null"]),
        (["sweeps/masking.py"], ["--dry-run", "--text-weights", "opennai"]),
        (["sweeps/masking.py"], ["--dry-run", "--recording", "/nonexist"]),
        (["sweeps/masking.py"], ["--dry-run", "--synthetic.sentences", "100000000"]),
        (["sweeps/masking.py"], ["--dry-run", "--recording", "ftp://nope.invalid/x"]),
        (["sweeps/masking.py"], ["--dry-run", "--subject", "foo"]),
        (["sweeps/images.py"], ["--image-weights", "no/such.safetensors"]),
        (["sweeps/images.py"], ["--image-weights", "laion5b"]),
        (["sweeps/images.py"], ["--responses", "/nonexistent"]),
        (["sweeps/images.py"], ["--synthetic.subjects", "0"]),
        (["analysis/evaluate.py"], ["--confirm-seeds", "5", "5"]),
        (["analysis/controls.py"], ["--train", "noise", "silence"]),
        (["analysis/export.py"], ["--out", "model", "--family", "a", "--cell", "b"]),
        (["analysis/maps.py"], ["--maps", "electrode"]),
        (["-m", "analysis.compare"], ["results.csv", "--equivalence", "much"]),
        (["-m", "ssense.data.synthetic"], ["OUT", "--sentences", "0"]),
        (["-m", "ssense", "sweep", "masking"], ["--seeds", "abc"]),
        (["-m", "ssense.engine.view.tracking"], ["--sweep"]),
        (["-m", "ssense.engine.view.mlflow_ui"], ["--port", "999999"]),
    ],
    ids=lambda words: words[-1],
)
def test_a_wrong_flag_is_one_line_before_anything_heavy_is_imported(command, words):
    done = start("-X", "importtime", *command, *words)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("import time:"))
    assert line.startswith("error: ")
    assert len(line) < 300
    assert not HEAVY & imported(done.stderr)


def test_what_a_worker_knows_of_segments_comes_without_filters_and_statistics():
    """They take a second, at every start of a worker, and only who reads a recording needs them."""
    done = start("-X", "importtime", "-c", "import ssense.data.recordings.segments")
    assert done.returncode == 0
    found = set(re.findall(r"\|\s*(scipy\.\w+)$", done.stderr, re.MULTILINE))
    assert not {"scipy.signal", "scipy.stats"} & found


@pytest.mark.parametrize("script", BENCHMARKS)
def test_a_benchmark_reads_its_flags_before_anything_heavy_is_imported(script):
    done = start("-X", "importtime", script, "--nope")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("import time:"))
    assert line.startswith(f"error: {script} has no flag --nope. ")
    assert not HEAVY & imported(done.stderr)


@pytest.mark.parametrize(
    "module",
    [
        *("ssense.engine.view.tracking", "ssense.engine.view.mlflow_ui", "analysis.catalogue"),
        *("analysis.evaluate", "analysis.recordings", "analysis.verify"),
    ],
)
def test_a_storage_that_is_not_there_is_said_before_anything_heavy_is_imported(module, tmp_path):
    done = start("-X", "importtime", "-m", module, "--storage", str(tmp_path / "no"))
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("import time:"))
    assert line == f"error: no storage at {tmp_path / 'no'}. Check --storage, or run a sweep first."
    assert not HEAVY & imported(done.stderr)


def test_a_storage_that_is_a_file_is_said_of_the_variable_that_named_it(tmp_path):
    (tmp_path / "file").touch()
    done = start("-m", "ssense.engine.view.mlflow_ui", SSENSE_STORAGE=str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: SSENSE_STORAGE={tmp_path / 'file'} is a file, not a folder. "
        "Example: SSENSE_STORAGE=storage.\n"
    )


def test_a_wrong_variable_is_named():
    done = start("sweeps/masking.py", "--dry-run", SSENSE_SEEDS="abc")
    assert done.returncode == 2
    assert done.stderr == (
        "error: SSENSE_SEEDS=abc: abc is not a whole number, nor a range such as 0-9. "
        "Example: SSENSE_SEEDS=0-9.\n"
    )


@pytest.mark.parametrize("script", ["analysis/controls.py", "sweeps/masking.py"])
@pytest.mark.parametrize("last", ["ssense", r"numpy\..*"])
def test_an_interrupt_while_libraries_are_imported_is_one_line(script, last, tmp_path):
    (tmp_path / "x").mkdir()
    command = [sys.executable, "-X", "importtime", script, "--storage", str(tmp_path / "x")]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        shown = []
        for line in process.stderr:  # until our own are begun, or the first of the heavy ones
            shown.append(line)
            if "| " in line and re.fullmatch(last, line.split("|")[-1].strip()):
                break
        time.sleep(0.05 * (last != "ssense"))
        process.send_signal(signal.SIGINT)
        shown += process.stderr.readlines()
        code = process.wait()
    said = [line for line in shown if not line.startswith("import time:")]
    assert (code, said) == (130, ["interrupted: run the same command again to continue\n"])
