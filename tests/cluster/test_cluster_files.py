"""The files in which clusters are described, held against what will read them."""

from __future__ import annotations

import copy
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.util import prepare_config, validate_config

from ssense.command import environment_arguments
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
def test_the_environment_reaches_the_sweep_and_asks_for_this_cluster(name):
    environment = exported(read(name))
    assert environment["RAY_ADDRESS"] == "auto"
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["PATH"].startswith("/home/someone/ssense-venv/bin:")
    arguments = environment_arguments(MaskingOptions, environment)
    flags = [argument.partition("=")[0] for argument in arguments]
    assert {"--storage", "--recording", "--yes"} <= {*flags}


@pytest.mark.parametrize("name", LAUNCHED)
def test_nothing_listens_beyond_the_cluster_and_no_folder_hides_the_package(name):
    config = read(name)
    (head,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in str(config)
    assert not {"~/ssense", "~/sweeps", "~/analysis"} & config["file_mounts"].keys()
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_what_the_set_up_installs_is_the_lock_and_this_project():
    pins = re.findall(r"^ray==(\S+)", (REPOSITORY / "requirements.lock").read_text(), re.M)
    assert pins == ["2.60.0"]
    for name in LAUNCHED:
        text = "\n".join(read(name)["setup_commands"])
        assert "pip sync --require-hashes ~/ssense-source/requirements.lock" in text
        assert "--no-deps --no-build-isolation --editable ~/ssense-source" in text
    assert read("clusters/kuberay.yaml")["spec"]["rayClusterSpec"]["rayVersion"] == "2.60.0"


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


# ---------------------------------------------------------------- Slurm and Kubernetes


def test_the_slurm_script_is_valid_and_asks_for_what_it_uses():
    path = REPOSITORY / "clusters" / "slurm.sh"
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    assert os.access(path, os.X_OK)
    directives = re.findall(r"^#SBATCH --(\S+)$", path.read_text(), re.M)
    given = dict(directive.partition("=")[::2] for directive in directives)
    assert given["ntasks-per-node"] == "1"  # one Ray for each node
    assert "exclusive" in given


SLURM = {
    "scontrol": "printf 'node1\\nnode2\\n'",
    "srun": """
case "$*" in
  *hostname*) echo 10.0.0.1 10.0.0.2 ;;
  *) printf '%s\\n' "$@" "token=${#RAY_AUTH_TOKEN}" "address=$RAY_ADDRESS" \\
       "storage=$SSENSE_STORAGE" > "$OUT" ;;
esac""",
}


def test_the_slurm_script_starts_one_ray_over_the_nodes(tmp_path):
    for name, script in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{REPOSITORY / '.venv' / 'bin'}:{os.environ['PATH']}",
        "OUT": str(tmp_path / "out"),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "16",
    }
    script = REPOSITORY / "clusters" / "slurm.sh"
    subprocess.run(["bash", script, "a.py", "--seeds", "0 1"], env=environment, check=True)
    assert (tmp_path / "out").read_text().splitlines() == [
        *("ray", "symmetric-run", "--address", "10.0.0.1:6379", "--min-nodes", "2"),
        *("--num-cpus", "16", "--", "python", "a.py", "--seeds", "0 1"),
        "token=64",
        "address=10.0.0.1:6379",
        f"storage={tmp_path}/storage",
    ]


# Fields of ray.io/v1 that the file may use, from KubeRay's API reference (v1.6):
# https://ray-project.github.io/kuberay/reference/api/
RAY_JOB = {
    "entrypoint",
    "runtimeEnvYAML",
    "submissionMode",
    "backoffLimit",
    "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished",
    "activeDeadlineSeconds",
    "rayClusterSpec",
}
RAY_CLUSTER = {
    "rayVersion",
    "authOptions",
    "enableInTreeAutoscaling",
    "autoscalerOptions",
    "headGroupSpec",
    "workerGroupSpecs",
}
HEAD_GROUP = {"rayStartParams", "template", "serviceType"}
WORKER_GROUP = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
    "numOfHosts",
}


def test_the_kubernetes_job_has_the_published_structure():
    job = read("clusters/kuberay.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec.keys() <= RAY_JOB
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")
    assert cluster.keys() <= RAY_CLUSTER
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"].keys() <= HEAD_GROUP
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= WORKER_GROUP
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        names = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= names
            variables = {entry["name"]: entry["value"] for entry in container["env"]}
            assert environment_arguments(MaskingOptions, variables)
            assert all(isinstance(value, str) for value in variables.values())
