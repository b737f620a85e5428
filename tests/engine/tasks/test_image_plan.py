"""What a plan of image decoding says of features that are there already."""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from ssense.data.synthetic.things import SyntheticThingsSpec, write_synthetic_things
from ssense.data.things.responses import ResponseSpec
from ssense.engine.core.origin import ImageSource
from ssense.engine.tasks import image_plan
from ssense.engine.tasks.image_plan import ImagePlan, plan_images
from ssense.targets.image_features import ImageTowerSpec
from ssense.training.images import ImageSpec


@pytest.fixture
def plan(tmp_path, tiny_towers) -> ImagePlan:
    root = tmp_path / "set"
    write_synthetic_things(
        root, SyntheticThingsSpec(subjects=1, concepts=12, test_concepts=2, image_px=16)
    )
    source = ImageSource(
        responses=str(root),
        images=str(root),
        subject="sub-01",
        subjects=("sub-01",),
        responses_taken=ResponseSpec(),
        image_tower=ImageTowerSpec(model=tiny_towers[0], weights="untrained"),
        kinds=("blurred", "original"),
        pixels=False,
    )
    return plan_images(source, UPath(tmp_path / "storage"))


def said_of(plan: ImagePlan, capsys: pytest.CaptureFixture[str]) -> str:
    plan.warm(ImageSpec(target=plan.source.image_tower))
    return "".join(capsys.readouterr().out.split())


def test_features_of_another_version_of_the_code_are_said_to_be_so(plan, monkeypatch, capsys):
    assert "versionofthecode" not in said_of(plan, capsys)
    assert "versionofthecode" not in said_of(plan, capsys)
    monkeypatch.setattr(image_plan, "feature_code", lambda: "0" * 32)
    said = said_of(plan, capsys)
    assert "computedbyanotherversionofthecode.Ifitcomputesotherwisenow,delete" in said
    kept = list(Path(plan.storage / "features").iterdir())
    assert len(kept) == 4
    assert all(str(path) in said for path in kept)
