from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import pytest
import torch
from s3fs import S3FileSystem
from safetensors.torch import save_file

from ssense.cli.command import run_command
from ssense.data.synthetic.recording import SyntheticSpec, write_synthetic
from ssense.engine.records.ledger import SWEEPS
from ssense.engine.tasks.feature_making import make_shards
from ssense.files.storage import open_storage
from ssense.model.encoders.spectrogram_encoder import _pretrained_state
from ssense.model.resnet import ResNet18
from sweeps.masking import MaskingOptions, main

SCRIPT = Path(__file__).parents[1] / "sweeps" / "masking.py"
SPEC = SyntheticSpec(sentences=60, electrodes=5, sampling_rate=256)
SIGNALS = "sub_9_trial000.h5"
LABELS = "electrode_labels/sub_9/electrode_labels.json"
TIMINGS = "subject_timings/sub_9_trial000_timings.csv"
TRANSCRIPT = "transcripts/synthetic/features.csv"
NOWHERE = "http://127.0.0.1:9"

# The least of a sweep that can be run: four cells of one epoch, and nothing to download.
LEAST = (
    *("--configurations", "1", "--seeds", "0", "--max-epochs", "1", "--batch-size", "16"),
    *("--spectrogram", "small", "--encoder-weights", "random", "--text-weights", "untrained"),
    *("--precision", "float32"),
)

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def intact(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("recordings") / "intact"
    write_synthetic(root, SPEC)
    return root


@pytest.fixture
def recording(intact, tmp_path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "recording"))


@pytest.fixture
def storage(tmp_path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def refused(recording, storage, monkeypatch, capsys) -> Refused:
    """Run the command in this process; return the one line that refuses it."""

    def refused(*flags: str | Path) -> str:
        places = ("--recording", recording, "--storage", storage)
        arguments = ["sweeps/masking.py", *beside(flags, *places, *LEAST), "--yes", *flags]
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        with pytest.raises(SystemExit) as stop:
            run_command(MaskingOptions, main)
        assert stop.value.code == 2
        return one_line(capsys.readouterr().err)

    return refused


def beside(flags: Sequence[str | Path], *defaults: str | Path) -> list[str | Path]:
    """The defaults, flags and values in turn, of which flags have none of their own."""
    given = {str(flag).partition("=")[0] for flag in flags}
    pairs = zip(defaults[::2], defaults[1::2], strict=True)
    return [word for name, value in pairs if name not in given for word in (name, value)]


def one_line(stderr: str) -> str:
    """Check that an error is one line, and return what it says."""
    assert stderr.startswith("error: ")
    assert stderr.endswith(".\n")
    assert stderr.count("\n") == 1
    return stderr.removeprefix("error: ").strip()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def run_as_script(*flags: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *beside(flags, *LEAST), "--yes", *flags],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# ---------------------------------------------------------------- the recording


def rewrite_csv(path: Path, change: Callable[[dict], dict]) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [change(row) for row in csv.DictReader(file)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def without(column: str) -> Callable[[dict], dict]:
    return lambda row: {name: value for name, value in row.items() if name != column}


def remove_folder(root: Path) -> None:
    shutil.rmtree(root)


def remove_signals(root: Path) -> None:
    (root / SIGNALS).unlink()


def cut_signals(root: Path) -> None:
    path = root / SIGNALS
    os.truncate(path, path.stat().st_size // 2)


def remove_channels(root: Path) -> None:
    with h5py.File(root / SIGNALS, "r+") as file:
        del file["data/electrode_3"], file["data/electrode_6"]


def shorten_labels(root: Path) -> None:
    path = root / LABELS
    path.write_text(json.dumps(json.loads(path.read_text())[:4]))


def drop_sentence_column(root: Path) -> None:
    rewrite_csv(root / TRANSCRIPT, without("sentence"))


def drop_index_column(root: Path) -> None:
    rewrite_csv(root / TIMINGS, without("index"))


def stretch_every_word(root: Path) -> None:
    def stretched(row: dict) -> dict:
        return {**row, "end": row["start"] and float(row["start"]) + 10}

    rewrite_csv(root / TRANSCRIPT, stretched)


def swap_start_and_end(root: Path) -> None:
    rewrite_csv(root / TRANSCRIPT, lambda row: {**row, "start": row["end"], "end": row["start"]})


def say_milliseconds(root: Path) -> None:
    def in_ms(row: dict) -> dict:
        return row | {name: row[name] and 1000 * float(row[name]) for name in ("start", "end")}

    rewrite_csv(root / TRANSCRIPT, in_ms)


def separated_by(separator: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        with (root / TRANSCRIPT).open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        with (root / TRANSCRIPT).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=separator).writerows(rows)

    return spoil


def rename_channels(root: Path) -> None:
    with h5py.File(root / SIGNALS, "r+") as file:
        for number in range(7):
            file.move(f"data/electrode_{number}", f"data/chan{number}")


def lift_channels(root: Path) -> None:
    with h5py.File(root / SIGNALS, "r+") as file:
        for number in range(7):
            file.move(f"data/electrode_{number}", f"electrode_{number}")
        del file["data"]


def silence_every_word(root: Path) -> None:
    rewrite_csv(root / TRANSCRIPT, lambda row: {**row, "start": ""})


def keep_three_sentences(root: Path) -> None:
    shutil.rmtree(root)
    write_synthetic(root, SyntheticSpec(sentences=3, electrodes=5, sampling_rate=256))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove_folder, ["recording is neither a folder nor a file"]),
        (remove_signals, [f"{SIGNALS} is neither in", "Download and unzip"]),
        (cut_signals, ["cannot read", SIGNALS, "truncated", "download and unzip it again"]),
        (
            remove_channels,
            [f"{SIGNALS} lacks data/electrode_3", "names 7 channels, of which 5 can be found"],
        ),
        (shorten_labels, [f"{SIGNALS} holds 7 channels but", f"{LABELS} names only 4"]),
        (drop_sentence_column, [f"{TRANSCRIPT} has no column sentence. Found:", "Restore"]),
        (drop_index_column, [f"{TIMINGS} has no column index. Found:", "Restore"]),
        (stretch_every_word, ["none of the 60 sentences of sub_9 trial000", "too long: 57"]),
        (swap_start_and_end, ["none of the 60", "words end before they start, as if the columns"]),
        (say_milliseconds, ["none of the 60", "(median), as if the columns start and end were in"]),
        (separated_by("\t"), [f"{TRANSCRIPT}: its columns are separated by tabs. Save it again"]),
        (separated_by(";"), [f"{TRANSCRIPT}: its columns are separated by semicolons. Save it"]),
        (
            rename_channels,
            ["of which 0 can be found. The group data holds chan0, chan1, chan2, …, chan6. Write"],
        ),
        (
            lift_channels,
            ["of which 0 can be found. Without a group data, it holds electrode_0, electrode_1"],
        ),
        (silence_every_word, ["none of the 60 sentences of sub_9", "no aligned word: 60"]),
        (
            keep_three_sentences,
            ["1 sentence is too few for a random split (left out: "],
        ),
    ],
)
def test_a_spoilt_recording_is_one_line_and_leaves_nothing(
    spoil, words, refused, recording, storage
):
    spoil(recording)
    message = refused()
    assert [word for word in words if word not in message] == []
    assert str(recording) in message or "trial000" in message
    assert files(storage) == []


