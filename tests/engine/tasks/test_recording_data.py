"""Datasets of one sweep: planned together over the sentences that all of them keep."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import chain
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from ssense.data import shards
from ssense.data.recordings.readers.brain_treebank import open_brain_treebank
from ssense.data.recordings.segments import STRADDLES, SegmentSpec
from ssense.data.repeats import TowerTexts
from ssense.data.splits import leakage, near
from ssense.data.synthetic.recording import write_synthetic
from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.cell import dataset_choice, describe
from ssense.engine.core.sweep import Family, checked_levels, needs_of
from ssense.engine.tasks.dataset_plan import DatasetPlan, plan_dataset
from ssense.engine.tasks.feature_plan import segments_identity
from ssense.engine.tasks.recording_data import RecordingData, tells_coordinates
from ssense.engine.tasks.recording_plan import SMALL
from ssense.engine.tasks.registry import kept_data
from ssense.errors import UserError, counted
from ssense.files.sealed_json import CHECKSUM, write_sealed
from ssense.model.encoders.spectrogram_encoder import ResNetSpec
from ssense.specification import configured
from ssense.targets.text import TextSpec
from ssense.training.sentences import SentenceSpec

SPEC = SentenceSpec(
    features=SMALL,
    target=TextSpec(weights="untrained"),
    encoder=ResNetSpec(weights="random"),
)
SEEDS = (0, 1)
LEVELS = {
    "data.context_after_s": (0.5, 1.0, 4.0),
    "data.context_before_s": (0.0, 3.0),
    "data.reference": ("none", "bipolar"),
    "features.n_frequencies": (8, 16),
    "target.layer": (2, 4),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> RecordingData:
    folder = tmp_path_factory.mktemp("recording")
    write_synthetic(folder / "made", SyntheticSpec(sentences=150, electrodes=5))
    recording, storage = open_brain_treebank(folder / "made"), UPath(folder / "storage")
    plan = plan_dataset(recording, SPEC.data, SPEC.features, SPEC.target, storage)
    return RecordingData(own=plan)


def family(*names: str) -> Family:
    return Family(name="of data", levels={name: LEVELS[name] for name in names})


def numbers(data: RecordingData) -> list[list[int]]:
    return [
        choice.plan.features.segments.sentence_idx[choice.plan.rows].tolist()
        for choice in data.choices.values()
    ]


def test_a_sweep_without_levels_of_the_data_has_one_dataset_as_it_is_alone(own):
    rates = Family(name="rate", levels={"training.learning_rate": (1e-3, 1e-2)})
    covering = own.covering(SPEC, (rates,))
    assert covering.datasets == {}
    assert covering.digest == own.digest
    (line,) = covering.lines(SPEC, (rates,), SEEDS)
    assert re.fullmatch(r"  encoder: resnet-18, [\d,]+ trained weights", line)
    assert own.origin().datasets == ()


def test_every_dataset_has_the_sentences_that_all_of_them_keep(own):
    covering = own.covering(SPEC, (family("data.context_after_s"),))
    (kept, *others) = numbers(covering)
    assert others == [kept, kept]
    longest = configured(SPEC, {"data.context_after_s": 4.0})
    alone = covering.choices[dataset_choice(longest)].plan.features.segments
    mine = own.own.features.segments.sentence_idx
    assert kept == [n for n in mine.tolist() if n not in alone.left_out]
    assert len(kept) < len(mine)
    # The dataset of the specification is another one than without the longer context.
    assert covering.digest != own.digest
    assert covering.datasets[dataset_choice(SPEC)] == covering.digest
    lacking = sum(n in alone.left_out for n in mine.tolist())
    said = "\n".join(covering.lines(SPEC, (), SEEDS))
    assert f"3 datasets of the same {len(kept)} sentences (of {len(mine)} of the" in said
    assert f"lacks {lacking} sentences ({STRADDLES}: " in said


def test_where_all_are_kept_the_dataset_of_the_specification_is_what_it_is_alone(own):
    covering = own.covering(SPEC, (family("features.n_frequencies", "target.layer"),))
    assert covering.digest == own.digest
    assert len(covering.datasets) == 4
    assert own.digest not in covering.datasets.values()  # none of the levels is its own
    folders = {choice.plan.features.folder for choice in covering.choices.values()}
    assert len(folders) == 2  # datasets that differ in their targets share shards


@settings(deadline=None, max_examples=25)
@given(
    fields=st.lists(st.sampled_from(sorted(LEVELS)), min_size=1, max_size=3, unique=True),
    kind=st.sampled_from(["random", "grouped", "held-out"]),
    seed=st.integers(0, 1000),
)
def test_splits_depend_on_the_common_sentences_alone(own, fields, kind, seed):
    """Whatever is compared beside it, a sentence is in the part that the set of them gives it."""
    covering = own.covering(SPEC, [family(field) for field in fields])
    plans = [choice.plan for choice in covering.choices.values()]
    own_segments = own.own.features.segments
    is_kept = np.isin(own_segments.sentence_idx, numbers(covering)[0])
    groups = dict(zip(own_segments.sentence_idx.tolist(), own_segments.text, strict=True))
    expected = covering.split(kind, seed)
    for plan in plans:
        split = plan.split(kind, seed)
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(split, part), getattr(expected, part))
    # The same from the sentences' own places and texts, whichever families made them the common.
    text = [groups[number] for number in numbers(covering)[0]]
    spans_s = own.own.features.spans_s[is_kept]
    if kind == "random":
        order = np.random.default_rng(seed).permutation(len(text))
        np.testing.assert_array_equal(expected.train, order[: len(expected.train)])
    elif kind == "grouped":
        parts = [{text[row] for row in rows} for rows in vars(expected).values()]
        assert sum(map(len, parts)) == len(set(chain(*parts)))
    else:
        assert not near(spans_s[expected.train], spans_s[expected.test], 6.9).any()


def test_configurations_of_one_set_of_sentences_split_alike_in_different_sweeps(own):
    one = own.covering(SPEC, (family("data.reference"),))
    other = own.covering(SPEC, (family("data.reference", "features.n_frequencies"),))
    assert numbers(one)[0] == numbers(other)[0]
    for kind in ("random", "grouped", "blocked"):
        for part, rows in vars(one.split(kind, 7)).items():
            np.testing.assert_array_equal(rows, getattr(other.split(kind, 7), part))
    of_none = dataset_choice(configured(SPEC, {"data.reference": "none"}))
    assert one.datasets[of_none] == other.datasets.get(of_none, one.datasets[of_none])


def test_features_are_made_when_they_are_asked_for_and_loaded_with_the_common_sentences(
    own, local_ray
):
    assert local_ray is None  # it only has to run
    covering = own.covering(SPEC, (family("data.context_after_s"),))
    wanted = [*covering.datasets.values()]
    covering.warm(SPEC)
    assert not covering.is_made(wanted[:1])
    covering.make(wanted[:1])
    assert covering.is_made(wanted[:1])
    assert not covering.is_made(wanted)
    covering.make(wanted)
    loaded = [covering.load(digest) for digest in wanted]
    assert [data.digest for data in loaded] == wanted
    first, *others = loaded
    assert all(data.stimuli == first.stimuli for data in others)
    assert all(np.array_equal(data.targets, first.targets) for data in others)
    assert len({data.spectrograms.shape[-1] for data in loaded}) == 3  # frames
    for data in loaded:
        np.testing.assert_array_equal(data.split("blocked", 3).test, first.split("blocked", 3).test)
    # And from what the sweep keeps, without the recording.
    kept = kept_data(covering.origin(), covering.storage)
    for digest, data in zip(wanted, loaded, strict=True):
        again = kept.load(digest)
        assert again.digest == digest
        np.testing.assert_array_equal(again.spectrograms, data.spectrograms)
        np.testing.assert_array_equal(again.spans_s, data.spans_s)


def test_subsets_of_electrodes_share_their_features(own, local_ray):
    assert local_ray is None  # it only has to run
    names = own.own.features.segments.electrodes
    shaft = f"{names[0].rstrip('0123456789')}*"
    levels = {"data.subset": ("all", names[1], f"{names[2]}, {names[0]}")}
    covering = own.covering(SPEC, (Family(name="f", levels=levels),))
    assert covering.datasets[dataset_choice(SPEC)] == own.digest
    covering.make(covering.datasets.values())
    whole, one, two = (covering.load(digest).spectrograms for digest in covering.datasets.values())
    assert len({choice.plan.features.folder for choice in covering.choices.values()}) == 1
    np.testing.assert_array_equal(one, whole[:, [1]])
    np.testing.assert_array_equal(two, whole[:, [0, 2]])  # in the order of the recording
    kept = kept_data(covering.origin(), covering.storage)
    last = [*covering.datasets.values()][-1]
    assert kept.load(last).digest == last
    by_shaft = own.covering(SPEC, (Family(name="f", levels={"data.subset": (shaft,)}),))
    (only,) = by_shaft.choices.values()
    assert only.plan.shape == own.shape  # the recording has a single shaft


def test_line_noise_that_is_left_in_is_a_level(own):
    levels = {"data.line_hz": (None, 50.0, 60.0)}
    covering = own.covering(SPEC, (Family(name="f", levels=levels),))
    assert len(covering.datasets) == 3
    assert [choice.name for choice in covering.choices.values()] == [
        "line None",
        "line 50 Hz",
        "line 60 Hz",
    ]


def test_sentences_that_were_deleted_are_kept_again(own, local_ray):
    assert local_ray is None  # it only has to run
    covering = own.covering(SPEC, (family("data.context_after_s"),))
    (wanted, *_) = covering.datasets.values()
    covering.make([wanted])
    for path in (own.storage / "stimuli").iterdir():
        path.unlink()
    kept = kept_data(covering.origin(), covering.storage)
    with pytest.raises(UserError, match=r"stimuli/\w+\.safetensors is missing\. Run the sweep"):
        kept.load(wanted)
    assert not covering.is_made([wanted])
    covering.make([wanted])
    assert kept.load(wanted).digest == wanted


def test_the_plan_tells_how_much_of_the_test_leaks_by_choice(own):
    covering = own.covering(SPEC, (family("data.context_after_s"),))
    shares = [
        float(line.partition(" of its test segments share samples")[0].rpartition(" ")[2][:-1])
        for line in covering.lines(SPEC, (), SEEDS)[1:]
    ]
    assert shares == sorted(shares)  # the longer, the more
    assert shares[0] < shares[-1]
    of_seeds = [covering.split("random", seed) for seed in SEEDS]
    plans = [choice.plan for choice in covering.choices.values()]
    assert shares == [round(100 * leakage(of_seeds, plan.spans_s)) for plan in plans]
    for kind in ("blocked", "held-out"):  # which keep the parts apart
        said = covering.lines(dataclasses.replace(SPEC, split=kind), (), SEEDS)
        assert "share samples" not in "".join(said)
    same = own.covering(SPEC, (family("features.n_frequencies"),))
    assert "share samples" not in "".join(same.lines(SPEC, (), SEEDS))
    targets = own.covering(SPEC, (family("target.layer"),)).lines(SPEC, (), SEEDS)
    assert ["the features of layer 2" in line for line in targets[1:]] == [False, True]


@pytest.mark.parametrize(
    ("electrodes", "reference", "named"),
    [
        ("clean", "laplacian", {}),
        ("clean", "none", {"electrodes": "clean"}),  # as it was before there were references
        ("all", "none", {"electrodes": "all"}),
        ("all", "laplacian", {"electrodes": "all", "reference": "laplacian"}),
        ("all", "bipolar", {"electrodes": "all", "reference": "bipolar"}),
        ("clean", "bipolar", {"reference": "bipolar"}),
    ],
)
def test_shards_of_before_there_were_references_keep_their_names(electrodes, reference, named):
    spec = SegmentSpec(electrodes=electrodes, reference=reference, subset="LA*")
    assert segments_identity(spec) == named


# ---------------------------------------------------------------- what is refused


def refused(own: RecordingData, levels: dict, specification: SentenceSpec = SPEC) -> str:
    with pytest.raises(UserError) as error:
        own.covering(specification, (Family(name="f", levels=levels),))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_two_levels_that_are_the_same_dataset_are_refused(own):
    # No contact of this recording is corrupted.
    assert refused(own, {"data.electrodes": ("clean", "all")}).startswith(
        "clean and all are the same dataset: no sentence, electrode, sample or target"
    )


@pytest.mark.parametrize(
    "levels",
    [
        {"features": ("band-power",), "features.bands": ("13-30", "beta")},
        {"features": ("band-power",), "features.bands": ("70.0-150", "high-gamma")},
        {
            "features": ("fourier",),
            "features.maximum_hz": (90.0,),
            "features.window_s": (0.2, 0.2001),
        },
        {"data.notch_highest_hz": (250.0, 360.0)},  # at 512 samples a second
        {"data.notch_quality": (20.0, 30.0), "data.line_hz": (None,)},
        {"features.pad_domain": ("raw", "raw_masked"), "data.window_s": (2.0,)},
        {"features.pad_domain": ("raw", "raw_masked"), "features.normalisation": ("none",)},
        {"features.order_set": ("brainbert", "authors")},  # of orders from 1 on
        {"features.cycle_rule": ("multiplicative", "additive"), "features.base_cycles": (1.0,)},
        {"data.resample_hz": (None, 512.0)},
        # Where the sentences of one are those of the other, its limit has not told them apart.
        {"data.window_s": (2.0,), "data.max_duration_s": (2.0, 3.0)},
    ],
)
def test_levels_that_only_are_called_otherwise_are_the_same_dataset(own, levels):
    assert " are the same dataset" in refused(own, levels)


@pytest.mark.parametrize(
    "levels",
    [
        {"features": ("band-power",), "features.bands": ("12-30", "beta")},
        {"data.notch_highest_hz": (200.0, 360.0)},
        {"data.notch_quality": (20.0, 30.0)},
        {"features.pad_domain": ("raw", "raw_masked", "spec")},
        {"features.order_set": ("brainbert", "authors"), "features.order_min": (2,)},
        {"features.cycle_rule": ("multiplicative", "additive")},
        {"data.max_duration_s": (2.0, 3.0)},  # and padded to another length
    ],
)
def test_levels_that_make_other_values_are_compared(own, levels):
    own.covering(SPEC, (Family(name="f", levels=levels),))


def test_choices_that_come_to_the_same_are_found_with_the_first_of_them(own):
    kinds = ("laplacian", "shaft-average", "none", "average")
    choices = {kind.upper(): {"data.reference": kind} for kind in kinds}
    assert own.repeated(SPEC, choices) == {"AVERAGE": "SHAFT-AVERAGE"}  # of a single shaft


@pytest.mark.parametrize(
    ("levels", "advice"),
    [
        ({"data.context_after_s": (200.0,)}, "or give less context or a shorter window."),
        ({"data.window_s": (100.0,)}, "or give less context or a shorter window."),
        (
            {"data.pad_to": (1000,), "data.overflow": ("drop",), "data.context_before_s": (15.0,)},
            "or raise pad_to or truncate what overflows.",
        ),
        ({"data.max_duration_s": (0.1,)}, "or relax the length rule."),
    ],
)
def test_a_level_without_sentences_is_told_by_what_costs_them(own, levels, advice):
    message = refused(own, levels)
    assert message.endswith(advice)
    assert message.startswith(describe({name: level for name, (level,) in levels.items()}))


def test_weights_that_can_t_be_had_are_told_in_the_plan_by_their_level(own, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = refused(own, {"target.weights": ("untrained", "openai")})
    assert message.startswith("openai: could not load the text weights openai")
    assert "`" not in message
    assert "set that level to a local file" in message
    with pytest.raises(UserError, match=r"^/no/such: .*no such file\. Set that level to imagenet"):
        own.covering(SPEC, (Family(name="f", levels={"encoder.weights": ("/no/such",)}),))


def test_more_windows_than_frames_are_refused(own):
    frames = own.shape[-1]
    levels = {"encoder": ("linear",), "encoder.windows": (8, frames + 1)}
    message = refused(own, levels)
    assert f"encoder.windows can't be {frames + 1}: the features have {frames} frames" in message
    levels["encoder.windows"] = (8, frames)
    own.covering(SPEC, (Family(name="f", levels=levels),))


def test_data_without_a_common_sentence_are_refused(tmp_path):
    write_synthetic(tmp_path / "made", SyntheticSpec(sentences=200, electrodes=5, pauses=0))
    recording, storage = open_brain_treebank(tmp_path / "made"), UPath(tmp_path / "storage")
    plan = plan_dataset(recording, SPEC.data, SPEC.features, SPEC.target, storage)
    data = RecordingData(own=plan)
    # One reaches back over more than half of the recording, the other forward.
    half_s = 0.55 * recording.n_samples / recording.sampling_rate_hz
    families = [
        Family(name=name, levels={f"data.context_{name}_s": (half_s,)})
        for name in ("before", "after")
    ]
    with pytest.raises(UserError, match="no sentence is kept by all data that the configurations"):
        data.covering(SPEC, families)


def test_a_level_that_the_recording_can_t_meet_is_refused_by_its_name(own):
    assert "subset names nowhere, and no electrode is called so. There are: " in refused(
        own, {"data.subset": ("all", "nowhere")}
    )
    message = refused(own, {"features.maximum_hz": (120.0, 300.0)})
    assert "300" in message
    assert "sampling rate" in message
    assert "layer 40" in refused(own, {"target.layer": (2, 40)})


def test_segments_that_reach_into_the_other_parts_of_a_split_are_refused(own):
    levels = {"data.context_after_s": (1.0, 9.0)}
    covering = own.covering(SPEC, (Family(name="f", levels=levels),))
    covering.check_splits("random", range(3))
    with pytest.raises(UserError, match=r"context after 9 s: segments are so long .* blocked"):
        covering.check_splits("blocked", range(3))


def test_references_that_are_the_same_on_a_single_shaft_are_refused(own):
    message = refused(own, {"data.reference": ("shaft-average", "average")})
    assert message.startswith("shaft-average and average are the same dataset: no sentence")


def test_a_tower_to_which_sentences_of_different_parts_are_one_is_refused(own):
    covering = own.covering(SPEC, (family("target.layer"),))
    covering.check_splits("grouped", range(3))
    everything_same = TowerTexts(np.zeros(len(own.own.rows), np.int64), np.zeros(1, bool), 77)
    for choice in covering.choices.values():
        vars(choice.plan)["tower"] = everything_same
    with pytest.raises(UserError, match=r"can't tell sentences apart that a grouped split puts"):
        covering.check_splits("grouped", range(3))
    covering.check_splits("random", range(3))


def test_weights_of_a_tower_are_checked_before_anything_is_made(own):
    assert "misspelt" in refused(own, {"target.weights": ("untrained", "misspelt")})


# ---------------------------------------------------------------- targets of other kinds


OWN_TARGET = """
import numpy as np


