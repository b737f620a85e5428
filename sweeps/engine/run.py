"""One call from a sweep's definition to its filled ledger: plan, train what is missing, show."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from statistics import fmean, stdev
from typing import Any, TypeVar

import optuna
from rich import box
from rich.prompt import Confirm
from rich.table import Table

from ssense.command import python
from ssense.data.splits import resampled_sizes
from ssense.model.encoder import build_encoder
from ssense.model.text import cached_embeddings
from ssense.retrieval import chance_metrics, metric_title
from ssense.storage import open_storage
from sweeps.engine.cell import describe, label
from sweeps.engine.driver import sole_driver
from sweeps.engine.ledger import SWEEPS, Ledger, Record
from sweeps.engine.options import SweepOptions
from sweeps.engine.plan import other_sweeps, plan_cells, show_sweep
from sweeps.engine.precompute import DatasetPlan, load_dataset, make_shards
from sweeps.engine.probe import probe_seconds
from sweeps.engine.process import gpus_here, slots_here
from sweeps.engine.progress import CellProgress, console, count, say, step
from sweeps.engine.provenance import check_versions, code_digest
from sweeps.engine.race import POLICIES
from sweeps.engine.reproduce import reproduce_cell
from sweeps.engine.search import Change, Search
from sweeps.engine.sweep import Sweep
from sweeps.engine.tracking import Tracker

Options = TypeVar("Options", bound=SweepOptions)


def run(define: Callable[[DatasetPlan, Options], Sweep], options: Options) -> None:
    """Do what the command line of a sweep asks for: run it, or rerun one of its cells.

    Args:
        define: makes the sweep of a dataset.
        options: of the command line.

    Raises:
        UserError: the recording, the weights or the storage fail.
        SystemExit: cells are still without a result, or a cell was not reproduced; the exit code
            is 1.
    """
    if options.cell is not None:
        storage = open_storage(options.storage, must_exist=True)
        if not reproduce_cell(storage, options.cell, options.cpus_per_cell).exact:
            raise SystemExit(1)
        return
    data = options.plan_dataset()
    if run_sweep(define(data, options), data, options):
        if os.environ.get("RAY_ADDRESS"):
            say("Next: analysis/test_evaluation.py, submitted as this was")
        else:
            say(f"Next: {python()} analysis/test_evaluation.py --storage {options.storage}")


def run_sweep(sweep: Sweep, data: DatasetPlan, options: SweepOptions) -> bool:
    """Show the plan, train every cell that the ledger lacks, and show the result.

    Returns:
        Whether the ledger is full: not after a dry run or a spent budget, nor where the user did
        not want to start.

    Raises:
        UserError: the recording, the weights or the storage fail, or another driver works on it.
        SystemExit: without a budget, cells are still without a result; the exit code is 1.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data.check_splits(sweep.training.split, sweep.seeds)
    ledger = Ledger(data.storage / SWEEPS / sweep.name)
    if options.dry_run:
        kept = _kept_versions(ledger, options)
        _show_plan(_take_up(sweep, ledger, options, kept), data, options)
        say("Dry run: nothing trained. Leave out --dry-run to start.")
        return False
    with sole_driver(ledger.folder):
        kept = _kept_versions(ledger, options)
        search = _take_up(sweep, ledger, options, kept)
        save = partial(_save, search, ledger, data, options.policy, kept)
        to_run = _show_plan(search, data, options)
        if search.missing() and not _confirmed(options):
            say("Nothing started.")
            return False
        if search.missing():
            tracker = _train(search, ledger, data, options, to_run, save)
        else:
            tracker = _bring_up_to_date(search, ledger, data, save)
        split = data.split(sweep.training.split, sweep.seeds[0])
        _show_result(search, n_validation=len(split.validation))
        with step("MLflow view"):
            tracker.end(search)
    return _is_full(search, ledger, options)


def _take_up(
    sweep: Sweep, ledger: Ledger, options: SweepOptions, kept_versions: Sequence[str]
) -> Search:
    """The search as the ledger left it, of cells that may stand together."""
    records = check_versions(
        ledger.records(), code_digest(), kept_versions, options.retrain_version
    )
    return Search(sweep, POLICIES[options.policy], ledger.rows(), records)


def _kept_versions(ledger: Ledger, options: SweepOptions) -> list[str]:
    kept = {*ledger.kept_versions()} - {*options.retrain_version}
    return sorted(kept | {*options.keep_version})


def _show_plan(search: Search, data: DatasetPlan, options: SweepOptions) -> int:
    """Say what will run; return how many cells at most."""
    sweep = search.sweep
    show_sweep(sweep)
    if not search.records:
        for line in other_sweeps(data.storage, sweep):
            say(line)
    split = data.split(sweep.training.split, sweep.seeds[0])
    plan = plan_cells(search, resampled_sizes(sweep.training.split, split))
    gpus = gpus_here(options.gpus_per_cell)
    on_cluster = bool(os.environ.get("RAY_ADDRESS"))
    if plan.to_run and plan.seconds_per_cell is None and not on_cluster:
        with step("Timing a few training steps"):
            seconds = probe_seconds(sweep.training, data.shape, options.cpus_per_cell, gpus)
            plan = replace(plan, seconds_per_cell=seconds, probed=True)
    slots = None if on_cluster else slots_here(options.cpus_per_cell, gpus)
    for line in plan.lines(slots, options.price_per_device_hour):
        say(line)
    return plan.to_run