# ---------------------------------------------------------------- the flags


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--trial trial007", "Found: trial000. Check --trial"),
        ("--ratios 0.1 1.2", "--ratios: 1.2 is outside [0, 1). Give shares"),
        ("--ratios nan", "--ratios nan: nan is not a number"),
        ("--ratios 0.01", "--ratios 0.01: all are too small to mask one of 3"),
        ("--seeds 0 3 3", "--seeds 0 3 3: 3 appears twice. Remove one"),
        ("--seeds 0 -1", "--seeds 0 -1: -1 is negative. Seeds are 0 or more"),
        ("--seeds 4294967296", "4294967296 is too large. Seeds are below 2^32"),
        ("--seeds", "--seeds lacks its value. Example: --seeds 0-9"),
        (
            "--configurations 0",
            "--configurations must be above 0, got 0. Example: --configurations 10",
        ),
        ("--max-epochs 0", "--max-epochs must be above 0, got 0. Example: --max-epochs 100"),
        ("--batch-size -4", "--batch-size must be above 0, got -4. Example: --batch-size 32"),
        ("--cpus-per-cell 0", "--cpus-per-cell must be at least 1, got 0"),
        ("--gpus-per-cell -1", "--gpus-per-cell must be 0 or more, got -1"),
        ("--gpus-per-cell nan", "--gpus-per-cell nan: nan is not a number"),
        ("--storage=", "--storage: it is empty. Example: --storage storage"),
        ("--spectrogram brainbert", "reaches 200 Hz. Use --spectrogram small, up to 120 Hz"),
        ("--spectrogram fourier", "reaches 200 Hz. Use --spectrogram small, up to 120 Hz"),
        ("--spectrogram high-gamma", "reaches 150 Hz. Use --spectrogram small, up to 120 Hz"),
        ("--electrodes clean-laplacian", "clean-laplacian is not one of clean, all"),
        ("--reference ear", "ear is not one of laplacian, bipolar, shaft-average, average, none"),
        (
            "--encoder-weights no-such.pth",
            "--encoder-weights no-such.pth: no such file. Give imagenet, random, or",
        ),
        (f"--text-weights {'x' * 300}", "x…: open_clip has no such weights for ViT-B-32-quickgelu"),
        ("--recording nowhere://x", "--recording nowhere://x: folders are not fetched by nowhere:"),
        ("--recording http://127.0.0.1:9/x", "--recording http://127.0.0.1:9/x: folders are not"),
        ("--recording s3:///x", "--recording s3:///x names no bucket. Give it as s3://BUCKET/FOL"),
        ("--recording s3:/lab/x", "--recording s3:/lab/x is neither a folder nor a file. Check"),
    ],
)
def test_a_flag_that_makes_no_sense_is_one_line_and_leaves_nothing(
    flags, message, refused, storage, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    assert message in refused(*flags.split())
    assert [name for name in files(tmp_path) if name not in before] in ([], [storage.name])


def test_a_recording_in_a_store_that_is_away_is_said_with_its_flag_and_the_reason(
    refused, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    S3FileSystem.clear_instance_cache()  # another test may have met a store that is there
    message = refused("--recording", "s3://lab/recordings/one")
    S3FileSystem.clear_instance_cache()
    assert message.startswith(
        "--recording s3://lab/recordings/one can't be read (Could not connect"
    )
    assert f'"{NOWHERE}/' in message


def test_encoder_weights_that_are_no_numbers_are_refused_before_the_plan(
    refused, storage, tmp_path
):
    state = ResNet18().state_dict()
    state["fc.bias"] = state["fc.bias"].to(torch.float8_e4m3fn)
    torch.save(state, tmp_path / "w.pth")
    message = refused("--dry-run", "--encoder-weights", tmp_path / "w.pth")
    assert message.startswith(f"{tmp_path / 'w.pth'}: fc.bias is float8_e4m3fn, which no layer")
    state["fc.bias"] = torch.full((1000,), torch.nan)
    torch.save(state, tmp_path / "nan.pth")
    message = refused("--dry-run", "--encoder-weights", tmp_path / "nan.pth")
    assert "not the weights of a ResNet-18, fc.bias holds NaN or infinity. Give" in message
    assert files(storage) == []


def test_text_weights_that_are_another_model_s_are_refused_before_the_plan(
    refused, storage, tmp_path
):
    save_file({"ln_final.weight": torch.ones(512)}, tmp_path / "w.safetensors")
    message = refused("--dry-run", "--text-weights", tmp_path / "w.safetensors")
    assert f"{tmp_path / 'w.safetensors'}: not the text tower of this model: it lacks" in message
    assert files(storage) == []


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_storage_that_can_t_be_written_to(below, refused, storage):
    storage.write_text("in the way")
    message = refused("--storage", storage / below)
    assert f"storage {storage / below} can't be written to" in message
    assert message.endswith("Check --storage.")
    assert storage.read_text() == "in the way"


def test_imagenet_weights_out_of_reach(refused, storage, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("https_proxy", NOWHERE)
    _pretrained_state.cache_clear()
    message = refused("--encoder-weights", "imagenet")
    for way_out in ("could not download", "set --encoder-weights to a local file", "or to random"):
        assert way_out in message
    assert files(storage) == []


# ---------------------------------------------------------------- whole processes


def test_an_unknown_subject(intact, storage):
    run = run_as_script("--recording", intact, "--storage", storage, "--subject", "sub_11")
    assert run.returncode == 2
    expected = f"no subject sub_11 in {intact}. Found: sub_9. Check --subject."
    assert one_line(run.stderr) == expected
    assert files(storage) == []


def test_clip_weights_out_of_reach(intact, storage, tmp_path):
    run = run_as_script(
        *("--recording", intact, "--storage", storage, "--text-weights", "openai"),
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path / "empty"),
        https_proxy=NOWHERE,
    )
    assert run.returncode == 2
    message = one_line(run.stderr)
    assert message.startswith("could not load the text weights openai of ViT-B-32-quickgelu (")
    for way_out in ("Go online once", "set --text-weights to a local file", "or to untrained"):
        assert way_out in message
    assert files(storage) == []


def test_samples_that_are_not_finite(refused, recording, storage):
    with h5py.File(recording / SIGNALS, "r+") as file:
        file["data/electrode_2"][:] = float("nan")
    message = refused()
    assert "NaN or beyond a kilovolt: 1, lacks a clean neighbour" in message
    assert files(storage) == []


# ---------------------------------------------------------------- found once Ray runs


def no_sweep(storage: Path) -> bool:
    """Whether no cell, no sweep and no view of one was written."""
    names = {path.name for path in storage.iterdir()}
    return not names & {SWEEPS, "mlflow.db", "mlartifacts"}


@pytest.mark.usefixtures("local_ray")
def test_a_cell_larger_than_the_machine(refused, storage):
    message = refused("--cpus-per-cell", "9999")
    assert message.startswith("a cell of 9999 CPUs does not fit this machine, which has")
    assert no_sweep(storage)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_corrupt_shard(refused, recording, storage):
    options = MaskingOptions(
        recording=str(recording),
        storage=str(open_storage(str(storage))),
        spectrogram="small",
        text_weights="untrained",
    )
    own = options.plan_data().own
    make_shards(own.features, own.report, on_shard=lambda *_: None)
    (shard,) = storage.glob("shards/*/part-00000.parquet")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    before = files(storage / "shards")
    message = refused()
    assert message.startswith(f"shard {shard} is damaged: its checksum is not the manifest's.")
    assert f"Delete {shard.parent} and run the sweep again" in message
    assert no_sweep(storage)
    assert files(storage / "shards") == before
