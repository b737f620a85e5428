from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError
from ssense.training.process import (
    BF16_UNITS,
    reset_process,
    slow_precision,
    usable_cores,
    usable_memory,
)

PRODUCTS = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")


def backend(name: str):
    group, kind = name.split(".")
    return getattr(getattr(torch.backends, group), kind)


@pytest.mark.parametrize("name", PRODUCTS)
def test_float32_is_not_rounded_whatever_a_process_did_before(name):
    backend(name).fp32_precision = "tf32"
    reset_process(seed=0, threads=1)
    assert backend(name).fp32_precision == "ieee"


def test_kernels_are_deterministic_whatever_a_process_did_before():
    torch.use_deterministic_algorithms(False)
    reset_process(seed=0, threads=1)
    assert torch.are_deterministic_algorithms_enabled()


def test_a_process_that_takes_no_orders_from_the_last_cell_multiplies_the_same():
    factors = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    reset_process(seed=0, threads=1)
    expected = factors[0] @ factors[1]
    torch.set_float32_matmul_precision("medium")  # bfloat16 factors, where there are units for it
    reset_process(seed=0, threads=1)
    assert torch.equal(factors[0] @ factors[1], expected)


FREED_AND_ASKED_FOR = """
import resource, torch
from ssense.training.process import reset_process
{first}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(first: str) -> int:
    """Of 100 MB that are taken and freed again and again, in a process of their own."""
    code = FREED_AND_ASKED_FOR.format(first=first)
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return int(ended.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_that_is_kept_is_seldom_asked_for_again():
    assert page_faults("reset_process(0, 1)") < page_faults("") / 4


@pytest.mark.parametrize("unit", BF16_UNITS)
def test_processors_with_units_for_bf16_are_known(unit, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, unit: True})
    assert not slow_precision("bf16", gpus=0)


def test_bf16_without_units_is_a_warning_of_one_line(monkeypatch):
    about = {"avx2": True, "avx512_bf16": False, "cpu_name": "Old Processor"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: about)
    warning = slow_precision("bf16", gpus=0)
    assert warning.startswith("Warning: Old Processor has no units for bf16, which takes about 8")
    assert "\n" not in warning
    assert not slow_precision("float32", gpus=0)
    assert not slow_precision("bf16", gpus=0.5)


@pytest.mark.parametrize(
    ("has_units", "address", "precision"),
    [(True, "", "bf16"), (False, "", "float32"), (True, "10.0.0.1:6379", "float32")],
)
def test_a_synthetic_recording_is_trained_on_in_the_faster_precision_of_one_machine(
    monkeypatch, has_units, address, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_units})
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert RecordingOptions().specification().training.precision == precision
    asked = RecordingOptions(precision="float32").specification()
    assert asked.training.precision == "float32"


def test_the_choices_of_a_training_reach_it():
    chosen = RecordingOptions(batch_size=256, precision="bf16", batch_norm="frozen").specification()
    assert (chosen.training.batch_size, chosen.training.chunk) == (256, 32)
    assert chosen.encoder.batch_norm == "frozen"
    assert RecordingOptions().specification().encoder.batch_norm == "chunk"


def control_groups(root: Path, mounts: str, groups: str, files: dict[str, str]) -> Path:
    """A file system with the files that say what a process may use."""
    for name, content in {"proc/self/mounts": mounts, "proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


V1 = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpuacct,cpu 0 0\n"
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1)],
)
def test_the_cores_that_a_quota_amounts_to_count(quota, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    files = {"sys/fs/cgroup/slurm/job/cpu.max": quota, "sys/fs/cgroup/slurm/cpu.max": "max 100000"}
    assert usable_cores(control_groups(tmp_path, V2, "0::/slurm/job\n", files)) == cores


def test_the_least_quota_of_all_groups_around_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    files = {"sys/fs/cgroup/a/cpu.max": "200000 100000", "sys/fs/cgroup/a/b/cpu.max": "7 1"}
    assert usable_cores(control_groups(tmp_path, V2, "0::/a/b\n", files)) == 2


@pytest.mark.parametrize("group", ["/docker/abc", "/"])  # the host's name, in a container
@pytest.mark.parametrize(("quota", "cores"), [("-1\n", 8), ("300000\n", 3)])
def test_version_1_has_its_quota_in_two_files(group, quota, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    cpu = "sys/fs/cgroup/cpu/cpu.cfs_"
    files = {f"{cpu}quota_us": quota, f"{cpu}period_us": "100000\n"}
    groups = f"9:memory:/x\n4:cpu,cpuacct:{group}\n0::/\n"
    assert usable_cores(control_groups(tmp_path, V1, groups, files)) == cores


@pytest.mark.parametrize("damaged", [b"\xff\xfe", b"400000", b"1 2 3", b"4 0", b""])
def test_a_quota_that_cannot_be_read_is_none(damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    root = control_groups(tmp_path, V2, "0::/a\n", {"sys/fs/cgroup/cpu.max": "300000 100000"})
    (root / "sys/fs/cgroup/a").mkdir()
    (root / "sys/fs/cgroup/a/cpu.max").write_bytes(damaged)
    assert usable_cores(root) == 3


def test_control_groups_are_found_beside_mounts_of_any_name_and_damage_is_no_error(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    root = control_groups(tmp_path, "", "0::/\n", {"sys/fs/cgroup/cpu.max": "300000 100000"})
    (root / "proc/self/mounts").write_bytes(b"/dev/sdb /media/\xe9 vfat rw 0 0\n" + V2.encode())
    assert usable_cores(root) == 3
    (root / "proc/self/cgroup").write_text("none\n")
    assert usable_cores(root) == 8


def test_without_control_groups_affinity_counts(tmp_path):
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_the_least_limit_of_memory_counts(tmp_path):
    assert usable_memory(tmp_path) == psutil.virtual_memory().total
    files = {"sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/memory.max": "3000000\n"}
    assert usable_memory(control_groups(tmp_path / "2", V2, "0::/a\n", files)) == 3_000_000
    mounts = "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    files = {"sys/fs/cgroup/memory/job/memory.limit_in_bytes": "2000000\n"}
    root = control_groups(tmp_path / "1", mounts, "5:memory:/job\n", files)
    assert usable_memory(root) == 2_000_000


def test_the_quota_of_this_machine_counts():
    parent = Path("/sys/fs/cgroup/cpu")
    group = parent / f"ssense-test-{os.getpid()}"
    code = (
        "import os; from pathlib import Path; from ssense.training.process import usable_cores;"
        f"Path('{group}/tasks').write_text(str(os.getpid())); print(usable_cores())"
    )
    try:
        group.mkdir()
    except OSError:
        pytest.skip("takes the right to make a control group of version 1")
    try:
        (group / "cpu.cfs_quota_us").write_text("150000")
        shown = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        ).stdout
        assert shown == "1\n"
    finally:
        group.rmdir()


def test_what_a_specification_refuses_ends_with_one_full_stop():
    with pytest.raises(UserError, match=r"^resample_hz must be .* above 0, got 0\.0\.$"):
        RecordingOptions(resample_hz=0.0).specification()
