"""A trained model as a folder that needs nothing else: written whole, and loaded on any machine.

FOLDER/manifest.json         the checksum of each file below; written last
FOLDER/model.safetensors     the encoder's weights
FOLDER/configuration.json    the specification but for data and target, and which cell it is
FOLDER/preprocessing.json    what signals go through before: data, features, rate, electrodes
FOLDER/target.json           the tower that embeds sentences
FOLDER/encoder.py            the file of an encoder of the user's own, where it is one
FOLDER/target.py             the file of a target of the user's own, where it is one
FOLDER/...                   whatever else was put beside them, such as README.md
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from upath import UPath

from ssense.data.recordings.segments import SegmentSpec
from ssense.decoder.held_out import HeldOut
from ssense.decoder.preprocessing import Preprocessing
from ssense.decoder.trained_model import TrainedModel, rebuilt
from ssense.errors import UserError, one_line, printable
from ssense.files.plain_values import from_plain
from ssense.files.sealed_json import check_format, sealed, unsealed, write_sealed
from ssense.files.source_code import code_digest
from ssense.files.storage import read_json, write_whole
from ssense.model.encoders.own import OwnSpec
from ssense.signal.features import AnyFeatureSpec
from ssense.signal.referencing import Derivation
from ssense.specification import configured, plain
from ssense.targets.language_model import TransformersSpec
from ssense.targets.own_target import OwnTargetSpec
from ssense.targets.sentence_embeddings import AnyTargetSpec
from ssense.targets.sentence_transformer import SentenceTransformerSpec
from ssense.targets.target_source import SPELLINGS, target_changes
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
CONFIGURATION = "configuration.json"
PREPROCESSING = "preprocessing.json"
TARGET = "target.json"
OWN_ENCODER = "encoder.py"
OWN_TARGET = "target.py"
CARD = "README.md"
"""The card for people, the one file that may be edited: its checksum only tells whether it was."""

_NEEDED = (WEIGHTS, CONFIGURATION, PREPROCESSING, TARGET)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r"[\w-][\w.-]*")
_ON_A_HUB = re.compile(rf"{_TAG.pattern}(/{_TAG.pattern})?")


@dataclass(frozen=True, kw_only=True)
class _Configuration:
    """What configuration.json holds: which cell the model is, and what it was trained by."""

    specification: Mapping[str, Any]
    signature: str
    configuration: Mapping[str, float | str | bool | None]
    seed: int
    code_digest: str
    dataset_digest: str
    recording_digest: str
    held_out: tuple[int, ...]
    held_out_sentences: tuple[HeldOut, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Target:
    """What target.json holds: the target by its content, and as it is named on any machine."""

    content: AnyTargetSpec
    named: AnyTargetSpec | None = None


@dataclass(frozen=True, kw_only=True)
class _Preprocessing:
    """What preprocessing.json holds; `features` is of the specification's own types."""

    data: SegmentSpec
    features: AnyFeatureSpec
    recorded_hz: float
    sampling_rate_hz: float
    n_samples: int
    electrodes: tuple[Derivation, ...]
    contacts: tuple[str, ...]


def files_of(model: TrainedModel) -> dict[str, bytes]:
    """The files of a model by name, without the manifest.

    Raises:
        UserError: The file of an encoder of the user's own can't be read.
    """
    specification = plain(model.specification.by_content())
    given = {name: specification.pop(name) for name in SentenceSpec.data_groups}
    made = model.preprocessing
    state = {name: tensor.cpu() for name, tensor in model.encoder.state_dict().items()}
    own, target = model.specification.encoder, model.specification.target
    return {
        WEIGHTS: safetensors.torch.save(state),
        CONFIGURATION: _json(
            plain(
                _Configuration(
                    specification=specification,
                    signature=model.signature,
                    configuration=without_places(model.configuration),
                    seed=model.seed,
                    code_digest=model.code_digest,
                    dataset_digest=model.dataset_digest,
                    recording_digest=model.recording_digest,
                    held_out=tuple(sorted(model.held_out)),
                    held_out_sentences=model.held_out_sentences,
                )
            )
        ),
        PREPROCESSING: _json(
            {
                "data": given["data"],
                "features": given["features"],
                "recorded_hz": made.recorded_hz,
                "sampling_rate_hz": made.sampling_rate_hz,
                "n_samples": made.n_samples,
                "electrodes": [plain(each) for each in made.derivations],
                "contacts": list(made.contacts),
            }
        ),
        TARGET: _json(
            {
                "content": given["target"],
                "named": plain(target) if _is_named_anywhere(target) else None,
            }
        ),
        **({OWN_ENCODER: own.file().read_bytes()} if isinstance(own, OwnSpec) else {}),
        **_file_of(target),
    }


