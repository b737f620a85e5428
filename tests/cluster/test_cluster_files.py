"""The files in which clusters are described, held against what will read them."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config

from ssense.cli.flags import parse
from sweeps.masking import MaskingOptions

REPOSITORY = Path(__file__).parents[2]
LAUNCHED = ("cluster.yaml", "clusters/lab.yaml")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / name).read_text())


def commands(config: dict[str, Any]) -> list[str]:
    return [
        command
        for key, commands in config.items()
        if key.endswith("_commands")
        for command in commands
    ]


def exported(config: dict[str, Any]) -> dict[str, str]:
    """The environment that the set-up commands write for `ray submit` and the workers."""
    (script,) = [command for command in config["setup_commands"] if "ssense.env" in command][:1]
    shell = script.replace("cat > ~/ssense.env", "cat") + "\nexit 0"
    lines = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    show = f"{lines}\nenv"
    clean = {"HOME": "/home/someone", "PATH": os.environ["PATH"]}
    shown = subprocess.run(
        ["bash", "-c", show], env=clean, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home with a token; its folder is where `ray up` runs."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_text("key")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(REPOSITORY)
    return tmp_path


# ---------------------------------------------------------------- what Ray launches


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_takes_the_file(name):
    config = read(name)
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(Exception, match="unknown_key"):  # it does look at the names
        validate_config(prepare_config(config | {"unknown_key": 1}))


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_command_is_valid_shell(name):
    for command in commands(read(name)):
        within = f"true && ({command})"  # so it is run
        done = subprocess.run(["bash", "-n", "-c", within], capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), command


@pytest.mark.parametrize("name", LAUNCHED)
def test_the_environment_reaches_the_sweep_and_asks_for_this_cluster(name, tmp_path):
    environment = exported(read(name))
    environment["SSENSE_RECORDING"] = str(tmp_path)  # theirs is on the cluster's own disk
    assert environment["RAY_ADDRESS"] == "auto"
    assert environment["RAY_AUTH_MODE"] == "token"
    assert re.match(r"/home/someone/ssense-venv[^:]*/bin:", environment["PATH"])
    given = parse(MaskingOptions, [], environment, "masking.py").sources
    assert {"storage", "recording", "yes"} <= {*given}


@pytest.mark.parametrize("name", LAUNCHED)
def test_nothing_listens_beyond_the_cluster_and_no_folder_hides_the_package(name):
    config = read(name)
    (head,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in str(config)
    assert not {"~/ssense", "~/sweeps", "~/analysis"} & config["file_mounts"].keys()
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", LAUNCHED)
def test_what_is_sent_is_what_the_package_is_built_from(name):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = [
        found.removesuffix("*")
        for found in project["tool"]["setuptools"]["packages"]["find"]["include"]
    ]
    named = [project["project"]["readme"], *project["project"]["license-files"]]
    wanted = {*packages, *named, "pyproject.toml", "requirements.lock", "installer.lock"}
    mounts = read(name)["file_mounts"]
    assert {t: s for t, s in mounts.items() if "token" not in t} == {
        f"~/ssense-source/{part}": part for part in wanted
    }


def line_for_bashrc(home: Path) -> Path:
    """Run the set-up command of clusters/lab.yaml that changes .bashrc."""
    (command,) = [c for c in read("clusters/lab.yaml")["setup_commands"] if "cat ~/.bashrc" in c]
    in_home = {"HOME": str(home), "PATH": os.environ["PATH"]}
    subprocess.run(["bash", "-c", command], env=in_home, check=True)
    return home / ".bashrc"


@pytest.mark.parametrize("before", [None, "", "export MINE=1\n"])
def test_in_a_laboratory_the_environment_is_there_for_ray_s_commands_alone(before, tmp_path):
    if before is not None:
        (tmp_path / ".bashrc").write_text(before)
    (tmp_path / "ssense.env").write_text("export RAY_ADDRESS=auto\n")
    once = line_for_bashrc(tmp_path).read_text()
    assert line_for_bashrc(tmp_path).read_text() == once  # again at every `ray up`
    assert once.endswith(before or "")
    assert not list(tmp_path.glob(".bashrc.*"))
    show = "echo $RAY_ADDRESS,$MINE"
    mine = "1" if before else ""
    shells = {
        shlex.join(["bash", "-i", "-c", show]): f",{mine}",
        shlex.join(["bash", "-c", f". ~/.bashrc; {show}"]): f",{mine}",  # as over SSH
        " ".join(_with_interactive(show)): f"auto,{mine}",
    }
    for shell, expected in shells.items():
        done = subprocess.run(
            ["bash", "-c", shell],
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.stdout == f"{expected}\n", (shell, done.stderr)


def test_what_the_set_up_installs_is_the_lock_and_this_project():
    pins = re.findall(r"^ray==(\S+)", (REPOSITORY / "requirements.lock").read_text(), re.M)
    assert pins == ["2.60.0"]
    for name in LAUNCHED:
        text = "\n".join(read(name)["setup_commands"])
        assert "pip sync --require-hashes ~/ssense-source/requirements.lock" in text
        assert "--no-deps --no-build-isolation --editable ~/ssense-source" in text
    assert read("clusters/kuberay.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == "2.60.0"


@pytest.mark.parametrize(
    "name", [*LAUNCHED, "clusters/kuberay.yaml", "clusters/slurm.sh", "Makefile"]
)
def test_nothing_from_the_network_is_run_unchecked(name):
    text = (REPOSITORY / name).read_text()
    assert not re.search(r"\|\s*(env\s.*)?(ba|z)?sh\b|\bcurl\b|\bwget\b", text)
    for command in re.findall(r"pip (?:install|sync)\b.*", text):
        assert "--require-hashes" in command or "--no-deps --no-build-isolation" in command, command


def test_the_installer_is_one_version_with_a_hash_for_every_machine():
    first, *hashes = (REPOSITORY / "installer.lock").read_text().split("\n    ")
    assert re.fullmatch(r"uv==\d+\.\d+\.\d+ \\", first)
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}( \\|\n)", line) for line in hashes)
    assert len(hashes) > 10  # of other processors and C libraries, too


@pytest.mark.parametrize("name", LAUNCHED)
def test_an_installer_that_is_another_than_the_pinned_one_is_not_installed(name, tmp_path):
    (version,) = re.findall(r"^uv==(\S+)", (REPOSITORY / "installer.lock").read_text())
    offered = tmp_path / "offered" / f"uv-{version}-py3-none-any.whl"
    offered.parent.mkdir()
    with zipfile.ZipFile(offered, "w") as wheel:
        about = f"uv-{version}.dist-info"
        wheel.writestr(f"uv-{version}.data/scripts/uv", "#!/bin/sh\n")
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: uv\nVersion: {version}\n"
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    (tmp_path / "ssense-source").mkdir()
    shutil.copy(REPOSITORY / "installer.lock", tmp_path / "ssense-source")
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PIP_NO_INDEX": "1"}
    environment["PIP_FIND_LINKS"] = str(offered.parent)
    wanted = ("-m venv", "installer.lock")
    first, second = [c for c in read(name)["setup_commands"] if any(part in c for part in wanted)]
    subprocess.run(["bash", "-c", first], env=environment, check=True)
    done = subprocess.run(["bash", "-c", second], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not list(tmp_path.glob("ssense-uv*/bin/uv"))


# ---------------------------------------------------------------- AWS


def test_on_aws_only_ssh_is_open_and_nothing_goes_on_billing(home, monkeypatch):  # noqa: ARG001
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    config = read("cluster.yaml")
    with mock_aws():
        made = _bootstrap_config(copy.deepcopy(config), no_config_cache=True)
        groups = boto3.client("ec2").describe_security_groups()["SecurityGroups"]
    rules = [rule for group in groups for rule in group["IpPermissions"]]
    world = [rule for rule in rules if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in world] == [(22, 22)]
    assert config["provider"]["cache_stopped_nodes"] is False
    types = made["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    gpu = types["gpu"]
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == config["max_workers"]
    assert gpu["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert gpu["node_config"]["ImageId"].startswith("resolve:ssm:/aws/service/")
    for kind in types.values():
        (disk,) = kind["node_config"]["BlockDeviceMappings"]
        assert disk["Ebs"]["DeleteOnTermination"] is True
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


def test_the_policy_to_paste_is_one_and_covers_the_profiles_and_the_image():
    (text,) = re.findall(
        r"^    \{\"Version\".*?\]\}$",
        (REPOSITORY / "docs" / "clusters.md").read_text(),
        re.M | re.S,
    )
    bucket, machines, image, role = json.loads(text)["Statement"]
    assert all(one["Effect"] == "Allow" for one in (bucket, machines, image, role))
    assert bucket["Resource"] == ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*"]
    types = read("cluster.yaml")["available_node_types"]
    worker = types["gpu"]["node_config"]["IamInstanceProfile"]["Name"]
    assert role["Resource"].endswith(f":role/{worker}")
    parameter = types["gpu"]["node_config"]["ImageId"].removeprefix("resolve:ssm:/")
    assert fnmatch(f"arn:aws:ssm:us-east-1::parameter/{parameter}", image["Resource"])


# ---------------------------------------------------------------- Slurm and Kubernetes


def test_the_slurm_script_is_valid_and_asks_for_what_it_uses():
    path = REPOSITORY / "clusters" / "slurm.sh"
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    assert os.access(path, os.X_OK)
    directives = re.findall(r"^#SBATCH --(\S+)$", path.read_text(), re.M)
    given = dict(directive.partition("=")[::2] for directive in directives)
    assert given["ntasks-per-node"] == "1"  # one Ray for each node
    assert "exclusive" in given
    # To the script alone, which queues again: that has to be allowed, and the log to be kept.
    assert given["signal"].startswith("B:INT@")
    assert {"requeue"} <= given.keys()
    assert given["open-mode"] == "append"
    # A site's own, and how much: flags of sbatch, of which the usual ones are shown.
    assert not {"partition", "account"} & given.keys()
    (example,) = re.findall(r"^#   sbatch (--.+)\\\n", path.read_text(), re.M)
    shown = dict(flag.removeprefix("--").split("=") for flag in example.split())
    assert shown.keys() == {"partition", "account", "nodes", "gpus-per-node"}


# A sweep of Slurm's that runs here: what `srun` starts is Ray's own symmetric-run, which finds no
# Ray to start or stop, and takes other tests' for none of its own.
SYMMETRIC_RUN = """
import sys
from ray.scripts import symmetric_run
symmetric_run.check_ray_already_started = lambda: False
sys.argv[:1] = ["ray"]
symmetric_run.symmetric_run()
"""
SLURM = {
    # Of the node, where what `ray start` is asked for is written down, and nothing started.
    "ray": """
