"""A class or function from a file of the user's own, "FILE.py:NAME": found, run once, and told of.

A file runs under the digest of its content, so that an edited one is another module.
"""

from __future__ import annotations

import importlib.util
import inspect
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssense.errors import UserError, one_line, printable
from ssense.files.own_source import own_source


@dataclass(frozen=True, kw_only=True)
class OwnCode:
    """What a message calls code of the user's own.

    Attributes:
        role: What it is to be: "encoder", "target".
        form: What its name is of: "class", "class or function".
        example: An example of how it is given.
    """

    role: str
    form: str
    example: str

    def find(self, source: str) -> tuple[Path, str]:
        """The file and the name that a source names.

        Raises:
            UserError: There is no such file, or nothing in it is named.
        """
        if (found := own_source(source)) is None:
            raise UserError(
                f"{self.role} {printable(source)} names no {self.form}. Give FILE.py:NAME, such as "
                f"{self.example}."
            )
        path = Path(found.path)
        if not path.is_file():
            raise UserError(
                f"{self.role} {printable(found.path)}: no such file. Put it back, or run the sweep "
                f"again with the {self.role} where it is now."
            )
        return path, found.name

    def called(self, source: str) -> str:
        """What messages call a source: the role, the file and the name, without folders."""
        return f"{self.role} {printable(Path(source).name)}"

    @contextmanager
    def told(self, source: str, advice: str) -> Iterator[None]:
        """Say in one line what a file of the user's raises.

        Args:
            source: The file and the name.
            advice: What to do about it.
        """
        try:
            yield
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            what = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"{self.called(source)}: {what}. {advice}") from error

    def file(self, source: str, content: str) -> Path:
        """The file of a source, which is as it was.

        Args:
            source: The file and the name.
            content: Digest that the file must have.

        Raises:
            UserError: There is no such file, or it is another by now.
        """
        from ssense.files.digest import file_digest  # opens storages, which training does not

        path, _ = self.find(source)
        if (found := file_digest(path)) != content:
            raise UserError(
                f"{self.called(source)} is not as it was: its file has the digest {found}, not "
                f"{content}. Restore it, or run the sweep again with it as it is now."
            )
        return path

    def load(self, source: str, content: str) -> Any:
        """What a file, which runs once per process, calls by a name; None without such a name.

        Args:
            source: The file and the name.
            content: Digest that the file must have.

        Raises:
            UserError: There is no such file, or it is another by now.
        """
        path, name = self.file(source, content), self.find(source)[1]
        module_name = f"ssense_own_{content}"
        if module_name not in sys.modules:
            _run(module_name, path)
        return getattr(sys.modules[module_name], name, None)


def source_of(made: Any) -> str:
    """Where a class or function is written, "FILE.py:NAME"; a text is a source already.

    Raises:
        UserError: It is neither, or is written in no file, or inside of something else there.
    """
    if isinstance(made, str):
        return made
    name = getattr(made, "__qualname__", "")
    called = printable(name or type(made).__name__)
    if not (inspect.isclass(made) or inspect.isfunction(made)):
        raise UserError(
            f"{called} is neither a class nor a function. Give its class, or a function that "
            "makes use of it, from a file of its own."
        )
    try:
        path = Path(inspect.getsourcefile(made) or "")
    except TypeError:  # of the interpreter's own
        path = Path()
    if path.suffix != ".py" or not path.is_file() or not name.isidentifier():
        raise UserError(
            f"{called} is not at the top of a .py file, which others could read it from. Write it "
            "into one, and give FILE.py:NAME."
        )
    return f"{path.resolve()}:{name}"


@contextmanager
def generators_kept() -> Iterator[None]:
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


def _run(module_name: str, path: Path) -> None:
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles look there
    try:
        with generators_kept():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
