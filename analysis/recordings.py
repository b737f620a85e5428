"""Several recordings or subjects: the recording is the unit, its seeds are averaged first.

    python analysis/recordings.py --storage DIR --sweeps SWEEP SWEEP SWEEP

Seeds of one recording say nothing of another (Demsar 2006, with recordings for data sets). The
sweeps must have been evaluated, each by `python analysis/test_evaluation.py --sweep SWEEP`; no test
split is looked at again.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not __package__:
    # Run as a file, its folder comes first, and analysis/statistics.py hides the standard library's
    sys.path.pop(0)

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from upath import UPath

from analysis import report
from analysis.comparison import (
    Comparison,
    Scores,
    against_chance,
    between,
    comparison_values,
)
from analysis.evaluation import PRIMARY
from analysis.statistics import interquartile_mean
from ssense.command import run_command
from ssense.errors import UserError
from ssense.retrieval import metric_title
from ssense.storage import open_storage, write_whole
from sweeps.engine.ledger import Ledger, find_ledger
from sweeps.engine.progress import console, say

LEGEND = (
    "The unit is the recording: its seeds are averaged, and the t-test is over recordings, which "
    "are independent. Holm: for this number of comparisons. Wilcoxon's p can't be smaller than in "
    "brackets. Interquartile mean: of the middle half of all runs, with a bootstrap over the seeds "
    "of these recordings."
)
FEWEST = 2

ByRecording = Mapping[str, Scores]
"""By recording and then configuration: `[J]`, one score per seed."""


def means_by_configuration(scores: ByRecording) -> dict[str, np.ndarray]:
    """Average the seeds of each recording; by configuration, `[recordings]`.

    Raises:
        UserError: there is a single recording, or one lacks a configuration of the others.
    """
    if len(scores) < FEWEST:
        raise UserError(f"only {', '.join(scores)}: claims about others take more recordings.")
    wanted = list(next(iter(scores.values())))
    for recording, found in scores.items():
        odd = set(wanted) ^ set(found)
        if odd:
            raise UserError(
                f"{recording} and {next(iter(scores))} don't have the same configurations: "
                f"{', '.join(sorted(odd))} is in one of them only. Comparisons are paired."
            )
    return {name: np.array([found[name].mean() for found in scores.values()]) for name in wanted}


def compare_recordings(
    scores: ByRecording, chance: Mapping[str, float] | None, baseline: str | None = None
) -> list[Comparison]:
    """Compare configurations over recordings, and with chance where it is known.

    Args:
        scores: by recording and configuration.
        chance: by recording.
        baseline: a configuration to compare all others with; every pair without one.

    Raises:
        UserError: as `means_by_configuration`.
    """
    means = means_by_configuration(scores)
    # Recordings share neither training nor test items: nothing is to be corrected.
    pairs = between(means, n_train=1, n_test=0, baseline=baseline)
    if chance is None:
        return pairs
    levels = np.array([chance[recording] for recording in scores])
    above = {name: values - levels for name, values in means.items()}
    return against_chance(above, 0.0, n_train=1, n_test=0) + pairs


def mean_rows(scores: ByRecording, shown: Callable[..., str]) -> list[dict[str, str]]:
    """Lay out each configuration's mean by recording, over recordings, and of the middle half."""
    rows = []
    for name, means in means_by_configuration(scores).items():
        by_recording = {
            recording: shown(found[name].mean(), found[name].std(ddof=1))
            for recording, found in scores.items()
        }
        rows.append(
            {
                "configuration": name,
                **by_recording,
                "over recordings": shown(means.mean(), means.std(ddof=1)),
                "interquartile mean": _middle(scores, name, shown),
            }
        )
    return rows


def difference_rows(
    comparisons: Sequence[Comparison], shown: Callable[[float], str]
) -> list[dict[str, str]]:
    """Lay the tests over recordings out for people."""
    return [
        {
            "comparison": c.name,
            "difference": shown(c.corrected.mean),
            "95 % interval": f"{shown(c.corrected.low)} to {shown(c.corrected.high)}",
            "p": report.p_value(c.corrected.pvalue),
            "p, Holm": report.p_value(c.p_holm),
            "d": f"{c.effect_size:.2f}",
            "P(A > B)": f"{c.wins.value:.2f}",
            "Wilcoxon p": f"{report.p_value(c.ranks.pvalue)} ({c.ranks.smallest:.3g})",
        }
        for c in comparisons
    ]


