"""The sweep over layers of image towers, on responses that one layer's features evoke."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from analysis.evaluate import gather, report
from analysis.measure.evaluation import best_configurations, take_up
from analysis.options import EvaluationOptions
from analysis.report.layer_figure import learned_weights
from ssense.choices import BEST_TEST_EPOCH
from ssense.data.synthetic.things import SyntheticThingsSpec, image_latents, write_synthetic_things
from ssense.engine.records.description import Description
from ssense.engine.records.ledger import SWEEPS, Ledger
from ssense.engine.search.race import Full
from ssense.engine.search.search import Search
from ssense.engine.sweep_data import sweep_dataset
from ssense.engine.work.cell import run_cell
from ssense.errors import UserError
from sweeps.layers import LayerOptions, layer_sweep, main

THINGS = SyntheticThingsSpec(
    subjects=1, variant="official", concepts=150, test_concepts=30, image_px=8, coupling=6, seed=3
)
RIGHT, N_LAYERS, WIDTH = 2, 3, 16


def write_features(folder: Path) -> None:
    """Features of three layers: the second is what evoked the responses, the others are far off.

    Responses are evoked by the values of an image's squares. A layer has their rotation, and of
    the first and the last a large part is noise of its own.
    """
    generator = np.random.default_rng(0)
    folder.mkdir()
    for part in ("training", "test"):
        latents = image_latents(THINGS, part)
        concepts, each, _ = latents.shape
        layers = np.empty((concepts, each, N_LAYERS, WIDTH), np.float32)
        for place in range(N_LAYERS):
            rotation = np.random.default_rng([1, place]).standard_normal((12, WIDTH))
            noise = 0.0 if place + 1 == RIGHT else 2.0
            off = noise * generator.standard_normal(latents.shape)
            layers[:, :, place] = (latents - 0.5 + off) @ rotation
        np.save(folder / f"features_{'train' if part == 'training' else 'test'}.npy", layers)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("layers")
    write_synthetic_things(root / "things", THINGS)
    write_features(root / "features")
    return root


def options(root: Path, **changes: object) -> LayerOptions:
    values = {
        "storage": str(root / "storage"),
        "responses": str(root / "things"),
        "towers": (f"files:{root / 'features'}",),
        "stop_s": 0.8,
        "seeds": (0, 1),
        "max_epochs": 8,
        "batch_size": 32,
        "learning_rate": 2e-3,
        "yes": True,
    }
    return LayerOptions(**values | changes)


def train(chosen: LayerOptions) -> Ledger:
    """Train every cell, as workers would."""
    (plan,) = chosen.datasets()
    sweep = layer_sweep(plan, chosen)
    plan = plan.covering(sweep.specification, sweep.families)
    dataset = plan.load(plan.digest)
    ledger, search = Ledger(plan.storage / SWEEPS / sweep.name), Search(sweep, Full(), (), {})
    responses = dataset.on(torch.device("cpu"))
    while cell := search.next_cell():
        search.finish(run_cell(cell, dataset, responses, sweep.specification, ledger))
    rows = tuple(search.rows)
    ledger.describe(Description(sweep=sweep, origin=plan.origin(), policy="full", rows=rows))
    return ledger


@pytest.fixture(scope="module")
def swept(root) -> Ledger:
    return train(options(root))


def test_the_layer_that_evoked_the_responses_is_found(swept):
    search = take_up(swept)
    best = best_configurations(search)
    assert best["files layer"]["target.layer"] == RIGHT
    scores = {
        layer: np.mean(
            [
                record.best["recall@10"]
                for record in swept.records().values()
                if record.configuration.get("target.layer") == layer
            ]
        )
        for layer in range(1, N_LAYERS + 1)
    }
    assert scores[RIGHT] > 0.2 + max(scores[1], scores[3])


def test_a_mixture_learns_the_layer_too_and_its_weights_are_logged_and_drawn(swept):
    chosen = best_configurations(take_up(swept))["files mixture"]
    records = [r for r in swept.records().values() if r.configuration == chosen]
    assert len(records) == 2
    for record in records:
        by_epoch = [
            [epoch[f"weight of layer {n}"] for n in range(1, N_LAYERS + 1)]
            for epoch in record.history
        ]
        assert np.sum(by_epoch, axis=1) == pytest.approx(np.ones(len(by_epoch)))
        weights = learned_weights(record)
        assert max(weights, key=weights.__getitem__) == f"layer {RIGHT}"
        assert weights[f"layer {RIGHT}"] > 0.45  # from a third


def test_the_evaluation_has_a_page_of_layers_with_the_mixture_s_figure(swept, root):
    search = take_up(swept)
    chosen = best_configurations(search)
    report(gather(swept, search, chosen, EvaluationOptions(storage=str(root / "storage"))))
    page = (Path(str(swept.folder)) / "evaluation" / "report.html").read_text()
    assert "Learned weights of the layers of a tower" in page
    assert (Path(str(swept.folder)) / "evaluation" / "mixture.pdf").exists()
    table = (Path(str(swept.folder)) / "evaluation" / "table.md").read_text()
    assert "files layer" in table
    assert "files mixture" in table
    assert "files output" not in table  # files of layers have none
    dataset = sweep_dataset(swept)
    assert {each.layer for each in dataset.others} == {2, 3, None}  # all share the first


def test_towers_of_several_kinds_are_families_of_one_dataset(root, tmp_path):
    towers = ("small-vit:untrained", f"files:{root / 'features'}", "timm/resnet18:untrained")
    chosen = options(root, storage=str(tmp_path), towers=towers, layers=(1, 3))
    (plan,) = chosen.datasets()
    sweep = layer_sweep(plan, chosen)
    assert {family.name: family.size for family in sweep.families} == {
        "small-vit output": 1,
        "small-vit layer": 4,  # by class token and by patches
        "small-vit mixture": 2,
        "files layer": 2,
        "files mixture": 1,
        "timm/resnet18 output": 1,
        "timm/resnet18 layer": 2,  # of stages that differ in width, which are not mixed
    }
    covering = plan.covering(sweep.specification, sweep.families)
    assert sweep.specification.target.name == "small-vit, untrained"
    assert len(covering.source.others) == 12  # all but the first
    assert sweep.dataset_digest == plan.digest
    folder = f"files, {root / 'features'}"
    assert covering.origin().tower == (
        f"small-vit, untrained, read in 7 ways; {folder}, read in 3 ways; timm/resnet18, "
        "untrained, read in 3 ways"
    )


def test_choosing_by_the_test_is_a_sweep_of_its_own_beside(root, tmp_path, capsys):
    main(options(root, storage=str(tmp_path), dry_run=True, towers=("small-vit:untrained",)))
    shown = capsys.readouterr().out
    first, second = shown.split("Now, with each epoch chosen by held-out concepts:")
    assert "Sweep layers-by-test-sub-01-" in first
    assert f"split: intra-subject{BEST_TEST_EPOCH}; " in first
    assert "Sweep layers-sub-01-" in second
    assert "split: intra-subject; " in second
    assert "small-vit layer: 6 of 6 possible" in second
    asked = {"dry_run": True, "towers": ("small-vit:untrained",), "best_test_epoch": True}
    main(options(root, storage=str(tmp_path), split=f"intra-subject{BEST_TEST_EPOCH}", **asked))
    assert capsys.readouterr().out.count("Sweep layers-by-test-") == 1
    limited = {"budget_cells": 1, "dry_run": True, "towers": ("small-vit:untrained",)}
    main(options(root, storage=str(tmp_path), **limited))
    assert "by-test" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"layer": 2}, "--layer, --mixture and --pooling are what this sweep compares"),
        ({"objectives": ("neuroclip",)}, "towers are compared by one objective"),
        ({"layers": (3, 1)}, "--layers 3 1: layers count from 1"),
        ({"layers": (2, 4)}, "small-vit has 3 layers and no layer 4"),
        ({"towers": ("files:nowhere",)}, "--image-weights nowhere"),
        ({"towers": ("timm/no_such",)}, "timm knows no model no_such"),
        ({"towers": ("no-such",)}, "open_clip knows no model no-such"),
    ],
)
def test_what_a_user_may_get_wrong_is_one_line(root, tmp_path, changes, problem):
    asked = {"towers": ("small-vit:untrained",)} | changes
    with pytest.raises(UserError, match=problem) as error:
        main(options(root, storage=str(tmp_path), dry_run=True, **asked))
    assert "\n" not in str(error.value)
    assert not list(UPath(tmp_path).glob("sweeps/*"))
