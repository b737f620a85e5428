"""What `import ssense` offers, in a clone and from a wheel."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ssense

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ssense.__all__)
def test_each_public_name_is_there_and_says_what_it_is_for(name):
    found = getattr(ssense, name)
    assert found.__name__ == name
    assert found.__module__ == ssense._HOMES[name]
    assert (found.__doc__ or "").strip()
    assert name in dir(ssense)


@pytest.mark.parametrize("name", ssense.__all__)
def test_each_public_name_is_in_the_documentation(name):
    pages = "\n".join(path.read_text() for path in (REPOSITORY / "docs" / "api").glob("*.md"))
    (shown,) = re.findall(rf"^::: {ssense._HOMES[name]}\n((?: .*\n)*)", pages, re.MULTILINE)
    chosen = re.search(r"members: \[(.*)\]", shown)
    assert chosen is None or name in chosen[1].split(", ")


def test_a_name_that_is_not_there_is_an_attribute_error_that_lists_those_that_are():
    with pytest.raises(AttributeError, match=r"name spectra; it has .*superlet_transform"):
        _ = ssense.spectra


def test_a_type_checker_sees_the_same_names():
    tree = ast.parse((REPOSITORY / "ssense" / "__init__.py").read_text())
    typed = next(
        node for node in tree.body if isinstance(node, ast.If) and "TYPE" in ast.dump(node)
    )
    seen = {
        alias.name: node.module
        for node in typed.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == ssense._HOMES
    assert sorted(seen) == sorted(ssense.__all__)


def test_importing_the_package_imports_nothing_heavy():
    script = (
        "import sys, ssense; print(sorted({'torch', 'numpy', 'ray', 'mlflow'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_wheel_holds_the_package_whole_and_no_other_name(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    source = tmp_path / "source"
    tracked = ["git", "-C", str(REPOSITORY), "checkout-index", "--all", f"--prefix={source}/"]
    subprocess.run(tracked, check=True)
    subprocess.run([*build, "-w", str(tmp_path), str(source)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"analysis", "ssense", "sweeps"}
    towers = sorted(path.name for path in (REPOSITORY / "ssense/targets/towers").iterdir())
    assert sorted(n.rpartition("/")[2] for n in names if "/towers/" in n) == towers
    script = "import ssense; print(ssense.__file__); print(*ssense.__all__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path / "installed",
        env={"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    where, listed = done.stdout.splitlines()
    assert where.startswith(str(tmp_path))
    assert listed.split() == ssense.__all__
