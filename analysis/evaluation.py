"""The evaluation of chosen configurations on the held-out test splits of their seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from analysis.comparison import Comparison, against_chance, between
from ssense.data.dataset import Pairs
from ssense.data.splits import seeded_split
from ssense.errors import UserError
from ssense.model.encoder import SpectrogramEncoder, trained_encoder
from ssense.retrieval import METRICS, chance_metrics
from ssense.training import evaluate
from sweeps.engine.cell import Configuration, label
from sweeps.engine.ledger import Ledger, Record
from sweeps.engine.provenance import check_versions, code_digest
from sweeps.engine.race import POLICIES
from sweeps.engine.search import Search

PRIMARY = "recall@10"
"""The metric that tests and controls are about."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of the chosen configurations on their seeds' test splits.

    Attributes:
        chosen: the best configuration of each family.
        seeds: at which it was evaluated.
        scores: by family and metric, `[seeds]`, as fractions.
        n_train, n_test: sentences of the training and test splits.
    """

    chosen: Mapping[str, Configuration]
    seeds: tuple[int, ...]
    scores: Mapping[str, Mapping[str, np.ndarray]]
    n_train: int
    n_test: int

    @property
    def chance(self) -> dict[str, float]:
        """What a random ranking of the test sentences reaches."""
        return chance_metrics(self.n_test)

    def comparisons(self, metric: str) -> list[Comparison]:
        """Compare each family with chance, and families in pairs; Holm within each kind."""
        scores = {family: by_metric[metric] for family, by_metric in self.scores.items()}
        sizes = self.n_train, self.n_test
        return against_chance(scores, self.chance[metric], *sizes) + between(scores, *sizes)


def take_up(ledger: Ledger) -> Search:
    """The search of a sweep as its ledger has it.

    Raises:
        UserError: there is a single seed, or cells of several versions of the code.
    """
    sweep = ledger.sweep()
    if len(sweep.seeds) < 2:
        raise UserError(
            f"{sweep.name} has the single seed {sweep.seeds[0]}: nothing can be tested. "
            "Run the sweep again with more --seeds."
        )
    records = check_versions(ledger.records(), code_digest(), ledger.kept_versions())
    return Search(sweep, POLICIES[ledger.policy()], ledger.rows(), records)


def require_all(search: Search) -> None:
    """Refuse a sweep with cells still to run.

    Raises:
        UserError: with their list.
    """
    missing = missing_cells(search)
    if missing:
        shown = "; ".join(missing[:5]) + ("; ..." if len(missing) > 5 else "")
        raise UserError(
            f"{search.sweep.name} lacks {len(missing)} of its {search.sweep.n_cells} cells: "
            f"{shown}. Run the sweep again to train them, or go without with --allow-missing."
        )


def missing_cells(search: Search) -> list[str]:
    """Name the cells without a result that the sweep's policy wants."""
    return [
        f"{label(row.family, row.configuration)} seed {cell.seed}"
        + (" (failed)" if search.record(cell) else "")
        for row, cell in search.missing()
    ]


def best_configurations(search: Search) -> dict[str, Configuration]:
    """Choose each family's configuration by its mean validation metric, of those with every seed.

    Raises:
        UserError: a family has none.
    """
    best = search.best()
    for family in search.sweep.families:
        if family.name not in best:
            why = [r.reason for row, r in search.failed() if row.family == family.name]
            reason = f"; one failed: {why[0]}" if why else ""
            raise UserError(
                f"{search.sweep.name}: no configuration of {family.name} has every seed{reason}. "
                "Run the sweep again, or give it other values to try."
            )
    return {family.name: best[family.name].configuration for family in search.sweep.families}


def evaluate_chosen(
    search: Search, chosen: Mapping[str, Configuration], ledger: Ledger, pairs: Pairs
) -> Evaluation:
    """Evaluate a configuration of every family on the test splits of the search's seeds.

    Args:
        search: which has their cells.
        chosen: by family.
        ledger: which has their encoders.
        pairs: of the whole dataset.

    Raises:
        UserError: an encoder can't be read.
    """
    scores: dict[str, dict[str, np.ndarray]] = {}
    for family, configuration in chosen.items():
        metrics = [
            held_out_metrics(ledger, record, pairs, search.sweep.training.batch_size)
            for record in search.done(configuration)
        ]
        scores[family] = {name: np.array([m[name] for m in metrics]) for name in METRICS}
    split = seeded_split(len(pairs), search.sweep.seeds[0])
    return Evaluation(
        chosen=chosen,
        seeds=search.sweep.seeds,
        scores=scores,
        n_train=len(split.train),
        n_test=len(split.test),
    )


def held_out_metrics(
    ledger: Ledger, record: Record, pairs: Pairs, batch_size: int
) -> dict[str, float]:
    """Metrics of one cell's encoder on its seed's test split.

    Raises:
        UserError: the encoder is missing, damaged, or another model's.
    """
    encoder = cell_encoder(ledger, record, pairs.text.device)
    test = pairs.select(seeded_split(len(pairs), record.seed).test)
    try:
        return evaluate(encoder, test, batch_size)
    except ValueError as error:
        name = record.signature
        raise UserError(
            f"the encoder of cell {name} is damaged: {error}. {_advice(ledger, record)}"
        ) from error


def cell_encoder(ledger: Ledger, record: Record, device: torch.device) -> SpectrogramEncoder:
    """The encoder that a cell's training ended with, on a device.

    Raises:
        UserError: it is missing, damaged, or another model's.
    """
    try:
        return trained_encoder(ledger.encoder(record)).to(device)
    except RuntimeError as error:
        raise UserError(
            f"the encoder of cell {record.signature} is another model's. {_advice(ledger, record)}"
        ) from error


def _advice(ledger: Ledger, record: Record) -> str:
    return f"Delete {ledger.cell_folder(record.signature)} and run the sweep again."
