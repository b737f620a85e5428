"""The wording of messages."""

from __future__ import annotations

import pytest

from ssense.data.synthetic.spec import SyntheticSpec
from ssense.errors import UserError, counted


def test_what_is_counted_is_in_the_singular_where_it_is_one():
    assert [counted(n, "sentence") for n in (0, 1, 2)] == [
        "0 sentences",
        "1 sentence",
        "2 sentences",
    ]
    assert [counted(n, "epoch is", "epochs are") for n in (1, 2000)] == [
        "1 epoch is",
        "2,000 epochs are",
    ]


def test_a_message_counts_one_of_each():
    with pytest.raises(UserError, match=r"^1 sentence, 86400 s before them and 1 pause at"):
        SyntheticSpec(sentences=1, pauses=1, lead_in_s=86_400, sampling_rate=50_000)
