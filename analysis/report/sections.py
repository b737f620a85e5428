"""The sections of the report: what an evaluation found, and what its scores are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from upath import UPath

from analysis.control.scores import control_rows
from analysis.measure.evaluation import PRIMARY, leading_family
from analysis.measure.examples import examples
from analysis.measure.protocol import (
    FRESH_SEEDS,
    Protocol,
    candidates,
    difference_rows,
    published_rows,
    table_rows,
)
from analysis.report.figures import (
    Curve,
    Trial,
    bar_figure,
    candidates_by_seed,
    curve_figure,
    family_figure,
    rank_figure,
    recall_figure,
    response_figure,
    styled_matrix,
    swept_fields,
)
from analysis.report.findings import explained_by, findings, power_note, repeats_note, verdict
from analysis.report.origin import (
    KeptControls,
    control_verdict,
    control_words,
    controls_command,
    data_facts,
    provenance_facts,
    sweep_facts,
)
from analysis.report.page import Block, FactTable, Grid, Picture, Points, Section, Words
from ssense.engine.core.cell import describe, label
from ssense.engine.core.record import Record
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.errors import printable
from ssense.retrieval import metric_title

NO_CONTROLS = (
    "No controls were run, so nothing here says how much of the score sentence length alone or "
    "the place in the movie would reach. Run: {}"
)
OLD_CONTROLS = (
    "The controls that were run last are of another configuration or of other seeds than the best "
    "configuration of the search, and are left out. Run again: {}"
)

MOST_CHARACTERS = 300
"""Longest sentence among the examples, characters."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """All that the report is made from.

    Attributes:
        ledger: The sweep's ledger.
        search: The sweep's search, as far as it has come.
        shards: Folder of the recording's spectrograms.
        sentences: N, of the dataset.
        controls: The controls as they were run last; None where there were none.
        protocols: Evaluations, the strictest last.
        records: Records of all cells that were evaluated or that the evaluated ones were chosen
            among; at least one.
        missing: Names of the cells that the choice went without.
        notes: Notes on how exact the results are.
        written_at: When the report is written.
    """

    ledger: Ledger
    search: Search
    shards: UPath
    sentences: Sequence[str]
    controls: KeptControls | None
    protocols: Sequence[Protocol]
    records: Sequence[Record]
    missing: Sequence[str]
    notes: Sequence[str]
    written_at: str

    @property
    def last(self) -> Protocol:
        """The strictest protocol."""
        return self.protocols[-1]

    @property
    def leader(self) -> str:
        """The family whose configuration leads on the validation splits."""
        return leading_family(self.search, self.last.evaluation.chosen)

    @property
    def own_controls(self) -> KeptControls | None:
        """The controls, where they are of the leading configuration at the search's seeds."""
        configuration = describe(self.last.evaluation.chosen[self.leader])
        wanted = self.leader, configuration, self.search.sweep.seeds
        return self.controls if self.controls and self.controls.belong_to(*wanted) else None

    @property
    def verdict(self) -> str:
        """A paragraph to quote of what all of it shows, at the strictest seeds.

        Controls are run at the seeds of the search alone, which is said where others are tested.
        """
        evaluation, fresh = self.last.evaluation, self.last.name == FRESH_SEEDS
        clause = control_verdict(self.ledger) if self.own_controls else ""
        explained = explained_by(self.leader, clause, fresh=fresh)
        metric = f"{metric_title(PRIMARY)} at {FRESH_SEEDS}" if fresh else metric_title(PRIMARY)
        names = list(evaluation.retrievals)
        return verdict(names, evaluation.comparisons(PRIMARY), metric, explained)

    @property
    def missing_note(self) -> list[str]:
        """Name the cells that the choice went without, if there were any."""
        n = len(self.missing)
        cells = "one missing cell" if n == 1 else f"{n} missing cells"
        return [f"Without {cells}: {'; '.join(self.missing)}."] if n else []


