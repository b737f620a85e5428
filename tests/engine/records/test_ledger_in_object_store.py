"""A ledger on S3: the same as on a disk, and what many cells cost in requests."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import time
from collections.abc import Callable, Iterator

import pytest
from upath import UPath

from analysis.measure.looks import count_looks
from ssense.data.shards import read_manifest, read_sentences
from ssense.engine.core.budget import Budget
from ssense.engine.core.cell import Cell
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.reproduction import Reproduction
from ssense.engine.core.sweep import Family, Sweep
from ssense.engine.plan import other_sweeps
from ssense.engine.records.description import FORMAT_VERSION, Description
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import COPIES, COPY_AFTER, SWEEPS, Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.work.workers import CellSearcher
from ssense.errors import UserError
from ssense.files.sealed_json import sealed
from ssense.files.storage import locate, read_whole, remove, write_whole
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.training.sentences import SentenceSpec

N = 1200
SWEEP = Sweep(
    question="masking",
    dataset_digest="d",
    specification=SentenceSpec(encoder=ResNetSpec(weights="random")),
    families=(Family(name="none", levels={}),),
    configurations=1,
    seeds=(0, 1),
)

# A server that holds the cells already: putting them there one by one would take minutes.
FILLED = """
import json, sys
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import main
from ssense.files.sealed_json import sealed

n, folder, record = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
store.create_bucket("lab", "us-east-1")
for number in range(n):
    name = f"{number:016x}"
    content = json.dumps(sealed(record | {"signature": name, "seed": number})).encode()
    store.put_object("lab", f"{folder}/cells/{name}/weights.safetensors", b"")
    store.put_object("lab", f"{folder}/cells/{name}/record.json", content)
