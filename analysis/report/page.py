"""A page: sections of words, tables and figures as one HTML file that needs no network."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from analysis.report.figures import page_svg

Cell = str | Sequence[str]
"""Words, or a list of them, in a cell of a table."""


@dataclass(frozen=True)
class Words:
    """Paragraphs."""

    kind: ClassVar = "words"
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    kind: ClassVar = "points"
    items: Sequence[str]


@dataclass(frozen=True)
class Links:
    """A list of other pages, by what they are of and where they are, below a line of words."""

    kind: ClassVar = "links"
    words: str
    pages: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class FactTable:
    """Names and what is known under them."""

    kind: ClassVar = "facts"
    caption: str
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Grid:
    """A table; its columns are the keys of its first row, and the first cell names a row."""

    kind: ClassVar = "grid"
    caption: str
    rows: Sequence[Mapping[str, Cell]]


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        name: Name of the figure's files, and of the figure in the page.
        title: The figure in a few words, for those who can't see it.
        caption: What the figure shows.
        figure: The figure.
        marks: What a reader is told who points at a mark, by its id in the drawings, a line for
            each fact.
        views: What stands in a page in place of the figure: its views, which go below each other
            where the page is narrow, and then what belongs to all of them.
    """

    kind: ClassVar = "picture"
    name: str
    title: str
    caption: str
    figure: Figure
    marks: Mapping[str, str] = field(default_factory=dict)
    views: Sequence[Figure] = ()

    @cached_property
    def drawings(self) -> list[str]:
        """The SVGs of the figure or of its views, to stand in a page with others."""
        if not self.views:
            drawn = inline_svg(page_svg(self.figure), self.name, self.title)
            return [_with_marks(drawn, self.name, self.marks)]
        names = [f"{self.name}-{number}" for number in range(1, len(self.views) + 1)]
        return [
            _with_marks(inline_svg(page_svg(view), name, self.title), name, self.marks)
            for name, view in zip(names, self.views, strict=True)
        ]


@dataclass(frozen=True)
class Laid:
    """What was laid out before, see `body_html`, as HTML that is not escaped again."""

    kind: ClassVar = "laid"
    body: str


Block = Words | Points | Links | FactTable | Grid | Picture | Laid


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it.

    Attributes:
        title: The heading.
        blocks: What stands below it.
        slot: Name of the section's place in the page, where other commands may put another
            section later, see `replace_slot`; empty for none.
        about: What those commands must know of the page, as words without blanks.
    """

    title: str
    blocks: Sequence[Block]
    slot: str = ""
    about: Sequence[str] = ()


def html_page(title: str, sections: Sequence[Section]) -> str:
    """Lay sections out as a page of HTML; all words are escaped.

    It follows the reader's colour scheme, and is dark on white in print. Without its script, which
    it has where figures have marks, marks still say what they are to who points at them.
    """
    return _PAGE.render(title=title, sections=sections, style=_STYLE, scripts=_scripts(sections))


def body_html(blocks: Sequence[Block]) -> str:
    """Lay out what stands below a heading, with the script that its figures need."""
    return _BODY.render(blocks=blocks, scripts=_scripts([Section("", blocks)]))


def slot_note(page: str, slot: str) -> list[str] | None:
    """What the section in a slot of a page is about; None where the page has no such slot."""
    found = _slot_pattern(slot).search(page)
    return found["about"].split() if found else None


def replace_slot(page: str, section: Section) -> str:
    """Put another section into a page, in place of the one in its slot."""
    whole = _SECTION.render(section=section, id=section.slot)
    return _slot_pattern(section.slot).sub(lambda _: whole.strip(), page, count=1)


def _slot_pattern(slot: str) -> re.Pattern[str]:
    """What a section is fenced by; words of users, which are escaped, have no such comments."""
    name = re.escape(slot)
    return re.compile(rf"<!-- slot {name}:(?P<about>[^>]*)-->.*<!-- end of {name} -->", re.S)


def _scripts(sections: Sequence[Section]) -> Sequence[str]:
    blocks = [block for section in sections for block in section.blocks]
    return [_SCRIPT] if any(isinstance(each, Picture) and each.marks for each in blocks) else []


def inline_svg(svg: str, name: str, title: str) -> str:
    """Prepare an SVG file to stand in a page with others.

    Args:
        svg: SVG with its XML declaration.
        name: Prefix of every id, because those of a page must differ.
        title: Title that is read to those who can't see the figure.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", body)
    return body.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def _with_marks(drawing: str, name: str, marks: Mapping[str, str]) -> str:
    """A drawing in which each mark says what it is, whatever the reader points with."""
    for mark, words in marks.items():
        drawing = drawing.replace(
            f'<g id="{name}-{mark}">',
            f'<g id="{name}-{mark}" data-mark="{mark}"><title>{html.escape(words)}</title>',
        )
    return drawing


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1c; --paper: #fff; --soft: #5c5c63; --line: #d4d4d8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e4e7; --paper: #16161a; --soft: #a1a1aa; --line: #3f3f46; }
}
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
a { color: inherit; }
p, li { max-width: 46rem; } li { margin: .3rem 0; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption, figcaption { text-align: left; color: var(--soft); font-size: .875rem;
  max-width: min(46rem, calc(100vw - 4.5rem)); }
caption { padding-bottom: .4rem; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); white-space: nowrap; }
tbody th { font-weight: 600; } .facts th { white-space: nowrap; font-weight: 500; }
.short { white-space: nowrap; } .facts { min-width: 100%; }
.facts td { overflow-wrap: anywhere; }
td ol { margin: 0; padding-left: 1.3rem; } td li { margin: 0; }
figure { margin: 1.5rem 0; }
svg { max-width: 100%; height: auto; display: block; color: var(--ink); }
.drawing { overflow-x: auto; } .drawing > svg { min-width: 34rem; }
.views { display: flex; flex-wrap: wrap; justify-content: space-evenly; align-items: end; }
.views > svg { min-width: 0; }
.drawing:focus-visible { outline: 2px solid var(--ink); outline-offset: 2px; }
[data-mark] { cursor: pointer; }
.ring { fill: none; stroke: var(--ink); stroke-width: 1.5; pointer-events: none; }
.card { position: sticky; bottom: 0; max-width: none; margin: .5rem 0; padding: .4rem .8rem;
  min-height: 6rem; white-space: pre-line; font-size: .875rem; background: var(--paper);
  border-left: 3px solid var(--line); }
