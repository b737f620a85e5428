from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from ssense.cli.command import shell_command, unknown_variables
from ssense.cli.flags import parse as parse_flags
from ssense.engine.tasks.image_options import ImageOptions
from ssense.errors import UserError
from sweeps.masking import MaskingOptions

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Nested:
    sampling_rate: float = 256.0
    deep: bool = False


@dataclass(frozen=True, kw_only=True)
class Options:
    storage: str = "storage"
    max_epochs: int | None = None
    seeds: tuple[int, ...] | None = None
    names: list[str] = field(default_factory=list)
    pair: tuple[int, float] = (1, 2.0)
    preset: Literal["literal", "paper"] = "literal"
    dry_run: bool = False
    colour: bool = True
    synthetic: Nested = field(default_factory=Nested)


def parse(environment: dict[str, str], *arguments: str) -> Options:
    return parse_flags(Options, arguments, environment, "script.py").options


@pytest.mark.parametrize(
    ("environment", "values"),
    [
        ({}, {}),
        ({"PATH": "x", "SSENSE_UNKNOWN": "x", "STORAGE": "x"}, {}),
        ({"SSENSE_STORAGE": "there"}, {"storage": "there"}),
        ({"SSENSE_STORAGE": "a folder/it's here"}, {"storage": "a folder/it's here"}),
        ({"SSENSE_STORAGE": "-dash"}, {"storage": "-dash"}),
        ({"SSENSE_STORAGE": ""}, {}),
        ({"SSENSE_MAX_EPOCHS": "5"}, {"max_epochs": 5}),
        ({"SSENSE_SEEDS": "3 1  2"}, {"seeds": (3, 1, 2)}),
        ({"SSENSE_NAMES": "one two"}, {"names": ["one", "two"]}),
        ({"SSENSE_PAIR": "3 -0.5"}, {"pair": (3, -0.5)}),
        ({"SSENSE_PRESET": "paper"}, {"preset": "paper"}),
        ({"SSENSE_DRY_RUN": "1"}, {"dry_run": True}),
        ({"SSENSE_DRY_RUN": "TRUE", "SSENSE_COLOUR": "Yes"}, {"dry_run": True}),
        ({"SSENSE_DRY_RUN": "0", "SSENSE_COLOUR": "off"}, {"colour": False}),
        ({"SSENSE_SYNTHETIC_SAMPLING_RATE": "512"}, {"synthetic": Nested(sampling_rate=512.0)}),
        ({"SSENSE_SYNTHETIC_DEEP": "on"}, {"synthetic": Nested(deep=True)}),
        ({"SSENSE_SYNTHETIC_DEEP": "no"}, {}),
    ],
)
def test_environment_variables_stand_for_flags(environment, values):
    assert parse(environment) == Options(**values)


@pytest.mark.parametrize(
    ("environment", "arguments", "values"),
    [
        ({"SSENSE_STORAGE": "e"}, ["--storage", "c"], {"storage": "c"}),
        ({"SSENSE_SEEDS": "1 2 3"}, ["--seeds", "9"], {"seeds": (9,)}),
        ({"SSENSE_DRY_RUN": "1"}, ["--no-dry-run"], {}),
        ({"SSENSE_COLOUR": "0"}, ["--colour"], {}),
        ({"SSENSE_STORAGE": "e"}, ["--max-epochs", "2"], {"storage": "e", "max_epochs": 2}),
    ],
)
def test_the_command_line_wins(environment, arguments, values):
    assert parse(environment, *arguments) == Options(**values)


def test_a_switch_that_is_neither_on_nor_off_is_refused():
    with pytest.raises(UserError, match="SSENSE_DRY_RUN=maybe: a switch is on with 1 and off with"):
        parse({"SSENSE_DRY_RUN": "maybe"})


