from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ssense.data.recordings.interchange import SENTENCES, write_bids, write_edf
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.synthetic.recording import write_synthetic
from ssense.data.synthetic.spec import SyntheticSpec


@dataclass(frozen=True)
class Written:
    """One synthetic recording in each format."""

    treebank: Path
    bids: Path
    edf: Path

    @property
    def sentences(self) -> Path:
        return self.edf.parent / SENTENCES


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A recording without pauses, which other formats do not know."""
    root = tmp_path_factory.mktemp("written")
    write_synthetic(root / "treebank", SyntheticSpec(sentences=40, pauses=0, electrodes=6))
    recording = open_brain_treebank(root / "treebank")
    write_bids(recording, root / "bids", task="film")
    (root / "edf").mkdir()
    write_edf(recording, root / "edf")
    (edf,) = (root / "edf").glob("*.edf")
    return Written(root / "treebank", root / "bids", edf)
