from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssense.data.recordings.transcript import ACOUSTIC_SUMMARIES, read_transcript


def transcript(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "features.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


TIMES = "start,end,sentence,sentence_idx"


def test_how_a_sentence_sounds_is_the_mean_and_spread_of_its_words(tmp_path):
    found = read_transcript(
        transcript(
            tmp_path,
            f"{TIMES},rms,pitch,mel",
            "0,1,a b c,4,1.0,100,-inf",
            "1,2,a b c,4,3.0,,2.5",
            ",,a b c,4,,300,inf",
            "5,6,d,7,0.5,nan,-inf",
            "8,9,e,9,7,1e200,3",
        )
    ).acoustics(np.array([9, 4, 7, 4]))
    assert tuple(found) == ACOUSTIC_SUMMARIES
    nan = np.nan
    expected = {
        "rms_mean": [7, 2, 0.5, 2],
        "rms_sd": [0, 1, 0, 1],
        "pitch_mean": [nan, 200, nan, 200],
        "pitch_sd": [nan, 100, nan, 100],
        "mel_mean": [3, 2.5, nan, 2.5],
        "mel_sd": [0, 0, nan, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values)


@pytest.mark.parametrize(
    ("header", "row", "known"),
    [
        (TIMES, "0,1,a,0", set()),
        (f"{TIMES},rms", "0,1,a,0,.5", {"rms"}),
        (f"{TIMES},pitch,rms", "0,1,a,0,high,.5", {"rms"}),
        (f"{TIMES},rms,rms,mel", "0,1,a,0,1,2,3", {"mel"}),
        (f"{TIMES},mel", "0,1,a,0,", {"mel"}),
    ],
)
def test_columns_that_a_control_alone_wants_may_be_missing_or_no_numbers(
    tmp_path, header, row, known
):
    found = read_transcript(transcript(tmp_path, header, row))
    assert set(found.sound) == known
    assert set(found.acoustics(np.array([0]))) == {
        f"{name}_{of}" for name in known for of in ("mean", "sd")
    }


def test_tokens_of_other_sentences_and_of_none_do_not_count(tmp_path):
    found = read_transcript(
        transcript(tmp_path, f"{TIMES},rms", "0,1,a,1,1", "1,2,b,,50", "2,3,c,3,9", "3,4,d,5,100")
    )
    np.testing.assert_array_equal(found.acoustics(np.array([1, 3]))["rms_mean"], [1, 9])
