"""Where and when: what the score is made of, by electrode, moment and frequency, without training.

    python analysis/maps.py --storage DIR [--sweep NAME]
    python analysis/maps.py --maps electrodes times bands times-bands --space mni152

On the held-out test splits of an evaluated sweep, with the encoders of its chosen configuration:
each electrode, shaft and region is left out, and stands alone; windows of time and bands of
frequency are hidden. Effects are tested over the seeds, adjusted over each map, and held against
permuted pairs. Every map comes with its sanity checks: the same map of untrained encoders, of
permuted pairs, of pairs of similar duration and, once `controls.py --train noise` has run, of
encoders of Gaussian noise; one that they contradict is labelled so. How long it takes is said
before it begins.

Of images, the last sweep of each subject is mapped: channels are left out and alone, and windows of
time are hidden, and the tests are over the test images, which all seeds share.

maps/maps.html beside the sweep's ledger holds it all; tables and figures stand beside it. The
report of the evaluation has the maps as a section.
"""

from __future__ import annotations

from analysis.options import MapOptions
from ssense.cli.command import check_flags, run_command

if __name__ == "__main__":
    check_flags(MapOptions)  # before the imports that take seconds

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property, partial

import numpy as np
from upath import UPath

from analysis.control.trained import TRAINED, plan_control, trained_cells
from analysis.mapping.durations import said_of_durations
from analysis.mapping.family_maps import Asked, FamilyMaps, Mapper, NoiseControl
from analysis.mapping.image_maps import ImageMapper, response_axes, response_parts
from analysis.mapping.locating import Sources, locate
from analysis.mapping.parts import Axes, all_parts
from analysis.mapping.places import Places
from analysis.mapping.sensors import Sensors
from analysis.measure import formats
from analysis.measure.chosen_encoders import chosen_encoders
from analysis.measure.evaluation import (
    best_configurations,
    leading_family,
    require_all,
    require_evaluated,
    take_up,
)
from analysis.measure.looks import record_look, withdrawn_unless_shown
from analysis.measure.subject_sweeps import subject_ledgers
from analysis.report.figures import FIGURE_KINDS, figure_bytes
from analysis.report.image_maps import FILLED as FILLED_RESPONSES
from analysis.report.image_maps import ImageMapReport, channel_notes
from analysis.report.images import BY_TEST
from analysis.report.map_figures import Durations
from analysis.report.map_section import KEPT, KeptMaps, put_into_report, subjects_of
from analysis.report.maps import (
    FILLED,
    LEGEND,
    MapReport,
    check_rows,
    summary_rows,
    test_rows,
    value_rows,
)
from analysis.report.page import body_html, html_page
from ssense.cli.command import next_line, shell_command
from ssense.cli.screen import console, count, duration, say, step
from ssense.data.dataset import Dataset
from ssense.data.shards import read_manifest, read_sentences
from ssense.data.things.dataset import ImageDataset
from ssense.engine.core.cell import Configuration, label
from ssense.engine.core.origin import ImageOrigin, RecordingOrigin
from ssense.engine.core.record import utc_now
from ssense.engine.records.find import find_ledger
from ssense.engine.records.ledger import Ledger
from ssense.engine.search.search import Search
from ssense.engine.sweep_data import SweepData, sweep_data
from ssense.engine.tasks.engine_options import EngineOptions
from ssense.engine.view.tracking import Tracker
from ssense.errors import UserError, counted, printable
from ssense.files.markdown import markdown_table
from ssense.files.storage import open_storage, write_anew
from ssense.files.tables import csv_table
from ssense.signal.frames import clipped_samples
from ssense.specification import configured
from ssense.training.sentences import SentenceSpec

FOLDER = "maps"


