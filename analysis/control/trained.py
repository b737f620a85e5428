"""Controls that need training: the best configuration on other signals, windows or splits.

Their cells are trained by the sweep's own engine and kept in its ledger, at its seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.control.scores import ControlScores
from analysis.measure.evaluation import evaluate_chosen, splits_of
from analysis.measure.further_cells import single_configurations, train_further
from analysis.options import TrainedControlName
from ssense.choices import SplitKind
from ssense.cli.screen import count, step
from ssense.data import shards
from ssense.data.dataset import Dataset
from ssense.data.recordings.readers.opening import open_source
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.segments import segment_spec
from ssense.data.recordings.surrogate import SURROGATES, Surrogate
from ssense.data.splits import leakage
from ssense.engine.core.cell import Configuration
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.sweep import Sweep
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.tasks.data_plan import first_meeting, first_poor_split
from ssense.engine.tasks.dataset_plan import DatasetPlan, plan_dataset
from ssense.engine.tasks.feature_making import make_shards
from ssense.errors import UserError, counted
from ssense.training.loop import SELECTION_RANK
from ssense.training.sentences import SentenceSpec

WINDOW_S = 3.0
"""Seconds of signal from before each sentence on, as in Defossez et al. (2023)."""


@dataclass(frozen=True, kw_only=True)
class TrainedControl:
    """How a control differs from the sweep.

    Attributes:
        title: Name as shown to people.
        subject: Subject of a sentence about what the control reaches.
        surrogate: Surrogate that stands in for the signals.
        window_s: Length of every segment, seconds.
        split: Kind of split in place of the sweep's.
    """

    title: str
    subject: str
    surrogate: Surrogate | None = None
    window_s: float | None = None
    split: SplitKind | None = None


TRAINED: dict[TrainedControlName, TrainedControl] = {
    "noise": TrainedControl(
        title="Gaussian noise of the same lengths",
        subject="The same training on Gaussian noise of the same lengths",
        surrogate="noise",
    ),
    "shifted": TrainedControl(
        title="signals shifted by half the recording",
        subject="The same training on signals from half a recording away",
        surrogate="shifted",
    ),
    "window": TrainedControl(
        title=f"windows of {WINDOW_S:g} s without padding",
        subject=f"The same training on windows of {WINDOW_S:g} s, which show no duration,",
        window_s=WINDOW_S,
    ),
    "blocked": TrainedControl(
        title="blocked splits with a gap",
        subject="The same training with whole stretches of the recording held out",
        split="blocked",
    ),
    "grouped": TrainedControl(
        title="repeated sentences kept together",
        subject="The same training with repeated sentences in one part of the split",
        split="grouped",
    ),
}


@dataclass(frozen=True)
class ControlPlan:
    """A control that was found to be possible, before anything of it is computed.

    Attributes:
        control: The control to train.
        data: Other data to make; None for the sweep's own.
    """

    control: TrainedControl
    data: DatasetPlan | None


def plan_control(
    control: TrainedControl, ledger: Ledger, dataset: Dataset, recording: str | None
) -> ControlPlan:
    """Check that a control can be trained.

    Args:
        control: The control to plan.
        ledger: The sweep's ledger.
        dataset: The dataset of the configuration that is controlled.
        recording: Folder that the sweep's data were made from, if it is no longer where the ledger
            says.

    Raises:
        UserError: The recording is missing or another, or its sentences are too few or their
            segments too long for a split.
    """
    sweep = ledger.description().sweep
    kind = control.split or _sentences(sweep).split
    data = None
    if control.surrogate or control.window_s:
        data = _other_data(control, ledger, dataset, recording, kind)
    if poor := first_poor_split(data or dataset, kind, sweep.seeds):
        seed, n_candidates = poor
        raise UserError(
            f"{control.title}: at seed {seed} "
            f"{counted(n_candidates, 'validation sentence is', 'validation sentences are')} left, "
            f"too few for Recall@{SELECTION_RANK}. Leave this control out."
        )
    if (meeting := first_meeting(data or dataset, kind, sweep.seeds)) is not None:
        raise UserError(
            f"{control.title}: segments are so long that parts of a {kind} split share samples at "
            f"seed {meeting}. Leave this control out."
        )
    return ControlPlan(control, data)


def run_trained_control(
    plan: ControlPlan,
    ledger: Ledger,
    search: Search,
    chosen: Mapping[str, Configuration],
    dataset: Dataset,
    cpus: int,
    gpus: float | None,
) -> tuple[Sweep, ControlScores]:
    """Train what the ledger lacks of a control, and evaluate it on its own test splits.

    Args:
        plan: Plan of the control.
        ledger: The sweep's ledger.
        search: The sweep's finished search.
        chosen: The one configuration to train, by family.
        dataset: The dataset of the configuration.
        cpus: CPU cores of one cell.
        gpus: Share of a GPU for one cell; None for one where there are GPUs.

    Returns:
        The sweep of its cells, and what it reaches.

    Raises:
        UserError: A cell fails, or the storage can't be written to.
    """
    control = plan.control
    dataset = dataset if plan.data is None else _made(control, plan.data)
    sweep = _control_sweep(control, search.sweep, chosen, dataset)
    what = f"for {control.title}"
    trained = train_further(what, sweep, search.records, ledger, lambda _: dataset, cpus, gpus)
    evaluation = evaluate_chosen(trained, chosen, ledger, lambda _: dataset)
    (configuration,) = chosen.values()
    splits = splits_of(dataset, sweep, configuration)
    overlapping = leakage(splits.values(), dataset.spans_s)
    if sweep.specification.split == "blocked" and overlapping:
        raise AssertionError(f"blocked splits of {dataset.digest} share samples")
    return sweep, ControlScores(
        scores=next(iter(evaluation.scores.values())),
        chance=evaluation.chance_by_seed,
        overlapping=overlapping,
        retrievals=next(iter(evaluation.retrievals.values())),
    )


def is_trained(
    plan: ControlPlan, search: Search, chosen: Mapping[str, Configuration], dataset: Dataset
) -> bool:
    """Whether a control needs no training, see `trained_cells`."""
    return trained_cells(plan, search, chosen, dataset) is not None


def trained_cells(
    plan: ControlPlan, search: Search, chosen: Mapping[str, Configuration], dataset: Dataset
) -> tuple[Search, Dataset] | None:
    """The finished search of a control's cells and their dataset; None where some are not trained.

    Args:
        plan: Plan of the control.
        search: The sweep's finished search.
        chosen: The one configuration to train, by family.
        dataset: The dataset of the configuration.

    Raises:
        UserError: Its data are damaged.
    """
    if plan.data is not None:
        if not plan.data.is_made():
            return None
        dataset = _made(plan.control, plan.data)
    sweep = _control_sweep(plan.control, search.sweep, chosen, dataset)
    found = Search(sweep, Full(), (), search.records)
    return None if found.left() else (found, dataset)


def _control_sweep(
    control: TrainedControl, sweep: Sweep, chosen: Mapping[str, Configuration], dataset: Dataset
) -> Sweep:
    """The sweep of a control's cells: the chosen configuration on other data or splits."""
    specification = _sentences(sweep)
    return replace(
        sweep,
        dataset_digest=dataset.digest,
        datasets={},  # every cell is of the control's
        specification=replace(specification, split=control.split or specification.split),
        families=single_configurations(chosen),
        configurations=1,
    )


