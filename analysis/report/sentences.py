"""What a report says of sweeps over sentences: their splits, their controls, their repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.control.scores import PRIMARY, control_rows
from analysis.measure.electrodes import TriedElectrodes, tried_electrodes
from analysis.measure.evaluation import Evaluation
from analysis.measure.seed_results import FRESH_SEEDS, candidates
from analysis.report.figures import bar_figure
from analysis.report.findings import explained_by, is_above, repeats_note
from analysis.report.material import TaskReport, plain_verdict
from analysis.report.origin import (
    Facts,
    KeptControls,
    control_verdict,
    control_words,
    controls_command,
    data_facts,
    read_controls,
)
from analysis.report.page import Block, Grid, Picture, Points, Words
from ssense.data.dataset import Dataset
from ssense.data.paired import PairedStimuli, read_paired
from ssense.data.shards import feature_spec, read_manifest, read_sentences
from ssense.data.splits import GAP_S, leakage
from ssense.engine.core.cell import describe
from ssense.engine.core.origin import DatasetOrigin, RecordingOrigin
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.engine.tasks.dataset_plan import made_up_pairs
from ssense.engine.tasks.encoder_room import trained_weights
from ssense.engine.tasks.feature_plan import spans_s
from ssense.retrieval import METRICS, metric_title
from ssense.signal.frames import clipped_samples
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

PUBLISHED = {
    "no masking": ("1.20 ± 0.54", "10.68 ± 1.40", "40.58 ± 2.29", "0.0498 ± 0.0049"),
    "electrode": ("0.72 ± 0.25", "9.00 ± 1.21", "40.00 ± 1.76", "0.0446 ± 0.0044"),
    "frequency-time": ("0.99 ± 0.44", "9.65 ± 1.41", "38.69 ± 2.75", "0.0475 ± 0.0062"),
    "electrode + frequency-time": (
        "1.06 ± 0.57",
        "9.38 ± 1.78",
        "40.37 ± 1.78",
        "0.0465 ± 0.0077",
    ),
}
"""Table 1 of SSENSE: sub_9, Ant-Man, ten seeds; recalls in percent."""

SPLITS: dict[str, str] = {
    "random": "",
    "grouped": ", repeated ones kept together",
    "blocked": f" in whole stretches of the recording, at least {GAP_S:g} s from all others",
    "held-out": f" at the end of the recording, at least {GAP_S:g} s behind all others and the "
    "same for every seed, so that claims are about these sentences",
}
"""What is said of test splits of each kind."""


AGAIN = (
    "Fresh seeds lessen what the choice owes to its seeds, not to these sentences: they deal out "
    "the same ones again, and the search has trained and validated on most of them. A sweep with "
    "held-out splits has a test split that none of its seeds touches. "
)
"""What is said of fresh seeds whose test splits are not apart from the search."""

NO_CONTROLS = (
    "No controls were run, so nothing here says how much of the score sentence length alone or "
    "the place in the movie would reach. Run: {}"
)
OLD_CONTROLS = (
    "The controls that were run last are of another configuration or of other seeds than the best "
    "configuration of the search, and are left out. Run again: {}"
)


@dataclass(frozen=True, kw_only=True)
class SentenceReport(TaskReport):
    """What a report says of a sweep over sentences.

    Attributes:
        ledger: The ledger of the sweep.
        description: Its description.
        origin: Where its sentences come from.
        stimuli: The sentences of the dataset.
        controls: The controls as they were run last; None where they were not.
        shards: Folder of the dataset's features, below the storage's shards.
        paired: The sentences of the shards that the dataset has; None where it has all of them.
    """

    ledger: Ledger
    description: Description
    origin: RecordingOrigin
    stimuli: Sequence[str]
    controls: KeptControls | None
    shards: str
    paired: PairedStimuli | None

    @classmethod
    def of(
        cls, ledger: Ledger, description: Description, origin: RecordingOrigin, dataset: Dataset
    ) -> SentenceReport:
        """Read what was kept with a sweep.

        Raises:
            UserError: The table of controls is damaged.
        """
        return cls(
            ledger=ledger,
            description=description,
            origin=origin,
            stimuli=dataset.stimuli,
            controls=read_controls(ledger),
            shards=origin.dataset(dataset.digest).shards,
            paired=dataset.paired,
        )

    @property
    def _split(self) -> str:
        return self.description.sweep.specification.split

    def tested(self, evaluation: Evaluation) -> str:
        """What was tested, and among what."""
        return (
            f"{self.origin.subject}, {self.origin.title}: held-out test splits of "
            f"{candidates(evaluation)} sentences{SPLITS[self._split]}"
        )

    def caption_end(self, protocol: str) -> str:
        """Say what fresh seeds leave open, and what the sentences were embedded by."""
        again = AGAIN if protocol == FRESH_SEEDS and self._split != "held-out" else ""
        return f"{again}{tower_words(self.origin)}"

    def spoken_s(self) -> np.ndarray:
        """Spoken duration of each sentence, from its first word's onset to its last one's offset.

        Raises:
            UserError: A shard is missing or damaged.
        """
        table = read_sentences(self.ledger.storage / "shards" / self.shards)
        onset, offset = (np.array(table[name], np.float64) for name in ("onset_s", "offset_s"))
        spoken_s = np.subtract(offset, onset)
        if self.paired is None:
            return spoken_s
        return np.take(spoken_s, self.paired.rows_in(np.array(table["sentence_idx"])))

    def clipped_s(self) -> float:
        """Signal at each end of a segment whose features are clipped, seconds.

        Raises:
            UserError: The folder of the shards is damaged.
        """
        manifest = read_manifest(self.ledger.storage / "shards" / self.shards)
        recipe = feature_spec(manifest.settings["superlets"])
        return clipped_samples(recipe) / manifest.sampling_rate_hz

    def tried_electrodes(self, search: Search) -> Sequence[TriedElectrodes]:
        """What was tried of families whose configurations differ in their electrodes alone."""
        return tried_electrodes(search, self.origin, self.ledger.storage / "shards")

    def published(self) -> Sequence[Mapping[str, str]]:
        """Table 1 as published, where it is about the recording of the sweep; else nothing."""
        return published_rows(self.origin)

    def data_facts(self, evaluation: Evaluation) -> Facts:
        """What is known of recording, sentences and electrodes.

        Raises:
            UserError: The folder of the shards is damaged.
        """
        sizes = {"train": evaluation.n_train, "test": evaluation.n_test}
        known = self.ledger, self.description, self.origin
        splits, sweep = evaluation.splits.values(), self.description.sweep
        used = {sweep.dataset_of(each) for each in evaluation.chosen.values()}
        leaks = {each: leakage(splits, self._spans_s(self.origin.dataset(each))) for each in used}
        weights = self._trained_weights(evaluation)
        return [*data_facts(*known, evaluation.chosen, sizes, leaks), *weights]

    def _spans_s(self, dataset: DatasetOrigin) -> np.ndarray:
        """Start and end of each segment of a dataset `[N, 2]`, context included, seconds."""
        folder = self.ledger.storage / "shards" / dataset.shards
        table = read_sentences(folder)
        start, stop = (np.array(table[name], np.int64) for name in ("start", "stop"))
        spans = spans_s(start, stop, read_manifest(folder).origin["recording_rate_hz"])
        if not dataset.paired:
            return spans
        rows = read_paired(self.ledger.storage, dataset.paired).rows_in(
            np.array(table["sentence_idx"])
        )
        found: np.ndarray = spans[rows]
        return found

    def _trained_weights(self, evaluation: Evaluation) -> Facts:
        """How many weights the encoder of each evaluated configuration trains."""
        sweep, counts = self.description.sweep, {}
        for family, configuration in evaluation.chosen.items():
            specification = configured(sweep.specification, configuration)
            assert isinstance(specification, SentenceSpec)  # the report is of sentences alone
            dataset = self.origin.dataset(sweep.dataset_of(configuration))
            folder = self.ledger.storage / "shards" / dataset.shards
            counts[family] = trained_weights(
                specification, made_up_pairs(folder, dataset.text, dataset.electrodes)
            )
        same = len({*counts.values()}) == 1
        shown = [f"{n:,}" if same else f"{family} {n:,}" for family, n in counts.items()]
        return [("Trained weights", "; ".join(dict.fromkeys(shown)))]

    def verdict(self, evaluation: Evaluation, metric: str, leader: str, *, fresh: bool) -> str:
        """What all of it shows, controls included.

        Controls are run at the seeds of the search alone, which is said where others are tested.
        """
        own = self._own_controls(evaluation, leader)
        clause = control_verdict(self.ledger) if own else ""
        tests = evaluation.comparisons(evaluation.primary)[: len(evaluation.retrievals)]
        above = any(map(is_above, tests))
        explained = explained_by(leader, clause, fresh=fresh, above=above)
        return plain_verdict(evaluation, metric, explained)

    def pictures(self, evaluation: Evaluation, leader: str) -> Sequence[Picture]:
        """The figure of the controls, where they are of the leading configuration."""
        own = self._own_controls(evaluation, leader)
        return [_control_picture(own)] if own else []

    def score_blocks(
        self, evaluation: Evaluation, leader: str, pictures: Mapping[str, Picture]
    ) -> Sequence[Block]:
        """What the controls reach, and which sentences are repeated."""
        repeats = Words([repeats_note(evaluation, self.stimuli)])
        own = self._own_controls(evaluation, leader)
        if own is None:
            words = OLD_CONTROLS if self.controls else NO_CONTROLS
            return [Words([words.format(controls_command(self.ledger))]), repeats]
        rows = control_rows(own.scores)
        return [
            pictures["controls"],
            Points(control_words(self.ledger)),
            Grid("The same controls, mean ± sd over the seeds of the search.", rows),
            repeats,
        ]

    def _own_controls(self, evaluation: Evaluation, leader: str) -> KeptControls | None:
        """The controls, where they are of the leading configuration at the search's seeds."""
        wanted = leader, describe(evaluation.chosen[leader]), self.description.sweep.seeds
        return self.controls if self.controls and self.controls.belong_to(*wanted) else None