def letters(sentences):
    return np.array([[s.lower().count(c) for c in "abcdefghij"] for s in sentences]) + 0.5
"""


@pytest.fixture
def other_targets(own, tmp_path) -> dict[str, str]:
    """A file of vectors by the sentences' numbers, and a function of one's own."""
    found = own.own.features.segments.sentence_idx
    np.save(tmp_path / "words.npy", np.random.default_rng(0).standard_normal((len(found), 6)))
    (tmp_path / "words.txt").write_text("\n".join(map(str, found.tolist())))
    (tmp_path / "mine.py").write_text(OWN_TARGET)
    return {
        "target.file": str(tmp_path / "words.npy"),
        "target.source": f"{tmp_path / 'mine.py'}:letters",
    }


def kinds_of(others: dict[str, str]) -> Family:
    """A tower, a file of vectors and one's own target, a field of each with its kind alone."""
    levels = {"target": ("open-clip", "vectors", "own"), "target.layer": (None, 2)}
    levels |= {name: (level,) for name, level in others.items()}
    checked_levels(SPEC, {"targets": levels})
    return Family(name="targets", levels=levels, needs=needs_of(SPEC, levels))


def test_kinds_of_targets_are_levels_with_datasets_of_their_own(own, other_targets, local_ray):
    assert local_ray is None  # it only has to run
    family = kinds_of(other_targets)
    assert family.size == 4
    covering = own.covering(SPEC, (family,))
    covering.warm(SPEC, (family,))
    covering.make(covering.datasets.values())
    loaded = [covering.load(digest) for digest in covering.datasets.values()]
    assert [data.targets.shape[1] for data in loaded] == [512, 512, 6, 10]
    assert [plan.examples(2, torch.device("cpu")).targets.shape[1] for plan in plans(covering)] == [
        *(data.targets.shape[1] for data in loaded)
    ]
    assert loaded[0].digest == own.digest
    assert all(np.array_equal(each.spectrograms, loaded[0].spectrograms) for each in loaded)
    vectors = np.load(other_targets["target.file"])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(loaded[2].targets, unit, atol=1e-7)  # all sentences are kept
    kept = kept_data(covering.origin(), covering.storage)
    for data in loaded:
        assert kept.fault(data.digest) == ""
        np.testing.assert_array_equal(kept.load(data.digest).targets, data.targets)
    names = [each.tower for each in covering.origin().datasets]
    assert names == [
        *("ViT-B-32-quickgelu, untrained", "ViT-B-32-quickgelu, untrained, layer 2"),
        *("vectors words.npy", "mine.py:letters"),
    ]


