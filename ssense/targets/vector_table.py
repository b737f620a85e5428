"""Vectors by sentence in a file: an array with its ids beside it, or a Parquet table.

words.npy, words.safetensors    one array [N, D], and words.txt, .csv or .tsv: an id a row
words.parquet                   a column of ids, and vectors as lists or as numbered columns
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ssense.errors import UserError, counted, one_line, printable
from ssense.targets.target import unit_rows

if TYPE_CHECKING:
    import pyarrow as pa

ID_COLUMN = "id"
# What a first row of ids that says one of these is: a header, never an id.
_HEADERS = frozenset(
    f"{ID_COLUMN} ids index number text texts sentence sentences stimulus stimuli word words "
    "transcript".split()
)
_IDS = (".txt", ".csv", ".tsv")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_INDEX = "__index_level_"  # columns that pandas writes for the numbers of its rows
_LISTED = 6  # names in a message
_REASON_CHARACTERS = 150
_DIGITS = re.compile(r"\d+")
_LAST_DIGITS = re.compile(r"\d+$")

Id = str | int
"""A sentence's text, or its number in the recording."""


@dataclass(frozen=True, eq=False)
class VectorTable:
    """Vectors of sentences.

    Attributes:
        rows: The row of each id: texts with single blanks, or numbers.
        vectors: Vectors `[N, D]` float32 of unit norm.
        by_number: Whether ids are the sentences' numbers in the recording.
    """

    rows: Mapping[Id, int]
    vectors: Tensor
    by_number: bool


def id_file(path: Path) -> Path | None:
    """The file of the ids beside an array; None for a table that has them, or without such a file.

    Raises:
        UserError: There are several.
    """
    if path.suffix not in _ARRAYS:
        return None
    found = [each for suffix in _IDS if (each := path.with_suffix(suffix)).is_file()]
    if len(found) > 1:
        names = ", ".join(printable(each.name) for each in found)
        raise UserError(f"{path} has several files of ids beside it: {names}. Leave one of them.")
    return found[0] if found else None


def read_vectors(path: Path) -> VectorTable:
    """Read a file of vectors and its ids.

    Raises:
        UserError: The file is missing, can't be read or holds no vectors by id; a vector is zero or
            not finite; or an id has two different vectors.
    """
    if not path.is_file():
        raise UserError(f"vectors {printable(str(path), 150)}: no such file. Put it back.")
    if path.suffix == ".parquet":
        ids, array = _parquet(path)
    elif path.suffix in _ARRAYS:
        array = _floats(path, _read(path, _ARRAYS[path.suffix]))
        ids = _ids_beside(path, len(array))
    else:
        raise UserError(
            f"vectors {printable(str(path), 150)}: not a kind of file that is read. Give .npy, "
            ".parquet or .safetensors."
        )
    vectors = unit_rows(torch.from_numpy(array), [*map(str, ids)], str(path))
    return _by_id(path, ids, vectors)


def as_id(text: str) -> str:
    """A text as ids have it: single blanks, as a file with a line for each may have no others."""
    return " ".join(text.split())


def _by_id(path: Path, ids: Sequence[Id], vectors: Tensor) -> VectorTable:
    """The rows by id; ids that are all whole numbers are the sentences' numbers.

    Raises:
        UserError: An id has two different vectors, or is empty.
    """
    by_number = all(isinstance(each, int) or _DIGITS.fullmatch(each.strip()) for each in ids)
    rows: dict[Id, int] = {}
    for row, each in enumerate(ids):
        name = int(each) if by_number else as_id(str(each))
        if name == "":
            raise UserError(f"{path}: the id of row {row + 1} is empty. Leave the row out.")
        first = rows.setdefault(name, row)
        if first != row and not torch.equal(vectors[first], vectors[row]):
            raise UserError(
                f"{path} has different vectors for “{printable(str(name))}”, in rows {first + 1} "
                f"and {row + 1}. Leave one of them, or use the sentences' numbers for ids."
            )
    return VectorTable(rows, vectors, by_number)


