from __future__ import annotations

import numpy as np

from analysis.report.electrode_figure import electrode_figure, group_figure


def labels(axis) -> list[str]:
    return [each.get_text() for each in axis.get_yticklabels()]


def test_contacts_go_on_in_further_rows_and_contact_0_is_within_the_axis():
    names, flags = ["G0", "G1", "G33", "A-1-A-2"], [True, False, False, False]
    axis = electrode_figure(names, np.full(4, 0.3), flags, flags, 0.1, "recall@10").axes[0]
    assert labels(axis) == ["G", "G + 32", "A-"]
    assert axis.collections[0].get_offsets().tolist() == [[0, 0], [1, 0], [1, 1], [1, 2]]
    assert axis.get_xlim()[0] < 0


def test_groups_have_a_row_each_by_name_with_mean_and_sd():
    groups = {
        "region": [("BA44", [0.2, 0.4], True), ("STG", [0.1], False)],
        "shaft": [("A", [0.2, 0.2], True)],
    }
    figure = group_figure(groups, 2, 0.05, "recall@10")
    assert [labels(axis) for axis in figure.axes] == [["BA44", "STG"], ["A"]]
    assert [axis.get_title() for axis in figure.axes] == ["region", "shaft"]
    drawn = figure.axes[0].collections[0].get_segments()[0][:, 0]
    np.testing.assert_allclose(drawn, [30 - 14.142, 30 + 14.142], atol=1e-3)