case "$1" in
  symmetric-run)
    printf '%s\n' "$@" "token=${#RAY_AUTH_TOKEN}" "storage=$SSENSE_STORAGE" > "$OUT/started"
    exec python "$OUT/symmetric_run.py" "$@"
    ;;
  start) printf '%s\n' "$@" > "$OUT/node" ;;
esac""",
    "scontrol": """
case "$1" in
  show) printf 'node1\nnode2\n' ;;
  *) { echo "$@"; ls "$OUT" | grep driver.json || true; } > "$OUT/requeued" ;;
esac""",
    "srun": """
case "$*" in
  *hostname*) echo 127.0.0.1 10.0.0.2 ;;
  *)
    printf '%s\n' "$1" > "$OUT/srun"
    shift
    export SLURM_CPUS_ON_NODE=48 $GPUS  # the node's own, unlike the first one's
    exec "$@"
    ;;
esac""",
}
# A sweep as far as its claim is concerned.
SWEEP = """
import sys, time
from upath import UPath
from ssense.cli.command import run_command
from ssense.engine.records.driver import sole_driver
from dataclasses import dataclass

@dataclass(frozen=True)
class Options:
    folder: str
    seconds: float
    status: int

def main(options: Options) -> None:
    with sole_driver(UPath(options.folder)):
        time.sleep(options.seconds)
    raise SystemExit(options.status)

