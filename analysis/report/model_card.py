"""The card of an exported model: what it is, what it scores and against what, how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData

from analysis.measure import formats
from analysis.measure.score_splits import N_TEST
from ssense.decoder.folder import without_places
from ssense.engine.core.cell import describe
from ssense.engine.core.record import Record
from ssense.errors import counted, visible
from ssense.files.markdown import markdown_table
from ssense.retrieval import chance_metrics, metric_title
from ssense.specification import settings
from ssense.training.loop import SELECTION_METRIC, validation_metrics

if TYPE_CHECKING:
    import pandas as pd

    from ssense.api.result import SweepResult
    from ssense.decoder.trained_model import TrainedModel

NOT_EVALUATED = (
    "**The test evaluation has not been made.** No score here is of held-out test sentences: the "
    "validation chose the epoch and the configuration, which flatters it."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CardFacts:
    """What a card is written from.

    Attributes:
        name: Name of the model.
        result: The sweep that it is of.
        record: The record of its cell.
        families: Families that have its configuration.
        by_hand: Whether somebody named the cell, who may have seen its scores.
        is_best: Whether that configuration is the best of one of these families.
        model: The model.
        parts: Parts of the split whose sentences the tables beside the card have.
        tests, comparisons: The last test evaluation, see `SweepResult`; empty where none was made
            of this configuration.
        controls: What controls reach, a sentence each; empty where none was run for this
            configuration.
    """

    name: str
    result: SweepResult
    record: Record
    families: Sequence[str]
    by_hand: bool
    is_best: bool
    model: TrainedModel
    parts: Sequence[str]
    tests: pd.DataFrame
    comparisons: pd.DataFrame
    controls: Sequence[str] = field(default_factory=tuple)


def model_card(facts: CardFacts) -> str:
    """Write the card, as Markdown with the front matter of a model hub."""
    parts = [_head(facts), _use(facts), _scores(facts), _choice(facts), _data(facts), LIMITS]
    return f"---\n{_front_matter(facts)}\n---\n\n" + "\n".join(parts)


LIMITS = """\
## Limits

