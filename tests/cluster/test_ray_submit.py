"""A cluster by SSH on this machine: up, a sweep that loses a node, its evaluation, a job, down.

The cluster file is clusters/lab.yaml, changed where this machine has no network and others run Ray
beside us: packages come from this environment, and `ray stop` ends our own processes alone.
"""

from __future__ import annotations

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
from typing import Any

import psutil
import pytest
import yaml

from ssense.storage import locate
from sweeps.engine.ledger import Ledger, find_ledger
from sweeps.engine.race import POLICIES
from sweeps.engine.reproduce import compare, sweep_dataset, train_again
from sweeps.engine.search import Search

REPOSITORY = Path(__file__).parents[2]
STORAGE = "s3://lab/cluster"
SWEEP = {
    "SSENSE_SYNTHETIC_SENTENCES": "60",
    "SSENSE_SYNTHETIC_ELECTRODES": "5",
    "SSENSE_MAX_EPOCHS": "3",
    "SSENSE_CONFIGURATIONS": "1",
    "SSENSE_RATIOS": "0.5",
    "SSENSE_SEEDS": "0 1",
}
N_CELLS = 8
PROJECT = (
    *("ssense", "sweeps", "analysis", "clusters", "pyproject.toml", "requirements.lock"),
    *("README.md", "LICENSE", ".gitignore"),
)
OTHER_NODE = "127.0.0.2"
NEEDED = ("/usr/sbin/sshd", "ssh", "ssh-keygen", "rsync")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason="needs sshd, ssh and rsync"),
]

SSHD = """
ListenAddress 127.0.0.1:{port}
HostKey {root}/hostkey
AuthorizedKeysFile {root}/userkey.pub
PidFile {root}/sshd.pid
SetEnv HOME={root}/home
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""

# Ray's own `ray stop` ends every Ray process of the machine, whosever it is.
RAY = """#!{python}
import os, sys
import psutil
if sys.argv[1:2] == ["stop"]:
    ours = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "{root}/ray" in " ".join(process.info["cmdline"] or [])
    ]
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in ours:
            try:
                end(process)
            except psutil.Error:
                pass
        _, ours = psutil.wait_procs(ours, timeout=10)
else:
    os.execv("{python}", ["{python}", "-m", "ray.scripts.scripts", *sys.argv[1:]])
