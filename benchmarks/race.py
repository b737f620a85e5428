"""What the race saves and what it costs: simulated sweeps, every policy on the same worlds.

    python benchmarks/race.py
    python benchmarks/race.py --sweeps 100

A score is configuration + split + noise, in points of Recall@10 (%), with the spreads below. The
regret of a sweep is the true effect of its best configuration minus that of the chosen one: the
highest mean among those with every seed. Without a sampler the configurations are given. With it,
TPE proposes them, in batches as the search does, on a smooth surface over all combinations of the
levels of some mask ratios, and the best is that of all combinations. Last, four families share
workers, and cells take a random time: nothing may run that one worker alone would not have run.
"""

# ruff: noqa: E402 - flags are checked before the imports that take seconds

from __future__ import annotations

from dataclasses import dataclass

from bounds import at_least

from ssense.cli.command import check_flags, run_command


@dataclass(frozen=True)
class Options:
    """What to simulate."""

    sweeps: int = 1000
    """Sweeps per setting."""

    def __post_init__(self) -> None:
        at_least(self, sweeps=2)


if __name__ == "__main__":
    check_flags(Options)  # before the imports that take seconds

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import field

import numpy as np
import optuna
from numpy.typing import NDArray
from wilcoxon_policy import Wilcoxon

from ssense.engine.core.sweep import Family
from ssense.engine.search.race import (
    PROPOSALS_AT_ONCE,
    STARTUP_PROPOSALS,
    Full,
    Policy,
    Race,
    Scores,
)
from ssense.engine.search.search import propose

CONFIGURATION_SD, SPLIT_SD, NOISE_SD = 0.7, 1.1, 0.9  # points
SEEDS = range(10)
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)
CANDIDATES = 290  # validation sentences: a Recall@10 is a multiple of 1/290
LEVEL = 20.0  # points; only where the steps begin depends on it

GIVEN = (3, 7, 10, 20, 40)  # configurations
PROPOSED = {2: (10, 20), 3: (10, 20, 40)}  # configurations, by number of ratios
RACES: dict[str, Policy] = {f"z {z}": Race(z=z) for z in (1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0)}
POLICIES: dict[str, Policy] = {"full": Full(), "Wilcoxon": Wilcoxon(), **RACES}
WILCOXON_AT = 20  # its tests take long

WORKERS = (1, 2, 8, 32)
FAMILIES = (1, 7, 10, 10)  # configurations

Array = NDArray[np.float64]
Results = dict[str, list[tuple[float, float]]]
"""For each sweep, by policy: share of the full grid's cells, and regret."""


def as_scores(table: Array) -> list[Scores]:
    return [dict(zip(SEEDS, row, strict=True)) for row in table.tolist()]


def noisy(effects: Array, rng: np.random.Generator) -> Array:
    """[configurations, seeds] scores of configurations with these effects."""
    split = rng.normal(0, SPLIT_SD, len(SEEDS))
    return effects[:, None] + split + rng.normal(0, NOISE_SD, (len(effects), len(SEEDS)))


def in_steps(table: Array) -> Array:
    return np.round((LEVEL + table) / 100 * CANDIDATES) / CANDIDATES * 100


def result(granted: Array, effects: Array, table: Array, best: float) -> tuple[float, float]:
    complete = granted == len(SEEDS)
    chosen = np.where(complete, table.mean(axis=1), -np.inf).argmax()
    return float(granted.mean() / len(SEEDS)), float(best - effects[chosen])


def given(n: int, sweeps: int, *, steps: bool = False) -> Results:
    """Sweeps over n configurations that are all there from the start."""
    rng = np.random.default_rng(n)
    slow = n != WILCOXON_AT or steps
    results: Results = {name: [] for name in POLICIES if name != "Wilcoxon" or not slow}
    for _ in range(sweeps):
        effects = rng.normal(0, CONFIGURATION_SD, n)
        table = noisy(effects, rng)
        table = in_steps(table) if steps else table
        for name, taken in results.items():
            verdict = POLICIES[name].judge(as_scores(table), SEEDS, all_proposed=True)
            taken.append(result(np.array(verdict.granted), effects, table, effects.max()))
    return results