def main(options: MapOptions) -> None:
    """Map what the scores of chosen configurations are made of; of images, for each subject."""
    storage = open_storage(options.storage, must_exist=True)
    ledger = find_ledger(storage, options.sweep)
    of_images = ledger.description().task == "images"
    ledgers = subject_ledgers(storage, ()) if of_images and not options.sweep else [ledger]
    for each in ledgers:
        require_evaluated(each)
    for each in ledgers:
        map_sweep(options, each)


def map_sweep(options: MapOptions, ledger: Ledger) -> None:
    """Map what the score of a sweep's chosen configurations is made of.

    Raises:
        UserError: Cells are missing, or what the maps need can't be read.
    """
    say(f"Maps of {ledger.folder.name}")
    search = take_up(ledger)
    if not options.allow_missing:
        require_all(search)
    best = best_configurations(search)
    chosen = families_to_map(options, search, best)
    map_task = map_images if ledger.description().task == "images" else map_sentences
    report_of, families = map_task(options, ledger, search, chosen)
    # The look is recorded when all is mapped: a run that is refused shows nothing.
    with withdrawn_unless_shown() as looks:
        looks.append(look := record_look(ledger, search.sweep.seeds, best))
        names = "; ".join(label(*each) for each in chosen.items())
        by_test = search.sweep.specification.chosen_by_test
        known = BY_TEST if by_test else look.standing(search.sweep.seeds)
        report = report_of(f"Mapped: {names}; {known}.", families)
        of = subjects_of(chosen, search.sweep.seeds)
        files = write_maps(ledger, report, of, before_any=looks.clear)
    show(report)
    in_report = put_into_report(ledger)
    with step("MLflow"):
        log_maps(ledger, families, [*files, *([in_report] if in_report else [])])
    say(f"Page, tables and figures: {files[0]}")
    if in_report:
        say(f"The report has them too: {in_report}")
    else:
        again = next_line("analysis/evaluate.py", storage=ledger.storage, sweep=ledger.folder.name)
        say(f"The report of an earlier version has no place for them. {again}")


ReportOf = Callable[[str, Sequence[FamilyMaps]], MapReport]
"""Puts a report together from its caption and the maps of each family."""


def map_sentences(
    options: MapOptions, ledger: Ledger, search: Search, chosen: Mapping[str, Configuration]
) -> tuple[ReportOf, list[FamilyMaps]]:
    """The maps of each family of a sweep over sentences, and what a report makes of them."""
    material = Inputs(options, ledger, chosen)
    resources = options.cpus_per_cell, options.gpus_per_cell
    with ExitStack() as kept:
        kept.enter_context(chosen_encoders(search, chosen, ledger, material.dataset_of, *resources))
        noise = noise_controls(options, ledger, search, chosen, material)
        for family, control in noise.items():
            alone, of_noise = {family: chosen[family]}, partial(_same, control.dataset)
            about = control.search, alone, ledger, of_noise
            kept.enter_context(chosen_encoders(*about, *resources))
        return material.report, run_maps(options, ledger, search, chosen, material, noise)


def refuse_flags_of_sentences(options: MapOptions) -> None:
    """Refuse what maps of images have no use for.

    Raises:
        UserError: Such a flag is given.
    """
    given = MapOptions(storage=options.storage)
    for name in ("bands", "sentences", "precision", "space", "coordinates", "regions", "atlas"):
        if (value := getattr(options, name)) != getattr(given, name):
            raise UserError(
                f"--{name} {printable(str(value))} is of sentences, and this sweep is over images, "
                "whose maps are of channels and times. Leave it out."
            )


