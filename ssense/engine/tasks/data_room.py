"""What the datasets of a sweep take: time to make, room on a disk and in memory."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from upath import UPath

from ssense.cli.screen import duration, gigabytes
from ssense.data.splits import Split, leakage
from ssense.engine.core.cell import Configuration, describe
from ssense.engine.tasks.dataset_plan import DatasetPlan
from ssense.engine.tasks.feature_plan import FeaturePlan
from ssense.errors import UserError, counted
from ssense.files.storage import is_local
from ssense.signal.band_power import BandPowerSpec
from ssense.signal.features import AnyFeatureSpec
from ssense.signal.features import features as features_of
from ssense.signal.features import reach_s as reach_s_of
from ssense.signal.frames import clipped_samples
from ssense.training.process import usable_cores

_PROBED = 8  # segments of a probe, as many as a row group has
_PROBED_VALUES = 2 * 10**6  # at most, or those of one segment
_PROBED_ROWS = 200  # frequencies of a recipe at most
_MOST_LINES = 10  # datasets that share the features of another and have a line each
_IN_TRANSFORM = 0.7  # of the making; the rest reads, filters and writes


@dataclass(frozen=True)
class Choice:
    """A dataset that configurations ask for.

    Attributes:
        changes: The fields by which it differs from that of the specification.
        plan: The dataset before it is made.
    """

    changes: Configuration
    plan: DatasetPlan

    @property
    def name(self) -> str:
        """What it is called where datasets are told apart: "bipolar", "context after 2 s"."""
        return describe(self.changes) if self.changes else "as specified"


def choice_lines(own: DatasetPlan, choices: Sequence[Choice], splits: Sequence[Split]) -> list[str]:
    """Say what the datasets are, what each takes and which sentences each lacks, a line each.

    Args:
        own: The dataset of the specification.
        choices: All that configurations ask for.
        splits: The splits of the sweep's seeds, the same for all of them.
    """
    n_kept, n_own = len(own.rows), len(own.features.segments)
    whole = "" if n_kept == n_own else f" (of {n_own:,} of the specification's own)"
    size = gigabytes(sum(choice.plan.nbytes for choice in choices))
    all_leak, leaks = _leaks(own, choices, splits)
    return [
        f"  data: {counted(len(choices), 'dataset')} of the same {counted(n_kept, 'sentence')}"
        f"{whole}, {size} in memory{all_leak}",
        *_in_lines(own, choices, leaks),
        *_beyond_windows(choices),
    ]


def _in_lines(own: DatasetPlan, choices: Sequence[Choice], leaks: Sequence[str]) -> Iterator[str]:
    """A line for each dataset, but one for many that take the features of the same other."""
    sharing: dict[str, list[Choice]] = {}
    for choice in choices:
        sharing.setdefault(choice.plan.features.folder.name, []).append(choice)
    for choice, leak in zip(choices, leaks, strict=True):
        first, *others = sharing[choice.plan.features.folder.name]
        if choice is first or len(others) <= _MOST_LINES:
            yield f"    {choice.name}: {_made_of(choice, choices)}{leak}{_lost(own, choice)}"
        elif choice is others[0]:
            sizes = [each.plan.shape[1] for each in others]
            least, most = min(sizes), max(sizes)
            has = counted(most, "electrode") if least == most else f"{least} to {most} electrodes"
            yield (
                f"    {len(others)} more, {others[0].name} to {others[-1].name}: {has} each, the "
                f"features of {first.name}"
            )


def _beyond_windows(choices: Sequence[Choice]) -> list[str]:
    """How far features of windows that begin anywhere see beyond these windows."""
    plans = (choice.plan.features for choice in choices)
    found = next((plan for plan in plans if plan.data.window_start_s is not None), None)
    if found is None:
        return []
    rate_hz, labels = found.sampling_rate_hz, found.recipe.row_labels
    cut_s = clipped_samples(found.recipe) / rate_hz
    reach_s = reach_s_of(found.recipe, rate_hz, cut_s)
    ends = {f"{_row(labels[at])} {reach_s[at]:.2f} s": None for at in (0, -1)}
    return [
        f"    a frame sees beyond its window by up to {', '.join(ends)}; signals are cut "
        f"{cut_s:.2f} s before and behind the window"
    ]


def _row(label: float | str) -> str:
    return label if isinstance(label, str) else f"{label:.3g} Hz"


def _leaks(
    own: DatasetPlan, choices: Sequence[Choice], splits: Sequence[Split]
) -> tuple[str, list[str]]:
    """How many test segments share samples with training: of all, and of each where that differs.

    Nothing is said of all where it is as of the specification's own, of which its report says it.
    """
    shares = [f"{leakage(splits, choice.plan.spans_s):.0%}" for choice in choices]
    words = [f"; {each} of the test segments share samples with training" for each in shares]
    if len({*shares}) > 1:
        each_of = [word.replace("the test", "its test") for word in words]
        return "", each_of
    is_as_own = shares[0] == f"{leakage(splits, own.spans_s):.0%}"
    return "" if is_as_own else words[0], [""] * len(choices)


def _made_of(choice: Choice, choices: Sequence[Choice]) -> str:
    features = choice.plan.features
    _, electrodes, frequencies, frames = choice.plan.shape
    size = f"{counted(electrodes, 'electrode')}, {frequencies} x {frames}"
    first = next(each for each in choices if each.plan.features.folder == features.folder)
    if first is not choice:
        return f"{size}, the features of {first.name}"
    if features.is_made():
        return f"{size}, there already"
    return f"{size}, to make: {gigabytes(features.nbytes)}, about {duration(_seconds(features))}"


def _lost(own: DatasetPlan, choice: Choice) -> str:
    """Sentences of the specification's own dataset that a choice does not keep, by reason."""
    lost = choice.plan.features.segments.left_out
    reasons = Counter(
        lost[number] for number in own.features.segments.sentence_idx.tolist() if number in lost
    )
    listed = ", ".join(f"{why}: {n}" for why, n in reasons.items())
    return f"; lacks {counted(reasons.total(), 'sentence')} ({listed})" if reasons else ""


