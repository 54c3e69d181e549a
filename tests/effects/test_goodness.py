"""What plans ask for beside the effect, against MASS, stats and pscl (tests/oracles/goodness.R)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.effects import Method, analyse, custom_contrast, weighted_contrast, zero_sensitivity
from causalms.effects.printing import model_words
from causalms.errors import ConvergenceError, InputError, UsageError
from causalms.stats import fit_zero_model, goodness

ORACLES = Path(__file__).parents[1] / "oracles"
TRUTH = pd.read_csv(ORACLES / "goodness_r.csv").set_index(["id", "quantity"])["value"]


def quine() -> pd.DataFrame:
    return pd.read_csv(ORACLES / "quine.csv")


def analysis(case: str):
    epil = pd.read_csv(ORACLES / "epil_totals.csv")
    epil["high"] = (epil["y"] > 30).astype(int)
    base = {"arm": "trt", "reference": "placebo", "method": Method(estimator="conditional")}
    if case == "quine negbin":
        return analyse(quine(), outcome="Days", arm="Sex", reference="F", adjust="Age", method=Method(estimator="negbin"))
    if case == "epil poisson":
        return analyse(epil, outcome="y", adjust="log(base)", **base)
    if case == "epil logistic":
        return analyse(epil, outcome="high", adjust="age", measure="odds-ratio", **base)
    return analyse(epil, outcome="y", adjust="age", measure="mean-difference", **base)


@pytest.mark.parametrize("case", ["quine negbin", "epil poisson", "epil logistic", "epil linear"])
def test_log_likelihood_deviance_aic_and_theta_are_those_of_r(case: str) -> None:
    """To 1e-8, but theta: glm.nb stops about 1e-6 short of its error."""
    found = goodness(analysis(case).fit)
    for name, truth in TRUTH[case].items():
        if hasattr(found, name):
            assert getattr(found, name) == pytest.approx(truth, rel=1e-5 if "theta" in name else 1e-8), name


def test_the_linear_coefficient_has_the_interval_and_p_of_lm_by_default() -> None:
    row, truth = analysis("epil linear").results.iloc[0], TRUTH["epil linear"]
    assert [row.lower, row.upper, row.p_value] == pytest.approx([truth["lower"], truth["upper"], truth["p_value"]], rel=1e-8)


@pytest.mark.parametrize("case", ["zero-inflated poisson", "hurdle poisson", "hurdle negbin"])
def test_models_of_the_zeros_are_those_of_pscl(case: str) -> None:
    """Coefficients to 1e-5, standard errors to 1e-4: pscl stops where its optimiser does, with a numerical Hessian."""
    kind, family = case.split()
    table, truth = quine(), TRUTH[case]
    one, sex = np.ones(len(table)), (table["Sex"] == "M").to_numpy(dtype=float)
    X = np.column_stack([one, sex, table["Lrn"] == "SL"]).astype(float)
    Z, y = np.column_stack([one, sex]), table["Days"].to_numpy(dtype=float)
    model = fit_zero_model(kind, family, X, Z, y, one)
    sign = -1 if kind == "hurdle" else 1  # pscl models the share above zero
    se = np.sqrt(model.covariance.diagonal())
    assert [model.log_likelihood, model.aic] == pytest.approx([truth["log_likelihood"], truth["aic"]], rel=1e-8)
    assert [model.beta[1], sign * model.gamma[1]] == pytest.approx([truth["count arm"], truth["zero arm"]], rel=1e-5)
    assert [se[1], se[4]] == pytest.approx([truth["count se"], truth["zero se"]], rel=1e-4)
    ratio = zero_sensitivity(analyse(table, outcome="Days", arm="Sex", reference="F", adjust="Lrn"), kind, family)[0].contrasts[0]
    assert ratio.estimate == pytest.approx(truth["ratio"], rel=1e-5)
    assert ratio.lower < ratio.estimate < ratio.upper


def test_a_zero_inflated_model_without_a_finite_fit_is_refused() -> None:
    """pscl's own answer there is a coefficient of 12.7 with a standard error of 942."""
    with pytest.raises(ConvergenceError, match="no finite fit"):
        zero_sensitivity(analyse(quine(), outcome="Days", arm="Sex", reference="F", adjust="Lrn"), "zero-inflated")
    with pytest.raises(UsageError, match="rate-ratio"):
        zero_sensitivity(analysis("epil linear"), "hurdle")


def test_a_contrast_of_ones_own_is_the_built_in_one() -> None:
    made = analyse(quine(), outcome="Days", arm="Age", reference="F0", adjust="Sex")
    own = custom_contrast(made, lambda means: float(np.log(means[1] / means[0])), log=True)
    built_in = made.contrasts[0]
    assert [own.estimate, own.se, own.lower, own.p_value] == pytest.approx(
        [built_in.estimate, built_in.se, built_in.lower, built_in.p_value], rel=1e-7
    )
    covariance = made.joint_covariance
    assert list(covariance.columns) == list(made.data.arms)
    difference = custom_contrast(made, lambda means: float(means[2] - means[1]))
    variance = covariance.iloc[2, 2] + covariance.iloc[1, 1] - 2 * covariance.iloc[1, 2]
    assert difference.se == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert weighted_contrast(made, {"F1": 1, "F0": -1}).se == pytest.approx(built_in.se, rel=1e-7)


def test_contrasts_without_a_meaning_are_refused() -> None:
    made = analyse(quine(), outcome="Days", arm="Age", reference="F0")
    with pytest.raises(InputError, match="no arm 'F9'"):
        weighted_contrast(made, {"F9": 1, "F0": -1})
    with pytest.raises(InputError, match="add up to 2"):
        weighted_contrast(made, {"F1": 1, "F0": 1})
    with pytest.raises(UsageError, match="standardized"):
        custom_contrast(analysis("quine negbin"), lambda means: float(means[0]))


def test_the_page_prints_the_fit_with_as_many_digits_as_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert model_words(analysis("epil poisson")) == "log-likelihood -433.1, deviance 583 on 56 df, AIC 872.3"
    options = ["--outcome", "Days", "--arm", "Age", "--reference", "F0", "--adjust", "Sex", "--estimator", "standardized"]
    with pytest.raises(SystemExit) as stop:
        main(["effects", str(ORACLES / "quine.csv"), *options, "--digits", "8", "--contrast", "F3=0.5,F2=0.5,F1=-1"])
    assert not stop.value.code
    text = capsys.readouterr().out
    made = analyse(quine(), outcome="Days", arm="Age", reference="F0", adjust="Sex").results.iloc[0]
    assert f"{made.estimate:.8g}" in text
    assert "contrast  rate ratio, F3=0.5,F2=0.5,F1=-1: " in text
