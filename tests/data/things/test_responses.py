from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssense.data.synthetic.things import (
    EEG_CHANNELS,
    MEG_CHANNELS,
    OFFICIAL_CHANNELS,
    SyntheticThingsSpec,
    write_synthetic_things,
)
from ssense.data.synthetic.things_spec import MEG_VARIANTS
from ssense.data.things import responses as module
from ssense.data.things.images import ImageSet, read_image_set
from ssense.data.things.responses import (
    FILES,
    POSTERIOR,
    Responses,
    ResponseSpec,
    average,
    open_responses,
    pick_window,
)
from ssense.errors import UserError

SMALL = {"subjects": 1, "concepts": 3, "images_per_concept": 2, "test_concepts": 2, "image_px": 8}
VARIANTS = [("eeg", v) for v in ("official", "nice", "ubp", "neurobridge", "array")]
VARIANTS += [("meg", variant) for variant in MEG_VARIANTS]
ALL = ResponseSpec(channels="all", stop_s=0.8)
EEG, OFFICIAL, MEG = ("eeg", "nice"), ("eeg", "official"), ("meg", "ubp")


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("things")
    roots = {variant: folder / "-".join(variant) for variant in VARIANTS}
    for (modality, variant), root in roots.items():
        spec = SyntheticThingsSpec(modality=modality, variant=variant, **SMALL)
        write_synthetic_things(root, spec)
    return roots


def subject(roots, variant, tmp_path) -> Path:
    """A copy of a subject's files, to change."""
    shutil.copytree(roots[variant], tmp_path, dirs_exist_ok=True)
    return tmp_path / "sub-01"


