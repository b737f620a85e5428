"""A cluster by SSH on this machine: up, a sweep that loses a node, its evaluation, a job, down.

The cluster file is clusters/lab.yaml, changed where this machine has no network and others run Ray
beside us: packages come from this environment, and `ray stop` ends our own processes alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
import psutil
import pytest
import ray
import torch
import yaml

from ssense.engine.core.cell import label
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.files.storage import locate

REPOSITORY = Path(__file__).parents[2]
STORAGE, UNDISTURBED = "s3://lab/cluster", "s3://lab/undisturbed"
SWEEP = {
    "SSENSE_SYNTHETIC_SENTENCES": "60",
    "SSENSE_SYNTHETIC_ELECTRODES": "5",
    "SSENSE_MAX_EPOCHS": "5",  # so long that a machine can be lost while it trains
    "SSENSE_CONFIGURATIONS": "1",
    "SSENSE_RATIOS": "0.5",
    "SSENSE_SEEDS": "0 1 2",
}
N_CELLS = 12
HEAD, NODE = "127.0.0.1", "127.0.0.2"
NEEDED = ("/usr/sbin/sshd", "ssh", "ssh-keygen", "rsync")
MISSING = [name for name in NEEDED if shutil.which(name) is None]
if os.geteuid() != 0:
    MISSING.append("to run as root, for sshd")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}"),
]

Found = TypeVar("Found")

# One server, two machines: each address has a home of its own.
SSHD = """
Port {port}
ListenAddress {head}
ListenAddress {node}
HostKey {root}/hostkey
AuthorizedKeysFile {root}/userkey.pub
PidFile {root}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
Match LocalAddress {head}
  SetEnv HOME={root}/head
Match LocalAddress {node}
  SetEnv HOME={root}/node
"""

# Ray knows no port but 22; and ssh would look for the key that Ray put into the head's home in the
# home that the system knows.
SSH = """#!/bin/bash
exec {ssh} -p {port} -i {root}/userkey "$@"
"""

# Ray's own `ray stop` ends every Ray process of the machine, whosever it is.
RAY = """#!/usr/bin/env python
import os, sys
import psutil
if sys.argv[1:2] == ["stop"]:
    def is_ours(process):
        try:
            line = " ".join(process.cmdline())
            with open(f"/proc/{{process.pid}}/environ", "rb") as variables:
                ours = os.environb[b"HOME"] + b"/" in variables.read()
            return ours and any(name in line for name in ("{root}/ray", "ray::", "ray.util"))
        except (psutil.Error, OSError):
            return False
    ours = [process for process in psutil.process_iter() if is_ours(process)]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in ours:
            try:
                end(process)
            except psutil.Error:
                pass
        _, ours = psutil.wait_procs(ours, timeout=5)
else:
    os.execvp("python", ["python", "-m", "ray.scripts.scripts", *sys.argv[1:]])
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def own_address() -> str:
    """The address that Ray puts in the place of 127.0.0.1."""
    return ray.util.get_node_ip_address()


