"""An encoder from a file of the user's own, `my_encoder.py:MyEncoder`."""

from __future__ import annotations

import ast
import importlib.util
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from ssense.choices import Precision
from ssense.data.dataset import Pairs
from ssense.errors import UserError, one_line, printable
from ssense.files.weights import load_weights
from ssense.model.encoders.class_source import class_source
from ssense.model.encoders.encoder import Encoder, EncoderSpec, known_coordinates

_SIZES = "electrodes", "frequencies", "frames", "dimensions"
_EXAMPLES = 2
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
    def of(cls, source: str) -> OwnSpec:
        """The specification of a file as it is now, by its whole path.

        Raises:
            UserError: There is no such file, or it names no class.
        """
        from ssense.files.digest import file_digest  # opens storages, which training does not

        path, name = _parts(source)
        with _told(source, "Check the file."):
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
        with _told(self.source, _HOW_MADE):
            encoder = OwnEncoder(precision, self._load(), sizes, coordinates)
        with _told(self.source, _HOW_USED):
            problem = _problem(encoder)
        if problem:
            raise UserError(f"encoder {_short(self.source)} {problem}. Check its class.")
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
        with _told(self.source, _HOW_MADE):
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

    def _load(self) -> type[nn.Module]:
        from ssense.files.digest import file_digest

        path, name = _parts(self.source)
        if (found := file_digest(path)) != self.content:
            raise UserError(
                f"encoder {_short(self.source)} is not as it was: its file has the digest {found}, "
                f"not {self.content}. Restore it, or run the sweep again with it as it is now."
            )
        module_name = f"ssense_own_{self.content}"
        if module_name not in sys.modules:
            spec = importlib.util.spec_from_file_location(module_name, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[module_name] = module  # dataclasses and pickles look there
            try:
                with _generators_kept():
                    spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[module_name]
                raise
        made = getattr(sys.modules[module_name], name, None)
        if not (isinstance(made, type) and issubclass(made, nn.Module)):
            found = "nothing" if made is None else type(made).__name__
            raise UserError(
                f"encoder {_short(self.source)}: {name} is {found}, not a class that extends "
                "torch.nn.Module. Check its name."
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


def _short(source: str) -> str:
    """The name of the file and the class, without folders."""
    return printable(Path(source).name)


def _parts(source: str) -> tuple[Path, str]:
    """The file and the class that a source names.

    Raises:
        UserError: There is no such file, or no class is named.
    """
    if (found := class_source(source)) is None:
        raise UserError(
            f"encoder {printable(source)} names no class. Give FILE.py:CLASS, such as "
            "my_encoder.py:MyEncoder."
        )
    path = Path(found.path)
    if not path.is_file():
        raise UserError(
            f"encoder {printable(found.path)}: no such file. Put it back, or run the sweep again "
            "with the encoder where it is now."
        )
    return path, found.name


@contextmanager
def _told(source: str, advice: str) -> Iterator[None]:
    """Say in one line what a file of the user's raises."""
    try:
        yield
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise UserError(f"encoder {_short(source)}: {what}. {advice}") from error


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Draw the same meanwhile in every process, and leave the random generators as they were.

    A file runs once per process: without this, what it draws would change the first cell alone.
    """
    state, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - others use it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(legacy)  # noqa: NPY002


def _problem(encoder: OwnEncoder) -> str:
    """Why an encoder can't be trained, kept and used, found on made-up spectrograms; or empty."""
    *shape, dimensions = encoder.sizes.tolist()
    wanted = [_EXAMPLES, dimensions]
    state = {name: tensor.detach().clone() for name, tensor in encoder.state_dict().items()}
    if problem := _problem_of_state(encoder):
        return problem
    with _generators_kept():
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
        encoder.train()
        encoder(torch.rand(_EXAMPLES, shape[0], 1, *shape[1:])).sum().backward()
    encoder.zero_grad()
    encoder.load_state_dict(state)  # statistics of made-up spectrograms are none
    return ""


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