def _file_of(target: AnyTargetSpec) -> dict[str, bytes]:
    """The file of a target of the user's own, unless it is not on this machine."""
    if not isinstance(target, OwnTargetSpec) or target.is_away:
        return {}
    return {OWN_TARGET: Path(target.source.rpartition(":")[0]).read_bytes()}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files into an empty folder, and last the manifest with their checksums.

    Raises:
        OSError: A file can't be written.
    """
    for name, content in files.items():
        (folder / name).write_bytes(content)
    card = {"card": _checksum(files[CARD])} if CARD in files else {}
    listed = {"format": FORMAT_VERSION, "files": _checksums(files), **card}
    (folder / MANIFEST).write_bytes(_json(sealed(listed)))


def renew_card(root: UPath, card: bytes) -> bool:
    """Write a newer card into an exported folder, unless its card was edited since it was written.

    Args:
        root: The folder.
        card: What the card is to say.

    Returns:
        Whether it says so now.

    Raises:
        UserError: The folder is no exported model, or can't be written to.
    """
    known = unsealed(read_json(root / MANIFEST))
    path = root / CARD
    found = Path(str(path)).read_bytes() if path.is_file() else None
    if found not in (None, card) and _checksum(found or b"") != known.get("card"):
        return False
    if found != card:
        write_whole(path, card)
    if known.get("card") != _checksum(card):
        write_sealed(root / MANIFEST, {**known, "card": _checksum(card)})
    return True


def is_export_of(root: UPath, files: Mapping[str, bytes]) -> bool:
    """Whether a folder holds just these files, the card aside, each as it should be."""
    try:
        found = checked_files(root)
    except UserError:
        return False
    return _checksums(found) == _checksums(files)


def _checksums(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: _checksum(content) for name, content in files.items() if name != CARD}


def load(
    folder: str | Path, *, own_code: bool = False, target: AnyTargetSpec | str | None = None
) -> TrainedModel:
    """Load a model that analysis/export.py has written; no storage is needed.

        model = ssense.load("my_model")
        model.embed(recording)

    Args:
        folder: The folder.
        own_code: Whether to run the Python files in the folder, of an encoder or a target of its
            author's own, where it has any. Read them first: they may do anything that you may.
        target: The model's target again, where it was read from a file: the file, as "words.npy",
            or another spelling in one word of `ssense.targets.target_source`, or a specification.
            Without it, candidates can be given as embeddings alone.

    Returns:
        The model, on a GPU where there is one.

    Raises:
        UserError: There is no such folder, it lacks a file, or a file was changed; or the target is
            another.
    """
    root = UPath(Path(folder).expanduser())
    contents = checked_files(root)
    known = _parsed(_Configuration, root, CONFIGURATION, contents)
    made = _parsed(_Preprocessing, root, PREPROCESSING, contents)
    kept = _parsed(_Target, root, TARGET, contents)
    found = _given_again(kept, target)
    if found is None and own_code and OWN_TARGET in contents:
        found = _own_target(root, kept.content)
    specification = _specification(root, known, made, found or kept.content)
    if isinstance(specification.encoder, OwnSpec):
        specification = _with_own(specification, specification.encoder, root, own_code)
    _say_other_code(known.code_digest, root)
    try:
        state = safetensors.torch.load(contents[WEIGHTS])
    except Exception as error:  # whatever safetensors raises
        raise _damaged(root / WEIGHTS, error) from error
    return TrainedModel(
        specification=specification,
        preprocessing=Preprocessing(
            data=made.data,
            features=made.features,
            recorded_hz=made.recorded_hz,
            sampling_rate_hz=made.sampling_rate_hz,
            derivations=made.electrodes,
            n_samples=made.n_samples,
        ),
        encoder=rebuilt(specification, state, f"the encoder in {root}", _AGAIN),
        signature=known.signature,
        configuration=known.configuration,
        seed=known.seed,
        code_digest=known.code_digest,
        dataset_digest=known.dataset_digest,
        recording_digest=known.recording_digest,
        held_out=frozenset(known.held_out),
        held_out_sentences=known.held_out_sentences,
        target_content=kept.content,
        embeds_texts=found is not None,
    )


_AGAIN = "Export it again, or restore the folder."


def checked_files(root: UPath) -> dict[str, bytes]:
    """Read the files of an exported folder, and compare each with its checksum.

    Raises:
        UserError: There is no such folder, it lacks a file, or a file was changed.
    """
    if not root.is_dir():
        raise UserError(f"no folder {root}. Give one that analysis/export.py has written.")
    path = root / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{root} is no exported model: it lacks {MANIFEST}. {_AGAIN}") from None
    except UserError as error:
        raise _damaged(path, error.__cause__ or error) from error
    check_format(path, content, FORMAT_VERSION)
    try:
        listed = from_plain(dict[str, str], unsealed(content, without="format")["files"])
        for name in _NEEDED:
            if name not in listed:
                raise ValueError(f"it does not list {name}")
        for name in listed:
            if name in ("", ".", "..") or "/" in name or "\\" in name:
                raise ValueError(f"it lists {printable(name)}, which is not in the folder")
    except (KeyError, ValueError) as error:
        raise _damaged(path, error) from error
    return {name: _checked_file(root / name, checksum) for name, checksum in listed.items()}


def _checked_file(path: UPath, checksum: str) -> bytes:
    try:
        content = Path(str(path)).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path.parent} lacks {path.name}. {_AGAIN}") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({one_line(error)}). Check it.") from error
    if _checksum(content) != checksum:
        raise UserError(f"{path} was changed: its checksum is not the manifest's. {_AGAIN}")
    return content


def _specification(
    root: UPath, known: _Configuration, made: _Preprocessing, target: AnyTargetSpec
) -> SentenceSpec:
    given = {"data": plain(made.data), "features": plain(made.features), "target": plain(target)}
    try:
        return from_plain(SentenceSpec, {**known.specification, **given})
    except ValueError as error:
        raise _damaged(root / CONFIGURATION, error) from error


def _is_named_anywhere(target: AnyTargetSpec) -> bool:
    """Whether a target has one name on all machines, and is no file or folder of this one.

    A folder that was loaded may name anything: what lies here, such as Python code beside its
    weights, is never read for it.
    """
    if isinstance(target, TextSpec):
        are_names = all(_TAG.fullmatch(name) for name in (target.model, target.weights))
        return are_names and not Path(target.weights).is_file()
    if isinstance(target, TransformersSpec | SentenceTransformerSpec):
        return bool(_ON_A_HUB.fullmatch(target.model)) and not Path(target.model).is_dir()
    return False


def without_places(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration in which a file or folder of this machine is its own name alone.

    The specification beside it has what these files hold.
    """
    return {name: _without_folders(level) for name, level in configuration.items()}


