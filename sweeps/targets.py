"""Which embedding of a sentence is decoded best? Layers of the text tower, and other targets.

    python sweeps/targets.py                                     # on a synthetic recording
    python sweeps/targets.py --recording DIR --subject sub_9 --trial trial000
    python sweeps/targets.py --recording DIR --towers ViT-L-14-quickgelu:openai words.npy
    python sweeps/targets.py --recording DIR --target transformers:gpt2,pooling=last

SSENSE retrieves the output of CLIP's text tower (section 2.3), which was trained to match images.
Layers below it keep more of the words. Features are made once: all targets share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.core.checks import check_target
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError, printable

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.recording_data import RecordingData


@dataclass(frozen=True, kw_only=True)
class TargetOptions(RecordingOptions):
    """Options of the sweep over targets."""

    layers: tuple[int, ...] = (3, 6, 9, 12)
    """Layers of the text tower to read, from 1."""
    towers: tuple[str, ...] = ()
    """Other targets, each as --target takes it [none]."""

    def __post_init__(self) -> None:
        """Refuse towers that are none, and layers that do not count from 1."""
        super().__post_init__()
        for tower in self.towers:
            check_target("--towers", tower, "--text-weights", None)
        given = f"--layers {' '.join(map(str, self.layers))}"
        if not self.layers or list(self.layers) != sorted({*self.layers}) or self.layers[0] < 1:
            raise UserError(
                f"{printable(given)}: layers count from 1, each once and in increasing order. Give "
                "them as --layers 3 6 9 12."
            )


def target_sweep(data: RecordingData, options: TargetOptions) -> Sweep:
    """Define the sweep: the target's output, its layers, and a family for each other target.

    Raises:
        UserError: A target is unknown, or can't embed.
    """
    from ssense.engine.tasks.target_option import target_levels

    specification, weights = options.specification(), options.weights("text_weights")
    families: dict[str, dict[str, Levels]] = {"output": {}}
    if hasattr(specification.target, "layer"):
        families["layer"] = {"target.layer": options.layers}
    for tower in options.towers:
        try:
            families[tower] = target_levels(tower, weights, specification)
        except UserError as error:
            raise UserError(f"--towers {printable(tower, 150)}: {error}") from error
    return options.sweep("targets", data, families)


def main(options: TargetOptions) -> None:
    """Compare targets over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(target_sweep, options)


if __name__ == "__main__":
    run_command(TargetOptions, main)
