from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import sealed, unsealed


@dataclass(frozen=True)
class Inner:
    share: float
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ValueError(f"share must be at most 1, got {self.share}.")


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    seeds: tuple[int, ...] = ()
    history: Sequence[Mapping[str, float]] = ()
    pair: tuple[int, str] = (0, "")
    note: str | None = None
    dirty: bool = False
    anything: Any = None


def test_what_was_written_comes_back():
    known = {"name": "x", "inner": {"share": 1}, "seeds": [1, 2], "history": [{"loss": 0.5}]}
    expected = Outer("x", Inner(1), (1, 2), [{"loss": 0.5}])
    assert from_plain(Outer, json.loads(json.dumps(known))) == expected


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": None}, "name is null, not a text"),
    ({"name": "\ud800"}, "name is a text with a broken character"),
    ({"inner": []}, "inner is a list, not an object"),
    ({"inner": {}}, "inner.share is missing"),
    ({"inner": {"share": True}}, "inner.share is true or false, not a number"),
    ({"inner": {"share": math.nan}}, "inner.share is too large or not finite"),
    ({"inner": {"share": 10**400}}, "inner.share is too large or not finite"),
    ({"inner": {"share": 2}}, r"inner is refused \(share must be at most 1, got 2\)"),
    ({"inner": {"share": 1, "kind": "c"}}, "inner.kind is 'c', not one of a, b"),
    ({"inner": {"share": 1, "kind": []}}, r"inner.kind is \[\], not one of a, b"),
    ({"seeds": [1, 2.5]}, r"seeds\[1\] is a number, not a whole number"),
    ({"seeds": {"0": 1}}, "seeds is an object, not a list"),
    ({"history": [{"loss": 1}, {"loss": None}]}, r"history\[1\].loss is null, not a number"),
    ({"pair": [1]}, "pair has 1 entries, not 2"),
    ({"note": 3}, "note is a number, not a text"),
    ({"dirty": 1}, "dirty is a number, not true or false"),
    ({"more": 1}, "more is unknown here"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_is_of_another_shape_is_named_by_its_place(changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        from_plain(Outer, {"name": "x", "inner": {"share": 0.5}} | changes)


def test_the_whole_may_be_of_another_shape():
    with pytest.raises(ValueError, match=r"^it is a list, not an object$"):
        from_plain(Outer, [])


def test_a_checksum_is_of_content_and_not_of_layout():
    content = {"b": [1, 2.5, None], "a": {"x": "é"}}
    kept = json.loads(json.dumps(sealed(content), indent=3))
    assert unsealed(dict(reversed(kept.items()))) == content
    with pytest.raises(ValueError, match="its checksum is missing: it was changed"):
        unsealed(content)
    with pytest.raises(ValueError, match="does not match its checksum"):
        unsealed(kept | {"b": [1, 2.5]})
    with pytest.raises(ValueError, match="it holds a list, not an object"):
        unsealed([])
