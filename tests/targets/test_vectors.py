"""Targets from a file of vectors by sentence, written in each of the ways that are read."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from safetensors.numpy import save_file
from upath import UPath

from ssense.errors import UserError
from ssense.targets.sentence_embeddings import cached_embeddings, embedding_origin, tower_texts
from ssense.targets.vectors import VectorSpec

SENTENCES = ["Who are you?", "No, or “yes”.", "Oh;  yeah", "Who are you?", "No!"]
NUMBERS = [3, 4, 10, 11, 12]
DISTINCT = ["No!", "No, or “yes”.", "Who are you?", "Oh; yeah", "of no one"]  # in another order
VECTORS = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32) * 7
BY_TEXT = [2, 1, 3, 2, 0]

Ids = Sequence[Any]


def beside(path: Path, ids: Ids, suffix: str = ".txt") -> None:
    path.with_suffix(suffix).write_text("\n".join(map(str, ids)) + "\n", encoding="utf-8")


def as_npy(path: Path, ids: Ids, vectors: Any) -> Path:
    np.save(path.with_suffix(".npy"), vectors)
    beside(path, ids)
    return path.with_suffix(".npy")


def as_safetensors(path: Path, ids: Ids, vectors: Any) -> Path:
    save_file({"words": vectors}, path.with_suffix(".safetensors"))
    pd.DataFrame({"word": "a", "id": ids}).to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".safetensors")


def as_lists(path: Path, ids: Ids, vectors: Any) -> Path:
    frame = pd.DataFrame({"text": [*ids], "vector": [*vectors]})
    frame.to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_fixed_lists(path: Path, ids: Ids, vectors: Any) -> Path:
    flat = pa.array(np.asarray(vectors).ravel())
    lists = pa.FixedSizeListArray.from_arrays(flat, np.shape(vectors)[1])
    table = pa.table({"id": [*ids], "n_words": range(len(ids)), "vector": lists})
    pyarrow.parquet.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def as_columns(path: Path, ids: Ids, vectors: Any) -> Path:
    columns = {f"x{place + 1}": column for place, column in enumerate(np.asarray(vectors).T)}
    frame = pd.DataFrame({"x_id": [*ids]} | dict(reversed(columns.items())))
    frame.to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


WAYS: list[Callable[[Path, Ids, Any], Path]] = [
    *(as_npy, as_safetensors, as_lists, as_fixed_lists, as_columns),
]


def unit(vectors: np.ndarray) -> torch.Tensor:
    exact = vectors.astype(np.float64)
    return torch.from_numpy(exact / np.sqrt((exact**2).sum(axis=1, keepdims=True))).float()


@pytest.mark.parametrize("write", WAYS)
def test_vectors_are_found_by_text_and_by_number(write, tmp_path):
    spec = VectorSpec(file=str(write(tmp_path / "words", DISTINCT, VECTORS)))
    spec.check()
    found = cached_embeddings(SENTENCES, spec, UPath(tmp_path / "text"), NUMBERS)
    torch.testing.assert_close(found, unit(VECTORS)[BY_TEXT], rtol=0, atol=1e-7)
    assert spec.dimensions() == 4
    assert found.dtype == torch.float32
    ids = [12, 4, 3, 10, 11]
    spec = VectorSpec(file=str(write(tmp_path / "numbers", ids, VECTORS)))
    found = spec.embed(SENTENCES, NUMBERS)
    torch.testing.assert_close(found, unit(VECTORS)[[2, 1, 3, 4, 0]], rtol=0, atol=1e-7)
    with pytest.raises(UserError, match="by the sentences' numbers, which are not known here"):
        spec.embed(SENTENCES)


@pytest.mark.parametrize(
    ("suffix", "header"),
    [
        *((".txt", None), (".csv", None), (".csv", "sentence"), (".csv", "any other")),
        *((".txt", "text"), (".tsv", None), (".tsv", "ID")),
    ],
)
def test_ids_beside_an_array_may_be_lines_or_a_column(suffix, header, tmp_path):
    path = as_npy(tmp_path / "words", DISTINCT, VECTORS)
    (tmp_path / "words.txt").unlink()
    frame = pd.DataFrame({header: DISTINCT})
    separator = {".csv": ",", ".tsv": "\t"}.get(suffix)
    text = "\r\n".join([header, *DISTINCT] if header else DISTINCT)
    if separator:
        text = frame.to_csv(sep=separator, index=False, header=header is not None)
    (tmp_path / f"words{suffix}").write_text(text, encoding="utf-8-sig", newline="")
    found = VectorSpec(file=str(path)).embed(SENTENCES)
    torch.testing.assert_close(found, unit(VECTORS)[BY_TEXT], rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("write", WAYS)
def test_any_float_type_is_read_and_no_norm_is_too_large_or_small(write, dtype, tmp_path):
    scale = {np.float16: 1e3, np.float32: 1e37, np.float64: 1e300}[dtype]
    vectors = (VECTORS / 30).astype(dtype) * np.array([[scale], [1], [1 / scale], [1], [1]], dtype)
    found = VectorSpec(file=str(write(tmp_path / "words", DISTINCT, vectors))).embed(SENTENCES)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
    expected = unit((VECTORS / 30).astype(dtype))[BY_TEXT]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 if dtype == np.float16 else 1e-6)


def test_sentences_of_one_vector_are_one_whatever_its_length(tmp_path):
    vectors = VECTORS.copy()
    vectors[1] = 2 * vectors[2]
    spec = VectorSpec(file=str(as_npy(tmp_path / "words", DISTINCT, vectors)))
    found = tower_texts(SENTENCES, spec, UPath(tmp_path), keep=False)
    assert found.same_as.tolist() == [0, 0, 2, 0, 4]
    assert not found.cut.any()


def test_vectors_and_ids_count_by_content(tmp_path):
    path = as_npy(tmp_path / "words", DISTINCT, VECTORS)
    spec = VectorSpec(file=str(path))
    origins = [embedding_origin(SENTENCES, spec, NUMBERS)]
    kept = cached_embeddings(SENTENCES, spec, UPath(tmp_path / "text"), NUMBERS)
    (tmp_path / "else").mkdir()
    moved = VectorSpec(file=str(as_npy(tmp_path / "else" / "moved", DISTINCT, VECTORS)))
    assert moved.by_content() == spec.by_content()
    assert embedding_origin(SENTENCES, moved, NUMBERS) == origins[0]
    as_npy(tmp_path / "words", [*reversed(DISTINCT)], VECTORS)
    origins.append(embedding_origin(SENTENCES, spec, NUMBERS))
    changed = cached_embeddings(SENTENCES, spec, UPath(tmp_path / "text"), NUMBERS)
    assert not changed.allclose(kept)
    as_npy(tmp_path / "words", DISTINCT, VECTORS + 1)
    origins.append(embedding_origin(SENTENCES, spec, NUMBERS))
    origins.append(embedding_origin(SENTENCES, spec, [*reversed(NUMBERS)]))
    assert len({str(each) for each in origins}) == 4
    assert not spec.is_away
    path.unlink()
    assert spec.is_away
    assert spec.by_content() == spec


# ---------------------------------------------------------------- what is refused


def changed(row: int, value: float) -> np.ndarray:
    vectors = VECTORS.copy()
    vectors[row] = value
    return vectors


BAD: dict[str, tuple[Ids, Any, str]] = {
    "half of the sentences": (
        DISTINCT[:2],
        VECTORS[:2],
        "has no vector for 3 of 5 sentences",
    ),
    "NaN": (DISTINCT, changed(1, np.nan), "the vector of “No, or “yes”.” has NaN or infinity"),
    "infinity": (DISTINCT, changed(0, np.inf), "the vector of “No!” has NaN or infinity"),
    "zero": (DISTINCT, changed(3, 0), "the vector of “Oh; yeah” is zero"),
    "whole numbers": (DISTINCT, VECTORS.astype(int), "float"),
    "an id twice": (
        ["No!", *DISTINCT[:4]],
        VECTORS,
        "vectors for “No!”, in rows 1 and 2",
    ),
    "an empty id": ([*DISTINCT[:4], " "], VECTORS, "the id of row 5 is empty"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("write", WAYS)
def test_vectors_that_do_not_serve_are_one_line(write, fault, tmp_path):
    ids, vectors, message = BAD[fault]
    path = write(tmp_path / "words", ids, vectors)
    found = refused(path)
    assert message in found
    assert str(path) in found


def refused(path: Path) -> str:
    spec, folder = VectorSpec(file=str(path)), UPath(path.parent / "text")
    with pytest.raises(UserError) as error:
        cached_embeddings(SENTENCES, spec, folder, NUMBERS)
    assert "\n" not in str(error.value)
    assert not folder.exists()
    return str(error.value)


def test_an_id_twice_with_one_vector_is_none_too_many(tmp_path):
    ids, vectors = [*DISTINCT, "No!"], np.concatenate([VECTORS, VECTORS[:1]])
    path = as_npy(tmp_path / "words", ids, vectors)
    assert VectorSpec(file=str(path)).embed(SENTENCES)[4].allclose(unit(VECTORS)[0])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(5, np.float32), "are [5] of float32, not [N, D] floats"),
        (np.ones((5, 0), np.float32), "are [5, 0] of float32, not [N, D] floats"),
        (np.ones((5, 2, 2), np.float32), "are [5, 2, 2] of float32, not [N, D] floats"),
        (np.ones((5, 2), np.complex64), "are [5, 2] of complex64, not [N, D] floats"),
        (np.array([["a"], [None]], object), "it holds pickled Python objects, which are not"),
    ],
)
def test_an_array_of_another_kind_is_refused(array, message, tmp_path):
    assert message in refused(as_npy(tmp_path / "words", DISTINCT, array))


def test_a_file_that_is_missing_damaged_or_of_another_kind_is_refused(tmp_path):
    assert "no such file. Put it back" in refused(tmp_path / "words.npy")
    path = as_npy(tmp_path / "words", DISTINCT, VECTORS)
    for suffix in (".npy", ".safetensors", ".parquet"):
        path.with_suffix(suffix).write_bytes(path.read_bytes()[:99])
        assert "can't be read (" in refused(path.with_suffix(suffix))
    path.write_text("0.1 0.2\n0.3 0.4\n")
    assert "it is not what numpy.save writes, whatever its name says" in refused(path)
    (tmp_path / "words.mat").write_bytes(b"")
    assert "Give .npy, .parquet or .safetensors" in refused(tmp_path / "words.mat")
    save_file({"a": VECTORS, "b": VECTORS}, tmp_path / "words.safetensors")
    assert "holds 2 tensors: a, b. Keep one, [N, D]" in refused(tmp_path / "words.safetensors")
    with pytest.raises(UserError, match=r"names no file\. Give \.npy"):
        VectorSpec().check()


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (None, "", "have no ids. Put a file beside them (words.txt, words.csv, words.tsv)"),
        (".txt", "a\nb\nc\n", "has 5 vectors, and words.txt 3 ids. Save one id a row"),
        (".csv", "a\nb\nc\n", "has 5 vectors, and words.csv 3 ids. Save one id a row"),
        (".csv", "id\na\nb\nc\nd\n", "and words.csv 4 ids below the header id. Save one id a row"),
        (".tsv", "Text\na\nb\nc\nd\n", "and words.tsv 4 ids below the header Text. Save one id"),
        (".csv", "id,x\n" + "a,b\n" * 4, "and words.csv 4 ids below the header id, x. Save one"),
        (".txt", "sentence\na\nb\nc\nd\n", "and words.txt 4 ids below the header sentence. Save"),
        (".csv", "a,b\n" * 5, "have 2 columns: a, b, and none is called id in a header"),
        (".csv", "a,b\n" * 6, "have 2 columns: a, b, and none is called id in a header"),
        (".tsv", "a\tid\n" + "1\t2\n" * 4 + "1\n", "row 6 has too few columns"),
        (".txt", b"\xff\xfe\x00", "can't be read ('utf-8' codec"),
    ],
)
def test_ids_that_do_not_fit_the_array_are_refused(suffix, content, message, tmp_path):
    path = as_npy(tmp_path / "words", DISTINCT, VECTORS)
    (tmp_path / "words.txt").unlink()
    if suffix:
        content = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"words{suffix}").write_bytes(content)
    assert message in refused(path)


@pytest.mark.parametrize("write", WAYS)
def test_a_damaged_file_is_one_line_or_still_gives_vectors(write, tmp_path):
    path, drawn = write(tmp_path / "words", DISTINCT, VECTORS), random.Random(0)
    whole = {each: each.read_bytes() for each in tmp_path.iterdir()}
    n_refused = 0
    for _ in range(250):
        for each, content in whole.items():
            each.write_bytes(content)
        each = drawn.choice(sorted(whole))
        content = bytearray(whole[each])
        for _ in range(drawn.randint(1, 4)):
            content[drawn.randrange(len(content))] = drawn.randrange(256)
        end = drawn.choice([len(content), drawn.randrange(len(content))])
        each.write_bytes(content[:end])
        said = ""
        try:
            found = VectorSpec(file=str(path)).embed(SENTENCES, NUMBERS)
            torch.testing.assert_close(found.norm(dim=1), torch.ones(5))
        except UserError as error:
            said = str(error)
        assert "\n" not in said
        n_refused += bool(said)
    assert n_refused > 150


def test_two_files_of_ids_are_refused(tmp_path):
    path = as_npy(tmp_path / "words", DISTINCT, VECTORS)
    beside(path, DISTINCT, ".csv")
    with pytest.raises(UserError, match=r"several files of ids beside it: words\.txt, words\.csv"):
        VectorSpec(file=str(path)).check()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a", "b"], "who": ["c", "d"], "v": [[1.0], [2.0]]}, "2 columns of texts or"),
        ({"v": [[1.0], [2.0]]}, "0 columns of texts or whole numbers, and none is called id"),
        ({"id": ["a", None], "v": [[1.0], [2.0]]}, "1 id is missing"),
        ({"id": ["a", "b"], "v": [[1.0], [2.0]], "w": [[1.0], [2.0]]}, "2 columns of lists: v, w"),
        ({"id": ["a", "b"], "v": [[1.0], [1.0, 2.0]]}, "of different lengths: 1, 2"),
        ({"id": ["a", "b"], "v": [[1.0], None]}, "of different lengths: 1, none"),
        ({"id": ["a", "b"], "v": [["x"], ["y"]]}, "not [N, D] floats"),
        ({"id": ["a", "b"]}, "neither a column of lists nor columns of floats that are numbered"),
        ({"id": ["a", "b"], "x0": [0.1, 0.2], "x2": [0.1, 0.2]}, "Its columns: id, x0, x2"),
        ({"id": ["a", "b"], "x0": [0.1, 0.2], "y1": [0.1, 0.2]}, "Its columns: id, x0, y1"),
        ({"id": ["a", "b"], "x0": [0.1, 0.2], "y": [0.1, 0.2]}, "Its columns: id, x0, y"),
        ({"id": ["a", "b"], "x0": [0.1, None]}, "the vector of “b” has NaN or infinity"),
    ],
)
def test_a_table_without_its_columns_is_refused(columns, message, tmp_path):
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "words.parquet")
    assert message in refused(tmp_path / "words.parquet")
