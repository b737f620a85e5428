"""What a report says of sweeps over images: whose responses, which images, and who chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.measure.evaluation import Evaluation
from analysis.measure.seed_results import FRESH_SEEDS, candidates
from analysis.report.layer_figure import MIXTURE, mixture_pictures
from analysis.report.material import TaskReport, plain_verdict
from analysis.report.origin import Facts
from analysis.report.page import Block, Picture
from analysis.report.published import N_TEST, Modality, PublishedRow, Task, published_rows, sources
from ssense.choices import UNTRAINED
from ssense.data.synthetic.things import RECORD
from ssense.data.things.dataset import FOLDS, ImageDataset
from ssense.data.things.responses import POSTERIOR
from ssense.engine.core.origin import ImageOrigin
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.files.storage import exists, locate
from ssense.retrieval import metric_title
from ssense.training.images import ImageSpec

BY_TEST = (
    "epochs and configurations were chosen on the test itself, as in many papers: these numbers "
    "reproduce theirs and estimate nothing"
)
AGAIN = "Fresh seeds draw other initial weights{}; the test images are the same."
"""What is said of fresh seeds; what else than weights they draw may follow the weights."""
TOP_K = "Recall@k is what papers on images call top-k accuracy."
REPORTED = ("recall@1", "recall@5")
"""The metrics of the tables, those that papers report."""
HELD_OUT = "Validation is on concepts that training holds out."


def shown(percent: float | None) -> str:
    """Write a published score, or a dash where there is none.

    Args:
        percent: The score in percent.
    """
    return "–" if percent is None else f"{percent:.1f}"


@dataclass(frozen=True, kw_only=True)
class ImageReport(TaskReport):
    """What a report says of a sweep over images; papers publish means over subjects alone.

    Attributes:
        ledger: The ledger of the sweep.
        specification: What its cells share.
        origin: Where its responses come from.
        channels: Names of the channels of its responses.
        n_images: How many images there are to train on, and how many to test.
    """

    ledger: Ledger
    specification: ImageSpec
    origin: ImageOrigin
    channels: Sequence[str]
    n_images: tuple[int, int]

    @classmethod
    def of(
        cls, ledger: Ledger, description: Description, origin: ImageOrigin, dataset: ImageDataset
    ) -> ImageReport:
        """Gather what a report says of a sweep over images."""
        specification = description.sweep.specification
        assert isinstance(specification, ImageSpec)  # a description checks that
        things = dataset.things
        return cls(
            ledger=ledger,
            specification=specification,
            origin=origin,
            channels=things.channels,
            n_images=(len(things.training_images), len(things.test_images)),
        )

    def tested(self, evaluation: Evaluation) -> str:
        """What was tested, and among what."""
        spec = self.specification
        return (
            f"{self.origin.subject}, {self.origin.title}: {candidates(evaluation)}-way retrieval "
            f"of the test images by {spec.split} training, gallery {spec.gallery}, "
            f"{spec.encoder.kind}"
        )

    def choice_knows(self, standing: str) -> str:
        """What the looks at the test say, unless the test itself chose."""
        return BY_TEST if self.specification.chosen_by_test else standing

    def caption_end(self, protocol: str) -> str:
        """Say what fresh seeds leave open, what the images were embedded by, and who says so."""
        by_test = self.specification.chosen_by_test
        draw_concepts = self.origin.source.split_seed is None
        drawn = " and other held-out concepts" if draw_concepts and not by_test else ""
        again = f"{AGAIN.format(drawn)} " if protocol == FRESH_SEEDS else ""
        quoted = sources(self._published(0))
        validation = "" if by_test else f"{HELD_OUT} "
        is_untrained = self.specification.target.weights == UNTRAINED
        trial = " The image tower is untrained: a trial, not a result." if is_untrained else ""
        return (
            f"{again}{validation}Images: {self.origin.tower}.{trial} {TOP_K} SSR and NeuroCLIP "
            f"are reimplemented from the papers' descriptions.{f' {quoted}' if quoted else ''}"
        )

    @property
    def published_task(self) -> Task | None:
        """What was published of the same kind of data and training; None for synthetic data."""
        if exists(locate(self.origin.source.responses) / RECORD):
            return None
        modality: Modality = "EEG" if {*POSTERIOR} <= {*self.channels} else "MEG"
        return modality, FOLDS[self.specification.split]

    def published(self) -> Sequence[Mapping[str, str]]:
        """What papers report of the same subject, and of all where they report no other."""
        both = zip(*(self._published(place) for place in range(len(REPORTED))), strict=True)
        return [
            {"family": first.name, "best configuration": ""}
            | {
                metric_title(metric): shown(row.over)
                for metric, row in zip(REPORTED, (first, *more), strict=True)
            }
            for first, *more in both
        ]

    def _published(self, place: int) -> list[PublishedRow]:
        task, by_test = self.published_task, self.specification.chosen_by_test
        if task is None or self.n_images[1] != N_TEST:
            return []
        return published_rows(task, [self.origin.subject], place, by_test=by_test)

    def data_facts(self, evaluation: Evaluation) -> Facts:
        """What is known of responses, images and channels."""
        source, (n_training, n_test) = self.origin.source, self.n_images
        return [
            ("Responses", f"{self.origin.title}, subject {self.origin.subject}"),
            ("Subjects read", ", ".join(source.subjects)),
            ("Images", f"{n_training} to train on, {n_test} to test"),
            ("Image tower", self.origin.tower),
            ("Gallery", self.specification.gallery),
            ("Split", f"{self.specification.split}: {evaluation.n_train} responses to train on"),
            ("Channels", f"{len(self.channels)}: {', '.join(self.channels)}"),
        ]

    def pictures(self, evaluation: Evaluation, leader: str) -> Sequence[Picture]:  # noqa: ARG002
        """How much each layer counts, where layers of the tower are mixed.

        Raises:
            UserError: A record is damaged.
        """
        if not any("target.mixture" in each for each in evaluation.chosen.values()) and not (
            self.specification.target.mixture
        ):
            return []
        return mixture_pictures(evaluation, list(self.ledger.records().values()))

    def score_blocks(
        self,
        evaluation: Evaluation,  # noqa: ARG002
        leader: str,  # noqa: ARG002
        pictures: Mapping[str, Picture],
    ) -> Sequence[Block]:
        """The figure of the layers' weights, where there is one."""
        return [pictures[MIXTURE]] if MIXTURE in pictures else []

    def verdict(self, evaluation: Evaluation, metric: str, leader: str, *, fresh: bool) -> str:  # noqa: ARG002 - no control is run on images
        """What all of it shows; nothing where the test chose."""
        if self.specification.chosen_by_test:
            return f"In {metric}, nothing is claimed: {BY_TEST}."
        return plain_verdict(evaluation, f"{metric} of {self.origin.subject} alone")
