"""The origin of an evaluation: what was run, on what data, and by what."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from upath import UPath

from analysis.control.scores import ControlScores
from analysis.measure.looks import count_looks
from ssense.cli.command import shell_command
from ssense.data.paired import PairedStimuli, read_paired
from ssense.data.shards import read_manifest
from ssense.engine.core.cell import Configuration, describe
from ssense.engine.core.origin import DatasetOrigin, RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.provenance import code_versions
from ssense.engine.search.search import Search
from ssense.engine.tasks.feature_making import DATA_REPORT
from ssense.errors import UserError, one_line
from ssense.files.digest import digest
from ssense.files.storage import read_whole
from ssense.retrieval import METRICS
from ssense.specification import settings

Facts = Sequence[tuple[str, str]]
"""Facts as pairs of a name and words."""

CONTROLS = "controls/controls.csv"
CONTROLS_IN_WORDS = "controls/controls.txt"
CONTROLS_VERDICT = "controls/verdict.txt"

_DATA_LINE = re.compile(r"\*\*(?P<name>[^*\n]+):\*\* (?P<words>.+)")


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptControls:
    """The controls of a sweep as they were run last.

    Attributes:
        scores: Scores by control.
        origins: What each control was run for: family, configuration in words, seed.
    """

    scores: Mapping[str, ControlScores]
    origins: Mapping[str, Sequence[tuple[str, str, int]]]

    def belong_to(self, family: str, configuration: str, seeds: Sequence[int]) -> bool:
        """Whether every control was run for this configuration at these seeds."""
        wanted = sorted((family, configuration, seed) for seed in seeds)
        return all(sorted(found) == wanted for found in self.origins.values())


def sweep_facts(ledger: Ledger, search: Search) -> Facts:
    """What was run: families, configurations, seeds, policy, and how far it came."""
    sweep, counts = search.sweep, search.matrix().counts()
    proposed = (
        f"{family.name}: {len(search.configurations(family))} of {family.size} possible"
        for family in sweep.families
    )
    return [
        ("Sweep", sweep.name),
        ("Configurations", "; ".join(proposed)),
        ("Seeds", f"{len(sweep.seeds)}: {' '.join(map(str, sweep.seeds))}"),
        ("Policy", f"{ledger.description().policy}, by which configurations are given seeds"),
        ("Cells", ", ".join(f"{n} {state}" for state, n in counts.items() if n)),
        ("Unless a row says otherwise", _settings(_shared_settings(sweep))),
    ]


def _shared_settings(sweep: Sweep) -> dict[str, object]:
    """What all cells share of the specification: no field that a family varies, or varies with."""
    swept = {name for family in sweep.families for name in family.levels}
    return {
        name: value
        for name, value in settings(sweep.specification).items()
        if name != "contacts" and not swept & {name, name.partition(".")[0]}
    }


def data_facts(
    ledger: Ledger,
    description: Description,
    origin: RecordingOrigin,
    chosen: Mapping[str, Configuration],
    sizes: Mapping[str, float],
    leaks: Mapping[str, float],
) -> Facts:
    """On what: recording, sentences, electrodes, and the lines of the data reports, warnings too.

    What is true of the data of every family is said once.

    Args:
        ledger: The sweep's ledger.
        description: The sweep's description.
        origin: The origin of its sentences.
        chosen: The evaluated configuration of each family, whose data are named.
        sizes: Sentences in parts of the split, means over seeds.
        leaks: Share of the test segments that share samples with training, means over seeds, by
            the digest of the dataset.

    Raises:
        UserError: The folder of the shards is damaged.
    """
    sweep = description.sweep
    parts = ", ".join(f"{n:.0f} {part}" for part, n in sizes.items())
    used = {family: origin.dataset(sweep.dataset_of(each)) for family, each in chosen.items()}
    folders = ledger.storage / "shards"
    known = {each.digest: _dataset_facts(folders, each, leaks) for each in used.values()}
    first = next(iter(known.values()))
    common = [fact for fact in first if all(fact in facts for facts in known.values())]
    paired = next(iter(used.values())).paired
    return [
        ("Recording", f"{origin.subject}, {origin.title}"),
        ("Split", f"{sweep.specification.split}, by seed: {parts} (means over seeds)"),
        *(_paired_facts(read_paired(ledger.storage, paired)) if paired else []),
        *common,
        *(
            (f"Data of {family}", _in_words(each, known[each.digest], common))
            for family, each in used.items()
            if len(known) > 1
        ),
    ]


def _dataset_facts(
    folders: UPath, origin: DatasetOrigin, leaks: Mapping[str, float]
) -> list[tuple[str, str]]:
    """What is known of a dataset; its features may be of more sentences, which have no leakage."""
    electrodes = origin.electrodes or read_manifest(folders / origin.shards).electrodes
    report = data_report(folders / origin.shards / DATA_REPORT)
    leak = leaks.get(origin.digest)
    return [
        ("Target", origin.tower),
        ("Electrodes", f"{len(electrodes)}: {', '.join(electrodes)}"),
        *(fact for fact in report if fact[0] != _LEAKAGE),
        *([(_LEAKAGE, f"{100 * leak:.0f} % {_OF_TEST}")] if leak is not None else []),
    ]


_LEAKAGE = "Leakage"
_OF_TEST = "of the test segments share samples with training (mean over the splits tested)"


def _paired_facts(paired: PairedStimuli) -> Facts:
    """Which sentences all datasets have in common."""
    return [
        (
            "Common sentences",
            f"{len(paired):,}, those that every dataset of the sweep and that of its "
            "specification keep. Other lines count all that the features are of.",
        )
    ]


def _in_words(origin: DatasetOrigin, facts: Facts, common: Facts) -> str:
    """What tells the dataset of a family from those of others."""
    return "; ".join(
        [
            describe(origin.changes) if origin.changes else "as specified",
            *(
                f"{name}: {words.rstrip('.')}"
                for name, words in facts
                if (name, words) not in common
            ),
            f"dataset {origin.digest}",
        ]
    )


def provenance_facts(ledger: Ledger, records: Iterable[Record], written_at: str) -> Facts:
    """What the results were made with: code, libraries, devices, dates, digests and looks.

    Args:
        ledger: The sweep's ledger.
        records: Records of the cells that were evaluated, or that the evaluated ones were chosen
            among.
        written_at: When the report is written.
    """
    done = [record for record in records if record.done]
    description = ledger.description()
    versions = (
        f"{version.digest}"
        + f", commit {version.commit[:7]}" * bool(version.commit)
        + " with changes" * version.dirty
        + f", {version.cells} cell{'s' * (version.cells != 1)}"
        for version in code_versions(done)
    )
    libraries = {" ".join(part) for record in done for part in record.versions.items()}
    finished = sorted(record.finished_at for record in done)
    return [
        ("Report written", written_at),
        ("Cells finished", f"{finished[0]} to {finished[-1]}"),
        ("Code", "; ".join(versions)),
        ("Versions", ", ".join(sorted(libraries))),
        ("Requirements", _listed(record.requirements_digest for record in done)),
        ("Devices", _listed(record.device for record in done)),
        ("Dataset", description.sweep.dataset_digest),
        ("Encoders", f"digest {digest(sorted(record.weights_digest for record in done))}"),
        ("Looks at test splits", str(count_looks(ledger))),
    ]


def controls_command(ledger: Ledger) -> str:
    """What to type to run the controls of a sweep."""
    return shell_command("analysis/controls.py", storage=ledger.storage, sweep=ledger.folder.name)


def read_controls(ledger: Ledger) -> KeptControls | None:
    """Read the table of the controls; None where none were run.

    Raises:
        UserError: The file is not such a table, or a value is not a finite number.
    """
    path = ledger.folder / CONTROLS
    try:
        content = read_whole(path)
    except FileNotFoundError:
        return None
    try:
        return _controls(csv.DictReader(io.StringIO(content.decode())))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(
            f"{path} is not a table of controls, seeds and metrics ({one_line(error)}). Delete "
            "it, or "
            f"run {controls_command(ledger)} again."
        ) from error


def control_words(ledger: Ledger) -> list[str]:
    """How much of the score each control reaches, a sentence each; empty where none was run."""
    return _lines(ledger, CONTROLS_IN_WORDS)


def control_verdict(ledger: Ledger) -> str:
    """Whether a control without a brain explains the score, as a clause; empty where none ran."""
    return " ".join(_lines(ledger, CONTROLS_VERDICT))


def _lines(ledger: Ledger, file: str) -> list[str]:
    path, again = ledger.folder / file, f"Run {controls_command(ledger)} again."
    return (_text(path, again) or "").splitlines()


def _text(path: UPath, advice: str) -> str | None:
    """The text of a file; None where there is none.

    Args:
        path: Path of the file.
        advice: What to do where it is damaged.

    Raises:
        UserError: It is no UTF-8.
    """
    try:
        return read_whole(path).decode()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged ({one_line(error)}). {advice}") from error


def _controls(rows: Iterable[Mapping[str, str]]) -> KeptControls:
    by_name: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        by_name[row["control"]].append(row)
    if not by_name:
        raise ValueError("it has no rows")
    return KeptControls(
        scores={name: _scores(found) for name, found in by_name.items()},
        origins={
            name: [(row["family"], row["configuration"], int(row["seed"])) for row in found]
            for name, found in by_name.items()
        },
    )


def _scores(rows: Sequence[Mapping[str, str]]) -> ControlScores:
    return ControlScores(
        scores={m: np.array([_finite(row, m) for row in rows]) for m in METRICS},
        chance={m: np.array([_finite(row, f"{m}_chance") for row in rows]) for m in METRICS},
    )


def _finite(row: Mapping[str, str], column: str) -> float:
    value = float(row[column])
    if not math.isfinite(value):
        raise ValueError(f"{column} of {row['control']}, seed {row['seed']}, is {value}")
    return value


def data_report(path: UPath) -> Facts:
    """The summary of the recording's data report, which the precompute keeps with the shards."""
    text = _text(path, f"Delete {path.parent} and run the sweep again, which makes both.")
    if text is None:
        return [("Data report", "none was kept with the spectrograms")]
    return [(line["name"], line["words"]) for line in _DATA_LINE.finditer(text)]


def _settings(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value})) or "not noted"
