"""`ssense` and its sub-commands, in processes of their own: one that calls many, and shells."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from ssense.cli.command import holds_command, next_line, program, shell_command
from ssense.cli.flags import Parsed, Source, flags_of
from ssense.cli.subcommand import SUBCOMMANDS, in_its_words, is_command, started, sweep_sources
from ssense.engine.tasks.recording_options import RecordingOptions

REPOSITORY = Path(__file__).parents[2]
PYTHON = os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}


class Done(NamedTuple):
    code: int
    out: str
    err: str


CALLS = """
import contextlib, io, json, os, runpy, sys
from ssense.cli import console, subcommand

def call(words):
    out, err = io.StringIO(), io.StringIO()
    variables = [word for word in words if word.startswith("SSENSE_")]
    os.environ.update(variable.split("=", 1) for variable in variables)
    program, *rest = [word for word in words if word not in variables]
    sys.argv = [program, *rest]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if program == "ssense":
                console.main()
            subcommand.started.head = ()
            if program == "-m":
                sys.argv = rest
                runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
            runpy.run_path(program, run_name="__main__")
        except SystemExit as stopped:
            code = stopped.code
    for variable in variables:
        del os.environ[variable.partition("=")[0]]
    return code, out.getvalue(), err.getvalue()

heavy = {"torch", "ray", "mlflow", "optuna", "numpy", "rich"}
done = [call(words) for words in json.load(sys.stdin)]
print(json.dumps([done, sorted(heavy & {*sys.modules})]))
"""


def call(lines: Sequence[Sequence[str]], folder: Path) -> list[Done]:
    """Call commands one after another, in one process that starts in a folder."""
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        cwd=folder,
        env=PYTHON,
        input=json.dumps([[*line] for line in lines]),
        capture_output=True,
        text=True,
        check=True,
    )
    found, heavy = json.loads(done.stdout)
    assert not heavy
    return [Done(*each) for each in found]


# ---------------------------------------------------------------- one process that calls many

SCRIPTS = {
    ("evaluate",): "analysis/evaluate.py",
    ("controls",): "analysis/controls.py",
    ("compare",): "-m analysis.compare",
    ("data",): "-m ssense.data.synthetic",
    ("ui",): "-m ssense.engine.view.mlflow_ui",
    ("sweep", "masking"): "sweeps/masking.py",
    ("sweep", "learning-curve"): "sweeps/learning_curve.py",
}


def test_a_sub_command_does_what_its_script_does(tmp_path):
    tails = [["--help"], ["--nope"], ["--storage="], ["SSENSE_PORT=x", "1", "2"]]
    pairs = [
        (["ssense", *words, *tail], [*script.split(), *tail])
        for words, script in SCRIPTS.items()
        for tail in tails
    ]
    scripts = [
        [str(REPOSITORY / each[0]) if each[0] != "-m" else "-m", *each[1:]] for _, each in pairs
    ]
    console, ours = call([line for line, _ in pairs], tmp_path), call(scripts, tmp_path)
    for (line, script), found, expected in zip(pairs, console, ours, strict=True):
        words = " ".join(line[: 3 if line[1] == "sweep" else 2]).replace("-", "_")
        name = " ".join(script[:2]) if script[0] == "-m" else script[0]
        assert found.code == expected.code, line
        assert flags_in(found.out) == flags_in(expected.out), line
        said = expected.err.replace(f"{REPOSITORY}/", "").replace(f"python {name}", name)
        assert found.err == said.replace(name, words), line
        assert not re.search(r"python|analysis/|sweeps/\w+\.py", found.out + found.err), line
    assert {each.code for each in console} == {0, 2}


def flags_in(text: str) -> list[str]:
    return re.findall(r"^  (?:--|[A-Z]).*", text, re.MULTILINE)


def test_what_there_is_is_listed_and_a_slip_is_one_line(tmp_path):
    (tmp_path / "empty.txt").touch()
    alone, helped, sweeps, *wrong = call(
        [
            ["ssense"],
            ["ssense", "--help"],
            ["ssense", "sweep"],
            ["ssense", "evalute"],
            ["ssense", "sweep", "maskin"],
            ["ssense", "sweep", "folder/maskin.py"],
            ["ssense", "sweep", "--seeds", "3"],
            ["ssense", ""],
            ["ssense", "completion", "csh"],
        ],
        tmp_path,
    )
    assert alone == helped
    named = re.findall(r"^  (\w+)  ", alone.out, re.MULTILINE)
    assert named == [command.name for command in SUBCOMMANDS]
    assert "  evaluate    The best configurations of a sweep on held-out test splits" in alone.out
    assert "ssense sweep masking" in alone.out
    assert re.findall(r"^  (\w+)  ", sweeps.out, re.MULTILINE) == [*sweep_sources()]
    assert "  masking         Does masking help? Table 1 of SSENSE" in sweeps.out
    assert all(each.code == 2 and each.err.count("\n") == 1 and not each.out for each in wrong)
    said = [each.err for each in wrong]
    assert said[0].startswith(
        "error: ssense has no sub-command evalute. Nearest: evaluate. Give one of data, sweep, "
    )
    assert said[1].startswith(
        "error: ssense sweep maskin: there is no such sweep, and no such file. Nearest: masking. "
    )
    assert "folder/maskin.py: there is no such sweep, and no such file. " in said[2]
    assert said[3] == "error: ssense sweep --seeds: the sweep comes first. See ssense sweep.\n"
    assert "has no sub-command of an empty name. " in said[4]
    assert said[5] == ("error: SHELL csh: csh is not one of bash, zsh, fish. Example: bash.\n")


OWN = """
'''Mine?'''
import sys
from dataclasses import dataclass
from beside import NAME
from ssense.cli.command import run_command, shell_command

