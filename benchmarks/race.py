"""What the race saves and what it costs: simulated sweeps, every policy on the same worlds.

    python benchmarks/race.py
    python benchmarks/race.py --sweeps 100

A score is configuration + split + noise, in points of Recall@10 (%), with the spreads below. The
regret of a sweep is the true effect of its best configuration minus that of the chosen one: the
highest mean among those with every seed. Without a sampler the configurations are given. With it,
TPE proposes them, in batches as the search does, on a smooth surface over all combinations of the
levels of some mask ratios, and the best is that of all combinations: three at once ("by 3") from
results alone, and as a new sweep of this size is proposed. "data": a family of choices of the data
and a mask ratio, with fields that exist with one kind of features alone. A split may suit some of
its datasets more than others, with a spread of so many points; pairing does not take that away.
Last, the four families of sweeps/masking.py share workers, cells take a random time, and the
engine's own search says what runs: with and without cells that run ahead, and with either kind of
proposals.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import optuna
from numpy.typing import NDArray
from wilcoxon_policy import Wilcoxon

from ssense.engine.core.cell import Cell, Configuration, Level
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import BY_THREES, STARTUP_PROPOSALS, Family, Sweep, proposals_at_once
from ssense.engine.search.race import Full, Policy, Race, Scores
from ssense.engine.search.search import Scored, Search, propose
from ssense.training.loop import SELECTION_METRIC
from ssense.training.sentences import SentenceSpec

CONFIGURATION_SD, SPLIT_SD, NOISE_SD = 0.7, 1.1, 0.9  # points
SEEDS = range(10)
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)
CANDIDATES = 290  # validation sentences: a Recall@10 is a multiple of 1/290
LEVEL = 20.0  # points; only where the steps begin depends on it

GIVEN = (3, 7, 10, 20, 40)  # configurations
PROPOSED = {2: (10, 20), 3: (10, 20, 40)}  # configurations, by number of ratios
MIXED = Family(
    name="mixed",
    levels={
        "features": ("superlets", "fourier", "band-power"),
        "masking.electrode": RATIOS,
        "features.window_s": (0.1, 0.2, 0.4),
        "features.bands": ("beta", "gamma", "high-gamma", "beta+high-gamma"),
    },
    needs={
        "features.window_s": {"features": ("fourier",)},
        "features.bands": {"features": ("band-power",)},
    },
)
MIXED_SIZES = (10, 20)  # configurations, of 56
DATA_SPLIT_SDS = (0.0, 0.6)  # points, of what a split and a dataset have with each other
RACES: dict[str, Policy] = {f"z {z}": Race(z=z) for z in (1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0)}
POLICIES: dict[str, Policy] = {"full": Full(), "Wilcoxon": Wilcoxon(), **RACES}
WILCOXON_AT = 20  # its tests take long

WORKERS = (2, 8, 32, 200)
# The default families of sweeps/masking.py.
FAMILIES = tuple(
    Family(name=" + ".join(fields) or "none", levels={f"masking.{f}": RATIOS for f in fields})
    for fields in ((), ("electrode",), ("frequency", "time"), ("electrode", "frequency", "time"))
)
SWEEP = Sweep(
    question="race",
    dataset_digest="simulated",
    specification=SentenceSpec(),
    families=FAMILIES,
    configurations=10,
    seeds=tuple(SEEDS),
)
SWEEPS = (
    SWEEP,  # by threes, from results alone
    replace(
        SWEEP, proposals_at_once=proposals_at_once(SWEEP.configurations), spread_proposals=True
    ),
)

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


class Space(NamedTuple):
    """What TPE proposes from, and how the scores of all combinations are drawn.

    Attributes:
        family: The family, whose name each sweep replaces.
        draw: Function that draws effects `[combinations]` and scores `[combinations, seeds]`.
    """

    family: Family
    draw: Callable[[np.random.Generator], tuple[Array, Array]]


def of_ratios(n: int) -> Space:
    """So many mask ratios, and a smooth surface over them."""

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        effects = surface(n, rng)
        return effects, noisy(effects, rng)

    return Space(Family(name="", levels={f"ratio {i}": RATIOS for i in range(n)}), draw)


def mixed(data_split_sd: float) -> Space:
    """Choices of the data and a mask ratio: an effect of each dataset, and a bump over ratios."""
    configurations = [*MIXED.configurations()]
    ratio = np.array([RATIOS.index(each["masking.electrode"]) for each in configurations])
    chosen = [str({**each, "masking.electrode": None}) for each in configurations]
    datasets, of = np.unique(chosen, return_inverse=True)

    def draw(rng: np.random.Generator) -> tuple[Array, Array]:
        bump = surface(1, rng)[ratio]
        effects = bump + rng.normal(0, CONFIGURATION_SD, len(datasets))[of]
        effects = CONFIGURATION_SD * (effects - effects.mean()) / effects.std()
        suits = rng.normal(0, data_split_sd, (len(datasets), len(SEEDS)))
        return effects, noisy(effects, rng) + suits[of]

    return Space(MIXED, draw)


def surface(n_ratios: int, rng: np.random.Generator) -> Array:
    """[combinations] a bump somewhere, at least as wide as a third of the range of a ratio."""
    places = np.array(list(itertools.product(range(len(RATIOS)), repeat=n_ratios)))
    centre, width = rng.uniform(0, 1, n_ratios), rng.uniform(0.3, 0.9, n_ratios)
    bump = np.exp(-0.5 * (((places / (len(RATIOS) - 1) - centre) / width) ** 2).sum(axis=1))
    return CONFIGURATION_SD * (bump - bump.mean()) / bump.std()


def batch_ends(n: int, at_once: int) -> list[int]:
    """How many of n configurations there are after each batch of proposals."""
    return [*range(STARTUP_PROPOSALS, n, at_once), n]


def proposals(
    policy: Policy, family: Family, scores: Sequence[Scores], n: int, at_once: int = BY_THREES
) -> list[int]:
    """Let TPE propose n times; return the places of the combinations."""
    combinations = [*family.configurations()]
    place_of = {tuple(each.items()): place for place, each in enumerate(combinations)}
    places: list[int] = []
    for end in batch_ends(n, at_once):
        known = [scores[place] for place in places]
        estimates = [
            *policy.judge(known, SEEDS, all_proposed=False, at_once=at_once).estimates,
        ]
        while len(places) < end:
            told = estimates + [None] * (len(places) - len(estimates))
            earlier = [combinations[place] for place in places]
            spread = at_once != BY_THREES  # as sweeps have it
            proposal = propose(family, list(zip(earlier, told, strict=True)), spread)
            assert proposal is not None
            places.append(place_of[tuple(proposal.items())])
    return places


def proposed(
    space: Space, sizes: Sequence[int], sweeps: int, seed: int
) -> dict[tuple[int, int], Results]:
    """Sweeps whose configurations TPE proposes, by how many there are and how many come at once.

    Those by threes are the first so many of one run. The full grid is always proposed by threes.
    """
    rng = np.random.default_rng(seed)
    settings = dict.fromkeys((n, k) for n in sizes for k in (BY_THREES, proposals_at_once(n)))
    results: dict[tuple[int, int], Results] = {
        setting: {name: [] for name in ("full", *RACES)} for setting in settings
    }
    for sweep in range(sweeps):
        family = replace(space.family, name=f"{sweep}")  # TPE's random numbers hang on the name
        effects, table = space.draw(rng)
        full = proposals(Full(), family, as_scores(table), max(sizes))
        by_threes = proposals(Race(), family, as_scores(table), max(sizes))  # whatever z is
        for (n, at_once), taken in results.items():
            race = by_threes[:n]
            if at_once != BY_THREES:
                race = proposals(Race(), family, as_scores(table), n, at_once)
            scores = as_scores(table[race])
            before = [0, *batch_ends(n, at_once)][-2]
            explored = (
                Race().judge(scores[:before], SEEDS, all_proposed=False, at_once=at_once).granted
            )
            for name in taken:
                places = full[:n] if name == "full" else race
                granted = POLICIES[name].judge(scores, SEEDS, all_proposed=True).granted
                cells = np.maximum(granted, (*explored, *[0] * (n - before)))
                taken[name].append(result(cells, effects[places], table[places], effects.max()))
    return results


class World:
    """Scores and durations of all cells of `FAMILIES`, drawn anew for each sweep.

    What TPE is asked is remembered, for it answers the same however many workers there are.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._cells: dict[tuple[tuple[tuple[str, Level], ...], int], tuple[float, float]] = {}
        self._proposals: dict[str, Configuration | None] = {}
        for family in FAMILIES:
            n_ratios = len(family.levels)
            table = noisy(surface(n_ratios, rng) if n_ratios else np.zeros(1), rng)
            for values, scores in zip(
                itertools.product(*family.levels.values()), table, strict=True
            ):
                configuration = tuple(zip(family.levels, values, strict=True))
                for seed in SEEDS:
                    self._cells[configuration, seed] = scores[seed], rng.uniform(0.5, 1.5)

    def propose(
        self, family: Family, earlier: Sequence[Scored], *sampler: bool
    ) -> Configuration | None:
        """What TPE proposes."""
        asked = f"{family.name} {earlier} {sampler}"
        if asked not in self._proposals:
            self._proposals[asked] = propose(family, earlier, *sampler)
        return self._proposals[asked]

    def record(self, search: Search, cell: Cell) -> Record:
        """The result of a cell."""
        score, _ = self._cells[tuple(cell.configuration.items()), cell.seed]
        return Record(
            signature=search.signature(cell),
            configuration=cell.configuration,
            seed=cell.seed,
            status="done",
            dataset_digest=search.sweep.dataset_digest,
            history=[{"epoch": 1, SELECTION_METRIC: (LEVEL + score) / 100}],
            best_epoch=1,
        )

    def duration(self, cell: Cell) -> float:
        """How long a cell takes; 1 on average."""
        return self._cells[tuple(cell.configuration.items()), cell.seed][1]


