"""The Ray that a sweep starts: whom it lets in, which cores it takes, and what it leaves behind."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest

from ssense.engine.work import own_ray

REPOSITORY = Path(__file__).parents[3]
NOBODY = 65534

OWNER = """
import json, os, sys
from dataclasses import dataclass

cores = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(cores)})
# Ray's processes may use all: on one core of a busy machine they are not up within its 30 s.
os.register_at_fork(after_in_child=lambda: os.sched_setaffinity(0, cores))

import psutil, ray, signal
if os.environ.get("INTERRUPTED_AT_FORK"):  # where Python drops what is raised
    os.register_at_fork(after_in_parent=lambda: signal.raise_signal(signal.SIGINT))
from ssense.cli.command import run_command
from ssense.engine.work.own_ray import own_home
from ssense.training.process import slots_here
from ssense.engine.work.workers import Resources, running_ray

@dataclass
class Options:
    pass

def listening():
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield connection.laddr.ip, connection.laddr.port

def main(options):
    print("starting", flush=True)
    with running_ray():
        ray.get(ray.remote(lambda: 1).remote())
        about = {
            "address": ray.get_runtime_context().gcs_address,
            "home": str(own_home()),
            "slots": [slots_here(1, 0), Resources.of_cell(1, 0).slots()],
            "listening": list(listening()),
        }
        print(json.dumps(about), flush=True)
        sys.stdin.readline()

run_command(Options, main)
"""

# As root it shows that what it tries does work with the token, and then tries as somebody else.
INTRUDER = """
import http.client, json, os, socket, sys
from pathlib import Path
from ray._raylet import AuthenticationTokenLoader, Config, GcsClient

about, owner, user = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
environment = Path("/proc", owner, "environ")

def use(mode, token):
    os.environ.update(RAY_AUTH_MODE=mode, RAY_AUTH_TOKEN=token)
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()

def outcome(attempt):
    try:
        return f"done: {attempt()}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def ask():
    keys = GcsClient(address=about["address"]).internal_kv_keys(b"", b"cluster", timeout=10)
    return len(keys)

