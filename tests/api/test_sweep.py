from __future__ import annotations

import importlib

import numpy as np
import pytest

import ssense
from ssense.api.sweep import _options
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.cell import Cell
from ssense.engine.tasks.recording_options import REAL, RecordingOptions
from ssense.errors import UserError
from sweeps.context import FAMILIES, context_sweep

TINY = SyntheticSpec(sentences=200, electrodes=5, sampling_rate=256)
SMALL = SyntheticSpec(sentences=60, electrodes=5, sampling_rate=512)


@pytest.fixture
def storage(tiny_sweep, linked, tmp_path):
    copied = linked(tiny_sweep, tmp_path / "storage")
    (copied / "recordings").symlink_to(tiny_sweep / "recordings")
    return copied


def test_a_sweep_is_that_of_the_command_and_done_cells_stay(storage, tiny_sweep, capsys):
    """The same name, cells and signatures as by the options of the command line: all are there."""
    before = ssense.open(tiny_sweep).sweeps["tiny"]
    found = ssense.sweep(
        "tiny",
        {"no masking": {}},
        seeds=range(2),
        storage=storage,
        max_epochs=1,
        synthetic=TINY,
    )
    assert "Nothing to train: every cell is in the ledger." in capsys.readouterr().out
    assert found.name == before.name
    assert found.cells.equals(before.cells)
    assert found.description.sweep == before.description.sweep


def test_levels_give_the_same_cells_as_a_file_of_sweeps(tmp_path, monkeypatch):
    """Lists for tuples, numbers of NumPy for Python's; the signatures are the same."""
    planned = []
    monkeypatch.setattr("ssense.api.sweep.run_sweep", lambda *given: planned.append(given[0]))
    monkeypatch.setattr("ssense.api.sweep.SweepResult", lambda ledger: ledger.folder.name)
    families = {name: {f: list(v) for f, v in each.items()} for name, each in FAMILIES.items()}
    families["window"] = {"data.window_s": np.array([1.0, 2.0, 4.0])}
    name = ssense.sweep("context", families, storage=tmp_path, seeds=(0, 1), synthetic=SMALL)
    ssense.sweep("context", families, storage=tmp_path, seeds=np.arange(2), synthetic=SMALL)
    assert planned.pop() == planned[0]
    options = RecordingOptions(storage=str(tmp_path), seeds=(0, 1), synthetic=SMALL)
    wanted = context_sweep(options.plan_data(), options)
    assert planned == [wanted]
    assert name == wanted.name
    for family in wanted.families:
        for configuration in family.configurations():
            cell = Cell(configuration, 1)
            assert planned[0].signature(cell) == wanted.signature(cell)


