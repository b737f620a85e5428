from __future__ import annotations

from dataclasses import replace

import numpy as np

from analysis.mapping.durations import behind_most, said_of_durations
from analysis.mapping.effects import EffectMap
from analysis.mapping.parts import Axes, all_parts
from analysis.measure.inference import TTest

AXES = Axes(electrodes=("A1",), rows=[5.0, 10.0], times_s=np.arange(8) / 4)
SPOKEN_S = np.array([0.5, 1.0, 1.2, 1.9])


def windows(means: list[float], similar: list[float]) -> EffectMap:
    parts, n = all_parts(("times",), AXES, {}, windows=len(means), bands=1), len(means)
    return EffectMap(
        what="time window",
        metric="recall@10",
        parts=parts,
        by_seed=np.tile(means, (3, 1)),
        scores=np.zeros((3, n)),
        tests=[TTest(1.0, 0.001, 2, mean, mean - 0.01, mean + 0.01, 0.005) for mean in means],
        p_holm=np.full(n, 0.001),
        p_fdr=np.full(n, 0.001),
        p_max=np.where(np.array(means) > 0.1, 0.01, 0.5),
        threshold=0.1,
        similar=np.tile(similar, (3, 1)),
    )


def test_windows_of_durations_and_behind_the_end_are_named():
    found = windows([0.3, 0.0, 0.0, 0.2], [0.01, 0.0, 0.0, 0.19])
    assert behind_most(found, AXES, SPOKEN_S).tolist() == [False, False, False, True]
    by_length, late = said_of_durations(found, AXES, SPOKEN_S)
    name = found.parts[3].name
    assert by_length.startswith(f"Time window: {name} carries the score by how long sentences are")
    assert late.startswith(f"Time window: {name} carries the score where fewer than half of the")


def test_what_words_carry_is_said_to_be_of_no_duration():
    assert said_of_durations(windows([0.3, 0.0, 0.0, 0.0], [0.01] * 4), AXES, SPOKEN_S) == []
    # Of other parts than windows none lies behind the end.
    bands = replace(windows([0.3, 0.2], [0.0, 0.0]), what="frequency band")
    assert not behind_most(bands, AXES, SPOKEN_S).any()
