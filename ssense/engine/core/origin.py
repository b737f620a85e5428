"""Where the data of a sweep come from: what is kept of it, one kind of origin per task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ssense.choices import FeatureKind, GalleryName
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.things.responses import ResponseSpec
from ssense.engine.core.cell import Configuration
from ssense.targets.image_features import ImageTowerSpec
from ssense.targets.sentence_embeddings import AnyTargetSpec
from ssense.targets.text import TextSpec


@dataclass(frozen=True, kw_only=True)
class DatasetOrigin:
    """One of the datasets that the configurations of a sweep ask for.

    Attributes:
        digest: Digest of the dataset.
        changes: The fields by which it differs from the sweep's specification.
        shards: Folder of the features, below the storage's shards.
        text: The target that embeds the sentences.
        paired: Digest of the sentences that all datasets of the sweep have; empty where they are
            all that the shards hold.
        electrodes: Names of its electrodes, where they are not all that the shards hold.
    """

    digest: str
    changes: Configuration
    shards: str
    text: AnyTargetSpec
    paired: str = ""
    electrodes: tuple[str, ...] = ()

    @property
    def tower(self) -> str:
        """The target as people read it: "ViT-B-32-quickgelu, openai, layer 9"."""
        return self.text.name


@dataclass(frozen=True, kw_only=True)
class RecordingOrigin:
    """The origin of the datasets of a sweep over sentences: a recording and a target.

    Attributes:
        subject: Name of the person recorded, "sub_9".
        title: Title of the movie.
        shards: Folder of the features by the sweep's specification, below the storage's shards.
        recording: Where the recording was, for controls that need its signals; the shards say
            which it was.
        text: The target that embeds the sentences.
        paired: Digest of the sentences that the dataset of the specification has; empty where they
            are all that its shards hold.
        electrodes: Names of its electrodes, where they are not all that its shards hold.
        datasets: Every dataset that configurations ask for; none where all cells share that of the
            specification.
        source: How the recording is opened; None where it is of Brain Treebank, and the shards say
            which.
    """

    subject: str
    title: str
    shards: str
    recording: str
    text: AnyTargetSpec = field(default_factory=TextSpec)
    paired: str = ""
    electrodes: tuple[str, ...] = ()
    datasets: tuple[DatasetOrigin, ...] = ()
    source: RecordingSource | None = None

    kind: ClassVar[str] = "sentences"
    test: ClassVar[str] = ""
    """Seeds draw test splits of the dataset, which needs no other name."""

    @property
    def tower(self) -> str:
        """The target as people read it: "ViT-B-32-quickgelu, openai"."""
        return self.text.name

    def dataset(self, wanted: str) -> DatasetOrigin:
        """The dataset of a digest; that of the specification where none of the others has it."""
        for each in self.datasets:
            if each.digest == wanted:
                return each
        return DatasetOrigin(
            digest=wanted,
            changes={},
            shards=self.shards,
            text=self.text,
            paired=self.paired,
            electrodes=self.electrodes,
        )


@dataclass(frozen=True, kw_only=True)
class OtherFeatures:
    """Features of another tower, or of a layer, that configurations of a sweep ask for.

    Attributes:
        tower: The tower, and where it is read.
        kinds: Kinds of features.
    """

    tower: ImageTowerSpec
    kinds: tuple[FeatureKind, ...]


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Where a dataset of image decoding comes from.

    Attributes:
        responses: Folder of the subjects' folders.
        images: Folder of the image folders.
        subject: Name of the subject that is tested.
        subjects: Names of the subjects whose responses are read.
        responses_taken: Channels and window of the responses.
        image_tower: The frozen tower of the features.
        kinds: Kinds of features.
        pixels: Whether an objective has the images in the loop.
        gallery: What stands for an image.
        more_images: Folder of other images, for class centres of the test; empty without.
        split_seed: Seed that draws the held-out concepts of every cell; None for each cell's own.
        others: Features of other towers and layers, where these are compared.
    """

    responses: str
    images: str
    subject: str
    subjects: tuple[str, ...]
    responses_taken: ResponseSpec
    image_tower: ImageTowerSpec
    kinds: tuple[FeatureKind, ...]
    pixels: bool
    gallery: GalleryName = "original"
    more_images: str = ""
    split_seed: int | None = None
    others: tuple[OtherFeatures, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageOrigin:
    """The origin of a dataset of responses to images.

    Attributes:
        title: Name of the folder of the responses.
        source: Where the dataset is made from.
        test: Names the test images of a subject, which a look is a look at, whatever else changes.
    """

    title: str
    source: ImageSource
    test: str

    kind: ClassVar[str] = "images"

    @property
    def subject(self) -> str:
        """Name of the subject that is tested."""
        return self.source.subject

    @property
    def tower(self) -> str:
        """The frozen towers as people read them: "small-vit, untrained, read in 7 ways"."""
        ways: dict[str, list[ImageTowerSpec]] = {}
        for read in (self.source.image_tower, *(each.tower for each in self.source.others)):
            ways.setdefault(read.tower().name, []).append(read)
        return "; ".join(
            f"{name}, read in {len(found)} ways" if len(found) > 1 else found[0].name
            for name, found in ways.items()
        )


Origin = RecordingOrigin | ImageOrigin
