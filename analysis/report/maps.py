"""What a report says of maps: words, tables, figures, and the rows of their files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from analysis.mapping.checks import AGREES
from analysis.mapping.effects import EffectMap
from analysis.mapping.family_maps import CheckedMap, FamilyMaps
from analysis.mapping.parts import ALONE, Axes, What
from analysis.mapping.places import Places
from analysis.measure import formats
from analysis.report.findings import capital, in_list
from analysis.report.map_figures import (
    Durations,
    brain_figure,
    brain_views,
    effect_title,
    interval_figure,
    mark,
    scale_of,
    shaft_figure,
    time_figure,
    time_frequency_figure,
)
from analysis.report.page import Block, Grid, Links, Picture, Points, Section, Words
from ssense.engine.core.cell import describe, label
from ssense.engine.core.power import ALPHA
from ssense.errors import counted
from ssense.retrieval import metric_title

MOST_ROWS = 20
"""Parts that a table of the page has; all are in maps.csv."""

LEGEND = (
    "p: corrected resampled t-test over seeds (over sentences in blocks, or over images, where "
    "seeds share one test split), of a mean effect of 0. Holm and FDR (Benjamini and Hochberg): "
    "adjusted for all parts of the map. Max: share of permuted pairings whose largest effect "
    "anywhere in the map reaches this one. Shown: by Holm, and above the largest effect of 95 % of "
    "permuted pairings."
)
CHECKS = (
    "The sanity checks of this map. It is contradicted by untrained encoders whose map is like it "
    f"(a rank correlation of {AGREES} or more, with p below {ALPHA} by shuffled parts) and larger "
    "than permuted pairs give, and by permuted pairs whose maps are like it on average. Of "
    "sentences it is also by such a map of encoders trained on noise of the same lengths, and "
    "where pairs of similar duration leave half or more of what it shows."
)
READING = (
    "What is left out or hidden, and makes the score fall, is used by these encoders where all "
    "else is there; what several parts say alike, none of them loses. What stands alone says what "
    "it reaches by itself, of encoders that were trained on all. Neither is what an encoder would "
    "reach that was trained on a part.",
    "Windows behind the end of most sentences that carry the score point to the padding, which "
    "shows how long a sentence was, and not to what was said.",
    "Seeds share most of their sentences: that their maps agree says nothing of other sentences.",
)
FILLED = {
    "mean": "the mean of the training sentences at the same electrode, frequency and frame",
    "zero": "zeros",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class MapReport:
    """All that a report of maps is made from.

    Attributes:
        title: Title of the page.
        caption: What was mapped, and what its choice may know of the test.
        families: The maps of each family.
        axes: The axes of the spectrograms.
        places: Where the electrodes lie; they are drawn by shaft where that is known of none.
        durations: When sentences end; None of images.
        notes: What else a reader must know, as sentences.
        warnings: What must be read with what the maps show, as sentences.
    """

    title: str
    caption: str
    families: Sequence[FamilyMaps]
    axes: Axes
    places: Places
    durations: Durations | None
    notes: Sequence[str]
    warnings: Sequence[str] = ()

    @property
    def reading(self) -> Sequence[str]:
        """How maps are read, a sentence or two each."""
        return READING

    def pictures(self) -> dict[str, Picture]:
        """Every figure, by the name of its files."""
        drawn = [
            self._picture(family, number, found)
            for number, family in enumerate(self.families)
            for found in family.maps
        ]
        return {picture.name: picture for picture in drawn}

    def sections(self, pictures: Mapping[str, Picture]) -> list[Section]:
        """Arrange the page: what it shows, then a section for each map."""
        sections = [Section("What it shows", [Words([self.caption]), Points(self.words())])]
        for number, family in enumerate(self.families):
            for found in family.maps:
                name = capital(found.primary.what)
                title = f"{name}: {family.family}" if len(self.families) > 1 else name
                blocks: list[Block] = [
                    Words([sentence(found)]),
                    pictures[self._name(number, found.primary.what)],
                    Grid(f"{effect_title(found.primary)}. {LEGEND}", part_rows(found.primary)),
                    Grid(CHECKS, check_rows([found])),
                ]
                sections.append(Section(title, blocks))
        return [*sections, Section("How to read it", [Points([*self.reading, *self.notes])])]

    def in_report(self, pictures: Mapping[str, Picture]) -> list[Block]:
        """What the report of the evaluation has of the maps: what they show, and every figure."""
        return [
            Words([self.caption]),
            Points(self.words()),
            *pictures.values(),
            Grid("The maps, and how far seeds agree on them.", summary_rows(self.families)),
            Links("All parts, tests and sanity checks:", [(self.title, "../maps/maps.html")]),
        ]

    def words(self) -> list[str]:
        """What each map shows, a sentence each."""
        return [
            f"{family.family}: {sentence(found)}" if len(self.families) > 1 else sentence(found)
            for family in self.families
            for found in family.maps
        ] + [*self.warnings]

    def markdown_parts(self) -> list[tuple[str, Sequence[Mapping[str, str]]]]:
        """Headings with tables: each map's parts, all of them."""
        return [
            (f"{family.family}: {found.primary.what}", part_rows(found.primary, most=None))
            for family in self.families
            for found in family.maps
        ]

    def _name(self, number: int, what: What) -> str:
        prefix = f"family_{number + 1}_" if len(self.families) > 1 else ""
        return prefix + re.sub(r"\W+", "_", what)

    def _picture(self, family: FamilyMaps, number: int, found: CheckedMap) -> Picture:
        real = found.primary
        title = f"{capital(real.what)}: {effect_title(real)}"
        n = counted(len(family.seeds), "seed")
        status = f" This map is {found.label}." if found.contradicted else ""
        of_what = label(family.family, family.configuration)
        caption = f"{title}, of {of_what}, mean over {n}. {self._looks(real)}{status}"
        return Picture(
            self._name(number, real.what),
            title,
            caption,
            self._draw(real),
            marks={mark(at): words for at, words in enumerate(self._words_of(real))},
            views=self._views(real),
        )

    def _views(self, real: EffectMap) -> Sequence[Figure]:
        """What stands in a page in place of the figure, if anything."""
        return brain_views(real, self._mm(real)) if self._on_brain(real) else ()

    def _words_of(self, real: EffectMap) -> list[str]:
        """What a reader who points at a part is told of it, a line for each fact."""
        return [
            "\n".join([*self._whereabouts(real, row["part"]), *_facts(real, row)])
            for row in part_rows(real, most=None)
        ]

    def _whereabouts(self, real: EffectMap, name: str) -> list[str]:
        if not real.what.startswith("electrode"):
            return [name]
        place = self.places.of([name])
        (region,), (mm,) = place.regions, place.mm
        at = f"MNI152 ({', '.join(f'{each:.1f}' for each in mm)}) mm"
        return [f"{name}, {region}" if region else name, *([at] if place.located.all() else [])]

    def _mm(self, real: EffectMap) -> np.ndarray:
        return self.places.of([part.name for part in real.parts]).mm

    def _looks(self, real: EffectMap) -> str:
        if real.what.startswith("electrode"):
            drawn = (
                "Electrodes on a glass brain (MNI); those without coordinates are not on it."
                if self._on_brain(real)
                else "Electrodes by shaft and number."
            )
            return f"{drawn} {blue(real)} Bold outline: shown to carry the score."
        if real.what == "time x frequency":
            return "Blue: the score falls where this is hidden. Bold outline: shown."
        below = " Below: the share of sentences that are still being spoken."
        return (
            "Bars: 95 % intervals. Filled: shown to carry the score. Dashed: what the largest "
            f"effect under permuted pairs exceeds in 5 % of permutations."
            f"{below if real.what == 'time window' and self.durations else ''}"
        )

    def _on_brain(self, real: EffectMap) -> bool:
        return bool(self.places.located.any()) and real.what.startswith("electrode")

    def _draw(self, real: EffectMap) -> Figure:
        if self._on_brain(real):
            return brain_figure(real, self._mm(real))
        if real.what.startswith("electrode"):
            return shaft_figure(real)
        if real.what == "time window":
            return time_figure(real, self.axes, self.durations)
        if real.what == "time x frequency":
            return time_frequency_figure(real, self.axes)
        return interval_figure(real)