def _train(
    search: Search,
    ledger: Ledger,
    data: DatasetPlan,
    options: SweepOptions,
    to_run: int,
    save: Callable[[], None],
) -> Tracker:
    # Ray takes seconds to import, and a sweep that is done needs none of it.
    from sweeps.engine.workers import Budget, Resources, running_ray, train_cells

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
        save()
        tracker = _show_in_mlflow(search, ledger, data)
        most = min(to_run, options.budget_cells or to_run)
        say(f"Training {'up to ' * (options.policy != 'full')}{most} cells, {slots} at a time")
        progress = CellProgress(to_run, slots, search.sweep.metric, search.matrix)

        def keep(record: Record, change: Change) -> None:
            row = search.row_of(record)
            progress.cell(row.family, record)
            if any(change):
                for out, decision in change.decisions:
                    family = search.sweep.family(out.family)
                    progress.decision(family.name, search.configurations(family), decision)
                if change.decisions:  # a new row was expected already
                    progress.left(search.left())
                save()
            tracker.cell(search, record)

        budget = Budget(cells=options.budget_cells, hours=options.budget_hours)
        with progress:
            train_cells(search, dataset, ledger, resources, budget, keep)
    return tracker


def _bring_up_to_date(
    search: Search, ledger: Ledger, data: DatasetPlan, save: Callable[[], None]
) -> Tracker:
    """Renew what derives from a full ledger: spectrograms that were deleted, MLflow's view."""
    say("Nothing to train: every cell is in the ledger.")
    if not data.has_shards():  # the test evaluation reads them
        from sweeps.engine.workers import running_ray

        with running_ray():
            _make_spectrograms(data)
    save()
    return _show_in_mlflow(search, ledger, data)


def _save(
    search: Search, ledger: Ledger, data: DatasetPlan, policy: str, kept_versions: Sequence[str]
) -> None:
    ledger.write_sweep(
        search.sweep,
        [*search.rows, *search.surplus],
        _dataset_origin(data),
        policy,
        search.decisions(),
        code_digest(),
        kept_versions,
    )


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


def _show_in_mlflow(search: Search, ledger: Ledger, data: DatasetPlan) -> Tracker:
    tracker = Tracker(data.storage, search.sweep.claim, search.sweep.name)
    tracker.start(search, ledger.description())
    return tracker


def _dataset_origin(data: DatasetPlan) -> dict[str, Any]:
    spec = data.text_spec
    return {
        "digest": data.digest,
        "shards": data.shard_folder.name,
        # Where it was: for controls that need its signals. The shards say which it was.
        "recording": str(data.source or data.recording.root),
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


def _is_full(search: Search, ledger: Ledger, options: SweepOptions) -> bool:
    missing = Counter(row.family for row, _ in search.missing())
    failed = search.failed()
    for row, record in failed:
        name = label(row.family, record.configuration)
        times = f" {record.attempts} times, not tried again" if record.given_up else ""
        say(f"Failed{times}: {name} seed {record.seed}: {record.reason}")
    if any(record.given_up for _, record in failed):
        say(f"To try them again, delete their folders in {ledger.folder / 'cells'}.")
    again = [record for _, record in failed if not record.given_up]
    if missing:
        listed = ", ".join(f"{family} {n}" for family, n in missing.items())
        say(f"{missing.total()} cells are missing ({listed}); others may follow from them.")
    if missing or again:
        say("Run the same command again to go on.")
        if again or (options.budget_cells is None and options.budget_hours is None):
            raise SystemExit(1)
        return False  # as much as was asked for
    return True


def _show_result(search: Search, n_validation: int) -> None:
    metric = search.sweep.metric
    chance = chance_metrics(n_validation)[metric]
    best, dropped = list(search.best().values()), search.dropped()
    table = Table("family", "configuration", "seeds", _title(metric), box=box.SIMPLE_HEAD)
    names = [family.name for family in search.sweep.families]
    for row in sorted(search.rows, key=lambda row: names.index(row.family)):
        scores = [100 * record.best[metric] for record in search.done(row.configuration)]
        spread = f" ± {stdev(scores):.1f}" if len(scores) > 1 else ""
        shown = f"{fmean(scores):.1f}{spread}" if scores else "–"
        seeds = f"{len(scores)} of {len(search.sweep.seeds)}"
        mark = " *" if row in best else " out" if row in dropped else ""
        table.add_row(row.family, describe(row.configuration), seeds, shown + mark)
    console.print(table)
    say(f"* best of its family. Chance among {n_validation} candidates: {100 * chance:.1f} %.")
    if dropped:
        spared = search.matrix().counts()["dropped"]
        say(f"out: clearly behind after these seeds; {spared} cells spared.")


def _title(metric: str) -> str:
    return f"validation {metric_title(metric)}, %"
