"""Does masking help? Table 1 of SSENSE: four families of masks over the same seeds.

    python sweeps/masking.py                                     # on a synthetic recording
    python sweeps/masking.py --recording DIR --subject sub_9 --trial trial000
    python sweeps/masking.py --dry-run                           # the plan alone

Every configuration trains one encoder per seed on 60 % of the sentences and is judged by its mean
validation Recall@10. Optuna proposes the mask ratios. Running it again trains what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ssense.cli.command import run_command
from ssense.engine.tasks.recording_options import RecordingOptions
from ssense.errors import UserError

if TYPE_CHECKING:
    from ssense.engine.core.sweep import Sweep
    from ssense.engine.tasks.recording_data import RecordingData

RATIOS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True)
class MaskingOptions(RecordingOptions):
    """Options of the masking sweep."""

    ratios: tuple[float, ...] = RATIOS
    """Mask ratios to choose from."""

    def __post_init__(self) -> None:
        """Refuse ratios that no mask can have."""
        super().__post_init__()
        for ratio in self.ratios:
            if not 0 <= ratio < 1:
                raise UserError(f"--ratios: {ratio} is outside [0, 1). Give shares such as 0.1.")


def masking_sweep(data: RecordingData, options: MaskingOptions) -> Sweep:
    """Define the sweep: no masking, electrode, frequency-time, and both (SSENSE, section 2.4).

    Raises:
        UserError: There is a single electrode, or no ratio masks anything.
    """
    _, n_electrodes, n_frequencies, n_frames = data.shape
    if n_electrodes == 1:
        raise UserError(
            "a single electrode is left, and a mask of it would leave nothing to learn from, but "
            "two of the families mask electrodes. Take more with --reference none or "
            "--electrodes all, or ask what takes none, such as sweeps/optimisation.py."
        )
    electrode = {"masking.electrode": distinct_ratios(options.ratios, n_electrodes)}
    frequency_time = {"masking.time": distinct_ratios(options.ratios, n_frames)}
    if n_frequencies > 1:  # a mask of a single band would leave nothing to learn from
        of_frequencies = distinct_ratios(options.ratios, n_frequencies)
        frequency_time = {"masking.frequency": of_frequencies} | frequency_time
    families = {
        "no masking": {},
        "electrode": electrode,
        "frequency-time": frequency_time,
        "electrode + frequency-time": electrode | frequency_time,
    }
    return options.sweep("masking", data, families)


def distinct_ratios(ratios: tuple[float, ...], n: int) -> tuple[float, ...]:
    """Keep the ratios that mask a different number of n indices, the smallest of each; not none.

    Raises:
        UserError: No ratio masks anything.
    """
    from ssense.model.masking import masked_count

    smallest = {masked_count(ratio, n): ratio for ratio in sorted(ratios, reverse=True)}
    distinct = tuple(sorted(ratio for count, ratio in smallest.items() if count > 0))
    if not distinct:
        given = " ".join(map(str, ratios))
        raise UserError(
            f"--ratios {given}: all are too small to mask one of {n}. Give a larger one."
        )
    return distinct


def main(options: MaskingOptions) -> None:
    """Sweep masking configurations over paired seeds (Table 1 of SSENSE)."""
    from sweeps.run import run  # after the flags are checked: it takes seconds to import

    run(masking_sweep, options)


if __name__ == "__main__":
    run_command(MaskingOptions, main)
