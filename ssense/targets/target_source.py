"""How a target is spelled in one word; imports nothing slow.

    ViT-L-14-quickgelu:openai,layer=9       a text tower of open_clip, MODEL or MODEL:WEIGHTS
    sentence-transformers:NAME_OR_FOLDER    a model of sentence-transformers
    transformers:gpt2,pooling=last,layer=8  a language model of transformers
    words.npy, words.parquet                vectors by sentence
    my_target.py:MyTarget                   a class or function of one's own

A field that is not in the name follows behind a comma.
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from ssense.files.own_source import own_source

OPEN_CLIP = "open-clip"
TARGET, MODEL, WEIGHTS = "target", "target.model", "target.weights"
SPELLINGS = (
    "MODEL or MODEL:WEIGHTS of open_clip, sentence-transformers:NAME, transformers:NAME, a file "
    ".npy, .parquet or .safetensors, or FILE.py:NAME"
)
"""What may be given, for a message."""

TABLES = (".npy", ".parquet", ".safetensors")
_FIELDS = {
    OPEN_CLIP: ("layer",),
    "transformers": ("layer", "pooling", "revision"),
    "sentence-transformers": ("revision",),
    "vectors": (),
    "own": (),
}
"""Fields that may follow behind a comma, by kind."""
_FIELD = re.compile(r",([a-z]+)=([^,=]*)$")
_CLIP_NAME = re.compile(r"[\w.+-]+")


def target_changes(text: str) -> dict[str, str | int]:
    """Read a target as fields of a specification by dotted name, its kind among them.

    Args:
        text: The target in one word, as the beginning of this module has them.

    Raises:
        ValueError: It is no target, or has a field that its kind lacks.
    """
    named, fields = text, dict[str, str]()
    while found := _FIELD.search(named):
        fields = {found[1]: found[2], **fields}
        named = named[: found.start()]
    changes: dict[str, str | int] = {**_named(named)}
    known = _FIELDS[str(changes[TARGET])]
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{name} is no field of {changes[TARGET]}")
        if name == "layer" and not value.isdecimal():
            raise ValueError(f"layer={value} is no whole number")
        changes[f"{TARGET}.{name}"] = int(value) if name == "layer" else value
    return changes


def _named(text: str) -> dict[str, str]:
    """The kind of a target, and what it is named by."""
    kind, colon, rest = text.partition(":")
    if colon and rest and kind in ("sentence-transformers", "transformers"):
        return {TARGET: kind, MODEL: rest}
    source = own_source(text)
    if source is not None and source.path.endswith(".py"):
        return {TARGET: "own", "target.source": text}
    near = get_close_matches(kind, _FIELDS, n=1, cutoff=0.8)
    if colon and kind not in _FIELDS and near:
        raise ValueError(f"no kind of target is called {kind}; {near[0]} is")
    if _CLIP_NAME.fullmatch(kind) and colon and rest:
        return {TARGET: OPEN_CLIP, MODEL: kind, WEIGHTS: rest}
    if text.endswith(TABLES):
        return {TARGET: "vectors", "target.file": text}
    if _CLIP_NAME.fullmatch(text) and not text.endswith(".py"):
        return {TARGET: OPEN_CLIP, MODEL: text}
    raise ValueError("it is no target")