def plans(data: RecordingData) -> list[DatasetPlan]:
    return [choice.plan for choice in data.choices.values()]


def test_a_file_of_a_target_that_has_changed_is_told_and_one_that_is_away_is_not(
    own, other_targets, local_ray
):
    assert local_ray is None  # it only has to run
    covering = own.covering(SPEC, (kinds_of(other_targets),))
    covering.warm(SPEC)
    covering.make(covering.datasets.values())
    kept, wanted = kept_data(covering.origin(), covering.storage), [*covering.datasets.values()][-1]
    path = Path(other_targets["target.source"].rpartition(":")[0])
    path.write_text(OWN_TARGET.replace("0.5", "1.5"))
    assert "holds other sentences than the sweep was planned on" in kept.fault(wanted)
    assert kept.load(wanted).digest != wanted
    assert kept.parts(wanted).endswith("or the target mine.py:letters,")
    path.unlink()
    assert kept.fault(wanted) == ""


def kept_texts(data: RecordingData) -> set[str]:
    return {path.name for path in Path(data.storage).glob("text/*")}


def test_a_target_that_does_not_serve_is_refused_by_its_levels(own, other_targets, tmp_path):
    words, mine = other_targets["target.file"], other_targets["target.source"]
    before = kept_texts(own)
    assert "a target of vectors names no file" in refused(own, {"target": ("vectors",)})
    assert "names no class or function" in refused(own, {"target": ("own",)})
    assert refused(own, {"target": ("vectors",), "target.file": ("no.npy",)}) == (
        "vectors, no.npy: vectors no.npy: no such file. Put it back."
    )
    ids = Path(words).with_suffix(".txt")
    ids.write_text("\n".join(str(10**6 + row) for row in range(len(own.own.rows))))
    levels = {"target": ("vectors",), "target.file": (words,)}
    assert f"{words} has no vector for {len(own.own.rows)} of " in refused(own, levels)
    moved = tmp_path / "moved.py"
    moved.write_text(OWN_TARGET)
    sources = {"target": ("own",), "target.source": (mine, f"{moved}:letters")}
    assert "are the same dataset" in refused(own, sources)
    moved.write_text("def letters(sentences):\n    return [1.0]")
    assert "makes list of 3 sentences, not [3, D] finite floats" in refused(own, sources)
    assert kept_texts(own) == before


