"""Tables of any analysis on screen and as LaTeX, and how numbers are shown in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ssense.cli.screen_table import ScreenTable
from ssense.errors import visible
from ssense.retrieval import metric_title

Rows = Sequence[Mapping[str, object]]


def score(metric: str, mean: float, sd: float | None = None) -> str:
    """Show a score as SSENSE does: recalls in percent, "10.68 ± 1.40", MRR as "0.0498 ± 0.0049"."""
    scale, digits = (1, 4) if metric == "mrr" else (100, 2)
    shown = f"{scale * mean:z.{digits}f}"
    return shown if sd is None else f"{shown} ± {scale * sd:.{digits}f}"


def mean_scores(scores: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Show mean and sd over seeds of every metric, by its title."""
    return {
        metric_title(metric): score(metric, values.mean(), values.std(ddof=1))
        for metric, values in scores.items()
    }


def plain(mean: float, sd: float | None = None) -> str:
    """Show a score of any unit: "0.1068 ± 0.014"."""
    return f"{mean:z.4g}" if sd is None else f"{mean:z.4g} ± {sd:.2g}"


def p_value(p: float) -> str:
    """Show a p-value as papers do."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def screen_table(rows: Rows) -> ScreenTable:
    """Lay rows out for the terminal, a cell on one line; the columns are the first row's keys."""
    return ScreenTable([{visible(k): visible(cell) for k, cell in row.items()} for row in rows])


def latex_table(rows: Rows, caption: str) -> str:
    """Write rows as a LaTeX table for the package booktabs; the first column is left-aligned."""
    # Not pandas: its escapes leave ± < > | and a row's first bracket to be done, and its caption
    # stands above.
    head = list(rows[0])
    lines = [" & ".join(_latex(row.get(name, "")) for name in head) + r" \\" for row in rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            " & ".join(map(_latex, head)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_latex(caption)}}}",
            r"\end{table}",
            "",
        ]
    )


_LATEX = {"±": r"$\pm$", "–": "--", "<": "$<$", ">": "$>$", "~": r"\textasciitilde{}"}
_LATEX |= {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def _latex(cell: object) -> str:
    """Escape a cell.

    At the start of a row, "[" and "*" would be read as arguments of the command that ends the row
    above.
    """
    text = visible(cell)
    guard = "{}" if text.lstrip().startswith(("[", "*")) else ""
    return guard + "".join(_LATEX.get(character, character) for character in text)
