"""Is a storage whole? Everything in it that results rest on is read and compared.

    python analysis/verify.py --storage DIR

Compares records with their signatures, encoders with their records, shards with their manifests,
embeddings and other kept tensors with their checksums, and looks with those that saw them. Nothing
is changed. A line is printed for every fault, however long; the exit code is 1 where there is one.
Progress is shown on a terminal alone.
"""

from __future__ import annotations

from analysis.options import VerifyOptions
from ssense.cli.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(VerifyOptions)  # before the imports that take seconds

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

from upath import UPath

from analysis.measure.evaluation import cell_model
from analysis.measure.looks import FOLDER as LOOKS
from analysis.measure.looks import looks_noted, read_looks
from analysis.report.origin import control_verdict, control_words, data_report
from ssense.cli.screen import console, count, say
from ssense.data import shards
from ssense.engine.core.cell import Cell, signature
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import SWEEPS, Ledger, WeightsNotKeptError
from ssense.engine.tasks.feature_making import DATA_REPORT
from ssense.engine.tasks.registry import kept_data
from ssense.errors import UserError, counted
from ssense.files.digest import digest, weights_file
from ssense.files.storage import exists, locate, names_in
from ssense.files.tensor_file import check_tensor_file
from ssense.specification import configured, walk
from ssense.training.tasks import TaskSpec

TENSORS = ("text", "features", "pixels", "responses", "stimuli")
"""Folders of a storage that hold a tensor in each file."""


def find_faults(storage: UPath, checked: Counter[str]) -> Iterator[str]:
    """Read a whole storage, with at most an encoder or a shard of it in memory.

    Args:
        storage: The storage to check; nothing in it is changed.
        checked: How much was read of each kind is counted here, as it goes on.

    Yields:
        A line for every fault: what, where, and what to do.

    Raises:
        UserError: The storage can't be read.
    """
    ledgers = [Ledger(storage / SWEEPS / name) for name in names_in(storage / SWEEPS)]
    for ledger in ledgers:
        yield from _sweep_faults(ledger, checked)
    for name in names_in(storage / "shards"):
        yield from _shard_faults(storage / "shards" / name, checked)
    for kind in TENSORS:
        yield from _tensor_faults(storage / kind, checked)
    yield from _look_faults(storage, ledgers, checked)


def _sweep_faults(ledger: Ledger, checked: Counter[str]) -> Iterator[str]:
    names = ledger.signatures()
    if not names and not ledger.exists():
        return  # a folder of something else, or of a driver that did not start
    show = _progress(f"{ledger.folder.name}: {len(names)} cell{'s' * (len(names) != 1)}", "cells")
    sweep: Sweep | None = None
    try:
        sweep = _own_sweep(ledger)
        checked["sweeps"] += 1
    except UserError as error:
        yield str(error)
    for read in (Ledger.reproductions, control_words, control_verdict):
        try:
            read(ledger)
        except UserError as error:
            yield str(error)
    for number, name in enumerate(names, start=1):
        yield from _cell_faults(ledger, name, sweep, checked)
        show(number, len(names))
    if sweep is not None:
        yield from _dataset_faults(ledger)


def _own_sweep(ledger: Ledger) -> Sweep:
    """What a ledger's sweep compares, if its folder is named after just that.

    Raises:
        UserError: See `Ledger.description`; also if the sweep is another one, which judges no
            records here.
    """
    sweep = ledger.description().sweep
    if sweep.name != ledger.folder.name and not _has_files_away(sweep.specification):
        raise UserError(
            f"{ledger.folder / 'sweep.json'} contradicts the name of its folder: what it compares "
            f"is {sweep.name}. Delete this file and run the sweep's command again: its cells are "
            "kept."
        )
    return sweep


def _cell_faults(
    ledger: Ledger, name: str, sweep: Sweep | None, checked: Counter[str]
) -> Iterator[str]:
    try:
        record = ledger.record(name)
        if record is None:  # removed meanwhile
            return
        checked["records"] += 1
        is_own = sweep is not None and _is_its_own(record, sweep)
        if sweep is not None and not is_own:
            yield (
                f"{ledger.cell_folder(name) / 'record.json'} contradicts its signature: its "
                "configuration, seed or dataset are those of another cell. Delete "
                f"{ledger.cell_folder(name)} and run the sweep again."
            )
        if record.done and is_own and sweep:
            specification = configured(sweep.specification, record.configuration)
            cell_model(ledger, record, specification.check_state)
        elif record.done:
            ledger.weights(record)
        checked["encoders"] += record.done
    except WeightsNotKeptError:
        checked["deleted encoders"] += 1
    except UserError as error:
        yield str(error)


