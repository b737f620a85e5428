"""Which layer of which image tower is decoded best? Beside it, what choosing by the test adds.

    python sweeps/layers.py                                      # on synthetic responses
    python sweeps/layers.py --responses DIR --images DIR --towers ViT-L-14-quickgelu RN50-quickgelu
    python sweeps/layers.py --responses DIR --images DIR --tower timm/vit_base_patch14_dinov2
    python sweeps/layers.py --responses DIR --images DIR --towers files:FEATURES
    python sweeps/layers.py --dry-run                            # the plans alone

For each tower there are three families: its output; its layers, of which held-out concepts choose
one; and a learned mixture of them. Seeds and held-out concepts are the same for all. Beside it runs
the same with each epoch chosen by the test, as a sweep of its own name: what that adds to a score
is the part that no layer earned. The two never share a table.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ssense.choices import FEATURE_FILES, ImageSplitKind, ObjectiveName
from ssense.cli.command import next_line, run_command
from ssense.cli.screen import say
from ssense.engine.tasks.image_options import ImageOptions
from ssense.errors import UserError

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.image_plan import ImagePlan
    from ssense.targets.image_features import ImageTowerSpec

BY_TEST: Mapping[ImageSplitKind, ImageSplitKind] = {
    "intra-subject": "intra-subject, best test epoch",
    "leave-one-subject-out": "leave-one-subject-out, best test epoch",
}
"""The same split with the test choosing the epoch."""
EVERY = 1000
"""Configurations to try in a family: more than towers have layers, so that none is left out."""


@dataclass(frozen=True, kw_only=True)
class LayerOptions(ImageOptions):
    """Options of the sweep over layers and towers."""

    objectives: tuple[ObjectiveName, ...] = ("infonce",)
    """The objective that all are trained by; prompts take whole towers."""
    towers: tuple[str, ...] = ()
    """Towers to compare, each NAME or NAME:WEIGHTS as --tower and --image-weights take them
    [--tower]."""
    layers: tuple[int, ...] = ()
    """Layers of each tower, from 1 [all]."""
    best_test_epoch: bool = True
    """Also run the same with the test choosing each epoch, as a sweep of its own; a budget leaves
    it out."""

    def __post_init__(self) -> None:
        """Refuse what the sweep itself varies, and layers that do not count from 1."""
        super().__post_init__()
        if self.layer is not None or self.mixture or self.pooling != "cls":
            raise UserError(
                "--layer, --mixture and --pooling are what this sweep compares. Give --layers."
            )
        if len(self.objectives) > 1 or self.ablation or "neuroclip" in self.objectives:
            raise UserError("towers are compared by one objective. Give --objectives infonce.")
        if list(self.layers) != sorted({*self.layers}) or min(self.layers, default=1) < 1:
            given = " ".join(map(str, self.layers))
            raise UserError(
                f"--layers {given}: layers count from 1, each once and in increasing order. Give "
                "them as --layers 3 6 9 12."
            )

    @property
    def defaults(self) -> Any:
        """As of every sweep on images, but all layers are tried."""
        return dataclasses.replace(super().defaults, configurations=EVERY)

    def image_tower(self) -> ImageTowerSpec:
        """The first tower, at its output; features in files may have layers alone.

        Raises:
            UserError: A tower or its weights are not there.
        """
        from ssense.targets.image_features import readable_layers

        first = self.tower_specs()[0] if self.towers else super().image_tower()
        has_output = readable_layers(first).has_output
        return first if has_output else dataclasses.replace(first, layer=1)

    def tower_specs(self) -> list[ImageTowerSpec]:
        """The towers that are compared, in order.

        Raises:
            UserError: A tower or its weights are not there.
        """
        if not self.towers:
            return [self.image_tower()]
        found = []
        for given in self.towers:
            model, _, weights = given.partition(":")
            own = dataclasses.replace(self, tower=model, image_weights=weights or None, towers=())
            found.append(own.image_tower())
        return found


def layer_sweep(data: ImagePlan, options: LayerOptions) -> Sweep:
    """Define the sweep of a subject: output, layers and mixture of each tower.

    Raises:
        UserError: A tower is not there, or has no such layer.
    """
    families: dict[str, dict[str, Levels]] = {}
    read = options.image_tower().layer
    for tower in options.tower_specs():
        of_tower = tower_families(tower, options.layers)
        for name, levels in of_tower.items():
            # Where all cells share a layer, what is read otherwise has to say so.
            unread: dict[str, Levels] = {} if read is None else {"target.layer": (None,)}
            families[name] = unread | levels
    by_test = "" if options.split in BY_TEST else "-by-test"
    return options.sweep(f"layers{by_test}-{data.source.subject}", data, families)


def tower_families(tower: ImageTowerSpec, layers: tuple[int, ...]) -> dict[str, dict[str, Levels]]:
    """The families of one tower: its output, its layers, and a mixture of these.

    Args:
        tower: The tower, read at its output.
        layers: Numbers of the layers; none for all.

    Raises:
        UserError: The tower is not there, or has no such layer.
    """
    from ssense.targets.image_features import ALL, readable_layers

    read = readable_layers(tower)
    asked = layers or tuple(range(1, len(read.widths) + 1))
    own: dict[str, Levels] = {"target.model": (tower.model,), "target.weights": (tower.weights,)}
    name = "files" if tower.model == FEATURE_FILES else tower.model
    pooled: dict[str, Levels] = {"target.pooling": read.poolings}
    families: dict[str, dict[str, Levels]] = {}
    if read.has_output:
        families[f"{name} output"] = own
    if read.widths:
        families[f"{name} layer"] = own | {"target.layer": asked} | pooled
    if (
        len({width for number, width in enumerate(read.widths, 1) if number in asked})
        == 1
        < len(asked)
    ):
        mixed = " ".join(map(str, asked)) if layers else ALL
        families[f"{name} mixture"] = own | {"target.mixture": (mixed,)} | pooled
    return families


def main(options: LayerOptions) -> None:
    """Compare layers and towers over paired seeds, and what choosing by the test adds."""
    from ssense.engine.run import run as run_sweeps  # these take seconds to import
    from sweeps.run import run

    limited = options.budget_cells is not None or options.budget_hours is not None
    split = BY_TEST.get(options.split)
    if split and options.best_test_epoch and not limited and options.cell is None:
        by_test = dataclasses.replace(options, split=split)
        say("First, with each epoch chosen by the test:")
        if names := run_sweeps(layer_sweep, by_test):
            flag = "--sweep" if len(names) == 1 else "--sweeps"
            extra = f"{flag} {' '.join(names)}"
            say(f"{next_line('analysis/evaluate.py', storage=options.storage)} {extra}")
        say("Now, with each epoch chosen by held-out concepts:")
    run(layer_sweep, options)


if __name__ == "__main__":
    run_command(LayerOptions, main)
