"""The wording of messages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ssense.data.synthetic.spec import SyntheticSpec
from ssense.errors import UserError, counted

ROOT = Path(__file__).parents[1]
BELOW_OPTIONS = (
    "ssense",
    *(f"analysis/{room}" for room in ("measure", "control", "report", "scores")),
)
OPTION_LAYER = ROOT / "ssense" / "cli", ROOT / "ssense" / "engine" / "tasks"


def test_what_is_counted_is_in_the_singular_where_it_is_one():
    assert [counted(n, "sentence") for n in (0, 1, 2)] == [
        "0 sentences",
        "1 sentence",
        "2 sentences",
    ]
    assert [counted(n, "epoch is", "epochs are") for n in (1, 2000)] == [
        "1 epoch is",
        "2,000 epochs are",
    ]


def test_a_message_counts_one_of_each():
    with pytest.raises(UserError, match=r"^1 sentence, 86400 s before them and 1 pause at"):
        SyntheticSpec(sentences=1, pauses=1, lead_in_s=86_400, sampling_rate=50_000)


def text_of(call: ast.Call) -> str:
    """The constant parts of the message that an error is made of."""
    return " ".join(
        node.value
        for node in ast.walk(call)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("folder", BELOW_OPTIONS)
def test_errors_name_fields_and_leave_flags_to_the_command_lines(folder):
    flags = []
    modules = [*(ROOT / folder).rglob("*.py")]
    assert modules
    for path in modules:
        source = path.read_text()
        is_command = "run_command(" in source or path.stem.endswith("options")
        if is_command or any(map(path.is_relative_to, OPTION_LAYER)):
            continue
        flags += [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("UserError", "ValueError")
            and re.search(r"(?<![\w-])--[a-z]", text_of(node))
        ]
    assert flags == []
