"""Who says what when in a made-up movie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from ssense.data.synthetic.grammar import Sentence, Token, compose_sentence
from ssense.data.synthetic.sentence_timings import SentenceTimings

# Ant-Man: sentences of 1.0 s (median, quartiles .63 and 1.7, longest about 13), gaps of .7 s.
DURATION_MEDIAN_S, DURATION_SPREAD = 1.0, 0.74  # spread: standard deviation of the logarithm
SHORTEST_S, LONGEST_S = 0.15, 13.0
GAP_MEDIAN_S, GAP_SPREAD = 0.7, 0.9
SHORTEST_GAP_S, LONGEST_GAP_S = 0.05, 30.0
WORDS_PER_S, WORDS_SPREAD = 3.2, 0.15
EQUAL_DURATION_S, EQUAL_WORDS = 2.0, 6

REPEATED = 0.04  # sentences that repeat an earlier one
REPEATED_AT_ONCE = 0.02  # sentences that repeat the one before them
SENTENCES_PER_UNTRACKED = 150  # Ant-Man's last dialogue comes after its last trigger

FIRST_ONSET_S = 2.0
AFTER_DIALOGUE_S = 5.0


def _names(text: str) -> list[str]:
    return text.split()


_ACOUSTIC = _names(
    """
    delta_magnitude delta_mel delta_pitch delta_rms magnitude mel pitch rms
    """
)
_VISUAL = _names(
    """
    max_global_angle max_global_magnitude max_mean_magnitude max_mean_pixel_brightness
    max_mean_pixel_difference max_median_magnitude max_vector_angle max_vector_magnitude
    mean_pixel_brightness min_mean_pixel_brightness min_mean_pixel_difference
    """
)
FEATURE_COLUMNS = _names(
    """
    bin_head charecter_num delta_magnitude delta_mel delta_pitch delta_rms deprel end face_num
    gpt2_surprisal head idx_in_sentence is_onset lemma magnitude max_global_angle
    max_global_magnitude max_mean_magnitude max_mean_pixel_brightness max_mean_pixel_difference
    max_median_magnitude max_vector_angle max_vector_magnitude mean_pixel_brightness mel
    min_mean_pixel_brightness min_mean_pixel_difference onset_diff phoneme_num pitch pos
    prev_word_idx rms sentence sentence_idx speaker start syllable text word_diff word_idx
    word_length
    """
)


@dataclass(frozen=True, eq=False)
class Screenplay:
    """The dialogue of a movie.

    Attributes:
        sentences: The sentences in order.
        edges_s: Movie times that bound the spoken words of each sentence, [words + 1] each.
        end_s: Movie time of the last trigger; sentences after it are in the transcript only.
    """

    sentences: tuple[Sentence, ...]
    edges_s: tuple[np.ndarray, ...]
    end_s: float

    def tracked_words(self) -> list[tuple[tuple[str, ...], float]]:
        """Spoken words up to the last trigger, each by itself, and onsets in movie seconds."""
        return [
            ((token.text,), onset_s)
            for sentence, edges_s in zip(self.sentences, self.edges_s, strict=True)
            for token, onset_s in zip(_spoken(sentence), edges_s[:-1].tolist(), strict=True)
            if onset_s < self.end_s
        ]

    def tracked_sentences(self) -> list[tuple[tuple[str, ...], float]]:
        """The spoken words of each sentence up to the last trigger, and its onset likewise."""
        return [
            (tuple(token.text for token in _spoken(sentence)), float(edges_s[0]))
            for sentence, edges_s in zip(self.sentences, self.edges_s, strict=True)
            if len(edges_s) > 1 and edges_s[0] < self.end_s
        ]


def compose_screenplay(seed: int, sentences: int, equal_durations: bool) -> Screenplay:
    """Make up sentences and the times of their words."""
    random, generator = Random(seed), np.random.default_rng([seed, 0])
    durations_s = _durations(generator, sentences, equal_durations)
    counts = _word_counts(generator, durations_s, equal_durations)
    written = _write_sentences(random, counts)
    for number in range(1, sentences):
        if written[number] is written[number - 1]:  # said again at once, so in the same time
            durations_s[number] = durations_s[number - 1]
    gaps_s = GAP_MEDIAN_S * np.exp(GAP_SPREAD * generator.standard_normal(sentences))
    gaps_s = np.clip(gaps_s, SHORTEST_GAP_S, LONGEST_GAP_S)
    tracked = sentences - sentences // SENTENCES_PER_UNTRACKED
    onsets_s = FIRST_ONSET_S + np.cumsum(np.r_[0.0, durations_s + gaps_s])[:-1]
    onsets_s[tracked:] += 2 * AFTER_DIALOGUE_S
    edges_s = tuple(
        _word_edges(generator, onset_s, duration_s, sentence.n_words, equal_durations)
        for onset_s, duration_s, sentence in zip(onsets_s, durations_s, written, strict=True)
    )
    end_s = float(edges_s[tracked - 1][-1]) + AFTER_DIALOGUE_S
    return Screenplay(tuple(written), edges_s, round(end_s, 3))


def screenplay_to_times(seed: int, timings: SentenceTimings) -> Screenplay:
    """Make up sentences for given times and word counts; the words share a sentence's time."""
    random, generator = Random(seed), np.random.default_rng([seed, 0])
    written = _write_sentences(random, timings.n_words.tolist(), counts_bind=True)
    times = zip(timings.onset_s, timings.offset_s, timings.n_words.tolist(), strict=True)
    edges_s = tuple(
        _word_edges(generator, onset_s, offset_s - onset_s, n_words, equal=False)
        for onset_s, offset_s, n_words in times
    )
    end_s = float(timings.offset_s.max()) + AFTER_DIALOGUE_S
    return Screenplay(tuple(written), edges_s, round(end_s, 3))


