"""One call from a sweep's definition to its filled ledger: plan, train what is missing, show."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from statistics import fmean, stdev
from typing import Any, Literal, TypeVar

import optuna
from rich.prompt import Confirm

from ssense.choices import PolicyName
from ssense.cli.screen import console, say, step
from ssense.cli.screen_table import ScreenTable
from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import describe, label
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Row, Sweep
from ssense.engine.encoders import delete_unwanted
from ssense.engine.plan import other_sweeps, plan_cells, show_sweep
from ssense.engine.records.description import Description
from ssense.engine.records.driver import Claim, sole_driver
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.records.provenance import check_versions, code_versions
from ssense.engine.reproduce import reproduce_cell
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Change, Search
from ssense.engine.tasks.data_plan import DataPlan, check_shares
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.engine.view.cell_table import CELLS_FILE, cells_csv
from ssense.engine.view.progress import CellProgress
from ssense.engine.view.tracking import Tracker
from ssense.engine.work.probe import probe_seconds
from ssense.errors import counted, printable
from ssense.files.source_code import code_digest
from ssense.files.storage import open_storage, write_whole
from ssense.retrieval import chance_metrics, metric_title
from ssense.training.loop import SELECTION_METRIC
from ssense.training.process import gpus_here, slots_here, slow_precision, usable_memory

Options = TypeVar("Options", bound=EngineOptions)

_INTERRUPTED_S = 5.0
"""Longest wait for MLflow after an interrupt, seconds."""

_SHARED = "0.3"
"""Part of a machine's memory that Ray lets cells share at most; it says how much once it runs."""

Outcome = Literal["full", "stopped", "incomplete"]
"""How a call leaves a sweep: every cell has a result or is given up; as much was done as was asked
for; or cells are without a result."""


def run(define: Callable[[Any, Options], Sweep], options: Options) -> list[str]:
    """Do what the command line of a sweep asks for: run it, or rerun one of its cells.

    Args:
        define: Function that makes the sweep of a dataset, of a plan that the options make.
        options: Options of the command line.

    Returns:
        Names of the sweeps, once each of them is full; else none.

    Raises:
        UserError: The recording, the weights or the storage fail.
        SystemExit: Cells are still without a result, or a cell was not reproduced; the exit code is
            1.
    """
    if options.cell is not None:
        storage = open_storage(options.storage, must_exist=True)
        if not reproduce_cell(storage, options.cell, options.cpus_per_cell).exact:
            raise SystemExit(1)
        return []
    budget = Budget(cells=options.budget_cells, hours=options.budget_hours)
    outcomes: dict[str, Outcome] = {}
    are_all = True
    for data in options.datasets():
        if budget.started and not budget.allows_another():
            are_all = False
            break
        sweep = define(data, options)
        outcomes[sweep.name] = run_sweep(sweep, data, options, budget)
        if budget.started:
            options = replace(options, yes=True)  # was asked
    if "incomplete" in outcomes.values():
        raise SystemExit(1)
    return [*outcomes] if are_all and {*outcomes.values()} <= {"full"} else []