def show_recordings(
    scores: ByRecording,
    chance: Mapping[str, float] | None,
    shown: Callable[..., str],
    baseline: str | None = None,
) -> tuple[list[dict[str, str]], list[dict[str, str]], list[Comparison]]:
    """Print means and tests over recordings; return the rows of both and the tests.

    Raises:
        UserError: as `means_by_configuration`.
    """
    comparisons = compare_recordings(scores, chance, baseline)
    means, differences = mean_rows(scores, shown), difference_rows(comparisons, shown)
    for rows in (means, differences):
        console.print(report.screen_table(rows))
    say(LEGEND)
    return means, differences, comparisons


def _middle(scores: ByRecording, name: str, shown: Callable[[float], str]) -> str:
    table = [found[name] for found in scores.values()]
    fewest = min(map(len, table))
    found = interquartile_mean([row[:fewest] for row in table])
    return f"{shown(found.value)} ({shown(found.low)} to {shown(found.high)})"


# ---------------------------------------------------------------- sweeps that were evaluated


@dataclass(frozen=True, kw_only=True)
class RecordingsOptions:
    """Flags; each is also an environment variable, --storage as SSENSE_STORAGE."""

    storage: str = "storage"
    """Where the sweeps were kept."""
    sweeps: tuple[str, ...] = ()
    """Names of sweeps, one per recording."""


def read_evaluation(ledger: Ledger, metric: str) -> tuple[str, dict[str, np.ndarray], float]:
    """Read the scores of a sweep's last test evaluation, at fresh seeds if there were any.

    Returns:
        Name of the recording; scores by family, `[J]`; and chance.

    Raises:
        UserError: the sweep was not evaluated.
    """
    folder = ledger.folder / "evaluation"
    if not (folder / "scores.csv").exists():
        raise UserError(
            f"{ledger.folder.name} was not evaluated. Run python analysis/test_evaluation.py "
            f"--sweep {ledger.folder.name} first."
        )
    rows = _read_csv(folder / "scores.csv")
    protocol = (
        "fresh seeds" if any(r["protocol"] == "fresh seeds" for r in rows) else "search seeds"
    )
    rows = [row for row in rows if row["protocol"] == protocol]
    families = dict.fromkeys(row["family"] for row in rows)
    scores = {
        family: np.array([float(row[metric]) for row in rows if row["family"] == family])
        for family in families
    }
    (chance, *_) = (float(row[f"{metric}_chance"]) for row in _read_csv(folder / "table.csv"))
    dataset = ledger.description()["dataset"]
    return f"{dataset['subject']}, {dataset['title']}", scores, chance


def _read_csv(path: UPath) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def main(options: RecordingsOptions) -> None:
    """Compare families over recordings, which are the unit."""
    storage = open_storage(options.storage, must_exist=True)
    found = [
        read_evaluation(find_ledger(storage, name), PRIMARY)
        for name in dict.fromkeys(options.sweeps)
    ]
    scores = {recording: by_family for recording, by_family, _ in found}
    if len(scores) < max(len(found), FEWEST):
        raise UserError(
            f"--sweeps names {len(found)} sweeps of {len(scores)} recordings. Give one of each of "
            "at least two recordings."
        )
    chance = {recording: level for recording, _, level in found}
    shown = partial(report.score, PRIMARY)
    means, differences, comparisons = show_recordings(scores, chance, shown)
    folder = storage / "recordings_compared"
    title = f"# {metric_title(PRIMARY)} over {len(scores)} recordings"
    parts = [title, LEGEND, *map(report.markdown_table, (means, differences))]
    write_whole(folder / "recordings.md", "\n\n".join(parts))
    write_whole(
        folder / "recordings.csv", report.csv_table(comparison_values(comparisons, PRIMARY))
    )
    say(f"Tables: {folder}")


if __name__ == "__main__":
    run_command(RecordingsOptions, main)