The encoder knows this person's contacts and no others: it takes recordings of the same contacts,
named the same. Decoding here is retrieval among given candidates, not free speech. The files hold
what was derived from a person's brain and what they heard. Share them only as the consent of that
person and the terms of the recording allow.
"""

_SCORED = """\
Mean ± sd over {seeds}, among {candidates} held-out test sentences; recalls in percent. Chance
is that of a random order.{tests} It is look {look} at these test splits, of {day}.
"""
_TESTED = """ The interval, 95 %, and p (two-sided, with Holm's correction) are of the
difference from chance, and allow for the overlap of the seeds' splits."""
_NOT_TESTED = """ What is not testable has no interval: nothing estimates the spread of its
difference from chance."""


def _front_matter(facts: CardFacts) -> str:
    results = [
        EvalResult(
            task_type="text-retrieval",
            dataset_type="intracranial-recording",
            dataset_name=f"{_origin(facts)}, held-out test splits, {score.protocol}",
            metric_type=score.metric,
            metric_name=f"{metric_title(score.metric)}, mean over seeds",
            metric_value=round(score.mean, 6),
        )
        for score in _test_scores(facts)
    ]
    card = ModelCardData(
        library_name="ssense",
        tags=["brain-decoding", "ieeg", "sentence-retrieval", "safetensors"],
        model_name=facts.name if results else None,
        eval_results=results or None,
    )
    return card.to_yaml().strip()


def _origin(facts: CardFacts) -> str:
    origin = facts.result.description.origin
    return f"{origin.subject}, {origin.title}"


def _head(facts: CardFacts) -> str:
    record, sweep = facts.record, facts.result
    levels = without_places(record.configuration)
    configuration = describe(levels) if levels else "no field changed"
    return (
        f"# {visible(facts.name)}\n\nAn encoder of sentences heard, from intracranial recordings "
        f"of {_origin(facts)}: it embeds the signal around a sentence near the embedding of its "
        f"text. It is cell {record.signature} of the sweep {sweep.name} "
        f"({', '.join(facts.families)}: {configuration}; seed {record.seed}).\n"
    )


def _use(facts: CardFacts) -> str:
    parts = " and ".join(facts.parts)
    return f"""\
## Use

```python
import ssense

model = ssense.load("FOLDER")  # this folder
model.embed(recording)  # [N, D], of the sentences of a ssense.Recording
model.retrieve(recording, ["She left.", "He stayed."])  # ranked, with cosine similarities
```

Segments as arrays have {counted(len(facts.model.contacts), "contact")}, `model.contacts`, in
microvolts, at {facts.model.sampling_rate_hz:g} samples a second. `embeddings.parquet` and
`ranks.parquet` have what the model makes of each sentence of its {parts} split.
"""


def _scores(facts: CardFacts) -> str:
    scores = _test_scores(facts)
    rows = [
        {
            "seeds": score.protocol,
            "metric": metric_title(score.metric),
            "score": formats.score(score.metric, score.mean, score.sd),
            "chance": formats.score(score.metric, score.chance),
            "above chance": _interval(score),
            "p": "not testable" if score.p is None else formats.p_value(score.p),
        }
        for score in scores
    ]
    lines = ["## Scores\n"]
    if rows:
        last = facts.tests.iloc[-1]
        n_seeds = facts.tests.groupby("protocol", sort=False)["seed"].nunique()
        seeds = " and ".join(f"{n} {protocol}" for protocol, n in n_seeds.items())
        candidates = f"{last[N_TEST]:.0f}"
        tested = _TESTED if any(score.p is not None for score in scores) else ""
        untested = _NOT_TESTED if any(score.p is None for score in scores) else ""
        known = {"look": last["look"], "day": str(last["evaluated_at"])[:10]}
        known["tests"] = tested + untested
        lines += [markdown_table(rows), _SCORED.format(seeds=seeds, candidates=candidates, **known)]
        lines.append(_controls(facts))
    else:
        lines.append(f"{NOT_EVALUATED}\n")
    return "\n".join([*lines, _validation(facts)])


def _controls(facts: CardFacts) -> str:
    if not facts.controls:
        return "No controls were run for it: how much of the score needs no brain is not known.\n"
    return "\n".join(["Controls:\n", *(f"- {visible(line)}" for line in facts.controls), ""])


def _validation(facts: CardFacts) -> str:
    best, n = facts.record.best, facts.record.sizes.get("validation", 0)
    chance: Mapping[str, float] = chance_metrics(n) if n else {}
    shown = ", ".join(
        f"{metric_title(name)} {formats.score(name, value)}"
        + (f" (chance {formats.score(name, chance[name])})" if name in chance else "")
        for name, value in validation_metrics(best).items()
    )
    return (
        f"On the {n} validation sentences of its seed, which chose the epoch: {shown}; recalls in "
        "percent.\n"
    )


def _choice(facts: CardFacts) -> str:
    record, metric = facts.record, metric_title(SELECTION_METRIC)
    seed = "The seed is the first of the sweep's, and no score chose it."
    if facts.by_hand:
        seed = "The cell, and with it the seed, was named by hand: its scores may have chosen it."
    return (
        f"## What was chosen, and on what\n\n{_configuration_chosen(facts)} {seed} The epoch, "
        f"{record.best_epoch} of {len(record.history)}, has the highest validation {metric} of "
        "this seed. Scores over seeds are of encoders trained alike on other splits; this folder "
        f"holds the one of seed {record.seed}.\n"
    )


def _configuration_chosen(facts: CardFacts) -> str:
    search, seeds = facts.result.search, facts.result.description.sweep.seeds
    of_family = [row for row in search.rows if row.family in facts.families]
    n_whole = sum(search.score(row.configuration) is not None for row in of_family)
    if not facts.is_best:
        return f"The configuration was named by hand, among {len(of_family)} of its family."
    if len(of_family) == 1:
        return "The configuration is the only one of its family: nothing chose it."
    n = len(of_family)
    among = f"the {n} of its family"
    if n_whole < n:  # a race gave the others up
        among = f"the {n_whole} of its family's {n} that have a result at each"
    return (
        f"The configuration has the highest mean validation {metric_title(SELECTION_METRIC)} over "
        f"{len(seeds)} seeds ({' '.join(map(str, seeds))}) among {among}."
    )


def _data(facts: CardFacts) -> str:
    model, record = facts.model, facts.record
    specification = model.specification.by_content()  # without places of files
    trial = ""
    if specification.target.is_untrained:
        trial = " The text tower is untrained: a trial of the machinery, not a result."
    parts = ", ".join(f"{n} {part}" for part, n in record.sizes.items())
    versions = ", ".join(" ".join(each) for each in record.versions.items())
    rows = [{"field": name, "value": value} for name, value in settings(specification).items()]
    return (
        f"## Data and training\n\nSentences: {parts}, by a {specification.split} split. "
        f"Electrodes, {len(model.electrodes)}: {visible(', '.join(model.electrodes))}. Text: "
        f"{specification.target.name}.{trial}\n\n"
        f"Trained on {record.device} by code {record.code_digest} ({versions}), "
        f"{record.finished_at[:10]}; dataset {record.dataset_digest}.\n\n"
        f"<details><summary>All settings</summary>\n\n{markdown_table(rows)}\n</details>\n"
    )


class _Score(NamedTuple):
    """A test score, mean over seeds, and its difference from chance."""

    protocol: str
    metric: str
    mean: float
    sd: float
    chance: float
    low: float | None
    high: float | None
    p: float | None


def _test_scores(facts: CardFacts) -> list[_Score]:
    found = []
    for protocol, scores in facts.tests.groupby("protocol", sort=False):
        metrics = [name for name in scores if name == "mrr" or str(name).startswith("recall@")]
        chances = [chance_metrics(round(n)) for n in scores[N_TEST]]
        for metric in metrics:
            test = _difference(facts, str(protocol), str(metric), str(scores["family"].iloc[0]))
            found.append(
                _Score(
                    protocol=str(protocol),
                    metric=str(metric),
                    mean=float(scores[metric].mean()),
                    sd=float(scores[metric].std(ddof=1)),
                    chance=fmean(chance[str(metric)] for chance in chances),
                    low=test.get("low"),
                    high=test.get("high"),
                    p=test.get("p_holm"),
                )
            )
    return found


def _difference(facts: CardFacts, protocol: str, metric: str, family: str) -> Mapping[str, Any]:
    """The test of a family against chance, without what is not known."""
    table = facts.comparisons
    rows = table[
        (table["protocol"] == protocol)
        & (table["metric"] == metric)
        & (table["comparison"] == f"{family} vs chance")
    ]
    known = rows.iloc[-1].to_dict() if len(rows) else {}
    return {str(name): each for name, each in known.items() if each == each and each is not None}


def _interval(score: _Score) -> str:
    if score.low is None or score.high is None:
        return formats.score(score.metric, score.mean - score.chance)
    ends = (formats.score(score.metric, end) for end in (score.low, score.high))
    return f"{formats.score(score.metric, score.mean - score.chance)} [{', '.join(ends)}]"
