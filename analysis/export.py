"""A trained model as a folder that needs nothing else, to be used on new data and shared.

    python analysis/export.py --storage DIR --out my_model [--sweep NAME] [--family NAME]
    python analysis/export.py --storage DIR --out my_model --cell SIGNATURE
    python analysis/export.py --storage DIR --out my_model --push USER/NAME --dry-run

The model is that of the best configuration's first seed, or of a cell that is named. The folder has
weights, configuration, preprocessing and target, a card with the scores and controls that the
storage has, and tables of embeddings and ranks for each sentence of the validation split. Those of
the test split are among them only where an evaluation has counted its look at it; nothing is
evaluated here. ssense.load("my_model") uses the folder, without the storage.
"""

from __future__ import annotations

from analysis.options import ExportOptions
from ssense.cli.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(ExportOptions)  # before the imports that take seconds

import glob
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from upath import UPath

from analysis.measure.looks import was_looked_at
from analysis.measure.sentence_tables import sentence_tables
from analysis.report.model_card import CardFacts, model_card
from analysis.report.origin import control_words, read_controls
from ssense.api.result import SweepResult
from ssense.cli.screen import say, step
from ssense.data.dataset import Dataset
from ssense.decoder.folder import (
    CARD,
    MANIFEST,
    checked_files,
    files_of,
    is_export_of,
    renew_card,
    write_files,
)
from ssense.engine.core.cell import describe
from ssense.engine.core.record import Record
from ssense.engine.records.find import find_ledger
from ssense.engine.sweep_data import sweep_data
from ssense.errors import UserError, counted, one_line, printable
from ssense.files.storage import open_storage, write_folder


def main(options: ExportOptions) -> None:
    """Export a model, and push it if that is asked for."""
    assert options.out is not None  # the options refuse that
    storage, root = open_storage(options.storage, must_exist=True), Path(options.out).expanduser()
    result = SweepResult(find_ledger(storage, options.sweep, task="sentences"))
    record = result.record(options.cell) if options.cell else result.best(options.family)
    say(f"Model of cell {record.signature}, seed {record.seed}, of {result.name}")
    with step("Embeddings of its sentences"):
        files = export_files(result, record, root.name, by_hand=options.cell is not None)
    holds_it = partial(is_export_of, UPath(root), files)
    if holds_it():
        say(f"{root} holds just this model already.")
        if not renew_card(UPath(root), files[CARD]):
            say(
                f"Its card {root / CARD} was edited, and a newer one was not written. To have it, "
                "move the edited one away and run this again."
            )
    write_folder(root, "exported model", lambda folder: write_files(folder, files), holds_it)
    for line in _listed(root):
        say(line)
    if options.push is not None:
        push(root, options.push, dry_run=options.dry_run)


def export_files(
    result: SweepResult, record: Record, name: str, *, by_hand: bool = False
) -> dict[str, bytes]:
    """The files of an export but for its manifest, by name.

    Args:
        result: The sweep.
        record: The record of the cell.
        name: What the card calls the model.
        by_hand: Whether somebody named the cell.

    Raises:
        UserError: The encoder was deleted, or what the cell was made from is not there.
    """
    model = result.model(record.signature)
    families = [
        row.family
        for row in result.search.rows
        if dict(row.configuration) == dict(record.configuration)
    ]
    tests, comparisons = _last_evaluation(result, families, record)
    parts = ["validation", *(["test"] if len(tests) else [])]
    dataset = result.dataset_of(record.signature)
    data = sweep_data(result.ledger).of(record.configuration)
    assert isinstance(data, Dataset)
    split = dataset.split(record.seed)
    tables = sentence_tables(model, data, dataset.stimuli, split, parts)
    best = result.search.best()
    facts = CardFacts(
        name=name,
        result=result,
        record=record,
        families=families,
        by_hand=by_hand,
        is_best=any(
            dict(best[each].configuration) == dict(record.configuration)
            for each in families
            if each in best
        ),
        model=model,
        parts=parts,
        tests=tests,
        comparisons=comparisons,
        controls=_controls(result, families, record),
    )
    return {**files_of(model), **tables, CARD: model_card(facts).encode()}


def _last_evaluation(
    result: SweepResult, families: Sequence[str], record: Record
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and tests of the last evaluation that counted its look at a cell's test split.

    Both are empty where none was made of the cell's configuration and seed. What an evaluation
    scored is what its own table names: a family's best may be another by now.
    """
    tests, comparisons, evaluated = result.tests, result.comparisons, result.evaluations
    for family in families:
        if not len(tests) or not was_looked_at(
            result.ledger, family, record.configuration, record.seed
        ):
            continue
        same = evaluated["configuration"] == describe(record.configuration)
        looks = evaluated["look"][same & (evaluated["family"] == family)]
        own = tests[(tests["family"] == family) & tests["look"].isin(looks)]
        with_seed = own[own["seed"] == record.seed]
        if len(with_seed):
            look = with_seed["look"].iloc[-1]
            return own[own["look"] == look], comparisons[comparisons["look"] == look]
    return pd.DataFrame(columns=["protocol"]), pd.DataFrame()


def _controls(result: SweepResult, families: Sequence[str], record: Record) -> list[str]:
    """What the controls reach, where they were run for the configuration of a cell."""
    kept = read_controls(result.ledger)
    known = describe(record.configuration), result.description.sweep.seeds
    if kept is None or not any(kept.belong_to(family, *known) for family in families):
        return []
    return control_words(result.ledger)


def push(folder: Path, repository: str, *, dry_run: bool) -> None:
    """Push an exported folder to a model hub, or say what would be pushed.

    What else lies in the folder stays there, and is named: it may be data of a person.

    Args:
        folder: The folder.
        repository: Name of the repository, USER/NAME; one that is not there is made private.
        dry_run: Whether to push nothing.

    Raises:
        UserError: The folder was changed, or the hub can't be reached, or refuses it.
    """
    names = sorted({*checked_files(UPath(folder)), MANIFEST, CARD})
    sizes = [path.stat().st_size for name in names if (path := folder / name).is_file()]
    what = f"{counted(len(sizes), 'file')}, {sum(sizes) / 1e6:.1f} MB, to {repository}"
    if others := sorted({path.name for path in folder.iterdir()} - {*names}):
        say(f"No part of the model, and not pushed: {printable(', '.join(others), 200)}")
    if dry_run:
        say(f"Dry run: would push {what}. Nothing was pushed.")
        return
    from huggingface_hub import HfApi

    try:
        with step(f"Pushing {what}"):
            hub = HfApi()
            hub.create_repo(repository, private=True, exist_ok=True)
            hub.upload_folder(
                folder_path=folder,
                repo_id=repository,
                allow_patterns=[glob.escape(name) for name in names],
            )
    except Exception as error:  # the hub's client raises errors of its own
        raise UserError(
            f"{repository} can't be pushed to ({one_line(error)}). Log in by `hf auth login`, "
            "check the name, and run the same command again."
        ) from error


def _listed(folder: Path) -> list[str]:
    """The files of a folder with their sizes, a line each."""
    sizes: Mapping[str, int] = {path.name: path.stat().st_size for path in folder.iterdir()}
    lines = [f"  {size / 1e3:10,.1f} kB  {name}" for name, size in sorted(sizes.items())]
    return [f"{folder}: as {MANIFEST} lists them", *lines]


if __name__ == "__main__":
    run_command(ExportOptions, main)
