from __future__ import annotations

import dataclasses
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, Group

from ssense.cli import screen as lines
from ssense.engine.core.decision import Decision
from ssense.engine.core.matrix import MARKS, Matrix, MatrixRow, State, mean_and_sd
from ssense.engine.core.record import Record
from ssense.engine.view import progress
from ssense.engine.view.progress import CellProgress, MatrixView

LONG = "electrode 0.75, frequency 0.75, time 0.75"


def done(score: float = 0.125, seconds: float = 40.0) -> Record:
    return Record(
        signature="a",
        configuration={"masking.electrode": 0.25},
        seed=3,
        status="done",
        dataset_digest="d",
        history=[{"epoch": 1, "recall@10": score}, {"epoch": 2, "recall@10": 0.1}],
        best_epoch=1,
        timings={"training": seconds},
    )


def failed() -> Record:
    return Record(
        signature="b", configuration={}, seed=4, status="failed", dataset_digest="d", reason="NaN"
    )


def row(name: str, *states: State, family: str = "electrode", **known) -> MatrixRow:
    """A row whose scores are 0.5, 0.51, 0.52 ... by seed."""
    scores = tuple(0.5 + i / 100 if state == "done" else None for i, state in enumerate(states))
    return MatrixRow(family=family, name=name, states=states, scores=scores, **known)


def matrix(*rows: MatrixRow) -> Matrix:
    seeds = tuple(range(len(rows[0].states))) if rows else ()
    return Matrix(metric="recall@10", seeds=seeds, rows=rows)


@pytest.fixture
def terminal(monkeypatch) -> Console:
    """A terminal that keeps what was written to it."""
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        force_interactive=True,
        color_system="standard",
        width=100,
        height=24,
        highlight=False,
    )
    for module in (progress, lines):
        monkeypatch.setattr(module, "console", console)
    return console


def drawn(matrix: Matrix, width: int = 80, height: int = 20) -> list[str]:
    """Lines of the view on a terminal of that width, without colours."""
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    console.print(Group(*MatrixView(matrix).lines(height)))
    return [line.rstrip() for line in console.export_text().splitlines()]


def screen(written: str) -> list[str]:
    """What a terminal shows, of the few control codes that rich writes for a live display."""
    lines, at = [""], 0
    for code, text in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|([^\x1b])", written):
        if text == "\n":
            at += 1
            lines += [""] * (at == len(lines))
        elif text and text != "\r":  # after which rich erases the line
            lines[at] += text
        elif code.endswith("A"):
            at -= int(code[:-1] or 1)
        elif code == "2K":
            lines[at] = ""
    return lines


def test_a_finished_cell_is_one_line_with_its_score_and_the_time_left(capsys):
    with CellProgress(4, lambda: 2, "recall@10", matrix) as progress:
        progress.cell("electrode", done())
        progress.cell("no masking", failed())
    first, second = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines())
    assert first == ("1/4 seed 3 Recall@10 12.5 % epoch 1 of 2 40 s electrode 0.25 about 60 s left")
    assert second == "2/4 seed 4 no masking failed: NaN about 40 s left"


@pytest.mark.parametrize("width", [80, 100])
def test_the_lines_of_cells_are_a_table_however_long_their_names(capsys, monkeypatch, width):
    monkeypatch.setattr(lines.console, "width", width)
    wide = {"masking.electrode": 0.75, "masking.frequency": 0.75, "masking.time": 0.125}
    with CellProgress(100, lambda: 2, "recall@10", matrix) as progress:
        for record in (done(), dataclasses.replace(done(1.0, 7.0), configuration=wide, seed=11)):
            progress.cell("electrode", record)
    shown = capsys.readouterr().out.splitlines()
    for column in ("seed", "%", " s  ", "electrode"):
        assert len({line.index(column) for line in shown}) == 1


def test_a_cell_that_ran_ahead_is_marked_in_its_line_and_in_the_matrix(capsys):
    with CellProgress(4, lambda: 2, "recall@10", matrix) as progress:
        progress.cell("electrode", done(), ahead=True)
    line = " ".join(capsys.readouterr().out.split())
    assert line == (
        "1/4 seed 3 Recall@10 12.5 % epoch 1 of 2 40 s electrode 0.25 ahead about 60 s left"
    )
    shown = drawn(matrix(row("electrode 0.5", "done", "ahead", "ahead", "waiting")))
    assert any("■□□·" in line and "1/4" in line for line in shown)
    assert shown[-1].endswith("□ 2 ahead")
    assert not drawn(matrix(row("electrode 0.5", "done")))[-1].endswith("ahead")


