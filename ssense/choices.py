"""Names of the choices that command lines and specifications offer.

Importing them is quick, unlike the code that they choose from: command lines are checked first.
"""

from __future__ import annotations

from typing import Literal

Electrodes = Literal["clean", "all"]
"""Contacts that may be used: those that the corrupted list does not name, or all."""
Reference = Literal["laplacian", "bipolar", "shaft-average", "average", "none"]
"""What is subtracted from each contact, see `ssense.signal.referencing`."""
SplitKind = Literal["random", "grouped", "blocked", "held-out"]
"""How a seed divides sentences.

random: any sentence to any part, as in SSENSE; neighbours may share samples.
grouped: random, but sentences that are the same stay together, see `repeat_groups`.
blocked: whole stretches of the recording, parts at least `splits.GAP_S` apart.
held-out: the end of the recording is every seed's test split, at least GAP_S behind the others.
"""
Precision = Literal["bf16", "float32"]
BatchNorm = Literal["chunk", "frozen"]

SpectrogramName = Literal["brainbert", "brainbert-50", "small", "fourier", "high-gamma"]
"""Recipes of features, see `recording_plan.SPECTROGRAMS`."""

Part = Literal["training", "test"]
BrainEncoderName = Literal["eeg-project", "ts-conv"]
FeatureKind = Literal["original", "augmented-mean", "blurred"]
"""What is embedded of an image.

original: the image itself.
augmented-mean: NeuroBridge's four degraded views; the mean of their features.
blurred: UBP's foveal blur.
"""
GalleryName = Literal["original", "augmented-mean", "blurred", "class-centre"]
"""What stands for an image that was shown.

original, augmented-mean, blurred: its features of that kind (SSR, NeuroBridge and UBP).
class-centre: the mean of other images of its concept (NICE), which is another task.
"""
ObjectiveName = Literal["infonce", "ssr", "neuroclip"]
"""Objectives of image decoding, by the time that they take."""
ImageSplitKind = Literal[
    "intra-subject",
    "leave-one-subject-out",
    "intra-subject, best test epoch",
    "leave-one-subject-out, best test epoch",
]
"""Whom a cell trains on, and what chooses its epoch.

Held-out concepts choose, unless the test does: most peers report the best epoch of the test, which
estimates nothing, and is here to reproduce them under its name.
"""

BEST_TEST_EPOCH = ", best test epoch"
"""The end of the names of splits whose test chooses the epoch."""

ENCODERS = ("resnet-18", "attention", "convolution", "linear")
"""Encoders of spectrograms by the name of their specification's kind; all others are files.

resnet-18: ResNet-18 on each electrode, and their mean (SSENSE).
attention: the same, with learned weights of electrodes in place of their mean.
convolution: learned mixtures of electrodes, then three convolutions.
linear: ridge regression, which contrastive training continues.
"""

ENCODER_WEIGHTS = ("imagenet", "random")
"""Names of initial weights of `ResNetSpec`; all others are files."""

UNTRAINED = "untrained"
"""Name of weights that are drawn at random."""
SMALL_VIT = "small-vit"
"""A vision Transformer of three layers, for trials without a GPU; it has no weights but untrained.
"""

CLIP_TAGS: dict[str, tuple[str, ...]] = {
    "ViT-B-32-quickgelu": (
        *("openai", "laion400m_e31", "laion400m_e32", "metaclip_400m", "metaclip_fullcc"),
    ),
    "ViT-B-16-quickgelu": ("openai", "dfn2b", "metaclip_400m", "metaclip_fullcc"),
    "RN50-quickgelu": ("openai", "yfcc15m", "cc12m"),
    SMALL_VIT: (),
}
"""Weights that open_clip 3.3 has for the towers of the papers; of others it is asked itself."""
TEXT_TOWER = "ViT-B-32-quickgelu"
"""Name of the tower that embeds sentences."""

Pooling = Literal["mean", "cls", "last"]
"""What stands for a sentence of a language model, see `TransformersSpec`."""

ImagePooling = Literal["cls", "mean"]
"""What stands for an image in a layer of its tower: its class token, or the mean of its patches."""
TIMM = "timm/"
"""What the names of timm's models begin with among image towers."""
PRETRAINED = "pretrained"
"""Name of the weights that timm has for a model; the model's own name says which."""
FEATURE_FILES = "files"
"""Name of the tower whose features were made elsewhere; its weights are their folder."""

PolicyName = Literal["race", "full"]