@dataclass
class Loopback:
    """A cluster on this machine and all that it consists of, in a folder of its own.

    Attributes:
        root: The folder's path; short, since sockets lie in it.
    """

    root: Path
    ssh_port: int = field(default_factory=free_port)
    ray_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def ray_address(self) -> str:
        return f"{own_address()}:{self.ray_port}"

    @property
    def project(self) -> Path:
        """The project as it was when the test began: others may be editing it."""
        return self.root / "laptop" / "project"

    @property
    def file(self) -> Path:
        return self.root / "lab.yaml"

    @property
    def environment(self) -> dict[str, str]:
        """Of the laptop from which the cluster is used."""
        kept = {name: os.environ[name] for name in ("LANG", "TERM") if name in os.environ}
        return kept | {
            "HOME": str(self.root / "laptop"),
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_UP_enable_autoscaler_v2": "0",
        }

    def prepare(self, variables: Mapping[str, str]) -> None:
        """Write keys, server configuration, commands, homes and the cluster file."""
        for place in ("head", "node", "bin", "laptop/.ray", "laptop/project"):
            (self.root / place).mkdir(parents=True)
        for key in ("hostkey", "userkey"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / key)]
            subprocess.run(command, check=True)
        token = self.root / "laptop" / ".ray" / "auth_token"
        token.write_text("a-secret-of-this-test-alone-0123456789")
        token.chmod(0o600)
        places = {"root": self.root, "port": self.ssh_port, "head": HEAD, "node": NODE}
        (self.root / "sshd_config").write_text(SSHD.format(**places))
        for name, script in (("ray", RAY), ("ssh", SSH)):
            (self.root / "bin" / name).write_text(script.format(**places, ssh=shutil.which("ssh")))
            (self.root / "bin" / name).chmod(0o755)
        self.file.write_text(yaml.safe_dump(self.config(variables)))

    def config(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """The laboratory's file, for this machine; its file mounts are copied to the laptop."""
        config = yaml.safe_load((REPOSITORY / "clusters" / "lab.yaml").read_text())
        config["cluster_name"] = self.name
        config["provider"] = {"type": "local", "head_ip": HEAD, "worker_ips": [NODE]}
        config["min_workers"] = config["max_workers"] = 1
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.root / "userkey")}
        for target, source in config["file_mounts"].items():
            config["file_mounts"][target] = str(self.laptops(source))
        config["setup_commands"] = [
            self.without_network(command, variables) for command in config["setup_commands"]
        ]
        small = f"--temp-dir={self.root}/ray --num-cpus=1 --object-store-memory=200000000"
        dashboard = f"--dashboard-port={self.dashboard_port}"
        agent = f"--dashboard-agent-listen-port={free_port()}"
        places = {
            "--port=6379": f"--port={self.ray_port} {small} {dashboard} {agent}",
            # Ray puts this machine's address in the place of 127.0.0.1.
            "--address=$RAY_HEAD_IP:6379": (
                f"--address={self.ray_address} --node-ip-address={NODE} {small.partition(' ')[2]}"
            ),
        }
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            for found, changed in places.items():
                config[key] = [command.replace(found, changed) for command in config[key]]
        return config

    def laptops(self, source: str) -> Path:
        """Copy a part of the project to the laptop, where the token is already."""
        if source.startswith("~"):
            return self.root / "laptop" / source.removeprefix("~/")
        if (REPOSITORY / source).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / source, self.project / source, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / source, self.project / source)
        return self.project / source

    def without_network(self, command: str, variables: Mapping[str, str]) -> str:
        """A set-up command that takes packages and uv from this environment."""
        binaries = Path(sys.executable).parent
        venv = "~/ssense-venv-$HOSTNAME"
        if "cat > ~/ssense.env" in command:
            kept = [
                line
                for line in command.splitlines()
                if not line.strip().startswith(("export SSENSE_STORAGE", "export SSENSE_REC"))
            ]
            values = variables | {"RAY_ADDRESS": self.ray_address}
            # Ray would set up the lost machine again after half a minute, and both have one folder
            # of Ray's, which it clears then.
            values["AUTOSCALER_HEARTBEAT_TIMEOUT_S"] = "100000"
            values = {name: f"'{value}'" for name, value in values.items()}
            values["PATH"] = f'"{self.root}/bin:$PATH"'
            lines = [f"export {name}={value}" for name, value in values.items()]
            return "\n".join([*kept[:-1], *lines, kept[-1], ""])
        if "installer.lock" in command:
            return f"ln -sf {binaries / 'uv'} ~/ssense-uv-$HOSTNAME/bin/uv"
        if "pip || python3 -m venv" in command:
            return "mkdir -p ~/ssense-uv-$HOSTNAME/bin"
        if "uv venv" in command:
            make = f"{sys.executable} -m venv --without-pip {venv}"
            return f"test -x {venv}/bin/python || {make}"
        if "pip sync" in command:
            packages = Path(pytest.__file__).parents[1]
            place = f"{venv}/lib/{packages.parent.name}/site-packages"
            return f"echo {packages} > {place}/packages.pth"
        return command

    def ray(self, command: str, *arguments: str, check: bool = True) -> str:
        """Run a `ray` command as on a laptop; return all that it printed."""
        with self.started(command, *arguments) as process:
            shown, _ = process.communicate()
        print(shown)
        if check:
            assert process.returncode == 0, shown
        return shown

    def started(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a `ray` command; its output and errors are one."""
        return subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", *command.split(), *arguments],
            cwd=self.project,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, script: str | Path, check: bool = True) -> str:
        return self.ray("submit --no-config-cache", str(self.file), str(script), check=check)

    def processes(self, *machines: str) -> list[psutil.Process]:
        """Everything that runs on some machines, the SSH server left out."""
        homes = [f"{self.root}/{machine}/".encode() for machine in machines]
        found = set()
        for process in psutil.process_iter(["name"]):
            with suppress(OSError, psutil.Error):
                variables = Path(f"/proc/{process.pid}/environ").read_bytes()
                if any(home in variables for home in homes):
                    found.add(process)
                    if process.info["name"] == "raylet":
                        # They write their titles where these variables were.
                        found.update(process.children(recursive=True))
        return list(found)

    def kill_node(self) -> None:
        """End the second machine as if it were switched off: nothing on it outlives the rest."""
        for end in (psutil.Process.suspend, psutil.Process.kill):
            for process in self.processes("node"):
                with suppress(psutil.Error):
                    end(process)


def eventually(condition: Callable[[], Found], seconds: float) -> Found:
    """Wait until something holds; return what the condition then returned, or else last."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.5)  # looking takes a part of the two cores, too
    return found


@pytest.fixture(scope="module")
def cluster(s3) -> Iterator[Loopback]:
    """The cluster after `ray up`, which starts its second machine; afterwards nothing is left."""
    with tempfile.TemporaryDirectory(prefix="ssc") as folder:
        loopback = Loopback(Path(folder))
        # One database for all: making one takes longer than the sweep.
        view = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
        loopback.prepare(SWEEP | {"SSENSE_STORAGE": STORAGE} | view | s3.environment)
        Path("/run/sshd").mkdir(exist_ok=True)
        server = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-f", str(loopback.root / "sshd_config")]
        )
        try:
            loopback.ray("up --yes --no-config-cache", str(loopback.file))
            yield loopback
        finally:
            for process in loopback.processes("head", "node"):
                with suppress(psutil.Error):
                    process.kill()
            server.terminate()
            server.wait()
            for state in Path("/tmp/ray").glob(f"cluster-{loopback.name}.*"):
                state.unlink()


