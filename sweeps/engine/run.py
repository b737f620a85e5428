"""One call from a sweep's definition to its filled ledger: plan, train what is missing, show."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any

import optuna
from rich import box
from rich.prompt import Confirm
from rich.table import Table

from ssense.data.splits import seeded_split
from ssense.model.encoder import build_encoder
from ssense.model.text import cached_embeddings
from ssense.retrieval import chance_metrics, metric_title
from sweeps.engine.cell import describe
from sweeps.engine.ledger import SWEEPS, Ledger, Record
from sweeps.engine.options import SweepOptions
from sweeps.engine.plan import plan_cells, show_sweep
from sweeps.engine.precompute import DatasetPlan, load_dataset, make_shards
from sweeps.engine.progress import CellProgress, console, count, say, step
from sweeps.engine.search import Search
from sweeps.engine.sweep import Row, Sweep
from sweeps.engine.tracking import Tracker


def run_sweep(sweep: Sweep, data: DatasetPlan, options: SweepOptions) -> bool:
    """Show the plan, train every cell that the ledger lacks, and show the result.

    Returns:
        Whether it ran: not after a dry run, nor where the user did not want to start.

    Raises:
        UserError: the recording, the weights or the storage fail.
        SystemExit: cells are still without a result; the exit code is 1.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ledger = Ledger(data.storage / SWEEPS / sweep.name)
    search = Search(sweep, ledger.rows(), ledger.records())
    plan = plan_cells(search)
    show_sweep(sweep)
    for line in plan.lines(slots=(os.cpu_count() or 1) // options.cpus_per_cell):
        say(line)
    if options.dry_run:
        say("Dry run: nothing trained. Leave out --dry-run to start.")
        return False
    if plan.to_run and not _confirmed(options):
        say("Nothing started.")
        return False
    search.on_row = lambda: ledger.write_sweep(sweep, search.rows, _dataset_origin(data))
    if plan.to_run:
        _train(search, ledger, data, options, plan.to_run)
    else:
        say("Nothing to train: every cell is in the ledger.")
        if not data.has_shards():
            _remake_spectrograms(data)
        search.on_row()
        with step("MLflow view"):
            _open_view(search, data).end()
    _show_result(search, n_validation=len(seeded_split(data.shape[0], seed=0).validation))
    return True


def _train(
    search: Search, ledger: Ledger, data: DatasetPlan, options: SweepOptions, to_run: int
) -> None:
    # Ray takes seconds to import, and a sweep that is done needs none of it.
    from sweeps.engine.workers import Resources, running_ray, train_cells

    # Weights first: they may be missing, and by then nothing has been started or written.
    build_encoder(search.sweep.training.encoder_weights, search.sweep.training.conv1)
    with step(f"Text embeddings: {data.text_spec.model}, {data.text_spec.weights} weights"):
        cached_embeddings(data.segments.text, data.text_spec, data.storage / "text")
    with ExitStack() as stack:
        with step("Starting Ray"):
            stack.enter_context(running_ray())
        resources = Resources.of_cell(options.cpus_per_cell, options.gpus_per_cell)
        slots = resources.slots()
        _make_spectrograms(data)
        dataset = load_dataset(data.shard_folder.name, data.text_spec, data.storage)
        with step("MLflow view"):
            tracker = _open_view(search, data)
        search.on_row()
        say(f"Training {to_run} cells, {slots} at a time")
        with CellProgress(to_run, slots, search.sweep.metric) as progress:

            def keep(record: Record) -> None:
                row = search.row_of(record)
                progress.cell(row.family, record)
                tracker.cell(search, row, record)

            train_cells(search, dataset, ledger, resources, keep)
        tracker.end()


def _remake_spectrograms(data: DatasetPlan) -> None:
    """Compute shards that were deleted after the training; the test evaluation reads them."""
    from sweeps.engine.workers import running_ray

    with running_ray():
        _make_spectrograms(data)


def _make_spectrograms(data: DatasetPlan) -> None:
    sentences, electrodes, frequencies, frames = data.shape
    size = f"{sentences} sentences x {electrodes} electrodes, {frequencies} x {frames}"
    if data.has_shards():
        say(f"Spectrograms: {size}, there already")
        return
    with step(f"Spectrograms: {size}"):
        work = make_shards(data, on_shard=count("shards"))
        if work.transform_s:
            say(f"  {work.transform_s / work.worker_s:.0%} of the workers' time in the transform")


def _open_view(search: Search, data: DatasetPlan) -> Tracker:
    sweep = search.sweep
    tracker = Tracker(data.storage, sweep.claim, sweep.name)
    origin = _dataset_origin(data)
    tags = {name: str(origin[name]) for name in ("digest", "subject", "title", "text")}
    params = {"metric": sweep.metric, "configurations": sweep.configurations}
    files = {"data_report.md": data.report.markdown()}
    tracker.start(search, tags, {**params, **asdict(sweep.training)}, files)
    return tracker


def _dataset_origin(data: DatasetPlan) -> dict[str, Any]:
    spec = data.text_spec
    return {
        "digest": data.digest,
        "shards": data.shard_folder.name,
        "subject": data.recording.subject,
        "title": data.recording.title,
        "text": f"{spec.model}, {spec.weights}",
        "text_spec": asdict(spec),
    }


def _confirmed(options: SweepOptions) -> bool:
    if options.yes or not (console.is_terminal and sys.stdin.isatty()):
        return True
    try:
        return Confirm.ask("Start?", console=console, default=True)
    except EOFError:
        return False


def _show_result(search: Search, n_validation: int) -> None:
    metric = search.sweep.metric
    chance = chance_metrics(n_validation)[metric]
    best = _best_rows(search)
    table = Table("family", "configuration", "seeds", _title(metric), box=box.SIMPLE_HEAD)
    names = [family.name for family in search.sweep.families]
    for row in sorted(search.rows, key=lambda row: names.index(row.family)):
        scores = [100 * record.best[metric] for record in search.done(row.configuration)]
        spread = f" ± {stdev(scores):.1f}" if len(scores) > 1 else ""
        shown = f"{fmean(scores):.1f}{spread}" if scores else "–"
        seeds = f"{len(scores)} of {len(search.sweep.seeds)}"
        mark = " *" if row in best else ""
        table.add_row(row.family, describe(row.configuration), seeds, shown + mark)
    console.print(table)
    say(f"* best of its family. Chance among {n_validation} candidates: {100 * chance:.1f} %.")
    missing = plan_cells(search).to_run
    if missing:
        say(f"{missing} cells have no result. Run the same command again to train them.")
        raise SystemExit(1)


def _title(metric: str) -> str:
    return f"validation {metric_title(metric)}, %"


def _best_rows(search: Search) -> list[Row]:
    best: dict[str, tuple[float, Row]] = {}
    for row in search.rows:
        score = search.score(row.configuration)
        if score is not None and score > best.get(row.family, (-1.0, row))[0]:
            best[row.family] = score, row
    return [row for _, row in best.values()]