def test_without_a_terminal_a_matrix_is_not_shown(capsys):
    with CellProgress(10, lambda: 2, "recall@10", matrix) as progress:
        progress.left(7)
        progress.cell("electrode", done())
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "1/7"


@pytest.mark.parametrize(
    ("slots", "total", "left"),
    [
        (1, 5, "about 3 min left"),  # 4 x 40 s
        (4, 5, "about 40 s left"),
        (64, 2, "about 40 s left"),  # one cell can't be shared
        (4, 1, "all trained"),
        (4, 0, "all trained"),  # the race may drop what another worker has begun
    ],
)
def test_time_left_is_that_of_the_finished_cells_on_the_slots_in_use(capsys, slots, total, left):
    with CellProgress(100, lambda: slots, "recall@10", matrix) as progress:
        progress.left(total)
        progress.cell("electrode", done(seconds=40))
    assert capsys.readouterr().out.strip().endswith(left)


def test_time_left_follows_machines_that_come_and_go(capsys):
    slots = 1
    with CellProgress(9, lambda: slots, "recall@10", matrix) as progress:
        for slots in (1, 7, 0):  # noqa: B007 - the progress asks for it
            progress.cell("electrode", done(seconds=40))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("electrode 0.25")[2].strip() for line in lines] == [
        "about 5 min left",  # 8 cells, one after the other
        "about 40 s left",  # 7 at a time
        "",  # nobody knows when a machine comes
    ]


@pytest.mark.parametrize(
    ("decision", "line"),
    [
        (
            Decision(
                place=1,
                reason="behind",
                after_seeds=2,
                leader=0,
                difference=0.031,
                standard_error=0.01,
                threshold=1.8,
            ),
            "  dropped  electrode 0.05  after 2 seeds: 3.1 points behind electrode 0.5 "
            "(standard error 1.0, limit 1.8)",
        ),
        (
            Decision(place=0, reason="failed", after_seeds=1),
            "  dropped  electrode 0.5  after 1 seed: one of its cells failed",
        ),
        (
            Decision(place=1, reason="returned", after_seeds=0),
            "  returned  electrode 0.05  after 0 seeds: the configurations ahead of it failed",
        ),
    ],
)
def test_a_decision_is_one_line_with_its_grounds(capsys, decision, line):
    with CellProgress(4, lambda: 2, "recall@10", matrix) as progress:
        progress.decision(
            "electrode", [{"masking.electrode": 0.5}, {"masking.electrode": 0.05}], decision
        )
    assert capsys.readouterr().out == line + "\n"


def test_a_configuration_is_a_line_of_marks_and_numbers():
    lines = drawn(
        matrix(
            row("electrode 0.5", "done", "done", "done", "running", leads=True),
            row("time 0.1", "done", "failed", "waiting", "waiting", family="time"),
            row("electrode 0.1", "waiting", "done", "dropped", "dropped", dropped=True),
        )
    )
    assert lines == [
        "validation Recall@10, %; * leads its family; behind: * on the seeds both have",
        "  configuration seeds done mean ± sd  behind",
        "* electrode 0.5 ■■■>   3/4 51.0 ± 1.0",
        "– electrode 0.1 ·■––   1/4 51.0          0.0",
        "  time 0.1      ■×··   1/4 50.0",
        "■ 5 done   > 1 running   × 1 failed   · 3 waiting   – 2 dropped",
    ]


@pytest.mark.parametrize(("failures", "colour"), [(0, "dim"), (1, "bold red")])
def test_a_count_of_none_has_no_colour(failures, colour):
    shown = matrix(row("time 0.1", "done", *["failed"] * failures, "waiting"))
    legend = MatrixView(shown).lines(20)[-1]
    (style,) = {
        str(span.style)
        for span in legend.spans
        if legend.plain[span.start : span.end] == f"× {failures} failed"
    }
    assert style == colour


@st.composite
def sweeps(draw) -> Matrix:
    n_seeds = draw(st.integers(1, 10))
    states = st.lists(st.sampled_from(list(MARKS)), min_size=n_seeds, max_size=n_seeds)
    rows = []
    for number in range(draw(st.integers(0, 40))):
        family = draw(st.sampled_from(["no masking", "electrode", "time"]))
        leads = draw(st.booleans()) and not any(r.leads and r.family == family for r in rows)
        name, dropped = f"{LONG} {number}", draw(st.booleans())
        rows.append(row(name, *draw(states), family=family, leads=leads, dropped=dropped))
    return matrix(*rows)


