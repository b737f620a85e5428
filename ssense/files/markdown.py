"""Tables in Markdown, for reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ssense.errors import visible


def markdown_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows as a Markdown table; the columns are the first row's keys.

    Args:
        rows: At least one. A cell that a row lacks is empty; a bar or a line break in a cell ends
            neither it nor its row.
    """
    # Not DataFrame.to_markdown: it takes another package, and leaves bars and breaks to end cells.
    columns = list(rows[0])
    lines = [_line(columns), _line(["---"] * len(columns))]
    lines += [_line(row.get(column, "") for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[object]) -> str:
    escaped = (visible(cell).replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