def sentence(found: CheckedMap) -> str:
    """What a map shows, in a sentence to quote; one that its checks contradict says so first."""
    real = found.primary
    how = "alone" if real.what in ALONE else "left out" if "left out" in real.what else "hidden"
    begin = f"{capital(real.what)}"
    if found.contradicted:
        return (
            f"{begin}: {found.label}. It is not of the stimuli, and nothing is concluded from it."
        )
    order = [place for place in np.argsort(-real.means) if real.found[place]]
    stable = f"Seeds agree by {_number(real.stability)} (Spearman), split-half reliability "
    stable += f"{_number(real.reliability)}."
    if not order:
        return (
            f"{begin}: no part is shown to carry the score when {how}, of {len(real.parts)}. "
            f"{_not_by_holm(real)}{stable}"
        )
    shown = [f"{real.parts[at].name} ({_effect(real, at)})" for at in order[:5]]
    more = f" and {len(order) - 5} more" if len(order) > 5 else ""
    return (
        f"{begin}: {len(order)} of {counted(len(real.parts), 'part')} "
        f"{'is' if len(order) == 1 else 'are'} shown to carry the score when {how}, "
        f"{in_list(shown)}{more}. {stable}"
    )


def blue(found: EffectMap) -> str:
    """What blue means in a map, whether or not it is shown."""
    if found.what in ALONE:
        return "Blue: above chance by itself."
    return "Blue: the score falls without it."


