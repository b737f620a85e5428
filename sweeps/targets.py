"""Which embedding of a sentence is decoded best? Layers of the text tower, and other towers.

    python sweeps/targets.py                                     # on a synthetic recording
    python sweeps/targets.py --recording DIR --subject sub_9 --trial trial000
    python sweeps/targets.py --recording DIR --towers ViT-L-14-quickgelu:openai

SSENSE retrieves the output of CLIP's text tower (section 2.3), which was trained to match images.
Layers below it keep more of the words. Features are made once: all targets share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssense.cli.command import run_command
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
    """Other text towers of open_clip, as MODEL:WEIGHTS [none]."""

    def __post_init__(self) -> None:
        """Refuse towers without weights."""
        super().__post_init__()
        for tower in self.towers:
            if not all(tower.partition(":")):
                raise UserError(
                    f"--towers {printable(tower)} is no MODEL:WEIGHTS. Give one such as "
                    "ViT-L-14-quickgelu:openai."
                )
        given = f"--layers {' '.join(map(str, self.layers))}"
        if not self.layers or list(self.layers) != sorted({*self.layers}) or self.layers[0] < 1:
            raise UserError(
                f"{printable(given)}: layers count from 1, each once and in increasing order. Give "
                "them as --layers 3 6 9 12."
            )


def target_sweep(data: RecordingData, options: TargetOptions) -> Sweep:
    """Define the sweep: the tower's output, its layers, and a family for each other tower.

    Raises:
        UserError: A tower is unknown, or has no such weights.
    """
    from ssense.targets.clip import check_file, check_weights

    families: dict[str, dict[str, Levels]] = {
        "output": {},
        "layer": {"target.layer": options.layers},
    }
    for tower in options.towers:
        model, _, weights = tower.partition(":")
        try:
            check_weights(model, weights, "text")
            check_file(model, weights, "text")
        except UserError as error:
            raise UserError(f"--towers {printable(tower)}: {error}") from error
        families[tower] = {"target.model": (model,), "target.weights": (weights,)}
    return options.sweep("targets", data, families)


def main(options: TargetOptions) -> None:
    """Compare targets over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(target_sweep, options)


if __name__ == "__main__":
    run_command(TargetOptions, main)