def tower_words(origin: RecordingOrigin) -> str:
    """What the sentences were embedded by, and what an untrained tower means.

    Args:
        origin: The origin of the sweep's data.
    """
    trial = (
        " The text tower is untrained: a trial, not a result." if origin.text.is_untrained else ""
    )
    return f"Text: {origin.tower}.{trial}"


def published_rows(origin: RecordingOrigin) -> Sequence[Mapping[str, str]]:
    """Table 1 as published, where it is about the recording of the sweep; else nothing.

    Args:
        origin: The origin of the sweep's data.
    """
    if origin.subject != "sub_9" or "ant-man" not in origin.title.lower():
        return []
    titles = [metric_title(metric) for metric in METRICS]
    return [
        {"family": f"{family} (SSENSE)", "best configuration": ""}
        | dict(zip(titles, scores, strict=True))
        for family, scores in PUBLISHED.items()
    ]


def _control_picture(kept: KeptControls) -> Picture:
    scores = {name: found.scores[PRIMARY] for name, found in kept.scores.items()}
    chance = {name: found.chance[PRIMARY] for name, found in kept.scores.items()}
    return Picture(
        "controls",
        "Test Recall@10 of the controls",
        "Test Recall@10 of the best configuration, and of controls that lack the brain, the "
        "training or the pairing: mean, sd and scores over seeds. What a control reaches, the "
        "score does not owe to what the control lacks. The upright mark on a bar is the chance of "
        "its own candidates: among fewer it is higher.",
        bar_figure(scores, PRIMARY, chance),
    )
