"""A sweep as the storage has it: tables of its cells, its data, and the models that it trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ssense.api.cell_model import model_of
from ssense.api.dataset import SweepDataset
from ssense.cli.screen import say
from ssense.decoder.trained_model import TrainedModel
from ssense.engine.core.cell import Cell
from ssense.engine.core.origin import RecordingOrigin
from ssense.engine.core.record import Record
from ssense.engine.core.sweep import Row
from ssense.engine.records.ledger import Ledger
from ssense.engine.records.provenance import counting
from ssense.engine.records.reports import LEVEL, TEST_EVALUATION, kept_reports, table_rows
from ssense.engine.reproduce import find_cell
from ssense.engine.search.race import POLICIES
from ssense.engine.search.search import Search
from ssense.engine.view.cell_table import cell_rows
from ssense.errors import UserError, one_line, printable

if TYPE_CHECKING:
    import pandas as pd


class SweepResult:
    """What a sweep has found so far, read from its ledger when it is first asked for.

    Results of versions of the code that the sweep did not count are left out, as in its own tables.
    Open the sweep again to see what was done since.

    Args:
        ledger: The ledger of the sweep.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.description = ledger.description()

    def __repr__(self) -> str:
        sweep, origin = self.description.sweep, self.description.origin
        families = ", ".join(family.name for family in sweep.families)
        done = sum(row["status"] == "done" for row in self._cell_rows)
        return (
            f"{self.name}: {origin.subject}, {origin.title} ({self.task}); "
            f"{printable(families, 100)}; {done} of {sweep.n_cells} cells done, "
            f"{self.description.updated_at[:16].replace('T', ' ')}"
        )

    @property
    def name(self) -> str:
        """Name of the sweep's folder: its question, and a hash of what it compares."""
        return self.ledger.folder.name

    @property
    def question(self) -> str:
        """Short name of the question."""
        return self.description.sweep.question

    @property
    def task(self) -> str:
        """What its cells retrieve: "sentences" or "images"."""
        return self.description.task

    @cached_property
    def search(self) -> Search:
        """The search as the ledger left it: which cells count, what the race made of them."""
        known = self.description
        counted = counting(self.ledger.records(), known.code_digest, known.kept_versions)
        return Search(known.sweep, POLICIES[known.policy], known.rows, counted)

    @cached_property
    def _cell_rows(self) -> list[dict[str, object]]:
        return cell_rows(self.search)

    @property
    def cells(self) -> pd.DataFrame:
        """A row for each cell of the configurations proposed so far, also of those not run.

        The family; the fields of the configuration by their dotted names; seed; status (done,
        failed, waiting, dropped by the race, or ahead of it) and standing of the configuration
        (leads, dropped); validation metrics of the best epoch, as fractions, and that epoch;
        epochs; seconds of training; device; signature; why it failed; when it was finished; and the
        digest of the code that trained it. What is not known is missing.
        """
        import pandas as pd

        fields = {name for row in self.search.rows for name in row.configuration}
        rows = []
        for given, (row, record) in zip(self._cell_rows, self._records(), strict=True):
            known = {name: None if value == "" else value for name, value in given.items()}
            swept = {name: row.configuration.get(name) for name in fields}
            rows.append({**known, **swept, **_more(record)})
        return pd.DataFrame(rows)

    @property
    def epochs(self) -> pd.DataFrame:
        """A row for each epoch of each cell that is done: loss and validation metrics.

        Beside them the family, the fields of the configuration, seed and signature of the cell.
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {**_named(row), "seed": record.seed, "signature": record.signature, **epoch}
                for row, record in self._records()
                if record is not None and record.done
                for epoch in record.history
            ]
        )

    @property
    def decisions(self) -> pd.DataFrame:
        """A row for each decision of the race, family by family in the order of the decisions.

        The family and the fields of the configuration that it is about; its place in the order of
        proposal; the reason (behind, failed, returned); after how many seeds; and the place of the
        leader, the difference to it in the validation metric, the standard error of that, and how
        many standard errors a configuration may be behind.
        """
        import pandas as pd

        rows = [{**_named(row), **vars(each)} for row, each in self.description.decisions]
        names = ("place", "reason", "after_seeds", "leader")
        columns = ["family", *names, "difference", "standard_error", "threshold"]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)

    @property
    def tests(self) -> pd.DataFrame:
        """Scores of the test evaluations that were made and counted; empty where none was.

        A row for each evaluation, protocol (search seeds or fresh seeds), family and seed, with the
        number of the look, when it was, and the scores as fractions. Nothing is evaluated here:
        that is what analysis/evaluate.py does, which counts each look at test splits.
        """
        return self._reported("scores")

    @property
    def comparisons(self) -> pd.DataFrame:
        """The tests of these evaluations: each family with chance, and families in pairs.

        A row for each evaluation, protocol, metric and comparison: the mean difference with its 95
        % interval (low, high), p-values with and without Holm's correction, and what else tests.csv
        of the evaluation has.
        """
        return self._reported("tests")

    @property
    def evaluations(self) -> pd.DataFrame:
        """What these evaluations evaluated: a row for each, protocol and family.

        The configuration that was the best of the family then, in a few words; the number of seeds;
        and means and standard deviations of the scores, with what chance reaches.
        """
        return self._reported("table")

    def _reported(self, table: str) -> pd.DataFrame:
        import pandas as pd

        reports, damaged = kept_reports(self.ledger.folder)
        for line in damaged:
            say(line)
        rows: list[dict[str, object]] = []
        for report in sorted(reports, key=lambda each: each.written_at):
            content = report.files.get(f"{table}.json")
            if report.tags.get(LEVEL) != TEST_EVALUATION or content is None:
                continue
            look = {"look": int(report.tags["look"]), "evaluated_at": report.written_at}
            try:
                rows += [{**look, **row} for row in table_rows(content)]
            except ValueError as error:
                raise UserError(
                    f"{table}.json of {report.name} of {self.name} is damaged ({one_line(error)}). "
                    "Evaluate the sweep again."
                ) from error
        return pd.DataFrame(rows)

    @property
    def dataset(self) -> SweepDataset:
        """The data of the sweep's specification: sentences, features, embeddings.

        Raises:
            UserError: The sweep is over images; or no cell has these data, as all change them.
        """
        return self._dataset({})

    def dataset_of(self, cell: str) -> SweepDataset:
        """The data that a cell was trained on, where a sweep compares choices of them.

        Args:
            cell: The beginning of its signature, or what it is called where it is shown, "window s
                2, seed 1".

        Raises:
            UserError: There is no such cell, or the sweep is over images.
        """
        return self._dataset(self.record(cell).configuration)

    def _dataset(self, configuration: Mapping[str, Any]) -> SweepDataset:
        origin = self._sentences("dataset")
        try:
            wanted = self.description.sweep.dataset_of(configuration)
        except ValueError:
            raise UserError(
                f"every family of {self.name} changes the data. Name a cell: dataset_of(CELL)."
            ) from None
        return SweepDataset(self.ledger, origin, origin.dataset(wanted))

    def record(self, cell: str) -> Record:
        """The record of a cell of the sweep that has a result, as the ledger keeps it.

        Args:
            cell: The beginning of its signature, or what it is called where it is shown, "electrode
                0.75, seed 1".

        Raises:
            UserError: None or several are called so, or the cell failed.
        """
        if not isinstance(cell, str):
            raise UserError(
                f"a cell goes by its signature, a text, not {printable(repr(cell), 40)}. See cells."
            )
        _, record = find_cell(self.ledger.storage, cell, [self.ledger])
        return record

    def best(self, family: str | None = None) -> Record:
        """The record of a family's best configuration at its first seed.

        The best has the highest mean validation metric; the seed is not chosen by any score.

        Args:
            family: Name of the family; None for the one whose best configuration is best.

        Raises:
            UserError: There is no such family, or no configuration of it has a result at every
                seed.
        """
        best = self.search.best()
        names = [each.name for each in self.description.sweep.families]
        if family is not None and family not in names:
            listed = printable(", ".join(names), 150)
            raise UserError(f"no family {printable(family)} in {self.name}. Found: {listed}.")
        if not best or (family is not None and family not in best):
            of = f"of {family} " if family else ""
            raise UserError(
                f"{self.name}: no configuration {of}has a result at every seed. Run the sweep "
                "again to train what is missing."
            )
        scores = {name: self.search.score(row.configuration) or 0.0 for name, row in best.items()}
        row = best[family or max(scores, key=scores.__getitem__)]
        return self.search.done(row.configuration)[0]

    def model(self, cell: str | None = None) -> TrainedModel:
        """The trained model of a cell, to embed signals and retrieve sentences with.

        Args:
            cell: The beginning of the cell's signature, or what it is called where it is shown;
                None for that of `best`.

        Raises:
            UserError: There is no such cell, its encoder was deleted, the sweep is over images, or
                what the cell was made from is not there.
        """
        self._sentences("model")
        record = self.best() if cell is None else self.record(cell)
        return model_of(self.ledger, record, self._dataset(record.configuration))

    def _sentences(self, what: str) -> RecordingOrigin:
        origin = self.description.origin
        if not isinstance(origin, RecordingOrigin):
            raise UserError(f"{self.name} is over images, and `{what}` is of sentences alone.")
        return origin

    def _records(self) -> Iterator[tuple[Row, Record | None]]:
        """Every cell of the configurations proposed so far, with its record where it has one."""
        for row, cell in self.search.cells():
            yield row, self.search.record(Cell(cell.configuration, cell.seed))


def _named(row: Row) -> dict[str, object]:
    return {"family": row.family, **row.configuration}


def _more(record: Record | None) -> dict[str, object]:
    """What a table of cells has beside the columns of the sweep's own."""
    return {
        "epochs": len(record.history) if record else None,
        "finished_at": record.finished_at if record else None,
        "code_digest": record.code_digest if record else None,
    }
