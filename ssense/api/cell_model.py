"""The trained model of a cell, put together from what the storage has of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ssense.api.dataset import SweepDataset
from ssense.cli.command import shell_command
from ssense.data.recordings.electrodes import kept_electrodes
from ssense.data.recordings.readers.opening import open_source
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.resampled import at_rate
from ssense.data.recordings.segments import SegmentSpec
from ssense.decoder.held_out import held_out_of
from ssense.decoder.preprocessing import Preprocessing
from ssense.decoder.trained_model import TrainedModel, rebuilt
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger, WeightsNotKeptError
from ssense.engine.records.provenance import split_digest
from ssense.errors import UserError
from ssense.files.source_code import code_digest
from ssense.signal.referencing import Derivation
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

if TYPE_CHECKING:
    import pandas as pd


def model_of(ledger: Ledger, record: Record, dataset: SweepDataset) -> TrainedModel:
    """Put together the trained model of a cell.

    Args:
        ledger: The ledger of its sweep.
        record: The cell's record.
        dataset: The data that it was trained on.

    Raises:
        UserError: The encoder was deleted, the cell belongs to a control, or what it was made from
            is not there or not the same.
    """
    shared = ledger.description().sweep.specification
    assert isinstance(shared, SentenceSpec)
    specification = configured(shared, record.configuration)
    _check_code(record)
    if record.dataset_digest != dataset.digest:
        raise _of_a_control(record)
    weights, held_out = _weights(ledger, record), _held_out(record, specification, dataset)
    again = f"Delete {ledger.cell_folder(record.signature)} and run the sweep again."
    return TrainedModel(
        specification=specification,
        preprocessing=_preprocessing(ledger, dataset, specification),
        encoder=rebuilt(specification, weights, f"the encoder of cell {record.signature}", again),
        signature=record.signature,
        configuration=dict(record.configuration),
        seed=record.seed,
        code_digest=record.code_digest,
        dataset_digest=dataset.digest,
        recording_digest=dataset.manifest.origin["recording"],
        held_out=frozenset(held_out["sentence_idx"].tolist()),
        held_out_sentences=held_out_of(held_out["text"].tolist(), held_out["onset_s"].tolist()),
    )


def _check_code(record: Record) -> None:
    if record.code_digest != code_digest():
        warnings.warn(
            f"cell {record.signature} was trained by another version of the code "
            f"({record.code_digest[:8]}, this is {code_digest()[:8]}): its embeddings may differ.",
            stacklevel=4,
        )


def _weights(ledger: Ledger, record: Record) -> Mapping[str, Tensor]:
    try:
        return ledger.weights(record)
    except WeightsNotKeptError:
        command = shell_command("sweeps/masking.py", storage=ledger.storage, cell=record.signature)
        raise WeightsNotKeptError(
            f"the encoder of cell {record.signature} was deleted, as no evaluation asked for it. "
            f"This makes it again: {command}"
        ) from None


def _preprocessing(
    ledger: Ledger, dataset: SweepDataset, specification: SentenceSpec
) -> Preprocessing:
    manifest, data = dataset.manifest, specification.data
    derivations = manifest.derivations or _derived_again(ledger, dataset, data)
    by_name = {each.name: each for each in derivations}
    return Preprocessing(
        data=data,
        features=specification.features,
        recorded_hz=manifest.origin["recording_rate_hz"],
        sampling_rate_hz=manifest.sampling_rate_hz,
        derivations=tuple(by_name[name] for name in dataset.electrodes),
        n_samples=data.padded_samples(dataset.longest_samples),
    )


def _derived_again(
    ledger: Ledger, dataset: SweepDataset, data: SegmentSpec
) -> tuple[Derivation, ...]:
    """What electrodes are made of, by the recording: earlier shards do not say it.

    Raises:
        UserError: The recording is not where it was, or is another one.
    """
    origin, made = ledger.description().origin, dataset.manifest.origin
    assert isinstance(origin, RecordingOrigin)
    sweep, named = ledger.folder.name, {"subject": made["subject"], "trial": made["trial"]}
    source = origin.source or RecordingSource(place=origin.recording, **named)
    advice = "Put it back there: shards of earlier versions do not say what electrodes are made of."
    if source.is_shared and not Path(source.place).exists():
        raise UserError(f"the recording of {sweep} is not in {source.place}. {advice}")
    recording = at_rate(open_source(source), data.resample_hz)
    if recording.digest != made["recording"]:
        raise UserError(f"{source.place} is not the recording of {sweep} now. {advice}")
    return kept_electrodes(recording, data.electrodes, data.reference)


def _held_out(record: Record, specification: SentenceSpec, dataset: SweepDataset) -> pd.DataFrame:
    """Sentences of the cell's test split, rows of `SweepDataset.stimuli`."""
    split = dataset.split(record.seed)
    if record.split_digest not in ("", split_digest(specification.cell_split(split, record.seed))):
        raise _of_a_control(record)
    return dataset.stimuli.iloc[split.test]


def _of_a_control(record: Record) -> UserError:
    return UserError(
        f"cell {record.signature} was trained on other data or splits than its sweep's: it belongs "
        "to a control, or they have changed. Choose a cell of the sweep itself."
    )
