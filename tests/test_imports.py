from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
BLOCK = """
import importlib, sys
for name in {blocked!r}:
    sys.modules[name] = None
for name in {wanted!r}:
    importlib.import_module(name)
"""


def imports(wanted: list[str], blocked: list[str]) -> None:
    script = BLOCK.format(wanted=wanted, blocked=blocked)
    subprocess.run([sys.executable, "-c", script], check=True)


def modules(package: str) -> list[str]:
    paths = (REPOSITORY / package).rglob("*.py")
    names = (".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in paths)
    return sorted(name.removesuffix(".__init__") for name in names)


def test_the_science_never_imports_the_orchestrator():
    on_top = ("ssense.api", "ssense.engine")
    science = [name for name in modules("ssense") if not name.startswith(on_top)]
    assert "ssense.training.sentences" in science
    imports(science, ["ray", "optuna", "mlflow", "sweeps", "analysis", *on_top])


def test_sweeps_do_not_import_the_analysis():
    imports(modules("sweeps"), ["analysis"])


@pytest.mark.parametrize(
    "module",
    [
        *(
            "signal.superlets",
            "model.encoders.spectrogram_encoder",
            "model.losses",
            "model.masking",
        ),
        *("training.loop", "training.sentences", "retrieval"),
    ],
)
def test_a_machine_with_just_torch_and_numpy_can_train(module):
    absent = ["open_clip", "rich", "safetensors", "upath", "matplotlib", "ray", "mlflow"]
    imports([f"ssense.{module}"], absent)


def test_where_files_cannot_be_locked_as_on_windows_that_is_one_line():
    script = "import sys; sys.modules['fcntl'] = None; import ssense.engine.run"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: ssense does not run on Windows itself. Install it in WSL.\n"
