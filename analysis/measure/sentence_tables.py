"""What a model makes of each sentence of some parts of its split: embeddings and ranks."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch.nn.functional import normalize

from analysis.measure.evaluation import retrieval_of
from ssense.data.dataset import Dataset
from ssense.data.splits import Split
from ssense.decoder.trained_model import TrainedModel
from ssense.retrieval import cosine_scores
from ssense.training.process import any_device

if TYPE_CHECKING:
    import pandas as pd

EMBEDDINGS, RANKS = "embeddings.parquet", "ranks.parquet"


def sentence_tables(
    model: TrainedModel,
    dataset: Dataset,
    stimuli: pd.DataFrame,
    split: Split,
    parts: Sequence[str],
) -> dict[str, bytes]:
    """Parquet files of what a model makes of the sentences of some parts of its split.

    Both have a row per sentence: its part, its number in the transcript, its text and times.
    The embeddings are those of the brain and of the text, `[D]` float32 of unit norm. The rank of
    the sentence is among the candidates of its part, 1 the best, ties at mid-rank, beside the
    sentences that were retrieved first.

    Args:
        model: The model.
        dataset: The data that it was trained on.
        stimuli: The table of its sentences, in the same order.
        split: The split of the model's seed.
        parts: Names of the parts, "validation" or "test". Who asks for the test has counted it.

    Returns:
        Contents by name of the file.
    """
    pairs = dataset.on(any_device())
    found: dict[str, list[pa.Table]] = {EMBEDDINGS: [], RANKS: []}
    for part in parts:
        rows: np.ndarray = getattr(split, part)
        made = model.specification.embed(model.encoder, pairs.select(rows))
        scores = cosine_scores(made.queries, made.candidates[made.truth]).cpu()
        retrieval = retrieval_of(scores, rows[made.truth.cpu().numpy()], shared=False)
        names = _names(stimuli, rows, part)
        found[EMBEDDINGS].append(
            pa.table(
                {
                    **names,
                    "embedding": _vectors(normalize(made.queries, dim=1).cpu().numpy()),
                    "target": _vectors(made.candidates[made.truth].cpu().numpy()),
                }
            )
        )
        texts = stimuli["text"].to_numpy()
        found[RANKS].append(
            pa.table(
                {
                    **names,
                    "rank": retrieval.ranks,
                    "candidates": np.full(len(rows), len(rows)),
                    "retrieved": [texts[row].tolist() for row in retrieval.first],
                }
            )
        )
    return {name: _parquet(pa.concat_tables(tables)) for name, tables in found.items()}


def _names(stimuli: pd.DataFrame, rows: np.ndarray, part: str) -> Mapping[str, object]:
    chosen = stimuli.iloc[rows]
    return {
        "part": [part] * len(rows),
        "sentence_idx": chosen["sentence_idx"].to_numpy(),
        "sentence": chosen["text"].tolist(),
        "onset_s": chosen["onset_s"].to_numpy(),
        "offset_s": chosen["offset_s"].to_numpy(),
    }


def _vectors(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()
