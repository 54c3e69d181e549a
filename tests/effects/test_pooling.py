"""Rubin's rules have the digits of mice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import Method, MissingOutcomes, effects_with_missing_outcomes
from causalms.effects.pooling import barnard_rubin
from causalms.errors import InputError

ORACLES = Path(__file__).parents[1] / "oracles"
TRUTH = pd.read_csv(ORACLES / "imputation_r.csv").iloc[0]


def _epil_with_draws() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The epilepsy trial, every fourth total missing, and the five imputations of imputation.R as a draws table."""
    table = pd.read_csv(ORACLES / "epil_totals.csv").rename(columns={"trt": "arm", "subject": "participant_id"})
    number = np.arange(1, len(table) + 1)
    lacking = number % 4 == 0
    parts = []
    for draw in range(1, 6):
        own = table.loc[lacking, ["participant_id", "arm"]].assign(draw=draw, visit_week=8.0)
        own["net2_lesions"] = (7 * table.loc[lacking, "base"] + 11 * draw * number[lacking]) % 60
        parts.append(own.assign(arm_randomised=own["arm"]))
    return table.assign(y=table["y"].where(~lacking)), pd.concat(parts, ignore_index=True)


def test_pooled_estimate_interval_and_degrees_of_freedom_match_mice() -> None:
    table, draws = _epil_with_draws()
    strategy = MissingOutcomes(strategy="multiple-imputation", draws=draws, week=8)
    method = Method(estimator="conditional", working_model="linear", variance="model-r", missing=strategy)
    row = effects_with_missing_outcomes(
        table, outcome="y", reference="placebo", measure="mean-difference", adjust="base", method=method
    ).iloc[0]
    ours = [row["estimate"], row["se"], row["lower"], row["upper"], row["p_value"]]
    np.testing.assert_allclose(ours, TRUTH[["estimate", "se", "lower", "upper", "p"]].astype(float), rtol=1e-8)
    assert "Barnard and Rubin" in row["variance"]


def test_degrees_of_freedom_never_exceed_those_of_the_complete_table() -> None:
    assert barnard_rubin(1.0, 1e-6, 100, 20.0) < 20.0
    assert barnard_rubin(1.0, 0.5, 5, np.inf) == pytest.approx(4 * 9)


def test_jump_to_reference_imputes_with_the_draws_under_the_reference() -> None:
    """Draws under the own arm are of no use there; those under placebo give what imputing them as own draws gives."""
    table, draws = _epil_with_draws()
    under_placebo = draws.assign(arm="placebo")
    method = Method(estimator="unadjusted", missing=MissingOutcomes(strategy="jump-to-reference", draws=under_placebo, week=8))
    same = replace(method, missing=MissingOutcomes(strategy="multiple-imputation", draws=draws, week=8))
    jumped, own = (
        effects_with_missing_outcomes(table, outcome="y", reference="placebo", method=chosen).iloc[0] for chosen in (method, same)
    )
    assert (jumped["estimate"], jumped["se"]) == (own["estimate"], own["se"])
    assert "under placebo (jump to reference)" in jumped["estimator"]
    lacking = replace(method, missing=MissingOutcomes(strategy="jump-to-reference", draws=draws, week=8))
    with pytest.raises(InputError, match="lacks a draw under 'placebo' at week 8"):
        effects_with_missing_outcomes(table, outcome="y", reference="placebo", method=lacking)
