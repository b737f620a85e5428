from __future__ import annotations

import numpy as np

from ssense.decoder.held_out import held_out_of, held_out_rows

TEXTS = ["No.", "She left.", "No.", "He stayed.", "Who?", "No.", "Sit down.", "Why?"]
ONSETS_S = np.array([3.0, 7.0, 30.0, 41.0, 60.0, 77.5, 90.0, 120.0])
TEST = [0, 3, 5, 7]
HELD_OUT = held_out_of([TEXTS[row] for row in TEST], ONSETS_S[TEST].tolist())


def test_they_are_found_whatever_the_recording_counts_from():
    jitter = np.linspace(-0.02, 0.02, len(TEXTS))
    for shift in (0.0, 12.5, -3.0):
        assert held_out_rows(HELD_OUT, TEXTS, ONSETS_S + shift + jitter) == {*TEST}


def test_they_are_found_in_a_part_with_other_sentences_around():
    texts, onsets = ["New.", *TEXTS[2:], "No."], [1.0, *ONSETS_S[2:], 500.0]
    found = held_out_rows(HELD_OUT, texts, onsets)
    assert found == {2, 4, 6} | {1, 7}  # no telling which "No." is the one that is not in place
    whole = held_out_rows(HELD_OUT, [*TEXTS, "No."], [*ONSETS_S, 500.0])
    assert whole == {*TEST}  # all are in place: the others are of the training, and new


def test_behind_a_pause_they_are_left_out_by_their_texts():
    paused = ONSETS_S + np.where(ONSETS_S < 100, 4.0, 9.0)
    assert held_out_rows(HELD_OUT, TEXTS, paused) == {*TEST}
    texts = ["Why?", *TEXTS]
    assert held_out_rows(HELD_OUT, texts, [0.0, *paused]) == {0, *(row + 1 for row in TEST)}


def test_what_is_said_elsewhere_is_another_sentence():
    other = ONSETS_S * 1.5
    assert held_out_rows(HELD_OUT, TEXTS, other) == set()
    assert held_out_rows(HELD_OUT, ["Well."], [3.0]) == set()
    assert held_out_rows((), TEXTS, ONSETS_S) == set()
    assert held_out_rows(HELD_OUT, [], []) == set()


def test_texts_can_t_be_read():
    assert "No." not in repr(HELD_OUT)