def test_a_recording_that_is_open_is_swept_as_its_folder_is(tiny_sweep, tmp_path, monkeypatch):
    planned = []
    monkeypatch.setattr("ssense.api.sweep.run_sweep", lambda *given: planned.append(given[:2]))
    monkeypatch.setattr("ssense.api.sweep.SweepResult", lambda ledger: ledger)
    (folder,) = (tiny_sweep / "recordings").iterdir()
    options = {
        "storage": tmp_path,
        "spectrogram": "small",
        "text_weights": "untrained",
        "encoder_weights": "random",
    }
    for given in (folder, str(folder), ssense.open_recording(folder)):
        ssense.sweep("mine", {"plain": {}}, given, **options)
    (first, _), *others = planned
    assert all(sweep == first for sweep, _ in others)
    assert first.seeds == REAL.seeds  # its defaults are those of real data
    assert len({each.digest for _, each in planned}) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_epoch": 3}, "max_epoch is no option of a sweep. Nearest: max_epochs."),
        ({"max_epochs": "3"}, "max_epochs: it is a text, not a whole number. Got '3'."),
        ({"max_epochs": 0}, "`max_epochs` must be above 0, got 0."),
        ({"seeds": [0, 0]}, "`seeds` 0 0: 0 appears twice"),
        ({"seeds": 5}, "seeds: it is a number, not a list. Got 5."),
        ({"seeds": np.array(5)}, "seeds: it is a number, not a list. Got 5."),
        ({"seeds": ["a"]}, "seeds: [0] is a text, not a whole number"),
        ({"policy": "fast"}, "policy: it is 'fast', not one of race, full"),
        ({"cell": "abc"}, "cell is an option of commands"),
        ({"dry_run": True}, "dry_run is an option of commands"),
        ({"evaluate": True}, "evaluate is an option of commands. Run analysis/evaluate.py"),
        ({"recording": 3}, "recording is a int. Give a folder, a URL or a ssense.Recording."),
        ({"recording": "/nowhere"}, "/nowhere is neither a folder nor a file"),
        ({"families": {"a": {"data.windows_s": [1.0]}}}, "data.windows_s is not a field of Sent"),
        ({"families": {"a": {"data.window_s": 1.0}}}, "the levels of data.window_s are 1.0, no"),
        ({"families": {"a": {"data.window_s": []}}}, "data.window_s has no level to try"),
        ({"families": {"a": "data.window_s"}}, "family a is data.window_s, not levels by field"),
        ({"families": ["a"]}, "families are a list, not levels by field"),
        ({"families": {"a": {}, "b": {}}}, "families a and b are the same configuration"),
        ({"question": "a/b"}, "question 'a/b' can't name a folder"),
        ({"question": ""}, "question '' can't name a folder"),
        ({"question": "x" * 99}, "can't name a folder"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(tmp_path, options, message, monkeypatch):
    monkeypatch.setattr("ssense.api.sweep.run_sweep", lambda *_: pytest.fail("it ran"))
    given = {"question": "mine", "families": {"plain": {}}, "storage": tmp_path, "synthetic": SMALL}
    with pytest.raises(UserError) as refused:
        ssense.sweep(**(given | options))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "sweeps").exists()


def test_an_encoder_and_a_target_of_ones_own_may_be_given_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "my_parts.py").write_text(
        "import torch\n\nclass Mine(torch.nn.Module):\n    pass\n\ndef letters(texts):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    parts = importlib.import_module("my_parts")
    options = _options({"recording": None, "encoder": parts.Mine, "target": parts.letters})
    assert options.encoder == f"{tmp_path / 'my_parts.py'}:Mine"
    assert options.target == f"{tmp_path / 'my_parts.py'}:letters"
    with pytest.raises(UserError, match=r"is not at the top of a \.py file"):
        _options({"recording": None, "target": lambda texts: texts})


def test_subject_and_trial_are_those_of_an_open_recording(tiny_sweep):
    (folder,) = (tiny_sweep / "recordings").iterdir()
    with pytest.raises(UserError, match=r"subject is that of the open recording. Leave it out\."):
        _options({"recording": open_brain_treebank(folder), "subject": "sub_1"})


def test_a_recording_in_memory_is_swept(tmp_path, monkeypatch):
    """The plan has its sentences, and workers read the same samples."""
    planned = []
    monkeypatch.setattr("ssense.api.sweep.run_sweep", lambda *given: planned.append(given[1]))
    monkeypatch.setattr("ssense.api.sweep.SweepResult", lambda ledger: ledger)
    rng, n = np.random.default_rng(0), 100
    onset = 10 + 4.0 * np.arange(n)
    sentences = {
        "onset": onset,
        "duration": np.full(n, 1.0),
        "text": [f"word {i}" for i in range(n)],
    }
    signals = rng.normal(0, 30, (5, 512 * 420))
    names = ["LA1", "LA2", "LA3", "LA4", "LA5"]
    recording = ssense.Recording.from_arrays(signals, 512.0, names, sentences)
    given = {"storage": tmp_path, "spectrogram": "small", "text_weights": "untrained"}
    with pytest.raises(UserError, match=r"data\.nothing is not a field"):
        ssense.sweep("mine", {"mine": {"data.nothing": [1, 2]}}, recording, **given)
    assert not (tmp_path / "recordings").exists()  # nothing is kept of a call that is refused
    ssense.sweep("mine", {"plain": {}}, recording, encoder_weights="random", **given)
    (data,) = planned
    assert data.shape[:2] == (n, 3)
    kept = data.own.features.recording
    assert kept.electrodes == recording.electrodes
    np.testing.assert_allclose(
        kept.read_channel("LA2", [(0, 999)])[0], recording.read_channel("LA2", [(0, 999)])[0]
    )
