from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from upath import UPath

from analysis.recordings import RecordingsOptions, main
from analysis.subjects.random_effects import random_effects
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.errors import UserError
from ssense.retrieval import METRICS
from ssense.specification import configured
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec

SWEEP = Sweep(
    question="masking",
    dataset_digest="d",
    specification=SentenceSpec(),
    families=(Family(name="no masking", levels={}),),
    configurations=1,
    seeds=(0, 1, 2),
)
PROTOCOLS = ("search seeds", "fresh seeds")
GAINS = {"no masking": 0.0, "electrode": 0.1}


def write_evaluated(
    storage: Path,
    name: str,
    subject: str,
    level: float,
    *,
    title: str = "Cars",
    protocols: tuple[str, ...] = PROTOCOLS,
    split: str = "random",
    missing: int = 0,
    epochs: int = 100,
    families: tuple[str, ...] = ("no masking",),
    weights: str = "openai",
) -> Path:
    """What a sweep and its test evaluation leave behind, as far as it is read here."""
    ledger = Ledger(UPath(storage) / SWEEPS / name)
    training = configured(
        SWEEP.specification,
        {"split": split, "training.max_epochs": epochs, "contacts": f"those of {subject}"},
    )
    text = TextSpec(weights=weights)
    origin = RecordingOrigin(
        subject=subject, title=title, shards="0123", recording="there", text=text
    )
    sweep = replace(
        SWEEP,
        specification=training,
        families=tuple(Family(name=each, levels={}) for each in families),
    )
    ledger.describe(Description(sweep=sweep, origin=origin))
    folder = Path(ledger.folder) / "evaluation"
    folder.mkdir()
    scores = [
        f"{protocol},{family},{100 + seed},{level * (1 + gain) + seed / 1000},{missing}"
        for protocol in protocols
        for family, gain in (
            GAINS if protocol == "fresh seeds" else dict.fromkeys(GAINS, 0.5)
        ).items()
        for seed in range(3)
    ]
    head = "protocol,family,seed,recall@10,missing_cells"
    (folder / "scores.csv").write_text("\n".join([head, *scores]))
    chance = [f"{protocol},0.05,{missing}" for protocol in protocols]
    tests = [
        f"{protocol},recall@10,{name},{mean},{0.01 + level / 50}"
        for protocol in protocols
        for name, mean in (
            ("no masking vs chance", level - 0.049),
            ("no masking vs electrode", -0.1 * level),
        )
    ]
    head = "protocol,metric,comparison,mean,error"
    (folder / "tests.csv").write_text("\n".join([head, *tests]))
    head = "protocol,recall@10_chance,missing_cells"
    (folder / "table.csv").write_text("\n".join([head, *chance]))
    return folder


def written(storage: Path, name: str = "*") -> list[Path]:
    """Files of this name of every comparison."""
    return list((storage / "recordings_compared").glob(f"*/{name}"))


def compare(storage: Path, *names: str) -> None:
    main(RecordingsOptions(storage=str(storage), sweeps=names))


@pytest.fixture
def refused(tmp_path, capsys) -> Callable[..., str]:
    """The one line that refuses to compare sweeps, before anything is written."""

    def refused(*names: str) -> str:
        with pytest.raises(UserError) as error:
            compare(tmp_path, *names)
        assert "\n" not in str(error.value)
        assert not written(tmp_path)
        assert not capsys.readouterr().out
        return str(error.value)

    return refused


