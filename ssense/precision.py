"""Float32 that is float32: no product or convolution rounds its factors to TF32 or bfloat16."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def float32_backends() -> tuple[Any, ...]:
    """The parts of PyTorch whose `fp32_precision` says how factors in float32 are rounded."""
    backends: Any = torch.backends
    return (
        *(backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn),
        *(backends.mkldnn.matmul, backends.mkldnn.conv),
    )


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Compute float32 in full on a type of device, whatever the process allows before and after."""
    backends = float32_backends()
    allowed = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, allowed, strict=True):
            backend.fp32_precision = precision
