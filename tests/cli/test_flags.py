from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from analysis.options import (
    CatalogueOptions,
    ControlOptions,
    EvaluationOptions,
    MapOptions,
    RecordingsOptions,
    ResultsOptions,
)
from ssense.cli.field_docs import field_docs
from ssense.cli.flags import Flag, HelpAskedError, flags_of, parse
from ssense.cli.usage import OTHERS, usage
from ssense.data.shards_options import ShardsOptions
from ssense.data.synthetic.spec import SyntheticCommand
from ssense.data.synthetic.things_spec import SyntheticThingsCommand
from ssense.engine.tasks.image_options import ImageOptions
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.engine.view.view_options import PageOptions, ServerOptions, TrackingOptions
from ssense.errors import UserError
from sweeps.masking import MaskingOptions

LONGEST = 300
COMMANDS = [
    *(MaskingOptions, RecordingOptions, ImageOptions, EvaluationOptions, ControlOptions),
    *(MapOptions, RecordingsOptions, ResultsOptions, SyntheticCommand),
    *(SyntheticThingsCommand, TrackingOptions, ServerOptions, CatalogueOptions),
    *(ShardsOptions, PageOptions),
]


@dataclass(frozen=True)
class Inner:
    """A group.

    Attributes:
        sentences: how many
            there are.
        low, high: bounds.
    """

    sentences: int = 10
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.sentences < 1:
            raise UserError(f"sentences must be at least 1, got {self.sentences}.")


@dataclass
class Twice:
    first: Inner = field(default_factory=Inner)
    second: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True)
class Options:
    groups: ClassVar[dict[str, tuple[str, ...]]] = {"search": ("seeds", "ratios")}

    recording: str
    """Folder of the recording."""
    seeds: tuple[int, ...] | None = None
    """Seeds [0 to 9; 0 to 4 if synthetic]."""
    ratios: tuple[float, ...] = (0.05, 0.5)
    """Mask ratios."""
    epochs: int | None = None
    """Most epochs [100; 5 if synthetic]."""
    split: Literal["random", "intra-subject, best test epoch"] = "random"
    """How to split."""
    subjects: tuple[str, ...] = ()
    """Subjects [all]."""
    dry_run: bool = False
    """Show the plan."""
    inner: Inner = field(default_factory=Inner)
    """What is made up."""


def read(*arguments: str, **environment: str) -> Options:
    return parse(Options, ["DIR", *arguments], environment, "script.py").options


def refused(options: type, arguments: list[str], environment: dict[str, str]) -> str:
    """The one line that refuses them."""
    with pytest.raises(UserError) as error:
        parse(options, arguments, environment, "script.py")
    message = f"error: {error.value}"
    assert len(message) < LONGEST, message
    assert message.endswith("."), message
    assert message.isprintable(), message
    return str(error.value)


@pytest.mark.parametrize(
    ("typed", "seeds"),
    [
        (["0-9"], range(10)),
        (["0..9"], range(10)),
        (["0,1,2"], range(3)),
        (["0", "1", "2"], range(3)),
        (["0-2", "7"], (0, 1, 2, 7)),
        (["0-2,7", "10..11"], (0, 1, 2, 7, 10, 11)),
        (["0,", "1"], (0, 1)),
        (["5-5"], (5,)),
        (["0, 1"], (0, 1)),
    ],
)
def test_whole_numbers_are_listed_as_people_type_them(typed, seeds):
    assert read("--seeds", *typed).seeds == tuple(seeds)
    assert read(SSENSE_SEEDS=" ".join(typed)).seeds == tuple(seeds)
    assert (
        read(f"--seeds={typed[0]}").seeds == tuple(seeds)[: len(read(f"--seeds={typed[0]}").seeds)]
    )


@pytest.mark.parametrize(
    ("typed", "ratios"),
    [
        (["5%"], (0.05,)),
        ([".05,.1"], (0.05, 0.1)),
        (["5%,10%", "0.75"], (0.05, 0.1, 0.75)),
        (["12.5%"], (0.125,)),
        (["5%", "10", "%"], (0.05, 0.1)),
        (["5", "%,", "10", "%"], (0.05, 0.1)),
        (["5 %,10 %"], (0.05, 0.1)),
        (["1e-1"], (0.1,)),
    ],
)
def test_shares_may_be_percentages(typed, ratios):
    assert read("--ratios", *typed).ratios == ratios
    assert read(SSENSE_RATIOS=" ".join(typed)).ratios == ratios


def test_names_keep_their_commas_and_values_may_begin_with_a_dash():
    assert read("--subjects", "masking, sub_9").subjects == ("masking, sub_9",)
    assert read("--split", "intra-subject, best test epoch").split.endswith("epoch")
    assert read("--inner.low", "-1e-3").inner == Inner(low=-0.001)
    assert parse(Options, ["-dash"], {}, "script.py").options.recording == "-dash"