@dataclass(frozen=True)
class Lost:
    """A sweep that lost a machine.

    Attributes:
        shown: What `ray submit` printed.
        pid: Process of the worker that was training there.
    """

    shown: str
    pid: int


def trained_by() -> list[int]:
    """The worker of every cell that is done."""
    records = locate(STORAGE).glob("sweeps/*/cells/*/record.json")
    return [int(json.loads(path.read_text())["worker"].rpartition(":")[2]) for path in records]


@pytest.fixture(scope="module")
def swept(cluster) -> Lost:
    """The sweep, submitted; its second machine is switched off while it trains a cell."""
    with cluster.started("submit --no-config-cache", str(cluster.file), "sweeps/masking.py") as job:

        def until(condition: Callable[[], Found]) -> Found:
            def holds() -> Found:
                assert job.poll() is None, job.stdout.read()
                return condition()

            found = eventually(holds, 300)
            assert found
            return found

        def workers() -> list[psutil.Process]:
            known = {*trained_by()}
            return [each for each in cluster.processes("node") if each.pid in known]

        worker = until(workers)[0]
        worker.suspend()
        # Its last result may be on the way still. The other machine is only handed a second cell
        # after that has been taken in, and by then this one holds a cell for certain.
        enough = min(len(trained_by()) + 2, N_CELLS - 1)
        until(lambda: len(trained_by()) >= enough)
        cluster.kill_node()
        shown, _ = job.communicate()
    print(shown)
    assert job.returncode == 0, shown
    return Lost(shown, worker.pid)


