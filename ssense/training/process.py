"""The process that trains a cell: its device, threads and random states."""

from __future__ import annotations

import ctypes
import os
import platform
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from ssense.choices import Precision
from ssense.errors import UserError
from ssense.precision import float32_backends

BF16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")
"""PyTorch's names of the units for bf16: two of x86, one of ARM."""
TENSORS_SHARE = 0.9
"""Part of a worker's share of a GPU's memory that tensors may take. PyTorch limits these alone; the
CUDA context of every process, the driver's too, takes about half a gigabyte besides."""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # numbers of options in glibc's malloc.h


def gpus_here(asked: float | None) -> float:
    """GPUs that a cell gets on this machine: as asked for, or else one if there is any."""
    return float(torch.cuda.is_available()) if asked is None else asked


def any_device() -> torch.device:
    """A GPU of this machine if there is one, else its CPU with the cores that we may use."""
    if torch.get_num_threads() > usable_cores():  # PyTorch respects affinity, but no quota
        torch.set_num_threads(usable_cores())
    return assigned_device(gpus_here(None))


def slots_here(cpus: int, gpus: float) -> int:
    """Number of cells of so many CPUs and GPUs that fit this machine at a time; at least 1."""
    return max(1, cells_that_fit(cpus, gpus, usable_cores(), torch.cuda.device_count()))


def usable_cores(root: Path = Path("/")) -> int:
    """CPU cores that this process may use, which on a shared machine are fewer than there are.

    These are the cores of its affinity (taskset, cpusets), but no more than the whole cores that
    the time quota of its control groups allows (containers, batch systems); at least 1.

    Args:
        root: The file system in which to look for the control groups.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count() or 1
    return max(1, int(min([allowed, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that each control group around this process grants, where it limits them.

    Version 2 keeps them in cpu.max, "QUOTA PERIOD" or "max PERIOD"; version 1 in two files, where a
    quota of -1 is none. See cgroups(7) and the kernel's documentation of both.
    """
    for folder in _control_groups(root, "cpu"):
        for limit in _limits(folder):
            with suppress(ValueError, ZeroDivisionError):  # "max", or what is damaged
                quota, period = limit
                if float(quota) > 0:
                    yield float(quota) / float(period)


def _limits(folder: Path) -> Iterator[list[str]]:
    with suppress(OSError, ValueError):
        yield (folder / "cpu.max").read_text().split()
    with suppress(OSError, ValueError):
        yield [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the machine's, or fewer by its control groups.

    Version 2 keeps limits in memory.max, a number or "max"; version 1 in memory.limit_in_bytes.

    Args:
        root: The file system in which to look for the control groups.
    """
    limits = [psutil.virtual_memory().total]
    for folder in _control_groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):
                limits.append(int((folder / name).read_text()))
    return int(min(limits))


def _control_groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups around this process that can limit a resource, inmost first.

    Args:
        root: The file system in which to look for them.
        controller: Name of the resource in version 1; in version 2 one group is of all.
    """
    for mount, group in _mounted_groups(root, controller):
        for folder in (mount / group, *(mount / group).parents):
            if not folder.is_relative_to(mount):
                break
            yield folder


def _mounted_groups(root: Path, controller: str) -> Iterator[tuple[Path, str]]:
    """Where control groups that can limit a resource are mounted, and which of each we are in.

    In a container the group's name may be the host's; then its own is the mounted root.
    """
    with suppress(OSError, ValueError):
        groups = {}
        # Names of folders, which may be of any bytes.
        for line in os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines():
            _, controllers, path = line.split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path))
        for line in os.fsdecode((root / "proc/self/mounts").read_bytes()).splitlines():
            _, mount, kind, options, *_ = line.split()
            name = {"cgroup": controller, "cgroup2": ""}.get(kind)
            if name in groups and (not name or name in options.split(",")):
                yield root / mount.lstrip("/"), groups[name].lstrip("/")


def cells_that_fit(cpus: int, gpus: float, machine_cpus: float, machine_gpus: float) -> int:
    """Number of cells of so many CPUs and GPUs that fit a machine; a share is of a single GPU."""
    slots = int(machine_cpus // cpus)
    if not gpus:
        return slots
    by_gpu = int(machine_gpus) * int(1 / gpus) if gpus < 1 else int(machine_gpus // gpus)
    return min(slots, by_gpu)


def assigned_device(gpus: float) -> torch.device:
    """The device of a worker that was given so many GPUs; a share is one of its memory too.

    Without a limit, a cell that grows takes the memory of its neighbours, and they fail.

    Raises:
        UserError: A GPU was given, but PyTorch can't use it.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            f"a worker on {platform.node()} was given {gpus:g} GPUs, but PyTorch "
            f"{torch.__version__} finds none to use. Check the driver there, or set "
            "`gpus_per_cell` to 0."
        )
    if gpus < 1:
        torch.cuda.set_per_process_memory_fraction(TENSORS_SHARE * gpus)
    return torch.device("cuda")


def fast_precision(gpus: float) -> Precision:
    """The faster precision here: bf16 where the GPU of a cell, or the processor, has units for it.

    Args:
        gpus: GPUs of a cell.
    """
    on_gpu = gpus > 0 and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if on_gpu or (not gpus and _has_bf16_units()) else "float32"


def _has_bf16_units() -> bool:
    about = torch.cpu.get_capabilities()
    return any(about.get(name) for name in BF16_UNITS)


def slow_precision(precision: Precision, gpus: float) -> str:
    """A warning where bf16 is asked of a processor that has no units for it; else empty."""
    if precision == "float32" or gpus or _has_bf16_units():
        return ""
    processor = torch.cpu.get_capabilities().get("cpu_name", "the processor")
    return (
        f"Warning: {processor} has no units for bf16, which takes "
        "about 8 times as long here as float32."
    )


def reset_process(seed: int, threads: int) -> None:
    """Reset global state (determinism, precision, threads, random generators) so that results do
    not depend on earlier cells.

    Float32 is float32 then: no product or convolution rounds its factors to TF32, as cuDNN does by
    default, or to bfloat16.
    """
    # cuBLAS is deterministic only with a workspace of fixed size, set before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # This name imports nothing more; the other configures PyTorch's compiler as well.
    torch.set_deterministic_debug_mode("error")
    # Nothing here reads memory before it is written; filling it costs a tenth of a training step.
    # (The module's types are without it: a class puts it there.)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    for backend in float32_backends():
        backend.fp32_precision = "ieee"
    torch.set_default_dtype(torch.float32)
    # Ray leaves OMP_NUM_THREADS=1 behind; and the order of a sum depends on the thread count.
    torch.set_num_threads(threads)
    keep_freed_memory()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from the legacy generator
    torch.manual_seed(seed)


def keep_freed_memory() -> None:
    """Keep the memory that a tensor frees for the next one, as PyTorch does on a GPU.

    By default glibc returns every large block to the system, which has to clear it page by page
    when the next step asks for it again. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
