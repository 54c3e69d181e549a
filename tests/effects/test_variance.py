"""Variances by name: against statsmodels, against repeated sampling, and between one trial and many at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from causalms.effects import analyse, grouped_arguments
from causalms.effects.covariance import influence_covariance
from causalms.effects.data import TrialData
from causalms.effects.means import ArmMeans, counterfactual_means, design, fit_working_model
from causalms.effects.variance import VARIANCES, coefficient_covariance, means_covariance
from causalms.errors import UsageError
from causalms.stats import Batch, Fit, fit_batch

BASE = {"outcome": "y", "reference": "placebo", "exposure": "exposure_years", "adjust": "x"}


@pytest.mark.parametrize("kind", ["hc0", "hc1", "hc2", "hc3"])
def test_sandwich_of_the_linear_model_matches_statsmodels(trial: pd.DataFrame, kind: str) -> None:
    import statsmodels.api as sm

    X = np.column_stack([np.ones(len(trial)), trial["arm"] == "drug", trial["x"]]).astype(float)
    theirs = sm.OLS(trial["y"], X).fit().get_robustcov_results(kind.upper()).bse[1]
    options = {"outcome": "y", "reference": "placebo", "measure": "mean-difference", "adjust": "x", "variance": kind}
    assert analyse(trial, **grouped_arguments(dict(**options, estimator="conditional"))).contrasts[0].se == pytest.approx(
        theirs, rel=1e-9
    )
    # With covariates held fixed, standardising a linear model without interaction changes nothing.
    assert analyse(trial, **grouped_arguments(options)).contrasts[0].se == pytest.approx(theirs, rel=1e-9)


def test_sandwich_of_the_poisson_model_matches_statsmodels(trial: pd.DataFrame) -> None:
    import statsmodels.api as sm

    X = np.column_stack([np.ones(len(trial)), trial["arm"] == "drug", trial["x"]]).astype(float)
    model = sm.GLM(trial["y"], X, family=sm.families.Poisson(), offset=np.log(trial["exposure_years"]))
    theirs = model.fit(cov_type="HC0", tol=1e-12).bse.iloc[1]
    assert analyse(trial, **grouped_arguments(dict(**BASE, variance="hc0"))).contrasts[0].se == pytest.approx(theirs, rel=1e-7)
    # By definition; statsmodels' own HC1 of a generalised linear model leaves the factor out.
    assert analyse(trial, **grouped_arguments(dict(**BASE, variance="hc1"))).contrasts[0].se == pytest.approx(
        theirs * np.sqrt(120 / 117), rel=1e-7
    )


def test_clustered_sandwich_matches_statsmodels(trial: pd.DataFrame) -> None:
    import statsmodels.api as sm

    X = np.column_stack([np.ones(len(trial)), trial["arm"] == "drug", trial["x"]]).astype(float)
    model = sm.GLM(trial["y"], X, family=sm.families.Poisson(), offset=np.log(trial["exposure_years"]))
    groups = {"groups": trial["site"].to_numpy(), "use_correction": False}
    theirs = model.fit(cov_type="cluster", cov_kwds=groups, tol=1e-12).bse.iloc[1]
    ours = (
        analyse(trial, **grouped_arguments(dict(**BASE, estimator="conditional", cluster="site", variance="cr1"))).contrasts[0].se
    )
    assert ours == pytest.approx(theirs * np.sqrt(4 / 3), rel=1e-7)  # G / (G - 1) with four sites


def test_unadjusted_mean_difference_is_welchs(trial: pd.DataFrame) -> None:
    contrast = analyse(
        trial,
        **grouped_arguments({"outcome": "y", "reference": "placebo", "measure": "mean-difference", "estimator": "unadjusted"}),
    ).contrasts[0]
    groups = trial.groupby("arm")["y"]
    assert contrast.estimate == pytest.approx(groups.mean()["drug"] - groups.mean()["placebo"])
    assert contrast.se == pytest.approx(np.sqrt((groups.var() / groups.size()).sum()), rel=1e-12)


def test_linear_model_based_interval_is_the_t_interval_of_least_squares(trial: pd.DataFrame) -> None:
    import statsmodels.api as sm

    X = np.column_stack([np.ones(len(trial)), trial["arm"] == "drug", trial["x"]]).astype(float)
    theirs = sm.OLS(trial["y"], X).fit()
    options = {"outcome": "y", "reference": "placebo", "measure": "mean-difference", "adjust": "x", "estimator": "conditional"}
    ours = analyse(trial, **grouped_arguments(dict(**options, variance="model-r"))).contrasts[0]
    np.testing.assert_allclose([ours.lower, ours.upper], np.asarray(theirs.conf_int())[1])
    sas = analyse(trial, **grouped_arguments(dict(**options, variance="model-sas"))).contrasts[0]
    assert sas.se == pytest.approx(np.asarray(theirs.bse)[1] * np.sqrt(117 / 120))


@pytest.mark.parametrize("family", ["poisson", "negbin"])
@pytest.mark.parametrize("rate", ["unit", "exposure-weighted"])
def test_variances_of_many_trials_at_once_are_those_of_each(family: str, rate: str) -> None:
    rng = np.random.default_rng(0)
    repetitions, n = 3, 40
    arm = np.repeat([0, 1], n)
    x = rng.normal(size=(repetitions, 2 * n))
    time = rng.uniform(0.3, 1, x.shape) * np.exp(0.1 * x)
    y = rng.poisson(rng.gamma(0.8, 1.25, x.shape) * time * np.exp(0.9 - 0.6 * arm + 0.4 * x)).astype(float)
    strata = rng.integers(0, 3, x.shape)
    rows, arms, pair = np.arange(2 * n), ("a", "b"), np.array([0, 1])
    whole = TrialData(y, arm, arms, time, x[:, :, None], ("x",), rows, strata=strata)
    X = design(whole, False)
    fits = fit_batch(family, Batch(X, y, time))
    many = counterfactual_means(whole, Fit(family, X, y, time, fits.coefficients, fits.alpha), False, rate)
    for r in range(repetitions):
        data = TrialData(y[r], arm, arms, time[r], x[r][:, None], ("x",), rows, strata=strata[r])
        means = counterfactual_means(data, fit_working_model(data, family), False, rate)
        np.testing.assert_allclose(many.estimates[r], means.estimates, rtol=1e-9)
        for name, variance in VARIANCES.items():
            for scheme in ("simple", "permuted-block"):
                one = means_covariance(means, name, scheme).of_contrast(pair, np.array([-1, 1]) / means.estimates)
                all_at_once = means_covariance(many, name, scheme).of_contrast(pair, np.array([-1, 1]) / many.estimates)
                np.testing.assert_allclose([part[r] for part in all_at_once], one, rtol=1e-8)
            if variance.of_coefficients:
                np.testing.assert_allclose(
                    coefficient_covariance(many.fit, name).matrix[r], coefficient_covariance(means.fit, name).matrix, rtol=1e-7
                )


@pytest.mark.parametrize("rate", ["unit", "exposure-weighted"])
def test_influence_errors_are_the_jackknifes_when_exposure_goes_with_the_covariate(rate: str) -> None:
    rng = np.random.default_rng(2)
    n = 400
    x = rng.normal(size=n)
    time = np.exp(0.8 * x)  # exposure tied to the covariate: the case in which the coefficients' own error matters
    arm = rng.integers(0, 2, n)
    y = rng.poisson(time * rng.gamma(1, 1, n) * np.exp(0.5 - 0.5 * arm + 0.5 * np.abs(x))).astype(float)
    data = TrialData(y, arm, ("a", "b"), time, x[:, None], ("x",), np.arange(n))

    def means_of(part: TrialData) -> ArmMeans:
        return counterfactual_means(part, fit_working_model(part, "poisson"), False, rate)

    means = means_of(data)
    left = np.array([means_of(data.take(np.delete(np.arange(n), out))).estimates for out in range(n)])
    jackknife = np.sqrt((n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    # The jackknife is a little wide in finite samples: some percent at n = 400 with such skewed exposure.
    np.testing.assert_allclose(np.sqrt(np.diag(influence_covariance(means))), jackknife, rtol=0.05)
    if rate == "unit":
        without = np.sqrt(np.diag(influence_covariance(replace(means, drift=0 * means.drift))))
        assert (without > 1.15 * jackknife).all()


def test_permuted_blocks_shorten_the_interval_and_simple_randomisation_ignores_strata(trial: pd.DataFrame) -> None:
    trial = trial.assign(stratum=np.where(trial["x"] > 0, "high", "low"))
    options = {"outcome": "y", "reference": "placebo", "exposure": "exposure_years"}
    simple = analyse(trial, **grouped_arguments(options))
    blocked = analyse(trial, **grouped_arguments(dict(**options, strata="stratum")))
    ignored = analyse(trial, **grouped_arguments(dict(**options, strata="stratum", randomization="simple")))
    assert blocked.contrasts[0].se < simple.contrasts[0].se
    assert ignored.contrasts[0].se == simple.contrasts[0].se
    assert any("strata are not used" in note for note in ignored.notes)
    assert "permuted blocks" in blocked.results["variance"][0]


def test_small_sample_variance_is_the_widest_in_small_arms_and_fades_in_large_ones(trial: pd.DataFrame) -> None:
    small = analyse(trial, **grouped_arguments(dict(**BASE, variance="small-sample"))).contrasts[0]
    plain = analyse(trial, **grouped_arguments(dict(**BASE, variance="leave-one-out"))).contrasts[0]
    assert small.se >= plain.se
    rng = np.random.default_rng(1)
    large = pd.DataFrame({"y": rng.poisson(rng.gamma(0.5, 4, 60_000)), "arm": np.repeat(["placebo", "drug"], 30_000)})
    options = {"outcome": "y", "reference": "placebo"}
    ratio = [
        analyse(large, **grouped_arguments(dict(**options, variance=name))).contrasts[0].se
        for name in ("small-sample", "influence")
    ]
    assert ratio[0] / ratio[1] == pytest.approx(1, abs=1e-3)


def test_influence_variance_is_for_means_only(trial: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="is for means"):
        analyse(trial, **grouped_arguments(dict(**BASE, estimator="negbin", variance="influence")))