def run_sweep(sweep: Sweep, data: DataPlan, options: EngineOptions, budget: Budget) -> Outcome:
    """Show the plan, train every cell that the ledger lacks, and show the result.

    Args:
        sweep: Sweep to run.
        data: Data of the sweep.
        options: Options of the command line.
        budget: Budget, which other sweeps of the call may have spent a part of.

    Returns:
        How it is left: "stopped" after a dry run or a spent budget, and where the user did not
        want to start.

    Raises:
        UserError: The recording, the weights or the storage fail, or another driver works on it.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    data = data.covering(sweep.specification, sweep.families)
    data.check_splits(sweep.specification.split, sweep.seeds)
    check_shares(sweep, data)
    ledger = Ledger(data.storage / SWEEPS / sweep.name)
    if options.dry_run:
        kept = _kept_versions(ledger, options)
        _show_plan(_take_up(sweep, ledger, options, kept), data, options)
        say("Dry run: nothing trained. Leave out --dry-run to start.")
        return "stopped"
    with sole_driver(ledger.folder) as claim:
        kept = _kept_versions(ledger, options)
        search = _take_up(sweep, ledger, options, kept)
        save = partial(_save, search, ledger, data, options.policy, kept)
        to_run = _show_plan(search, data, options)
        if search.missing() and not _confirmed(options):
            say("Nothing started.")
            return "stopped"
        if search.missing():
            try:
                tracker = _train(search, ledger, data, options, budget, to_run, save, claim)
            finally:  # also when it is interrupted
                ledger.copy_records()
            claim.check()  # before anything of the sweep is written
        else:
            tracker = _bring_up_to_date(search, ledger, data, save)
        if not options.keep_encoders:
            delete_unwanted(search, ledger)
        split = data.split(sweep.specification.split, sweep.seeds[0])
        _show_result(search, n_candidates=data.n_candidates(split))
        write_whole(ledger.folder / CELLS_FILE, cells_csv(search))
        with step("MLflow view"):
            tracker.end(search)
    return _say_what_is_left(search, ledger, options)


def _take_up(
    sweep: Sweep, ledger: Ledger, options: EngineOptions, kept_versions: Sequence[str]
) -> Search:
    """The search as the ledger left it, of cells that may stand together.

    Configurations are proposed as they were, so that it continues as it began.
    """
    finished = ledger.records()
    for line in versions_of_nothing(finished.values(), options):
        say(line)
    records = check_versions(finished, code_digest(), kept_versions, options.retrain_version)
    rows: tuple[Row, ...] = ()
    if ledger.exists():
        earlier = ledger.description()
        rows = earlier.rows
        sweep = replace(
            sweep,
            proposals_at_once=earlier.sweep.proposals_at_once,
            spread_proposals=earlier.sweep.spread_proposals,
            unordered_names=earlier.sweep.unordered_names,
        )
    return Search(sweep, POLICIES[options.policy], rows, records)


def versions_of_nothing(records: Iterable[Record], options: EngineOptions) -> list[str]:
    """Report named versions of the code that no cell is of: misspelt, or trained again."""
    found = [version.name for version in code_versions(records)]
    listed = ", ".join(found) or "none yet"
    return [
        f"{flag} {printable(name)}: no cell was trained by this version. Versions of the cells: "
        f"{listed}."
        for flag, names in (
            ("--keep-version", options.keep_version),
            ("--retrain-version", options.retrain_version),
        )
        for name in names
        if name not in found
    ]


def _kept_versions(ledger: Ledger, options: EngineOptions) -> list[str]:
    kept = ledger.description().kept_versions if ledger.exists() else ()
    return sorted({*kept} - {*options.retrain_version} | {*options.keep_version})


def _show_plan(search: Search, data: DataPlan, options: EngineOptions) -> int:
    """Say what will run; return how many cells at most."""
    sweep = search.sweep
    show_sweep(sweep)
    if not search.records:
        for line in other_sweeps(data.storage, sweep):
            say(line)
    gpus = gpus_here(options.gpus_per_cell)
    on_cluster = bool(os.environ.get("RAY_ADDRESS"))
    if search.left():
        _check_memory(sweep, data, on_cluster=on_cluster, on_gpu=gpus > 0)
    for line in data.lines(sweep.specification, sweep.families, sweep.seeds):
        say(line)
    split = data.split(sweep.specification.split, sweep.seeds[0])
    plan = plan_cells(search, split, runs_ahead=options.runs_ahead)
    if not on_cluster and (warning := slow_precision(sweep.specification.training.precision, gpus)):
        say(warning)
    if plan.to_run and plan.seconds_per_cell is None and not (on_cluster or options.yes):
        with step("Timing a few training steps"):
            seconds = probe_seconds(
                sweep.specification,
                (len(split.train), len(split.validation)),
                data.examples,
                options.cpus_per_cell,
                gpus,
            )
            plan = replace(plan, seconds_per_cell=seconds, probed=True)
    slots = None if on_cluster else slots_here(options.cpus_per_cell, gpus)
    for line in plan.lines(slots, options.price_per_device_hour):
        say(line)
    for line in plan.power.over_subjects(data.n_subjects):
        say(line)
    return plan.to_run


def _check_memory(sweep: Sweep, data: DataPlan, *, on_cluster: bool, on_gpu: bool) -> None:
    """Refuse what this machine's memory, or the storage, has no room for.

    Machines of a cluster are others, of which nothing is known before Ray runs.
    """
    if on_cluster:
        data.check_room(sweep.all_datasets(), None)
        return
    memory = usable_memory()
    part = float(os.environ.get("RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION", _SHARED))
    data.check_room(sweep.all_datasets(), int(part * memory), memory)
    data.check_cells(sweep.specification, sweep.families, memory, on_gpu=on_gpu)


def _train(
    search: Search,
    ledger: Ledger,
    data: DataPlan,
    options: EngineOptions,
    budget: Budget,
    to_run: int,
    save: Callable[[], None],
    claim: Claim,
) -> Tracker:
    # Ray takes seconds to import, and a sweep that is done needs none of it.
    from ssense.engine.work.shared_data import SharedData, shared_memory
    from ssense.engine.work.workers import Resources, running_ray, train_cells

    with ExitStack() as stack:
        with step("Starting Ray"):  # first, as its workers get ready meanwhile
            stack.enter_context(running_ray())
        resources = Resources.of_cell(options.cpus_per_cell, options.gpus_per_cell)
        resources.slots()  # before anything is made: a cell that does not fit is refused
        data.check_room(search.sweep.all_datasets(), shared_memory())
        data.warm(search.sweep.specification, search.sweep.families)
        shared = SharedData(data, use_gpus=resources.gpus > 0)
        shared.add(search.asked_datasets(budget.left()))
        save()
        tracker = _show_in_mlflow(search, ledger, data)
        most = to_run if (left := budget.left()) is None else min(to_run, left)
        up_to = "" if options.policy == "full" else "up to "
        now = " now" if os.environ.get("RAY_ADDRESS") else ""  # others may join
        cells = f"{up_to}{most} cell{'s' * (most != 1)}"
        say(f"Training {cells}, {resources.slots()} at a time{now}")
        progress = CellProgress(to_run, resources.slots, SELECTION_METRIC, search.matrix)

        def keep(record: Record, change: Change) -> None:
            row = search.rows_of(record.signature)[0]
            progress.cell(row.family, record, ahead=record not in change.counted)
            if change.rows or change.decisions:
                for out, decision in change.decisions:
                    family = search.sweep.family(out.family)
                    progress.decision(family.name, search.configurations(family), decision)
                if change.decisions:  # a new row was expected already
                    progress.left(search.left())
                save()
            for counted in change.counted:
                tracker.cell(search, counted)
                search.records[counted.signature] = counted.without_history()

        try:
            while search.asked_datasets() and budget.allows_another():
                shared.add(search.asked_datasets(budget.left()))
                with progress:
                    ahead = options.runs_ahead
                    train_cells(search, shared.refs, ledger, resources, budget, keep, ahead=ahead)
            _make_again(search, data)
        except BaseException:
            _leave_view(tracker, search, claim)
            raise
    return tracker


def _make_again(search: Search, data: DataPlan) -> None:
    """Make what was deleted of the data that cells with results were trained on.

    The test evaluation reads them, and whoever trains a cell once more.
    """
    trained = {record.dataset_digest for record in search.records.values() if record.done}
    wanted = trained & search.sweep.all_datasets()  # a ledger has cells of controls too
    if not data.is_made(wanted):
        from ssense.engine.work.workers import running_ray  # takes a second to import

        with running_ray():
            data.make(wanted)


def _leave_view(tracker: Tracker, search: Search, claim: Claim) -> None:
    """Close the run of an interrupted sweep in MLflow, unless another driver has it.

    What keeps MLflow from being written matters less than what interrupted the sweep.
    """
    if claim.lost_to is None:
        with suppress(Exception):
            tracker.end(search, most_s=_INTERRUPTED_S)


def _bring_up_to_date(
    search: Search, ledger: Ledger, data: DataPlan, save: Callable[[], None]
) -> Tracker:
    """Renew what a full ledger's evaluation needs: data that was deleted, MLflow's view."""
    say("Nothing to train: every cell is in the ledger.")
    _make_again(search, data)
    save()
    return _show_in_mlflow(search, ledger, data)


def _save(
    search: Search, ledger: Ledger, data: DataPlan, policy: PolicyName, kept_versions: Sequence[str]
) -> None:
    ledger.describe(
        Description(
            sweep=search.sweep,
            origin=data.origin(),
            policy=policy,
            rows=(*search.rows, *search.surplus),
            decisions=tuple(search.decisions()),
            code_digest=code_digest(),
            kept_versions=tuple(kept_versions),
        )
    )


def _show_in_mlflow(search: Search, ledger: Ledger, data: DataPlan) -> Tracker:
    tracker = Tracker(data.storage, search.sweep.question, search.sweep.name)
    tracker.start(search, ledger.description())
    search.forget_histories()
    return tracker


def _confirmed(options: EngineOptions) -> bool:
    if options.yes or not (console.is_terminal and sys.stdin.isatty()):
        return True
    try:
        return Confirm.ask("Start?", console=console, default=True)
    except EOFError:
        return False


def _say_what_is_left(search: Search, ledger: Ledger, options: EngineOptions) -> Outcome:
    """Say which cells have no result, and what to do; return how the sweep is left."""
    # By signature: families may share a cell.
    missing = {search.signature(cell): row.family for row, cell in search.missing()}
    failed = {record.signature: (row.family, record) for row, record in search.failed()}
    for family, record in failed.values():
        name = label(family, record.configuration)
        times = f" {counted(record.attempts, 'time')}, not tried again" if record.given_up else ""
        say(f"Failed{times}: {name} seed {record.seed}: {record.reason}")
    if any(record.given_up for _, record in failed.values()):
        say(f"To try them again, delete their folders in {ledger.folder / 'cells'}.")
    again = any(not record.given_up for _, record in failed.values())
    if missing:
        by_family = Counter(missing.values()).items()
        listed = ", ".join(f"{family} {n}" for family, n in by_family)
        cells = "1 cell is" if len(missing) == 1 else f"{len(missing)} cells are"
        say(f"{cells} missing ({listed}); more may depend on them.")
    if not search.left() and not again:
        return "full"
    say("Run the same command again to continue.")
    has_budget = options.budget_cells is not None or options.budget_hours is not None
    return "stopped" if has_budget and not again else "incomplete"


def _show_result(search: Search, n_candidates: int) -> None:
    metric = SELECTION_METRIC
    chance = chance_metrics(n_candidates)[metric]
    best, dropped = list(search.best().values()), search.dropped()
    names = [family.name for family in search.sweep.families]
    rows = []
    places = zip(search.rows, search.orders(), strict=True)
    for row, _ in sorted(places, key=lambda place: (names.index(place[0].family), -place[1])):
        scores = [100 * record.best[metric] for record in search.done(row.configuration)]
        spread = f" ± {stdev(scores):.1f}" if len(scores) > 1 else ""
        shown = f"{fmean(scores):.1f}{spread}" if scores else "–"
        mark = " *" if row in best else " out" if row in dropped else ""
        rows.append(
            {
                "family": row.family,
                "configuration": describe(row.configuration),
                "seeds": f"{len(scores)} of {len(search.sweep.seeds)}",
                _title(metric): shown + mark,
            }
        )
    console.print(ScreenTable(rows))
    say(
        f"* best of its family. Chance among {counted(n_candidates, 'candidate')}: "
        f"{100 * chance:.1f} %."
    )
    if any("–" in row.values() for row in rows):
        say("–: a family that changes no field, or a configuration without a finished cell.")
    if not any("training.precision" in family.levels for family in search.sweep.families):
        say(f"Trained in {search.sweep.specification.training.precision}.")
    if dropped:
        spared = search.matrix().counts()["dropped"]
        say(f"out: clearly behind after these seeds; {spared} cell{'s' * (spared != 1)} spared.")


def _title(metric: str) -> str:
    return f"validation {metric_title(metric)}, %"