def map_images(
    options: MapOptions, ledger: Ledger, search: Search, chosen: Mapping[str, Configuration]
) -> tuple[ReportOf, list[FamilyMaps]]:
    """The maps of each family of a subject's sweep over images, and what a report makes of them.

    Raises:
        UserError: Only maps of frequencies are asked for, or an encoder can't be read.
    """
    refuse_flags_of_sentences(options)
    data, origin = sweep_data(ledger), ledger.description().origin
    assert isinstance(origin, ImageOrigin)
    dataset = data.of(next(iter(chosen.values())))  # whose responses all configurations share
    assert isinstance(dataset, ImageDataset)
    axes = response_axes(dataset, origin.source.responses_taken)
    sensors = Sensors.of(axes.electrodes)
    asked = Asked(
        parts=response_parts(options.maps, axes, options.windows),
        fill=options.fill,
        permutations=options.permutations,
        check_seeds=options.check_seeds,
    )
    found = []
    with chosen_encoders(
        search, chosen, ledger, data.of, options.cpus_per_cell, options.gpus_per_cell
    ):
        for family, configuration in chosen.items():
            own = data.of(configuration)  # the same responses, perhaps with other features
            assert isinstance(own, ImageDataset)
            mapper = ImageMapper(ledger, search, configuration, own, asked)
            n, here = counted(len(asked.parts), "part"), duration(mapper.seconds())
            with step(f"{n} of {family}, of trained and untrained encoders, about {here} here"):
                found.append(mapper.run(family, count("seeds")))

    def report(caption: str, families: Sequence[FamilyMaps]) -> MapReport:
        return ImageMapReport(
            title=f"Maps of {ledger.folder.name}: {origin.subject}, {origin.title}",
            caption=caption,
            families=families,
            axes=axes,
            places=Places.unknown(axes.electrodes),
            durations=None,
            notes=[
                f"What is left out or hidden is filled with {FILLED_RESPONSES[options.fill]}.",
                *channel_notes(sensors),
            ],
            sensors=sensors,
        )

    return report, found


def _same(dataset: Dataset, _: Configuration) -> Dataset:
    """The dataset that all configurations share."""
    return dataset


def families_to_map(
    options: MapOptions, search: Search, best: Mapping[str, Configuration]
) -> dict[str, Configuration]:
    """The chosen configuration of each family that is asked for, or of the one that leads.

    Raises:
        UserError: There is no such family.
    """
    for name in options.families:
        if name not in best:
            raise UserError(
                f"--families {printable(name)}: {search.sweep.name} has no such family, but "
                f"{', '.join(best)}."
            )
    names = dict.fromkeys(options.families or [leading_family(search, best)])
    return {name: best[name] for name in names}