def test_underscores_do_for_hyphens_and_switches_have_both_directions():
    assert read("--dry_run").dry_run
    assert not read("--no-dry-run", SSENSE_DRY_RUN="1").dry_run
    assert read("--dry-run=yes").dry_run


def test_a_switch_that_is_switched_off_takes_no_value():
    for word in ("--no-dry-run=1", "--no-dry-run=0", "--no-dry-run="):
        assert "--no-dry-run takes no value. Example: --no-dry-run." in refused(
            Options, ["DIR", word], {}
        )


def test_a_single_share_and_one_of_a_group_may_be_percentages_too():
    assert read("--inner.low", "5%", "--inner.high=12.5%").inner == Inner(low=0.05, high=0.125)
    assert "x is not a number" in refused(Options, ["DIR", "--inner.low", "x%"], {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DIR", "--seeds", "abc"], "--seeds abc: abc is not a whole number"),
        (["DIR", "--seeds", "9-0"], "the range 9-0 runs backwards. Example: --seeds 0-9."),
        (["DIR", "--seeds", "0-999999999999999999"], "has over 10,000 numbers"),
        (["DIR", "--seeds", "9" * 20], f"--seeds {'9' * 20}: {'9' * 20} is too large. Example: "),
        (["DIR", "--epochs", f"-{2**63}"], "is too large. Example: --epochs 100."),
        (["DIR", "--epochs", "0-9"], "0-9 is not a whole number"),
        (["DIR", "--seeds", f"0-{'9' * 5000}"], "is too large"),
        (["DIR", "--seeds", f"{2**63}-{2**63 + 1}"], "is too large"),
        (["DIR", "--ratios", "1e999"], "1e999 is too large"),
        (["DIR", "--ratios", "inf"], "inf is not a number"),
        (["DIR", "--seeds", "1.0"], "1.0 is not a whole number"),
        (["DIR", "--seeds", ","], "--seeds ,: no value. Example: --seeds 0-9."),
        (["DIR", "--ratios", "x%"], "x is not a number. Example: --ratios 0.05 0.5."),
        (["DIR", "--ratios", "nan"], "nan is not a number"),
        (
            ["DIR", "--epochs", "five"],
            "--epochs five: five is not a whole number. Example: --epoch",
        ),
        (["DIR", "--epochs"], "--epochs lacks its value. Example: --epochs 100."),
        (["DIR", "--epochs", "1", "--epochs", "2"], "--epochs is given twice. Give it once."),
        (["DIR", "--epoch", "1"], "script.py has no flag --epoch. Nearest: --epochs."),
        (["DIR", "--dry-run", "false"], "false belongs to no flag of script.py."),
        (["DIR", "--dry-run=maybe"], "a switch is on with 1 and off with 0. Example: --dry-run."),
        (["DIR", "--split", "best"], 'best is not one of random, "intra-subject, best test epoch"'),
        (
            ["DIR", "--inner.sentences", "0"],
            "--inner.sentences must be at least 1, got 0. Example: ",
        ),
        ([], "RECORDING is missing. Call it as: script.py RECORDING."),
        ([""], "RECORDING: it is empty. Example: FOLDER."),
    ],
)
def test_a_wrong_value_is_one_line_with_a_right_one(arguments, message):
    assert message in refused(Options, arguments, {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SSENSE_SEEDS", "abc", "SSENSE_SEEDS=abc: abc is not a whole number"),
        ("SSENSE_EPOCHS", "1.5", "Example: SSENSE_EPOCHS=100."),
        ("SSENSE_RATIOS", "high", 'Example: SSENSE_RATIOS="0.05 0.5".'),
        ("SSENSE_INNER_SENTENCES", "-2", "SSENSE_INNER_SENTENCES must be at least 1, got -2. Exam"),
    ],
)
def test_a_value_of_a_variable_is_refused_by_the_variable_s_name(name, value, message):
    said = refused(Options, ["DIR"], {name: value})
    assert message in said
    assert "--" not in said


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("--ratios 0.1 0.5: both.", "SSENSE_RATIOS=0.1 0.5: both."),
        ("--epochs 0.5 is given.", "SSENSE_EPOCHS=0.5 is given."),
        ("it does not fit. Check --epochs.", "it does not fit. Check SSENSE_EPOCHS."),
        (
            "it does not fit. Lower --epochs or --subjects, or give --epochs 1.",
            "it does not fit. Lower SSENSE_EPOCHS or --subjects, or give SSENSE_EPOCHS=1.",
        ),
        (
            "Check --epochs, or make it by .venv/bin/python -m module --epochs 7",
            "Check SSENSE_EPOCHS, or make it by .venv/bin/python -m module --epochs 7",
        ),
        (
            "Make it by '/my env/bin/python' a.py --ratios 0.1 0.5",
            "Make it by '/my env/bin/python' a.py --ratios 0.1 0.5",
        ),
        (
            "Check `subjects` and `inner.low`, or set `epochs` to 1. `rates` has no flag.",
            "Check --subjects and --inner.low, or set SSENSE_EPOCHS to 1. `rates` has no flag.",
        ),
    ],
)
def test_a_message_names_the_variable_of_a_flag_and_a_command_in_it_can_be_typed(message, said):
    environment = {"SSENSE_EPOCHS": "7", "SSENSE_RATIOS": "0.1 0.5"}
    assert parse(Options, ["DIR"], environment, "script.py").by_source(message) == said


