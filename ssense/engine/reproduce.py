"""Reproduce one cell: train it again, alone in this process, and compare it to the bit.

The result in the ledger stays as it is. An encoder that was deleted is compared by its digest;
where it is the same, the ledger has it again. Where the second training is not the same to the bit,
the largest differences are kept in the ledger: a difference between configurations means something
only if it exceeds them.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor
from upath import UPath

from ssense.cli.screen import say, step
from ssense.engine.core.cell import Cell, describe, label, signature
from ssense.engine.core.record import Record
from ssense.engine.core.reproduction import Reproduction
from ssense.engine.records.driver import sole_driver
from ssense.engine.records.find import readable_ledgers, sweep_folders
from ssense.engine.records.ledger import Ledger, WeightsNotKeptError, weights_digest
from ssense.engine.records.provenance import device_name, versions
from ssense.engine.sweep_data import sweep_dataset
from ssense.errors import UserError, counted, printable
from ssense.files.source_code import code_digest
from ssense.retrieval import NonFiniteError
from ssense.specification import configured
from ssense.training.loop import Data, Fit, Specification, fit, validation_metrics
from ssense.training.process import assigned_device, gpus_here, reset_process

_CALLED = re.compile(r"(?P<label>.*?)[,\s]*\bseed\s*(?P<seed>\d+)\s*", re.IGNORECASE)
_SIGNED = re.compile(r"[0-9a-f]*")

_Shown = dict[str, dict[int, dict[str, tuple[Ledger, Record]]]]
"""Cells by label, seed and signature, each with the ledger that has it."""


def compare(record: Record, kept: Mapping[str, Tensor] | None, again: Fit) -> Reproduction:
    """Compare a finished cell with the same cell trained again.

    Args:
        record: Record of the cell, as the ledger has it.
        kept: The cell's state dictionary, as the ledger has it; None where it was deleted.
        again: What the second training made.
    """
    pairs = list(zip(record.history, again.history, strict=False))
    same_weights = (
        weights_digest(again.weights) == record.weights_digest
        if kept is None
        else _same_bits(kept, again.weights)
    )
    return Reproduction(
        exact=list(record.history) == again.history and same_weights,
        best_epochs=(record.best_epoch, again.best_epoch),
        epochs=(len(record.history), len(again.history)),
        at_best=_points(record.best, again.best),
        by_epoch=[max(_points(then, now).values()) for then, now in pairs],
        loss=max(abs(then["loss"] - now["loss"]) for then, now in pairs),
        weights=None if kept is None else _largest_difference(kept, again.weights),
    )


def reproduce_cell(storage: UPath, name: str, threads: int) -> Reproduction:
    """Train a cell of any sweep in the storage again, and say how it compares.

    Args:
        storage: Storage of the sweep.
        name: The cell's signature, its beginning, or what the cell is called, see `find_cell`.
        threads: Threads of the training, if the record does not say with how many the cell was
            trained.

    Raises:
        UserError: There is no such cell with a result, or what it was made from has changed.
    """
    ledger, record = find_cell(storage, name)
    with ExitStack() as stack:
        try:
            kept = ledger.weights(record)
        except WeightsNotKeptError:  # they are to be kept again, which no driver may undo meanwhile
            kept = None
            stack.enter_context(sole_driver(ledger.folder))
        return _reproduce(ledger, record, kept, threads)


def _reproduce(
    ledger: Ledger, record: Record, kept: Mapping[str, Tensor] | None, threads: int
) -> Reproduction:
    dataset = sweep_dataset(ledger, record.configuration)
    called = f"{describe(record.configuration)}, seed {record.seed}"
    say(f"Cell {record.signature} of {ledger.folder.name}: {called}")
    say(f"  trained by {record.worker} on {record.device}, {record.finished_at[:10]}")
    for line in other_circumstances(record, device_of(record)):
        say(f"  {line}")
    with step(f"Training it again: {counted(len(record.history), 'epoch')}"):
        again = train_again(ledger, record, dataset, record.threads or threads)
    reproduction = compare(record, kept, again)
    for line in reproduction.lines():
        say(line)
    if kept is None and reproduction.exact:
        ledger.restore_weights(record, again.weights)
        say("Its encoder is kept again, until the sweep runs next without --keep-encoders.")
    ledger.keep_reproduction(record.signature, reproduction)
    return reproduction


def train_again(ledger: Ledger, record: Record, dataset: Data, threads: int) -> Fit:
    """Train the cell of a record in this process, as a worker would; write nothing.

    Raises:
        UserError: The cell is no longer the same, or it fails.
    """
    specification = ledger.description().sweep.specification
    cell = Cell(record.configuration, record.seed)
    now = signature(cell, specification, dataset.digest)
    if now != record.signature:
        raise UserError(
            f"cell {record.signature} would be {now} today: the weights it starts from or the "
            "meaning of its configuration have changed, or it belongs to a control, on other data "
            "or splits. Restore what made it, or choose a cell of the sweep itself."
        )
    reset_process(cell.seed, threads)
    pairs = dataset.on(device_of(record))
    spec: Specification[Any, Any] = configured(specification, cell.configuration)
    split = spec.cell_split(dataset.split(spec.split, cell.seed), cell.seed)
    try:
        return fit(pairs.select(split.train), pairs.select(split.validation), spec, cell.seed)
    except NonFiniteError as error:
        raise UserError(f"cell {now} is done in the ledger, but fails here: {error}.") from error


def find_cell(
    storage: UPath, name: str, among: Sequence[Ledger] | None = None
) -> tuple[Ledger, Record]:
    """Find a finished cell in the sweeps of a storage.

    Args:
        storage: Storage of the sweeps.
        name: The beginning of the cell's signature, or what the cell is called where it is shown,
            "electrode 0.75, seed 1".
        among: Ledgers to look in; None for those of all sweeps.

    Raises:
        UserError: None or several are called so, a label or a seed is missing, or the cell failed.
    """
    ledgers = list(map(Ledger, sweep_folders(storage))) if among is None else among
    called = _CALLED.fullmatch(name)
    if called:
        ledger, record = _cell_called(ledgers, called["label"].strip(), int(called["seed"]))
    elif _SIGNED.fullmatch(name):
        ledger, record = _cell_signed(ledgers, name, storage)
    else:
        raise _without_seed(_shown_cells(ledgers), name.strip())
    if not record.done:
        reason = f"cell {record.signature} failed: {record.reason}"
        raise UserError(f"{reason}. There is nothing to reproduce.")
    return ledger, record


def _shown_cells(ledgers: Sequence[Ledger]) -> _Shown:
    """Finished cells of the sweeps' own, by what they are shown as; not those of controls."""
    shown: _Shown = {}
    for ledger, description in readable_ledgers(ledgers).items():
        sweep, records = description.sweep, ledger.records().values()
        for row in description.rows:
            name = label(row.family, row.configuration)
            for record in records:
                cell = Cell(row.configuration, record.seed)
                if dict(record.configuration) == dict(row.configuration) and (
                    record.signature == sweep.signature(cell)
                ):
                    cells = shown.setdefault(name, {}).setdefault(record.seed, {})
                    cells[record.signature] = ledger, record
    return shown


