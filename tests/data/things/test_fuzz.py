"""THINGS files damaged at random: each is refused in one line, or read as finite numbers.

    FUZZ_CASES=1000 FUZZ_SEED=7 pytest tests/data/things/test_fuzz.py -s       # a campaign

A case is a class, a seed and a number, so a failure names all that repeats it.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from ssense.data.synthetic.things import SyntheticThingsSpec, Variant, write_synthetic_things
from ssense.data.things.averages import read_things
from ssense.data.things.folds import make_fold
from ssense.data.things.responses import SIGNAL_KEYS, ResponseSpec
from ssense.errors import UserError
from ssense.files.restricted_pickle import load_restricted

CASES = int(os.environ.get("FUZZ_CASES", "40"))  # of each class
SEED = int(os.environ.get("FUZZ_SEED", "0"))
SPEC = ResponseSpec(stop_s=0.8)
VARIANTS = get_args(Variant)

ODD_VALUES = (
    *(None, True, 0, -1, 2.5, float("nan"), 10**400, "", "a\nb", "\0", "\ud800", "x" * 5000),
    *([], {}, (), [[]], [None], ["Oz"] * 63, {"": 1}, [1e300, -1e300] * 125, "../../x"),
    *(np.zeros(0), np.zeros((0, 4, 63, 250)), np.zeros((4, 1, 63, 250), "f2"), np.array("x")),
    *(np.full((4, 1, 63, 250), np.nan), np.zeros(250), np.array([None, "a"], dtype=object)),
    *(np.array(["a/b"] * 4), np.array([["a/b"]] * 4), np.zeros((4, 10**6, 0, 1)), np.eye(3)),
)

Damage = Callable[[np.random.Generator, Path], None]


# ---------------------------------------------------------------- what may come of a case


def outcome(root: Path) -> str:
    """Read the data as a sweep does; say how it ended. What must not happen is an error here."""
    try:
        things = read_things(root, root, SPEC)
        make_fold("intra-subject", things, things.subjects[0], 0, 1)
    except UserError as error:
        return refusal(error)
    n, m = len(things.training_images), len(things.test_images)
    assert things.training.shape[:2] == (len(things.subjects), n)
    assert things.test.shape[:2] == (len(things.subjects), m)
    assert things.training.shape[2:] == things.test.shape[2:]
    assert things.training.shape[2] == 17
    assert things.training.dtype == things.test.dtype == np.float32
    assert np.isfinite(things.training).all()
    assert np.isfinite(things.test).all()
    assert all(
        (things.training_images.folder / name).exists() for name in things.training_images.files
    )
    return "read"


def refusal(error: UserError) -> str:
    """Check that a message is one short printable line that says what to do."""
    message = str(error)
    assert message.isprintable(), repr(message)
    assert len(message) < 1200, message
    advice = r"(Check|Choose|Keep|Set|Restore|Download|Give|Use|Unpack|Save|Remove|remove|restore) "
    assert re.search(advice, message), message
    assert message.endswith("."), message
    return "refused"


def run_cases(name: str, roots: list[Path]) -> Iterator[str]:
    """Ends of the cases of one class, on data that are intact before and after."""
    for case in range(CASES):
        root = roots[case % len(roots)]
        intact = root.with_name(f"{root.name} intact")
        try:
            CLASSES[name](np.random.default_rng([SEED, case, *name.encode()]), root)
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # no overflow on the way
                end = outcome(root)
        except Exception as error:
            error.add_note(f"{name}, FUZZ_SEED={SEED}, case {case}, {root.name}")
            raise
        shutil.rmtree(root)
        shutil.copytree(intact, root)
        yield end


# ---------------------------------------------------------------- damage


def one_of(generator: np.random.Generator, choices):
    return choices[int(generator.integers(len(choices)))]


def binary_file(generator: np.random.Generator, root: Path) -> Path:
    return one_of(generator, sorted([*root.glob("sub-*/*"), *root.glob("*.npy")]))


def flip_structure(generator: np.random.Generator, root: Path) -> None:
    """Flip bits, drop, insert and repeat bytes where a file describes itself: its two ends."""
    path = binary_file(generator, root)
    content = bytearray(path.read_bytes())
    for _ in range(one_of(generator, (1, 1, 2, 5, 30))):
        place = int(generator.integers(min(1500, len(content))))
        place = place if generator.random() < 0.5 else len(content) - 1 - place
        kind = generator.integers(5)
        if kind <= 1:
            content[place] ^= 1 << int(generator.integers(8))
        elif kind == 2:
            content[place] = int(generator.integers(256))
        elif kind == 3:
            del content[place : place + int(generator.integers(1, 20))]
        else:
            content[place:place] = generator.bytes(int(generator.integers(1, 9)))
    path.write_bytes(content)


def flip_samples(generator: np.random.Generator, root: Path) -> None:
    path = binary_file(generator, root)
    content = bytearray(path.read_bytes())
    for place in generator.integers(0, len(content), one_of(generator, (1, 10, 1000))).tolist():
        content[place] ^= 1 << int(generator.integers(8))
    path.write_bytes(content)


def truncate(generator: np.random.Generator, root: Path) -> None:
    path = binary_file(generator, root)
    content = path.read_bytes()
    keep = int(generator.integers(one_of(generator, (200, len(content)))))
    path.write_bytes(content[:keep] + one_of(generator, (b"", b"\0" * 100, content[:50])))


def swap_files(generator: np.random.Generator, root: Path) -> None:
    """A file in the place of another, of an empty one, or nowhere."""
    path, other = binary_file(generator, root), binary_file(generator, root)
    kind = generator.integers(4)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.write_bytes(other.read_bytes())
    elif kind == 2:
        path.unlink()
        path.mkdir()
    else:
        name = one_of(generator, ("train.pt", "test.npy", "x.npy"))
        path.with_name(name).write_bytes(path.read_bytes())


def loaded(path: Path) -> Any:
    if path.suffix == ".pt":
        return torch.load(path, weights_only=False)
    value = np.load(path, allow_pickle=True)
    return value.item() if isinstance(value, np.ndarray) and value.dtype == object else value


def store(path: Path, value: Any, generator: np.random.Generator) -> None:
    """Save by any of the ways there are."""
    kind, protocol = generator.integers(3), int(generator.integers(2, 6))
    with path.open("wb") as file:
        if kind == 0:
            pickle.dump(value, file, protocol)
        elif kind == 1:
            torch.save(value, file, pickle_protocol=protocol)
        else:
            np.save(file, np.array(value, dtype=object) if isinstance(value, dict) else value)


def swap_values(generator: np.random.Generator, root: Path) -> None:
    """Replace, drop or add a value in what a file holds, or the whole."""
    path = binary_file(generator, root)
    value, odd = loaded(path), one_of(generator, ODD_VALUES)
    if not isinstance(value, dict) or generator.random() < 0.1:
        value = odd if isinstance(odd, np.ndarray) or generator.random() < 0.5 else {"data": odd}
    else:
        key = one_of(generator, sorted(value))
        if generator.random() < 0.2:
            value.pop(key)
        elif isinstance(value[key], list) and generator.random() < 0.5:
            value[key][int(generator.integers(len(value[key])))] = odd
        else:
            value[one_of(generator, (key, key, "img", 3))] = odd
    try:
        store(path, value, generator)
    except ValueError:  # NumPy makes no array of some lists
        path.write_bytes(pickle.dumps(value))


def spoil_samples(generator: np.random.Generator, root: Path) -> None:
    """Values that are no voltages, in any type and any layout of numbers."""
    path = one_of(generator, sorted(root.glob("sub-*/*")))
    value = loaded(path)
    key = next((k for k in SIGNAL_KEYS if k in value), None) if isinstance(value, dict) else None
    signals = value if key is None else value[key]
    signals = signals.astype(one_of(generator, ("f2", "f4", "f8", ">f4", ">f8")))
    place = tuple(int(generator.integers(n)) for n in signals.shape[:-1])
    with np.errstate(all="ignore"):
        signals[place] = one_of(generator, (np.nan, np.inf, -np.inf, 1e300, 6e4, 0.0, -7.0))
    signals = one_of(
        generator,
        (signals, np.asfortranarray(signals), signals[..., ::-1], signals[1:], signals[0]),
    )
    store(path, signals if key is None else value | {key: signals}, generator)


def rearrange_images(generator: np.random.Generator, root: Path) -> None:
    """Remove, add, rename and empty images and folders; damage what describes them."""
    images = sorted(root.glob("*_images/*/*"))
    path = one_of(generator, images)
    kind = generator.integers(6)
    if kind == 0:
        path.unlink()
    elif kind == 1:
        path.rename(
            path.with_name(one_of(generator, ("a\nb.jpg", "é.PNG", "x.txt", ".jpg", "z.jpg")))
        )
    elif kind == 2:
        shutil.copy(path, path.parent / one_of(generator, ("0.jpg", "\x1b[2J.png", "x.gif")))
    elif kind == 3:
        shutil.rmtree(one_of(generator, (path.parent, path.parent.parent)))
    elif kind == 4:
        folder = root / one_of(generator, ("test_images", "training_images", "x"))
        shutil.copytree(path.parent, folder / f"9_{path.parent.name}")
    else:
        shutil.rmtree(one_of(generator, sorted(root.glob("sub-*"))))


def spoil_info(generator: np.random.Generator, root: Path) -> None:
    """The channels and times beside an array alone, one value or the bytes."""
    path = root / "info.json"
    info = json.loads(path.read_text())
    odd = [value for value in ODD_VALUES if not isinstance(value, np.ndarray) and value != 10**400]
    key = one_of(generator, sorted(info))
    if generator.random() < 0.3:
        info[key] = one_of(generator, odd)
    else:
        info[key][int(generator.integers(len(info[key])))] = one_of(generator, odd)
    text = json.dumps(info).encode()
    path.write_bytes(
        text[: int(generator.integers(len(text)))] if generator.random() < 0.2 else text
    )


CLASSES: dict[str, Damage] = {
    "structure": flip_structure,
    "samples' bytes": flip_samples,
    "truncated": truncate,
    "files": swap_files,
    "values": swap_values,
    "samples": spoil_samples,
    "images": rearrange_images,
    "info": spoil_info,
}


# ---------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("things")
    for variant in VARIANTS:
        spec = SyntheticThingsSpec(
            variant=variant,
            subjects=1,
            concepts=2,
            test_concepts=2,
            repetitions=1,
            test_repetitions=2,
            image_px=8,
        )
        write_synthetic_things(folder / variant, spec)
        shutil.copytree(folder / variant, folder / f"{variant} intact")
    return {variant: folder / variant for variant in VARIANTS}


def test_intact_they_are_read(roots):
    assert {outcome(root) for root in roots.values()} == {"read"}


@pytest.mark.parametrize("name", CLASSES)
def test_damaged_files_are_refused_in_one_line_or_read(name, roots):
    chosen = [roots["array"]] if name == "info" else list(roots.values())
    ends = Counter(run_cases(name, chosen))
    print(f"{name}: {ends.total()} cases, {dict(ends)}")
    assert ends.total() == CASES


INSTRUCTIONS = [bytes([code]) for code in pickle._Unpickler.dispatch if code != pickle.STOP[0]]
MENTIONED = (
    *("os system", "numpy dtype", "numpy ndarray", "numpy._core.multiarray _reconstruct"),
    *("numpy._core.numeric _frombuffer", "numpy._core.multiarray scalar", "_codecs encode"),
    *("collections OrderedDict", "torch FloatStorage", "torch._utils _rebuild_tensor_v2"),
    *("builtins eval", "builtins bytes", "posix system", "ssense.data.things.averages read_things"),
)


def program(generator: np.random.Generator) -> bytes:
    """A pickle of random instructions, with more of those that call and build."""
    parts = [b"\x80" + bytes([int(generator.integers(6))])]
    for _ in range(int(generator.integers(1, 40))):
        kind = generator.random()
        if kind < 0.2:
            module, name = one_of(generator, MENTIONED).split()
            parts.append(f"c{module}\n{name}\n".encode())
        elif kind < 0.4:
            parts.append(
                one_of(generator, (b"K\x02", b"X\x02\x00\x00\x00f8", b"N", b"]", b"}", b")"))
            )
        elif kind < 0.6:
            parts.append(
                one_of(generator, (b"R", b"b", b"\x85", b"\x86", b"\x87", b"(", b"t", b"\x94"))
            )
        else:
            parts.append(
                one_of(generator, INSTRUCTIONS) + generator.bytes(int(generator.integers(5)))
            )
    return b"".join(parts) + b"."


def is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(map(is_plain, (*value, *value.values())))
    return value is None or type(value) in (bool, int, float, str, np.ndarray)


def test_random_programs_are_refused_or_give_plain_values(tmp_path):
    path, ends = tmp_path / "program.npy", Counter()
    for case in range(25 * CASES):
        path.write_bytes(program(np.random.default_rng([SEED, case])))
        try:
            value = load_restricted(path)
        except UserError as error:
            ends[refusal(error)] += 1
        except Exception as error:
            error.add_note(f"FUZZ_SEED={SEED}, case {case}")
            raise
        else:
            assert is_plain(value), f"FUZZ_SEED={SEED}, case {case}"
            ends["read"] += 1
    print(f"programs: {dict(ends)}")
    assert ends.total() == 25 * CASES
