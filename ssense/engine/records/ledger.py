"""The ledger: one record and one encoder per finished cell, the truth that all else derives from.

SWEEP/sweep.json                     what is compared: families, configurations, seeds
SWEEP/cells/SIGNATURE/record.json    written last, whole: a cell without it is not finished
SWEEP/cells/SIGNATURE/encoder.safetensors
SWEEP/cells/SIGNATURE/checkpoint.safetensors   of a cell in progress; removed when it has finished
SWEEP/reproductions/SIGNATURE.json   how a cell differed when it was trained once more
SWEEP/records.json.gz                in an object store: a copy of the records, read at once
SWEEP/looks/ID.json                  that its test splits were looked at, `analysis.measure.looks`

Every JSON file has a checksum of all else in it: one that was edited, or has none, is refused.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Literal, get_args

import safetensors.torch
from torch import Tensor
from upath import UPath

from ssense.choices import PolicyName
from ssense.cli.screen import say
from ssense.engine.core.cell import FORMAT_VERSION, Configuration
from ssense.engine.core.decision import Decision
from ssense.engine.core.sweep import Family, Row, Sweep, check_levels
from ssense.errors import UserError, one_line, printable
from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import unsealed, write_sealed
from ssense.files.storage import (
    exists,
    is_local,
    names_in,
    parse_json,
    read_json,
    read_many,
    read_whole,
    subfolders_with,
    write_whole,
)
from ssense.specification import plain as plain_specification
from ssense.targets.text import TextSpec
from ssense.training.loop import SELECTION_METRIC, validation_metrics
from ssense.training.tasks import read_specification, task_name

Status = Literal["done", "failed"]

SWEEPS = "sweeps"
MOST_ATTEMPTS = 3
"""Calls of a sweep in which a cell may fail before it is left alone."""
COPIES = "records.json.gz"
COPY_AFTER = 50
"""Cells that a driver finishes, beyond as many as there were, until it copies the records."""


def utc_now() -> str:
    """The time as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one finished cell.

    Attributes:
        history: per epoch: loss and validation metrics; empty where the cell failed.
        best_epoch: the epoch whose encoder is kept; 0 where the cell failed.
        reason: why it failed, in one line; empty where it is done.
        attempts: calls of the sweep in which it was tried, this one included: it failed in the
            others.
        sizes: sentences in each part of the split.
        timings: seconds by stage.
        versions: of Python, this package and the libraries that compute.
        worker: host and process that trained it.
        threads: of that process.
        instructions: instruction set that PyTorch used on its CPU.
        code_digest: of the code that computes results, see `provenance`.
        commit: of the repository it ran from; empty where there was none.
        dirty: whether tracked files differed from that commit.
        requirements_digest: of the lock file; empty where there was none.
        split_digest: of the rows in each part of the split.
        resumed_after: epochs that an interrupted worker had trained before; `timings` leave them
            out.
        checkpoint_refused: why what an interrupted worker had left was not used; empty where it
            was, or where there was nothing.
        encoder_digest: SHA-256 of the encoder's file; empty where the cell failed.
    """

    signature: str
    configuration: Configuration
    seed: int
    status: Status
    dataset_digest: str
    reason: str = ""
    attempts: int = 1
    history: Sequence[Mapping[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    device: str = ""
    worker: str = ""
    threads: int = 0
    instructions: str = ""
    code_digest: str = ""
    commit: str = ""
    dirty: bool = False
    requirements_digest: str = ""
    split_digest: str = ""
    resumed_after: int = 0
    checkpoint_refused: str = ""
    encoder_digest: str = ""
    finished_at: str = field(default_factory=utc_now)

    @property
    def done(self) -> bool:
        """Whether it has a result."""
        return self.status == "done"

    @property
    def given_up(self) -> bool:
        """Whether it has failed so often that it is not tried again."""
        return not self.done and self.attempts >= MOST_ATTEMPTS

    @property
    def best(self) -> Mapping[str, float]:
        """Validation metrics of the best epoch."""
        return self.history[self.best_epoch - 1]

    def check(self) -> None:
        """Refuse a record that contradicts itself.

        Raises:
            ValueError: A result without epochs, a metric outside 0 to 1, a loss that is not
                finite, or a best epoch that another one is better than.
        """
        if self.seed < 0:
            raise ValueError(f"its seed is {self.seed}")
        if not self.done:
            return
        if not 1 <= self.best_epoch <= len(self.history):
            raise ValueError(f"its best epoch is {self.best_epoch} of {len(self.history)}")
        for place, epoch in enumerate(self.history):
            if not math.isfinite(epoch.get("loss", 0.0)):
                raise ValueError(f"history[{place}]: loss is {epoch['loss']}")
            for name, value in validation_metrics(epoch).items():
                if not 0 <= value <= 1:
                    raise ValueError(f"history[{place}]: {name} is {value}, not in 0 to 1")
        scores = [epoch.get(SELECTION_METRIC) for epoch in self.history]
        if None in scores:
            if any(score is not None for score in scores):
                raise ValueError(f"history[{scores.index(None)}] has no {SELECTION_METRIC}")
        elif scores[self.best_epoch - 1] < max(scores):
            better = 1 + scores.index(max(scores))
            raise ValueError(f"its best epoch is {self.best_epoch}, and epoch {better} is better")


@dataclass(frozen=True, kw_only=True)
class _Description:
    """What sweep.json holds, by name and type.

    A format may gain names: what an earlier version did not write has a default.
    """

    updated_at: str
    claim: str
    dataset_digest: str
    specification: Mapping[str, Any]
    families: tuple[Family, ...]
    configurations: int
    seeds: tuple[int, ...]
    metric: str
    dataset: Mapping[str, Any]
    policy: str
    rows: Sequence[Row]
    code_digest: str = ""
    kept_versions: Sequence[str] = ()
    decisions: Sequence[Mapping[str, Any]] = ()
    task: str = "sentences"


_DATASET_FACTS = ("digest", "shards", "recording", "subject", "title", "tower", "test")
_DATASET_FACTS += ("responses", "images")


class _Facts(dict[str, Any]):
    """What sweep.json says of the dataset; whoever asks for what it lacks is told so."""

    def __init__(self, path: UPath, facts: Mapping[str, Any]) -> None:
        super().__init__(facts)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise _damaged_description(self._path, f"dataset.{name} is missing")

    def __reduce__(self) -> tuple[Any, ...]:
        return _Facts, (self._path, dict(self))


@dataclass(frozen=True)
class Ledger:
    """The folder of one sweep."""

    folder: UPath

    @property
    def storage(self) -> UPath:
        """Where it is kept, among other sweeps, spectrograms and recordings."""
        return self.folder.parent.parent

    def records(self) -> dict[str, Record]:
        """Read every finished cell's record, by signature.

        In an object store, those that had to be read one by one are in the copy from then on.

        Raises:
            UserError: a record is damaged or of another format.
        """
        cells = self.folder / "cells"
        marks = subfolders_with(cells, "record.json")
        copies = self._copies() if any(marks.values()) else {}
        found = {name: copies[name, mark] for name, mark in marks.items() if (name, mark) in copies}
        others = [cells / name / "record.json" for name in marks if name not in found]
        for path, text in zip(others, read_many(others), strict=True):
            content = parse_json(path, text)
            found[path.parent.name] = content, _as_record(cells, path.parent.name, content)
        if others and any(marks.values()):
            self._write_copies([(n, mark, found[n][0]) for n, mark in marks.items() if mark])
        return {name: found[name][1] for name in marks}

    def copy_records(self) -> None:
        """Copy what is not copied yet, so that whoever takes up the sweep need not read it singly.

        On a disk, which is as quick without, nothing is done; nor where the storage is away.
        """
        if not is_local(self.folder):
            with contextlib.suppress(UserError):
                self.records()

    def _copies(self) -> dict[tuple[str, str], tuple[Any, Record]]:
        """Copied records by signature and mark of the file that each was read from."""
        cells = self.folder / "cells"
        try:
            copies = json.loads(gzip.decompress(read_whole(self.folder / COPIES)))
            return {
                (name, mark): (content, _as_record(cells, name, content))
                for name, mark, content in copies
            }
        except (OSError, EOFError, ValueError, TypeError, RecursionError, zlib.error, UserError):
            return {}  # none, or damaged: the records themselves are read

    def _write_copies(self, copies: Sequence[tuple[str, str, Any]]) -> None:
        content = gzip.compress(json.dumps(copies).encode(), compresslevel=1)
        with contextlib.suppress(UserError):  # a storage that can only be read will do
            write_whole(self.folder / COPIES, content)

    def signatures(self) -> list[str]:
        """Signatures of the finished cells."""
        return list(subfolders_with(self.folder / "cells", "record.json"))

    def cell_folder(self, signature: str) -> UPath:
        """Where a cell is kept."""
        return self.folder / "cells" / signature

    def n_begun(self) -> int:
        """How many cells were begun.

        Raises:
            UserError: the storage can't be read.
        """
        return len(names_in(self.folder / "cells"))

    def has(self, signature: str) -> bool:
        """Whether a cell is finished, done or failed.

        Raises:
            UserError: the storage can't be read.
        """
        return exists(self.cell_folder(signature) / "record.json")

    def record(self, signature: str) -> Record | None:
        """Read one cell's record, if it is finished.

        Raises:
            UserError: as `records`.
        """
        path = self.cell_folder(signature) / "record.json"
        try:
            return _as_record(self.folder / "cells", signature, read_json(path))
        except FileNotFoundError:
            return None

    def checkpoint_path(self, signature: str) -> UPath:
        """Where a cell in progress keeps what it needs to go on."""
        return self.cell_folder(signature) / "checkpoint.safetensors"

    def write(self, record: Record, encoder: Mapping[str, Tensor] | None = None) -> Record:
        """Keep a finished cell: its encoder first, then the record that makes it count.

        Returns:
            The record as it was written, with the digest of the encoder.

        Raises:
            UserError: the storage can't be written to.
        """
        cell = self.cell_folder(record.signature)
        if encoder is not None:
            content = safetensors.torch.save(dict(encoder))
            write_whole(cell / "encoder.safetensors", content)
            record = replace(record, encoder_digest=hashlib.sha256(content).hexdigest())
        write_sealed(cell / "record.json", {"format": FORMAT_VERSION, **asdict(record)})
        return record

    def encoder(self, record: Record) -> dict[str, Tensor]:
        """Load the state dictionary of a cell's best epoch.

        Raises:
            UserError: it is missing, not what the record was written with, or not finite.
        """
        path = self.cell_folder(record.signature) / "encoder.safetensors"
        advice = f"Delete {path.parent} and run the sweep again to retrain this cell."
        try:
            content = read_whole(path)
        except FileNotFoundError:
            raise UserError(f"encoder {path} is missing. {advice}") from None
        if hashlib.sha256(content).hexdigest() != record.encoder_digest:
            raise UserError(f"encoder {path} is damaged: its checksum does not match. {advice}")
        try:
            weights = safetensors.torch.load(content)
        except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise UserError(f"encoder {path} is damaged: {one_line(error)}. {advice}") from error
        for name, tensor in weights.items():
            if not tensor.isfinite().all():
                raise UserError(f"encoder {path} has NaN or infinity in {name}. {advice}")
        return weights

    def keep_reproduction(self, signature: str, found: Mapping[str, Any]) -> None:
        """Keep how a cell differed when it was trained once more, in place of an earlier time.

        Raises:
            UserError: the storage can't be written to.
        """
        write_sealed(self.folder / "reproductions" / f"{signature}.json", found)

    def reproductions(self) -> list[dict[str, Any]]:
        """How cells differed that were trained once more, see `reproduce.Reproduction`.

        Raises:
            UserError: one is damaged, or the storage can't be read.
        """
        folder = self.folder / "reproductions"
        paths = [folder / name for name in names_in(folder) if name.endswith(".json")]
        return [_as_reproduction(*each) for each in zip(paths, read_many(paths), strict=True)]

    def write_sweep(
        self,
        sweep: Sweep,
        rows: Sequence[Row],
        dataset: Mapping[str, Any],
        policy: str,
        decisions: Sequence[tuple[Row, Decision]],
        code_digest: str,
        kept_versions: Sequence[str],
    ) -> None:
        """Keep what the sweep compares, and how far it has come.

        Args:
            sweep: what is compared.
            rows: proposed so far.
            dataset: where its data is.
            policy: by which seeds are spent, by name.
            decisions: that it has taken, with their numbers.
            code_digest: of the code that the sweep runs by.
            kept_versions: other versions of the code whose cells count, by name.

        Raises:
            UserError: the storage can't be written to.
        """
        content = {
            "format": FORMAT_VERSION,
            "name": sweep.name,
            "updated_at": utc_now(),
            "task": task_name(sweep.specification),
            **asdict(sweep),
            "specification": plain_specification(sweep.specification),
            "dataset": dataset,
            "policy": policy,
            "code_digest": code_digest,
            "kept_versions": kept_versions,
            "rows": [vars(row) for row in rows],
            "decisions": [vars(row) | vars(decision) for row, decision in decisions],
        }
        write_sealed(self.folder / "sweep.json", content)

    def sweep(self) -> Sweep:
        """What the sweep compares, as it was last asked for.

        Raises:
            UserError: as `description`, or another version of the code wrote it.
        """
        content = self.description()
        try:
            specification = read_specification(content["task"], content["specification"])
            levels = {family.name: family.levels for family in content["families"]}
            check_levels(specification, levels)
            return Sweep(
                claim=content["claim"],
                dataset_digest=content["dataset_digest"],
                specification=specification,
                families=content["families"],
                configurations=content["configurations"],
                seeds=content["seeds"],
                metric=content["metric"],
            )
        except (TypeError, ValueError, UserError) as error:  # a field or value unknown here
            raise UserError(
                f"{self.folder / 'sweep.json'} was written by another version of the code "
                f"({one_line(error)}). Use that version, or name another sweep."
            ) from error

    def task(self) -> str:
        """Name of what its cells train, see `TASKS`.

        Raises:
            UserError: as `description`.
        """
        return self.description()["task"]

    def rows(self) -> list[Row]:
        """Configurations proposed so far, in order.

        Raises:
            UserError: as `description`.
        """
        return list(self.description()["rows"]) if self.exists() else []

    def policy(self) -> str:
        """Name of the policy that the sweep was last run by.

        Raises:
            UserError: as `description`.
        """
        return self.description()["policy"]

    def kept_versions(self) -> list[str]:
        """Other versions of the code whose cells count, by name.

        Raises:
            UserError: as `description`.
        """
        return list(self.description()["kept_versions"]) if self.exists() else []

    def exists(self) -> bool:
        """Whether a sweep was ever started here.

        Raises:
            UserError: the storage can't be read.
        """
        return exists(self.folder / "sweep.json")

    def description(self) -> dict[str, Any]:
        """Read sweep.json: its names to their values, families and rows as such.

        Raises:
            UserError: there is none, or it is damaged, of another format, or contradicts itself.
        """
        path = self.folder / "sweep.json"
        try:
            content = read_json(path)
        except FileNotFoundError:
            raise UserError(
                f"no sweep in {self.folder}. Run python sweeps/masking.py first."
            ) from None
        _check_format(path, content)
        known = {each.name for each in fields(_Description)}
        try:
            plain = unsealed(content)
            found = from_plain(_Description, {n: v for n, v in plain.items() if n in known})
            _check_description(found)
        except ValueError as error:
            raise _damaged_description(path, one_line(error)) from error
        return {**plain, **vars(found), "dataset": _Facts(path, found.dataset)}


def _check_description(found: _Description) -> None:
    """Refuse a description that contradicts itself.

    Raises:
        ValueError: with what does.
    """
    if found.policy not in get_args(PolicyName):
        raise ValueError(
            f"policy is {printable(found.policy)}, not one of {', '.join(get_args(PolicyName))}"
        )
    for name in _DATASET_FACTS:
        if name in found.dataset and not isinstance(found.dataset[name], str):
            raise ValueError(f"dataset.{name} is not a text")
    if found.dataset.get("digest", found.dataset_digest) != found.dataset_digest:
        raise ValueError("dataset.digest is not the dataset_digest")
    if "text_spec" in found.dataset:
        from_plain(TextSpec, found.dataset["text_spec"])
    levels = {family.name: family.levels for family in found.families}
    for place, row in enumerate(found.rows):
        known = levels.get(row.family)
        if known is None or row.configuration.keys() != known.keys():
            raise ValueError(f"rows[{place}] is of no family")
        for name, value in row.configuration.items():
            if value not in known[name]:
                raise ValueError(f"rows[{place}]: {name} {value} is none of the family's levels")


def _damaged_description(path: UPath, problem: str) -> UserError:
    return UserError(
        f"{path} is damaged ({problem}). Delete this file and run the sweep's command again: its "
        "cells stay."
    )


def _as_record(cells: UPath, signature: str, content: Any) -> Record:
    path = cells / signature / "record.json"
    _check_format(path, content)
    try:
        record = from_plain(Record, unsealed(content, without="format"))
        if record.signature != signature:
            raise ValueError(f"it is that of {printable(record.signature)}")
        record.check()
    except ValueError as error:
        raise UserError(
            f"{path} is not a record of its cell ({one_line(error)}). Delete {path.parent} and run "
            "the sweep again to train it anew."
        ) from error
    return record


@dataclass(frozen=True, kw_only=True)
class _Reproduced:
    """What a report takes of a reproduction, by name and type."""

    exact: bool
    at_best: Mapping[str, float]


def _as_reproduction(path: UPath, content: bytes) -> dict[str, Any]:
    """Read a reproduction; what a report takes of it is as it must be."""
    try:
        plain = unsealed(parse_json(path, content))
        known = {each.name for each in fields(_Reproduced)}
        found = from_plain(_Reproduced, {n: v for n, v in plain.items() if n in known})
        if SELECTION_METRIC not in found.at_best:
            raise ValueError(f"at_best has no {SELECTION_METRIC}")
    except ValueError as error:
        raise UserError(
            f"{path} is not a reproduction ({one_line(error)}). Delete it, and reproduce the cell "
            "again with --cell."
        ) from error
    return plain


def _check_format(path: UPath, content: Any) -> None:
    """Refuse a file that is none of ours, or of another format."""
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format {printable(str(version))}, not {FORMAT_VERSION}. Move it away, or "
            "use the version of the code that wrote it."
        )


def sweep_folders(storage: UPath) -> list[UPath]:
    """Folders of the sweeps in a storage, by name.

    Raises:
        UserError: the storage can't be read.
    """
    folders = (storage / SWEEPS / name for name in names_in(storage / SWEEPS))
    return [folder for folder in folders if exists(folder / "sweep.json")]


def all_ledgers(storage: UPath) -> list[Ledger]:
    """Ledgers of the sweeps in a storage, by name.

    Raises:
        UserError: there is none, or the storage can't be read.
    """
    ledgers = list(map(Ledger, sweep_folders(storage)))
    if not ledgers:
        raise UserError(f"no sweep in {storage}. Run python sweeps/masking.py first.")
    return ledgers


def readable_ledgers(ledgers: Iterable[Ledger], task: str | None = None) -> list[Ledger]:
    """Those of ledgers that can be read, the one that was worked on last at the end.

    It says which are left out: they are damaged or of another format, and may be what was meant.

    Args:
        ledgers: of sweeps.
        task: that their cells must train; None for any.
    """
    found: list[tuple[str, Ledger]] = []
    for ledger in ledgers:
        try:
            description = ledger.description()
            if task in (None, description["task"]):
                found.append((description["updated_at"], ledger))
        except UserError as error:
            say(f"Left out: {error}")
    return [ledger for _, ledger in sorted(found, key=itemgetter(0))]


def find_ledger(storage: UPath, name: str | None = None, task: str | None = None) -> Ledger:
    """Return the ledger of a sweep by name, or of the sweep that was worked on last.

    Args:
        storage: of the sweeps.
        name: of the sweep, or its beginning, or words that are all in its name or in the subject
            and the title of its data: "masking sub_9".
        task: that its cells must train; None for any.

    Raises:
        UserError: there is none, none of that name, several that it fits, or it trains something
            else.
    """
    ledgers = {ledger.folder.name: ledger for ledger in all_ledgers(storage)}
    if name is None:
        readable = readable_ledgers(ledgers.values(), task)
        if not readable:
            kind = f"sweep of {task}" if task else "readable sweep"
            raise UserError(f"no {kind} in {storage}. Name another --storage.")
        return readable[-1]
    found = ledgers.get(name) or _meant(name, ledgers.values(), storage, task)
    if task not in (None, found.task()):
        kind = f"a sweep of {found.task()}, not of {task}"
        raise UserError(f"{found.folder.name} is {kind}. Name another.")
    return found


def _meant(name: str, ledgers: Iterable[Ledger], storage: UPath, task: str | None) -> Ledger:
    """The sweep that the beginning of a name means, or words about it.

    Raises:
        UserError: none, or several.
    """
    about = {ledger: _about(ledger) for ledger in readable_ledgers(ledgers, task)}
    found = [ledger for ledger in about if ledger.folder.name.startswith(name)]
    words = name.replace(",", " ").casefold().split()
    if not found and words:
        found = [
            ledger
            for ledger, text in about.items()
            if all(word in text.casefold() for word in words)
        ]
    if len(found) == 1:
        return found[0]
    shown = printable(", ".join(sorted(about[ledger] for ledger in found or about)), 170)
    if found:
        raise UserError(f"{printable(name)} fits {len(found)} sweeps: {shown}. Say more.")
    raise UserError(f"no sweep {printable(name)} in {storage}. Found: {shown or 'none'}.")


def _about(ledger: Ledger) -> str:
    """The name of a sweep, and of what data it is: "masking-1a2b3c4d (sub_9, Ant-Man)"."""
    dataset = ledger.description()["dataset"]
    data = ", ".join(str(dataset[each]) for each in ("subject", "title") if each in dataset)
    return f"{ledger.folder.name} ({data})" if data else ledger.folder.name
