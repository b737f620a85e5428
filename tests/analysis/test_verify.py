"""What contradicts itself in a storage is refused by name, by every reader and by the check."""

from __future__ import annotations

import copy
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from dataclasses import replace as replaced
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from upath import UPath

from analysis.evaluate import noise_floor
from analysis.measure.evaluation import cell_model, take_up
from analysis.measure.looks import count_looks, record_look
from analysis.options import VerifyOptions
from analysis.report.origin import control_verdict, data_facts, provenance_facts
from analysis.report.sentences import published_rows
from analysis.verify import find_faults, main
from ssense.data.shards import MANIFEST, read_sentences
from ssense.engine.core.record import Record
from ssense.engine.core.reproduction import Reproduction
from ssense.engine.core.sweep import Sweep
from ssense.engine.plan import other_sweeps
from ssense.engine.records.description import FORMAT_VERSION
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.reproduce import find_cell
from ssense.engine.sweep_data import sweep_dataset
from ssense.engine.tasks.registry import kept_data
from ssense.engine.view.runs import sweep_run
from ssense.engine.view.tracking import _as_it_ended
from ssense.errors import UserError
from ssense.files.sealed_json import CHECKSUM, sealed
from ssense.files.storage import locate, upload, write_whole
from ssense.model.encoders.spectrogram_encoder import trained_encoder

EXACT = Reproduction(
    exact=True,
    best_epochs=(1, 1),
    epochs=(2, 2),
    at_best={"recall@10": 0.0},
    by_epoch=[0.0, 0.0],
    loss=0.0,
    weights=0.0,
)


@pytest.fixture(scope="module")
def whole(tiny_sweep, linked, tmp_path_factory) -> UPath:
    """A copy of a finished sweep, by links, with two looks and a reproduction."""
    storage = linked(tiny_sweep, tmp_path_factory.mktemp("whole") / "storage")
    for left in (storage / "looks", *storage.glob("sweeps/*/looks")):  # by other tests
        shutil.rmtree(left, ignore_errors=True)
    ledger = find_ledger(storage)
    for _ in range(2):
        record_look(ledger, (0, 1), {"no masking": {}})
    ledger.keep_reproduction(ledger.signatures()[0], EXACT)
    return storage


@pytest.fixture
def storage(whole, linked, tmp_path) -> UPath:
    """A copy of it; the files are links, so that one is replaced and never written into."""
    return linked(whole, tmp_path / "storage")


def replace(path: UPath, content: Any) -> None:
    path.unlink()
    path.write_text(json.dumps(content))


def forged(content: Any) -> Any:
    """The same with the checksum that belongs to it, where there can be one."""
    return sealed(content) if isinstance(content, dict) else content


def only(storage: UPath, pattern: str) -> UPath:
    return sorted(storage.glob(pattern))[0]


def faults(storage: UPath) -> list[str]:
    return list(find_faults(storage, Counter()))


# ---------------------------------------------------------------- any JSON of another shape

MUTANTS: list[Any] = [None, [], {}, "x", -1, 10**400, True, [[None]], 1e308, "\ud800"]
AT_ONCE = 3
"""Mutants that each value is replaced by; the next value gets the next ones."""


