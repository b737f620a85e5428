from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.measure.evaluation import Retrieval
from analysis.measure.examples import examples, repeated

SENTENCES = [f"sentence {row}" for row in range(100)]


def retrieval_of(ranks: list[float], seed: int = 0) -> Retrieval:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(100)[: len(ranks)]
    first = np.stack([rng.permutation(rows)[:5] for _ in ranks])
    return Retrieval(stimuli=rows, ranks=np.array(ranks), first=first)


def test_examples_are_the_best_the_middle_and_the_worst():
    ranks = [float(rank) for rank in np.random.default_rng(1).permutation(21) + 1]
    found = examples(retrieval_of(ranks), SENTENCES)
    assert [(e.kind, e.rank) for e in found] == [
        *(("best", rank) for rank in (1, 2, 3)),
        *(("median", rank) for rank in (10, 11, 12)),
        *(("worst", rank) for rank in (19, 20, 21)),
    ]


def test_an_example_shows_its_query_and_what_came_first():
    retrieval = retrieval_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    for example in examples(retrieval, SENTENCES):
        place = int(example.rank) - 1
        assert example.query == SENTENCES[retrieval.stimuli[place]]
        assert list(example.retrieved) == [SENTENCES[row] for row in retrieval.first[place]]
        assert example.hits == tuple(text == example.query for text in example.retrieved)


@given(st.lists(st.integers(2, 12).map(lambda x: x / 2), min_size=1, max_size=30))
def test_of_equal_ranks_the_earlier_sentence_is_chosen_and_none_twice(ranks):
    retrieval = retrieval_of(ranks)
    found = examples(retrieval, SENTENCES)
    assert len(found) == 3 * min(3, len(ranks) // 3)
    by_hand = sorted(zip(ranks, retrieval.stimuli.tolist(), strict=True))
    best = [e.query for e in found if e.kind == "best"]
    assert best == [SENTENCES[row] for _, row in by_hand[: len(best)]]
    worst = [e.query for e in found if e.kind == "worst"]
    assert worst == [SENTENCES[row] for _, row in by_hand[len(by_hand) - len(worst) :]]
    assert len({e.query for e in found}) == len(found)


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12), st.data())
def test_repeated_is_every_sentence_with_a_twin(sentences, data):
    chosen = data.draw(st.sets(st.integers(0, len(sentences) - 1), min_size=1))
    rows = np.array(sorted(chosen))
    twins = sum(any(sentences[a] == sentences[b] for b in rows if b != a) for a in rows)
    assert repeated(rows, sentences) == twins


def test_a_split_too_small_for_examples_has_none():
    assert examples(retrieval_of([1.0, 2.0]), SENTENCES) == []
