"""A trained model: embeds new signals, and retrieves sentences among given candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from torch.nn.functional import normalize

from ssense.data.dataset import Pairs
from ssense.data.recordings.recording import Recording
from ssense.data.recordings.segments import Segments
from ssense.decoder.held_out import HeldOut, held_out_rows
from ssense.decoder.preprocessing import Preprocessing, as_array
from ssense.errors import UserError, counted, one_line, printable
from ssense.model.encoders.encoder import Encoder
from ssense.retrieval import QUERIES_PER_BLOCK, cosine_scores
from ssense.targets.sentence_embeddings import AnyTargetSpec
from ssense.training.process import any_device
from ssense.training.sentences import SentenceSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrainedModel:
    """An encoder of one cell, with all that it takes to use it on new data.

        model = ssense.open("storage").sweeps[-1].model()
        model.retrieve(recording, ["She left.", "He stayed."])

    Attributes:
        specification: What made the cell's result.
        preprocessing: What signals go through before the encoder.
        encoder: The trained network.
        signature: Signature of the cell.
        configuration: What the cell's configuration changes.
        seed: Seed of the cell.
        code_digest: Digest of the code that trained it.
        dataset_digest: Digest of the dataset that it was trained on.
        recording_digest: Digest of the recording that it was trained on.
        held_out: Numbers of the sentences of that recording that are of the cell's test split.
        held_out_sentences: The same sentences by text and onset, by which they are known where the
            recording was edited or is opened otherwise; empty in folders of earlier versions.
        target_content: The target by the content of its files, which it must have; None where it is
            known to.
        embeds_texts: Whether the target is at hand, to embed sentences.
    """

    specification: SentenceSpec
    preprocessing: Preprocessing
    encoder: Encoder
    signature: str
    configuration: Mapping[str, Any]
    seed: int
    code_digest: str
    dataset_digest: str
    recording_digest: str
    held_out: frozenset[int]
    held_out_sentences: tuple[HeldOut, ...] = ()
    target_content: AnyTargetSpec | None = None
    embeds_texts: bool = True
    _texts: dict[str, Tensor] = field(default_factory=dict, init=False)

    def __repr__(self) -> str:
        electrodes = counted(len(self.electrodes), "electrode")
        return f"TrainedModel({self.signature}, seed {self.seed}, {electrodes})"

    @property
    def electrodes(self) -> tuple[str, ...]:
        """Names of the electrodes that the encoder takes, in order."""
        return self.preprocessing.electrodes

    @property
    def contacts(self) -> tuple[str, ...]:
        """Names of the contacts that segments must have, in order: electrodes and references."""
        return self.preprocessing.contacts

    @property
    def sampling_rate_hz(self) -> float:
        """Samples per second of the recording that it was trained on, and of segments."""
        return self.preprocessing.recorded_hz

    @property
    def lead_samples(self) -> int:
        """Samples ahead of a segment that the notch filters need to settle, see `embed`."""
        return self.preprocessing.lead_samples

    def stimuli(self, recording: Recording) -> pd.DataFrame:
        """The sentences of a recording that can be embedded, in the order of its embeddings.

        Of the recording that the model was trained on, those of the test split are not among them,
        by their texts and onsets also where it was edited or is opened otherwise:
        analysis/evaluate.py evaluates these, and counts that it did.

        Args:
            recording: A recording with the contacts of the model.

        Returns:
            A row for each sentence: its number in the transcript (sentence_idx), text, and onset_s
            and offset_s in seconds of the movie.

        Raises:
            UserError: The recording lacks a contact, has another sampling rate, or no sentence of
                it is left.
        """
        import pandas as pd

        segments, rows = self._chosen(recording)
        return pd.DataFrame(
            {
                "sentence_idx": segments.sentence_idx[rows],
                "text": [segments.text[row] for row in rows],
                "onset_s": segments.onset_s[rows],
                "offset_s": segments.offset_s[rows],
            }
        )

    def embed(
        self, signals: Recording | Any, *, lead_samples: int = 0, prepared: bool = False
    ) -> np.ndarray:
        """Embed the sentences of a recording, or segments of signal.

        Signals go through what those of the training went through: reference, notch filters,
        padding, features, encoder.

        Args:
            signals: A recording; or segments `[N, contacts, samples]`, or a list of N arrays
                `[contacts, samples]`, in microvolts as recorded, of `contacts` in their order, at
                `sampling_rate_hz`. Zeros that pad a segment count as signal, and are refused where
                the features leave out padding: give segments of different lengths as a list.
            lead_samples: Samples at the beginning of each segment that are ahead of it, and are cut
                off after the notch filters, which ring where they start. With `lead_samples` of the
                model, nothing of that is left; with fewer, some is at the beginning.
            prepared: Whether segments are of `electrodes` in place of `contacts`, referenced and
                filtered already, as `ssense.data.recordings.segment_signals.read_segments` gives
                them; cut each to its own length unless `features.pad_domain` is "raw".

        Returns:
            Embeddings `[N, D]` float32 of unit norm; those of a recording in the order of
            `stimuli`.

        Raises:
            UserError: The recording or the segments don't fit the model, or the signals can't be
                read.
        """
        found, _ = self._queries(signals, lead_samples, prepared)
        embeddings: np.ndarray = normalize(found, dim=1).numpy()
        return embeddings

    def retrieve(
        self,
        signals: Recording | Any,
        candidates: Sequence[str] | Any,
        k: int = 10,
        *,
        lead_samples: int = 0,
        prepared: bool = False,
    ) -> pd.DataFrame:
        """Retrieve sentences among candidates, the nearest first.

        Args:
            signals: What `embed` takes, or embeddings `[N, D]`.
            candidates: Sentences, which the model's target embeds; or their embeddings `[M, D]`.
            k: Candidates to list for each query.
            lead_samples: Samples ahead of each segment, see `embed`.
            prepared: Whether segments are referenced and filtered already, see `embed`.

        Returns:
            Up to k rows for each query: its number (query), its own sentence where the recording
            has it (sentence), the rank of a candidate, 1 the best, ties at mid-rank (rank), the
            candidate or its number (candidate), and their cosine similarity (cosine_similarity).

        Raises:
            UserError: See `embed`; or the candidates are none, no text, or of other dimensions, or
                their tower can't be loaded.
        """
        import pandas as pd

        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise UserError(f"k must be a whole number from 1, got {k!r}.")
        named, embedded = self._candidates(candidates)
        queries, sentences = self._queries_or_embedded(signals, lead_samples, prepared)
        if queries.shape[1] != embedded.shape[1]:
            raise UserError(
                f"candidates have {counted(embedded.shape[1], 'dimension')}, and the embeddings of "
                f"the signals {queries.shape[1]}. Embed both by the same target."
            )
        parts = [
            _ranked(part, embedded, k, first)
            for first, part in zip(
                range(0, len(queries), QUERIES_PER_BLOCK),
                queries.split(QUERIES_PER_BLOCK),
                strict=True,
            )
        ]
        query, rank, place, similarity = map(np.concatenate, zip(*parts, strict=True))
        return pd.DataFrame(
            {
                "query": query,
                "sentence": [sentences[each] if sentences else None for each in query],
                "rank": rank,
                "candidate": [named[each] for each in place] if named else place,
                "cosine_similarity": similarity,
            }
        )

    def _chosen(self, recording: Recording) -> tuple[Segments, list[int]]:
        """The segments of a recording, and the rows of those that may be embedded."""
        segments = self.preprocessing.segments(recording)
        out = held_out_rows(self.held_out_sentences, segments.text, segments.onset_s)
        if recording.digest == self.recording_digest:
            numbers = segments.sentence_idx.tolist()
            out |= {row for row, each in enumerate(numbers) if each in self.held_out}
        rows = [row for row in range(len(segments)) if row not in out]
        if not rows:
            raise UserError(
                f"{recording.subject} {recording.trial} has no sentence but those of the model's "
                "test split. Evaluate them by analysis/evaluate.py."
            )
        return segments, rows

    def _queries_or_embedded(
        self, signals: Any, lead_samples: int, prepared: bool
    ) -> tuple[Tensor, list[str]]:
        if getattr(signals, "ndim", None) == 2:
            return _finite("embeddings of signals", signals), []
        return self._queries(signals, lead_samples, prepared)

    def _queries(self, signals: Any, lead_samples: int, prepared: bool) -> tuple[Tensor, list[str]]:
        """Embeddings `[N, D]` as the encoder gives them, and their sentences where known."""
        made = self.preprocessing
        if isinstance(signals, Recording):
            segments, rows = self._chosen(signals)
            features = made.of_recording(signals, segments, rows)
            return self._encoded(features), [segments.text[row] for row in rows]
        checked = made.checked(signals, lead_samples, prepared=prepared)
        return self._encoded(made.of_arrays(checked, lead_samples, prepared=prepared)), []

    def _encoded(self, features: np.ndarray) -> Tensor:
        """Embed features `[N, electrodes, frequencies, frames]` as an evaluation does."""
        pairs = as_pairs(features)
        found: Tensor = self.specification.embed(self.encoder, pairs).queries.cpu()
        if not found.isfinite().all():
            raise UserError(
                "the signals give embeddings that are not finite. Check their unit, µV."
            )
        return found

    def _candidates(self, candidates: Any) -> tuple[list[str], Tensor]:
        """The candidates as texts, none where they are embeddings, and embedded `[M, D]`."""
        if isinstance(candidates, str):
            raise UserError(
                f"candidates are one text, {printable(candidates)}. Give a list of sentences."
            )
        if getattr(candidates, "ndim", None) == 2:
            return [], _finite("candidates", candidates)
        try:
            listed = list(candidates)
        except TypeError:
            raise UserError(
                f"candidates are of the type {type(candidates).__name__}. Give a list of "
                "sentences, or embeddings [M, D]."
            ) from None
        if not listed:
            raise UserError("candidates are empty. Give at least one sentence.")
        for number, text in enumerate(listed):
            if not isinstance(text, str) or not text.strip():
                raise UserError(
                    f"candidate {number} is {printable(repr(text))}, no text. Give sentences."
                )
        return listed, self.embed_texts(listed)

    def embed_texts(self, sentences: Sequence[str]) -> Tensor:
        """Embed sentences by the target that the model was trained for.

        Args:
            sentences: N texts. Those that were embedded before are remembered.

        Returns:
            `[N, D]` float32 of unit norm.

        Raises:
            UserError: The tower can't be loaded.
        """
        target, wanted = self.specification.target, self.target_content
        if not self.embeds_texts:
            raise UserError(
                f"sentences can't be embedded by {self!r}: its target was read from a file. Load "
                "it with target=, with own_code=True where target.py is in its folder, or give "
                "candidates as embeddings."
            )
        new = [text for text in dict.fromkeys(sentences) if text not in self._texts]
        if new and wanted is not None and target.is_away:
            target.check()  # gets it: what is not on this machine has no content to compare
        if new and wanted is not None and (found := target.by_content()) != wanted:
            raise UserError(
                f"the target of {self!r} is no longer the one that it was trained for: it was "
                f"{printable(wanted.name)}, and is {printable(found.name)}. Restore it."
            )
        if new:
            self._texts.update(zip(new, target.embed(new), strict=True))
        return torch.stack([self._texts[text] for text in sentences])


def as_pairs(features: np.ndarray) -> Pairs:
    """Features `[N, E, F, T]` float16 as a part of a dataset, on this machine's device.

    What they should be paired with is not known: its embeddings are zeros `[N, 1]`.
    """
    device = any_device()
    on_device = torch.from_numpy(features).to(device)
    return Pairs(on_device, torch.zeros(len(features), 1, device=device))


def rebuilt(
    specification: SentenceSpec, state: Mapping[str, Tensor], what: str, advice: str
) -> Encoder:
    """The encoder of a state dictionary, on this machine's device.

    Args:
        specification: What made the encoder.
        state: Its state dictionary.
        what: What a message calls the encoder.
        advice: What a message tells to do.

    Raises:
        UserError: The state is another model's.
    """
    try:
        return specification.rebuild(state, as_pairs(np.empty((0, 1, 1, 1), np.float16)))
    except ValueError as error:
        raise UserError(f"{what} belongs to another model ({one_line(error)}). {advice}") from error


def _ranked(queries: Tensor, candidates: Tensor, k: int, first: int) -> tuple[np.ndarray, ...]:
    """Number, rank, candidate and similarity of the first k of each query, query by query."""
    scores = cosine_scores(queries, candidates).numpy()
    ranks = rankdata(-scores, axis=1)
    # Stable: candidates of one score, such as copies of a sentence, stay in their order.
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    numbers = np.repeat(np.arange(first, first + len(scores)), order.shape[1])
    found = (np.take_along_axis(each, order, axis=1).ravel() for each in (ranks, scores))
    rank, similarity = found
    return numbers, rank, order.ravel(), similarity


def _finite(what: str, values: Any) -> Tensor:
    """Embeddings `[N, D]` as a tensor of floats.

    Raises:
        UserError: There is none, or they are no finite numbers.
    """
    array = as_array(values)
    if array.dtype.kind not in "fiu" or not array.size:
        raise UserError(f"{what} are {array.dtype} {list(array.shape)}, not numbers [N, D].")
    if not np.isfinite(array).all():
        raise UserError(f"{what} hold NaN or infinity. Leave these rows out.")
    return torch.from_numpy(array.astype(np.float64 if array.dtype == np.float64 else np.float32))