def _not_by_holm(found: EffectMap) -> str:
    """Say that parts exceed what permuted pairs give, and how sure the test would have to be."""
    n = int(((found.p_max <= ALPHA) & (found.means > 0)).sum())
    if not (math.isfinite(found.threshold) and n):
        return ""
    return (
        f"{counted(n, 'part exceeds', 'parts exceed')} what permuted pairs give, but not by Holm, "
        f"for which the smallest p would have to be below {ALPHA / len(found.parts):.2g}. "
    )


def part_rows(found: EffectMap, most: int | None = MOST_ROWS) -> list[dict[str, str]]:
    """Lay the parts out for people: the largest effects first where they are many."""
    order = list(range(len(found.parts)))
    if most is not None and len(found.parts) > most:
        order = np.argsort(-found.means, kind="stable")[:most].tolist()
    return [
        {
            "part": found.parts[at].name,
            "effect": _effect(found, at, unit=False),
            "95 % interval": _interval(found, at),
            f"{metric_title(found.metric)} so": _scaled(found, float(found.scores[:, at].mean())),
            "p": formats.p_value(found.tests[at].pvalue),
            "Holm": formats.p_value(float(found.p_holm[at])),
            "FDR": formats.p_value(float(found.p_fdr[at])),
            "Max": _p_or_dash(float(found.p_max[at])),
            "shown": "yes" if found.found[at] else "no",
        }
        for at in order
    ]


def _facts(found: EffectMap, row: Mapping[str, str]) -> list[str]:
    """The numbers of a part, by a row of its table, on lines to read."""
    unit = "" if found.metric == "mrr" else " points"
    title = effect_title(found).removesuffix(" (points)")
    effect, so = row["effect"], f"{metric_title(found.metric)} so"
    return [
        f"{title}: {effect}{unit}, 95 % interval {row['95 % interval']}; {so}: {row[so]}",
        ", ".join(f"{name} {row[name]}" for name in ("p", "Holm", "FDR", "Max")),
        "shown to carry the score" if row["shown"] == "yes" else "not shown",
    ]


