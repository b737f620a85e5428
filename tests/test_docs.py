"""The README and the pages of docs/: what they show is there, and they build as a site."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import importlib.util
import inspect
import itertools
import math
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from markdown.extensions.toc import slugify

import ssense
from ssense.cli.flags import flags_of, parse
from ssense.cli.subcommand import SUBCOMMANDS
from ssense.data.dataset import Pairs
from ssense.data.recordings.segments import SegmentSpec
from ssense.data.synthetic.recording import SyntheticSpec
from ssense.engine.core.sweep import Family, checked_levels
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError
from ssense.model.encoders.own import OwnSpec
from ssense.signal.band_power import BandPowerSpec
from ssense.signal.fourier import FourierSpec
from ssense.signal.superlets import SuperletSpec
from ssense.specification import field_names, kind_of, parts_of
from ssense.targets.language_model import TransformersSpec
from ssense.targets.own_target import OwnTargetSpec
from ssense.targets.sentence_transformer import SentenceTransformerSpec
from ssense.targets.target_source import target_changes
from ssense.targets.text import TextSpec
from ssense.targets.vectors import VectorSpec
from ssense.training.sentences import SentenceSpec

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
BESIDE = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
ROOTS = ("sweeps", "analysis", "ssense")
PAGES = [*BESIDE[:2], *sorted(DOCS.rglob("*.md"))]  # the changelog names what is gone


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def modules_that_are_commands() -> list[str]:
    """Every module that can be called, by what its source says."""
    paths = [path for root in ROOTS for path in (REPOSITORY / root).rglob("*.py")]
    called = [path for path in paths if re.search(r"^ +run_command\(", path.read_text(), re.M)]
    names = (name_of(path.with_suffix("")).replace("/", ".") for path in called)
    return sorted(name.removesuffix(".__main__") for name in names)


COMMANDS = modules_that_are_commands()


# ---------------------------------------------------------------- what a page shows as code


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Blocks of code with their language; indented ones have none."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        yield language, block
    for block in re.findall(r"(?<=\n\n)(?: {4,}.*\n|\n(?= {4}))+", without_fences(text)):
        yield "", block


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def inline(text: str) -> list[str]:
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", without_fences(text))]


def lines_of_code(path: Path) -> list[str]:
    """Lines of shell in a page's blocks, and its code within sentences."""
    text = path.read_text()
    shell = [block for language, block in blocks(text) if language in ("", "sh", "shell")]
    joined = "\n".join(shell).replace("\\\n", " ")
    return [*filter(None, map(str.strip, joined.splitlines())), *inline(text)]


def words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a sentence in an indented note
        return []


@cache
def options_of(module: str) -> type:
    """The class of the options that a command hands to `run_command`, without loading the rest."""
    spec = importlib.util.find_spec(module)
    if spec is not None and spec.submodule_search_locations:
        spec = importlib.util.find_spec(f"{module}.__main__")
    assert spec is not None, f"there is no module {module}"
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (name,) = {ast.unparse(c.args[0]) for c in calls if ast.unparse(c.func) == "run_command"}
    homes = [
        node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]
    ]
    return getattr(importlib.import_module(homes[0] if homes else spec.name), name)