@pytest.fixture(scope="module")
def undisturbed(cluster, swept) -> str:  # noqa: ARG001
    """What the same sweep printed in a storage of its own, as a job that nothing happens to.

    It starts from the same data.
    """
    store = boto3.client("s3")
    for found in store.list_objects_v2(Bucket="lab", Prefix="cluster/")["Contents"]:
        _, kind, *_ = found["Key"].split("/")
        if kind in ("recordings", "shards", "text"):
            copy = found["Key"].replace("cluster/", "undisturbed/", 1)
            store.copy({"Bucket": "lab", "Key": found["Key"]}, "lab", copy)
    address = f"http://127.0.0.1:{cluster.dashboard_port}"
    flags = ["--address", address, "--working-dir", ".", "--"]
    command = ["python", "sweeps/masking.py", "--storage", UNDISTURBED]
    return cluster.ray("job submit", *flags, *command)


@pytest.fixture
def ledger(swept) -> Ledger:  # noqa: ARG001
    return find_ledger(locate(STORAGE))


@pytest.fixture(scope="module")
def stranger(cluster) -> Iterator[subprocess.Popen[str]]:
    """Somebody with a token of his own, who tries for a while to get in."""
    script = (
        "import ray, sys; "
        f"ray.init({cluster.ray_address!r}, _node_ip_address='127.0.0.1', log_to_driver=False)"
    )
    wrong = {"RAY_AUTH_TOKEN": "a-wrong-token-0123456789-0123456789", "HOME": str(cluster.root)}
    command = [sys.executable, "-c", script]
    environment = cluster.environment | wrong
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process
        process.kill()


# First what needs no second machine, which is being set up meanwhile.


@pytest.mark.usefixtures("stranger")  # who begins to try
def test_a_file_that_is_not_the_installed_one_is_refused_with_what_to_do(cluster, tmp_path):
    edited = tmp_path / "masking.py"
    edited.write_text((cluster.project / "sweeps" / "masking.py").read_text() + "# edited\n")
    shown = cluster.submit(edited, check=False)
    assert "differs from the sweeps/masking.py that is installed on" in shown
    assert "Run `ray up --no-restart`" in shown


def test_without_the_token_nobody_gets_in(stranger):
    shown, _ = stranger.communicate()
    assert stranger.returncode != 0
    assert "uthenticat" in shown or "token" in shown


def test_the_sweep_says_readably_how_far_it_is_and_what_came_out(swept):
    shown = swept.shown
    assert "Sweep masking-" in shown
    assert "* best of its family" in shown
    assert "Next: analysis/evaluate.py, submitted in the same way" in shown
    assert re.search(r"^   1/12  seed \d +Recall@10 .* s  \S", shown, re.M)
    ours = shown.partition("No --recording given")[2].partition("Next:")[0]
    assert "\x1b" not in ours  # no live display where the output is kept, nor Ray's colours
    assert "Traceback" not in shown
    assert "secret-of-this-test" not in shown


def test_a_cell_whose_machine_is_lost_is_trained_on_another(swept, ledger):
    told = r"^  lost  (.+)  seed (\d+): its machine was lost; it is tried again\s*$"
    [(name, seed)] = re.findall(told, swept.shown, re.M)
    (record,) = [
        record
        for record in ledger.records().values()
        if record.seed == int(seed) and name == label("no masking", record.configuration)
    ]
    assert record.done
    assert not record.worker.endswith(f":{swept.pid}")


def test_its_results_are_those_of_a_sweep_that_lost_no_machine(ledger, undisturbed):
    assert "succeeded" in undisturbed
    assert "  lost  " not in undisturbed
    other = find_ledger(locate(UNDISTURBED))
    records, expected = ledger.records(), other.records()
    assert len(records) == N_CELLS
    assert records.keys() == expected.keys()
    assert ledger.description().rows == other.description().rows
    for name, record in records.items():
        assert record.done
        assert record.history == expected[name].history
        ours, theirs = ledger.weights(record), other.weights(expected[name])
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[tensor], theirs[tensor]) for tensor in ours)


def test_the_test_evaluation_is_submitted_in_the_same_way(cluster, swept, ledger):  # noqa: ARG001
    shown = cluster.submit("analysis/evaluate.py")
    assert "random retrieval" in shown
    assert (ledger.folder / "evaluation" / "table.md").exists()


def test_what_is_taken_down_is_gone(cluster, swept):  # noqa: ARG001
    cluster.ray("down --yes", str(cluster.file))
    assert eventually(lambda: not cluster.processes("head", "node"), 60), [
        process.cmdline() for process in cluster.processes("head", "node")
    ]