def _is_its_own(record: Record, sweep: Sweep) -> bool:
    """Whether what a record says hashes to its signature.

    A sweep's ledger has cells of controls too, with other data or splits. Where initial weights
    are in a file that is not here, it can't be known.
    """
    specification = sweep.specification
    with suppress(ValueError, TypeError):
        if _has_files_away(configured(specification, record.configuration)):
            return True
    cell = Cell(record.configuration, record.seed)
    splits = get_args(get_type_hints(type(specification))["split"])
    with suppress(ValueError, TypeError):  # it has no such field, or refuses the value
        return record.signature in {
            signature(cell, replace(specification, split=kind), record.dataset_digest)
            for kind in splits
        }
    return False


def _has_files_away(specification: TaskSpec) -> bool:
    """Whether weights that are named by their content are in a file that is not here."""
    files = (part.weights for part in walk(specification) if hasattr(part, "weights"))
    return any(Path(file).is_absolute() and weights_file(file) is None for file in files)


def _dataset_faults(ledger: Ledger) -> Iterator[str]:
    """Compare the data that are kept with those that the sweep was planned on."""
    description = ledger.description()
    kept = kept_data(description.origin, ledger.storage)
    for wanted in sorted(description.sweep.all_datasets()):
        fault = ""
        with suppress(UserError):  # the shards' own faults are reported where they are checked
            fault = kept.fault(wanted)
        if fault:
            yield f"{ledger.folder.name}: {fault}"


def _shard_faults(folder: UPath, checked: Counter[str]) -> Iterator[str]:
    if not exists(folder / shards.MANIFEST):
        _progress(f"shards/{folder.name}: unfinished, the next run completes it")
        return
    try:
        data_report(folder / DATA_REPORT)
    except UserError as error:
        yield str(error)
    try:
        manifest = shards.manifest_of_origin(folder)
    except UserError as error:
        yield str(error)
        return
    show = _progress(f"shards/{folder.name}: {counted(len(manifest.shards), 'shard')}", "shards")
    for number, shard in enumerate(manifest.shards, start=1):
        try:
            shards.check_shard(folder, manifest, shard)
            checked["shards"] += 1
        except UserError as error:
            yield str(error)
        show(number, len(manifest.shards))


def _tensor_faults(folder: UPath, checked: Counter[str]) -> Iterator[str]:
    paths = [folder / name for name in names_in(folder) if name.endswith(".safetensors")]
    if paths:
        _progress(f"{folder.name}: {len(paths)} file{'s' * (len(paths) != 1)}")
    for path in paths:
        try:
            origin = check_tensor_file(path)
            checked["tensors"] += 1
        except UserError as error:
            yield str(error)
            continue
        name = origin.get("origin", digest(origin))
        if origin and not path.stem.endswith(name):
            yield f"{path} belongs to another file: it was made as {name}. Delete it and run again."


def _look_faults(storage: UPath, ledgers: list[Ledger], checked: Counter[str]) -> Iterator[str]:
    notes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for ledger in ledgers:
        try:
            for folder, noted in looks_noted(ledger).items():
                notes[folder] += noted
        except UserError as error:
            yield str(error)
    for name in sorted({*names_in(storage / LOOKS), *notes}):
        try:
            found = read_looks(storage / LOOKS / name, notes[name])
        except UserError as error:
            yield str(error)
            continue
        checked["looks"] += len(found.digests)
        for problem in found.broken.values():
            yield f"{found.folder}: {problem}. Restore it; until then reports count it as a look."


def _progress(what: str, kind: str = "") -> Callable[[int, int], None]:
    """Say on a terminal what is read now; the function returned says how far that is."""
    if not console.is_terminal:
        return lambda *_: None
    say(what)
    return count(kind)


def main(options: VerifyOptions) -> None:
    """Check a storage whole: one line for each fault, and exit code 1 where there is any."""
    storage = locate(options.storage)
    if not exists(storage):
        raise UserError(f"no storage at {storage}. Check --storage.")
    checked: Counter[str] = Counter()
    n_faults = 0
    for fault in find_faults(storage, checked):
        print("FAULT:", " ".join(fault.splitlines()), flush=True)
        n_faults += 1
    if not checked and not n_faults:
        raise UserError(f"{storage} holds no sweep, shards or looks. Check --storage.")
    kinds = ("sweeps", "records", "encoders", "shards", "tensors", "looks")
    found = "no faults" if not n_faults else "1 fault" if n_faults == 1 else f"{n_faults} faults"
    counted = (f"{checked[kind]} {kind[: -(checked[kind] == 1) or None]}" for kind in kinds)
    say(f"Checked {', '.join(counted)}: {found}.")
    if n_deleted := checked["deleted encoders"]:
        cells, they = (
            ("1 cell", "it was") if n_deleted == 1 else (f"{n_deleted} cells", "they were")
        )
        say(f"Of {cells} no encoder is kept, as {they} not asked for.")
    if n_faults:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(VerifyOptions, main)