def _sentences(sweep: Sweep) -> SentenceSpec:
    """The specification of a sweep's cells; controls are of sweeps over sentences alone."""
    assert isinstance(sweep.specification, SentenceSpec)
    return sweep.specification


def _made(control: TrainedControl, data: DatasetPlan) -> Dataset:
    """The dataset of a plan, computed where it is not there."""
    from ssense.engine.work.workers import running_ray

    if not data.is_made():
        with step(f"Spectrograms: {control.title}"), running_ray():
            make_shards(data.features, data.report, on_shard=count("shards"))
    return data.load()


def _other_data(
    control: TrainedControl,
    ledger: Ledger,
    dataset: Dataset,
    recording: str | None,
    kind: SplitKind,
) -> DatasetPlan:
    """A dataset of a sweep again, with other signals or other windows."""
    kept, storage = ledger.description().origin, ledger.storage
    assert isinstance(kept, RecordingOrigin)
    own = kept.dataset(dataset.digest)
    manifest = shards.read_manifest(storage / "shards" / own.shards)
    origin = manifest.origin
    source = kept.source or RecordingSource(
        place=kept.recording, subject=origin["subject"], trial=origin["trial"]
    )
    source = replace(source, place=recording or source.place)
    if source.is_shared and not Path(source.place).exists():
        raise UserError(
            f"the recording of {ledger.folder.name} is not in {source.place}, and "
            f"{control.title} need its signals. Say where it is with `recording`."
        )
    found = open_source(source)
    if found.digest != origin["recording"]:
        raise UserError(
            f"{source.place} is not the recording that {ledger.folder.name} was made from: its "
            "files have changed. Give that one with `recording`."
        )
    segments = segment_spec(manifest.settings["segments"])
    if control.window_s:
        segments = replace(segments, window_s=control.window_s, pad_to=None)
    plan = plan_dataset(
        SURROGATES[control.surrogate].of(found) if control.surrogate else found,
        segments,
        shards.feature_spec(manifest.settings["superlets"]),
        own.text,
        storage,
        kind,
    )
    # Other windows are of other sentences.
    paired = None if control.window_s else dataset.paired
    return replace(plan, paired=paired, electrodes=own.electrodes)