# ---------------------------------------------------------------- arrays, and ids beside them


def _npy(path: Path) -> Any:
    magic = np.lib.format.MAGIC_PREFIX
    with path.open("rb") as file:
        if file.read(len(magic)) != magic:  # which NumPy would take for a pickle
            raise ValueError("it is not what numpy.save writes, whatever its name says")
    return np.load(path, allow_pickle=False)


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    tensors = load_file(path)
    if len(tensors) != 1:
        named = _some(sorted(tensors))
        raise UserError(f"{path} holds {counted(len(tensors), 'tensor')}{named}. Keep one, [N, D].")
    (tensor,) = tensors.values()
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


_ARRAYS: dict[str, Callable[[Path], Any]] = {".npy": _npy, ".safetensors": _safetensors}


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    """What a library reads of a file; what it raises is said in one line."""
    try:
        return read(path)
    except UserError:
        raise
    except Exception as error:  # NumPy, safetensors and Arrow raise a dozen kinds
        reason = printable(one_line(error), _REASON_CHARACTERS)
        if "allow_pickle" in str(error):
            reason = "it holds pickled Python objects, which are not loaded"
        raise UserError(
            f"vectors {path} can't be read ({reason}). Save them again, as floats [N, D]."
        ) from error


def _floats(path: Path, array: Any) -> np.ndarray:
    """Refuse what is no matrix of floats.

    Raises:
        UserError: The shape or the type is another.
    """
    shape, dtype = list(getattr(array, "shape", ())), getattr(array, "dtype", type(array).__name__)
    if len(shape) != 2 or not all(shape) or getattr(dtype, "kind", "") != "f":
        raise UserError(
            f"vectors {path} are {shape} of {dtype}, not [N, D] floats. Save one row of float32 "
            "for each sentence."
        )
    return np.array(array, np.float64)


def _ids_beside(path: Path, n: int) -> list[Id]:
    """The ids of the rows of an array, from the file beside it.

    Raises:
        UserError: There is no such file, or it has not an id for each row.
    """
    found = id_file(path)
    if found is None:
        names = ", ".join(path.with_suffix(suffix).name for suffix in _IDS)
        raise UserError(
            f"vectors {path} have no ids. Put a file beside them ({names}) with one id a row: the "
            "sentence, or its number in the recording."
        )
    try:
        text = found.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"ids {found} can't be read ({one_line(error)}). Save them as UTF-8."
        ) from error
    rows = _id_rows(found, text)
    is_named = any(cell.strip().lower() in _HEADERS for row in rows[:1] for cell in row)
    has_header = is_named or (found.suffix in _SEPARATORS and len(rows) == n + 1)
    if len(rows) - has_header != n:
        below = f" below the header {printable(', '.join(rows[0]))}" if is_named else ""
        ids = counted(len(rows) - has_header, "id")
        raise UserError(
            f"{path} has {counted(n, 'vector')}, and {found.name} {ids}{below}. Save one id a row, "
            "in the order of the vectors."
        )
    column = _id_place(found, rows[0], has_header=has_header)
    if short := [row for row, cells in enumerate(rows, 1) if len(cells) <= column]:
        raise UserError(f"ids {found}: row {short[0]} has too few columns. Save it again.")
    return [row[column] for row in rows[has_header:]]


def _id_rows(path: Path, text: str) -> list[list[str]]:
    """The rows of a file of ids, a header included: its lines, or those of its table.

    Raises:
        UserError: It is no table.
    """
    if path.suffix not in _SEPARATORS:
        return [[line] for line in text.rstrip("\r\n").split("\n")]
    separator = _SEPARATORS[path.suffix]
    try:
        return [row for row in csv.reader(io.StringIO(text), delimiter=separator) if row]
    except csv.Error as error:
        raise UserError(f"ids {path} are no table ({one_line(error)}). Save it again.") from error