def sections(material: Material, pictures: Mapping[str, Picture]) -> list[Section]:
    """Arrange the report.

    Args:
        material: What the report is made from.
        pictures: Figures of the report by name.

    Raises:
        UserError: The folder of the shards is damaged.
    """
    ledger, search = material.ledger, material.search
    evaluation = material.last.evaluation
    sizes = {"train": evaluation.n_train, "test": evaluation.n_test}
    run = FactTable("The sweep", sweep_facts(ledger, search))
    data = FactTable("The data, and what to beware of", data_facts(ledger, material.shards, sizes))
    made = provenance_facts(ledger, material.records, material.written_at)
    return [
        Section("What it shows", [Words([material.verdict])]),
        *(_test_section(material, protocol, pictures) for protocol in material.protocols[::-1]),
        Section("What the score is made of", _score_blocks(material, pictures)),
        Section("What was run, and on what", [run, data]),
        Section(
            "The search", [pictures[n] for n in ("matrix", "response", "curves") if n in pictures]
        ),
        Section("Provenance", [FactTable("What made this", made)]),
    ]


def draw_pictures(material: Material) -> dict[str, Picture]:
    """Draw every figure of the report, by the name of its files."""
    drawn = [_matrix_picture(material), _curve_picture(material)]
    trials = search_trials(material.search)
    if swept_fields(trials):
        drawn.append(_response_picture(material, trials))
    if material.own_controls:
        drawn.append(_control_picture(material.own_controls))
    for protocol in material.protocols:
        drawn += _protocol_pictures(protocol)
    return {picture.name: picture for picture in drawn}


def search_trials(search: Search) -> list[Trial]:
    """The configurations with a result, as the search saw them."""
    found = []
    for row in search.rows:
        scores = [record.best[search.sweep.metric] for record in search.done(row.configuration)]
        if scores:
            complete = len(scores) == len(search.sweep.seeds)
            found.append(
                Trial(
                    family=row.family,
                    configuration=row.configuration,
                    scores=scores,
                    complete=complete,
                )
            )
    return found


def example_rows(material: Material) -> tuple[str, list[dict[str, str | list[str]]]]:
    """Lay out examples of the family that leads on the validation split, at the first seed.

    Returns:
        A caption, and a row for each example.
    """
    evaluation, family = material.last.evaluation, material.leader
    retrieval, seed = evaluation.retrievals[family][0], evaluation.seeds[0]
    rows = [
        {
            "query": printable(example.query, MOST_CHARACTERS),
            "of its split": example.kind,
            "rank": f"{example.rank:g} of {len(retrieval.ranks)}",
            "retrieved first": [
                printable(sentence, MOST_CHARACTERS) + (" (the true one)" if hit else "")
                for sentence, hit in zip(example.retrieved, example.hits, strict=True)
            ],
        }
        for example in examples(retrieval, material.sentences)
    ]
    caption = (
        f"Sentences retrieved from the signal, best match first: {family}, "
        f"{describe(evaluation.chosen[family])}, which leads on the validation splits, at seed "
        f"{seed}. The queries whose true sentence ranks best, in the middle and worst; of equal "
        "ranks the earlier in the movie."
    )
    return caption, rows


def _test_section(
    material: Material, protocol: Protocol, pictures: Mapping[str, Picture]
) -> Section:
    evaluation = protocol.evaluation
    rows = [*table_rows(evaluation), *published_rows(material.ledger)]
    title = metric_title(PRIMARY)
    notes = [*material.missing_note, *material.notes]
    first = notes if protocol is material.last else []
    return Section(
        f"Test at {protocol.name}",
        [
            Words(first),
            Grid(protocol.caption, rows),
            Points([*findings(evaluation), power_note(evaluation)]),
            pictures[protocol.file_name],
            pictures[f"{protocol.file_name}_recall"],
            Grid(
                f"Tests of {title}, differences in points. {evaluation.legend}",
                difference_rows(evaluation, PRIMARY),
            ),
        ],
    )


def _score_blocks(material: Material, pictures: Mapping[str, Picture]) -> list[Block]:
    caption, rows = example_rows(material)
    return [
        *_control_blocks(material, pictures),
        Words([repeats_note(material.last.evaluation, material.sentences)]),
        pictures[f"{material.last.file_name}_ranks"],
        *([Grid(caption, rows)] if rows else []),
    ]


def _control_blocks(material: Material, pictures: Mapping[str, Picture]) -> list[Block]:
    kept = material.own_controls
    if kept is None:
        words = OLD_CONTROLS if material.controls else NO_CONTROLS
        return [Words([words.format(controls_command(material.ledger))])]
    rows = control_rows(kept.scores)
    return [
        pictures["controls"],
        Points(control_words(material.ledger)),
        Grid("The same controls, mean ± sd over the seeds of the search.", rows),
    ]