def test_sentences_of_one_vector_in_different_parts_are_refused(own, tmp_path):
    numbers = own.own.features.segments.sentence_idx.tolist()
    np.save(tmp_path / "same.npy", np.ones((len(numbers), 3)))
    (tmp_path / "same.txt").write_text("\n".join(map(str, numbers)))
    levels = {"target": ("open-clip", "vectors"), "target.file": (str(tmp_path / "same.npy"),)}
    family = Family(name="f", levels=levels, needs=needs_of(SPEC, levels))
    covering = own.covering(SPEC, (family,))
    covering.check_splits("random", range(2))
    with pytest.raises(UserError, match=r"^vectors same\.npy can't tell sentences apart that a gr"):
        covering.check_splits("grouped", range(2))


def test_datasets_that_do_not_fit_the_memory_or_the_disk_are_refused(own, monkeypatch):
    covering = own.covering(SPEC, (family("data.context_after_s"),))
    wanted = covering.datasets.values()
    covering.check_room(wanted, 10**9)
    with pytest.raises(UserError, match=r"3 datasets take \d MB of memory on every machine, and"):
        covering.check_room(wanted, 10**6)
    fresh = dataclasses.replace(
        own,
        own=dataclasses.replace(
            own.own,
            features=dataclasses.replace(own.own.features, storage=UPath(own.storage / "other")),
        ),
    ).covering(SPEC, (family("data.context_after_s"),))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError, match=r"0 MB free, and 3 datasets to make: \d MB\. Make room"):
        fresh.check_room(fresh.datasets.values(), None)