def surface(n_ratios: int, rng: np.random.Generator) -> Array:
    """[combinations] a bump somewhere, at least as wide as a third of the range of a ratio."""
    places = np.array(list(itertools.product(range(len(RATIOS)), repeat=n_ratios)))
    centre, width = rng.uniform(0, 1, n_ratios), rng.uniform(0.3, 0.9, n_ratios)
    bump = np.exp(-0.5 * (((places / (len(RATIOS) - 1) - centre) / width) ** 2).sum(axis=1))
    return CONFIGURATION_SD * (bump - bump.mean()) / bump.std()


def batch_ends(n: int) -> list[int]:
    """How many of n configurations there are after each batch of proposals."""
    return [*range(STARTUP_PROPOSALS, n, PROPOSALS_AT_ONCE), n]


def proposals(policy: Policy, family: Family, scores: Sequence[Scores], n: int) -> list[int]:
    """Let TPE propose n times; return the places of the combinations."""
    combinations = list(itertools.product(*family.levels.values()))
    places: list[int] = []
    for end in batch_ends(n):
        known = [scores[place] for place in places]
        estimates = [*policy.judge(known, SEEDS, all_proposed=False).estimates]
        while len(places) < end:
            told = estimates + [None] * (len(places) - len(estimates))
            earlier = [dict(zip(family.levels, combinations[p], strict=True)) for p in places]
            proposal = propose(family, list(zip(earlier, told, strict=True)))
            assert proposal is not None
            places.append(combinations.index(tuple(proposal.values())))
    return places


def proposed(n_ratios: int, sweeps: int) -> dict[int, Results]:
    """Sweeps whose configurations TPE proposes, by their number: the first so many of one run."""
    rng = np.random.default_rng(n_ratios)
    levels = {f"ratio {i}": RATIOS for i in range(n_ratios)}
    sizes = PROPOSED[n_ratios]
    results: dict[int, Results] = {n: {name: [] for name in ("full", *RACES)} for n in sizes}
    for sweep in range(sweeps):
        family = Family(name=f"{sweep}", levels=levels)  # TPE's random numbers hang on the name
        effects = surface(n_ratios, rng)
        table = noisy(effects, rng)
        full = proposals(Full(), family, as_scores(table), max(sizes))
        race = proposals(Race(), family, as_scores(table), max(sizes))  # whatever z is
        for n, taken in results.items():
            scores = as_scores(table[race[:n]])
            before = [0, *batch_ends(n)][-2]
            explored = Race().judge(scores[:before], SEEDS, all_proposed=False).granted
            for name in taken:
                places = full[:n] if name == "full" else race[:n]
                granted = POLICIES[name].judge(scores, SEEDS, all_proposed=True).granted
                cells = np.maximum(granted, (*explored, *[0] * (n - before)))
                taken[name].append(result(cells, effects[places], table[places], effects.max()))
    return results


@dataclass
class Racing:
    """A family of a sweep that runs: what it has proposed, and which cells it has started."""

    policy: Policy
    table: Array
    scores: list[Scores] = field(default_factory=list)
    started: set[tuple[int, int]] = field(default_factory=set)

    def startable(self) -> Iterator[tuple[int, int]]:
        """Start what is granted and was not; propose once nothing is awaited."""
        while True:
            last = len(self.scores) == len(self.table)
            granted = self.policy.judge(self.scores, SEEDS, all_proposed=last).granted
            cells = {(place, seed) for place, k in enumerate(granted) for seed in SEEDS[:k]}
            yield from sorted(cells - self.started)
            self.started |= cells
            if last or any(seed not in self.scores[place] for place, seed in cells):
                return
            end = next(n for n in batch_ends(len(self.table)) if n > len(self.scores))
            self.scores += [{} for _ in range(end - len(self.scores))]