def _protocol_pictures(protocol: Protocol) -> list[Picture]:
    evaluation, name = protocol.evaluation, protocol.file_name
    ranks = {
        family: [r.ranks for r in by_seed] for family, by_seed in evaluation.retrievals.items()
    }
    sizes = candidates_by_seed(ranks)
    recalls = {
        family: [evaluation.mean(f"recall@{k}", family) for k in range(1, max(sizes) + 1)]
        for family in ranks
    }
    on_what, n_test = f"{len(evaluation.seeds)} {protocol.name}", candidates(evaluation)
    return [
        Picture(
            name,
            f"Test scores by family and seed, {protocol.name}",
            f"Test scores of each family's best configuration at {on_what}. A grey line joins the "
            "scores of one seed, which share split, initial weights and order of batches; dashed: "
            "what a random ranking reaches.",
            family_figure(evaluation.scores, evaluation.chance, [PRIMARY, "mrr"]),
        ),
        Picture(
            f"{name}_recall",
            f"Recall at every k by family, {protocol.name}",
            f"Share of test queries whose true sentence is among the first k of {n_test} "
            f"candidates: mean over {on_what} and its 95 % interval at each k, by the same units "
            "as the tests; dashed: chance, k of all candidates.",
            recall_figure(recalls, sizes),
        ),
        Picture(
            f"{name}_ranks",
            f"Histogram of the true sentence's rank by family, {protocol.name}",
            f"Rank of the true sentence among {n_test} candidates, over all queries of {on_what}, "
            "as multiples of what a random ranking gives (dashed).",
            rank_figure(ranks),
        ),
    ]


def _matrix_picture(material: Material) -> Picture:
    return Picture(
        "matrix",
        "Matrix configuration by seed of the search",
        f"Every cell of the search: best validation {metric_title(material.search.sweep.metric)} "
        "(%) by configuration and seed, with mean and sd over the seeds done. No test split is "
        "behind this figure.",
        styled_matrix(material.search.matrix()),
    )


def _curve_picture(material: Material) -> Picture:
    search, chosen = material.search, material.last.evaluation.chosen
    metric, training = search.sweep.metric, search.sweep.specification.training
    curves = {
        family: [
            Curve(scores=[epoch[metric] for epoch in r.history], best_epoch=r.best_epoch)
            for r in search.done(configuration)
        ]
        for family, configuration in chosen.items()
    }
    names = "; ".join(label(*each) for each in chosen.items())
    return Picture(
        "curves",
        "Validation curves by family and seed",
        f"Validation {metric_title(metric)} by epoch, a line for each seed of the search, of each "
        f"family's best configuration ({names}). Dots: the epoch whose encoder was kept, the "
        f"first with the highest score; training stops {training.patience} epochs after it, and "
        f"after {training.max_epochs} at the latest.",
        curve_figure(curves, metric),
    )


def _response_picture(material: Material, trials: Sequence[Trial]) -> Picture:
    metric = metric_title(material.search.sweep.metric)
    unswept = " Dashed: the family without any." if any(not t.configuration for t in trials) else ""
    return Picture(
        "response",
        f"Validation {metric} against each swept field",
        f"Validation {metric} against each field of the search. A mark is a configuration, mean ± "
        "sd over the seeds; an open one did not meet every seed, and its mean can't be compared. "
        "Lines join a family's means at each value, whatever the other fields, over configurations "
        f"with every seed.{unswept} The search looks where scores are high: where marks are few, "
        "little is known.",
        response_figure(trials, material.search.sweep.metric),
    )


def _control_picture(kept: KeptControls) -> Picture:
    scores = {name: found.scores[PRIMARY] for name, found in kept.scores.items()}
    chance = {name: found.chance[PRIMARY] for name, found in kept.scores.items()}
    return Picture(
        "controls",
        "Test Recall@10 of the controls",
        "Test Recall@10 of the best configuration, and of controls that lack the brain, the "
        "training or the pairing: mean, sd and scores over seeds. What a control reaches, the "
        "score does not owe to what the control lacks. The upright mark on a bar is the chance of "
        "its own candidates: among fewer it is higher.",
        bar_figure(scores, PRIMARY, chance),
    )