def test_one_dataset_has_to_fit_the_memory_of_the_machine_too(own):
    with pytest.raises(UserError, match=r"1 dataset takes \d MB of memory .* this one has 0 MB"):
        own.check_room([own.digest], 10**9, 10**3)
    own.check_room([own.digest], 1, 10**9)  # what cells can't share lies on the disk


def test_a_cell_that_does_not_fit_the_memory_is_refused_before_it_takes_any(own):
    wide = Family(name="f", levels={"encoder": ("convolution",), "encoder.channels": (10**5,)})
    with pytest.raises(UserError, match=r"encoder convolution: a cell takes 15,\d{3} GB") as error:
        own.check_cells(SPEC, (wide,), 10**12, on_gpu=True)
    assert "\n" not in str(error.value)
    (line,) = own.lines(SPEC, (wide,), SEEDS)  # counted without a weight in memory
    assert re.search(r" 99\d,\d{3},\d{3},\d{3} trained weights", line)
    small = Family(name="f", levels={"encoder": ("convolution",)})
    own.check_cells(SPEC, (small,), 10**11, on_gpu=False)


def test_what_a_batch_leaves_for_its_gradient_counts_where_it_is_in_the_memory(own):
    linear = Family(name="f", levels={"encoder": ("linear",), "encoder.windows": (20,)})
    (planned,) = own._encoders(SPEC, (linear,))
    _, electrodes, frequencies, _ = own.shape
    weights, pairs = planned.weights, SPEC.training.batch_size
    values = 20 * electrodes * frequencies  # each passes a product by the weights, which keeps it
    assert weights == (values + 1) * SPEC.target.dimensions()
    least = 16 * weights + own.own.nbytes
    own.check_cells(SPEC, (linear,), least, on_gpu=True)
    own.check_cells(SPEC, (linear,), least + 4 * pairs * values, on_gpu=False)
    with pytest.raises(UserError, match=f"what {pairs} pairs of a batch leave"):
        own.check_cells(SPEC, (linear,), least + 4 * pairs * values - 1, on_gpu=False)