def test_evaluated_sweeps_are_compared_at_fresh_seeds(tmp_path):
    levels = (0.2, 0.3, 0.5)
    for number, level in enumerate(levels, start=1):
        write_evaluated(tmp_path, f"masking-{number}", f"sub_{number}", level)
    command = [sys.executable, "analysis/recordings.py", "--storage", str(tmp_path), "--sweeps"]
    done = subprocess.run(
        [*command, *(f"masking-{number}" for number in (1, 2, 3))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdict = (
        "In Recall@10 over 3 subjects at fresh seeds, none of the 2 families is shown to be above "
        "chance; none is shown to be better than another; no controls were run."
    )
    assert " ".join(done.stdout.split()).startswith(verdict)
    assert "Recall@10 over 3 subjects at fresh seeds, random splits" in done.stdout
    (table,) = written(tmp_path, "recordings.csv")
    assert f"Tables and forest plot: {table.parent}" in done.stdout
    with table.open(newline="") as file:
        rows = {row["comparison"]: row for row in csv.DictReader(file)}
    chance, pair = rows["no masking vs chance"], rows["no masking vs electrode"]
    assert float(chance["mean"]) == pytest.approx(np.mean(levels) + 0.001 - 0.05)
    assert float(pair["mean"]) == pytest.approx(-0.1 * np.mean(levels))
    d = -0.1 * np.array(levels)
    assert float(pair["p"]) == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    assert (pair["protocol"], pair["split"]) == ("fresh seeds", "random")
    said = " ".join(done.stdout.split())
    assert "With 3 subjects the test finds a difference between two families (80 % power" in said
    assert "Wilcoxon's p over 3 pairs can't be below 0.25; at least 6 are needed" in said
    page = table.with_suffix(".md").read_text()
    title = "Recall@10 over 3 subjects at fresh seeds, random splits"
    assert page.startswith(f"# {title}\n\n{verdict}\n")
    latex = table.with_suffix(".tex").read_text()
    assert latex.count(r"\begin{tabular}") == 4
    assert latex.count(f"\\caption{{{title}}}") == 3
    assert f"\\caption{{{verdict}" in latex
    assert "no masking vs electrode & -3.33 &" in latex
    assert "sub_2, Cars (masking-2); sub_3, Cars (masking-3): held-out test splits (ran" in page
    assert "at fresh seeds, at which nothing" in page
    assert "P(equivalent)" in page
    assert "±0.50" in page


def test_how_much_subjects_differ_is_stated_and_drawn(tmp_path, capsys):
    levels, errors = np.array([0.2, 0.3, 0.5]), np.array([0.014, 0.016, 0.02])
    for number, level in enumerate(levels, start=1):
        write_evaluated(tmp_path, f"m-{number}", f"sub_{number}", level)
    compare(tmp_path, "m-1", "m-2", "m-3")
    (table,) = written(tmp_path, "heterogeneity.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    chance = [row for row in rows if row["comparison"] == "no masking vs chance"]
    assert [row["subject"] for row in chance] == ["sub_1", "sub_2", "sub_3", "over subjects"]
    wanted = random_effects(levels - 0.049, errors)
    assert float(chance[-1]["mean"]) == pytest.approx(wanted.mean)
    assert float(chance[-1]["tau"]) == pytest.approx(wanted.tau)
    assert [float(row["weight"]) for row in chance[:-1]] == pytest.approx(wanted.weights.tolist())
    shown = " ".join(capsys.readouterr().out.split())
    assert "Random effects: each subject's own difference counts by how well it is" in shown
    assert f"{100 * wanted.i_squared:.0f} %" in shown
    for kind in ("png", "svg", "pdf"):
        assert len(written(tmp_path, f"forest.{kind}")) == 1
    drawn = table.with_name("forest.svg").read_text()
    for words in ("sub_1", "a new subject", "no masking vs electrode", "points of Recall@10"):
        assert words in drawn


def test_sessions_of_a_subject_are_averaged_with_their_errors(tmp_path):
    for number, (subject, title) in enumerate(
        [("sub_1", "Cars"), ("sub_1", "Up"), ("sub_2", "Cars")], start=1
    ):
        write_evaluated(tmp_path, f"m-{number}", subject, 0.1 * number, title=title)
    compare(tmp_path, "m-1", "m-2", "m-3")
    (table,) = written(tmp_path, "heterogeneity.csv")
    first, second, over = list(csv.DictReader(table.read_text().splitlines()))[:3]
    assert float(first["mean"]) == pytest.approx(0.15 - 0.049)
    assert float(first["error"]) == pytest.approx(np.hypot(0.012, 0.014) / 2)
    assert float(second["error"]) == pytest.approx(0.016)
    assert (over["new_subject_low"], over["new_subject_high"]) == ("", "")


def test_without_errors_nothing_is_said_of_how_subjects_differ(tmp_path, capsys):
    for number in (1, 2):
        folder = write_evaluated(tmp_path, f"m-{number}", f"sub_{number}", 0.2 * number)
        tests = (folder / "tests.csv").read_text().splitlines()
        kept = [line.rpartition(",")[0] for line in tests]  # as an earlier version wrote them
        (folder / "tests.csv").write_text("\n".join(kept))
    compare(tmp_path, "m-1", "m-2")
    assert "How much subjects differ is not stated" in " ".join(capsys.readouterr().out.split())
    assert not written(tmp_path, "heterogeneity.csv")
    assert not written(tmp_path, "forest.svg")


def test_what_an_earlier_comparison_drew_does_not_stay(tmp_path):
    for number in (1, 2):
        write_evaluated(tmp_path, f"m-{number}", f"sub_{number}", 0.2 * number)
    compare(tmp_path, "m-1", "m-2")
    assert written(tmp_path, "forest.svg")
    for tests in tmp_path.glob("sweeps/*/evaluation/tests.csv"):
        tests.write_text("protocol,metric,comparison,mean\n")
    compare(tmp_path, "m-1", "m-2")
    assert not written(tmp_path, "forest.svg")
    assert not written(tmp_path, "heterogeneity.csv")


def write_controls(folder: Path, verdict: str, configuration: str = "electrode 0.5") -> None:
    """Controls of a sweep, of the configuration of "electrode" at its seeds, and its choice."""
    table = folder / "table.csv"
    head, *rows = table.read_text().splitlines()
    rows = [f"{row},electrode,{configuration}" for row in rows]
    table.write_text("\n".join([f"{head},family,configuration", *rows]))
    columns = [*METRICS, *(f"{metric}_chance" for metric in METRICS)]
    lines = [f"control,family,configuration,seed,{','.join(columns)}"]
    lines += [f"noise,electrode,electrode 0.5,{seed}" + ",.1" * len(columns) for seed in range(3)]
    controls = folder.parent / "controls"
    controls.mkdir()
    (controls / "controls.csv").write_text("\n".join(lines))
    (controls / "verdict.txt").write_text(f"{verdict}\n")


def test_the_verdict_takes_each_recording_s_controls_into_account(tmp_path, capsys):
    folders = [
        write_evaluated(tmp_path, f"m-{n}", f"sub_{n}", 0.2 * n, protocols=PROTOCOLS[:1])
        for n in (1, 2, 3)
    ]
    length = "sentence duration alone explains the score without a brain"
    write_controls(folders[0], length)
    write_controls(folders[1], length)
    write_controls(folders[2], length, configuration="electrode 0.75")  # the choice has changed
    compare(tmp_path, "m-1", "m-2")
    said = " ".join(capsys.readouterr().out.split())
    assert f"than another; by the controls of electrode, {length}. " in said
    compare(tmp_path, "m-1", "m-2", "m-3")
    assert (
        f"; of sub_1 (Cars) and sub_2 (Cars), by the controls of electrode, {length}; of sub_3 "
        "(Cars), no controls were run. "
    ) in " ".join(capsys.readouterr().out.split())


def test_length_may_explain_only_what_is_above_chance(tmp_path, capsys):
    for number in (1, 2, 3):
        write_evaluated(tmp_path, f"m-{number}", f"sub_{number}", 0.5 + number / 1000)
    compare(tmp_path, "m-1", "m-2", "m-3")
    said = " ".join(capsys.readouterr().out.split())
    assert "both families are above chance" in said
    assert "no controls were run: sentence length alone may explain the score." in said


def test_no_interval_goes_beyond_what_shares_can_be(tmp_path):
    for number, level in ((1, 0.1), (2, 0.8)):
        write_evaluated(tmp_path, f"m-{number}", f"sub_{number}", level)
    compare(tmp_path, "m-1", "m-2")
    (table,) = written(tmp_path, "recordings.csv")
    with table.open(newline="") as file:
        rows = {row["comparison"]: row for row in csv.DictReader(file)}
    ends = [tuple(float(row[end]) for end in ("low", "high")) for row in rows.values()]
    assert ends[:2] == [pytest.approx((-0.05, 0.95))] * 2
    assert all(-1 <= low < high <= 1 for low, high in ends)


def test_an_untrained_tower_is_warned_of(tmp_path, capsys):
    for number in (1, 2):
        write_evaluated(tmp_path, f"m-{number}", f"sub_{number}", 0.2, weights="untrained")
    compare(tmp_path, "m-1", "m-2")
    (page,) = (file.read_text() for file in written(tmp_path, "recordings.md"))
    for shown in (" ".join(capsys.readouterr().out.split()), page):
        assert "Text: ViT-B-32-quickgelu, untrained. The text tower is untrained: a tri" in shown


def test_recordings_of_a_subject_are_averaged(tmp_path):
    write_evaluated(tmp_path, "m-1", "sub_1", 0.2)
    write_evaluated(tmp_path, "m-2", "sub_1", 0.4, title="Up")
    write_evaluated(tmp_path, "m-3", "sub_2", 0.5)
    compare(tmp_path, "m-1", "m-2", "m-3")
    (page,) = (file.read_text() for file in written(tmp_path, "recordings.md"))
    assert "| configuration | sub_1 | sub_2 | over subjects |" in page
    sd = 100 * np.std([0.3, 0.5], ddof=1)
    assert f"| no masking | 30.10 | 50.10 | 40.10 ± {sd:.2f} |" in page


def test_each_choice_of_sweeps_has_tables_of_its_own(tmp_path):
    for number in (1, 2, 3):
        write_evaluated(tmp_path, f"m-{number}", f"sub_{number}", 0.1 * number)
    compare(tmp_path, "m-1", "m-2")
    (first,) = written(tmp_path, "recordings.csv")
    before = first.read_bytes()
    compare(tmp_path, "m-1", "m-3")
    assert first.read_bytes() == before
    assert len(written(tmp_path, "recordings.csv")) == 2
    compare(tmp_path, "m-2", "m-1")  # once more, and in another order
    assert len(written(tmp_path, "recordings.csv")) == 2


def test_search_seeds_and_missing_cells_are_named(tmp_path, capsys):
    for number in (1, 2):
        write_evaluated(
            tmp_path,
            f"m-{number}",
            f"sub_{number}",
            0.2,
            protocols=PROTOCOLS[:1],
            split="held-out",
            missing=number - 1,
        )
    compare(tmp_path, "m-1", "m-2")
    for shown in (
        capsys.readouterr().out,
        *(file.read_text() for file in written(tmp_path, "recordings.md")),
    ):
        assert "over 2 subjects at search seeds, held-out splits" in shown
        assert "the search seeds, at which the configurations were chosen" in shown
        assert "Cells missing from the search: m-2 lacks 1." in shown


def test_protocols_are_not_mixed(tmp_path, refused):
    write_evaluated(tmp_path, "m-1", "sub_1", 0.2)
    write_evaluated(tmp_path, "m-2", "sub_2", 0.3, protocols=PROTOCOLS[:1])
    message = refused("m-1", "m-2")
    assert message.startswith("m-2 was evaluated at search seeds alone, m-1 at fresh ones")
    assert message.endswith(
        f"analysis/evaluate.py --storage {tmp_path} --sweep m-2 --confirm-seeds 100 101 102."
    )


def test_kinds_of_splits_are_not_mixed(tmp_path, refused):
    write_evaluated(tmp_path, "m-1", "sub_1", 0.2)
    write_evaluated(tmp_path, "m-2", "sub_2", 0.3, split="blocked")
    message = refused("m-1", "m-2")
    assert message.startswith("m-1 and m-2 differ in their split: random and blocked.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 5}, "training.max_epochs: 100 and 5."),
        ({"families": ("no masking", "electrode")}, "families: no masking and electrode, no mas"),
        ({"weights": "untrained"}, "target: ViT-B-32-quickgelu, openai and ViT-B-"),
    ],
)
def test_sweeps_that_differ_in_more_than_their_subjects_are_not_mixed(
    tmp_path, refused, changes, message
):
    write_evaluated(tmp_path, "m-1", "sub_1", 0.2)
    write_evaluated(tmp_path, "m-2", "sub_2", 0.3, **changes)
    found = refused("m-1", "m-2")
    assert found.startswith(f"m-1 and m-2 differ in their {message}")
    assert found.endswith("Give sweeps that are alike with `sweeps`.")


def test_sweeps_have_to_be_named():
    with pytest.raises(UserError, match=r"--sweeps is missing\. Give one evaluated sweep per rec"):
        RecordingsOptions(storage=".")


def test_a_recording_is_given_once(tmp_path, refused):
    for number in (1, 2):
        write_evaluated(tmp_path, f"m-{number}", "sub_9", 0.2)
    assert refused("m-1", "m-2") == (
        "`sweeps`: m-1 and m-2 are both of sub_9, Cars. Give one sweep of each recording."
    )


def test_one_subject_is_not_enough(tmp_path, refused):
    write_evaluated(tmp_path, "m-1", "sub_9", 0.2)
    write_evaluated(tmp_path, "m-2", "sub_9", 0.2, title="Up")
    for names in (("m-1",), ("m-1", "m-1"), ("m-1", "m-2")):
        assert "the subject is the unit" in refused(*names)


def test_a_sweep_that_was_not_evaluated_says_how(tmp_path, refused):
    folder = write_evaluated(tmp_path, "m-1", "sub_9", 0.2)
    (folder / "scores.csv").unlink()
    message = refused("m-1")
    assert message.startswith("m-1 was not evaluated. Run ")
    assert message.endswith(f" analysis/evaluate.py --storage {tmp_path} --sweep m-1 first.")


DAMAGES = [
    (b"", "damaged"),
    (b"\xff\xfe\x00", "damaged"),
    (b'"protocol', "unexpected end of data"),
    (b"protocol,family\nfresh seeds,electrode", "no column"),
    (b"a,b\n1,2", "no column 'protocol'"),
]
SCORES_HEAD = b"protocol,family,seed,recall@10,missing_cells\n"
TABLE_HEAD = b"protocol,recall@10_chance,missing_cells\n"
DAMAGED_SCORES = [
    (SCORES_HEAD, "nothing at search seeds"),
    (SCORES_HEAD + b"fresh seeds,electrode,1", "damaged"),
    (SCORES_HEAD + b"fresh seeds,electrode,one,0.2,0", "invalid literal"),
    (SCORES_HEAD + b"fresh seeds,electrode,1,nan,0", "expected a fraction, got nan"),
    (SCORES_HEAD + b"fresh seeds,electrode,1,1.2,0", "expected a fraction, got 1.2"),
    (
        SCORES_HEAD + b"fresh seeds,a,1,0.2,0\nfresh seeds,a,2,0.2,0\nfresh seeds,b,1,0.2,0",
        "b has other seeds than a",
    ),
]
DAMAGED_TABLES = [
    (TABLE_HEAD + b"search seeds,0.05,0", "nothing at fresh seeds"),
    (TABLE_HEAD + b"fresh seeds,inf,0", "expected a fraction, got inf"),
    (TABLE_HEAD + b"fresh seeds,0.05", "damaged"),
]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        *(("scores.csv", *damage) for damage in DAMAGES + DAMAGED_SCORES),
        *(("table.csv", *damage) for damage in DAMAGES + DAMAGED_TABLES),
    ],
)
def test_a_damaged_evaluation_is_one_line(tmp_path, refused, file, content, message):
    folder = write_evaluated(tmp_path, "m-1", "sub_9", 0.2)
    (folder / file).write_bytes(content)
    found = refused("m-1")
    assert found.startswith(f"{folder / file} is damaged (")
    assert message in found
    assert found.endswith(" --sweep m-1 again.")
