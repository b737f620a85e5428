from __future__ import annotations

import pytest

import ssense


@pytest.fixture(scope="session")
def result(tiny_sweep) -> ssense.SweepResult:
    return ssense.open(tiny_sweep).sweeps["tiny"]