class Inputs:
    """What the encoders of the mapped families are given: their data, and its axes.

    Args:
        options: The flags.
        ledger: The sweep's ledger.
        chosen: The configuration of each family.

    Raises:
        UserError: Families have other data, or what says where electrodes lie is odd, see `locate`.
    """

    def __init__(
        self, options: MapOptions, ledger: Ledger, chosen: Mapping[str, Configuration]
    ) -> None:
        self._options, self._ledger = options, ledger
        self._data: SweepData = sweep_data(ledger)
        digests = {self._data.sweep.dataset_of(each) for each in chosen.values()}
        if len(digests) > 1:
            raise UserError(
                f"the families {', '.join(chosen)} were trained on different data, whose maps have "
                "different axes. Map them one at a time with --families."
            )
        configuration = next(iter(chosen.values()))
        self.dataset = self.dataset_of(configuration)
        origin = ledger.description().origin
        assert isinstance(origin, RecordingOrigin)
        self._origin = origin
        self._folder = ledger.storage / "shards" / origin.dataset(self.dataset.digest).shards
        specification = configured(self._data.sweep.specification, configuration)
        assert isinstance(specification, SentenceSpec)
        self.axes = self._axes(specification)
        self.notes: list[str] = []
        sources = Sources(
            space=options.space,
            coordinates=options.coordinates,
            regions=options.regions,
            atlas=options.atlas,
            atlas_labels=options.atlas_labels,
        )
        manifest = read_manifest(self._folder)
        self.places, self._located = locate(self.axes.electrodes, manifest, origin.subject, sources)

    def dataset_of(self, configuration: Configuration) -> Dataset:
        """The dataset of a configuration."""
        dataset = self._data.of(configuration)
        assert isinstance(dataset, Dataset)  # of sentences, as `main` asks for
        return dataset

    def report(self, caption: str, families: Sequence[FamilyMaps]) -> MapReport:
        """Put together what the page is made from."""
        title = f"Maps of {self._ledger.folder.name}: {self._origin.subject}, {self._origin.title}"
        return MapReport(
            title=title,
            caption=caption,
            families=families,
            axes=self.axes,
            places=self.places,
            durations=Durations(ends_s=self.spoken_s),
            warnings=[
                words
                for each in families
                for found in each.maps
                for words in said_of_durations(found.primary, self.axes, self.spoken_s)
            ],
            notes=[
                *self._notes(),
                *dict.fromkeys(note for each in families for note in each.notes),
                *self.notes,
            ],
        )

    def _axes(self, specification: SentenceSpec) -> Axes:
        manifest, features = read_manifest(self._folder), specification.features
        wanted = self._origin.dataset(self.dataset.digest).electrodes
        samples = (
            np.arange(self.dataset.spectrograms.shape[-1]) + features.edge_clip
        ) * features.decimation
        clipped_s = clipped_samples(features) / manifest.sampling_rate_hz
        return Axes(
            electrodes=wanted or tuple(manifest.electrodes),
            rows=[*features.row_labels],
            times_s=samples / manifest.sampling_rate_hz + specification.data.begins_s(clipped_s),
        )

    @cached_property
    def spoken_s(self) -> np.ndarray:
        """Spoken duration of each sentence, `[N]` seconds."""
        table = read_sentences(self._folder)
        onset, offset = (np.array(table[name], np.float64) for name in ("onset_s", "offset_s"))
        spoken_s = offset - onset
        paired = self.dataset.paired
        if paired is None:
            return spoken_s
        return np.take(spoken_s, paired.rows_in(np.array(table["sentence_idx"])))

    def _notes(self) -> list[str]:
        """What was hidden by what, and where electrodes lie."""
        options, electrodes = self._options, self.axes.electrodes
        notes = [
            "Windows of time and bands of frequency are filled with "
            f"{FILLED[options.fill]}; electrodes that are left out are left out of the mean over "
            "electrodes (ResNet-18) or of attention's weights, and are filled likewise of other "
            "encoders."
        ]
        if len(electrodes) == 1:
            notes.append(f"{electrodes[0]} is the only electrode: it alone is the whole.")
        return [*notes, *self._located]


def noise_controls(
    options: MapOptions,
    ledger: Ledger,
    search: Search,
    chosen: Mapping[str, Configuration],
    inputs: Inputs,
) -> dict[str, NoiseControl]:
    """The Gaussian-noise control of each family that it was trained for, by `controls.py`.

    Maps train nothing: where it was not trained, the check by it is left out, and said to be.
    """
    found = {}
    for family, configuration in chosen.items():
        dataset, alone = inputs.dataset_of(configuration), {family: configuration}
        try:
            plan = plan_control(TRAINED["noise"], ledger, dataset, options.recording)
            cells = trained_cells(plan, search, alone, dataset)
        except UserError as error:
            inputs.notes.append(f"The check by Gaussian noise was left out: {error}")
            continue
        if cells is not None:
            found[family] = NoiseControl(*cells)
            continue
        command = shell_command(
            "analysis/controls.py", train="noise", storage=ledger.storage, sweep=ledger.folder.name
        )
        inputs.notes.append(
            f"The check by Gaussian noise was left out, as no such control of {family} was "
            f"trained: {command} trains that of the leading family."
        )
    return found


