from __future__ import annotations

import functools
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from analysis.report.figures import bar_figure
from analysis.report.page import (
    FactTable,
    Grid,
    Laid,
    Links,
    Picture,
    Points,
    Section,
    Words,
    body_html,
    html_page,
    replace_slot,
    slot_note,
)

NASTY = '<script>alert("&")</script>'
SVG = "{http://www.w3.org/2000/svg}"


def figure(name: str = "a bar") -> Figure:
    return bar_figure({name: [0.1, 0.2], "another": [0.3, 0.4]}, "recall@10", {})


@functools.cache
def page() -> str:
    blocks = [
        Words(["First.", NASTY]),
        Points(["one", NASTY]),
        FactTable(NASTY, [("name", NASTY)]),
        Grid("A table", [{"row": "a", NASTY: NASTY, "list": ["x", NASTY]}]),
        Picture("one", NASTY, NASTY, figure(NASTY)),
        Picture("two", "the same again", "Caption", figure(NASTY)),
    ]
    return html_page(NASTY, [Section("First part", blocks), Section(NASTY, [])])


@functools.cache
def tree() -> ElementTree.Element:
    return ElementTree.fromstring(page().removeprefix("<!DOCTYPE html>"))


class Tags(HTMLParser):
    """Every tag as a browser meets it."""

    def __init__(self) -> None:
        super().__init__()
        self.met: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append((tag, dict(attrs)))


def tags() -> list[tuple[str, dict[str, str | None]]]:
    reader = Tags()
    reader.feed(page())
    return reader.met


def test_a_page_is_well_formed_and_says_its_language():
    root = tree()
    assert root.tag == "html"
    assert root.get("lang") == "en"
    assert [element.tag for element in root] == ["head", "body"]


def test_nothing_is_fetched_from_anywhere():
    for tag, attributes in tags():
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base")
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                assert value.startswith("#")
    assert not re.search(r"url\((?!#)", page())
    assert "@import" not in page()


def test_words_are_escaped_wherever_they_stand():
    assert "<script" not in page()
    for tag in ("title", "h1", "p", "li", "caption", "td", "th", "figcaption", "h2", "a"):
        texts = ["".join(element.itertext()) for element in tree().iter(tag)]
        assert NASTY in texts, tag


@given(st.text(st.characters(blacklist_categories=("Cs", "Cc"))))
def test_any_words_come_back_as_they_were(words):
    text = html_page("T", [Section("S", [Words([words])])])
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    (paragraph,) = root.iter("p")
    assert (paragraph.text or "") == words


def test_ids_differ_and_every_link_leads_to_one():
    met = [attributes for _, attributes in tags()]
    ids = [attributes["id"] for attributes in met if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {
        value.removeprefix("#")
        for attributes in met
        for name, value in attributes.items()
        if name in ("href", "xlink:href")
    }
    links |= set(re.findall(r"url\(#([^)]+)\)", page()))
    assert links <= set(ids)
    assert any(name.startswith("one-") for name in links)
    assert any(name.startswith("two-") for name in links)


def test_figures_and_tables_can_be_read_without_seeing_them():
    root = tree()
    assert [(svg.get("role"), svg.get("aria-label")) for svg in root.iter(f"{SVG}svg")] == [
        ("img", NASTY),
        ("img", "the same again"),
    ]
    assert len(list(root.iter("figcaption"))) == 2
    for table in root.iter("table"):
        assert table.find("caption") is not None
        for row in table.find("tbody"):
            assert [cell.get("scope") for cell in row if cell.tag == "th"] == ["row"]
    (head,) = root.iter("thead")
    assert [(cell.tag, cell.get("scope")) for cell in head.iter("th")] == [("th", "col")] * 3


def test_lists_in_cells_are_numbered_lists():
    (items,) = tree().iter("ol")
    assert [item.text for item in items] == ["x", NASTY]


def test_words_and_axes_of_figures_have_the_page_s_colour():
    drawn = "".join(re.findall(r"<svg.*?</svg>", page(), flags=re.DOTALL))
    assert "currentColor" in drawn
    for sheet in (page().split("@media print")[0], page().split("@media print")[1]):
        assert "--ink" in sheet


def test_a_page_of_figures_with_marks_has_a_script_of_its_own_and_fetches_nothing():
    drawn = figure()
    drawn.axes[0].patches[0].set_gid("mark-0")
    marked = Picture("one", "a bar", "Caption", drawn, marks={"mark-0": NASTY}, views=[drawn] * 2)
    text = html_page("T", [Section("S", [marked])])
    root = ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))
    (script,) = root.iter("script")
    assert not script.attrib
    assert "://" not in script.text
    assert not re.search(r"fetch|import|XMLHttp|innerHTML", script.text)
    groups = [group for group in root.iter(f"{SVG}g") if group.get("data-mark")]
    assert [group[0].text for group in groups] == [NASTY] * 2  # in each view
    assert len({group.get("id") for group in groups}) == 2
    (card,) = [each for each in root.iter("p") if each.get("class") == "card"]
    assert card.get("role") == "status"
    assert "<script" not in page()  # of one without marks


def test_the_same_sections_give_the_same_bytes():
    assert page() == page.__wrapped__()


def test_links_lead_where_they_say_whatever_their_names():
    pages = [(NASTY, "../a%20b/report.html"), ("two", 'x"onclick="y')]
    root = ElementTree.fromstring(html_page("t", [Section("s", [Links("Pages:", pages)])])[15:])
    found = [(link.text, link.get("href")) for item in root.iter("li") for link in item]
    assert found[1:] == pages  # the first is the section's own


def test_a_section_in_a_slot_is_replaced_as_often_as_one_likes_and_no_other_is():
    first = Section("Maps", [Words(["none", NASTY])], slot="maps", about=("a1", "b2"))
    before, after = Section("Before", [Words(["x"])]), Section("After", [Words([NASTY])])
    page_before = html_page("T", [before, first, after])
    assert slot_note(page_before, "maps") == ["a1", "b2"]
    assert slot_note(page_before, "other") is None
    kept = body_html([Words([f"kept {NASTY} \\1 \\g<0>"])])
    second = Section("Maps", [Laid(kept)], slot="maps", about=("a1", "b2"))
    page_after = replace_slot(page_before, second)
    assert page_after == html_page("T", [before, second, after])
    assert replace_slot(page_after, second) == page_after
    assert replace_slot(page_after, first) == page_before
    ElementTree.fromstring(page_after.removeprefix("<!DOCTYPE html>"))
    plain = html_page("T", [before])
    assert replace_slot(plain, second) == plain