@pytest.mark.parametrize(
    ("options", "name"), [(ImageOptions, "subjects"), (MaskingOptions, "sentences")]
)
def test_what_sweeps_make_up_is_named_by_variables_too(options, name):
    environment = {f"SSENSE_SYNTHETIC_{name.upper()}": "37"}
    made = parse_flags(options, [], environment, "script.py").options.synthetic
    assert made == dataclasses.replace(options().synthetic, **{name: 37})


def test_options_of_a_module_with_evaluated_annotations_work_too():
    options = dataclass(type("Evaluated", (), {"__annotations__": {"yes": bool}, "yes": False}))
    assert parse_flags(options, [], {"SSENSE_YES": "1"}, "script.py").options.yes


# ---------------------------------------------------------------- whole processes

SCRIPT = """
from __future__ import annotations
import dataclasses, json, os, signal, sys
from dataclasses import dataclass, field
from ssense.cli.command import run_command
from ssense.errors import UserError

@dataclass(frozen=True)
class Nested:
    sentences: int = 10

@dataclass(frozen=True)
class Options:
    storage: str = "storage"
    seeds: tuple[int, ...] = (0, 1)
    dry_run: bool = False
    outcome: str = "print"
    synthetic: Nested = field(default_factory=Nested)

def main(options: Options) -> None:
    if options.outcome == "user error":
        raise UserError("seeds: 3 appears twice.\\nRemove one.")
    if options.outcome == "names its flag":
        raise UserError("--outcome names its flag can't be had. Example: print.")
    if options.outcome == "broken pipe":
        raise BrokenPipeError("ours")
    if options.outcome == "long":
        print("x" * 1_000_000)
    if options.outcome == "bug":
        raise ZeroDivisionError("ours")
    if options.outcome == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    print(json.dumps(dataclasses.asdict(options)))

if __name__ == "__main__":
    run_command(Options, main)
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path) -> Run:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, script, *arguments],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_command_gets_flags_and_variables(run):
    done = run("--seeds", "5", "6", SSENSE_SEEDS="7", SSENSE_SYNTHETIC_SENTENCES="40")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "storage": "storage",
        "seeds": [5, 6],
        "dry_run": False,
        "outcome": "print",
        "synthetic": {"sentences": 40},
    }


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SSENSE_OUTCOME": "user error"}, "error: seeds: 3 appears twice. Remove one.\n"),
        (
            {"SSENSE_DRY_RUN": "si"},
            "error: SSENSE_DRY_RUN=si: a switch is on with 1 and off with 0. "
            "Example: SSENSE_DRY_RUN=1.\n",
        ),
    ],
)
def test_a_user_s_error_is_one_line_and_exit_code_2(run, environment, message):
    done = run(**environment)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


@pytest.mark.parametrize(
    "arguments", [["--no-such-flag"], ["--seeds", "one"], ["--synthetic.sentences", "x"]]
)
def test_a_wrong_flag_is_exit_code_2_without_traceback(run, arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert arguments[0] in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_variable_that_is_almost_a_flag_is_said_and_one_of_another_command_is_not():
    environment = {
        "SSENSE_MAX_EPOCH": "5",  # misspelt
        "SSENSE_SEED": "5",
        "SSENSE_STROAGE": "x",
        "SSENSE_RATIOS": "0.5",  # of sweeps/masking.py
        "SSENSE_OBJECTIVES": "ssr",  # of sweeps/images.py
        "SSENSE_PERMUTATIONS": "10",  # of analysis/controls.py
        "SSENSE_PORT": "5001",  # of the MLflow server
        "SSENSE_ZZZZ": "1",
        "PATH": "x",
    }
    lines = unknown_variables(Options, environment)
    assert [re.sub(r"is not a flag of .*?\.(?= |$)", "", line) for line in lines] == [
        "ignored: SSENSE_MAX_EPOCH  Nearest: SSENSE_MAX_EPOCHS.",
        "ignored: SSENSE_SEED  Nearest: SSENSE_SEEDS.",  # of the synthetic recording
        "ignored: SSENSE_STROAGE  Nearest: SSENSE_STORAGE.",
    ]


def test_an_unknown_variable_is_said_and_the_command_runs(run):
    done = run(SSENSE_SEED="5")
    assert done.returncode == 0
    assert done.stderr.startswith("ignored: SSENSE_SEED is not a flag of ")


def test_an_error_of_the_command_names_the_variable_that_a_value_came_from(run):
    done = run(SSENSE_OUTCOME="names its flag")
    assert done.stderr == "error: SSENSE_OUTCOME=names its flag can't be had. Example: print.\n"


@pytest.mark.parametrize("arguments", ["--help", "--outcome long", ""])
def test_a_reader_who_has_had_enough_is_no_error(arguments, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    shell = f"{shlex.quote(sys.executable)} {script} {arguments} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{128 + signal.SIGPIPE}\n", "")


def test_a_pipe_of_another_kind_that_breaks_keeps_its_traceback(run):
    done = run(SSENSE_OUTCOME="broken pipe")
    assert done.returncode == 1
    assert "BrokenPipeError: ours" in done.stderr


@pytest.mark.parametrize(("edit", "code"), [("", 0), ("# edited\n", 2)])
def test_on_a_cluster_a_copied_file_has_to_be_the_installed_one(edit, code, tmp_path):
    script = tmp_path / "masking.py"
    script.write_text((REPOSITORY / "sweeps" / "masking.py").read_text() + edit)
    environment = os.environ | {"RAY_ADDRESS": "auto", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(script), "--help"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    if edit:
        assert done.stderr.startswith(
            f"error: {script} differs from the sweeps/masking.py that is installed on "
        )
        assert "Run `ray up --no-restart`" in done.stderr


@pytest.mark.parametrize("name", ["my.masking.py", "sweep-2.py", "masking", "nothing.like.it"])
def test_on_a_cluster_a_file_of_one_s_own_may_have_any_name(tmp_path, name):
    (tmp_path / name).write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / name)]
    environment = os.environ | {"RAY_ADDRESS": "auto", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


AWKWARD = [
    "my results #1",
    "50%",
    "pilot?",
    "it's",
    '"quoted"',
    "$HOME",
    "a&b;c|d",
    "~",
    "-dash",
    "é",
]


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("place", ["repository", "elsewhere"])
def test_a_command_that_is_shown_can_be_typed_into_a_shell(name, place, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY if place == "repository" else tmp_path)
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    typed = shell_command("-c", show, name, keep_version=name)
    done = subprocess.run(typed, shell=True, capture_output=True, text=True, check=True)
    flag = [f"--keep-version={name}"] if name == "-dash" else ["--keep-version", name]
    assert json.loads(done.stdout) == [name, *flag]


@pytest.mark.parametrize("place", ["repository", "elsewhere"])
def test_a_script_of_ours_is_found_from_where_it_is_shown(place, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY if place == "repository" else tmp_path)
    typed = shell_command("analysis/compare.py", storage=tmp_path)
    assert Path(shlex.split(typed)[1]).samefile(REPOSITORY / "analysis" / "compare.py")
    assert Path(shlex.split(typed)[1]).is_absolute() == (place == "elsewhere")


def test_our_own_errors_keep_their_traceback(run):
    done = run(SSENSE_OUTCOME="bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_an_interrupt_says_how_to_go_on(run):
    done = run(SSENSE_OUTCOME="interrupt")
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "interrupted: run the same command again to continue\n"


def test_a_printed_command_names_the_same_folder_where_the_stream_can_t_show_it(tmp_path):
    folder = tmp_path / "résultats d'été \\ 2"
    folder.mkdir()
    show = "from ssense.cli.command import shell_command; import sys; "
    show += "print(shell_command('-c', 'import os, sys; os.rmdir(sys.argv[1])', sys.argv[1]))"
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", show, str(folder)]
    typed = subprocess.check_output(command, env=ascii_only, text=True)
    assert typed.isascii()
    subprocess.run(["bash", "-c", typed], check=True)
    assert not folder.exists()
