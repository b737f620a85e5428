"""The sweep of image decoding through the whole engine, on synthetic responses."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from upath import UPath

from ssense.data.synthetic.things import SyntheticThingsSpec
from ssense.engine.core.cell import Cell, signature
from ssense.engine.core.origin import ImageOrigin, ImageSource
from ssense.engine.records.find import sweep_folders
from ssense.engine.records.ledger import Ledger
from ssense.engine.reproduce import reproduce_cell
from ssense.engine.sweep_data import sweep_dataset
from ssense.engine.tasks.image_options import ImageOptions
from ssense.errors import UserError
from ssense.files.plain_values import from_plain
from ssense.model.objectives.ssr import ABLATIONS, SSRSpec
from ssense.specification import configured, plain
from ssense.targets.image_features import cached_features
from ssense.training.images import ImageSpec
from sweeps.images import depths, image_sweep, main

SYNTHETIC = SyntheticThingsSpec(subjects=3, concepts=60, test_concepts=12, image_px=16)


def options(storage: Path, **changes: object) -> ImageOptions:
    values = {
        "storage": str(storage),
        "synthetic": SYNTHETIC,
        "subjects": ("sub-02",),
        "objectives": ("infonce", "ssr"),
        "seeds": (0, 1),
        "configurations": 1,
        "max_epochs": 1,
        "yes": True,
    }
    return ImageOptions(**values | changes)


def ledgers(storage: Path) -> list[Ledger]:
    return [Ledger(folder) for folder in sweep_folders(UPath(storage))]


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_every_objective_is_swept_and_a_second_call_trains_nothing(tmp_path, capsys):
    everything = options(tmp_path, objectives=("infonce", "ssr", "neuroclip"))
    main(everything)
    shown = capsys.readouterr().out
    assert "No --responses given: using synthetic ones" in shown
    assert "6 to train" in shown
    assert "Next: " in shown
    assert "analysis/evaluate.py" in shown
    (ledger,) = ledgers(tmp_path)
    records = ledger.records().values()
    assert len(records) == 6
    assert all(record.done for record in records)
    assert {record.configuration["objective"] for record in records} == {
        *("infonce", "ssr", "neuroclip")
    }
    assert {record.seed for record in records} == {0, 1}
    assert isinstance(ledger.description().sweep.specification, ImageSpec)
    assert sweep_dataset(ledger).digest == ledger.description().sweep.dataset_digest

    main(everything)
    assert "Nothing to train: every cell is in the ledger." in capsys.readouterr().out
    signature = next(iter(ledger.records()))
    assert reproduce_cell(UPath(tmp_path), signature, threads=1).exact


def test_the_plan_of_several_subjects_says_what_they_can_show_and_that_of_one_does_not(
    tmp_path, capsys
):
    main(options(tmp_path, subjects=("sub-01", "sub-02"), dry_run=True))
    shown = capsys.readouterr().out
    assert shown.count("over subjects: 2 subjects show hardly any difference; at least ") == 2
    assert shown.count("over subjects: Wilcoxon's p over 2 subjects can't be below 0.5") == 2
    main(options(tmp_path, dry_run=True))
    assert "over subjects" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_each_subject_left_out_is_a_sweep_that_trains_on_all_others(tmp_path, capsys):
    chosen = options(tmp_path, subjects=(), objectives=("infonce",), split="leave-one-subject-out")
    main(dataclasses.replace(chosen, budget_cells=2))  # of the whole call
    shown = capsys.readouterr().out
    assert shown.count(" done, 2 to train") == 1
    assert "Next:" not in shown
    main(chosen)
    shown = capsys.readouterr().out
    assert (shown.count("2 done, 0 to train"), shown.count("0 done, 2 to train")) == (1, 2)
    assert "Next:" in shown
    found = ledgers(tmp_path)
    assert {ledger.description().origin.subject for ledger in found} == {
        *("sub-01", "sub-02", "sub-03")
    }
    for ledger in found:
        dataset = sweep_dataset(ledger)
        split = dataset.split("leave-one-subject-out", 0)
        assert dataset.things.subjects == ("sub-01", "sub-02", "sub-03")
        images = len(dataset.things.training_images)
        tested = dataset.things.subjects.index(dataset.subject)
        assert tested not in {*np.concatenate([split.train, split.validation]) // images}
        sizes = {(r.sizes["train"], r.sizes["validation"]) for r in ledger.records().values()}
        assert sizes == {(2 * (60 - 12) * 2, 2 * 12)}  # two subjects; two images of a concept


def test_the_plan_names_families_by_objective(tmp_path, capsys):
    chosen = options(tmp_path, objectives=("infonce", "ssr", "neuroclip"), dry_run=True)
    main(chosen)
    shown = capsys.readouterr().out
    assert "neuroclip: 1 of 40 possible" in shown
    assert "Dry run: nothing trained" in shown
    assert not ledgers(tmp_path)
    (plan,) = chosen.datasets()
    sweep = image_sweep(plan, chosen)
    assert [family.name for family in sweep.families] == ["infonce", "ssr", "neuroclip"]
    assert sweep.family("ssr").levels["objective"] == ("ssr",)
    assert sweep.specification.objective.kind == "neuroclip"  # which takes longest


def test_class_centres_come_from_other_images_of_the_concepts(tmp_path):
    (plan,) = options(tmp_path).datasets()
    _, test = plan.things.training_images, plan.things.test_images
    more = tmp_path / "more"
    for number, name in enumerate(test.files):
        folder = more / name.split("/")[0]
        folder.mkdir(parents=True)
        for copy in range(2):  # of the next concept's image, so that each centre is known
            shutil.copy(test.folder / test.files[number - 1], folder / f"other{copy}.jpg")
    chosen = options(tmp_path, gallery="class-centre", more_images=str(more))
    (plan,) = chosen.datasets()
    dataset = plan.load(plan.digest)
    centres, original = dataset.features["class-centre"], dataset.features["original"]
    n = len(plan.things.training_images)
    assert np.allclose(centres[n:], np.roll(original[n:], 1, axis=0), atol=1e-5)
    assert np.allclose(centres[0], original[1])  # two images of a concept: the other one
    assert from_plain(ImageOrigin, plain(plan.origin())).source == plan.source


def test_what_an_earlier_version_did_not_note_of_its_data_has_its_default(tmp_path):
    (plan,) = options(tmp_path).datasets()
    later = {"gallery", "more_images", "split_seed"}
    noted = plain(plan.source)
    assert (
        from_plain(ImageSource, {n: v for n, v in noted.items() if n not in later}) == plan.source
    )


def test_the_ablation_of_ssr_is_a_family_for_each_row(tmp_path):
    chosen = options(tmp_path, ablation=True)
    (plan,) = chosen.datasets()
    sweep = image_sweep(plan, chosen)
    assert [family.name for family in sweep.families] == [*ABLATIONS]
    assert [family.size for family in sweep.families] == [1] * len(ABLATIONS)
    for family, changes in zip(sweep.families, ABLATIONS.values(), strict=True):
        (configuration,) = ({k: v for k, (v,) in family.levels.items()},)
        spec = configured(sweep.specification, configuration)
        assert spec.objective == SSRSpec(**changes)
    assert not plan.source.pixels


def test_prompts_go_into_the_first_half_or_all_of_the_layers():
    assert depths(12) == (1, 6, 12)
    assert depths(3) == (1, 3)
    assert depths(1) == (1,)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"images": "somewhere"}, "--images is given without --responses"),
        ({"objectives": ()}, "--objectives  is empty or names one twice"),
        ({"objectives": ("ssr", "ssr")}, "--objectives ssr ssr is empty or names one twice"),
        ({"subjects": ("sub-09",)}, r"no subject sub-09 in .*Found: sub-01, sub-02, sub-03"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0, got 0.0"),
        ({"tower": "RN50"}, "RN50 is not a Transformer .*, or leave neuroclip out of `objectives`"),
        ({"tower": "no-such"}, "open_clip knows no model no-such"),
        ({"stop_s": 3.0}, "0 to 3 s"),
        (
            {"gallery": "class-centre", "objectives": ("ssr",)},
            "--gallery class-centre averages other images",
        ),
        ({"gallery": "blurred"}, "neuroclip retrieves the images themselves"),
        ({"split_seed": -1}, "--split-seed must be 0 or more, got -1"),
        ({"synthetic": SyntheticThingsSpec(subjects=1, concepts=30, image_px=8)}, "too few"),
    ],
)
def test_what_a_user_may_get_wrong_is_one_line(tmp_path, changes, problem):
    asked = {"objectives": ("neuroclip",), "subjects": ()} | changes
    with pytest.raises(UserError, match=problem) as error:
        main(options(tmp_path, dry_run=True, **asked))
    assert "\n" not in str(error.value)
    assert not ledgers(tmp_path)


def test_a_sweep_makes_whatever_the_levels_of_its_families_ask_for(tmp_path):
    chosen = options(tmp_path, objectives=("infonce",))
    (plan,) = chosen.datasets()
    own = {"objective": ("infonce",)}
    families = {
        "features": own | {"objective.image": ("original", "augmented-mean", "blurred")},
        "gallery": own | {"gallery": ("original", "blurred")},
        "in the loop": {"objective": ("neuroclip",)},
    }
    sweep = chosen.sweep("features", plan, families)
    covering = plan.covering(sweep.specification, sweep.families)
    assert sweep.dataset_digest == covering.digest == plan.digest
    assert covering.covering(sweep.specification, sweep.families) is covering
    assert covering.source.kinds == ("augmented-mean", "blurred", "original")
    assert covering.origin().source == covering.source
    dataset = covering.load(covering.digest)
    split = dataset.split("intra-subject", 0)
    pairs = dataset.on(torch.device("cpu")).select(split.train)
    for family in sweep.families:
        for values in product(*family.levels.values()):
            spec = configured(sweep.specification, dict(zip(family.levels, values, strict=True)))
            batch = spec.objective
            found = pairs.batch(torch.arange(2), batch.features, pixels=batch.pixels)
            assert found.features.keys() == {*batch.features}
            assert spec.gallery in dataset.features


def test_each_cell_is_trained_on_the_layer_of_its_own_configuration(tmp_path):
    chosen = options(tmp_path, objectives=("infonce",))
    (plan,) = chosen.datasets()
    families = {
        "output": {"objective.image": ("original", "augmented-mean")},
        "layer": {"target.layer": (1, 2), "target.pooling": ("mean",)},
        "mixture": {"target.mixture": ("all",), "gallery": ("original", "blurred")},
    }
    sweep = chosen.sweep("layers", plan, families)
    covering = plan.covering(sweep.specification, sweep.families)
    assert sweep.dataset_digest == covering.digest == plan.digest
    covering.warm(sweep.specification)
    dataset = covering.load(covering.digest)
    images = (plan.things.training_images, plan.things.test_images)
    pairs = dataset.on(torch.device("cpu")).select(dataset.split("intra-subject", 0).train)
    for family in sweep.families:
        for configuration in family.configurations():
            spec = configured(sweep.specification, configuration)
            kinds = {*spec.objective.features, spec.gallery}
            found = pairs.responses.of(spec.target)
            for kind in kinds:
                parts = [
                    cached_features(i, [kind], spec.target, UPath(tmp_path / "features"))[kind]
                    for i in images
                ]
                assert torch.equal(found[kind], torch.cat(parts))
            torch.manual_seed(0)
            model = spec.initial(pairs)
            assert model.project_image.in_features == found[spec.gallery].shape[-1]
            loss = spec.step(
                model, spec.optimiser(model), pairs, torch.arange(4), torch.Generator()
            )
            assert torch.isfinite(loss)
            assert len(spec.learned(model)) == (3 if family.name == "mixture" else 0)
    with pytest.raises(ValueError, match="the dataset has no features of"):
        pairs.responses.of(configured(sweep.specification, {"target.layer": 3}).target)


def test_a_sweep_that_asks_for_nothing_more_keeps_its_data_and_its_name(tmp_path):
    chosen = options(tmp_path, objectives=("infonce", "ssr", "neuroclip"))
    (plan,) = chosen.datasets()
    sweep = image_sweep(plan, chosen)
    assert plan.covering(sweep.specification, sweep.families) is plan
    assert sweep.dataset_digest == plan.digest


def test_a_cell_is_the_same_whatever_it_is_compared_with(tmp_path):
    configuration = {"objective": "infonce", "objective.temperature": 0.1}
    found = set()
    for objectives in (("infonce",), ("infonce", "neuroclip"), ("ssr", "infonce")):
        chosen = options(tmp_path, objectives=objectives)
        (plan,) = chosen.datasets()
        sweep = image_sweep(plan, chosen)
        found.add(signature(Cell(configuration, 0), sweep.specification, sweep.dataset_digest))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (
            {"gallery": ("blurred",), "objective": ("neuroclip",)},
            "family f: gallery is blurred, but neuroclip retrieves the images themselves",
        ),
        (
            {"target.layer": (2, 4)},
            "family f: small-vit has 3 layers and no layer 4. Ask for one that it has.",
        ),
        (
            {"target.weights": ("untrained", "openai")},
            "family f: image weights openai: neither a file nor weights that open_clip has",
        ),
        (
            {"target.model": ("small-vit", "RN50-quickgelu"), "target.layer": (1,)},
            "family f: RN50-quickgelu has no class token in its layers",
        ),
        (
            {
                "target.model": ("RN50-quickgelu",),
                "target.pooling": ("mean",),
                "target.mixture": ("2 3",),
            },
            r"family f: layers 2 3 of RN50-quickgelu differ in width \(256, 512\)",
        ),
        (
            {"target.layer": (1,), "objective": ("neuroclip",)},
            "neuroclip runs the images through the whole tower",
        ),
        (
            {"target.image_px": (32,), "objective": ("neuroclip",)},
            "family f varies the target and has neuroclip",
        ),
        ({"objective.image": ("original", "sharp")}, "family f: objective.image can't be sharp "),
        ({"split": ("intra-subject", "leave-one-subject-out")}, "f varies split, but all cells"),
    ],
)
def test_levels_that_data_cannot_be_made_for_are_refused(tmp_path, levels, message):
    chosen = options(tmp_path, objectives=("infonce",))
    (plan,) = chosen.datasets()
    with pytest.raises(UserError, match=message) as error:
        chosen.sweep("features", plan, {"f": {"objective": ("infonce",), **levels}})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("folder", ["features", "pixels", "responses"])
def test_a_kept_tensor_that_changed_or_is_another_s_is_refused(tmp_path, folder):
    chosen = options(tmp_path, objectives=("neuroclip",))
    (plan,) = chosen.datasets()
    plan.load(plan.digest)
    first, second, *_ = sorted((tmp_path / folder).iterdir())
    content = first.read_bytes()
    first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="its checksum does not match"):
        next(iter(chosen.datasets())).load(plan.digest)
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    with pytest.raises(UserError, match=r"is damaged \(its \w+ is .*, not "):
        next(iter(chosen.datasets())).load(plan.digest)