def values(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all values in a JSON document, the whole among them; of lists the first entry."""
    yield place
    if isinstance(content, dict):
        for key, value in content.items():
            yield from values(value, (*place, key))
    elif isinstance(content, list) and content:
        yield from values(content[0], (*place, 0))


def changed(content: Any, place: tuple[Any, ...], mutant: Any) -> Any:
    if not place:
        return mutant
    found = copy.deepcopy(content)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = mutant
    return found


def without(content: Any, place: tuple[Any, ...]) -> Any:
    found = changed(content, place, None)
    inner = found
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return found


def mutations(content: Any) -> Iterator[Any]:
    """Deterministic ones: every value by some mutants in turn, and each name left out."""
    for number, place in enumerate(values(content)):
        for turn in range(AT_ONCE if place else len(MUTANTS)):
            yield changed(content, place, MUTANTS[(AT_ONCE * number + turn) % len(MUTANTS)])
        if place:
            yield without(content, place)


def read_as_commands_do(storage: UPath) -> None:
    """Take the ways by which commands read a ledger."""
    ledger = find_ledger(storage)
    search = take_up(ledger)
    description = ledger.description()
    sweep_run(search, description, "FINISHED")
    sweep_run(_as_it_ended(ledger), description, "FINISHED")
    other_sweeps(storage, description.sweep)
    noise_floor(ledger)
    count_looks(ledger)
    published_rows(description.origin)
    provenance_facts(ledger, search.records.values(), "today")
    find_cell(storage, ledger.signatures()[0])


def read_data(storage: UPath) -> None:
    """Take the ways by which commands read a dataset."""
    ledger = find_ledger(storage)
    folder = storage / "shards" / ledger.description().origin.shards
    sweep_dataset(ledger)
    read_sentences(folder)
    description = ledger.description()
    data_facts(ledger, description, description.origin, {"all": {}}, {"train": 1.0}, {})


def refusal(read: Callable[[UPath], None], storage: UPath) -> str | None:
    """What a reader refuses a storage with, in one line; any other exception is passed on."""
    try:
        read(storage)
    except UserError as error:
        return one_line_of(error)
    return None


def one_line_of(error: UserError) -> str:
    assert "\n" not in str(error)
    return str(error)


READERS: dict[str, tuple[str, Callable[[UPath], None]]] = {
    "description": ("sweeps/*/sweep.json", read_as_commands_do),
    "record": ("sweeps/*/cells/*/record.json", read_as_commands_do),
    "reproduction": ("sweeps/*/reproductions/*.json", read_as_commands_do),
    "look": ("looks/*/look-0001.json", read_as_commands_do),
    "note of a look": ("sweeps/*/looks/*.json", read_as_commands_do),
    "manifest": ("shards/*/manifest.json", read_data),
}


@pytest.mark.parametrize("kind", READERS)
def test_json_of_any_other_shape_is_one_line_that_names_the_file(storage, kind, capsys):
    pattern, read = READERS[kind]
    path = only(storage, pattern)
    read(storage)
    known = json.loads(path.read_text())
    # With a forged checksum: the right one would hide what is behind it.
    plain = {name: value for name, value in known.items() if name != CHECKSUM}
    tried = refused = 0
    for content in mutations(plain):
        replace(path, forged(content))
        tried += 1
        error = refusal(read, storage)
        if error is None:
            continue
        refused += 1
        said = error + capsys.readouterr().out  # what is left out is said, and why
        is_version = "by another version of the code" in said  # the one field that may differ
        assert is_version or path.name in said or path.parent.name in said, (content, said)
    print(f"{kind}: {refused} of {tried} refused")
    assert refused > tried / 3


@pytest.mark.parametrize("kind", READERS)
def test_whatever_is_left_out_of_a_file_does_not_match_its_checksum(storage, kind):
    pattern, read = READERS[kind]
    path = only(storage, pattern)
    known = json.loads(path.read_text())
    names = [name for name in known if name not in (CHECKSUM, "format", "id")]
    for name in names[:: max(1, len(names) // 4)]:
        replace(path, without(known, (name,)))
        with pytest.raises(UserError, match=r"not match its checksum|no readable"):
            read(storage)


# ---------------------------------------------------------------- what contradicts itself


def edit(path: UPath, *, is_sealed: bool, **changes: Any) -> None:
    """Change names of a file as a person would, who does or does not know of the checksum."""
    content = json.loads(path.read_text()) | changes
    plain = {name: value for name, value in content.items() if name != CHECKSUM}
    replace(path, sealed(plain) if is_sealed else content)


def first_cell(storage: UPath) -> tuple[Ledger, Record]:
    ledger = find_ledger(storage)
    return ledger, next(iter(ledger.records().values()))


CHANGES: dict[str, Callable[[Record, Sweep], dict[str, Any]]] = {
    "seed": lambda record, sweep: {"seed": next(s for s in sweep.seeds if s != record.seed)},
    "configuration": lambda *_: {"configuration": {"masking.electrode": 0.5}},
    "no field": lambda *_: {"configuration": {"masking.sound": 0.5}},
    "dataset": lambda *_: {"dataset_digest": "0123456789abcdef"},
    "signature": lambda *_: {"signature": "0123456789abcdef"},
    "best epoch": lambda record, _: {"best_epoch": len(record.history) + 1},
    "history": lambda record, _: {
        "history": [
            *record.history,
            dict(record.best) | {"recall@10": record.best["recall@10"] + 1},
        ]
    },
    "status": lambda *_: {"status": "done", "history": [], "best_epoch": 0},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_of_something_else_than_its_cell_is_refused(storage, change):
    ledger, record = first_cell(storage)
    path = ledger.cell_folder(record.signature) / "record.json"
    changes = CHANGES[change](record, ledger.description().sweep)
    for is_sealed in (False, True):  # a forged checksum does not help: the rest contradicts it
        edit(path, is_sealed=is_sealed, **changes)
        with pytest.raises(UserError, match=rf"{record.signature}/record\.json") as error:
            take_up(ledger)
        assert "\n" not in str(error.value)
    assert any(f"{record.signature}/record.json" in fault for fault in faults(storage))


@pytest.mark.parametrize("kind", READERS)
def test_a_file_without_its_checksum_is_refused_whatever_it_holds(storage, kind):
    pattern, read = READERS[kind]
    path = only(storage, pattern)
    replace(path, without(json.loads(path.read_text()), (CHECKSUM,)))
    (fault,) = faults(storage)
    assert path.name in fault or path.parent.name in fault
    assert "its checksum is missing: it was changed" in fault
    with pytest.raises(UserError, match=r"its checksum is missing|no readable"):
        read(storage)


@pytest.mark.parametrize(
    ("metric", "value"),
    [("recall@10", 7.5), ("mrr", -0.1), ("recall@1", float("nan")), ("loss", float("inf"))],
)
def test_a_record_with_a_metric_that_there_cannot_be_is_refused(storage, metric, value):
    ledger, record = first_cell(storage)
    path = ledger.cell_folder(record.signature) / "record.json"
    epochs = [{**epoch, metric: value} for epoch in record.history]
    replace(path, sealed({"format": FORMAT_VERSION, **asdict(replaced(record, history=epochs))}))
    with pytest.raises(UserError, match=rf"record\.json is not a record .*{metric}"):
        ledger.record(record.signature)


@pytest.mark.parametrize("is_sealed", [False, True])
def test_an_edited_sweep_is_named_and_its_records_are_not_blamed(storage, is_sealed):
    path = only(storage, "sweeps/*/sweep.json")
    sweep = json.loads(path.read_text())["sweep"]
    sweep["specification"]["training"] = {"batch_size": 7}
    edit(path, is_sealed=is_sealed, sweep=sweep)
    (fault,) = faults(storage)
    assert fault.startswith(f"{path} ")
    assert fault.endswith("Delete this file and run the sweep's command again: its cells are kept.")
    assert ("contradicts the name of its folder" in fault) == is_sealed


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "the first shard dropped": lambda m: m["shards"].pop(0),
    "the last shard dropped": lambda m: m["shards"].pop(),
    "two shards swapped": lambda m: m["shards"].insert(0, m["shards"].pop(1)),
    "a shard twice": lambda m: m["shards"].append(m["shards"][0]),
    "no shard": lambda m: m["shards"].clear(),
    "another rate": lambda m: m["origin"].update(recording_rate_hz=64.0),
    "another folder's": lambda m: m.update(digest="0123456789abcdef"),
    "rows": lambda m: m["shards"][0].update(rows=m["shards"][0]["rows"] - 1),
}


@pytest.mark.parametrize("change", MANIFESTS)
@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_manifest_that_lists_something_else_is_refused(storage, change, is_sealed):
    path = only(storage, "shards/*/manifest.json")
    content = json.loads(path.read_text())
    MANIFESTS[change](content)
    edit(path, is_sealed=is_sealed, **content)
    with pytest.raises(UserError, match=path.parent.name) as error:
        sweep_dataset(find_ledger(storage))
    assert "\n" not in str(error.value)
    assert any(path.parent.name in fault for fault in faults(storage))


def test_shards_of_other_sentences_than_planned_are_a_fault_and_deleted_ones_are_none(storage):
    ledger = find_ledger(storage)
    description = ledger.description()
    kept, wanted = kept_data(description.origin, storage), description.sweep.dataset_digest
    assert kept.fault(wanted) == ""
    folder = storage / "shards" / description.origin.shards
    fault = kept.fault("0123456789abcdef")
    assert fault.startswith(f"{folder} holds other sentences than the sweep was planned on")
    assert f"(dataset {wanted}, not 0123456789abcdef). Delete {folder}" in fault
    shutil.rmtree(folder)
    assert kept.fault("0123456789abcdef") == ""
    assert faults(storage) == []


def test_a_byte_of_a_shard_is_found(storage):
    path = only(storage, "shards/*/part-00000.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    (fault,) = faults(storage)
    assert f"shard {path} is damaged" in fault


def test_a_value_of_the_kept_embeddings_is_found(storage):
    path = only(storage, "text/ViT-B-32-quickgelu-[0-9a-f]*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.unlink()
    path.write_bytes(content)
    (fault,) = faults(storage)
    assert fault == (f"{path} is damaged (its checksum does not match). Delete it and run again.")
    with pytest.raises(UserError, match="its checksum does not match"):
        sweep_dataset(find_ledger(storage))


def test_embeddings_under_the_name_of_others_are_found(storage):
    path = only(storage, "text/ViT-B-32-quickgelu-[0-9a-f]*.safetensors")
    other = path.with_name("ViT-B-32-quickgelu-0123456789abcdef.safetensors")
    shutil.copy(path, other)
    (fault,) = faults(storage)
    assert f"{other} belongs to another file" in fault


# ---------------------------------------------------------------- encoders

WEIGHTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = {
    "NaN": (lambda w: w["resnet.fc.bias"].fill_(torch.nan), "NaN or infinity in resnet.fc.bias"),
    "infinity": (lambda w: w["resnet.fc.bias"].fill_(torch.inf), "in resnet.fc.bias"),
    "integers": (
        lambda w: w.update({"resnet.fc.bias": w["resnet.fc.bias"].int()}),
        "resnet.fc.bias has the type torch.int32, not torch.float32",
    ),
    "half": (
        lambda w: w.update({"resnet.fc.bias": w["resnet.fc.bias"].half()}),
        "resnet.fc.bias has the type torch.float16, not torch.float32",
    ),
    "shape": (
        lambda w: w.update({"resnet.fc.bias": w["resnet.fc.bias"][:3].clone()}),
        r"resnet.fc.bias has the shape \[3\], not \[512\]",
    ),
    "a name less": (lambda w: w.pop("resnet.fc.bias"), "resnet.fc.bias is missing"),
    "a name more": (lambda w: w.update(bias=torch.zeros(1)), "bias is unknown"),
}


@pytest.mark.parametrize("change", WEIGHTS)
def test_weights_that_are_none_of_the_model_are_named_though_their_hash_is_right(storage, change):
    ledger, record = first_cell(storage)
    path = ledger.cell_folder(record.signature) / "weights.safetensors"
    weights = ledger.weights(record)
    apply, message = WEIGHTS[change]
    apply(weights)
    path.unlink()
    (path.parent / "record.json").unlink()
    written = ledger.write(record, weights)
    with pytest.raises(UserError, match=message) as error:
        cell_model(ledger, written, partial(trained_encoder, precision="float32"))
    assert record.signature in str(error.value)
    assert str(error.value) in faults(storage)


def test_an_encoder_that_is_no_tensors_is_named(storage):
    ledger, record = first_cell(storage)
    path = ledger.cell_folder(record.signature) / "weights.safetensors"
    for content in (b"", b"nonsense", safetensors.torch.save({"x": torch.zeros(1)})):
        path.unlink()
        path.write_bytes(content)
        assert [fault for fault in faults(storage) if f"{path} is damaged" in fault]


# ---------------------------------------------------------------- looks


def look_faults(storage: UPath) -> list[str]:
    return [fault for fault in faults(storage) if "look" in fault]


def test_a_look_that_is_removed_shows_and_counts_whichever_it_is(storage):
    ledger = find_ledger(storage)
    for name in ("look-0001.json", "look-0002.json"):  # the last is known from the sweep's note
        path = only(storage, f"looks/*/{name}")
        content = path.read_bytes()
        path.unlink()
        (fault,) = look_faults(storage)
        assert f"{name} is missing" in fault
        assert count_looks(ledger) == 2
        path.write_bytes(content)
    assert look_faults(storage) == []
    only(storage, "looks/*/look-0001.json").unlink()
    assert record_look(ledger, (0, 1), {"no masking": {}}).standing((0, 1)) == (
        "1 of 2 earlier looks at these test splits is missing or changed: the choice may know them"
    )
    assert only(storage, "looks/*/look-0003.json").exists()  # and not in the place of the lost one


def test_a_look_that_is_changed_or_moved_shows(storage):
    first, second = (only(storage, f"looks/*/look-000{n}.json") for n in (1, 2))
    contents = first.read_bytes(), second.read_bytes()
    edit(first, is_sealed=False, seeds=[0])
    (fault,) = look_faults(storage)
    assert f"{first} is not the look that was recorded" in fault
    edit(first, is_sealed=True, seeds=[0])
    (fault,) = look_faults(storage)
    assert "look-0001.json was changed or replaced" in fault
    first.write_bytes(contents[1])
    second.unlink()
    second.write_bytes(contents[0])
    assert len(look_faults(storage)) == 2


# ---------------------------------------------------------------- the command


def verify(storage: UPath) -> int:
    """Exit code of the command, run in this process."""
    try:
        main(VerifyOptions(storage=str(storage)))
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_command_says_what_it_checked_and_prints_one_line_per_fault(storage, capsys):
    assert verify(storage) == 0
    n, n_tensors = len(find_ledger(storage).signatures()), len(list(storage.glob("text/*")))
    said = capsys.readouterr().out.replace("\n", " ")
    assert (
        f"Checked 1 sweep, {n} records, {n} encoders, 6 shards, {n_tensors} tensors, 2 looks"
        in said
    )
    before = {path: path.stat().st_mtime_ns for path in storage.rglob("*") if path.is_file()}
    for path in (only(storage, "looks/*/look-0001.json"), only(storage, f"shards/*/{MANIFEST}")):
        replace(path, [])
        before.pop(path)
    assert verify(storage) == 1
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert [line[:7] for line in lines[:2]] == ["FAULT: "] * 2  # no progress where nobody looks
    assert min(map(len, lines[:2])) > 100
    assert lines[2].startswith("Checked ")
    assert "2 faults." in said
    now = {path: path.stat().st_mtime_ns for path in storage.rglob("*") if path.is_file()}
    assert before.items() <= now.items()  # nothing is written
    assert len(now) == len(before) + 2


def test_an_encoder_that_was_deleted_is_no_fault_and_one_that_is_missing_is(storage, capsys):
    ledger = find_ledger(storage)
    first, second = ledger.signatures()[:2]
    ledger.delete_weights(first)
    assert verify(storage) == 0
    assert "Of 1 cell no encoder is kept, as it was not asked for." in capsys.readouterr().out
    (ledger.cell_folder(second) / "weights.safetensors").unlink()
    (fault,) = faults(storage)
    assert "weights.safetensors is missing. Delete" in fault


def test_a_place_without_anything_to_check_is_no_storage(tmp_path):
    for place, message in ((tmp_path, "holds no sweep"), (tmp_path / "no", "no storage at")):
        with pytest.raises(UserError, match=message):
            main(VerifyOptions(storage=str(place)))


def test_a_storage_in_an_object_store_is_checked_as_one_on_a_disk(whole, s3):  # noqa: ARG001
    storage = locate("s3://lab/verified")
    upload(Path(str(whole)), storage)
    assert faults(storage) == []
    path = next(storage.glob("shards/*/manifest.json"))
    write_whole(path, path.read_bytes().replace(b'"rows": ', b'"rows": 9', 1))
    (fault,) = faults(storage)
    assert f"{path} is damaged (its content does not match its checksum" in fault


def test_words_that_are_no_text_are_named(whole, linked, tmp_path):
    storage = linked(whole, tmp_path / "storage")
    ledger = find_ledger(storage)
    (report,) = storage.glob("shards/*/data_report.md")
    verdict = ledger.folder / "controls" / "verdict.txt"
    verdict.parent.mkdir(exist_ok=True)
    for path in (report, verdict):
        path.unlink(missing_ok=True)
        path.write_bytes(b"\xff")
    faults = list(find_faults(storage, Counter()))
    assert [str(path) in fault for path, fault in zip((verdict, report), faults, strict=True)]
    assert "controls.py" in faults[0]
    with pytest.raises(UserError, match=r"verdict\.txt is damaged"):
        control_verdict(ledger)