def play(
    policy: Policy, tables: Sequence[Array], seconds: Sequence[Array], workers: int
) -> tuple[set[tuple[int, int, int]], float, float]:
    """Run families on some workers; return the cells run, the time taken and the share idle."""
    families = [Racing(policy, table) for table in tables]
    waiting = [(f, *cell) for f, family in enumerate(families) for cell in family.startable()]
    running: list[tuple[float, int, int, int]] = []
    now = busy = 0.0
    while waiting or running:
        while waiting and len(running) < workers:
            f, place, seed = waiting.pop(0)
            busy += seconds[f][place, seed]
            heapq.heappush(running, (now + seconds[f][place, seed], f, place, seed))
        now, f, place, seed = heapq.heappop(running)
        families[f].scores[place] |= {seed: float(tables[f][place, seed])}
        if all(seed in families[f].scores[place] for place, seed in families[f].started):
            waiting += [(f, *cell) for cell in families[f].startable()]
    cells = {(f, *cell) for f, family in enumerate(families) for cell in family.started}
    return cells, now, 1 - busy / (workers * now)


def shared_workers(sweeps: int) -> Iterator[str]:
    """Lines on time and idleness, for several numbers of workers."""
    rng = np.random.default_rng(0)
    rows: dict[tuple[int, str], list[tuple[float, float, float, int]]] = {}
    for _ in range(sweeps):
        tables = [noisy(rng.normal(0, CONFIGURATION_SD, n), rng) for n in FAMILIES]
        seconds = [rng.uniform(0.5, 1.5, table.shape) for table in tables]
        for name, policy in (("full", Full()), ("race", Race())):
            alone, *_ = play(policy, tables, seconds, 1)
            for workers in WORKERS:
                cells, took, idle = play(policy, tables, seconds, workers)
                share = len(cells) / (len(SEEDS) * sum(FAMILIES))
                outcome = share, took, idle, len(cells - alone)
                rows.setdefault((workers, name), []).append(outcome)
    for (workers, name), outcomes in rows.items():
        share, took, idle, wasted = np.mean(outcomes, axis=0)
        full = np.mean([time for _, time, _, _ in rows[workers, "full"]])
        yield (
            f"{workers:7}  {name:6} {share:7.2f} {took:7.1f} {took / full:8.2f} {idle:7.2f} "
            f"{wasted:7.0f}"
        )


def row(label: str, shown: dict[str, str]) -> str:
    return f"{label:>27}" + "".join(f"{shown.get(name, '–'):>9}" for name in POLICIES)


def lines(title: str, results: Results) -> Iterator[str]:
    """Three lines of a setting: cells, regret, and the regret's standard error."""
    cells = {name: np.array(taken)[:, 0] for name, taken in results.items()}
    regret = {name: np.array(taken)[:, 1] for name, taken in results.items()}
    extra = {name: values - regret["full"] for name, values in regret.items() if name != "full"}
    means = {name: f"{values.mean():+.3f}" for name, values in extra.items()}
    compared = extra | {"full": regret["full"]}
    errors = {name: v.std(ddof=1) / np.sqrt(len(v)) for name, v in compared.items()}
    yield row(f"{title:21} cells", {name: f"{values.mean():.3f}" for name, values in cells.items()})
    yield row("regret", means | {"full": f"{regret['full'].mean():.3f}"})
    yield row("±", {name: f"{error:.3f}" for name, error in errors.items()})


def main(options: Options) -> None:
    """Simulate sweeps in every setting; print cells and regret of each policy."""
    sweeps = options.sweeps
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{sweeps} sweeps per setting; {len(SEEDS)} seeds; by default")
    print(f"{Race()}.")
    print("cells: share of the full grid's. regret: points; of the others, beyond the full grid's.")
    print(row("", {name: name for name in POLICIES}))
    for n in GIVEN:
        print(*lines(f"{n:2} given", given(n, sweeps)), sep="\n", flush=True)
    steps = given(WILCOXON_AT, sweeps, steps=True)
    print(*lines(f"{WILCOXON_AT:2} given, in steps", steps), sep="\n", flush=True)
    for n_ratios in PROPOSED:
        for n, results in proposed(n_ratios, sweeps).items():
            print(*lines(f"{n:2} by TPE, {n_ratios} ratios", results), sep="\n", flush=True)
    print(f"\nFamilies of {FAMILIES} configurations, a cell takes 1 on average:")
    print("workers  policy   cells    time  of full    idle  wasted")
    print(*shared_workers(max(2, sweeps // 20)), sep="\n")


if __name__ == "__main__":
    run_command(Options, main)
