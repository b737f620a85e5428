"""Prose in the code: entries of docstrings stand alone; the science's messages name no flags."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import analysis
import ssense
import sweeps

PACKAGES = [Path(package.__path__[0]) for package in (ssense, sweeps, analysis)]

SECTION = re.compile(r"(?P<indent> *)(?P<title>Args|Attributes|Raises|Returns|Yields):")
NAMES = re.compile(r"\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*: +")
CONTINUES = re.compile(r"[a-z]|(?:As|By|For|Of|That|To|With) ")
"""The beginning of a text that continues the name in front of it, whatever its first letter."""
SHAPE = re.compile(r"`\[[^]]*\]`")
"""The beginning of a text that has a shape, and does not say what of."""


def docstrings(module: ast.Module) -> Iterator[tuple[ast.Constant, bool]]:
    """The docstrings of a module and of all it defines; and whether each is that of a field."""
    for node in ast.walk(module):
        body = getattr(node, "body", None)
        for place, each in enumerate(body if isinstance(body, list) else ()):
            if isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant):
                field = place > 0 and isinstance(body[place - 1], ast.Assign | ast.AnnAssign)
                yield each.value, field


def entries(first: int, lines: Sequence[str]) -> Iterator[tuple[int, str, bool]]:
    """The entries in the sections of a docstring: line, text, and whether a name is before it."""
    section, indent = None, 0
    for number, line in enumerate(lines, first):
        here = len(line) - len(line.lstrip())
        if started := SECTION.fullmatch(line):
            section, indent = started, 0
        elif section and line.strip() and here <= len(section["indent"]):
            section = None
        elif section and line.strip() and here == (indent or here):
            first_of_section, indent = not indent, here
            name = NAMES.match(line.strip())
            if section["title"] not in ("Returns", "Yields"):
                yield number, line.strip()[name.end() if name else 0 :], True
            elif first_of_section:
                yield number, line.strip(), False


def fragments(source: str) -> dict[int, str]:
    """The lines of a module whose docstring or entry does not stand alone, by number."""
    lines, found = source.split("\n"), []
    for docstring, is_field in docstrings(ast.parse(source)):
        first, last = docstring.lineno, docstring.end_lineno or 0
        if is_field and CONTINUES.match(str(docstring.value)):
            found.append(first)
        for number, text, named in entries(first, lines[first - 1 : last]):
            if CONTINUES.match(text) or (named and SHAPE.match(text)):
                found.append(number)
    return {number: lines[number - 1].strip() for number in sorted(found)}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda folder: folder.name)
def test_every_entry_stands_alone(package):
    modules = sorted(package.rglob("*.py"))
    assert len(modules) > 2
    found = [
        f"{path.relative_to(package.parent)}:{number}: {line}"
        for path in modules
        for number, line in fragments(path.read_text("utf-8")).items()
    ]
    assert not found, "fragments that continue their name, not phrases:\n" + "\n".join(found)


def test_the_science_names_fields_and_not_flags():
    """A command replaces `encoder.weights` by its own flag, see `Parsed.by_source`."""
    (root,) = ssense.__path__
    found = []
    for path in sorted(Path(root).rglob("*.py")):
        if path.relative_to(root).parts[0] in ("engine", "cli"):
            continue
        module = ast.parse(path.read_text("utf-8"))
        prose = {id(docstring) for docstring, _ in docstrings(module)}
        for node in ast.walk(module):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in prose and re.search(r"(?<!\S)--[a-z]", node.value):
                found.append(f"{path}:{node.lineno}: {node.value}")
    assert not found, "\n".join(found)


MODULE = '''
LEAST = 2
"""{3}"""


def record(ledger, seeds, scores, weights):
    """Keep what was found.

    Args:
        ledger: {0}
        seeds: The seeds of the splits, in the order in
            which: they were given.
        scores, weights: {1}

    Returns:
        `[N]` of the
        records.

    Raises:
        ssense.errors.UserError: {2}

    Note: this line is of no section.
    """
'''


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (("The sweep's ledger.", "Scores `[N]`.", "No room is left.", "Fewest seeds."), []),
        (("of the sweep.", "Scores `[N]`.", "No room is left.", "Fewest seeds."), [10]),
        (("As given.", "`[N]` likewise.", "no room is left.", "Of the seeds."), [3, 10, 13, 20]),
        (("`Ledger` of the sweep.", '"cosine" or "l1".', "1 is too few.", "2 of them."), []),
    ],
)
def test_a_fragment_is_found_by_its_line(texts, lines):
    assert list(fragments(MODULE.format(*texts))) == lines
