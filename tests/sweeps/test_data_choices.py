"""Sweeps over choices of the data, each on a made-up recording whose right answer is known.

All sentences take the same time, so that nothing but what words evoke tells them apart. Chance is
about 26 %: Recall@10 among 39 validation sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch

from ssense.data.synthetic.spec import SyntheticSpec
from ssense.engine.core.cell import describe
from ssense.engine.core.sweep import Sweep
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError
from ssense.specification import configured
from ssense.targets.clip import frozen_clip
from ssense.training.loop import fit
from sweeps.bands import band_sweep
from sweeps.context import context_sweep
from sweeps.encoders import encoder_sweep
from sweeps.reference import ReferenceOptions, reference_sweep
from sweeps.targets import TargetOptions, target_sweep

SIZE = {"sentences": 200, "equal_durations": True}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the many datasets would be drawn, which takes longer than to compute it."""
    monkeypatch.setattr("ssense.data.shards.save_figure", lambda *_: None)


def mean_scores(
    define: Callable[[Any, Any], Sweep],
    options: RecordingOptions,
    families: Collection[str] = (),
) -> dict[str, dict[str, float]]:
    """Mean validation Recall@10 over the seeds, by family and configuration in words."""
    data = options.plan_data()
    sweep = define(data, options)
    data = data.covering(sweep.specification, sweep.families)
    data.warm(sweep.specification, sweep.families)
    search, found = Search(sweep, Full()), dict[str, dict[str, float]]()
    for row in search.rows:
        if families and row.family not in families:
            continue
        wanted = sweep.dataset_of(row.configuration)
        data.make([wanted])
        dataset = data.load(wanted)
        pairs, spec = (
            dataset.on(torch.device("cpu")),
            configured(sweep.specification, row.configuration),
        )
        scores = []
        for seed in sweep.seeds:
            split = dataset.split(spec.split, seed)
            parts = pairs.select(split.train), pairs.select(split.validation)
            torch.manual_seed(seed)
            scores.append(fit(*parts, spec, seed).best["recall@10"])
        found.setdefault(row.family, {})[describe(row.configuration)] = fmean(scores)
    return found


def options_of(
    folder: Path, spec: SyntheticSpec, kind: type = RecordingOptions, **given: Any
) -> Any:
    """Options of a small sweep: a linear encoder, three seeds."""
    return kind(
        storage=str(folder),
        synthetic=spec,
        seeds=(0, 1, 2),
        max_epochs=3,
        **({"configurations": 4, "encoder": "linear"} | given),
    )


def best_of(found: dict[str, dict[str, float]]) -> dict[str, float]:
    return {family: max(scores.values()) for family, scores in found.items()}


def test_where_all_contacts_share_noise_any_reference_is_better_than_none(tmp_path):
    spec = SyntheticSpec(**SIZE, electrodes=10, sampling_rate=256, common_uv=400)
    found = best_of(mean_scores(reference_sweep, options_of(tmp_path, spec, ReferenceOptions)))
    assert len(found) == 5
    assert max(found, key=found.__getitem__) == "Laplacian"
    assert min(found, key=found.__getitem__) == "as recorded"
    assert found["Laplacian"] > found["as recorded"] + 0.1


def test_references_that_are_the_same_here_are_left_out_by_themselves(tmp_path, capsys):
    spec = SyntheticSpec(sentences=60, electrodes=5, sampling_rate=256)
    options = options_of(tmp_path, spec, ReferenceOptions)
    families = reference_sweep(options.plan_data(), options).families
    assert [family.name for family in families] == [
        *("Laplacian", "bipolar", "average of the shaft", "as recorded"),
    ]
    said = "Left out: average of all, which is the same as average of the shaft on these contacts."
    assert said in capsys.readouterr().out


def test_where_words_are_in_high_gamma_that_band_alone_has_them(tmp_path):
    spec = SyntheticSpec(**SIZE, electrodes=5, lowest_hz=75, highest_hz=140, coupling=1.5)
    bands = ("theta", "beta", "gamma", "high-gamma")
    found = best_of(mean_scores(band_sweep, options_of(tmp_path, spec), bands))
    assert max(found, key=found.__getitem__) == "high-gamma"
    assert all(found["high-gamma"] > found[band] + 0.1 for band in ("theta", "beta"))


def test_where_words_show_late_a_longer_context_has_them(tmp_path):
    spec = SyntheticSpec(**SIZE, electrodes=5, delay_s=2.0, coupling=1.5)
    found = mean_scores(context_sweep, options_of(tmp_path, spec), ("after",))["after"]
    assert max(found, key=found.__getitem__) == "context after 2 s"
    assert found["context after 2 s"] > found["context after 0 s"] + 0.1


def test_where_only_durations_show_a_tower_that_knows_no_places_is_decoded_worse(tmp_path):
    tower = frozen_clip("ViT-B-32-quickgelu", "untrained", "text")
    state = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    state["positional_embedding"][:] = 0  # else it knows where a sentence ends
    torch.save(state, tmp_path / "placeless.pt")
    spec = SyntheticSpec(sentences=200, electrodes=5, sampling_rate=256, coupling=0)
    placeless = f"ViT-B-32-quickgelu:{tmp_path / 'placeless.pt'}"
    options = options_of(tmp_path, spec, TargetOptions, towers=(placeless,), layers=(2,))
    found = best_of(mean_scores(target_sweep, options))
    assert min(found, key=found.__getitem__) == placeless
    assert found[placeless] < found["output"] - 0.05


def test_a_target_sweep_refuses_a_tower_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"--towers a folder/: it is no target\. Give MODEL"):
        options_of(tmp_path, SyntheticSpec(), TargetOptions, towers=("a folder/",))


def test_where_words_add_up_in_power_a_linear_map_learns_them_soonest(tmp_path):
    spec = SyntheticSpec(**SIZE, electrodes=5, sampling_rate=256, coupling=1.5)
    options = options_of(tmp_path, spec, configurations=1, encoder="resnet-18")
    found = best_of(mean_scores(encoder_sweep, options, ("linear", "convolution")))
    assert found["linear"] > found["convolution"] + 0.05


@pytest.mark.parametrize("layers", [(), (0, 3), (3, 3), (6, 3)])
def test_layers_are_checked_before_anything_is_read(tmp_path, layers):
    with pytest.raises(UserError, match=r"--layers.*: layers count from 1, each once"):
        options_of(tmp_path, SyntheticSpec(), TargetOptions, layers=layers)


@pytest.mark.parametrize("tower", ["nosuch:openai", "ViT-B-32-quickgelu:nosuch"])
def test_towers_are_checked_with_their_flag_or_in_the_plan(tmp_path, tower):
    def plan() -> None:
        options = options_of(tmp_path, SyntheticSpec(sentences=60), TargetOptions, towers=(tower,))
        target_sweep(options.plan_data(), options)

    with pytest.raises(UserError, match=f"^--towers {tower}: .*nosuch"):
        plan()
