from __future__ import annotations

from pathlib import Path

import pytest

import ssense
from ssense.files.source_code import package_digest, python_files, source_digest

SOURCE = '''"""What the module is for."""

from math import pi

SIZE = 3
"""What SIZE means."""


class Circle:
    """A circle."""

    radius: float = 1.0

    def area(self, scale=None, *more, **named):
        """Its area."""
        # the formula of school
        label = f"{scale:>{SIZE}}"
        return pi * self.radius**2, label, {**named}, "a", b"a", 1.0, ...
'''


def digest_of(source: str | bytes, folder: Path, name: str = "circle.py") -> str:
    path = folder / "source.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return source_digest({name: path})


@pytest.mark.parametrize(
    "edit",
    [
        lambda source: source.replace("# the formula of school", "# πr², everybody knows"),
        lambda source: source.replace("        # the formula of school\n", ""),
        lambda source: source.replace("What the module is for", "Circles"),
        lambda source: source.replace('    """A circle."""\n\n', ""),
        lambda source: source.replace('"""Its area."""', '"""Area."""\n        "twice"'),
        lambda source: source.replace('"""What SIZE means."""\n', ""),
        lambda source: source.replace("SIZE = 3", "SIZE  =  (3)").replace("\n\n\n", "\n"),
        lambda source: source.replace("\n", "\r\n"),
        lambda source: b"\xef\xbb\xbf" + source.replace("\n", "\r").encode(),
    ],
)
def test_what_changes_no_result_changes_no_digest(edit, tmp_path):
    assert edit(SOURCE) != SOURCE
    assert digest_of(edit(SOURCE), tmp_path) == digest_of(SOURCE, tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("SIZE = 3", "SIZE = 4"),
        ("SIZE = 3", "SIZE = 3.0"),
        ("1.0, ...", "1.0, None"),
        ('"a", b"a"', 'b"a", "a"'),
        ('"a", b"a"', '"a", b""'),
        ("radius: float", "radius: int"),
        ("radius: float = 1.0", "radius: float"),
        ("scale=None", "scale=0"),
        ("*more,", "*, more,"),
        ("**2", "*2"),
        ("{**named}", "{None: named}"),
        (">{SIZE}", "<{SIZE}"),
        ("def area", "async def area"),
        ("import pi", "import tau as pi"),
        ("class Circle:", "@property\nclass Circle:"),
    ],
)
def test_any_other_edit_changes_the_digest(before, after, tmp_path):
    assert before in SOURCE
    edited = SOURCE.replace(before, after)
    assert digest_of(edited, tmp_path) != digest_of(SOURCE, tmp_path)


def test_the_name_of_a_file_belongs_to_the_code(tmp_path):
    assert digest_of(SOURCE, tmp_path, "a.py") != digest_of(SOURCE, tmp_path, "b.py")


def test_files_that_editors_hide_are_none_of_it(tmp_path):
    for name in ("one.py", "room/two.py", ".hidden.py", ".trash/three.py", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert {*python_files(tmp_path)} == {tmp_path / "one.py", tmp_path / "room/two.py"}


def test_parts_of_the_package_are_folders_and_modules_by_their_place():
    package = Path(ssense.__file__).parent
    files = {f"signal/{p.name}": p for p in (package / "signal").glob("*.py")}
    assert package_digest("signal") == source_digest(files)
    both = files | {"targets/clip.py": package / "targets" / "clip.py"}
    assert package_digest("signal", "targets/clip.py") == source_digest(both)


def test_the_digest_that_is_remembered_is_the_one_of_the_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = digest_of(SOURCE, tmp_path)
    assert [note.read_text() for note in (tmp_path / "cache/ssense/digests").iterdir()] == [first]
    assert digest_of(SOURCE, tmp_path) == first
    edited = digest_of(SOURCE.replace("SIZE = 3", "SIZE = 4"), tmp_path)
    assert edited != first
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert digest_of(SOURCE, tmp_path) == first