@given(sweeps(), st.integers(8, 60), st.integers(90, 200))
def test_as_many_configurations_are_shown_as_fit_the_leaders_first(sweep, height, width):
    lines = drawn(sweep, width, height)
    assert len(lines) < height  # the bar comes below
    shown = [r for r in sweep.rows if any(f"{r.name} " in line for line in lines)]
    hidden = len(sweep.rows) - len(shown)
    assert (f"  {hidden} configurations not shown" in lines) == (hidden > 0)
    assert hidden == 0 or len(shown) == height - 5
    assert all(r in shown for r in sweep.rows if r.leads)
    busy = [r for r in sweep.rows if "running" in r.states and not r.leads]
    idle = [r for r in shown if "running" not in r.states and not r.leads]
    assert not idle or all(r in shown for r in busy)


def test_families_stay_together_in_order_of_proposal():
    rows = [row(f"{'ab'[i % 2]}-{i}", "running", family="ab"[i % 2]) for i in range(6)]
    names = [line.split()[0] for line in drawn(matrix(*rows))[2:-1]]
    assert names == ["a-0", "a-2", "a-4", "b-1", "b-3", "b-5"]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_numbers_are_never_cut(width):
    rows = [row(LONG, *["done"] * 30, *["waiting"] * 10, leads=True), row(LONG, *["done"] * 40)]
    lines = drawn(matrix(*rows), width)[2:4]
    for line, shown in zip(lines, rows, strict=True):
        assert f"{shown.n_done}/40" in line
        assert mean_and_sd(shown) in line
        assert line.lstrip("* ").startswith("electrode")


def test_names_of_the_paper_s_sweep_fit_80_columns():
    rows = [row(LONG, *["done"] * 10, leads=True), row(LONG, *["done"] * 10)]
    for line in drawn(matrix(*rows))[2:4]:
        assert f"{LONG} {'■' * 10} 10/10 54.5 ± 3.0" in line


def test_a_terminal_shows_the_matrix_and_how_fast_it_fills(terminal):
    shown = matrix(row("electrode 0.25", "done", "running", leads=True))
    with CellProgress(9, lambda: 2, "recall@10", lambda: shown) as progress:
        progress.cell("electrode", done(seconds=40))
        progress.left(7)
    written = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", terminal.file.getvalue())
    assert "* electrode 0.25 ■>" in written
    (bar,) = set(re.findall(r"cells .* 1/8 3\.0 per minute, about 2 min left *", written))
    assert len(bar) <= terminal.width - len("^C")


def test_slow_cells_are_counted_per_hour(terminal):
    with CellProgress(9, lambda: 1, "recall@10", matrix) as progress:
        progress.cell("electrode", done(seconds=1800))
    assert "2.0 per hour, about 4 h left" in terminal.file.getvalue()


def test_a_terminal_is_left_with_failures_and_decisions_alone(terminal):
    decision = Decision(place=0, reason="failed", after_seeds=1)
    shown = matrix(row("electrode 0.25", "done", "failed"))
    with CellProgress(4, lambda: 2, "recall@10", lambda: shown) as progress:
        progress.cell("electrode", done())
        progress.cell("no masking", failed())
        progress.decision("electrode", [{"masking.electrode": 0.25}], decision)
    written = terminal.file.getvalue()
    assert "electrode 0.25 ■×" in re.sub(r"\x1b\[[\d;]*m", "", written)
    failure, decided, *rest = screen(written)
    assert failure.split() == ["2/4", "seed", "4", "no", "masking", "failed:", "NaN"]
    assert decided == "  dropped  electrode 0.25  after 1 seed: one of its cells failed"
    assert not any(rest)


def test_an_error_ends_the_display_and_goes_on(terminal):
    def train() -> None:
        with CellProgress(4, lambda: 2, "mrr", lambda: matrix(row("electrode 0.25", "running"))):
            raise RuntimeError("out of disk")

    with pytest.raises(RuntimeError, match="out of disk"):
        train()
    written = terminal.file.getvalue()
    assert not any(screen(written))
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is back


def test_lines_per_refresh_do_not_grow_with_the_sweep(terminal):
    rows = [row(f"electrode {i}", "running", "waiting") for i in range(2000)]
    with CellProgress(4000, lambda: 2, "recall@10", lambda: matrix(*rows)):
        pass
    written = terminal.file.getvalue()
    assert "1985 configurations not shown" in written
    assert len(screen(written)) <= 24