def trusted(path: Path) -> dict:
    """What the file holds, as the groups that publish such files load them."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=False)
    content = np.load(path, allow_pickle=True)
    return content.item() if isinstance(content, np.ndarray) and content.ndim == 0 else content


def trusted_mean(path: Path) -> np.ndarray:
    content = trusted(path)
    if isinstance(content, dict):
        content = next(content[key] for key in module.SIGNAL_KEYS if key in content)
    flat = np.asarray(content, np.float64).reshape(-1, *content.shape[-3:])
    return np.stack([sum(trial) / len(trial) for trial in flat])


def message(folder: Path, part="training") -> str:
    with pytest.raises(UserError) as error:
        open_responses(folder, part)
    text = str(error.value)
    assert text.isprintable()
    assert str(folder) in text
    return text


# ---------------------------------------------------------------- as published


@pytest.mark.parametrize("part", ["training", "test"])
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_averages_are_those_of_a_plain_loop_over_the_file(variant, part, roots):
    root = roots[variant]
    responses, images = open_responses(root / "sub-01", part), read_image_set(root, part)
    window = pick_window(responses, ALL)
    expected = trusted_mean(responses.path)[:, :, window]
    averaged = average(responses, images, ALL)
    assert averaged.dtype == np.float32
    assert averaged.shape == (
        6 if part == "training" else 2,
        len(responses.channels),
        0.8 * rate(variant),
    )
    np.testing.assert_allclose(averaged, expected, rtol=0, atol=1e-5)


def rate(variant) -> int:
    return 100 if variant == OFFICIAL else 250 if variant[0] == "eeg" else 200


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_channels_and_times(variant, roots):
    responses = open_responses(roots[variant] / "sub-01", "test")
    if variant == OFFICIAL:
        assert responses.channels == OFFICIAL_CHANNELS
        assert np.allclose(responses.times_s, np.arange(-0.2, 0.795, 0.01))
    elif variant[0] == "eeg":
        assert responses.channels == EEG_CHANNELS
        assert np.allclose(responses.times_s, np.arange(250) / 250)
    else:
        named = variant != ("meg", "neurobridge")
        assert responses.channels == (MEG_CHANNELS if named else responses.channels)
        assert (responses.channels[0], len(responses.channels)) == (
            "MEG001" if named else "channel 1",
            271,
        )
        assert np.allclose(responses.times_s, np.arange(201 if variant == MEG else 200) / 200)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v[0] == "eeg"], ids="-".join)
def test_the_posterior_channels_come_in_one_order_whatever_the_files(variant, roots):
    root = roots[variant]
    responses = open_responses(root / "sub-01", "training")
    spec = ResponseSpec(stop_s=0.8)
    averaged = average(responses, read_image_set(root, "training"), spec)
    whole, window = trusted_mean(responses.path), pick_window(responses, spec)
    for row, name in enumerate(POSTERIOR):
        expected = whole[:, responses.channels.index(name), window]
        np.testing.assert_allclose(averaged[:, row], expected, rtol=0, atol=1e-5)


def test_samples_stay_in_the_file_until_they_are_averaged(roots):
    for variant in VARIANTS:
        signals = open_responses(roots[variant] / "sub-01", "training").signals
        assert not signals.flags.owndata
        assert not signals.flags.writeable


def test_the_last_sample_of_meg_is_outside_0_to_1_s(roots):
    spec = ResponseSpec(channels="all")
    for variant in MEG_VARIANTS:
        root = roots["meg", variant]
        responses = open_responses(root / "sub-01", "test")
        assert average(responses, read_image_set(root, "test"), spec).shape == (2, 271, 200)


def test_meg_without_times_and_names(roots, tmp_path):
    folder = subject(roots, MEG, tmp_path)
    content = trusted(folder / "train.pt")
    torch.save({"eeg": content["eeg"], "img": content["img"]}, folder / "train.pt")
    responses = open_responses(folder, "training")
    assert np.allclose(responses.times_s, np.arange(201) / 200)
    assert responses.channels[-1] == "channel 271"


def test_rows_follow_the_images_where_the_file_names_them(roots, tmp_path):
    folder = subject(roots, ("eeg", "ubp"), tmp_path)
    images = read_image_set(tmp_path, "training")
    before = average(open_responses(folder, "training"), images, ALL)
    content = trusted(folder / "train.pt")
    order = np.array([3, 0, 5, 1, 4, 2])
    content["eeg"], content["img"] = content["eeg"][order], content["img"][order]
    content["img"] = np.char.replace(content["img"], "/", "\\")
    torch.save(content, folder / "train.pt")
    assert np.array_equal(average(open_responses(folder, "training"), images, ALL), before)


@given(chunk=st.integers(1, 2**21), shuffled=st.booleans())
def test_reading_in_pieces_changes_nothing(chunk, shuffled, roots):
    root = roots["eeg", "ubp"]
    responses, images = (
        open_responses(root / "sub-01", "training"),
        read_image_set(root, "training"),
    )
    if shuffled:
        files = tuple(images.files[i] for i in (2, 3, 1, 0, 5, 4))
        images = ImageSet(folder=images.folder, files=files, concepts=(), concept=images.concept)
    with pytest.MonkeyPatch.context() as patch:
        whole = average(responses, images, ALL)
        patch.setattr(module, "_CHUNK_BYTES", chunk)
        assert np.array_equal(average(responses, images, ALL), whole)


def test_80_half_precision_repetitions_are_summed_in_single_precision(tmp_path):
    signals = np.full((1, 80, 1, 4), 1000.0, np.float16)  # their sum is over float16's largest
    signals[0, 0] = 1001
    responses = Responses(
        path=tmp_path, signals=signals, channels=("Oz",), times_s=np.arange(4) / 4, images=None
    )
    spec = ResponseSpec(channels="all")
    averaged = average(responses, one_image(), spec)
    np.testing.assert_allclose(averaged, 1000 + 1 / 80, rtol=1e-6)


def one_image() -> ImageSet:
    return ImageSet(folder=Path("x"), files=("a/b.jpg",), concepts=("a",), concept=np.zeros(1, int))


# ---------------------------------------------------------------- windows


def window(start_s: float, stop_s: float, times_s: np.ndarray) -> np.ndarray:
    responses = Responses(
        path=Path("x.npy"), signals=np.zeros(0), channels=(), times_s=times_s, images=None
    )
    return times_s[pick_window(responses, ResponseSpec(start_s=start_s, stop_s=stop_s))]


@given(
    rate_hz=st.sampled_from((100, 200, 250, 1000)),
    first=st.integers(-50, 0),
    begin=st.integers(0, 100),
    length=st.integers(1, 80),
    shift_s=st.sampled_from((0.0, 1e-6, -1e-6)),  # rounded, as times in files are
)
def test_a_window_has_the_samples_from_start_to_before_stop(rate_hz, first, begin, length, shift_s):
    times_s = np.arange(first, first + 200) / rate_hz
    start_s, stop_s = (first + begin) / rate_hz, (first + begin + length) / rate_hz
    got = window(start_s, stop_s, times_s + shift_s)
    assert np.allclose(got, times_s[begin : begin + length], atol=1e-5)


@pytest.mark.parametrize(
    ("start_s", "stop_s"), [(-0.3, 0.5), (0, 1.0), (0.5, 0.5), (0.6, 0.2), (2, 3)]
)
def test_a_window_outside_the_recorded_time_is_refused(start_s, stop_s):
    with pytest.raises(UserError) as error:
        window(start_s, stop_s, np.arange(-20, 80) / 100)
    assert str(error.value) == (
        f"x.npy covers -0.2 to 0.8 s, not {start_s:g} to {stop_s:g} s. "
        "Choose `start_s` and `stop_s` within it."
    )


# ---------------------------------------------------------------- what is refused


def test_missing_and_doubled_files(roots, tmp_path):
    folder = subject(roots, EEG, tmp_path)
    shutil.copy(folder / "preprocessed_eeg_test.npy", folder / "test.npy")
    assert "has several files of test responses:" in message(folder, "test")
    (folder / "preprocessed_eeg_training.npy").unlink()
    text = message(folder)
    assert all(name in text for name in FILES["training"])
    assert "Found: preprocessed_eeg_test.npy, test.npy" in text
    assert "Found: nothing" in message(tmp_path / "sub-07")


def rewritten(folder: Path, **changes) -> Path:
    path = folder / "preprocessed_eeg_training.npy"
    content = {k: v for k, v in (trusted(path) | changes).items() if v is not ...}
    with path.open("wb") as file:
        pickle.dump(content, file)
    return folder


SIGNALS = "preprocessed_eeg_data"
UNFIT = {
    "names, not the responses": {SIGNALS: ..., "ch_names": ..., "names": 1, "times": ...},
    "preprocessed_eeg_data of the type list": {SIGNALS: [1.0]},
    "preprocessed_eeg_data of the type int64": {SIGNALS: np.zeros((6, 2, 63, 250), int)},
    "of shape (6, 63, 250), not images x": {SIGNALS: np.zeros((6, 63, 250))},
    "of shape (6, 0, 63, 250), not": {SIGNALS: np.zeros((6, 0, 63, 250))},
    "62 channel names for 63 channels": {"ch_names": list(EEG_CHANNELS[1:])},
    "the channel name Oz twice": {"ch_names": ["Oz", *EEG_CHANNELS[:61], "Oz"]},
    "ch_names that are not a list": {"ch_names": "Oz"},
    "times that are not a list": {"times": ["a"] * 250},
    "times that are not a list of": {"times": ...},
    "249 times for 250 samples": {"times": np.arange(249) / 250},
    "times that are not evenly": {"times": np.arange(250) ** 2 / 250},
    "times that are not evenly spaced": {"times": -np.arange(250) / 250},
    "img that is not an array of file names": {"img": np.zeros(6)},
    "file names of 5 images for responses to 6": {"img": np.array(["a"] * 5)},
    "rows of img with several images": {"img": np.array([["a", "b"]] * 6)},
}


@pytest.mark.parametrize("what", UNFIT)
def test_content_that_does_not_fit_is_refused(what, roots, tmp_path):
    folder = rewritten(subject(roots, EEG, tmp_path), **UNFIT[what])
    assert what in message(folder)


def test_an_array_alone_needs_its_info(roots, tmp_path):
    folder = subject(roots, ("eeg", "array"), tmp_path)
    info = json.loads((tmp_path / "info.json").read_text())
    (tmp_path / "info.json").unlink()
    assert "is a bare array, with no info.json (ch_names and times) beside it" in message(folder)
    (folder / "info.json").write_text(json.dumps(info))
    assert open_responses(folder, "training").channels == EEG_CHANNELS
    (folder / "info.json").write_text("[1]")
    assert "must hold a JSON object" in message(folder)


def refused(folder: Path, spec: ResponseSpec = ALL) -> str:
    images = read_image_set(folder.parent, "training")
    with pytest.raises(UserError) as error:
        average(open_responses(folder, "training"), images, spec)
    assert str(error.value).isprintable()
    return str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_not_finite_are_named(value, roots, tmp_path):
    folder = subject(roots, EEG, tmp_path)
    signals = trusted(folder / "preprocessed_eeg_training.npy")["preprocessed_eeg_data"]
    signals[4, 1, EEG_CHANNELS.index("POz"), 30] = value
    text = refused(rewritten(folder, preprocessed_eeg_data=signals))
    assert (
        "the response to 00003_synthetic00002/synthetic00002_01b.jpg at POz is not finite" in text
    )
    signals[4, 1, EEG_CHANNELS.index("POz"), 30] = 0
    signals[4, 1, EEG_CHANNELS.index("Fp1"), 30] = value  # not among those asked for
    folder = rewritten(folder, preprocessed_eeg_data=signals)
    images = read_image_set(tmp_path, "training")
    posterior = average(open_responses(folder, "training"), images, ResponseSpec())
    assert np.isfinite(posterior).all()


def test_responses_to_other_images_are_refused(roots, tmp_path):
    folder = subject(roots, EEG, tmp_path)
    signals = trusted(folder / "preprocessed_eeg_training.npy")["preprocessed_eeg_data"]
    rewritten(folder, preprocessed_eeg_data=signals[1:])
    assert f"has responses to 5 images, {tmp_path}/training_images holds 6" in refused(folder)
    names = np.array([*read_image_set(tmp_path, "training").files[:-1], "a/b.jpg"])
    rewritten(folder, preprocessed_eeg_data=signals, img=names)
    text = "has no response to 00003_synthetic00002/synthetic00002_02s.jpg of"
    assert text in refused(folder)


def test_missing_channels_are_named(roots):
    root = roots[MEG]
    images = read_image_set(root, "test")
    with pytest.raises(UserError, match=r"has no channel P7, P5, .*Set `channels` to all"):
        average(open_responses(root / "sub-01", "test"), images, ResponseSpec())