def test_weights_are_counted_for_every_shape_of_data(own):
    levels = {"encoder": ("linear",), "features.n_frequencies": (8, 16)}
    families = (Family(name="f", levels=levels), Family(name="g", levels={}))
    *_, linear, resnet = own.covering(SPEC, families).lines(SPEC, families, SEEDS)
    _, electrodes, frequencies, _ = own.shape
    few, many = ((8 * electrodes * n + 1) * SPEC.target.dimensions() for n in (8, frequencies))
    assert linear == f"  encoder: linear, {few:,} to {many:,} trained weights, by the data's shape"
    assert re.fullmatch(r"  encoder: resnet-18, [\d,]+ trained weights", resnet)


def test_examples_are_of_the_largest_dataset(own):
    covering = own.covering(SPEC, (family("data.context_after_s"),))
    shapes = {choice.plan.shape[1:] for choice in covering.choices.values()}
    found = tuple(covering.examples(2, torch.device("cpu")).spectrograms.shape[1:])
    assert found == max(shapes, key=np.prod)


# ---------------------------------------------------------------- where electrodes lie


BY_PLACE = Family(
    name="by place",
    levels={"encoder": ("attention", "linear"), "encoder.coordinates": (False, True)},
    needs={"encoder.coordinates": {"encoder": ("attention",)}},
)


