"""One and the same made-up recording in every format that the command writes."""

from __future__ import annotations

import numpy as np
import pytest

from ssense.data.recordings.interchange import SENTENCES
from ssense.data.recordings.readers.opening import open_source
from ssense.data.recordings.recording_source import RecordingSource
from ssense.data.recordings.segment_signals import read_segments
from ssense.data.recordings.segments import SegmentSpec, select_segments
from ssense.data.synthetic.__main__ import main
from ssense.data.synthetic.spec import SyntheticCommand
from ssense.errors import UserError
from ssense.signal.features import features
from ssense.signal.superlets import SuperletSpec

SIZE = {"sentences": 24, "electrodes": 5, "pauses": 0}


def source_of(folder, as_):
    if as_ != "edf":
        return RecordingSource(place=str(folder))
    (edf,) = folder.glob("*.edf")
    return RecordingSource(place=str(edf), sentences=str(folder / SENTENCES))


def test_datasets_are_the_same_from_all_of_them(tmp_path, capsys):
    """Features are z-scored: 16 bits more or less change hundredths of a standard deviation."""
    import torch

    spec, recipe = SegmentSpec(), SuperletSpec.brainbert_defaults_50()
    found = {}
    for as_ in ("brain-treebank", "bids", "edf"):
        main(SyntheticCommand(out=tmp_path / as_, as_=as_, **SIZE))
        recording = open_source(source_of(tmp_path / as_, as_))
        segments = select_segments(recording, spec)
        signals = torch.from_numpy(read_segments(recording, segments, spec, range(4)))
        lengths = (segments.stop - segments.start)[:4]
        made = [
            features(signals[:, place], recording.sampling_rate_hz, recipe, lengths)
            for place in range(signals.shape[1])
        ]
        found[as_] = segments, torch.stack(made, 1)
    expected, expected_features = found.pop("brain-treebank")
    assert capsys.readouterr().out.count("written, 24 sentences") == 3
    for segments, made in found.values():
        assert segments.text == expected.text
        assert segments.electrodes == expected.electrodes
        np.testing.assert_array_equal(segments.start, expected.start)
        np.testing.assert_array_equal(segments.stop, expected.stop)
        torch.testing.assert_close(made, expected_features, atol=0.03, rtol=0)


def files(folder):
    found = {path: path.stat() for path in folder.rglob("*")}
    return {path: (each.st_ino, each.st_mtime_ns) for path, each in found.items()}


@pytest.mark.parametrize("as_", ["bids", "edf"])
def test_what_is_there_already_stays(tmp_path, capsys, as_):
    command = SyntheticCommand(out=tmp_path / "made", as_=as_, **SIZE)
    main(command)
    before = files(tmp_path / "made")
    main(command)
    assert "was already there" in capsys.readouterr().out
    assert files(tmp_path / "made") == before
    other = SyntheticCommand(out=tmp_path / "made", as_=as_, **SIZE | {"sentences": 30})
    with pytest.raises(UserError, match="already exists and is not this"):
        main(other)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize(("as_", "rate_hz"), [("edf", 300.5), ("edf", 1525.88), ("bids", 305.18)])
def test_hardware_s_rates_and_untidy_recordings_are_written_too(tmp_path, as_, rate_hz):
    size = {"sentences": 30, "electrodes": 6, "pauses": 2, "quirks": True}
    main(SyntheticCommand(out=tmp_path / "made", as_=as_, sampling_rate=rate_hz, **size))
    recording = open_source(source_of(tmp_path / "made", as_))
    assert recording.sampling_rate_hz == pytest.approx(rate_hz)
    main(SyntheticCommand(out=tmp_path / "treebank", sampling_rate=rate_hz, **size))
    expected = open_source(source_of(tmp_path / "treebank", "brain-treebank"))
    (found,) = recording.read_channel("F1a2", [(2000, 2400)])
    np.testing.assert_allclose(found, expected.read_channel("F1a2", [(2000, 2400)])[0], atol=0.02)


def test_a_rate_that_edf_cannot_hold_is_one_line(tmp_path):
    command = SyntheticCommand(out=tmp_path / "made", as_="edf", sampling_rate=305.17578125, **SIZE)
    with pytest.raises(UserError, match=r"305.176 a second make one in no record.*as BIDS"):
        main(command)
    assert not list(tmp_path.iterdir())
