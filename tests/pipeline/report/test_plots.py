"""Plots of the round report."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from pipeline.report.plots import plots
from pipeline.report.round_view import ReportView
from tests.support.report_views import full_view, hostile_view

PLOTS = {"learning_curve.png", "scores.png", "label_balance.png"}


@pytest.mark.parametrize(
    "view", [full_view(), hostile_view(), ReportView("empty", 0)], ids=["full", "hostile", "none"]
)
def test_plots_are_pictures_without_a_date(view: ReportView) -> None:
    made = plots(view)
    assert set(made) == PLOTS
    for data in made.values():
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert min(image.size) > 400
            assert not {"Software", "Creation Time"} & set(image.info)
