"""A sweep over sentences, run from Python by what runs the files of sweeps/."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from ssense.api.result import SweepResult
from ssense.data.recordings.recording import Recording
from ssense.engine.core.budget import Budget
from ssense.engine.core.sweep import Levels
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.run import run_sweep
from ssense.engine.tasks.recording_data import RecordingData
from ssense.engine.tasks.recording_options import (
    REAL,
    WHICH_RECORDING,
    Defaults,
    RecordingOptions,
)
from ssense.engine.tasks.recording_plan import plan_opened
from ssense.errors import UserError, printable
from ssense.files.own_code import source_of
from ssense.files.plain_values import from_plain

_LONGEST_QUESTION = 80  # characters: it begins the name of a folder
_OF_COMMANDS = {
    "cell": "Give it to a file of sweeps/, which trains the cell again.",
    "dry_run": "Give it to a file of sweeps/; here the plan is shown before anything runs.",
    "evaluate": "Run analysis/evaluate.py, which counts the look at test splits.",
}
"""Options of a command that a call can't have, and what to do instead."""
_OF_A_PLACE = {*WHICH_RECORDING, "table"}
"""Options that say which recording of a place is meant, and how it is read."""


def sweep(
    question: str,
    families: Mapping[str, Mapping[str, Iterable[Any]]],
    recording: str | Path | Recording | None = None,
    *,
    seeds: Iterable[int] | None = None,
    storage: str | Path = "storage",
    **options: Any,
) -> SweepResult:
    """Compare families of configurations over paired seeds, and return what was found.

        ssense.sweep(
            "window", {"window": {"data.window_s": [1.0, 2.0]}}, recording="DIR", seeds=range(5)
        )

    It is what a file of sweeps/ does: the plan is shown, cells that the storage lacks are trained
    on this machine or the cluster that RAY_ADDRESS names, and the same call continues what was
    interrupted. Nothing is asked, and no test split is read.

    Args:
        question: Short name of the question; the sweep's folder and its page in MLflow have it.
        families: Levels by dotted field of the specification, by name of the family. A family
            without levels is a single configuration, the defaults.
        recording: Folder or URL of a recording, or a recording that is open; None for a synthetic
            one.
        seeds: Seeds that every configuration meets; None for the defaults of the command.
        storage: Path or URL of the storage.
        options: Other options, called as the flags of sweeps/masking.py with underscores:
            max_epochs=5, policy="full". Those of the data, as `reference`, are for all families
            that have no levels of them. `encoder` and `target` may be classes or functions of your
            own, at the top of a file.

    Raises:
        UserError: An option is unknown or out of range; the recording, the weights or the storage
            fail; or another driver works on the sweep.
    """
    _check_question(question)
    given = {"recording": recording, "storage": str(storage), "yes": True, **options}
    if seeds is not None:
        given["seeds"] = _as_tuple(seeds)
    chosen = _options(given)
    levels = _as_levels(families)
    chosen.compared(levels)  # refuses what can't be before a recording in memory is kept
    data = chosen.plan_data()
    compared = chosen.sweep(question, data, levels)
    run_sweep(compared, data, chosen, Budget(cells=chosen.budget_cells, hours=chosen.budget_hours))
    return SweepResult(Ledger(data.storage / SWEEPS / compared.name))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OpenedOptions(RecordingOptions):
    """Options of a sweep on a recording that is open already."""

    opened: Recording

    @property
    def defaults(self) -> Defaults:
        """Those of real data: nobody opens a recording to try the machinery."""
        return REAL

    def plan_data(self) -> RecordingData:
        """The data of the recording, see `RecordingOptions.plan_data`."""
        specification, recipe = self.specification(), self.value("spectrogram")
        self.check_given_weights(specification)
        return plan_opened(self.opened, specification, recipe, self.storage)


def _options(given: Mapping[str, Any]) -> RecordingOptions:
    """The options of a call, checked as those of a command line.

    Raises:
        UserError: One is unknown, of a command alone, of another type, or out of range.
    """
    hints = get_type_hints(RecordingOptions)
    known = {field.name for field in dataclasses.fields(RecordingOptions)}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name in _OF_COMMANDS:
            raise UserError(f"{name} is an option of commands. {_OF_COMMANDS[name]}")
        if name not in known:
            near = get_close_matches(name, sorted(known), n=1, cutoff=0)
            raise UserError(f"{printable(name)} is no option of a sweep. Nearest: {near[0]}.")
        is_own = name in ("encoder", "target") and callable(value)
        values[name] = source_of(value) if is_own else value
    recording = values.pop("recording")
    if isinstance(recording, Path):
        recording = str(recording)
    for name, value in values.items():
        if dataclasses.is_dataclass(value):
            continue
        try:
            values[name] = from_plain(hints[name], value)
        except ValueError as error:
            raise UserError(f"{name}: {error}. Got {printable(repr(value))}.") from error
    if isinstance(recording, Recording):
        if others := sorted(_OF_A_PLACE & values.keys()):
            raise UserError(f"{others[0]} is that of the open recording. Leave it out.")
        return _OpenedOptions(opened=recording, **values)
    if not isinstance(recording, str | None):
        kind = type(recording).__name__
        raise UserError(f"recording is a {kind}. Give a folder, a URL or a ssense.Recording.")
    return RecordingOptions(recording=recording, **values)


def _check_question(question: str) -> None:
    """Refuse a question that can't begin the name of a folder.

    Raises:
        UserError: It is empty or too long, or holds what no name of a file may hold.
    """
    fits = isinstance(question, str) and question.strip() == question and question.isprintable()
    if not fits or not 0 < len(question) <= _LONGEST_QUESTION or {*question} & {*'/\\:*?"<>|'}:
        raise UserError(
            f"question {printable(repr(question))} can't name a folder. Give a few words of "
            f"letters, digits, blanks and dashes, up to {_LONGEST_QUESTION} characters."
        )


def _as_levels(families: Any) -> Mapping[str, Mapping[str, Levels]]:
    """Levels as tuples; what is no mapping of lists stays as it is, and is refused later."""
    if not isinstance(families, Mapping):
        raise UserError(
            f"families are a {type(families).__name__}, not levels by field by name of the family."
        )
    return {
        name: {field: _as_tuple(each) for field, each in levels.items()}
        if isinstance(levels, Mapping)
        else levels
        for name, levels in families.items()
    }


def _as_tuple(levels: Any) -> Any:
    """Levels as a tuple of Python's own values, where they are several."""
    if isinstance(levels, np.ndarray):
        levels = levels.tolist()
    if not isinstance(levels, Iterable) or isinstance(levels, str | bytes | Mapping):
        return levels
    return tuple(each.item() if isinstance(each, np.generic) else each for each in levels)
