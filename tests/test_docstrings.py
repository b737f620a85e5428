"""Entries of docstrings are whole phrases, which stand alone in a tooltip."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
import ssense
import sweeps

PACKAGES = [Path(package.__path__[0]) for package in (ssense, sweeps, analysis)]

SECTION = re.compile(r"(?P<indent> *)(?:Args|Attributes|Raises):")
ENTRY = re.compile(r"(?P<indent> +)(?P<names>\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*): +(?P<text>.+)")
FRAGMENT = re.compile(
    r"[a-z]"  # continues the name
    r"|(?:As|By|For|Of|That|To|With) "  # so does this, whatever its first letter
    r"|`\[[^]]*\]`"  # a shape says nothing of what has it
)


def docstrings(source: str) -> Iterator[tuple[int, list[str]]]:
    """The docstrings of a module, in it and of all it defines: number of the first line, lines."""
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0
            yield first, lines[first - 1 : last]


def fragments(source: str) -> list[tuple[int, str]]:
    """The entries of a module that do not stand alone: number of the line, and the line."""
    found = []
    for first, lines in docstrings(source):
        section, entries = None, None
        for number, line in enumerate(lines, first):
            indent = len(line) - len(line.lstrip())
            if started := SECTION.fullmatch(line):
                section, entries = len(started["indent"]), None
            elif section is not None and line.strip() and indent <= section:
                section = None
            elif section is not None and (entry := ENTRY.fullmatch(line)):
                entries = indent if entries is None else entries
                if indent == entries and FRAGMENT.match(entry["text"]):
                    found.append((number, line.strip()))
    return found


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: folder.name)
def test_every_entry_stands_alone(package):
    modules = sorted(package.rglob("*.py"))
    assert len(modules) > 2
    found = [
        f"{path.relative_to(package.parent)}:{number}: {line}"
        for path in modules
        for number, line in fragments(path.read_text("utf-8"))
    ]
    assert not found, "entries that continue their name, not whole phrases:\n" + "\n".join(found)


MODULE = '''
def record(ledger, seeds, scores, weights, other):
    """Keep what was found.

    Args:
        ledger: {0}
        seeds: The seeds of the splits, in the order in
            which: they were given.
        scores, weights: {1}

    Raises:
        ssense.errors.UserError: {2}

    Note: this line is of no section.
    """
'''


@pytest.mark.parametrize(
    ("entries", "lines"),
    [
        (("The sweep's ledger.", "Scores `[N]` of it.", "No room is left."), []),
        (("of the sweep.", "Scores `[N]`.", "No room is left."), [6]),
        (("As given.", "`[N]` likewise.", "no room is left."), [6, 9, 12]),
        (("`Ledger` of the sweep.", '"cosine" or "l1".', "1 is too few."), []),
    ],
)
def test_a_fragment_is_found_by_its_line(entries, lines):
    assert [number for number, _ in fragments(MODULE.format(*entries))] == lines