def test_a_message_names_the_flags_of_another_command_that_it_tells_to_run():
    parsed = parse(Options, ["DIR", "--epochs", "7"], {}, "script.py")
    message = "Set `epochs` to 1, or run the sweep with `keep_version` NAME; `rates` has no flag."
    assert parsed.by_source(message, RecordingOptions) == (
        "Set --epochs to 1, or run the sweep with --keep-version NAME; `rates` has no flag."
    )
    assert "with `keep_version` NAME" in parsed.by_source(message)


def test_a_message_about_a_table_names_the_flags_of_its_group():
    message = "no column known as onset. Set `onset`, `offset` or `duration`, and `time_unit`."
    parsed = parse(RecordingOptions, [], {"SSENSE_TABLE_ONSET": "Anfang"}, "script.py")
    assert parsed.by_source(message) == (
        "no column known as onset. Set SSENSE_TABLE_ONSET, --table.offset or --table.duration, and "
        "--table.time-unit."
    )
    # What a flag is called by itself is that flag.
    assert (
        parsed.by_source("Check `sentences`, or `seed`.")
        == "Check --sentences, or --synthetic.seed."
    )


def test_a_field_that_two_groups_have_stays_as_it_is():
    parsed = parse(Twice, [], {}, "script.py")
    assert parsed.by_source("Set `low` or `first.low`.") == "Set `low` or --first.low."


def test_help_is_asked_for_before_anything_is_checked():
    for word in ("-h", "--help"):
        with pytest.raises(HelpAskedError):
            parse(Options, ["--nonsense", word], {"SSENSE_EPOCHS": "x"}, "script.py")


# ---------------------------------------------------------------- every flag of every command

BAD = {
    int: ["x", "", " ", "1.5", "nan", "1e3", "9" * 25, "0x1", "--", "\u0661\u066b"],
    float: ["x", "", "nan", "inf", "-inf", "1,5,x", "1_0", "--"],
    bool: ["maybe", "2", "-1"],
    str: ["", " "],
    Path: ["", " "],
}
# What no flag of the name takes, wherever it is.
OUT_OF_RANGE = {
    "seeds": ["-1", "0 0", "4294967296", "5-1"],
    "confirm_seeds": ["-1", "0 0", "4294967296"],
    "max_epochs": ["0", "-1"],
    "configurations": ["0", "-3"],
    "batch_size": ["0", "-1"],
    "learning_rate": ["0", "-1"],
    "budget_cells": ["0", "-1"],
    "budget_hours": ["0", "-0.5"],
    "price_per_device_hour": ["0", "-1"],
    "cpus_per_cell": ["0", "-1"],
    "gpus_per_cell": ["-1", "1.5"],
    "ratios": ["1", "-0.1", "100%", "0.5 2"],
    "split_seed": ["-1"],
    "stop_s": ["0", "-1"],
    "permutations": ["0", "-1"],
    "n_train": ["0", "-1"],
    "n_test": ["-1"],
    "equivalence": ["-1", "much", "nan", "-1%"],
    "port": ["0", "-1", "65536"],
    **{
        f"synthetic.{name}": ["-1"]
        for name in ("sentences", "electrodes", "coupling", "seed", "pauses", "lead_in_s")
    },
    "synthetic.sampling_rate": ["127", "-512"],
    "synthetic.subjects": ["0"],
    "synthetic.image_px": ["1"],
    "synthetic.modality": ["mri"],
}


def bad_values(flag: Flag) -> Iterator[str]:
    kind = flag.kind
    yield from BAD.get(kind, ["x", "", "1", "RANDOM"] if kind not in BAD else [])
    yield from OUT_OF_RANGE.get(flag.name, [])
    yield "x" * 5000 if kind not in (str, Path) else ""


def required(options: type) -> list[str]:
    return ["X" for flag in flags_of(options) if flag.by_place]