def _id_place(path: Path, first: Sequence[str], *, has_header: bool) -> int:
    """Which column of a table has the ids: the only one, or that called `id`."""
    if len(first) == 1:
        return 0
    if has_header and ID_COLUMN in first:
        return [*first].index(ID_COLUMN)
    raise UserError(
        f"ids {path} have {len(first)} columns{_some(first)}, and none is called {ID_COLUMN} in a "
        "header. Keep the column of the ids alone, or give it that name."
    )


# ---------------------------------------------------------------- Parquet


def _parquet(path: Path) -> tuple[list[Id], np.ndarray]:
    """Ids and vectors `[N, D]` of a table.

    Raises:
        UserError: The table can't be read, or has not one column of ids and vectors.
    """
    table = _read(path, _read_parquet)
    wanted = [name for name in table.column_names if not name.startswith(_INDEX)]
    table = table.select(wanted)
    vectors = _floats(path, _parquet_vectors(path, table))
    ids = table.column(_id_column(path, table))
    if ids.null_count:
        raise UserError(f"{path}: {counted(ids.null_count, 'id is', 'ids are')} missing. Add them.")
    return ids.to_pylist(), vectors


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    table.validate(full=True)  # damaged texts come through otherwise
    return table


def _id_column(path: Path, table: pa.Table) -> str:
    """The column of the ids: the only one of texts or whole numbers, or that called `id`."""
    from pyarrow import types

    kinds = types.is_string, types.is_large_string, types.is_integer
    fitting = [each.name for each in table.schema if any(is_of(each.type) for is_of in kinds)]
    if ID_COLUMN in fitting:
        return ID_COLUMN
    if len(fitting) != 1:
        raise UserError(
            f"{path} has {counted(len(fitting), 'column')} of texts or whole numbers"
            f"{_some(fitting)}, and none is called {ID_COLUMN}. Give the column of the ids that "
            "name."
        )
    (name,) = map(str, fitting)
    return name


def _parquet_vectors(path: Path, table: pa.Table) -> np.ndarray:
    """The vectors of a table: one column of lists, or numbered columns of floats.

    Raises:
        UserError: There are none, or several, or lists of different lengths.
    """
    from pyarrow import types

    kinds = types.is_list, types.is_large_list, types.is_fixed_size_list
    lists = [each.name for each in table.schema if any(is_of(each.type) for is_of in kinds)]
    if len(lists) > 1:
        raise UserError(f"{path} has {len(lists)} columns of lists{_some(lists)}. Keep one.")
    if lists:
        return _of_lists(path, table.column(lists[0]).combine_chunks())
    floats = [each.name for each in table.schema if types.is_floating(each.type)]
    if not (numbered := _numbered(floats)):
        raise UserError(
            f"{path} has neither a column of lists nor columns of floats that are numbered from 0 "
            f"or 1, such as x0, x1, x2. Its columns{_some(table.column_names)}."
        )
    # A missing value is NaN, which is refused.
    return np.stack([table.column(name).to_numpy() for name in numbered], axis=1)


def _of_lists(path: Path, lists: Any) -> np.ndarray:
    from pyarrow import compute

    lengths = compute.unique(compute.list_value_length(lists)).to_pylist()
    if len(lengths) != 1 or None in lengths:
        found = ", ".join(sorted("none" if n is None else str(n) for n in lengths)[:_LISTED])
        raise UserError(f"{path} has vectors of different lengths: {found}. Save one for all.")
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(len(lists), -1)


def _numbered(names: Sequence[str]) -> list[str]:
    """Names by their numbers at the end; none where these are no run from 0 or 1 of one prefix."""
    found = {int(number[0]): name for name in names if (number := _LAST_DIGITS.search(name))}
    first = min(found, default=0)
    is_run = first in (0, 1) and sorted(found) == [*range(first, first + len(names))]
    prefixes = {_LAST_DIGITS.sub("", name) for name in names}
    return [found[number] for number in sorted(found)] if is_run and len(prefixes) == 1 else []


def _some(names: Sequence[str]) -> str:
    """The first few of names behind a colon; empty where there is none."""
    shown = ", ".join(printable(name) for name in names[:_LISTED])
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f": {shown}{more}" if names else ""
