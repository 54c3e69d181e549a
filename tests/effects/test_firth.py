"""Firth's penalised likelihood against brglm2 and the penalised profile likelihood in R (tests/oracles/firth.R)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import Design, Method, analyse
from causalms.errors import RefusalError, UsageError

ORACLES = Path(__file__).parents[1] / "oracles"
TRUTH = pd.read_csv(ORACLES / "firth_r.csv").set_index("id")
FIRTH = Method(estimator="firth")


def silent() -> pd.DataFrame:
    """The first table of firth.R: thirty patients an arm, no event under the drug."""
    y = [5, 2, 0, 6, 8, 1, 0, 5, 0, 2, 0, 2, 3, 0, 2, 15, 0, 5, 4, 0, 1, 1, 2, 3, 7, 0, 1, 4, 10, 1]
    index = np.arange(1, 61)
    arm = ["placebo"] * 30 + ["drug"] * 30
    return pd.DataFrame({"y": [*y, *[0] * 30], "arm": arm, "x": index * 7 % 11, "years": 1 + index % 3 / 2})


def epil() -> pd.DataFrame:
    table = pd.read_csv(ORACLES / "epil_totals.csv").rename(columns={"trt": "arm", "age": "x"})
    return table.assign(years=1.0, any=(table["y"] > 60).astype(int))


@pytest.mark.parametrize("case", TRUTH.index)
def test_estimate_limits_and_p_are_those_of_r(case: str) -> None:
    """Limits and p by optim in R: its minima are sharp to about 1e-8 of the coefficient."""
    table, logistic = (silent() if case.startswith("silent") else epil()), case.endswith("logistic")
    outcome = "any" if logistic and "any" in table else "y"
    options = {} if logistic else {"exposure": "years"}
    measure = "odds-ratio" if logistic else "rate-ratio"
    made = analyse(table, outcome=outcome, reference="placebo", measure=measure, adjust="x", method=FIRTH, **options)
    row = made.results.iloc[0]
    truth = TRUTH.loc[case]
    assert np.log([row.estimate, row.lower, row.upper]) == pytest.approx(truth[["estimate", "lower", "upper"]], rel=1e-6)
    assert row.se == pytest.approx(truth["se"], rel=1e-7)
    assert row.p_value == pytest.approx(truth["p_value"], rel=1e-5)


def test_firth_of_two_by_two_adds_half_an_event_to_each_cell() -> None:
    row = analyse(silent(), outcome="y", reference="placebo", measure="odds-ratio", method=FIRTH).results.iloc[0]
    events = int((silent()["y"] > 0).sum())
    assert row.estimate == pytest.approx((0.5 / 30.5) / ((events + 0.5) / (30.5 - events)), rel=1e-9)


def test_what_firth_brings_itself_is_refused_beside_it() -> None:
    for method, design, name in (
        (Method(estimator="firth", variance="hc3"), Design(), "variance"),
        (Method(estimator="firth", test="score"), Design(), "test"),
        (Method(estimator="firth", working_model="negbin"), Design(), "odds-ratio"),
    ):
        with pytest.raises(UsageError, match=name):
            analyse(silent(), outcome="y", reference="placebo", method=method, design=design)


@pytest.mark.parametrize("measure", ["risk-ratio", "odds-ratio", "risk-difference"])
def test_an_adjusted_risk_without_events_is_refused_in_the_words_of_what_was_wanted(measure: str) -> None:
    with pytest.raises(RefusalError, match=f"arm 'drug' has no event, so there is no {measure.replace('-', ' ')} adjusted for x"):
        analyse(silent(), outcome="y", reference="placebo", measure=measure, adjust="x")