run_command(Options, main)
"""


@pytest.fixture
def job(tmp_path) -> Callable[..., subprocess.Popen[bytes]]:
    """Start the script as Slurm would, with a sweep of so many seconds and such a status."""
    for name, script in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "symmetric_run.py").write_text(SYMMETRIC_RUN)
    (tmp_path / "sweep.py").write_text(SWEEP)
    environment = os.environ | {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "OUT": str(tmp_path),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_ON_NODE": "16",
    }
    # Whoever runs the tests in the background lets them ignore interrupts.
    bash = ["env", "--default-signal=INT", "bash"]
    script = [str(REPOSITORY / "clusters" / "slurm.sh"), "sweep.py", str(tmp_path)]

    def start(*arguments: str, gpus: str = "") -> subprocess.Popen[bytes]:
        node = {"GPUS": f"SLURM_GPUS_ON_NODE={gpus}" if gpus else ""}
        return subprocess.Popen([*bash, *script, *arguments], env=environment | node)

    return start


def test_the_slurm_script_starts_one_ray_over_the_nodes(job, tmp_path):
    assert job("0", "3").wait(120) == 3
    started = (tmp_path / "started").read_text().splitlines()
    assert started[:7] == [
        *("symmetric-run", "--address", "127.0.0.1:6379", "--min-nodes", "1"),
        *("--num-cpus=48", "--"),
    ]
    assert started[-6:] == [
        *("sweep.py", str(tmp_path), "0", "3", "token=64"),
        f"storage={tmp_path}/storage",
    ]
    assert not (tmp_path / "requeued").exists()  # it has ended of its own accord


def test_every_node_of_slurm_brings_the_cores_and_gpus_that_the_job_has_on_it(job, tmp_path):
    assert job("0", "0", gpus="4").wait(120) == 0
    assert (tmp_path / "srun").read_text() == "--cpu-bind=none\n"  # all cores for the one task
    asked = (tmp_path / "node").read_text().splitlines()
    assert asked[:2] == ["start", "--head"]
    assert {"--num-cpus=48", "--num-gpus=4"} <= {*asked}


def test_a_slurm_job_that_is_interrupted_ends_its_sweep_and_goes_on_later(job, tmp_path):
    running, claim = job("600", "0"), tmp_path / "driver.json"
    deadline = time.monotonic() + 120
    while not claim.exists():
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"  # and there was no claim by then
    assert not claim.exists()


def fields(*required: str, **known: Any) -> dict[str, Any]:
    """JSON Schema of an object that has these fields and no others."""
    closed = {"type": "object", "additionalProperties": False}
    return closed | {"properties": known, "required": list(required)}


def items(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": schema, "minItems": 1}


STRING, SWITCH, WHOLE = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
STRINGS = {"type": "object", "additionalProperties": STRING}
QUANTITIES = {
    "type": "object",
    "additionalProperties": STRING | {"pattern": r"^[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?$"},
}
# What of Kubernetes' core/v1 and KubeRay's ray.io/v1 the file uses, by name, type and values, as
# in their Go types: ray-operator/apis/ray/v1/{rayjob,raycluster}_types.go of ray-project/kuberay
# (authOptions since 1.6, from its API reference).
CONTAINER = fields(
    "name",
    "image",
    name=STRING,
    image=STRING,
    env=items(fields("name", name=STRING, value=STRING)),
    envFrom=items(fields(secretRef=fields("name", name=STRING, optional=SWITCH))),
    resources=fields(requests=QUANTITIES, limits=QUANTITIES),
    volumeMounts=items(fields("name", "mountPath", name=STRING, mountPath=STRING)),
)
VOLUME = fields(
    "name",
    name=STRING,
    emptyDir=fields(medium={"enum": ["", "Memory"]}, sizeLimit=QUANTITIES["additionalProperties"]),
)
POD = fields(
    "spec",
    metadata=fields(labels=STRINGS),
    spec=fields("containers", containers=items(CONTAINER), volumes=items(VOLUME)),
)
WORKERS = fields(
    *("groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    groupName=STRING,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    rayStartParams=STRINGS,
    template=POD,
)
CLUSTER = fields(
    "headGroupSpec",
    rayVersion=STRING,
    authOptions=fields(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=SWITCH,
    autoscalerOptions=fields(
        idleTimeoutSeconds=WHOLE,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    headGroupSpec=fields("rayStartParams", "template", rayStartParams=STRINGS, template=POD),
    workerGroupSpecs=items(WORKERS),
)
RAY_JOB = fields(
    *("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=fields("name", name=STRING),
    spec=fields(
        "entrypoint",
        entrypoint=STRING,
        runtimeEnvYAML=STRING,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        backoffLimit=WHOLE,
        shutdownAfterJobFinishes=SWITCH,
        ttlSecondsAfterFinished=WHOLE,
        rayClusterSpec=CLUSTER,
    ),
)


def test_the_kubernetes_job_has_the_published_structure():
    job = read("clusters/kuberay.yaml")
    jsonschema.validate(job, RAY_JOB)
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert spec["ttlSecondsAfterFinished"] == 0 or spec["shutdownAfterJobFinishes"]
    given = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert all(isinstance(value, str) for value in given.values())
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        names = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= names
            variables = {entry["name"]: entry["value"] for entry in container["env"]}
            flags = parse(MaskingOptions, [], variables | given, "masking.py").sources
            assert {"storage", "recording", "yes"} <= {*flags}
            limits = container["resources"]["limits"]
            asked = container["resources"]["requests"]
            assert limits.get("nvidia.com/gpu") == asked.get("nvidia.com/gpu")  # as it has to be