def with_places(data: RecordingData, root: Path, x: float) -> RecordingData:
    """The same data of a copy of the recording, with coordinates of two of its contacts."""
    if not root.exists():
        copytree(data.own.features.recording.root, root)
    _, one, two, *_ = data.own.features.recording.electrodes
    rows = [f"sub_9,{one},{x},0,1,STG", f"sub_9,{two},{x},2,3,insula"]
    path = root / "localization" / "elec_coords_full.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["Subject,Electrode,X,Y,Z,Region", *rows]) + "\n")
    recording = open_brain_treebank(root)
    planned = SPEC.data, SPEC.features, SPEC.target, data.storage
    return RecordingData(own=plan_dataset(recording, *planned))


def test_an_encoder_is_told_where_electrodes_lie_only_if_the_recording_knows(own, tmp_path):
    with pytest.raises(UserError) as error:
        own.covering(SPEC, (BY_PLACE,))
    assert str(error.value) == (
        "family by place on sub_9 trial000: an encoder is to be told where the electrodes lie, and "
        "the recording has coordinates of none. Put them into its localization/elec_coords_full."
        "csv, or choose an encoder that needs none."
    )
    assert not tells_coordinates(SPEC, (family("features.n_frequencies"),))
    assert own.contacts is None
    located = with_places(own, tmp_path / "made", x=5)
    assert located.covering(SPEC, (BY_PLACE,)).digest == own.digest
    assert located.contacts != with_places(own, tmp_path / "made", x=6).contacts


