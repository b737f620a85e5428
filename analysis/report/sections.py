"""The sections of the report: what an evaluation found, and what its scores are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.measure.examples import examples
from analysis.measure.seed_results import SeedResult, candidates, difference_rows, table_rows
from analysis.report.figures import (
    MOST_NAMES,
    Curve,
    TriedConfiguration,
    candidates_by_seed,
    curve_figure,
    family_figure,
    names_of,
    rank_figure,
    recall_figure,
    response_figure,
    styled_matrix,
    swept_fields,
)
from analysis.report.findings import capital, findings, power_note
from analysis.report.map_section import maps_section, subjects_of
from analysis.report.material import Material
from analysis.report.origin import provenance_facts, sweep_facts
from analysis.report.page import Block, Cell, FactTable, Grid, Picture, Points, Section, Words
from ssense.engine.core.cell import describe, label
from ssense.engine.search.search import Search
from ssense.errors import printable
from ssense.retrieval import metric_title
from ssense.training.loop import SELECTION_METRIC

MOST_CHARACTERS = 300
"""Longest text of a stimulus among the examples, characters."""


NO_TEST = "No test split is behind this figure."


def sections(material: Material, pictures: Mapping[str, Picture]) -> list[Section]:
    """Arrange the report.

    Args:
        material: What the report is made from.
        pictures: Figures of the report by name.

    Raises:
        UserError: The folder of the shards or what is kept of maps is damaged.
    """
    ledger, search = material.ledger, material.search
    searched = material.results[0].evaluation
    known = material.task.data_facts(material.last.evaluation)
    run = FactTable("The sweep", sweep_facts(ledger, search))
    data = FactTable("The data, and what to beware of", known)
    made = provenance_facts(ledger, material.records, material.written_at)
    return [
        Section("What it shows", [Words([material.verdict])]),
        *(_test_section(material, result, pictures) for result in material.results[::-1]),
        *(
            [Section(question.title, question.blocks(pictures[question.name]))]
            if (question := material.question)
            else []
        ),
        Section("What the score is made of", _score_blocks(material, pictures)),
        maps_section(ledger, subjects_of(searched.chosen, searched.seeds)),
        Section("What was run, and on what", [run, data]),
        Section(
            "The search", [pictures[n] for n in ("matrix", "response", "curves") if n in pictures]
        ),
        Section("Provenance", [FactTable("What made this", made)]),
    ]


def draw_pictures(material: Material) -> dict[str, Picture]:
    """Draw every figure of the report, by the name of its files."""
    drawn = [_matrix_picture(material), _curve_picture(material)]
    tried = tried_configurations(material.search)
    if swept_fields(tried):
        drawn.append(_response_picture(tried))
    if material.question:
        drawn.append(material.question.picture())
    drawn += material.task.pictures(material.last.evaluation, material.leader)
    for result in material.results:
        drawn += _result_pictures(result)
    return {picture.name: picture for picture in drawn}


def tried_configurations(search: Search) -> list[TriedConfiguration]:
    """The configurations with a result, as the search saw them."""
    found = []
    for row in search.rows:
        scores = [record.best[SELECTION_METRIC] for record in search.done(row.configuration)]
        if scores:
            complete = len(scores) == len(search.sweep.seeds)
            found.append(
                TriedConfiguration(
                    family=row.family,
                    configuration=row.configuration,
                    scores=scores,
                    complete=complete,
                )
            )
    return found


def example_rows(material: Material) -> tuple[str, list[dict[str, Cell]]]:
    """Lay out examples of the family that leads on the validation split, at the first seed.

    Returns:
        A caption, and a row for each example.
    """
    evaluation, family = material.last.evaluation, material.leader
    retrieval, seed = evaluation.retrievals[family][0], evaluation.seeds[0]
    rows: list[dict[str, Cell]] = [
        {
            "query": printable(example.query, MOST_CHARACTERS),
            "of its split": example.kind,
            "rank": f"{example.rank:g} of {len(retrieval.ranks)}",
            "retrieved first": [
                printable(sentence, MOST_CHARACTERS) + (" (the true one)" if hit else "")
                for sentence, hit in zip(example.retrieved, example.hits, strict=True)
            ],
        }
        for example in examples(retrieval, material.stimuli)
    ]
    stimulus, configuration = evaluation.stimulus, evaluation.chosen[family]
    chosen = f"{family}, {describe(configuration)}" if configuration else family
    caption = (
        f"{capital(stimulus)}s retrieved from the signal, best match first: {chosen}, which leads "
        f"on the validation splits, at seed {seed}. The queries whose true {stimulus} ranks best, "
        "in the middle and worst; of equal ranks the earlier one."
    )
    return caption, rows


def _test_section(
    material: Material, result: SeedResult, pictures: Mapping[str, Picture]
) -> Section:
    evaluation = result.evaluation
    rows = [*table_rows(evaluation), *material.task.published()]
    title = metric_title(evaluation.primary)
    notes = [*material.missing_note, *material.notes]
    first = notes if result is material.last else []
    return Section(
        f"Test at {result.name}",
        [
            Words(first),
            Grid(result.caption, rows),
            Points([*findings(evaluation), power_note(evaluation)]),
            pictures[result.file_name],
            pictures[f"{result.file_name}_recall"],
            Grid(
                f"Tests of {title}, differences in points. {evaluation.legend}",
                difference_rows(evaluation, evaluation.primary),
            ),
        ],
    )


def _score_blocks(material: Material, pictures: Mapping[str, Picture]) -> list[Block]:
    caption, rows = example_rows(material)
    evaluation, leader = material.last.evaluation, material.leader
    return [
        *material.task.score_blocks(evaluation, leader, pictures),
        pictures[f"{material.last.file_name}_ranks"],
        *([Grid(caption, rows)] if rows else []),
    ]


def _result_pictures(result: SeedResult) -> list[Picture]:
    evaluation, name = result.evaluation, result.file_name
    ranks = {
        family: [r.ranks for r in by_seed] for family, by_seed in evaluation.retrievals.items()
    }
    sizes = candidates_by_seed(ranks)
    recalls = {
        family: evaluation.means([f"recall@{k}" for k in range(1, max(sizes) + 1)], family)
        for family in ranks
    }
    on_what, n_test = f"{len(evaluation.seeds)} {result.name}", candidates(evaluation)
    true = f"true {evaluation.stimulus}"
    return [
        Picture(
            name,
            f"Test scores by family and seed, {result.name}",
            f"Test scores of each family's best configuration at {on_what}. A grey line joins the "
            "scores of one seed, which share split, initial weights and order of batches; dashed: "
            "what a random ranking reaches.",
            family_figure(evaluation.scores, evaluation.chance, [evaluation.primary, "mrr"]),
        ),
        Picture(
            f"{name}_recall",
            f"Recall at every k by family, {result.name}",
            f"Share of test queries whose {true} is among the first k of {n_test} "
            f"candidates: mean over {on_what} and its 95 % interval at each k, by the same units "
            "as the tests, cut off at 0 and 100 %; dashed: chance, k of all candidates.",
            recall_figure(recalls, sizes),
        ),
        Picture(
            f"{name}_ranks",
            f"Histogram of the {true}'s rank by family, {result.name}",
            f"Rank of the {true} among {n_test} candidates, over all queries of {on_what}, "
            "as multiples of what a random ranking gives (dashed).",
            rank_figure(ranks, evaluation.stimulus),
        ),
    ]


def _matrix_picture(material: Material) -> Picture:
    by_test = material.search.sweep.specification.chosen_by_test
    behind = "Validation is on the test split itself." if by_test else NO_TEST
    return Picture(
        "matrix",
        "Matrix configuration by seed of the search",
        f"Every cell of the search: best validation {metric_title(SELECTION_METRIC)} "
        f"(%) by configuration and seed, with mean and sd over the seeds done. {behind}",
        styled_matrix(material.search.matrix()),
    )


def _curve_picture(material: Material) -> Picture:
    search, chosen = material.search, material.last.evaluation.chosen
    metric, training = SELECTION_METRIC, search.sweep.specification.training
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


def _response_picture(tried: Sequence[TriedConfiguration]) -> Picture:
    metric = metric_title(SELECTION_METRIC)
    is_cut = any(len(names_of(tried, field)) > MOST_NAMES for field in swept_fields(tried))
    cut = f" Of names the {MOST_NAMES} with the best means are shown." if is_cut else ""
    unswept = " Dashed: the family without any." if any(not t.configuration for t in tried) else ""
    return Picture(
        "response",
        f"Validation {metric} against each swept field",
        f"Validation {metric} against each field of the search. A mark is a configuration, mean ± "
        "sd over the seeds; an open one did not meet every seed, and its mean can't be compared. "
        "Lines join a family's means at each value, whatever the other fields, over configurations "
        f"with every seed.{unswept}{cut} The search looks where scores are high: where "
        "marks are few, little is known.",
        response_figure(tried, SELECTION_METRIC),
    )