def _without_folders(level: Any) -> Any:
    if not isinstance(level, str):
        return level
    place = Path(level.partition(":")[0])
    return Path(level).name if place.is_absolute() or place.exists() else level


def _given_again(kept: _Target, given: AnyTargetSpec | str | None) -> AnyTargetSpec | None:
    """The target to embed sentences by; None where it is not at hand."""
    if given is None:
        is_named = kept.named is not None and _is_named_anywhere(kept.named)
        return _at_its_commit(kept.named, kept.content) if is_named else None
    target = _spelled(given) if isinstance(given, str) else given
    if getattr(target, "revision", "none") is None:
        target = _at_its_commit(target, kept.content)
    if target.is_away:
        target.check()  # gets it from the hub, or says that there is no such file
    if target.by_content() != kept.content:
        raise UserError(
            f"the target {printable(target.name)} is not that of the model, "
            f"{printable(kept.content.name)}. Give the same, or leave it out."
        )
    return target


def _at_its_commit(target: Any, content: AnyTargetSpec) -> AnyTargetSpec:
    """A model of the hub at the commit that the model was trained for, however its branch moved."""
    found: AnyTargetSpec = target
    if isinstance(content, TransformersSpec | SentenceTransformerSpec):
        commit = content.model.rpartition(" ")[2]
        if isinstance(target, type(content)) and _COMMIT.fullmatch(commit):
            found = replace(target, revision=commit)
    return found


def _spelled(text: str) -> AnyTargetSpec:
    """The target that is spelled in one word, see `ssense.targets.target_source`.

    Raises:
        UserError: It is none.
    """
    try:
        return configured(SentenceSpec(), target_changes(text)).target
    except ValueError as error:
        raise UserError(f"target {printable(text)}: {error}. Give {SPELLINGS}.") from error


def _with_own(
    specification: SentenceSpec, encoder: OwnSpec, root: UPath, own_code: bool
) -> SentenceSpec:
    file = root / OWN_ENCODER
    if not own_code:
        raise UserError(
            f"the encoder of {root} is a Python file of its author's own, {OWN_ENCODER}. Read "
            "it, and load the model with own_code=True."
        )
    return replace(specification, encoder=replace(encoder, source=f"{file}:{encoder.source}"))


def _own_target(root: UPath, content: AnyTargetSpec) -> OwnTargetSpec:
    """The target of the user's own in a folder, whose file is the one that the model knew.

    Raises:
        UserError: It is another.
    """
    name = content.source.rpartition(":")[2] if isinstance(content, OwnTargetSpec) else ""
    found = OwnTargetSpec(source=f"{root / OWN_TARGET}:{name}")
    if found.by_content() != content:
        raise UserError(f"{root / OWN_TARGET} is not the target of the model. {_AGAIN}")
    return found


def _say_other_code(code: str, root: UPath) -> None:
    if code != code_digest():
        warnings.warn(
            f"{root} was trained by another version of the code ({code[:8]}, this is "
            f"{code_digest()[:8]}): its embeddings may differ.",
            stacklevel=3,
        )


def _parsed(kind: type[Any], root: UPath, name: str, contents: Mapping[str, bytes]) -> Any:
    try:
        return from_plain(kind, json.loads(contents[name].decode()))
    except (ValueError, RecursionError) as error:
        raise _damaged(root / name, error) from error


def _damaged(path: UPath, error: BaseException) -> UserError:
    return UserError(f"{path} is damaged ({one_line(error)}). {_AGAIN}")


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