class Played(NamedTuple):
    """How a sweep went: cells trained and counted as shares of the grid's, time, share idle."""

    trained: float
    counted: float
    time: float
    idle: float


def play(world: World, sweep: Sweep, policy: Policy, workers: int, *, ahead: bool) -> Played:
    """Run a sweep by the engine's own search until the last worker is idle."""
    search = Search(sweep, policy)
    running: list[tuple[float, int, Cell]] = []
    now = busy = 0.0
    for number in itertools.count():
        while len(running) < workers:
            cell = search.next_cell() or (search.next_ahead() if ahead else None)
            if cell is None:
                break
            duration = world.duration(cell)
            busy += duration
            heapq.heappush(running, (now + duration, number + len(search.running), cell))
        if not running:
            break
        now, _, cell = heapq.heappop(running)
        search.finish(world.record(search, cell))
    counted = sum(search.record(cell) is not None for _, cell in search.cells())
    return Played(
        len(search.records) / sweep.n_cells,
        counted / sweep.n_cells,
        now,
        1 - busy / (workers * now),
    )


def shared_workers(sweeps: int) -> Iterator[str]:
    """Lines on cells, time and idleness, for several numbers of workers and of proposals."""
    rng = np.random.default_rng(0)
    taken: dict[tuple[int, int, str], list[Played]] = {}
    runs = {"full": (Full(), False), "race": (Race(), False), "race, ahead": (Race(), True)}
    for _ in range(sweeps):
        world = World(rng)
        with patch("ssense.engine.search.search.propose", world.propose):
            for workers, sweep in itertools.product(WORKERS, SWEEPS):
                for name, (policy, ahead) in runs.items():
                    played = play(world, sweep, policy, workers, ahead=ahead)
                    at_once = sweep.proposals_at_once
                    taken.setdefault((workers, at_once, name), []).append(played)
    for (workers, at_once, name), outcomes in taken.items():
        trained, counted, took, idle = np.mean(outcomes, axis=0)
        grid = np.mean([each.time for each in taken[workers, BY_THREES, "full"]])
        yield (
            f"{workers:7}  {at_once:7}  {name:11} {trained:7.2f} {counted:8.2f} {took:7.1f} "
            f"{took / grid:8.2f} {idle:7.2f}"
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
    spaces = {f"{n} ratios": (of_ratios(n), sizes, n) for n, sizes in PROPOSED.items()}
    for sd in DATA_SPLIT_SDS:
        spaces[f"data {sd:g}"] = mixed(sd), MIXED_SIZES, 0
    for title, (space, n_configurations, seed) in spaces.items():
        for (n, at_once), results in proposed(space, n_configurations, sweeps, seed).items():
            print(*lines(f"{n:2} by {at_once:2}, {title}", results), sep="\n", flush=True)
    sizes = [SWEEP.wanted(family) for family in FAMILIES]
    print(f"\nFamilies of {sizes} configurations, a cell takes 1 on average.")
    print(
        "trained, counted: shares of the grid's cells. of grid: of the time of the full grid whose"
    )
    print(f"configurations are proposed {BY_THREES} at once, on as many workers.")
    print("workers  at once  policy      trained  counted    time  of grid    idle")
    print(*shared_workers(max(2, sweeps // 20)), sep="\n")


if __name__ == "__main__":
    run_command(Options, main)