def _cell_called(ledgers: Sequence[Ledger], wanted: str, seed: int) -> tuple[Ledger, Record]:
    """The cell of a sweep's own that is shown by a label and a seed."""
    shown = _shown_cells(ledgers)
    found = shown.get(wanted, {}).get(seed, {})
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        signed = printable(
            ", ".join(f"{s} of {each.folder.name}" for s, (each, _) in found.items()), 150
        )
        raise UserError(
            f"{len(found)} cells are called {printable(wanted)}, seed {seed}: {signed}. Give the "
            "signature of one."
        )
    of_seed = {name: cells for name, cells in shown.items() if seed in cells}
    if wanted and wanted in shown:
        advice = f"Of {printable(wanted)} there are {_of_seeds(shown[wanted])}."
    elif of_seed:
        near = printable(get_close_matches(wanted, of_seed, n=1, cutoff=0)[0])
        advice = f"Nearest of seed {seed}: {near}." if wanted else f'Such as "{near}, seed {seed}".'
    else:
        advice = "No cell is finished."
        if shown:
            advice = f"No cell of that seed is finished; there are {_of_seeds(*shown.values())}."
    if not wanted:
        raise UserError(f"`cell` seed {seed} lacks a configuration, before the seed. {advice}")
    raise UserError(f"no finished cell is called {printable(wanted)}, seed {seed}. {advice}")