def _seconds(features: FeaturePlan) -> float:
    """Estimate what making features takes on the cores of this machine, by a short probe.

    Of a recipe with very many frequencies a part is probed, which takes no more memory.
    """
    n_sentences, n_electrodes, n_frequencies, n_frames = features.shape
    values = max(features.segments.n_samples, n_frequencies * n_frames)
    n_probed = min(_PROBED, n_sentences, max(1, _PROBED_VALUES // values))
    noise = torch.from_numpy(
        np.random.default_rng(0).standard_normal(
            (n_probed, features.segments.n_samples), np.float32
        )
    )
    recipe, part = _probed(features.recipe)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(2):  # the first also plans the transform
            start = time.perf_counter()
            features_of(noise, features.sampling_rate_hz, recipe)
            seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    segments = n_sentences * n_electrodes / n_probed
    return seconds / part * segments / _IN_TRANSFORM / usable_cores()


def _probed(recipe: AnyFeatureSpec) -> tuple[AnyFeatureSpec, float]:
    """The recipe with as many frequencies as a probe computes, and which part that is of all."""
    if isinstance(recipe, BandPowerSpec) or recipe.n_frequencies <= _PROBED_ROWS:
        return recipe, 1.0
    fewer = replace(recipe, n_frequencies=_PROBED_ROWS)
    return fewer, _PROBED_ROWS / recipe.n_frequencies


def check_room(
    plans: Iterable[DatasetPlan], storage: UPath, shared: int | None, whole: int | None = None
) -> None:
    """Refuse datasets that neither disk nor memory has room for, before anything is made.

    Several have to lie in the memory that cells share. What a single one takes beyond that, Ray
    keeps on the disk, but it is loaded as a whole first.

    Args:
        plans: The datasets.
        storage: Storage that will have their features.
        shared: Bytes of memory that cells on a machine share; None where that is not known.
        whole: Bytes of memory of the machine; None where that is not known.

    Raises:
        UserError: There is not enough room; the message has what is needed.
    """
    plans = list(plans)
    needed = sum(plan.nbytes for plan in plans)
    datasets = counted(len(plans), "dataset takes", "datasets take")
    if whole is not None and needed > whole:
        raise UserError(
            f"{datasets} {gigabytes(needed)} of memory on every machine, and this one has "
            f"{gigabytes(whole)}. Give coarser features{' or fewer levels' * (len(plans) > 1)}."
        )
    if shared is not None and len(plans) > 1 and needed > shared:
        raise UserError(
            f"{datasets} {gigabytes(needed)} of memory on every machine, and cells can share "
            f"{gigabytes(shared)}. Give fewer levels of the data, or coarser features."
        )
    missing = {each.folder: each for plan in plans if not (each := plan.features).is_made()}
    to_write = sum(features.nbytes for features in missing.values())
    free = _free_bytes(storage)
    if free is not None and to_write > free:
        raise UserError(
            f"{storage} has {gigabytes(free)} free, and {counted(len(missing), 'dataset')} to "
            f"make: {gigabytes(to_write)}. Make room, or give another storage."
        )


def _free_bytes(storage: UPath) -> int | None:
    """Free bytes of the disk of a storage; None in an object store."""
    if not is_local(storage):
        return None
    there = Path(str(storage)).absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free
