from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from upath import UPath

from ssense.engine.records.driver import CLAIM, sole_driver
from ssense.errors import UserError
from ssense.files.storage import locate, write_whole

pytestmark = pytest.mark.timeout(120)  # for a driver that never answers

# A driver in a process of its own: told folder and starting time, it says how it fares.
DRIVER = """
import signal, sys, time
from ssense.errors import UserError
from ssense.files.storage import locate
from ssense.engine.records.driver import sole_driver

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background job of a shell script
print("ready", flush=True)
while line := sys.stdin.readline():
    folder, start, heartbeat_s, stale_s = line.split()
    time.sleep(max(0, float(start) - time.time()))
    try:
        with sole_driver(locate(folder), heartbeat_s=float(heartbeat_s), stale_s=float(stale_s)):
            print("works", flush=True)
            sys.stdin.readline()
    except UserError as error:
        print("error:", error, flush=True)
    else:
        print("ended", flush=True)
"""
BEAT_S, STALE_S = 0.2, 2.0


class Driver:
    """One driver process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def start(
        self, folder: UPath, at: float = 0, beat_s: float = BEAT_S, stale_s: float = STALE_S
    ) -> None:
        print(folder, at, beat_s, stale_s, file=self.process.stdin)

    def end(self) -> str:
        print(file=self.process.stdin)
        return self.says()

    def says(self) -> str:
        """Wait for the next line that is not a notice about waiting."""
        while (line := self.process.stdout.readline()).startswith("No sign of life"):
            pass
        return line.strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def pool(s3) -> Iterator[list[Driver]]:  # noqa: ARG001 - its environment is inherited
    """Three processes that have imported everything."""
    drivers = [Driver() for _ in range(3)]
    assert [driver.says() for driver in drivers] == 3 * ["ready"]
    yield drivers
    for driver in drivers:
        driver.kill()


@contextmanager
def stopped(driver: Driver) -> Iterator[None]:
    """Keep a process from running, as a hung storage or a sleeping laptop would."""
    driver.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        driver.process.send_signal(signal.SIGCONT)


def claim_of(folder: Path) -> dict[str, object]:
    return json.loads((folder / CLAIM).read_text())


def claim_of_dead_process(folder: Path, **changes: object) -> None:
    """Leave the claim that a killed driver of this machine would have left."""
    with sole_driver(UPath(folder)):
        content = claim_of(folder)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder.mkdir(parents=True)
    (folder / CLAIM).write_text(json.dumps(content | {"pid": ended.pid} | changes))


def acquired_after(folder: UPath, stale_s: float = STALE_S) -> float:
    """Become the driver and say how long that took."""
    start = time.monotonic()
    with sole_driver(folder, heartbeat_s=BEAT_S, stale_s=stale_s):
        return time.monotonic() - start


def eventually(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def race(drivers: list[Driver], folder: UPath, beat_s: float) -> None:
    """Start all drivers in the same instant: one works until it is told to end, none else does."""
    start = time.time() + 0.2
    for driver in drivers:
        driver.start(folder, start, beat_s, stale_s=60)
    said = [driver.says() for driver in drivers]
    (winner,) = [place for place, line in enumerate(said) if line == "works"]
    for line in said[:winner] + said[winner + 1 :]:
        assert f"is being worked on by process {drivers[winner].process.pid} on" in line
    assert drivers[winner].end() == "ended"


# ---------------------------------------------------------------- the same instant


def test_of_drivers_that_start_in_the_same_instant_one_works(pool, tmp_path):
    for number in range(10):
        race(pool, UPath(tmp_path / str(number)), beat_s=BEAT_S)


def test_so_it_is_in_an_object_store(pool, tmp_path):
    for number in range(4):
        race(pool, locate(f"s3://lab/{tmp_path.name}/{number}"), beat_s=1.0)


def test_so_it_is_in_one_that_ignores_conditions(pool, tmp_path):
    folder = locate(f"s3://lab/{tmp_path.name}/ignores")
    claim_of_dead_process(tmp_path / "sweep", machine="elsewhere", pid=1)
    other = (tmp_path / "sweep" / CLAIM).read_bytes()
    pool[0].start(folder, beat_s=20, stale_s=200)
    eventually((folder / CLAIM).exists)
    write_whole(folder / CLAIM, other)  # at the same moment, and later than ours
    time.sleep(7)
    write_whole(folder / CLAIM, other + b"\n")  # a sign of life
    assert "is being worked on by process 1 on" in pool[0].says()


@pytest.mark.parametrize("where", ["memory:/{}", "{}"])
def test_who_writes_last_has_the_claim(where, tmp_path):
    claim_of_dead_process(tmp_path / "sweep")
    folder = UPath(where.format(tmp_path / "sweep"))
    content = (tmp_path / "sweep" / CLAIM).read_bytes()
    other = content.replace(b'"machine": "', b'"machine": "not ')
    writers = [
        threading.Timer(0.2, (folder / CLAIM).write_bytes, [other]),
        threading.Timer(1.5, (folder / CLAIM).write_bytes, [other + b"\n"]),  # a sign of life
    ]
    for writer in writers:
        writer.start()
    with (
        pytest.raises(UserError, match="is being worked on by process"),
        sole_driver(folder, heartbeat_s=2.5),
    ):
        pass
    for writer in writers:
        writer.join()


def test_so_it_is_when_all_find_the_claim_of_a_dead_driver(pool, tmp_path):
    for number in range(4):
        claim_of_dead_process(tmp_path / str(number))
        race(pool, UPath(tmp_path / str(number)), beat_s=2.5)


# ---------------------------------------------------------------- a driver at work


def test_a_second_driver_is_told_who_works_and_changes_nothing(pool, tmp_path):
    folder = UPath(tmp_path / "masking-1234")
    first, second, _ = pool
    first.start(folder)
    assert first.says() == "works"
    before = claim_of(folder)
    second.start(folder)
    host, since = before["host"], before["started"][:19]
    assert second.says() == (
        f"error: {folder} is being worked on by process {first.process.pid} on {host} "
        f"(started {since} UTC). Wait until it has ended, or stop it, and run the same command "
        "again."
    )
    eventually(lambda: claim_of(folder)["heartbeat"] > before["heartbeat"])
    assert claim_of(folder) | {"heartbeat": ""} == before | {"heartbeat": ""}
    assert first.end() == "ended"
    second.start(folder)
    assert second.says() == "works"
    assert second.end() == "ended"


def test_what_is_left_of_a_driver_that_changed_nothing_is_nothing(tmp_path):
    folder = UPath(tmp_path / "sweeps" / "masking-1234")
    with pytest.raises(ZeroDivisionError), sole_driver(folder):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with sole_driver(folder):
        (folder / "sweep.json").write_text("{}")
    assert [path.name for path in folder.iterdir()] == ["sweep.json"]


def test_an_object_store_holds_no_claim_after_the_end(tmp_path):
    folder = UPath(f"memory://{tmp_path.name}/sweep")
    for _ in range(2):
        with sole_driver(folder, heartbeat_s=BEAT_S):
            assert (folder / CLAIM).exists()
        assert not (folder / CLAIM).exists()


def test_storage_that_is_away_for_a_while_ends_no_driver(pool, tmp_path):
    folder, away = UPath(tmp_path / "sweep"), tmp_path / "away"
    first, second, _ = pool
    first.start(folder)
    assert first.says() == "works"
    folder.rename(away)
    time.sleep(5 * BEAT_S)
    assert not folder.exists()
    away.rename(folder)
    before = claim_of(folder)
    eventually(lambda: claim_of(folder) != before)
    (folder / CLAIM).unlink()  # some storages come back without their last writes
    eventually((folder / CLAIM).exists)
    second.start(folder)
    assert f"is being worked on by process {first.process.pid} on" in second.says()
    assert first.end() == "ended"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(UserError, match=r"file/sweep can't be written to \(.*Not a directory"),
        sole_driver(UPath(tmp_path / "file" / "sweep")),
    ):
        pass


# ---------------------------------------------------------------- claims left behind


def test_the_claim_of_a_killed_driver_is_taken_over_at_once(tmp_path):
    folder, driver = UPath(tmp_path), Driver()
    driver.start(folder)
    assert [driver.says(), driver.says()] == ["ready", "works"]
    driver.kill()
    assert claim_of(tmp_path)["pid"] == driver.process.pid
    assert acquired_after(folder, stale_s=600) < 10


def test_a_driver_that_hangs_is_taken_over_and_one_of_the_two_ends_when_it_comes_to(pool, tmp_path):
    first, second, _ = pool
    first.start(UPath(tmp_path))
    assert first.says() == "works"
    with stopped(first):
        start = time.monotonic()
        second.start(UPath(tmp_path))
        assert second.says() == "works"
        assert time.monotonic() - start > STALE_S
    # The second ends if the first was stopped in the middle of a heartbeat, and writes it now.
    ready, _, _ = select.select([first.process.stdout, second.process.stdout], [], [], 60)
    ended, works = (first, second) if ready[0] is first.process.stdout else (second, first)
    said = ended.says()
    assert f"{tmp_path} was taken over by process {works.process.pid} on" in said
    assert said.endswith("Leave the sweep to that process.")
    assert claim_of(tmp_path)["pid"] == works.process.pid
    assert works.end() == "ended"


@pytest.mark.parametrize("name", ["host", "machine"])
def test_of_another_machine_only_a_claim_that_does_not_change_is_taken_over(name, tmp_path):
    claim_of_dead_process(tmp_path / "sweep", **{name: "elsewhere", "machine": "elsewhere"})
    assert acquired_after(UPath(tmp_path / "sweep")) > STALE_S


def test_a_number_that_another_process_has_by_now_only_delays(tmp_path):
    claim_of_dead_process(tmp_path / "sweep", pid=os.getpid())
    assert acquired_after(UPath(tmp_path / "sweep")) > STALE_S


def test_clocks_do_not_matter(pool, tmp_path):
    claim_of_dead_process(
        tmp_path / "sweep", machine="elsewhere", heartbeat="2999-01-01T00:00:00+00:00"
    )
    content = (tmp_path / "sweep" / CLAIM).read_text()
    assert acquired_after(UPath(tmp_path / "sweep")) > STALE_S
    (tmp_path / "sweep" / CLAIM).write_text(content.replace("2999", "1999"))
    pool[0].start(UPath(tmp_path / "sweep"))
    time.sleep(STALE_S / 2)
    (tmp_path / "sweep" / CLAIM).write_text(content.replace("2999", "1998"))  # a sign of life
    assert "is being worked on by process" in pool[0].says()


@pytest.mark.parametrize("content", [b"", b'{"host": "a"', b"[]", b'{"host": "a"}', b"\xff"])
def test_a_damaged_claim_is_taken_over_like_one_that_does_not_change(content, tmp_path):
    (tmp_path / CLAIM).write_bytes(content)
    assert acquired_after(UPath(tmp_path), stale_s=0.5) > 0.5
    assert list(tmp_path.iterdir()) == []


def claim_with(**changes: object) -> bytes:
    claim = {"host": "a", "machine": "b", "pid": 1, "id": "c", "started": "d", "heartbeat": "e"}
    return json.dumps(claim | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        *(claim_with(pid=pid) for pid in ("1", None, True, -1, 0, 1.5, [1])),
        *(claim_with(**{name: 5}) for name in ("host", "machine", "id", "started", "heartbeat")),
        claim_with(more=1),
        b"[" * 100_000,
        bytes(range(256)) * 100,
    ],
)
def test_so_is_one_of_another_shape(content, tmp_path):
    (tmp_path / CLAIM).write_bytes(content)
    assert acquired_after(UPath(tmp_path), stale_s=0.5) > 0.5
    assert list(tmp_path.iterdir()) == []


def test_a_process_number_that_no_system_counts_to_is_dead(tmp_path):
    claim_of_dead_process(tmp_path / "sweep", pid=2**70)
    assert acquired_after(UPath(tmp_path / "sweep"), stale_s=600) < 10


@pytest.mark.parametrize("to", ["nowhere/else", CLAIM])
def test_a_link_that_leads_to_no_file_is_taken_over_like_a_damaged_claim(to, tmp_path):
    (tmp_path / CLAIM).symlink_to(tmp_path / to)
    assert acquired_after(UPath(tmp_path), stale_s=0.5) > 0.5
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_claim_is_read_and_not_written_through(tmp_path):
    claim_of_dead_process(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere" / CLAIM).read_bytes()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / CLAIM).symlink_to(tmp_path / "elsewhere" / CLAIM)
    assert acquired_after(UPath(tmp_path / "sweep"), stale_s=600) < 10
    assert (tmp_path / "elsewhere" / CLAIM).read_bytes() == before
    assert list((tmp_path / "sweep").iterdir()) == []


def test_something_else_under_the_name_of_the_claim_is_one_line_at_once(tmp_path):
    def pipe(path: Path) -> None:
        os.mkfifo(path)

    def socket_file(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            os.chdir(path.parent)
            listener.bind(path.name)

    here = Path.cwd()
    for number, make in enumerate((Path.mkdir, pipe, socket_file)):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder / CLAIM)
        os.chdir(here)
        start = time.monotonic()
        with pytest.raises(UserError) as error, sole_driver(UPath(folder)):
            pass
        assert time.monotonic() - start < 5
        assert str(folder) in str(error.value)
        assert "\n" not in str(error.value)
        assert [path.name for path in folder.iterdir()] == [CLAIM]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_claim_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / CLAIM).write_bytes(claim_with())
    (tmp_path / CLAIM).chmod(0)
    with (
        pytest.raises(UserError, match=r"can't be read .*Permission"),
        sole_driver(UPath(tmp_path)),
    ):
        pass


def test_a_claim_that_is_given_up_while_it_is_watched_is_free(pool, tmp_path):
    claim_of_dead_process(tmp_path / "sweep", machine="elsewhere")
    pool[0].start(UPath(tmp_path / "sweep"), stale_s=600)
    time.sleep(3 * BEAT_S)
    (tmp_path / "sweep" / CLAIM).unlink()
    assert pool[0].says() == "works"
    assert pool[0].end() == "ended"


def test_a_claim_that_is_lost_while_nothing_may_interrupt_stops_the_driver_at_its_next_look(
    tmp_path,
):
    done = []

    def drive() -> None:
        with sole_driver(UPath(tmp_path), heartbeat_s=0.05) as claim:
            claim.check()
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # as while Ray shuts down
            path, other = tmp_path / "driver.json", tmp_path / "other.json"
            holder = json.loads(path.read_text()) | {"id": "other", "pid": 1, "host": "elsewhere"}
            deadline = time.monotonic() + 30
            while claim.lost_to is None:
                assert time.monotonic() < deadline
                other.write_text(json.dumps(holder))
                other.replace(path)
                time.sleep(0.02)
            done.append("trained")
            claim.check()
            done.append("written")

    with pytest.raises(UserError, match="was taken over by process 1 on elsewhere"):
        drive()
    assert done == ["trained"]
