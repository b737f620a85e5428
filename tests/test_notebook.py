"""The notebook of the documents runs as it stands, and what it shows is what came out."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "from_bids_to_a_figure.ipynb"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def outputs(notebook, kind):
    """What cells of code show, as text or as another kind."""
    return [
        output["data"][kind] if "data" in output else output.get("text", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if kind in output.get("data", {}) or (kind == "text/plain" and "text" in output)
    ]


def test_it_ends_with_a_figure_and_a_table_of_every_cell(run):
    (figure,) = outputs(run, "image/png")
    assert len(figure) > 5_000
    (table,) = [text for text in outputs(run, "text/plain") if "data.window_s" in text]
    assert len(table.splitlines()) == 1 + 9  # three configurations, three seeds
    assert "NaN" not in table.split("recall@10")[1].split("window")[-1]


def test_what_it_shows_is_what_comes_out(run):
    """Scores may differ in their last digits between processors: configurations are compared."""
    shown = nbformat.read(NOTEBOOK, as_version=4)

    def table(notebook):
        (text,) = [t for t in outputs(notebook, "text/plain") if "data.window_s" in t]
        return [line.split()[:-1] for line in text.splitlines()]

    assert table(shown) == table(run)
    assert outputs(shown, "image/png")


def test_it_names_no_place_of_a_machine():
    assert not re.search(r"/(home|root|tmp|work|Users)/", NOTEBOOK.read_text())
