"""An encoder from a file of the user's own, `my_encoder.py:MyEncoder`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ssense.choices import Precision
from ssense.data.dataset import Pairs
from ssense.errors import UserError
from ssense.files.own_code import OwnCode, generators_kept, source_of
from ssense.files.weights import load_weights
from ssense.model.encoders.encoder import Encoder, EncoderSpec, known_coordinates

_OWN = OwnCode(role="encoder", form="class", example="my_encoder.py:MyEncoder")
_SIZES = "electrodes", "frequencies", "frames", "dimensions"
_EXAMPLES = 2
_MOST_APART = 1e-2  # kernels for one and for two spectrograms, in half precision too, are nearer
_HOW_MADE = f"It is made with {', '.join(f'{name}=' for name in _SIZES)}."
_HOW_USED = "It is given spectrograms [B, electrodes, frequencies, frames]."


class OwnEncoder(Encoder):
    """A user's module, and the sizes that it was made for.

    Args:
        precision: See `Encoder`.
        make: The user's class: `make(electrodes=, frequencies=, frames=, dimensions=)` gives a
            module that maps `[B, electrodes, frequencies, frames]` to `[B, dimensions]`.
        sizes: The sizes, in that order.
        coordinates: Where the electrodes lie, `[electrodes, 3]` float32, mm, NaN where that is not
            known; the class is given them as `coordinates=`. None for a class that takes none.
    """

    passes_in_chunks: ClassVar[bool] = False  # it may draw, or keep statistics of any kind
    sizes: Tensor

    def __init__(
        self,
        precision: Precision,
        make: type[nn.Module],
        sizes: tuple[int, ...],
        coordinates: Tensor | None = None,
    ) -> None:
        super().__init__(precision)
        told = {} if coordinates is None else {"coordinates": coordinates.clone()}
        self.module = make(**dict(zip(_SIZES, sizes, strict=True)), **told)
        self.register_buffer("sizes", torch.tensor(sizes))
        if coordinates is not None:  # a state has finite values alone
            self.register_buffer("located", coordinates.isfinite().all(dim=1))
            self.register_buffer("coordinates", coordinates.nan_to_num())

    def embed(self, x: Tensor, dtype: torch.dtype) -> Tensor:  # noqa: ARG002 - autocast has it
        """Embed spectrograms as `[B, D]`."""
        embeddings: Tensor = self.module(x.squeeze(2).float())
        return embeddings

    def trains_on_one(self, x: Tensor) -> bool:  # noqa: ARG002
        """Never: the module may normalise by its batch."""
        return False


@dataclass(frozen=True, kw_only=True)
class OwnSpec(EncoderSpec):
    """An encoder of the user's own.

    Attributes:
        source: The file and the class in it, "FOLDER/my_encoder.py:MyEncoder".
        content: Digest of the file; workers refuse a file of another.
        coordinates: Whether the class is told where the electrodes lie, as its `__init__` names
            `coordinates`.
    """

    kind: ClassVar[str] = "own"

    source: str = ""
    content: str = ""
    coordinates: bool = False

    @property
    def uses_coordinates(self) -> bool:
        """Whether the class is told where the electrodes lie, see `EncoderSpec`."""
        return self.coordinates

    @classmethod
    def of(cls, made: str | type[nn.Module]) -> OwnSpec:
        """The specification of a file as it is now, by its whole path.

        Args:
            made: The file and the class in it, "FILE.py:CLASS", or the class itself.

        Raises:
            UserError: There is no such file, or it names no class.
        """
        from ssense.files.digest import file_digest  # opens storages, which training does not

        source = source_of(made)
        path, name = _OWN.find(source)
        with _OWN.told(source, "Check the file."):
            return cls(
                source=f"{path.resolve()}:{name}",
                content=file_digest(path),
                coordinates=_names_coordinates(path, name),
            )

    def build(self, train: Pairs, precision: Precision) -> OwnEncoder:
        """The encoder that a training on some pairs starts from, tried on two of them.

        Raises:
            UserError: The file changed, can't be run, or what it makes does not embed; or it is to
                be told where electrodes lie, and no electrode's coordinates are known.
        """
        sizes = (
            train.spectrograms.shape[1],
            *train.spectrograms.shape[-2:],
            train.targets.shape[1],
        )
        coordinates = torch.from_numpy(known_coordinates(train)) if self.coordinates else None
        with _OWN.told(self.source, _HOW_MADE):
            encoder = OwnEncoder(precision, self._load(), sizes, coordinates)
        with _OWN.told(self.source, _HOW_USED):
            problem = _problem(encoder)
        if problem:
            raise UserError(f"{_OWN.called(self.source)} {problem}. Check its class.")
        return encoder

    def rebuild(self, state: Mapping[str, Tensor], precision: Precision) -> OwnEncoder:
        """The trained encoder of a state dictionary, see `EncoderSpec`.

        Raises:
            UserError: The file changed, or can't be run.
        """
        sizes = state.get("sizes")
        if sizes is None or sizes.shape != (len(_SIZES),):
            raise ValueError("sizes are missing")
        coordinates = self._coordinates(state, int(sizes[0])) if self.coordinates else None
        with _OWN.told(self.source, _HOW_MADE):
            encoder = OwnEncoder(precision, self._load(), tuple(sizes.tolist()), coordinates)
        load_weights(encoder, state)
        return encoder

    def _coordinates(self, state: Mapping[str, Tensor], electrodes: int) -> Tensor:
        """Where the electrodes lie, as a state has it.

        Raises:
            ValueError: The state is another model's.
        """
        coordinates, located = state.get("coordinates"), state.get("located")
        shapes = [None if each is None else list(each.shape) for each in (coordinates, located)]
        if coordinates is None or located is None or shapes != [[electrodes, 3], [electrodes]]:
            raise ValueError("coordinates are missing")
        return coordinates.masked_fill(~located[:, None], torch.nan)

    def by_content(self) -> Self:
        """The same specification without the place of the file."""
        return replace(self, source=self.source.rpartition(":")[2])

    def file(self) -> Path:
        """The file, which is as it was.

        Raises:
            UserError: There is no such file, or it changed.
        """
        return _OWN.file(self.source, self.content)

    def _load(self) -> type[nn.Module]:
        with _OWN.told(self.source, "Check the file."):
            made = _OWN.load(self.source, self.content)
        if not (isinstance(made, type) and issubclass(made, nn.Module)):
            found = "nothing" if made is None else type(made).__name__
            raise UserError(
                f"{_OWN.called(self.source)}: {self.source.rpartition(':')[2]} is {found}, not a "
                "class that extends torch.nn.Module. Check its name."
            )
        return made


def _names_coordinates(path: Path, name: str) -> bool:
    """Whether the `__init__` of a class names `coordinates`, as the file has it; it is not run."""
    try:
        content = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # told when it is built
        return False
    return any(
        "coordinates" in (each.arg for each in (*made.args.args, *made.args.kwonlyargs))
        for found in content.body
        if isinstance(found, ast.ClassDef) and found.name == name
        for made in found.body
        if isinstance(made, ast.FunctionDef) and made.name == "__init__"
    )


def _problem(encoder: OwnEncoder) -> str:
    """Why an encoder can't be trained, kept and used, found on made-up spectrograms; or empty."""
    *shape, dimensions = encoder.sizes.tolist()
    wanted = [_EXAMPLES, dimensions]
    state = {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
    if problem := _problem_of_state(encoder):
        return problem
    with generators_kept():
        for is_training in (True, False):
            encoder.train(is_training)
            found = encoder.module(torch.rand(_EXAMPLES, *shape))
            if not isinstance(found, Tensor) or list(found.shape) != wanted:
                made = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
                return f"makes {made} of {[_EXAMPLES, *shape]}, not {wanted}"
            if not found.isfinite().all():
                return f"makes values that are not finite of {[_EXAMPLES, *shape]}"
            if not found.requires_grad:
                return "has no weight to train"
        if problem := _problem_of_evaluation(encoder, torch.rand(_EXAMPLES, *shape)):
            return problem
        encoder.train()
        encoder(torch.rand(_EXAMPLES, shape[0], 1, *shape[1:])).sum().backward()
    encoder.zero_grad()
    encoder.load_state_dict(state)  # statistics of made-up spectrograms are none
    return ""


def _problem_of_evaluation(encoder: OwnEncoder, spectrograms: Tensor) -> str:
    """Why scores would not be the encoder's own: it draws, or looks at the rest of a batch."""
    encoder.eval()
    with torch.no_grad():
        first, again = (encoder.module(spectrograms.clone()) for _ in range(2))
        alone = encoder.module(spectrograms[:1].clone())
    if not torch.equal(first, again):
        return (
            "gives the same spectrograms other embeddings in evaluation when called again: what is "
            "random there is random in every score. Use torch.nn.Dropout, or give "
            "torch.nn.functional.dropout its training=self.training"
        )
    if list(alone.shape) != [1, first.shape[1]] or _apart(alone[0], first[0]) > _MOST_APART:
        return (
            "gives a sentence another embedding in evaluation alone than beside others: scores "
            "would depend on what else is tested. Let each embedding depend on its own spectrogram "
            "alone; torch.nn.BatchNorm1d, not a mean over the batch, centres in training"
        )
    return ""


def _apart(first: Tensor, second: Tensor) -> float:
    """The distance of two vectors `[D]`, in the larger one's length; 0 where both are zeros."""
    length = max(float(first.norm()), float(second.norm()))
    return float((first - second).norm()) / length if length else 0.0


def _problem_of_state(encoder: OwnEncoder) -> str:
    """Why the state of an encoder can't be kept in a file of tensors; or empty."""
    places: dict[int, str] = {}
    for name, tensor in encoder.state_dict().items():
        short = name.removeprefix("module.")
        if not isinstance(tensor, Tensor):
            return f"keeps {short}, which is no tensor, in its state"
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"keeps values that are not finite: register {short} with persistent=False"
        first = places.setdefault(tensor.untyped_storage().data_ptr(), short)
        if tensor.numel() and first != short:
            return f"shares memory between {first} and {short}, which a file can't keep"
    return ""
