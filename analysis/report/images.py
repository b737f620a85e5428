"""What a report says of sweeps over images: whose responses, which images, and who chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.measure.evaluation import Evaluation
from analysis.measure.looks import record_look
from analysis.measure.protocol import FRESH_SEEDS, candidates
from analysis.report.material import plain_verdict
from analysis.report.origin import Facts
from analysis.report.page import Block, Picture
from ssense.choices import UNTRAINED
from ssense.data.things.dataset import BEST_TEST_EPOCH, ImageDataset
from ssense.engine.core.cell import Configuration
from ssense.engine.core.origin import ImageOrigin
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import Ledger
from ssense.training.images import ImageSpec

BY_TEST = (
    "epochs and configurations were chosen on the test itself, as in many papers: these numbers "
    "reproduce theirs and estimate nothing"
)
AGAIN = "Fresh seeds draw other initial weights and other held-out concepts; the test is the same. "


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """What a report says of a sweep over images.

    Attributes:
        ledger: The ledger of the sweep.
        specification: What its cells share.
        origin: Where its responses come from.
        dataset: The dataset.
    """

    ledger: Ledger
    specification: ImageSpec
    origin: ImageOrigin
    dataset: ImageDataset

    @classmethod
    def of(
        cls, ledger: Ledger, description: Description, origin: ImageOrigin, dataset: ImageDataset
    ) -> ImageReport:
        """Gather what a report says of a sweep over images."""
        specification = description.sweep.specification
        assert isinstance(specification, ImageSpec)  # a description checks that
        return cls(ledger=ledger, specification=specification, origin=origin, dataset=dataset)

    @property
    def is_chosen_by_test(self) -> bool:
        """Whether the test itself chose the epochs."""
        return self.specification.split.endswith(BEST_TEST_EPOCH)

    def tested(self, evaluation: Evaluation) -> str:
        """What was tested, and among what."""
        spec = self.specification
        return (
            f"{self.origin.subject}, {self.origin.title}: {candidates(evaluation)}-way retrieval "
            f"of the test images by {spec.split} training, gallery {spec.gallery}, "
            f"{spec.encoder.kind}"
        )

    def look(self, seeds: Sequence[int], chosen: Mapping[str, Configuration]) -> str:
        """Record the look at the test images; say in words what the choice may know of them.

        Raises:
            UserError: The storage can't be read or written to.
        """
        return BY_TEST if self.is_chosen_by_test else record_look(self.ledger, seeds, chosen)

    def caption_end(self, protocol: str) -> str:
        """Say what fresh seeds leave open, what the images were embedded by, and who says so."""
        again = AGAIN if protocol == FRESH_SEEDS else ""
        is_untrained = self.specification.target.weights == UNTRAINED
        trial = " The image tower is untrained: a trial, not a result." if is_untrained else ""
        return (
            f"{again}Validation is on concepts that training holds out. Images: "
            f"{self.origin.tower}.{trial} SSR and NeuroCLIP are reimplemented from the papers' "
            "descriptions."
        )

    def published(self) -> Sequence[Mapping[str, str]]:
        """Nothing: papers publish means over subjects, see `image_subjects`."""
        return []

    def data_facts(self, evaluation: Evaluation) -> Facts:
        """What is known of responses, images and channels."""
        source, things = self.origin.source, self.dataset.things
        channels = things.channels
        n_images = len(things.training_images), len(things.test_images)
        return [
            ("Responses", f"{self.origin.title}, subject {self.origin.subject}"),
            ("Subjects read", ", ".join(source.subjects)),
            ("Images", f"{n_images[0]} to train on, {n_images[1]} to test"),
            ("Image tower", self.origin.tower),
            ("Gallery", self.specification.gallery),
            ("Split", f"{self.specification.split}: {evaluation.n_train} responses to train on"),
            ("Channels", f"{len(channels)}: {', '.join(channels)}"),
        ]

    def verdict(self, evaluation: Evaluation, metric: str, leader: str, *, fresh: bool) -> str:  # noqa: ARG002 - no control is run on images
        """What all of it shows; nothing where the test chose."""
        if self.is_chosen_by_test:
            return f"In {metric}, nothing is claimed: {BY_TEST}."
        return plain_verdict(evaluation, f"{metric} of {self.origin.subject} alone")

    def pictures(self, evaluation: Evaluation, leader: str) -> Sequence[Picture]:  # noqa: ARG002
        """No figure beside those of every task."""
        return []

    def score_blocks(
        self,
        evaluation: Evaluation,  # noqa: ARG002
        leader: str,  # noqa: ARG002
        pictures: Mapping[str, Picture],  # noqa: ARG002
    ) -> Sequence[Block]:
        """Nothing beside the ranks and examples of every task."""
        return []
