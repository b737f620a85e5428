"""The origin of an evaluation: what was run, on what data, and by what."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from upath import UPath

from analysis.looks import count_looks
from ssense.data.shards import read_manifest
from ssense.digest import digest
from ssense.errors import UserError, one_line
from ssense.retrieval import METRICS
from ssense.storage import read_whole
from sweeps.engine.ledger import Ledger, Record
from sweeps.engine.provenance import code_versions
from sweeps.engine.search import Search
from sweeps.engine.tracking import DATA_REPORT

Facts = Sequence[tuple[str, str]]
"""What is known, as pairs of a name and words."""

CONTROLS = "controls/controls.csv"
CONTROLS_IN_WORDS = "controls/controls.txt"

_DATA_LINE = re.compile(r"\*\*(?P<name>[^*\n]+):\*\* (?P<words>.+)")


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
        ("Policy", f"{ledger.policy()}, by which configurations are given seeds"),
        ("Cells", ", ".join(f"{n} {state}" for state, n in counts.items() if n)),
        ("Training", _settings(asdict(sweep.training))),
    ]


def data_facts(ledger: Ledger, folder: UPath, sizes: Mapping[str, int]) -> Facts:
    """On what: recording, sentences, electrodes, and the lines of the data report, warnings too.

    Args:
        ledger: of the sweep.
        folder: of its shards.
        sizes: sentences in each part of the split.

    Raises:
        UserError: the shard folder is damaged.
    """
    dataset, manifest = ledger.description()["dataset"], read_manifest(folder)
    parts = ", ".join(f"{n} {part}" for part, n in sizes.items())
    return [
        ("Recording", f"{dataset['subject']}, {dataset['title']}"),
        ("Text tower", dataset["text"]),
        ("Split", f"{ledger.sweep().training.split}, by seed: {parts}"),
        ("Electrodes", f"{len(manifest.electrodes)}: {', '.join(manifest.electrodes)}"),
        *_data_report(folder / DATA_REPORT),
    ]


def provenance_facts(ledger: Ledger, records: Iterable[Record], written_at: str) -> Facts:
    """By what: code, libraries, devices, dates, digests and looks.

    Args:
        ledger: of the sweep.
        records: of the cells that count.
        written_at: when the report is written.
    """
    done = [record for record in records if record.done]
    dataset = ledger.description()["dataset"]
    versions = (
        f"{version.digest}"
        + f", commit {version.commit[:7]}" * bool(version.commit)
        + " with changes" * version.dirty
        + f", {version.cells} cells"
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
        ("Dataset", f"{dataset['digest']}, of the shards {dataset['shards']}"),
        ("Encoders", f"digest {digest(sorted(record.encoder_digest for record in done))}"),
        ("Looks at test splits", str(count_looks(ledger))),
    ]


def control_scores(ledger: Ledger) -> dict[str, dict[str, np.ndarray]]:
    """Test scores by control and metric, `[seeds]`, as fractions; empty where none was run.

    Raises:
        UserError: the table of the controls is not one.
    """
    path = ledger.folder / CONTROLS
    try:
        text = read_whole(path).decode()
    except FileNotFoundError:
        return {}
    found: dict[str, list[list[float]]] = {}
    try:
        for row in csv.DictReader(io.StringIO(text)):
            values = [float(row[metric]) for metric in METRICS]
            found.setdefault(row["control"], []).append(values)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is no table of control, seed and metrics ({one_line(error)}). Delete it, or "
            "run python analysis/controls.py again."
        ) from error
    return {
        control: dict(zip(METRICS, np.array(values).T, strict=True))
        for control, values in found.items()
    }


def control_words(ledger: Ledger) -> list[str]:
    """How much of the score each control reaches, a sentence each; empty where none was run."""
    try:
        return read_whole(ledger.folder / CONTROLS_IN_WORDS).decode().splitlines()
    except FileNotFoundError:
        return []


def _data_report(path: UPath) -> Facts:
    """The summary of the recording's data report, which the precompute keeps with the shards."""
    try:
        found = _DATA_LINE.finditer(read_whole(path).decode())
    except FileNotFoundError:
        return [("Data report", "none was kept with the spectrograms")]
    return [(line["name"], line["words"]) for line in found]


def _settings(values: Mapping[str, object]) -> str:
    plain = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in plain.items())


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted({value for value in values if value})) or "not noted"
