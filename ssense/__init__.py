"""Paired sweeps for brain decoding by retrieval: the names that scripts of your own build on.

    import ssense
    spectrogram = ssense.superlet_transform(signal, 2048.0, ssense.SuperletSpec())

Each name is imported when it is first asked for, so that `import ssense` takes no time. Only
`ssense.engine` imports ray, optuna or mlflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssense.cli.interrupt import is_own_command, show_interrupts_in_one_line

if is_own_command():  # before its own imports
    show_interrupts_in_one_line()

if TYPE_CHECKING:
    from ssense.data.dataset import Dataset
    from ssense.data.recordings.recording import Recording
    from ssense.data.splits import Split, seeded_split, split_sentences
    from ssense.data.synthetic.recording import write_synthetic
    from ssense.data.synthetic.spec import SyntheticSpec
    from ssense.errors import UserError
    from ssense.model.losses import info_nce
    from ssense.model.masking import Masking, mask_electrodes, mask_time_frequency
    from ssense.retrieval import chance_metrics, retrieval_metrics
    from ssense.signal.superlets import SuperletSpec, superlet_transform
    from ssense.training.images import ImageSpec
    from ssense.training.loop import evaluate, fit
    from ssense.training.sentences import SentenceSpec

_HOMES = {
    "Dataset": "ssense.data.dataset",
    "ImageSpec": "ssense.training.images",
    "Masking": "ssense.model.masking",
    "Recording": "ssense.data.recordings.recording",
    "SentenceSpec": "ssense.training.sentences",
    "Split": "ssense.data.splits",
    "SuperletSpec": "ssense.signal.superlets",
    "SyntheticSpec": "ssense.data.synthetic.spec",
    "UserError": "ssense.errors",
    "chance_metrics": "ssense.retrieval",
    "evaluate": "ssense.training.loop",
    "fit": "ssense.training.loop",
    "info_nce": "ssense.model.losses",
    "mask_electrodes": "ssense.model.masking",
    "mask_time_frequency": "ssense.model.masking",
    "retrieval_metrics": "ssense.retrieval",
    "seeded_split": "ssense.data.splits",
    "split_sentences": "ssense.data.splits",
    "superlet_transform": "ssense.signal.superlets",
    "write_synthetic": "ssense.data.synthetic.recording",
}
__all__ = [
    "Dataset",
    "ImageSpec",
    "Masking",
    "Recording",
    "SentenceSpec",
    "Split",
    "SuperletSpec",
    "SyntheticSpec",
    "UserError",
    "chance_metrics",
    "evaluate",
    "fit",
    "info_nce",
    "mask_electrodes",
    "mask_time_frequency",
    "retrieval_metrics",
    "seeded_split",
    "split_sentences",
    "superlet_transform",
    "write_synthetic",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"ssense has no public name {name}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, for `dir` and completion."""
    return __all__
