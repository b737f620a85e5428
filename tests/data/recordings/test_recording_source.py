"""Which files of a place belong to a recording."""

from __future__ import annotations

import pytest

from ssense.data.recordings.recording_source import RecordingSource


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("sub_9_trial000.h5", True),
        ("all_subject_data/sub_9_trial000.h5", True),
        ("sub_9_trial001.h5", False),
        ("all_subject_data/sub_1_trial000.h5", False),
        ("sub_9_trial000.h5.zip", False),
        ("transcripts/ant-man/features.csv", True),
        ("subject_metadata/sub_1_trial000_metadata.json", True),
    ],
)
def test_of_a_download_other_signals_are_not_needed(name, needed):
    assert RecordingSource(place="DIR").needs(name) == needed
    assert RecordingSource(place="DIR", subject="sub_9", trial="trial000").needs(name) == needed


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("participants.tsv", True),
        ("sub-01/ieeg/sub-01_task-film_ieeg.eeg", True),
        ("sub-1/ieeg/sub-1_task-film_ieeg.eeg", True),
        ("sub-02/ieeg/sub-02_task-film_ieeg.eeg", False),
        ("derivatives/sub-01/a.edf", False),
    ],
)
def test_of_a_bids_folder_other_subjects_are_not_needed(name, needed):
    assert RecordingSource(place="DIR", subject="sub-01").needs(name) == needed
