"""The signals of segments, `[electrodes, samples]` in microvolts.

recording = open_brain_treebank(root, "sub_9", "trial000")
spec = SegmentSpec.paper()
segments = select_segments(recording, spec)
signals = read_segments(recording, segments, spec, rows=[0, 1, 2])
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segments import Segments, SegmentSpec
from ssense.signal.filtering import notch_filter
from ssense.signal.referencing import referenced


def read_segments(
    recording: Recording, segments: Segments, spec: SegmentSpec, rows: Sequence[int]
) -> np.ndarray:
    """Read the signals of some segments, float32 [rows, electrodes, samples] in microvolts.

    Raises:
        UserError: See `electrode_signals`.
    """
    shape = (len(rows), len(segments.electrodes), segments.n_samples)
    signals = np.zeros(shape, np.float32)
    for place, electrode in enumerate(electrode_signals(recording, segments, spec, rows)):
        signals[:, place] = electrode
    return signals


def electrode_signals(
    recording: Recording, segments: Segments, spec: SegmentSpec, rows: Sequence[int]
) -> Iterator[np.ndarray]:
    """Read one electrode of some segments after another, float32 [rows, samples] in microvolts.

    Reference, notch filter, cut, zeros up to `n_samples`. A row's values do not depend on the
    other rows: the causal filter runs ahead of every segment until nothing is left of how it
    started. Each channel is read once, or twice where all are averaged, and each electrode is
    filtered once; rows that follow each other share what lies between them. Memory: three channels
    of the stretch that the rows span, in float64, and what the filter makes of one.

    Raises:
        UserError: The signals cannot be read, or hold NaN or infinite values.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    windows = np.stack([segments.start[chosen], segments.stop[chosen]], axis=1)
    stretches = _stretches(windows, spec.lead_samples(recording))

    def read(contact: str) -> list[np.ndarray]:
        return recording.read_channel(contact, stretches)

    for signals in referenced(segments.derivations, read):
        # Filtering after the re-reference gives the same, and there are fewer to filter.
        filtered = _filtered(signals, recording, spec)
        yield _cut(filtered, stretches, windows, segments.n_samples)


def _filtered(
    signals: list[np.ndarray], recording: Recording, spec: SegmentSpec
) -> list[np.ndarray]:
    if (notch := spec.notch(recording)) is None:
        return signals
    return [notch_filter(signal, *notch) for signal in signals]


def _cut(
    signals: list[np.ndarray],
    stretches: list[tuple[int, int]],
    windows: np.ndarray,
    n_samples: int,
) -> np.ndarray:
    """Zero-padded windows [start, stop) out of the stretches around them, float32."""
    begins = np.array([begin for begin, _ in stretches])
    padded = np.zeros((len(windows), n_samples), np.float32)
    for row, (start, stop) in enumerate(windows):
        number = int(np.searchsorted(begins, start, side="right")) - 1
        begin = begins[number]
        padded[row, : stop - start] = signals[number][start - begin : stop - begin]
    return padded


def _stretches(windows: np.ndarray, lead: int) -> list[tuple[int, int]]:
    """Parts of the file [begin, end) that cover all windows and `lead` samples ahead of each."""
    stretches: list[tuple[int, int]] = []
    for start, stop in windows[np.argsort(windows[:, 0], kind="stable")].tolist():
        begin = max(start - lead, 0)
        if stretches and begin <= stretches[-1][1]:
            begin, end = stretches.pop()
            stop = max(end, stop)
        stretches.append((begin, stop))
    return stretches