.card::first-line { font-weight: 600; } .card:empty { display: none; }
figcaption { margin-top: .5rem; }
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; }
  :root { font-size: 10pt; } main { padding: 0; max-width: none; } nav { display: none; }
  .wide { overflow: visible; } table { font-size: 7.5pt; } th, td { padding: .15rem .3rem; }
  thead th { white-space: normal; }
  .drawing { overflow: visible; } .drawing > svg { min-width: 0; }
  .views > svg:first-child:nth-last-child(n+4) { width: 38%; }
  .views > svg:first-child:nth-last-child(n+4) ~ svg:nth-child(-n+3) { width: 30%; }
  .card, .ring { display: none; }
  figure, tr { break-inside: avoid; } h2, caption { break-after: avoid; }
}
""".strip()

# Marked as plain characters, so that the page is well-formed XML too.
_SCRIPT = """
//<![CDATA[
"use strict";
const REACH = 24;  // pixels around a mark that count as the mark, for fingers
const HINT = "Point at, tap, or step through what is drawn (arrow keys) for its numbers.";
const NEXT = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1};
for (const figure of document.querySelectorAll("figure.marked")) {
  const drawing = figure.querySelector(".drawing"), card = figure.querySelector(".card");
  const marks = [...figure.querySelectorAll("[data-mark]")], words = new Map();
  for (const mark of marks) {
    const title = mark.querySelector("title");
    words.set(mark.dataset.mark, title.textContent);
    title.remove();  // the card says it
  }
  const numbers = [...words.keys()].sort((a, b) => a.localeCompare(b, "en", {numeric: true}));
  let chosen = null;
  const choose = (mark) => {
    if (mark === chosen) return;
    chosen = mark;
    card.textContent = mark === null ? HINT : words.get(mark);
    figure.querySelectorAll(".ring").forEach((ring) => ring.remove());
    for (const each of marks.filter((other) => other.dataset.mark === mark)) {
      const box = each.getBBox(), ring = document.createElementNS(each.namespaceURI, "rect");
      const sizes = {x: box.x - 3, y: box.y - 3, rx: 6};
      Object.assign(sizes, {width: box.width + 6, height: box.height + 6});
      for (const [name, value] of Object.entries(sizes)) ring.setAttribute(name, value);
      ring.classList.add("ring");
      each.ownerSVGElement.append(ring);
    }
  };
  const nearest = (event) => {
    let best = null, least = REACH;
    for (const mark of marks) {
      const box = mark.getBoundingClientRect();
      const aside = Math.max(box.left - event.clientX, event.clientX - box.right, 0);
      const above = Math.max(box.top - event.clientY, event.clientY - box.bottom, 0);
      const within = Math.hypot(event.clientX - box.left - box.width / 2,
                                event.clientY - box.top - box.height / 2) / 1e4;
      const distance = Math.hypot(aside, above) + within;
      if (distance < least) [best, least] = [mark.dataset.mark, distance];
    }
    return best;
  };
  const point = (event) => { const mark = nearest(event); if (mark !== null) choose(mark); };
  drawing.tabIndex = 0;
  drawing.setAttribute("role", "group");
  drawing.setAttribute("aria-label", HINT);
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("focus", () => { if (chosen === null) choose(numbers[0]); });
  drawing.addEventListener("keydown", (event) => {
    const edge = {Home: 0, End: numbers.length - 1}[event.key];
    if (edge === undefined && !(event.key in NEXT)) return;
    event.preventDefault();
    const step = Math.max(numbers.indexOf(chosen), 0) + (NEXT[event.key] ?? 0);
    choose(numbers[edge ?? Math.min(Math.max(step, 0), numbers.length - 1)]);
  });
  card.textContent = HINT;
}
//]]>
""".strip()

_BLOCKS = """
{% macro lay(blocks, scripts) %}
{% for block in blocks %}
{% if block.kind == "words" %}
{% for paragraph in block.paragraphs %}
<p>{{ paragraph }}</p>
{% endfor %}
{% elif block.kind == "points" %}
<ul>
{% for item in block.items %}
<li>{{ item }}</li>
{% endfor %}
</ul>
{% elif block.kind == "links" %}
<p>{{ block.words }}</p>
<ul>
{% for name, address in block.pages %}
<li><a href="{{ address }}">{{ name }}</a></li>
{% endfor %}
</ul>
{% elif block.kind == "facts" %}
<div class="wide"><table class="facts">
<caption>{{ block.caption }}</caption>
<tbody>
{% for name, words in block.pairs %}
<tr><th scope="row">{{ name }}</th><td>{{ words }}</td></tr>
{% endfor %}
</tbody>
</table></div>
{% elif block.kind == "grid" %}
<div class="wide"><table>
<caption>{{ block.caption }}</caption>
<thead><tr>
{% for column in block.rows[0] %}
<th scope="col">{{ column }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in block.rows %}
<tr>
{% for cell in row.values() %}
{% if loop.first %}
<th scope="row">{{ cell }}</th>
{% elif cell is string %}
<td{% if cell | length < 20 %} class="short"{% endif %}>{{ cell }}</td>
{% else %}
<td><ol>{% for item in cell %}<li>{{ item }}</li>{% endfor %}</ol></td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% elif block.kind == "laid" %}
{{ block.body | safe }}
{% else %}
<figure id="{{ block.name }}"{% if block.marks %} class="marked"{% endif %}>
<div class="drawing{% if block.views %} views{% endif %}">
{% for drawing in block.drawings %}
{{ drawing | safe }}
{% endfor %}
</div>
{% if block.marks %}
<p class="card" role="status"></p>
{% endif %}
<figcaption>{{ block.caption }}</figcaption>
</figure>
{% endif %}
{% endfor %}
{% for script in scripts %}
<script>
{{ script | safe }}
</script>
{% endfor %}
{% endmacro %}
{% macro whole(section, id) %}
{% if section.slot %}
<!-- slot {{ section.slot }}: {{ section.about | join(" ") }} -->
{% endif %}
<section id="section-{{ id }}">
<h2>{{ section.title }}</h2>
{{ lay(section.blocks, []) }}
</section>
{% if section.slot %}
<!-- end of {{ section.slot }} -->
{% endif %}
{% endmacro %}
""".lstrip()

_ENVIRONMENT = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_BODY = _ENVIRONMENT.from_string(_BLOCKS + "{{ lay(blocks, scripts) }}")
_SECTION = _ENVIRONMENT.from_string(_BLOCKS + "{{ whole(section, id) }}")
_PAGE = _ENVIRONMENT.from_string(
    _BLOCKS
    + """
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{{ title }}</title>
<style>
{{ style | safe }}
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
<nav aria-label="Contents"><ul>
{% for section in sections %}
<li><a href="#section-{{ section.slot or loop.index }}">{{ section.title }}</a></li>
{% endfor %}
</ul></nav>
{% for section in sections %}
{{ whole(section, section.slot or loop.index) }}
{% endfor %}
</main>
{% for script in scripts %}
<script>
{{ script | safe }}
</script>
{% endfor %}
</body>
</html>
""".lstrip()
)
