"""A ledger on S3: the same as on a disk, and what many cells cost in requests."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest
from upath import UPath

from ssense.errors import UserError
from ssense.storage import locate, remove, write_whole
from ssense.training import TrainingSpec
from sweeps.engine.cell import FORMAT_VERSION
from sweeps.engine.ledger import COPIES, COPY_AFTER, SWEEPS, Ledger, Record, find_ledger
from sweeps.engine.sweep import Family, Sweep

N = 3000
SWEEP = Sweep(
    claim="masking",
    dataset_digest="d",
    training=TrainingSpec(encoder_weights="random"),
    families=(Family(name="none", levels={}),),
    configurations=1,
    seeds=(0, 1),
)

# A server that holds the cells already: putting them there one by one would take minutes.
FILLED = """
import gzip, json, sys
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import main

n, folder, record = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
store = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
store.create_bucket("lab", "us-east-1")
copies = {}
for number in range(n):
    name = f"{number:016x}"
    content = json.dumps(record | {"signature": name, "seed": number}).encode()
    store.put_object("lab", f"{folder}/cells/{name}/encoder.safetensors", b"")
    put = store.put_object("lab", f"{folder}/cells/{name}/record.json", content)
    copies[name] = [put.etag, json.loads(content)]
store.put_object("lab", f"{folder}/records.json.gz", gzip.compress(json.dumps(copies).encode(), 1))
main(["-H", "127.0.0.1", "-p", "0"])
"""


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
    return {"format": FORMAT_VERSION, **dataclasses.asdict(record)}


@pytest.fixture
def ledger(s3, tmp_path) -> Ledger:  # noqa: ARG001
    return Ledger(locate(f"s3://lab/{tmp_path.name}") / SWEEPS / "masking-1234")


def test_records_come_back_and_later_ones_are_seen(ledger):
    assert ledger.records() == {}
    assert ledger.record("0" * 16) is None
    for number in range(3):
        ledger.write(record(number))
    assert ledger.records() == {record(n).signature: record(n) for n in range(3)}
    again = dataclasses.replace(record(1), best_epoch=7)
    ledger.write(again)
    remove(ledger.cell_folder(record(0).signature) / "record.json")
    assert list(ledger.records().values()) == [again, record(2)]
    assert ledger.signatures() == [record(1).signature, record(2).signature]
    assert not (ledger.folder / COPIES).exists()


def test_many_records_are_copied_and_only_changed_ones_read_again(ledger, s3):
    numbers = range(COPY_AFTER + 2)
    for number in numbers:
        ledger.write(record(number))
    assert ledger.records() == {record(n).signature: record(n) for n in numbers}
    assert (ledger.folder / COPIES).exists()

    changed = dataclasses.replace(record(5), best_epoch=7)
    ledger.write(changed)
    before = len(s3.requests())
    found = ledger.records()
    asked = [request.split("?")[0] for request in s3.requests()[before:]]
    assert asked[0] == "GET /lab"  # the listing
    assert len(asked) == 3
    assert asked[1].endswith(COPIES)
    assert asked[2].endswith(f"{changed.signature}/record.json")
    expected = {record(n).signature: record(n) for n in numbers}
    assert found == expected | {changed.signature: changed}


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", b"nonsense", b"[]"])
def test_damaged_copies_are_as_good_as_none(ledger, content):
    for number in range(2):
        ledger.write(record(number))
    write_whole(ledger.folder / COPIES, content)
    assert len(ledger.records()) == 2


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
    ledger.write_sweep(SWEEP, [], {"digest": "d"}, "race", [])
    assert find_ledger(storage).folder.name == "masking-1234"
    assert find_ledger(storage).sweep() == SWEEP


@pytest.mark.slow
def test_thousands_of_cells_take_a_listing_and_one_read(object_store, tmp_path, monkeypatch):
    folder = f"ssense/{SWEEPS}/masking-1234"
    arguments = [str(N), folder, json.dumps(written(record(0)))]
    with object_store(tmp_path / "log", FILLED, *arguments) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        UPath("s3://lab").fs.clear_instance_cache()
        start = time.process_time()
        found = Ledger(locate(f"s3://lab/{folder}")).records()
        print(f"{time.process_time() - start:.1f} s of this process")
        assert len(found) == N
        assert found[record(N - 1).signature] == record(N - 1)
        assert len(store.requests()) == 2 * N // 1000 + 1
    UPath("s3://lab").fs.clear_instance_cache()