"""

CONNECT = """#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/{port}
cat <&3 &
cat >&3
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def own_address() -> str:
    """The address that Ray puts in the place of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect(("192.0.2.1", 9))  # nothing is sent
        return route.getsockname()[0]


@dataclass
class Loopback:
    """A cluster on this machine and all that it consists of, in a folder of its own.

    Attributes:
        root: of the folder; short, since sockets lie in it.
        name: of the cluster.
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
    def home(self) -> Path:
        return self.root / "home"

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
        for folder in (self.home, self.root / "bin", self.root / "laptop" / ".ray"):
            folder.mkdir(parents=True)
        (self.home / ".bashrc").touch()
        for name in PROJECT:
            source, target = REPOSITORY / name, self.project / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        for key in ("hostkey", "userkey"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.root / key)]
            subprocess.run(command, check=True)
        token = self.root / "laptop" / ".ray" / "auth_token"
        token.write_text("a-secret-of-this-test-alone-0123456789")
        token.chmod(0o600)
        python = self.home / "ssense-venv" / "bin" / "python"
        places = {"root": self.root, "port": self.ssh_port, "python": python}
        (self.root / "sshd_config").write_text(SSHD.format(**places))
        for name, script in (("ray", RAY), ("connect", CONNECT)):
            (self.root / "bin" / name).write_text(script.format(**places))
            (self.root / "bin" / name).chmod(0o755)
        self.file.write_text(yaml.safe_dump(self.config(variables)))

    def config(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """The laboratory's file, for this machine."""
        config = yaml.safe_load((REPOSITORY / "clusters" / "lab.yaml").read_text())
        config["cluster_name"] = self.name
        config["provider"] = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
        config["min_workers"] = config["max_workers"] = 0
        config["auth"] = {
            "ssh_user": "root",
            "ssh_private_key": str(self.root / "userkey"),
            "ssh_proxy_command": str(self.root / "bin" / "connect"),
        }
        token = str(self.root / "laptop" / ".ray" / "auth_token")
        config["file_mounts"] = {"~/ssense-source": str(self.project), "~/.ray/auth_token": token}
        config["setup_commands"] = [
            self.without_network(command, variables) for command in config["setup_commands"]
        ]
        start = (
            f"--temp-dir={self.root}/ray --num-cpus=1 --object-store-memory=200000000 "
            f"--dashboard-port={self.dashboard_port} --dashboard-agent-listen-port={free_port()}"
        )
        config["head_start_ray_commands"] = [
            command.replace("--port=6379", f"--port={self.ray_port} {start}")
            for command in config["head_start_ray_commands"]
        ]
        return config

    def without_network(self, command: str, variables: Mapping[str, str]) -> str:
        """A set-up command that takes packages and uv from this environment."""
        binaries = Path(sys.executable).parent
        if "ssense.env" in command and "cat" in command:
            kept = [
                line
                for line in command.splitlines()
                if not line.strip().startswith(("export SSENSE_STORAGE", "export SSENSE_REC"))
            ]
            values = variables | {"RAY_ADDRESS": self.ray_address}
            values = {name: f"'{value}'" for name, value in values.items()}
            values["PATH"] = f'"{self.root}/bin:$PATH"'
            lines = [f"export {name}={value}" for name, value in values.items()]
            return "\n".join([*kept[:-1], *lines, kept[-1], ""])
        if "install.sh" in command:
            return f"mkdir -p ~/.local/bin; ln -sf {binaries / 'uv'} ~/.local/bin/uv"
        if "uv venv" in command:
            make = f"{sys.executable} -m venv --without-pip ~/ssense-venv"
            return f"test -x ~/ssense-venv/bin/python || {make}"
        if "pip sync" in command:
            packages = Path(pytest.__file__).parents[1]
            place = f"~/ssense-venv/lib/{packages.parent.name}/site-packages"
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

    def submit(self, script: str | Path) -> str:
        return self.ray("submit --no-config-cache", str(self.file), str(script))

    def add_node(self) -> None:
        """Start a second node, as on another machine of the laboratory."""
        command = (
            f"source ~/.bashrc; ray start --address={self.ray_address} --num-cpus=1 "
            f"--node-ip-address={OTHER_NODE} --object-store-memory=200000000"
        )
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        subprocess.run(["bash", "-c", command], env=environment, check=True, capture_output=True)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this cluster, the SSH server left out."""
        found = []
        for process in psutil.process_iter(["pid"]):
            with suppress(psutil.Error):
                if process.environ().get("HOME") == str(self.home):
                    found.append(process)
        return found

    def kill_node(self) -> None:
        """End the second node as a machine that is switched off."""
        raylets = [process for process in self.processes() if process.name() == "raylet"]
        place = f"node_ip_address={OTHER_NODE}"
        (raylet,) = [process for process in raylets if place in str(process.cmdline())]
        for process in [raylet, *raylet.children(recursive=True)]:
            with suppress(psutil.Error):
                process.kill()


def eventually(condition: Callable[[], object], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@pytest.fixture(scope="module")
def cluster(s3) -> Iterator[Loopback]:
    """The cluster after `ray up`, with a second node; afterwards nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="ssc") as folder:
        loopback = Loopback(Path(folder))
        loopback.prepare(SWEEP | {"SSENSE_STORAGE": STORAGE} | s3.environment)
        Path("/run/sshd").mkdir(exist_ok=True)
        server = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-f", str(loopback.root / "sshd_config")]
        )
        try:
            loopback.ray("up --yes --no-config-cache", str(loopback.file))
            loopback.add_node()
            yield loopback
        finally:
            for process in loopback.processes():
                with suppress(psutil.Error):
                    process.kill()
            server.terminate()
            server.wait()
            for state in Path("/tmp/ray").glob(f"cluster-{loopback.name}.*"):
                state.unlink()