def post(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/get_or_create_runtime_env", body=b"")
    return connection.getresponse().status

ports = [port for ip, port in about["listening"]]
variables = dict(each.split("=", 1) for each in environment.read_text().split("\\0") if "=" in each)
use("token", variables["RAY_AUTH_TOKEN"])
found = {"with the token": outcome(ask)}
os.setgroups([])
os.setgid(user)
os.setuid(user)
use("disabled", "")
found["without"] = outcome(ask)
use("token", "0" * 64)
found["with another"] = outcome(ask)
found["posts"] = [outcome(lambda: post(port)) for port in ports]
found["folder"] = outcome(lambda: os.listdir(about["home"]))
found["secret"] = outcome(environment.read_text)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Owner:
    """A process that runs a Ray of its own, on one core and with a long temporary folder.

    Attributes:
        about: What it says of its Ray.
        folder: Its home folder and its temporary one.
    """

    process: subprocess.Popen[str]
    about: dict[str, Any]
    folder: Path

    def server(self, name: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if child.name() == name)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code and its errors."""
        self.process.wait()  # before its input is closed, which would end it too
        _, errors = self.process.communicate()
        return self.process.returncode, errors


def start(folder: Path, more: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen[str]:
    temporary = folder / ("as-batch-systems-have-it-" * 5)
    temporary.mkdir(parents=True)
    changed = {"HOME": str(folder), "TMPDIR": str(temporary), "PYTHONPATH": str(REPOSITORY)}
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env=kept | changed | {"RAY_AUTH_MODE": "disabled"} | more,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def owner(tmp_path_factory) -> Iterator[Owner]:
    folder = tmp_path_factory.mktemp("owner")
    process = start(folder)
    assert process.stdout.readline() == "starting\n"
    said = process.stdout.readline()
    assert said, process.stderr.read()
    yield Owner(process, json.loads(said), folder)
    process.kill()
    process.communicate()


def processes_in(home: str) -> list[str]:
    """Command lines that name the folder of a Ray, of processes that run."""
    found = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return [" ".join(words) for words in found if any(home in word for word in words)]


def test_it_takes_the_cores_that_the_process_may_use(owner):
    assert owner.about["slots"] == [1, 1]


def test_it_listens_on_loopback_alone(owner):
    addresses = [
        ipaddress.ip_address(ip.removeprefix("::ffff:")) for ip, _ in owner.about["listening"]
    ]
    assert len(addresses) > 3
    assert all(address.is_loopback for address in addresses)


def test_its_sockets_lie_in_a_short_folder_that_nobody_else_enters(owner):
    home = Path(owner.about["home"])
    assert home.parent in (Path("/tmp"), Path("/var/tmp"))
    assert home.stat().st_mode & 0o777 == 0o700
    assert list(home.glob("r/session_*/sockets/*"))


@pytest.mark.skipif(os.getuid() != 0, reason="takes root to act as another user")
def test_another_user_of_the_machine_gets_no_answer_from_it(owner):
    gcs = str(owner.server("gcs_server").pid)
    shown = subprocess.run(
        [sys.executable, "-c", INTRUDER, json.dumps(owner.about), gcs, str(NOBODY)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = json.loads(shown)
    assert found["with the token"].startswith("done: ")
    for token in ("without", "with another"):
        assert found[token].startswith("AuthenticationError: "), found
    assert "done: 401" in found["posts"] or "done: 403" in found["posts"]
    assert "done: 200" not in found["posts"]
    assert found["folder"].startswith("PermissionError: ")
    assert found["secret"].startswith("PermissionError: ")


def test_the_secret_is_on_no_command_line_and_in_no_file(owner):
    environment = Path("/proc", str(owner.server("raylet").pid), "environ").read_text()
    (token,) = [
        each.removeprefix("RAY_AUTH_TOKEN=")
        for each in environment.split("\0")
        if each.startswith("RAY_AUTH_TOKEN=")
    ]
    assert len(token) == 64
    assert not processes_in(token)
    files = [path for path in Path(owner.about["home"]).rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if token.encode() in path.read_bytes()]
    assert not (owner.folder / ".ray").exists()


def test_its_death_is_one_line_and_leaves_nothing(owner):  # the last of those that need it alive
    raylet = owner.server("raylet")
    before = time.monotonic()
    raylet.kill()
    code, errors = owner.end()
    assert time.monotonic() - before < 20
    assert code == 2
    assert errors == (
        f"error: Ray's raylet (process {raylet.pid}) died: killed, or out of memory. Free memory, "
        "or lower `cpus_per_cell` or `batch_size`, and run the same command again: what is done "
        "is kept.\n"
    )
    assert not Path(owner.about["home"]).exists()
    assert not processes_in(owner.about["home"])
    (temporary,) = owner.folder.glob("as-batch-systems-have-it-*")
    assert not list(temporary.iterdir())


def test_an_interrupt_while_it_starts_is_one_line_and_leaves_nothing(tmp_path):
    process = start(tmp_path)
    assert process.stdout.readline() == "starting\n"
    homes: set[str] = set()
    while not homes:  # its guard comes first
        for child in psutil.Process(process.pid).children():
            homes |= {word for word in child.cmdline() if own_ray.PREFIX in word}
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    shown, errors = process.communicate()
    (home,) = homes
    assert (process.returncode, shown, errors) == (
        130,
        "",
        "interrupted: run the same command again to continue\n",
    )
    assert not Path(home).exists()
    assert not processes_in(home)


def test_an_interrupt_that_python_drops_at_a_fork_is_not_lost(tmp_path):
    process = start(tmp_path, {"INTERRUPTED_AT_FORK": "1"})
    shown, errors = process.communicate("")
    assert (process.returncode, shown) == (130, "starting\n")
    assert errors.endswith("interrupted: run the same command again to continue\n")
    (temporary,) = tmp_path.glob("as-batch-systems-have-it-*")
    assert not list(temporary.iterdir())


HOLDER = """
import subprocess, sys
from ssense.engine.work.own_ray import _new_home
home, lock = _new_home()
sleeper = [sys.executable, "-c", "import time; time.sleep(600)", f"{home}/r"]
subprocess.Popen(sleeper, stdout=subprocess.DEVNULL)
print(home, flush=True)
sys.stdin.readline()
"""


def test_folders_of_the_dead_are_removed_at_the_next_start_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/var/tmp")
    holders = [
        subprocess.Popen(
            [sys.executable, "-c", HOLDER],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    dead, alive = [holder.stdout.readline().strip() for holder in holders]
    another = tmp_path / "session_of_another_program"
    another.mkdir()
    link = Path(f"{alive}-link")
    link.symlink_to(another)
    try:
        holders[0].kill()
        holders[0].wait()
        own_ray._remove_abandoned(Path("/var/tmp"))
        assert not Path(dead).exists()
        assert not processes_in(dead)
        assert Path(alive).exists()
        assert processes_in(alive)
        assert another.exists()
    finally:
        link.unlink()
        holders[1].communicate("\n")
        own_ray._remove_abandoned(Path("/var/tmp"))
    assert not Path(alive).exists()


@pytest.fixture
def guard_folder(monkeypatch) -> Iterator[tuple[Path, int]]:
    monkeypatch.setenv("RAY_TMPDIR", "/var/tmp")
    home, lock = own_ray._new_home()
    yield home, lock
    own_ray._remove_abandoned(Path("/var/tmp"))


def test_a_guard_that_cannot_be_started_is_one_line_and_leaves_nothing(guard_folder, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with (
        pytest.raises(own_ray.UserError, match="Ray does not start on this machine"),
        own_ray._guarded(*guard_folder),
    ):
        pass
    assert not guard_folder[0].exists()


def test_a_guard_that_dies_is_said_and_its_work_is_done(guard_folder):
    with own_ray._guarded(*guard_folder) as guard:
        own_ray._check_guard(guard)
        guard.kill()
        guard.wait()
        with pytest.raises(own_ray.UserError, match=r"ended early \(exit code -9\)"):
            own_ray._check_guard(guard)
    assert not guard_folder[0].exists()


def test_a_guard_finds_packages_that_its_driver_has_from_its_path_alone(
    guard_folder, tmp_path, monkeypatch
):
    (tmp_path / "psutil.py").write_text("raise SystemExit(7)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with own_ray._guarded(*guard_folder) as guard:
        assert guard.wait() == 7
    assert not guard_folder[0].exists()


def test_without_a_ray_of_this_process_there_is_no_home(monkeypatch):
    monkeypatch.setattr(own_ray.ray_worker, "_global_node", None)  # as of a client
    assert own_ray.own_home() is None


def test_no_short_folder_is_one_line_with_advice(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 200)
    monkeypatch.setattr(os, "access", lambda *_: False)  # /tmp too
    with pytest.raises(
        own_ray.UserError, match=r"longer than the \d+ bytes.* Set RAY_TMPDIR to a folder"
    ):
        own_ray._new_home()