def check_rows(maps: Iterable[CheckedMap]) -> list[dict[str, str]]:
    """Lay the sanity checks of maps out for people."""
    return [
        {
            "check": check.check,
            "of the map": found.primary.what,
            "correlation": _number(check.correlation),
            "p": _p_or_dash(check.pvalue),
            "largest effect": _scaled(found.primary, check.largest),
            "the map's": _scaled(found.primary, float(found.primary.means.max())),
            "contradicts": "yes" if check.contradicts else "no",
        }
        for found in maps
        for check in found.checks
    ]


def summary_rows(families: Sequence[FamilyMaps]) -> list[dict[str, str]]:
    """A row for each map: what it is called, its largest effect, and how far seeds agree."""
    return [
        {
            "map": found.primary.what,
            "family": family.family,
            "label": found.label,
            "largest": found.primary.parts[at].name,
            "effect": _effect(found.primary, at, unit=False),
            "threshold": _scaled(found.primary, found.primary.threshold),
            "rank stability": _number(found.primary.stability),
            "reliability": _number(found.primary.reliability),
        }
        for family in families
        for found in family.maps
        for at in [int(found.primary.means.argmax())]
    ]


def value_rows(families: Sequence[FamilyMaps]) -> list[dict[str, object]]:
    """List every effect as a fraction: a row for each seed, part and metric, of all encoders."""
    rows: list[dict[str, object]] = []
    for family in families:
        about = {"family": family.family, "configuration": describe(family.configuration)}
        for found in family.maps:
            for encoder, effects in (
                *(("trained", each) for each in (found.primary, *found.others)),
                ("untrained", found.untrained),  # at the first seeds
                *([("noise", found.noise)] if found.noise else []),
            ):
                rows += [
                    {
                        **about,
                        "encoder": encoder,
                        "seed": seed,
                        "what": effects.what,
                        "name": part.name,
                        "metric": effects.metric,
                        "effect": float(effects.by_seed[j, k]),
                        "score": float(effects.scores[j, k]),
                    }
                    for j, seed in enumerate(family.seeds[: len(effects.by_seed)])
                    for k, part in enumerate(effects.parts)
                ]
    return rows


def test_rows(families: Sequence[FamilyMaps]) -> list[dict[str, object]]:
    """List every test as numbers: a row for each part and metric, of trained encoders."""
    return [
        {
            "family": family.family,
            "configuration": describe(family.configuration),
            "what": effects.what,
            "name": part.name,
            "metric": effects.metric,
            "mean": test.mean,
            "low": test.low,
            "high": test.high,
            "p": test.pvalue,
            "p_holm": float(effects.p_holm[k]),
            "p_fdr": float(effects.p_fdr[k]),
            "p_max": float(effects.p_max[k]),
            "threshold": effects.threshold,
            "shown": bool(effects.found[k]),
            "label": found.label,
        }
        for family in families
        for found in family.maps
        for effects in (found.primary, *found.others)
        for k, (part, test) in enumerate(zip(effects.parts, effects.tests, strict=True))
    ]


def _effect(found: EffectMap, at: int, *, unit: bool = True) -> str:
    words = f"{scale_of(found) * found.means[at]:+z.{_digits(found)}f}"
    return f"{words} points" if unit and found.metric != "mrr" else words


def _interval(found: EffectMap, at: int) -> str:
    test, scale = found.tests[at], scale_of(found)
    if not math.isfinite(test.low):
        return "–"
    digits = _digits(found)
    return f"{scale * test.low:z.{digits}f} to {scale * test.high:z.{digits}f}"


def _digits(found: EffectMap) -> int:
    return 4 if found.metric == "mrr" else 1


def _scaled(found: EffectMap, value: float) -> str:
    return f"{scale_of(found) * value:z.{_digits(found)}f}" if math.isfinite(value) else "–"


def _number(value: float) -> str:
    return f"{value:z.2f}" if math.isfinite(value) else "–"


def _p_or_dash(p: float) -> str:
    return formats.p_value(p) if math.isfinite(p) else "–"
