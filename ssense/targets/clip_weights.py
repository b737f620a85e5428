"""CLIP's weights from files, under whichever names: open_clip's, OpenAI's or transformers'.

Hugging Face's `transformers` names the layers differently, keeps queries, keys and values apart,
and applies projections from the other side. OpenAI's archive has open_clip's names and three more
entries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ssense.errors import UserError, printable
from ssense.files.weights import fault, read_weights, some

if TYPE_CHECKING:
    from torch import nn

_OF_BIG_VISION = (".npz", ".npy")  # of Google's
_OF_OPENAI = ("input_resolution", "context_length", "vocab_size")
_SCALES = ("logit_scale", "logit_bias")  # of the similarity, which is not needed here

_WHAT_TO_GIVE = "Give the weights as they were trained, in floating point."

_RENAMED = (
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_projection.weight", "text_projection"),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),  # the spelling in the files
    ("vision_model.pre_layernorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("visual_projection.weight", "visual.proj"),
)
_IN_BLOCK = (
    (".self_attn.out_proj.", ".attn.out_proj."),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)
_FROM_THE_OTHER_SIDE = ("text_projection.weight", "visual_projection.weight")
_ATTENTION = re.compile(r"(.+)\.self_attn\.([qkv])_proj\.(weight|bias)")


def load_clip_weights(clip: nn.Module, path: Path, what: str) -> None:
    """Fill one tower of an open_clip model from a file.

    Args:
        clip: The model, of the same architecture.
        path: State dictionary of the whole model, or of this tower.
        what: "text" or "image", the tower that is needed; the file may lack the other.

    Raises:
        UserError: The file can't be read, or is another model's.
    """
    if path.suffix in _OF_BIG_VISION:
        from open_clip import load_checkpoint

        load_checkpoint(clip, str(path))
        if reason := fault(clip.state_dict(), clip.state_dict()):
            raise UserError(f"{path}: {reason}. {_WHAT_TO_GIVE}")
        return
    clip.load_state_dict(_fitting(clip, path, what), strict=False)


def check_clip_weights(clip: nn.Module, path: Path, what: str) -> None:
    """Refuse a file that `load_clip_weights` would refuse, for a model that needs no memory.

    Args:
        clip: The model, which may be on the device "meta".
        path: State dictionary of the whole model, or of this tower; of big_vision's, which are
            read by open_clip alone, nothing is looked at.
        what: "text" or "image", the tower that is needed.

    Raises:
        UserError: The file can't be read, or is another model's.
    """
    if path.suffix not in _OF_BIG_VISION:
        _fitting(clip, path, what)


def _fitting(clip: nn.Module, path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file that a model takes, under the model's names.

    Raises:
        UserError: The file can't be read, or is another model's.
    """
    found = read_weights(path)
    _check_activation(path, clip, found)
    state = _named_as_in(clip, open_clip_names(found))
    wanted = {name: own for name, own in clip.state_dict().items() if name not in _SCALES}
    if reason := fault(state, wanted):
        raise UserError(f"{path}: {reason}. {_WHAT_TO_GIVE}")
    _resize(clip, state)
    _check(path, what, {name: wanted[name] for name in sorted(wanted) if _is_of(name, what)}, state)
    return {name: state[name] for name in clip.state_dict() if name in state}


def _check_activation(path: Path, clip: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse OpenAI's archive in a model of another activation, which would fit and be wrong."""
    from open_clip.transformer import QuickGELU

    is_openai = all(name in state for name in _OF_OPENAI)
    if is_openai and not any(isinstance(module, QuickGELU) for module in clip.modules()):
        raise UserError(
            f"{path} is OpenAI's, trained with QuickGELU, which this model lacks. Name the model "
            "that has it, such as ViT-B-32-quickgelu."
        )


def open_clip_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dictionary of a CLIP model under open_clip's names.

    Args:
        state: State dictionary as open_clip, OpenAI or transformers (CLIPModel, or one of its
            towers with its projection) saves it.
    """
    if not any(name.startswith(("text_model.", "vision_model.")) for name in state):
        return {name: tensor for name, tensor in state.items() if name not in _OF_OPENAI}
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if name.endswith(".position_ids"):  # 0, 1, 2 ...
            continue
        if apart := _ATTENTION.fullmatch(name):
            block, which, kind = apart.groups()
            parts.setdefault(f"{_renamed(block + '.')}attn.in_proj_{kind}", {})[which] = tensor
        else:
            turned = name in _FROM_THE_OTHER_SIDE
            renamed[_renamed(name)] = tensor.T if turned else tensor
    whole = {name: each for name, each in parts.items() if len(each) == len("qkv")}
    return renamed | {name: torch.cat([each[k] for k in "qkv"]) for name, each in whole.items()}


def _renamed(name: str) -> str:
    for old, new in _RENAMED:
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in _IN_BLOCK:
        name = name.replace(old, new)
    return name


def _named_as_in(clip: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring a state dictionary to the layout of a model."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(clip, state)
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    return state


def _resize(clip: nn.Module, state: dict[str, Tensor]) -> None:
    """Bring a state dictionary to the image size and the text length of a model."""
    from open_clip.factory import resize_pos_embed, resize_text_pos_embed

    for resize in (resize_pos_embed, resize_text_pos_embed):
        resize(state, clip)


def _is_of(name: str, what: str) -> bool:
    return name not in _SCALES and name.startswith("visual.") == (what == "image")


def _check(
    path: Path, what: str, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    """Refuse a file that lacks tensors of a tower, or has others, or has them in another shape."""
    missing = [name for name in wanted if name not in state]
    unknown = sorted(name for name in state if _is_of(name, what) and name not in wanted)
    other = [name for name in wanted if name in state and wanted[name].shape != state[name].shape]
    said = []
    if missing:
        said.append(f"it lacks {some(missing)}")
    if other:
        name = other[0]
        shapes = f"{list(state[name].shape)}, here {list(wanted[name].shape)}"
        said.append(f"{printable(name)} is {shapes}")
    if unknown and not said:
        said.append(f"it has {some(unknown)} more")
    if said:
        raise UserError(
            f"{path}: not the {what} tower of this model: {'; '.join(said)}. Give the weights of "
            "this architecture, with open_clip's or transformers' names, or name its model."
        )