main(["-H", "127.0.0.1", "-p", "0"])
"""
ORIGIN = RecordingOrigin(subject="sub_9", title="Ant-Man", shards="0123", recording="there")


def reproduction(points: float) -> Reproduction:
    return Reproduction(
        exact=False,
        best_epochs=(1, 2),
        epochs=(30, 30),
        at_best={"recall@10": points},
        by_epoch=[points, 0.0],
        loss=0.25,
        weights=None,
    )


def record(number: int) -> Record:
    epochs = [{"epoch": n, "recall@10": 0.1 + n / 1e3, "loss": 1 / 3} for n in range(30)]
    return Record(
        signature=f"{number:016x}",
        configuration={"masking.time": 0.1},
        seed=number,
        status="done",
        dataset_digest="d",
        history=epochs,
        best_epoch=30,
        finished_at="2026-01-01T00:00:00+00:00",
    )


def written(record: Record) -> dict[str, object]:
    return sealed({"format": FORMAT_VERSION, **dataclasses.asdict(record)})


@pytest.fixture
def ledger(s3, tmp_path) -> Ledger:  # noqa: ARG001
    return Ledger(locate(f"s3://lab/{tmp_path.name}") / SWEEPS / "masking-1234")


def test_records_come_back_and_later_ones_are_seen(ledger):
    assert ledger.records() == {}
    assert ledger.record("0" * 16) is None
    for number in range(3):
        ledger.write(record(number))
    assert ledger.records() == {record(n).signature: record(n) for n in range(3)}
    again = dataclasses.replace(record(1), threads=7)
    ledger.write(again)
    remove(ledger.cell_folder(record(0).signature) / "record.json")
    assert list(ledger.records().values()) == [again, record(2)]
    assert ledger.signatures() == [record(1).signature, record(2).signature]


def test_records_are_copied_and_only_changed_ones_read_again(ledger, s3):
    numbers = range(12)
    for number in numbers:
        ledger.write(record(number))
    assert ledger.records() == {record(n).signature: record(n) for n in numbers}
    assert (ledger.folder / COPIES).exists()

    changed = dataclasses.replace(record(5), threads=7)
    ledger.write(changed)
    before = len(s3.requests())
    found = ledger.records()
    asked = [request.split("?")[0] for request in s3.requests()[before:]]
    assert asked[0] == "GET /lab"  # the listing
    assert len(asked) == 4
    assert asked[1].endswith(COPIES)
    assert asked[2].endswith(f"{changed.signature}/record.json")
    assert asked[3].startswith("PUT")
    assert asked[3].endswith(COPIES)
    expected = {record(n).signature: record(n) for n in numbers}
    assert found == expected | {changed.signature: changed}


def copied(ledger: Ledger) -> list[list[object]]:
    return json.loads(gzip.decompress(read_whole(ledger.folder / COPIES)))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"nonsense", b"[]"])
def test_damaged_copies_are_as_good_as_none(ledger, content):
    for number in range(2):
        ledger.write(record(number))
    write_whole(ledger.folder / COPIES, content)
    assert len(ledger.records()) == 2
    assert len(copied(ledger)) == 2


MISSHAPEN: dict[str, Callable[[str, str], object]] = {
    "null": lambda *_: None,
    "number": lambda *_: 3,
    "of numbers": lambda *_: [1, 2],
    "by name": lambda name, mark: {name: [mark, {}]},
    "pair": lambda name, mark: [[name, mark]],
    "unhashable": lambda name, mark: [[name, [mark], written(record(0))]],
    "empty record": lambda name, mark: [[name, mark, {}]],
    "list for a record": lambda name, mark: [[name, mark, [1]]],
    "half a record": lambda name, mark: [[name, mark, {"format": FORMAT_VERSION, "seed": 1}]],
    "unknown field": lambda name, mark: [[name, mark, written(record(0)) | {"new": 1}]],
    "another's record": lambda name, mark: [[name, mark, written(record(1))]],
    "another format": lambda name, mark: [[name, mark, written(record(0)) | {"format": 0}]],
}


@pytest.mark.parametrize("misshapen", MISSHAPEN.values(), ids=MISSHAPEN)
def test_copies_that_are_no_records_are_as_good_as_none(ledger, misshapen):
    ledger.write(record(0))
    expected = ledger.records()
    ((name, mark, _),) = copied(ledger)
    content = gzip.compress(json.dumps(misshapen(name, mark)).encode())
    write_whole(ledger.folder / COPIES, content)
    assert ledger.records() == expected
    assert copied(ledger) == [[name, mark, written(record(0))]]


def test_a_driver_copies_the_records_as_they_come_and_looks_for_the_first_of_a_worker(ledger, s3):
    sweep = dataclasses.replace(SWEEP, seeds=tuple(range(3 * COPY_AFTER)))
    search = Search(sweep, Full())
    searcher = CellSearcher(search, ledger, Budget(), lambda *_: None, lambda: 1000)
    before = len(s3.requests())
    copies_at = []
    for number in range(3 * COPY_AFTER):
        cell = Cell(**searcher.suggest(str(number)))
        done = record(cell.seed)
        done = dataclasses.replace(done, signature=search.signature(cell), configuration={})
        done = ledger.write(dataclasses.replace(done, worker=f"machine:{number % 2}"))
        n_requests = len(s3.requests())
        searcher.on_trial_complete(str(number), {"record": done})
        if any("records.json.gz" in request for request in s3.requests()[n_requests:]):
            copies_at.append(number + 1)
            assert len(copied(ledger)) == number + 1
    assert searcher.obstacle is None
    assert copies_at == [COPY_AFTER + 1]  # the next one at thrice as many
    heads = [request for request in s3.requests()[before:] if request.startswith("HEAD")]
    assert len(heads) == 2

    ledger.copy_records()  # as at the end of a sweep
    before = len(s3.requests())
    assert Ledger(ledger.folder).records() == search.records
    asked = [request.split("?")[0] for request in s3.requests()[before:]]
    assert asked == ["GET /lab", f"GET /{ledger.folder.path}/{COPIES}"]


def test_a_worker_with_another_storage_is_found_out_by_its_first_record(ledger):
    search = Search(SWEEP, Full())
    searcher = CellSearcher(search, ledger, Budget(), lambda *_: None, lambda: 1000)
    cell = Cell(**searcher.suggest("0"))
    done = dataclasses.replace(record(0), signature=search.signature(cell), worker="far:1")
    searcher.on_trial_complete("0", {"record": done})
    assert "far:1 wrote a cell to s3://lab/" in str(searcher.obstacle)


@pytest.fixture
def closed(s3, tmp_path, monkeypatch) -> Iterator[UPath]:  # noqa: ARG001
    """A storage that nobody may read any more."""
    storage = locate(f"s3://lab/{tmp_path.name}")
    Ledger(storage / SWEEPS / SWEEP.name).describe(Description(sweep=SWEEP, origin=ORIGIN))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    storage.fs.clear_instance_cache()
    yield locate(str(storage))
    storage.fs.clear_instance_cache()


ASKED: dict[str, Callable[[Ledger], object]] = {
    "has": lambda ledger: ledger.has("0" * 16),
    "exists": Ledger.exists,
    "n_begun": Ledger.n_begun,
    "reproductions": Ledger.reproductions,
    "records": Ledger.records,
    "find_ledger": lambda ledger: find_ledger(ledger.storage),
    "other_sweeps": lambda ledger: other_sweeps(ledger.storage, SWEEP),
    "count_looks": count_looks,
    "read_manifest": lambda ledger: read_manifest(ledger.storage / "shards" / "d"),
    "read_sentences": lambda ledger: read_sentences(ledger.storage / "shards" / "d"),
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_storage_that_may_not_be_read_is_one_line(closed, ask):
    with pytest.raises(UserError, match=r"can't be read \(.*credentials\)\. Check the storage\.$"):
        ask(Ledger(closed / SWEEPS / SWEEP.name))


def test_copying_fails_nobody(closed):
    Ledger(closed / SWEEPS / SWEEP.name).copy_records()


def test_cells_and_reproductions_are_found(ledger, s3):
    assert ledger.n_begun() == 0
    assert ledger.reproductions() == []
    for number in range(3):
        ledger.write(record(number))
        ledger.keep_reproduction(record(number).signature, reproduction(number))
    write_whole(ledger.checkpoint_path("f" * 16), b"begun")
    before = len(s3.requests())
    assert ledger.n_begun() == 4
    assert len(s3.requests()) == before + 1
    assert ledger.reproductions() == [reproduction(number) for number in range(3)]


def test_a_damaged_record_is_named_in_one_line(ledger):
    ledger.write(record(0))
    write_whole(ledger.cell_folder(record(0).signature) / "record.json", "{")
    with pytest.raises(UserError, match=r"record\.json is damaged") as error:
        ledger.records()
    assert "\n" not in str(error.value)


def test_sweeps_are_found(ledger):
    storage = ledger.folder.parent.parent
    with pytest.raises(UserError, match="no sweep in s3://lab/"):
        find_ledger(storage)
    ledger.describe(Description(sweep=SWEEP, origin=ORIGIN))
    assert find_ledger(storage).folder.name == "masking-1234"
    assert find_ledger(storage).description().sweep == SWEEP


@pytest.mark.slow
def test_thousands_of_cells_take_a_listing_and_one_read(object_store, tmp_path, monkeypatch):
    folder = f"ssense/{SWEEPS}/masking-1234"
    first = {"format": FORMAT_VERSION, **dataclasses.asdict(record(0))}
    arguments = [str(N), folder, json.dumps(first)]
    with object_store(tmp_path / "log", FILLED, *arguments) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        UPath("s3://lab").fs.clear_instance_cache()
        Ledger(locate(f"s3://lab/{folder}")).copy_records()
        before = len(store.requests())
        start = time.process_time()
        found = Ledger(locate(f"s3://lab/{folder}")).records()
        print(f"{time.process_time() - start:.1f} s of this process")
        assert len(found) == N
        assert found[record(N - 1).signature] == record(N - 1)
        assert len(store.requests()) - before == -(-2 * N // 1000) + 1
    UPath("s3://lab").fs.clear_instance_cache()
