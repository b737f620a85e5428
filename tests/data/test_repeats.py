from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.repeats import TowerTexts, first_of, repeat_groups


def tower(same_as: list[int]) -> TowerTexts:
    return TowerTexts(np.array(same_as, np.int64), np.zeros(len(same_as), bool), 77)


def test_sentences_of_the_same_words_are_the_same():
    text = ["Oh, yeah!", "No.", "oh yeah", "Yes.", "no"]
    assert repeat_groups(text).tolist() == [0, 1, 0, 2, 1]


def test_so_are_those_of_the_same_tokens_and_whoever_is_the_same_as_the_same():
    # By words 0 and 1, by tokens 1 and 2, so that all three are one; 3 is another.
    text = ["It's fine", "it's fine.", "it’s fine.", "Else"]
    assert repeat_groups(text).tolist() == [0, 0, 1, 2]
    assert repeat_groups(text, tower([0, 1, 1, 3])).tolist() == [0, 0, 0, 1]


def test_no_sentences_make_no_groups():
    assert repeat_groups([]).tolist() == []


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), max_size=20))
def test_groups_are_what_connects_words_and_tokens(rows):
    """Against spreading from sentence to sentence until nothing changes."""
    same_as = first_of(tokens for _, tokens in rows).tolist()
    found = repeat_groups([word for word, _ in rows], tower(same_as))
    groups = list(range(len(rows)))
    for _ in rows:
        for a, (word, tokens) in enumerate(rows):
            for b, (other_word, other_tokens) in enumerate(rows):
                if word == other_word or tokens == other_tokens:
                    groups[a] = min(groups[a], groups[b])
    assert (found[:, None] == found).tolist() == [[a == b for b in groups] for a in groups]