def feature_rows(seed: int, screenplay: Screenplay) -> list[dict[str, object]]:
    """The rows of a `features.csv`, one per token: an unnamed index and 42 columns."""
    generator = np.random.default_rng([seed, 3])
    rows: list[dict[str, object]] = []
    for number, sentence in enumerate(screenplay.sentences):
        rows += _token_rows(generator, number, sentence, screenplay.edges_s[number], len(rows))
    return [{"": i} | {name: row[name] for name in FEATURE_COLUMNS} for i, row in enumerate(rows)]


def _durations(generator: np.random.Generator, n: int, equal: bool) -> np.ndarray:
    if equal:
        return np.full(n, EQUAL_DURATION_S)
    durations_s = DURATION_MEDIAN_S * np.exp(DURATION_SPREAD * generator.standard_normal(n))
    return np.clip(durations_s, SHORTEST_S, LONGEST_S)


def _word_counts(generator: np.random.Generator, durations_s: np.ndarray, equal: bool) -> list[int]:
    if equal:
        return [EQUAL_WORDS] * len(durations_s)
    spread = np.exp(WORDS_SPREAD * generator.standard_normal(len(durations_s)))
    counts = np.maximum(np.rint(durations_s * WORDS_PER_S * spread), 1)
    whole: list[int] = counts.astype(int).tolist()
    return whole


def _write_sentences(
    random: Random, counts: Sequence[int], counts_bind: bool = False
) -> list[Sentence]:
    """Sentences of given word counts, a few of which repeat an earlier one.

    A sentence that repeats the one before it takes over its word count, unless the counts are
    given.
    """
    written: list[Sentence] = []
    alike: dict[int, list[Sentence]] = {}
    for count in counts:
        chance = random.random()
        may_repeat = written and (not counts_bind or written[-1].n_words == count)
        if chance < REPEATED_AT_ONCE and may_repeat:
            sentence = written[-1]
        elif chance < REPEATED_AT_ONCE + REPEATED and count in alike:
            sentence = random.choice(alike[count])
        else:
            sentence = compose_sentence(random, count)
        written.append(sentence)
        alike.setdefault(sentence.n_words, []).append(sentence)
    return written


def _word_edges(
    generator: np.random.Generator, onset_s: float, duration_s: float, n_words: int, equal: bool
) -> np.ndarray:
    lengths = np.ones(n_words) if equal else generator.uniform(0.5, 1.5, n_words)
    shares = np.r_[0.0, np.cumsum(lengths) / lengths.sum()]
    edges_s: np.ndarray = np.round(round(onset_s, 3) + shares * round(duration_s, 3), 3)
    return edges_s


def _spoken(sentence: Sentence) -> list[Token]:
    return [token for token in sentence.tokens if token.spoken]


def _token_rows(
    generator: np.random.Generator, number: int, sentence: Sentence, edges_s: np.ndarray, first: int
) -> list[dict[str, object]]:
    """Rows of one sentence. Features that nothing here reads are noise of plausible type."""
    starts_s = iter(edges_s[:-1].tolist())
    ends_s = iter([*np.round(edges_s[1:-1] - 0.001, 3).tolist(), float(edges_s[-1])])
    rows = []
    for place, token in enumerate(sentence.tokens):
        row: dict[str, object] = dict(zip(_VISUAL, generator.random(len(_VISUAL)), strict=True))
        sound = generator.standard_normal(len(_ACOUSTIC))
        sound[generator.random(len(_ACOUSTIC)) < 0.002] = -np.inf
        row |= dict(zip(_ACOUSTIC, sound, strict=True))
        row |= _word_fields(token.text, token.pos, place, first + place)
        row |= {
            "sentence": sentence.text,
            "sentence_idx": number,
            "is_onset": float(place == 0),
            "start": next(starts_s) if token.spoken else np.nan,
            "end": next(ends_s) if token.spoken else np.nan,
            "gpt2_surprisal": generator.gamma(2.0, 3.0),
            "face_num": float(generator.integers(4)),
            "speaker": f"Speaker {number % 5}",
        }
        silent = () if token.spoken else (*_ACOUSTIC, "word_diff", "onset_diff")
        rows.append(row | dict.fromkeys(silent, np.nan))
    return rows


def _word_fields(text: str, pos: str, place: int, row: int) -> dict[str, object]:
    vowels = max(sum(letter in "aeiouy" for letter in text), 1)
    return {
        "text": text,
        "lemma": text,
        "pos": pos,
        "deprel": "dep" if place else "root",
        "head": max(place - 1, 0),
        "bin_head": int(place == 0),
        "idx_in_sentence": place,
        "word_idx": row,
        "prev_word_idx": row - 1,
        "word_diff": 0.25,
        "onset_diff": 0.25,
        "word_length": float(len(text)),
        "charecter_num": float(len(text)),
        "phoneme_num": float(len(text)),
        "syllable": float(vowels),
    }