@pytest.fixture(scope="module")
def swept(cluster) -> str:
    """What `ray submit` printed, though a node was lost on the way."""
    storage = locate(STORAGE)
    with cluster.started("submit --no-config-cache", str(cluster.file), "sweeps/masking.py") as job:

        def two_cells() -> bool:
            assert job.poll() is None, job.stdout.read()
            return len(list(storage.glob("sweeps/*/cells/*/record.json"))) >= 2

        assert eventually(two_cells, 600)
        cluster.kill_node()
        shown, _ = job.communicate()
    print(shown)
    assert job.returncode == 0, shown
    return shown


@pytest.fixture
def ledger(swept) -> Ledger:  # noqa: ARG001
    return find_ledger(locate(STORAGE))


def test_the_sweep_says_readably_how_far_it_is_and_what_came_out(swept):
    assert "Sweep masking-" in swept
    assert "* best of its family" in swept
    assert "Next: analysis/test_evaluation.py, submitted as this was" in swept
    assert re.search(r"^  1/8  \S.* seed \d +Recall@10", swept, re.M)
    shown = swept.partition("No --recording given")[2].partition("Next:")[0]
    assert "\x1b" not in shown  # no live display where the output is kept
    assert "Traceback" not in swept
    assert "secret-of-this-test" not in swept


def test_its_results_are_those_of_a_sweep_that_lost_no_node(ledger):
    records, dataset = ledger.records(), sweep_dataset(ledger)
    assert len(records) == N_CELLS
    undisturbed = Search(ledger.sweep(), POLICIES[ledger.policy()])
    while cell := undisturbed.next_cell():
        undisturbed.finish(records[undisturbed.signature(cell)])
    assert undisturbed.rows == ledger.rows()
    assert undisturbed.left() == 0
    for record in list(records.values())[:: N_CELLS // 4]:
        again = train_again(ledger, record, dataset, threads=1)
        assert compare(record, ledger.encoder(record), again).exact


def test_the_test_evaluation_is_submitted_in_the_same_way(cluster, swept, ledger):  # noqa: ARG001
    shown = cluster.submit("analysis/test_evaluation.py")
    assert "random retrieval" in shown
    assert (ledger.folder / "evaluation" / "table.md").exists()


def test_a_job_takes_the_whole_repository_along(cluster, ledger):
    before = ledger.records()
    address = f"http://127.0.0.1:{cluster.dashboard_port}"
    flags = ["--address", address, "--working-dir", ".", "--"]
    command = ["python", "sweeps/masking.py", "--seeds", "0", "1", "2"]
    shown = cluster.ray("job submit", *flags, *command)
    assert "succeeded" in shown
    after = ledger.records()
    assert len(after) == N_CELLS + 4
    assert before.items() <= after.items()


def test_a_file_that_is_not_the_installed_one_is_refused_with_what_to_do(cluster, swept, tmp_path):  # noqa: ARG001
    edited = tmp_path / "masking.py"
    edited.write_text((cluster.project / "sweeps" / "masking.py").read_text() + "# edited\n")
    shown = cluster.ray("submit --no-config-cache", str(cluster.file), str(edited), check=False)
    assert "is not the sweeps/masking.py that is installed on" in shown
    assert "Run `ray up --no-restart`" in shown


def test_without_the_token_nobody_gets_in(cluster, swept):  # noqa: ARG001
    script = (
        "import ray, sys; "
        f"ray.init({cluster.ray_address!r}, _node_ip_address='127.0.0.1', log_to_driver=False)"
    )
    wrong = {"RAY_AUTH_TOKEN": "a-wrong-token-0123456789-0123456789", "HOME": str(cluster.root)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=cluster.environment | wrong,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "uthenticat" in done.stderr or "token" in done.stderr


def test_what_is_taken_down_is_gone(cluster, swept):  # noqa: ARG001
    cluster.ray("down --yes", str(cluster.file))
    assert eventually(lambda: not cluster.processes(), 60), [
        process.cmdline() for process in cluster.processes()
    ]