def test_coordinates_are_kept_beside_shards_that_were_made_before(own, tmp_path):
    own.warm(SPEC)
    own.make([own.digest])
    folder = own.own.features.folder
    manifest = folder / shards.MANIFEST
    assert own.load(own.digest).coordinates is None
    content = json.loads(manifest.read_text())  # as before there were any
    del content["coordinates"], content[CHECKSUM]
    write_sealed(manifest, content)
    assert shards.read_manifest(folder).coordinates is None

    seen = []
    for x in (5, 6):  # the table is corrected afterwards
        data = with_places(own, tmp_path / "made", x)
        data.make([data.digest])
        seen.append(data.load(data.digest))
        kept = kept_data(data.origin(), data.storage).load(data.digest)
        assert kept.coordinates == seen[-1].coordinates == data.own.features.coordinates
        assert kept.coordinates.contacts == data.contacts
        assert kept.coordinates.array.shape == (data.shape[1], 3)
        located = int(np.isfinite(kept.coordinates.array).all(axis=1).sum())
        assert f"  coordinates of {counted(located, 'electrode')}" in shards.summary_lines(folder)
        now = shards.read_manifest(folder)
        assert now.regions == data.own.features.regions
        assert sum(map(bool, now.regions)) == located
    assert seen[0].digest == seen[1].digest == own.digest
    assert seen[0].coordinates != seen[1].coordinates
    now = shards.read_manifest(folder)
    assert now.shards == tuple(shards.Shard(**each) for each in content["shards"])


def test_a_subset_of_the_electrodes_lies_where_they_do(own, tmp_path):
    located = with_places(own, tmp_path / "made", x=5)
    names = located.own.features.segments.electrodes
    levels = {"data.subset": ("all", *names)}
    covering = located.covering(SPEC, (Family(name="one", levels=levels),))
    whole, *alone = (choice.plan for choice in covering.choices.values())
    assert whole.coordinates == located.own.features.coordinates
    for plan, place in zip(alone, whole.coordinates.places, strict=True):
        found = plan.coordinates
        assert (found.places if found else (None,)) == (place,)
    nowhere = names[whole.coordinates.places.index(None)]
    levels = {"encoder": ("attention",), "encoder.coordinates": (True,), "data.subset": (nowhere,)}
    with pytest.raises(UserError, match="has coordinates of none"):
        located.covering(SPEC, (Family(name="one", levels=levels),))