@dataclass(frozen=True)
class Options:
    storage: str = "storage"

def main(options):
    print(NAME, options.storage, main.__module__, sys.argv[0])
    print(shell_command("analysis/evaluate.py", storage=options.storage))

if __name__ == "__main__":
    run_command(Options, main)
"""


def test_a_file_of_ones_own_runs_as_python_runs_it(tmp_path):
    folder = tmp_path / "my files"
    folder.mkdir()
    (folder / "beside.py").write_text("NAME = 'beside'")
    (folder / "own.py").write_text(OWN)
    own = str(Path("my files", "own.py"))
    ran, helped, wrong = call(
        [
            ["ssense", "sweep", own, "--storage", "s t"],
            ["ssense", "sweep", own, "--help"],
            ["ssense", "sweep", own, "--seeds", "1"],
        ],
        tmp_path,
    )
    assert ran == (0, f"beside s t __main__ {own}\nssense evaluate --storage 's t'\n", "")
    assert helped.out.startswith(f"usage: ssense sweep '{own}' [flags]\n\nMine?\n")
    assert wrong.err.startswith(f"error: ssense sweep '{own}' has no flag --seeds. ")


def test_a_folder_of_the_same_name_beside_one_hides_nothing_and_the_next_command_runs(tmp_path):
    for name in ("analysis", "sweeps"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')")

    def ssense(*words: str) -> str:
        command = [sys.executable, "-m", "ssense", *words]
        return subprocess.check_output(command, cwd=tmp_path, env=PYTHON, text=True)

    size = ("--sentences", "12", "--electrodes", "4", "--sampling-rate", "128")
    written, line = ssense("data", "my recording", *size).splitlines()
    assert written.startswith("my recording: written, 12 sentences")
    assert line.startswith("Next: ")
    assert line.endswith(" -m ssense sweep masking --recording 'my recording'")
    shown = subprocess.check_output(
        f"{line.removeprefix('Next: ')} --help", shell=True, cwd=tmp_path, env=PYTHON, text=True
    )
    assert " -m ssense sweep masking [flags]\n" in shown


# ---------------------------------------------------------------- the names of commands


def test_every_command_of_the_analysis_is_a_sub_command():
    scripts = {path.stem for path in (REPOSITORY / "analysis").glob("*.py") if is_command(path)}
    modules = {command.module for command in SUBCOMMANDS}
    assert {f"analysis.{script}" for script in scripts} <= modules
    assert len({command.name for command in SUBCOMMANDS}) == len(SUBCOMMANDS)


@pytest.fixture
def by_ssense(monkeypatch) -> None:
    monkeypatch.setattr(started, "head", ("ssense",))
    monkeypatch.setattr(started, "words", ("evaluate",))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Run sweeps/images.py first.", "Run ssense sweep images first."),
        ("    python analysis/evaluate.py --storage DIR", "    ssense evaluate --storage DIR"),
        ("by `python -m analysis.compare`, all", "by `ssense compare`, all"),
        ("python -m ssense.data.synthetic OUT", "ssense data OUT"),
        ("python -m ssense.data.synthetic.things OUT", None),
        ("python -m ssense.engine.view.tracking shows", None),
        ("/home/me/analysis/evaluate.py and my/sweeps/masking.py differ", None),
        ("sweeps/run.py, benchmarks/race.py, sweeps/masking.pyc", None),
    ],
)
@pytest.mark.usefixtures("by_ssense")
def test_scripts_in_prose_are_named_as_sub_commands(said, meant, monkeypatch):
    assert in_its_words(said) == (meant or said)
    monkeypatch.setattr(started, "head", ())
    assert in_its_words(said) == said


@pytest.mark.usefixtures("by_ssense")
def test_commands_to_type_are_those_of_ssense_where_it_was_called(monkeypatch):
    assert program() == "ssense evaluate"
    typed = shell_command("sweeps/masking.py", storage="my results", cell="-1")
    assert typed == "ssense sweep masking --storage 'my results' --cell=-1"
    assert shell_command("-m", "ssense.engine.view.mlflow_ui") == "ssense ui"
    assert "python" in shell_command("-m", "ssense.engine.view.tracking")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert next_line("analysis/evaluate.py", storage="s") == "Next: ssense evaluate --storage s"
    assert holds_command("Next: ssense evaluate --storage s")
    assert not holds_command("s3://bucket/ssense holds what ssense itself has")
    monkeypatch.setattr(started, "head", ())
    assert (
        next_line("analysis/evaluate.py") == "Next: analysis/evaluate.py, submitted in the same way"
    )


def test_a_command_of_ssense_in_a_message_keeps_its_flags():
    (flag,) = (each for each in flags_of(RecordingOptions) if each.name == "storage")
    parsed = Parsed(RecordingOptions(), {"storage": Source(flag, ("s",), "SSENSE_STORAGE")})
    said = parsed.by_source("Check --storage s, or run ssense evaluate --storage s")
    assert said == "Check SSENSE_STORAGE=s, or run ssense evaluate --storage s"


# ---------------------------------------------------------------- shells

ASK = """
eval "$(ssense completion bash)"
ask() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _ssense ssense 2>/dev/null  # compopt needs a real tab
    printf '%s|' "${COMPREPLY[@]}"
    echo
}
"""


@pytest.fixture
def workplace(tmp_path) -> Path:
    """A folder with an `ssense` for a shell, and files to complete."""
    (tmp_path / "bin").mkdir()
    console = tmp_path / "bin" / "ssense"
    console.write_text(f"#!{sys.executable}\nfrom ssense.cli.console import main\nmain()\n")
    console.chmod(0o755)
    (tmp_path / "storage").mkdir()
    (tmp_path / "my own.py").write_text(
        "from sweeps.masking import MaskingOptions, main, run_command\nprint('noise')\n"
        "if __name__ == '__main__':\n    run_command(MaskingOptions, main)\n"
    )
    (tmp_path / "plain.py").write_text("open('started', 'w')\n")
    (tmp_path / "table.csv").touch()
    return tmp_path


def in_shell(shell: str, script: str, folder: Path) -> str:
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = [shell, *(["--norc"] if shell == "bash" else []), "-c", script]
    return subprocess.check_output(
        command,
        cwd=folder,
        env=PYTHON | {"PATH": path, "HOME": str(folder), "TERM": "dumb"},
        text=True,
        timeout=60,
    )


def test_bash_completes_names_flags_choices_and_files(workplace):
    asked = {
        "ssense ev": ["evaluate"],
        "ssense sweep m": ["masking", "my own.py"],
        "ssense sweep masking --pres": ["--preset"],
        "ssense sweep masking --preset ''": ["literal", "paper"],
        "ssense sweep masking --preset = l": ["literal"],
        "ssense controls --train noise s": ["shifted"],
        "ssense sweep masking --seeds 0 1 --ratio": ["--ratios"],
        "ssense sweep masking --max-epochs ''": [],
        "ssense evaluate --storage s": ["storage"],
        "ssense evaluate --storage storage --stor": [],  # it is given once
        r"ssense sweep 'my\ own.py' --ratio": ["--ratios"],
        "ssense sweep plain.py --": [],  # would do more than answer
        "ssense compare t": ["table.csv"],
        "ssense completion ''": ["bash", "zsh", "fish"],
        "ssense nothing --": [],
    }
    script = ASK + "".join(f"ask {line}\n" for line in asked)
    found = [line.split("|")[:-1] for line in in_shell("bash", script, workplace).splitlines()]
    assert dict(zip(asked, found, strict=True)) == {
        line: words or [""] for line, words in asked.items()
    }
    assert not (workplace / "started").exists()


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes_names_flags_and_files(workplace):
    script = "ssense completion fish | source\n" + "".join(
        f"complete -C '{line}'; echo .\n"
        for line in ("ssense ev", "ssense sweep masking --preset=l", "ssense evaluate --storage s")
    )
    name, choice, file, _ = in_shell("fish", script, workplace).split(".\n")
    assert name.startswith("evaluate\tThe best configurations of a sweep")
    assert choice.split("\t")[0].strip() == "--preset=literal"
    assert file == "storage/\n"


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes_a_name_and_a_choice(workplace):
    script = r"""
    zmodload zsh/zpty
    zpty z zsh -f -i
    zpty -w z 'autoload -Uz compinit; compinit -u -D'
    zpty -w z 'eval "$(ssense completion zsh)"; PS1=re"ady> "'
    zpty -r -m z shown "*ready> *"  # what is typed before is lost
    for line added in 'ssense ev' aluate 'ssense sweep masking --preset=l' iteral; do
        zpty -n -w z "$line"$'\t'
        zpty -r -m z shown "*${added}*"
        zpty -n -w z $'\C-u'
        print $added
    done
    zpty -d z
    """
    assert in_shell("zsh", script, workplace).split() == ["aluate", "iteral"]
