"""A report draws where patients lie beside those that the generator learned from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from causalms.report import figures
from causalms.tables import ModelError


def draws(far: int) -> pd.DataFrame:
    """Twenty patients under two arms, some of them twice as far away as 99 of 100 of those learned from."""
    cell = ModelError("m", "from 400 patients", np.zeros(1), 0.0, 0.0, distances={"columns": 0.5, "scanner": 0.4}, seen=400)
    outside = replace(cell, distances={"columns": 2.0, "scanner": 0.6})
    rows = [
        (f"p{number}", arm, 1.0 + number, (outside if number < far else cell).text())
        for number in range(20)
        for arm in ("placebo", "drug")
    ]
    return pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions", "model_error"])


def test_a_report_of_draws_shows_who_lies_outside_and_where(run, tmp_path):
    draws(6).to_csv(tmp_path / "e.csv", index=False)
    ended = run("report", tmp_path / "page.html", tmp_path / "e.csv")
    assert ended.code == 0, ended.error
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "6 of 20 beyond the limit in baseline columns, 0 of 20 beyond the limit in scanner or position" in page
    assert ">p5<" in page
    assert ">p6<" not in page  # rows of those outside alone


def test_forecasts_are_drawn_too_and_draws_without_distances_are_not():
    forecast = draws(2).assign(distance_columns=[2.0] * 4 + [0.5] * 36).drop(columns="model_error")
    pages = figures.counterfactual_pages(forecast)
    assert pages is not None
    assert "2 of 20 beyond the limit in baseline columns" in str(pages[0][0][0].get_label())
    assert pages[1]["participant_id"].tolist() == ["p0", "p1"]
    assert figures.counterfactual_pages(forecast.drop(columns="distance_columns")) is None