@pytest.mark.parametrize("options", COMMANDS)
def test_every_wrong_value_of_every_flag_is_one_line(options):
    tried = 0
    for flag in flags_of(options):
        for value in bad_values(flag):
            tried += 1
            if flag.by_place:
                refused(options, [value], {})
                continue
            words = value.split() if flag.items == 0 and value.strip() else [value]
            typed = [f"{flag.typed}={value}"] if flag.kind is bool else [flag.typed, *words]
            said = refused(options, [*required(options), *typed], {})
            assert flag.typed in said
            if value:  # an empty variable counts as unset
                said = refused(options, required(options), {flag.variable: value})
                assert said.startswith(flag.variable), said
                assert not re.search(rf"{flag.typed}(?![\w.-])", said), said
    assert tried >= len(flags_of(options))


@pytest.mark.parametrize("options", COMMANDS)
def test_missing_repeated_and_unknown_flags_are_one_line(options):
    given = required(options)
    for flag in flags_of(options):
        if flag.by_place:
            continue
        switch = flag.kind is bool and flag.items is None
        once = [flag.typed] if switch else [flag.typed, flag.example]
        assert "twice" in refused(options, [*given, *once, *once], {})
        if len(once) == 2:
            assert "lacks its value" in refused(options, [*given, flag.typed], {})
            assert "lacks its value" in refused(options, [*given, flag.typed, "--help-me"], {})
        misspelt = flag.typed[:-1] + "_"
        assert "has no flag" in refused(options, [*given, misspelt], {})
    for word in ("--nonsense", "--" + "x" * 5000, "--", "---", "--=", "--no-", "--\n"):
        assert "has no flag" in refused(options, [*given, word], {})
    assert "belongs to no flag" in refused(options, [*given, "stray"], {})
    if given:
        assert "is missing" in refused(options, [], {})


OF_A_RECORDING = ("subject", "trial", "session", "task", "acquisition", "run", "sentences")


@pytest.mark.parametrize("options", COMMANDS)
def test_every_example_is_right(options, tmp_path, monkeypatch):
    """What a message advises is accepted."""
    monkeypatch.chdir(tmp_path)
    for folder in ("storage", "FOLDER"):  # which must be there
        (tmp_path / folder).mkdir()
    for flag in flags_of(options):
        if flag.by_place or flag.name in ("images", "stop_s", "start_s"):
            continue
        values = flag.example.split() if flag.items == 0 else [flag.example.strip('"')]
        typed = [flag.typed] if flag.kind is bool else [flag.typed, *values]
        two = ["--sweeps", "a", "b"]  # which a comparison can't do without
        also = two if options is RecordingsOptions and flag.typed != "--sweeps" else []
        if issubclass(options, RecordingOptions) and flag.name in OF_A_RECORDING:
            also = ["--recording", "FOLDER"]
        if flag.name == "atlas_labels":
            also = ["--atlas", "dosenbach"]
        parse(options, [*required(options), *also, *typed], {}, "script.py")


# ---------------------------------------------------------------- help


def test_fields_are_documented_below_them_or_in_the_class():
    assert field_docs(Inner) == {
        "sentences": "how many there are.",
        "low": "bounds.",
        "high": "bounds.",
    }
    assert field_docs(Options)["epochs"] == "Most epochs [100; 5 if synthetic]."
    assert field_docs(dataclasses.make_dataclass("Made", [("x", int)])) == {}


def test_the_help_shows_flags_in_groups_with_one_default_each(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = usage(Options, "script.py", "Does it.\n\n    script.py DIR   # as here\n\nAnd so on.")
    assert text.startswith(
        "usage: script.py RECORDING [flags]\n\nDoes it.\n\n    script.py DIR   #"
    )
    assert re.findall(r"^(\w[\w ]*):$", text, re.M) == ["by place", OTHERS, "search", "inner"]
    assert "  --seeds N ...\n      Seeds. [0 to 9; 0 to 4 if synthetic]\n" in text
    assert "  --ratios X ...\n      Mask ratios. [0.05 0.5]\n" in text
    assert "  --dry-run\n      Show the plan. [off]\n" in text
    assert "  --subjects TEXT ...\n      Subjects. [all]\n" in text


@pytest.mark.parametrize("options", COMMANDS)
def test_the_help_of_every_command_fits_80_columns_and_documents_every_flag(options, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = usage(options, "script.py", "Does it.")
    flags = flags_of(options)
    assert all(flag.docs for flag in flags), [flag.name for flag in flags if not flag.docs]
    for flag in flags:
        if not flag.by_place:
            assert text.count(f"\n  {flag.typed} ") + text.count(f"\n  {flag.typed}\n") == 1
            assert flag.shown_default not in ("none", "")
    assert max(map(len, (line for line in text.splitlines() if "|" not in line))) <= 80


@pytest.mark.parametrize("options", [RecordingOptions, ImageOptions])
def test_every_flag_of_the_sweeps_is_in_a_group(options):
    grouped = [name for names in options.groups.values() for name in names]
    fields = {each.name for each in dataclasses.fields(options)} - {"synthetic"}
    assert sorted(grouped) == sorted(fields)
