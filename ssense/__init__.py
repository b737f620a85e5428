"""Paired sweeps for brain decoding by retrieval: the names that scripts of your own build on.

    import ssense
    ssense.open("storage").sweeps["masking"].cells  # what a sweep found, as a table
    spectrogram = ssense.superlet_transform(signal, 2048.0, ssense.SuperletSpec())

Each name is imported when it is first asked for, so that `import ssense` takes no time. Only
`ssense.engine` imports ray, optuna or mlflow, and what `ssense.api` reads or runs by it.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssense.cli.interrupt import is_own_command, show_interrupts_in_one_line

if is_own_command():  # before its own imports
    show_interrupts_in_one_line()

# The one list of the public names. Type checkers take "X as X" for public, and make these imports;
# at run time the list is read, and each is made when it is asked for.
if TYPE_CHECKING:
    from ssense.api.dataset import SweepDataset as SweepDataset
    from ssense.api.result import SweepResult as SweepResult
    from ssense.api.storage import Storage as Storage
    from ssense.api.storage import open as open  # noqa: A004 - called ssense.open
    from ssense.api.sweep import sweep as sweep
    from ssense.data.dataset import Dataset as Dataset
    from ssense.data.recordings.channels import Channel as Channel
    from ssense.data.recordings.readers.opening import open_recording as open_recording
    from ssense.data.recordings.recording import Recording as Recording
    from ssense.data.recordings.tables.table_spec import TableSpec as TableSpec
    from ssense.data.splits import Split as Split
    from ssense.data.splits import seeded_split as seeded_split
    from ssense.data.splits import split_sentences as split_sentences
    from ssense.data.synthetic.recording import write_synthetic as write_synthetic
    from ssense.data.synthetic.spec import SyntheticSpec as SyntheticSpec
    from ssense.decoder.folder import load as load
    from ssense.decoder.trained_model import TrainedModel as TrainedModel
    from ssense.errors import UserError as UserError
    from ssense.model.losses import info_nce as info_nce
    from ssense.model.masking import Masking as Masking
    from ssense.model.masking import mask_electrodes as mask_electrodes
    from ssense.model.masking import mask_time_frequency as mask_time_frequency
    from ssense.retrieval import chance_metrics as chance_metrics
    from ssense.retrieval import retrieval_metrics as retrieval_metrics
    from ssense.signal.superlets import SuperletSpec as SuperletSpec
    from ssense.signal.superlets import superlet_transform as superlet_transform
    from ssense.training.images import ImageSpec as ImageSpec
    from ssense.training.loop import evaluate as evaluate
    from ssense.training.loop import fit as fit
    from ssense.training.sentences import SentenceSpec as SentenceSpec


def _public_names() -> dict[str, str]:
    """Each public name, with the module that the imports above take it from."""
    source = ast.parse(Path(__file__).read_bytes())
    return {
        alias.asname: node.module
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if alias.asname == alias.name
    }


_HOMES = _public_names()
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"ssense has no public name {name}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, for `dir` and completion."""
    return __all__