def run_maps(
    options: MapOptions,
    ledger: Ledger,
    search: Search,
    chosen: Mapping[str, Configuration],
    inputs: Inputs,
    noise: Mapping[str, NoiseControl],
) -> list[FamilyMaps]:
    """Say how long it will take, and map each family.

    Raises:
        UserError: An encoder can't be read.
    """
    parts = all_parts(
        tuple(dict.fromkeys(options.maps)),
        inputs.axes,
        inputs.places.region_of,
        options.windows,
        options.bands,
    )
    asked = Asked(
        parts=parts,
        fill=options.fill,
        permutations=options.permutations,
        sentences=options.sentences,
        check_seeds=options.check_seeds,
        precision=options.precision,
        spoken_s=inputs.spoken_s,
    )
    mappers = {
        family: Mapper(
            ledger,
            search,
            configuration,
            inputs.dataset_of(configuration),
            asked,
            noise.get(family),
        )
        for family, configuration in chosen.items()
    }
    for family, mapper in mappers.items():
        for kind, seconds in mapper.seconds().items():
            say(f"{family}, {kind}: about {duration(seconds)} here")
    found = []
    for family, mapper in mappers.items():
        title = f"{counted(len(parts), 'part')} of {family}, of trained and untrained encoders"
        with step(title):
            found.append(mapper.run(family, count("seeds")))
    return found


def write_maps(
    ledger: Ledger,
    report: MapReport,
    of: Sequence[str],
    before_any: Callable[[], object] = lambda: None,
) -> list[UPath]:
    """Write page, tables and figures beside the ledger; return their paths, the page first.

    Files of earlier maps that these ones do not write are removed.

    Args:
        ledger: The sweep's ledger.
        report: All that the page is made from.
        of: What was mapped, see `subjects_of`.
        before_any: Called right before the first file can be seen.
    """
    pictures, families = report.pictures(), report.families
    kept = KeptMaps(at=utc_now(), of=of, body=body_html(report.in_report(pictures)))
    contents: dict[str, str | bytes] = {
        "maps.html": html_page(report.title, report.sections(pictures)),
        "maps.md": markdown(report),
        "maps.csv": csv_table(value_rows(families)),
        "tests.csv": csv_table(test_rows(families)),
        KEPT: kept.json(),
    }
    for name, picture in pictures.items():
        for kind in FIGURE_KINDS:
            contents[f"{name}.{kind}"] = figure_bytes(picture.figure, kind)
    return write_anew(ledger.folder / FOLDER, contents, before_any)


def markdown(report: MapReport) -> str:
    """Write what maps show as Markdown: sentences, checks, and a table for each map."""
    checks = [row for family in report.families for row in check_rows(family.maps)]
    parts = [f"# {report.title}", report.caption, *report.words()]
    parts += [markdown_table(summary_rows(report.families)), "## Sanity checks"]
    parts.append(markdown_table(checks))
    for heading, rows in report.markdown_parts():
        parts += [f"## {heading}", markdown_table(rows)]
    return "\n\n".join([*parts, LEGEND, *report.notes]) + "\n"


def show(report: MapReport) -> None:
    """Print what the maps show, and their checks."""
    for line in (report.caption, *report.words(), *report.notes):
        say(line)
    console.print(formats.screen_table(summary_rows(report.families)))


def log_maps(ledger: Ledger, families: Sequence[FamilyMaps], files: Sequence[UPath]) -> None:
    """Write the maps to MLflow, as a run of its own below the sweep's."""
    metrics = {
        f"{family.family}/{found.primary.what}/{name}": value
        for family in families
        for found in family.maps
        for name, value in (
            ("shown", float(found.primary.found.sum())),
            ("contradicted", float(found.contradicted)),
            ("largest", float(found.primary.means.max())),
        )
    }
    sweep = ledger.description().sweep
    tracker = Tracker(ledger.storage, sweep.question, sweep.name)
    tables = {"maps": value_rows(families)}
    tracker.report("maps", {"ssense.level": "maps"}, metrics, files, tables)


if __name__ == "__main__":
    run_command(MapOptions, main, other=EngineOptions)