def commands(line: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of this repository that a line of code calls: module and arguments."""
    given = words(line)
    for place, word in enumerate(given):
        if re.fullmatch(r"(sweeps|analysis)/\w+\.py", word):
            yield word.removesuffix(".py").replace("/", "."), given[place + 1 :]
        elif word == "-m" and re.match(r"(ssense|analysis)\.", given[place + 1]):
            yield given[place + 1], given[place + 2 :]
        elif re.fullmatch(r"(\S*/)?ssense", word) and "://" not in word:
            yield from subcommand(list(itertools.takewhile("|".__ne__, given[place + 1 :])))


def subcommand(given: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The command that `ssense` runs; none of a file of the user's own, or of `ssense` itself."""
    if given[:1] == ["sweep"]:
        if given[1:] and not re.fullmatch(r"[A-Z]+|.*\.py|\.\.\.", given[1]):
            yield f"sweeps.{given[1]}", given[2:]
    elif given and given[0].islower():
        yield dict(SUBCOMMANDS).get(given[0], f"ssense {given[0]}"), given[1:]


SHOWN = [
    pytest.param(module, arguments, id=f"{name_of(page)}: {shlex.join([module, *arguments])}")
    for page in PAGES
    for module, arguments in dict.fromkeys(
        (module, tuple(arguments))
        for line in lines_of_code(page)
        for module, arguments in commands(line)
    )
]


@pytest.fixture
def in_a_folder_with_data(tmp_path, monkeypatch) -> None:
    for name in ("DIR", "STORAGE", "storage/shards/DIGEST"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("my_encoder.py", "my_target.py", "words.npy", "words.parquet"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_folder_with_data")
@pytest.mark.parametrize(("module", "arguments"), SHOWN)
def test_a_command_that_is_shown_exists_and_takes_its_flags(module, arguments):
    options = options_of(module)
    if arguments:  # without any it is a mention
        parse(options, list(arguments), {}, module)


def test_every_command_is_shown_and_a_slip_in_one_would_be_found():
    shown_modules = {module for module, _ in (parameters.values for parameters in SHOWN)}
    assert {"sweeps.masking", "analysis.compare"} <= {*COMMANDS} == shown_modules
    (shown,) = commands(
        "sbatch --nodes=4 clusters/slurm.sh sweeps/masking.py --recordin DIR # on 4"
    )
    assert shown == ("sweeps.masking", ["--recordin", "DIR"])
    (shown_too,) = commands(".venv/bin/ssense sweep masking --recordin DIR")
    assert shown_too == shown
    with pytest.raises(UserError, match="--recordin"):
        parse(options_of(shown[0]), shown[1], {}, shown[0])
    with pytest.raises(AssertionError, match=r"no module analysis\.statistics"):
        options_of("analysis.statistics")


@pytest.mark.usefixtures("in_a_folder_with_data")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_flag_within_a_sentence_is_one_of_some_command_and_takes_its_value(page):
    for code in inline(page.read_text()):
        if code.startswith("--") and code != "--help":
            assert any(takes(command, words(code)) for command in COMMANDS), code


def takes(command: str, arguments: list[str]) -> bool:
    options = options_of(command)
    if len(arguments) == 1:  # named without a value
        return arguments[0] in [flag.typed for flag in flags_of(options)]
    places = [flag.name for flag in flags_of(options) if flag.by_place]
    try:
        parse(options, [*places, *arguments], {}, command)
    except UserError:
        return False
    return True


def test_variables_are_those_of_flags():
    known = {flag.variable for command in COMMANDS for flag in flags_of(options_of(command))}
    named = {name for page in PAGES for name in re.findall(r"\bSSENSE_[A-Z_]+", page.read_text())}
    assert {"SSENSE_MAX_EPOCHS"} <= named <= known


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_and_modules_that_are_named_are_there(page):
    for word in itertools.chain.from_iterable(map(words, lines_of_code(page))):
        if re.fullmatch(r"(ssense|sweeps|analysis|benchmarks|clusters|docs|tests)/[\w./-]*", word):
            assert (REPOSITORY / word).exists() or "storage/" in word, word
        elif re.fullmatch(r"(ssense|analysis)(\.[a-z_]+)+", word) and word != "ssense.env":
            is_public = word.removeprefix("ssense.") in ssense.__all__
            assert is_public or importlib.util.find_spec(word) is not None, word


def test_make_has_the_targets_that_pages_name():
    targets = set(re.findall(r"^([\w./-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    named = {
        given[1]
        for page in PAGES
        for given in map(words, lines_of_code(page))
        if given[:1] == ["make"] and len(given) > 1
    }
    assert {"sweep", "test", "docs"} <= named <= targets


@pytest.mark.parametrize("page", BESIDE, ids=name_of)
def test_links_of_files_outside_the_site_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", page.read_text())
    for link in map("".join, links):
        file, _, anchor = link.partition("#")
        if not re.match(r"https?:", link):
            assert (page.parent / file).is_file(), link
            assert not anchor or anchor in anchors(page.parent / file), link


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", without_fences(page.read_text()), re.M)
    return {slugify(title.replace("`", ""), "-") for title in titles}


# ---------------------------------------------------------------- examples


def test_the_examples_in_python_give_what_is_shown():
    page = DOCS / "api" / "index.md"
    examples = "\n".join(block for language, block in blocks(page.read_text()))
    test = doctest.DocTestParser().get_doctest(examples, {}, page.name, str(page), 0)
    assert len(test.examples) > 10
    shown: list[str] = []
    assert doctest.DocTestRunner().run(test, out=shown.append).failed == 0, "".join(shown)


def python_blocks(page: Path) -> list[str]:
    return [block for language, block in blocks(page.read_text()) if language == "python"]


def test_the_encoder_of_one_s_own_embeds(tmp_path):
    example = python_blocks(DOCS / "extending.md")[1]
    (tmp_path / "my_encoder.py").write_text(example)
    pairs = Pairs(torch.rand(6, 3, 8, 20).half(), torch.rand(6, 16))
    encoder = OwnSpec.of(f"{tmp_path / 'my_encoder.py'}:Strengths").build(pairs, "float32")
    assert encoder(pairs.batch(torch.arange(6))[0]).shape == (6, 16)


def test_the_target_of_one_s_own_embeds(tmp_path):
    example = python_blocks(DOCS / "extending.md")[2]
    (tmp_path / "my_target.py").write_text(example)
    target = OwnTargetSpec.of(f"{tmp_path / 'my_target.py'}:Letters")
    target.check()
    assert target.embed(["Who are you?", "No."]).shape == (2, 26)


def test_the_family_of_targets_has_levels_that_there_are():
    scope: dict[str, dict] = {}
    exec(python_blocks(DOCS / "extending.md")[3], scope)
    checked_levels(SentenceSpec(), scope["families"])
    assert [Family(name=n, levels=of).size for n, of in scope["families"].items()] == [1, 6]


def test_the_words_for_targets_are_of_the_kinds_that_there_are():
    table = (DOCS / "extending.md").read_text().partition("| word |\n")[2].partition("\n\n")[0]
    cells = [row.split(" | ")[1] for row in table.splitlines()[1:]]
    words = re.findall(r"`(.+?)`", " ".join(cells))
    assert len(words) == 7
    kinds = {target_changes(word)["target"] for word in words}
    assert kinds == {kind_of(kind) for kind in parts_of(SentenceSpec)["target"]}


def test_the_sweep_of_one_s_own_is_a_sweep(tmp_path):
    example = python_blocks(DOCS / "extending.md")[0]
    scope = {"__name__": "patience"}
    exec(compile(example, "patience.py", "exec"), scope)
    small = SyntheticSpec(sentences=60, electrodes=5)
    options = RecordingOptions(storage=str(tmp_path), synthetic=small)
    (data,) = options.datasets()
    sweep = scope["patience_sweep"](data, options)
    assert [family.size for family in sweep.families] == [1, 4]
    assert sweep.name.startswith("patience-")


@pytest.fixture
def in_a_folder_with_the_tiny_sweep(
    tiny_sweep, unseen_sweep, linked, tmp_path, monkeypatch
) -> None:
    storage = linked(unseen_sweep, tmp_path / "storage")
    (storage / "recordings").symlink_to(tiny_sweep / "recordings")
    (recording,) = (tiny_sweep / "recordings").iterdir()
    (tmp_path / "DIR").symlink_to(recording)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("in_a_folder_with_the_tiny_sweep")
def test_the_guide_to_python_runs_and_gives_what_is_shown():
    """Examples with a prompt are compared with what they give; the others run."""
    page = DOCS / "python.md"
    scope: dict[str, object] = {}
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for number, block in enumerate(python_blocks(page)):
        if ">>>" not in block:
            exec(compile(block, str(page), "exec"), scope)
            continue
        test = doctest.DocTestParser().get_doctest(block, scope, f"block {number}", str(page), 0)
        test.globs = scope  # and not the copy that is made of it
        shown: list[str] = []
        runner = doctest.DocTestRunner(optionflags=options)
        failed = runner.run(test, out=shown.append, clear_globs=False).failed
        assert failed == 0, "".join(shown)


def test_the_guide_to_python_has_an_example_of_each_public_name():
    code = "\n".join(python_blocks(DOCS / "python.md"))
    assert [name for name in ssense.__all__ if not re.search(rf"ssense\.{name}\b", code)] == []


def test_the_lines_that_show_a_sweep_over_data_are_those_of_its_file():
    shown, _ = python_blocks(DOCS / "sweeps.md")
    file = (REPOSITORY / "sweeps" / "reference.py").read_text().splitlines()
    assert "reference_sweep" in shown
    assert [line for line in shown.splitlines() if line not in file] == []


def test_the_family_with_fields_of_one_kind_alone_has_the_size_that_is_said(tmp_path):
    _, example = python_blocks(DOCS / "sweeps.md")
    scope: dict[str, dict] = {}
    exec(compile(example, "families", "exec"), scope)
    options = RecordingOptions(
        storage=str(tmp_path), synthetic=SyntheticSpec(sentences=60, electrodes=5)
    )
    (data,) = options.datasets()
    (family,) = options.sweep("features", data, scope["families"]).families
    all_levels = math.prod(map(len, family.levels.values()))
    assert f"This family has {family.size} configurations, not {all_levels}: " in " ".join(
        (DOCS / "sweeps.md").read_text().split()
    )


def test_the_fields_that_may_be_compared_are_all_listed():
    listed = re.findall(r"^\| (`.+?`) \|", (DOCS / "extending.md").read_text(), re.M)
    names = re.findall(r"`([\w.]+)`", " ".join(listed))
    assert sorted(names) == sorted({*field_names(SentenceSpec)} - {"split", "contacts"})


# ---------------------------------------------------------------- the site

BUILD = """
import socket, sys

def refuse(*_):
    raise OSError("the documentation is built without a network")

socket.socket.connect = refuse
from mkdocs.__main__ import cli
cli(["build", "--strict", "--quiet", "--site-dir", sys.argv[1]])
"""
LOADED = (
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="https?:|<link\b(?![^>]*canonical)[^>]*"https?:"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_strictly_and_without_a_network(site):
    for page in DOCS.rglob("*.md"):
        built = site / page.relative_to(DOCS).with_suffix(".html")
        assert built.stat().st_size > 5_000, built
    assert 'class="flow"' in (site / "architecture.html").read_text()


def test_whoever_reads_the_site_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        assert not re.search(LOADED, page.read_text()), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_the_reference_has_the_public_names(site):
    public = {
        "ssense.signal.superlets": ("SuperletSpec", "superlet_transform"),
        "ssense.model.masking": ("mask_time_frequency", "mask_electrodes"),
        "ssense.model.losses": ("info_nce",),
        "ssense.retrieval": ("retrieval_metrics", "chance_metrics"),
        "ssense.data.splits": ("seeded_split",),
        "analysis.measure.inference": ("corrected_resampled_ttest", "holm"),
        "ssense.training.sentences": ("SentenceSpec",),
        "ssense.engine.core.sweep": ("Sweep", "Family"),
    }
    reference = "".join(page.read_text() for page in (site / "api").rglob("*.html"))
    for module, names in public.items():
        for name in names:
            assert f'id="{module}.{name}"' in reference, name


UNITS = {"s": "seconds", "hz": "Hz"}
"""What an entry says, by the last part of the name of its field."""


@pytest.mark.parametrize(
    "spec",
    [
        *(SegmentSpec, SuperletSpec, FourierSpec, BandPowerSpec, TextSpec),
        *(SentenceTransformerSpec, TransformersSpec, VectorSpec, OwnTargetSpec),
    ],
)
def test_the_reference_has_every_field_of_the_data_with_its_unit_and_default(spec, site):
    pages = {path.name: path.read_text() for path in (site / "api").rglob("*.html")}
    anchor = f"{spec.__module__}.{spec.__name__}"
    (page,) = [name for name, text in pages.items() if f'id="{anchor}"' in text]
    guide = (DOCS / "sweeps.md").read_text()
    assert f"[`{spec.__name__}`](api/{page.replace('.html', '.md')}#{anchor})" in guide
    attributes = inspect.getdoc(spec).partition("\nAttributes:\n")[2].partition("\nRaises:")[0]
    found = re.findall(r"^    (\w+): (.+?)(?=^    \w+: |\Z)", attributes, re.M | re.S)
    entries = {name: " ".join(text.split()) for name, text in found}
    fields = {field.name: field.default for field in dataclasses.fields(spec)}
    assert [*entries] == [*fields]
    for name, default in fields.items():
        said = f"{default:g}" if type(default) in (int, float) else f"{default}"
        said = f'"{said}"' if isinstance(default, str) else said
        ways = rf"{re.escape(said)} \(default\)|default {re.escape(said)}(?!\w|\.\d)"
        assert re.search(ways, entries[name]), entries[name]
        unit = UNITS.get(name.rpartition("_")[2])
        assert unit is None or unit in entries[name], entries[name]


def test_version_and_licence_are_the_same_wherever_they_are_named():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"\n## {project['version']}\n" in (REPOSITORY / "CHANGELOG.md").read_text()


def test_every_page_is_in_the_navigation():
    config = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())
    assert config["strict"] is True
    assert config["theme"]["font"] is False
    named = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    assert named == {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
