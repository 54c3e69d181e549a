"""The public worked examples: every number of tests/oracles/effects.csv, through the public call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import analyse, grouped_arguments
from causalms.stats import fit_model, log_likelihood

ORACLES = Path(__file__).parents[1] / "oracles"
TRUTH = pd.read_csv(ORACLES / "effects.csv").set_index("id")
EPIL = {"outcome": "y", "arm": "trt", "reference": "placebo"}
EPIL_ADJUSTED = {**EPIL, "adjust": "log(base/4) + log(age)"}
LARGE = {"variance": "influence"}  # of RobinCar2; arms this small have the small-sample variance by default
POLYPS = {"outcome": "number", "arm": "treat", "reference": "placebo"}


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(ORACLES / f"{name}.csv")


CASES = {
    "polyps-poisson": ("polyps", {**POLYPS, "adjust": "age", "estimator": "conditional", "variance": "model-r"}),
    "polyps-nb-r": ("polyps", {**POLYPS, "adjust": "age", "estimator": "negbin", "variance": "model-r"}),
    "polyps-nb-marginal": ("polyps", {**POLYPS, **LARGE, "adjust": "age", "working_model": "negbin"}),
    "polyps-nb-unadjusted": ("polyps", {**POLYPS, **LARGE, "working_model": "negbin"}),
    "epil-nb-unadjusted": ("epil_totals", {**EPIL, "estimator": "negbin", "variance": "model-r"}),
    "epil-nb-adjusted": ("epil_totals", {**EPIL_ADJUSTED, "estimator": "negbin", "variance": "model-r"}),
    "epil-nb-marginal": ("epil_totals", {**EPIL_ADJUSTED, **LARGE, "working_model": "negbin"}),
    "epil-poisson-marginal": ("epil_totals", {**EPIL_ADJUSTED, **LARGE, "working_model": "poisson"}),
}


@pytest.mark.parametrize("case", CASES)
def test_published_log_rate_ratio_and_standard_error(case: str) -> None:
    data, options = CASES[case]
    row = analyse(table(data), **grouped_arguments(options)).results.iloc[0]
    assert np.log(row.estimate) == pytest.approx(TRUTH.estimate[case], rel=1e-6)
    assert row.se == pytest.approx(TRUTH.se[case], rel=1e-4)


def test_one_patient_moves_the_marginal_effect_as_published() -> None:
    without = table("epil_totals").query("subject != 49")
    row = analyse(without, **grouped_arguments(dict(**EPIL_ADJUSTED, **LARGE, working_model="negbin"))).results.iloc[0]
    assert np.log(row.estimate) == pytest.approx(TRUTH.estimate["epil-nb-marginal-49"], rel=1e-6)
    assert row.se == pytest.approx(TRUTH.se["epil-nb-marginal-49"], rel=1e-4)


def test_marginal_means_and_rate_difference_match_robincar2() -> None:
    analysis = analyse(
        table("epil_totals"),
        **grouped_arguments(dict(**EPIL_ADJUSTED, **LARGE, working_model="negbin", measure="rate-difference")),
    )
    assert analysis.means is not None
    np.testing.assert_allclose(analysis.means.estimates, [34.0052415, 32.0585440], rtol=1e-7)
    assert analysis.contrasts[0].estimate == pytest.approx(-1.94669754, rel=1e-6)
    assert analysis.contrasts[0].se == pytest.approx(6.81692652, rel=1e-6)


@pytest.mark.parametrize(
    ("data", "options", "se"), [("polyps", POLYPS | {"adjust": "age"}, 0.38254792), ("epil_totals", EPIL_ADJUSTED, 0.153736336)]
)
def test_hc0_of_the_negative_binomial_coefficient_matches_r_sandwich(data: str, options: dict, se: float) -> None:
    analysis = analyse(table(data), **grouped_arguments(dict(**options, estimator="negbin", variance="hc0")))
    assert analysis.contrasts[0].se == pytest.approx(se, rel=1e-4)


def test_p_value_dispersion_and_likelihood_match_glm_nb() -> None:
    analysis = analyse(table("polyps"), **grouped_arguments(dict(**POLYPS, adjust="age", estimator="negbin", variance="model-r")))
    assert analysis.contrasts[0].p_value == pytest.approx(0.00020944, rel=1e-4)
    assert 1 / analysis.fit.alpha == pytest.approx(1.7195, rel=3e-5)  # printed to five digits
    assert 2 * log_likelihood(analysis.fit) == pytest.approx(-156.880, abs=5e-4)
    assert 1 / analyse(table("epil_totals"), **grouped_arguments(dict(**EPIL, estimator="negbin"))).fit.alpha == pytest.approx(
        1.11120006, rel=1e-7
    )
    assert 1 / analyse(
        table("epil_totals"), **grouped_arguments(dict(**EPIL_ADJUSTED, estimator="negbin"))
    ).fit.alpha == pytest.approx(3.6937001, rel=1e-7)


def test_age_coefficient_of_the_polyps_trial_matches_glm_nb() -> None:
    data = table("polyps")
    X = np.column_stack([np.ones(20), data.treat == "drug", data.age]).astype(float)
    fit = fit_model("negbin", X, data.number.to_numpy(float))
    assert fit.coefficients[2] == pytest.approx(TRUTH.estimate["polyps-nb-age"], rel=1e-6)
    assert np.sqrt(np.linalg.inv(fit.information)[2, 2]) == pytest.approx(TRUTH.se["polyps-nb-age"], rel=1e-4)


def test_nested_model_of_school_absences_matches_mass() -> None:
    from formulaic import model_matrix

    data = table("quine")
    X = model_matrix("Sex/(Age + Eth*Lrn)", data)
    fit = fit_model("negbin", X.to_numpy(float), data.Days.to_numpy(float))
    term = list(X.columns).index("Sex[M]:Age[T.F3]")
    assert 1 / fit.alpha == pytest.approx(1.59799, abs=5e-6)
    assert 2 * log_likelihood(fit) == pytest.approx(-1063.025, abs=5e-4)
    assert fit.coefficients[term] == pytest.approx(1.15084290, rel=1e-6)
    assert np.sqrt(np.linalg.inv(fit.information)[term, term]) == pytest.approx(0.31385296, rel=1e-4)


def test_poisson_standardized_equals_its_coefficient_without_interaction() -> None:
    standardized = analyse(table("polyps"), **grouped_arguments(dict(**POLYPS, adjust="age", variance="model-r"))).contrasts[0]
    conditional = analyse(
        table("polyps"), **grouped_arguments(dict(**POLYPS, adjust="age", estimator="conditional", variance="model-r"))
    ).contrasts[0]
    assert standardized.estimate == pytest.approx(conditional.estimate, rel=1e-10)
    assert standardized.se == pytest.approx(conditional.se, rel=1e-10)


R_TRUTH = pd.read_csv(ORACLES / "effects_r.csv", skipinitialspace=True)
R_ADJUSTED = {"outcome": "y", "arm": "trt", "reference": "placebo", "estimator": "conditional"}
R_CASES = {
    "polyps-poisson": ("polyps", {**POLYPS, "adjust": "age", "estimator": "conditional"}),
    "polyps-negbin": ("polyps", {**POLYPS, "adjust": "age", "estimator": "negbin"}),
    "epil-poisson-offset": ("epil_totals", {**R_ADJUSTED, "adjust": "log(base) + age", "exposure": "years"}),
    "epil-negbin-offset": (
        "epil_totals",
        {**R_ADJUSTED, "estimator": "negbin", "adjust": "log(base) + age", "exposure": "years"},
    ),
    "epil-logistic": ("epil_totals", {**R_ADJUSTED, "outcome": "active", "measure": "odds-ratio", "adjust": "log(base)"}),
    "epil-linear": ("epil_totals", {**R_ADJUSTED, "measure": "mean-difference", "adjust": "base"}),
}


@pytest.mark.parametrize("row", range(len(R_TRUTH)), ids=lambda row: f"{R_TRUTH.id[row]}-{R_TRUTH.variance[row]}")
def test_coefficients_and_their_errors_match_r(row: int) -> None:
    truth = R_TRUTH.iloc[row]
    name, options = R_CASES[truth.id]
    data = table(name)
    if name == "epil_totals":
        data = data.assign(years=0.5 + (data["subject"] % 7) / 10, active=(data["y"] > 20).astype(int))
    variance = "model-r" if truth.variance == "model" else truth.variance.lower()
    contrast = analyse(data, **grouped_arguments(dict(**options, variance=variance))).contrasts[0]
    estimate = contrast.estimate if truth.id == "epil-linear" else np.log(contrast.estimate)
    assert estimate == pytest.approx(truth.estimate, rel=1e-6)
    assert contrast.se == pytest.approx(truth.se, rel=1e-4)
