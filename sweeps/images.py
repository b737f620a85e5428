"""Do anchored reconstruction and prompts help? InfoNCE, SSR and NeuroCLIP on THINGS-EEG2 or -MEG.

    python sweeps/images.py                                       # on synthetic responses
    python sweeps/images.py --responses DIR --images DIR --subjects sub-01 sub-02
    python sweeps/images.py --responses DIR --images DIR --split leave-one-subject-out
    python sweeps/images.py --responses DIR --images DIR --ablation     # the parts of SSR
    python sweeps/images.py --dry-run                             # the plan alone

Every subject is a sweep of its own: the families are objectives, the seeds draw the concepts that
are held out to choose by. Test images are read by analysis/evaluate.py alone. Both papers
come without code: SSR and NeuroCLIP are reimplemented from their descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ssense.choices import ObjectiveName
from ssense.cli.command import run_command
from ssense.engine.tasks.image_options import ImageOptions

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Levels, Sweep
    from ssense.engine.tasks.image_plan import ImagePlan

INFONCE = {"objective.temperature": (0.02, 0.04, 0.07, 0.1, 0.2)}
SSR = {
    "objective.mask_ratio": (0.15, 0.3, 0.5, 0.75),
    "objective.reconstruction": (0.1, 0.25, 0.5, 1.0),
}
NEUROCLIP = {
    "objective.prompts": (4, 8, 16, 32),
    "objective.softening": (0.0, 0.1, 0.2, 0.3, 0.5),
}
LEVELS: dict[ObjectiveName, Mapping[str, Levels]] = {
    "infonce": INFONCE,
    "ssr": SSR,
    "neuroclip": NEUROCLIP,
}


def image_sweep(data: ImagePlan, options: ImageOptions) -> Sweep:
    """Define the sweep of a subject: a family for each objective, or for each part of SSR."""
    if options.ablation:
        return options.sweep(f"ablation-{data.source.subject}", data, ablation())
    families: dict[str, dict[str, Levels]] = {}
    for objective in options.objectives:
        families[objective] = {"objective": (objective,), **LEVELS[objective]}
        if objective == "neuroclip":
            families[objective]["objective.depth"] = depths(options.n_layers())
    return options.sweep(f"images-{data.source.subject}", data, families)


def ablation() -> dict[str, Mapping[str, Levels]]:
    """A family of a single configuration for each row of SSR's ablation."""
    from ssense.model.objectives.ssr import ABLATIONS

    return {
        name: {"objective": ("ssr",)} | {f"objective.{k}": (v,) for k, v in changes.items()}
        for name, changes in ABLATIONS.items()
    }


def depths(layers: int) -> tuple[int, ...]:
    """Layers with prompts of their own: the first, half of them, all."""
    return tuple(sorted({1, max(1, layers // 2), layers}))


def main(options: ImageOptions) -> None:
    """Sweep objectives of image decoding, subject by subject, over paired seeds."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(image_sweep, options)


if __name__ == "__main__":
    run_command(ImageOptions, main)