def _without_seed(shown: _Shown, wanted: str) -> UserError:
    """The refusal of a cell that is called by a label alone."""
    if wanted in shown:
        example = f'"{printable(wanted)}, seed {min(shown[wanted])}"'
        return UserError(
            f"`cell` {printable(wanted)} lacks a seed. There are {_of_seeds(shown[wanted])}: "
            f"give one, as {example}."
        )
    near = get_close_matches(wanted, shown, n=1, cutoff=0)
    nearest = f'Nearest: "{printable(near[0])}, seed {min(shown[near[0]])}".' if near else ""
    return UserError(
        f"no finished cell is called {printable(wanted)}. {nearest or 'No cell is finished.'}"
    )


def _of_seeds(*cells: Iterable[int]) -> str:
    """Cells by their seeds, which are the keys, for messages: "cells of seed 0"."""
    seeds = sorted(set().union(*cells))
    listed = printable(" ".join(map(str, seeds)), 100)
    return f"cells of seed{'s' * (len(seeds) != 1)} {listed}"


def _cell_signed(ledgers: Sequence[Ledger], prefix: str, storage: UPath) -> tuple[Ledger, Record]:
    """The cell whose signature begins so."""
    sweeps = {name: ledger for ledger in ledgers for name in ledger.signatures()}
    found = sorted(name for name in sweeps if name.startswith(prefix))
    if not found:
        nearest = get_close_matches(prefix, sweeps, n=1, cutoff=0)
        advice = f"Nearest of {len(sweeps)}: {nearest[0]}." if nearest else "No cell is finished."
        raise UserError(f"no finished cell {printable(prefix)} in {storage}. {advice}")
    if len(found) > 1:
        shown = ", ".join(found if len(found) <= 3 else [*found[:3], "..."])
        raise UserError(f"{len(found)} cells begin with {prefix}: {shown}. Give more characters.")
    ledger = sweeps[found[0]]
    record = ledger.record(found[0])
    assert record is not None  # it has just been listed
    return ledger, record


def other_circumstances(record: Record, device: torch.device) -> list[str]:
    """Say what the bits of a result depend on and is not as it was, a line each."""
    then = {
        "host": record.worker.rpartition(":")[0],
        "device": record.device,
        "instruction set": record.instructions,
        "code": record.code_digest,
        **record.versions,
    }
    now = {
        "host": platform.node(),
        "device": device_name(device),
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "code": code_digest(),
        **versions(),
    }
    return [
        f"{name} was {then.get(name) or 'not noted'}, is {now[name]}"
        for name in now
        if then.get(name) != now[name]
    ]


def device_of(record: Record) -> torch.device:
    """The device of a record where this machine has one of its kind."""
    return assigned_device(0 if record.device == "CPU" else gpus_here(None))


def _points(then: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * abs(then[name] - now[name]) for name in validation_metrics(then)}


def _same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype
        and one[name].shape == other[name].shape
        # As bytes, for which neither NaN differs from itself nor 0 equals -0.
        and _bytes(one[name]).equal(_bytes(other[name]))
        for name in one
    )


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float | None:
    if {name: t.shape for name, t in one.items()} != {name: t.shape for name, t in other.items()}:
        return None
    gaps = [(one[name].double() - other[name].double()).abs().max() for name in one]
    largest = torch.stack(gaps).max()
    return largest.item() if largest.isfinite() else None
