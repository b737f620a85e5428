"""The splits behind a table of scores, as an evaluation's scores.csv names them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from ssense.choices import BEST_TEST_EPOCH, ImageSplitKind, SplitKind
from ssense.errors import UserError, printable

SPLIT, N_TRAIN, N_TEST = COLUMNS = ("split", "n_train", "n_test")
"""Columns of a table of scores: the kind of split, and the sizes of its parts."""

_SHARED = ("held-out", *get_args(ImageSplitKind))
_KINDS = (*get_args(SplitKind), *get_args(ImageSplitKind))
_SIZE = re.compile(r"0*([1-9]\d{0,8})(?:[.,]0+)?")  # pandas writes 872.0


class Splits(NamedTuple):
    """The splits that scores come from.

    Attributes:
        kind: The kind of split.
        n_train: Items of the training split; None where the table doesn't say, or says several.
        n_test: Items of the test split; None where the table doesn't say, or says several.
    """

    kind: str
    n_train: int | None
    n_test: int | None

    @property
    def shared(self) -> bool:
        """Whether all seeds share their test items."""
        return self.kind in _SHARED

    @property
    def of_images(self) -> bool:
        """Whether the scores are of images, of which no kind of split is one of sentences too."""
        return self.kind in get_args(ImageSplitKind)

    @property
    def sizes(self) -> tuple[int | None, int | None]:
        """What a test over seeds allows for: of test items, those that seeds draw anew."""
        return self.n_train, 0 if self.shared else self.n_test

    @property
    def note(self) -> str:
        """The splits in words."""
        if self.shared:
            return (
                f"Splits: {self.kind}. All seeds share their test items, so that none is drawn "
                "again; the evaluation's own tests are over these items, those here are not."
            )
        if None in self.sizes:
            return f"Splits: {self.kind}."
        return f"Splits: {self.kind}, {self.n_train} to train on and {self.n_test} to test."

    @property
    def caveat(self) -> str:
        """What scores of these splits do not show; empty where the splits alone limit nothing."""
        if not self.kind.endswith(BEST_TEST_EPOCH):
            return ""
        return (
            "Best test epoch: the test split itself chose each epoch, so that scores are too high "
            "to be an estimate, and differences may be. For a claim, take splits whose epochs are "
            "chosen on held-out concepts."
        )


def read_splits(
    path: Path, columns: Sequence[str], rows: Sequence[tuple[int, Sequence[str]]]
) -> Splits | None:
    """Read what the columns of a table say of its splits.

    Args:
        path: Path of the table.
        columns: Their names.
        rows: The line of each row, and its cells.

    Returns:
        None where no column names kinds of splits.

    Raises:
        UserError: A kind or size makes no sense, or there are several kinds.
    """
    places = {name.casefold(): place for place, name in enumerate(columns)}
    if SPLIT not in places:
        return None
    found = dict.fromkeys(cells[places[SPLIT]].strip().casefold() for _, cells in rows)
    if not {*found} & {*_KINDS}:  # a column of another meaning
        return None
    for line, cells in rows:
        if cells[places[SPLIT]].strip().casefold() not in _KINDS:
            raise UserError(
                f"{path}, line {line}: expected a kind of split, such as random, got "
                f"{printable(cells[places[SPLIT]]) or 'nothing'}. Name it in every line, or in "
                "none."
            )
    if len(found) > 1:
        raise UserError(
            f"{path} has scores of several kinds of split, which can't be mixed: "
            f"{'; '.join(found)}. Keep one."
        )
    sizes = (_size(path, name, places.get(name), rows) for name in (N_TRAIN, N_TEST))
    return Splits(next(iter(found)), *sizes)


def _size(
    path: Path, name: str, place: int | None, rows: Sequence[tuple[int, Sequence[str]]]
) -> int | None:
    """The size that all rows have; None where they differ, as those of several recordings may."""
    if place is None:
        return None
    sizes = set()
    for line, cells in rows:
        found = _SIZE.fullmatch(cells[place].strip())
        if found is None:
            raise UserError(
                f"{path}, line {line}: expected a whole number above 0 as {name}, got "
                f"{printable(cells[place]) or 'nothing'}. Complete the line, or leave the column "
                "out."
            )
        sizes.add(int(found[1]))
    return sizes.pop() if len(sizes) == 1 else None
