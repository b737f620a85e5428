"""Tables on screen, laid out for the width of the terminal, with no cell cut."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult

from ssense.cli.terminal import shown

_GAPS = (3, 2)  # blanks between columns
_INDENT = 4  # indent of lines that belong to the line above


@dataclass(frozen=True)
class ScreenTable:
    """Rows as a table; where it is too wide, each row takes several lines, and nothing is cut.

    Columns side by side; or the first one on a line of its own, above the others; or a line for
    each cell, with its title.

    Attributes:
        rows: At least one; the columns are the keys of the first. Cells are shown as they are:
            what looks like markup in them, as in "[/mask]", is text.
    """

    rows: Sequence[Mapping[str, object]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in ["", *self.lines(options.max_width), ""]:
            yield console.render_str(line, markup=False, emoji=False, highlight=False)

    def lines(self, width: int) -> list[str]:
        """Lay out the table.

        Args:
            width: Columns of the terminal.
        """
        titles = [shown(str(title)) for title in self.rows[0]]
        rows = [[shown(str(cell)) for cell in row.values()] for row in self.rows]
        layouts = [_side_by_side(titles, rows, gap) for gap in _GAPS]
        layouts += [_stacked(titles, rows, gap) for gap in _GAPS] if len(titles) > 2 else []
        fitting = (lines for lines in layouts if max(map(cell_len, lines)) <= width)
        return next(fitting, None) or _one_below_another(titles, rows, width)


def _side_by_side(titles: Sequence[str], rows: Sequence[Sequence[str]], gap: int) -> list[str]:
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [_joined(cells, widths, gap) for cells in (titles, *rows)]
    return [lines[0], _rule(lines), *lines[1:]]


def _stacked(titles: Sequence[str], rows: Sequence[Sequence[str]], gap: int) -> list[str]:
    """The first cell of each row above the others."""
    widths = [max(map(cell_len, column)) for column in zip(titles, *rows, strict=True)][1:]
    blocks = [
        [f"  {first}", " " * (_INDENT - 2) + _joined(others, widths, gap)]
        for first, *others in (titles, *rows)
    ]
    lines = [line for block in blocks for line in block]
    return [*lines[:2], _rule(lines), *lines[2:]]


def _one_below_another(
    titles: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[str]:
    """A line for each cell, behind its title; where even that is too wide, several."""
    title = max(map(cell_len, titles[1:]), default=0)
    lines = [f"  {titles[0]}", _rule([f"  {titles[0]}"])]
    for first, *others in rows:
        lines.append(f"  {first}")
        for name, cell in zip(titles[1:], others, strict=True):
            lines += _hanging(f"{' ' * _INDENT}{_padded(name, title)}  ", cell, width)
    return lines


def _hanging(start: str, cell: str, width: int) -> list[str]:
    """A cell behind its title, wrapped at words below itself; a longer word by the terminal."""
    if cell_len(start + cell) <= width:
        return [start + cell]
    room = max(1, width - cell_len(start))
    first, *others = textwrap.wrap(cell, room, break_long_words=False, break_on_hyphens=False)
    return [start + first, *(" " * cell_len(start) + line for line in others)]


def _joined(cells: Sequence[str], widths: Sequence[int], gap: int) -> str:
    padded = map(_padded, cells, widths)
    return f"  {(' ' * gap).join(padded)}".rstrip()


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def _rule(lines: Sequence[str]) -> str:
    return " " + "─" * (max(map(cell_len, lines)) - 1)
