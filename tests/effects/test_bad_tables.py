"""Bad tables: a clear line or a correct answer, never a traceback and never a silent NaN."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalms.effects import analyse, grouped_arguments
from causalms.errors import CausalmsError, InputError, RefusalError, UsageError

BASE = {"outcome": "y", "reference": "placebo", "exposure": "exposure_years", "adjust": "x"}
CRUDE = {"adjust": None, "estimator": "unadjusted"}
NO_TIME = {"exposure": None}
Change = Callable[[pd.DataFrame], pd.DataFrame]


def with_value(column: str, value: object, row: int = 7) -> Change:
    return lambda table: table.assign(**{column: table[column].astype(object).where(np.arange(len(table)) != row, value)})


REFUSED: dict[str, tuple[Change, dict, type[CausalmsError], str]] = {
    "all-zero reference": (
        lambda t: t.assign(y=np.where(t["arm"] == "placebo", 0, t["y"])),
        {},
        RefusalError,
        "the reference 'placebo' has no event",
    ),
    "all-zero arm, modelled difference": (
        lambda t: t.assign(y=np.where(t["arm"] == "drug", 0, t["y"])),
        {"measure": "rate-difference"},
        RefusalError,
        "arm 'drug' has no event",
    ),
    "all counts zero": (lambda t: t.assign(y=0), {}, RefusalError, "no patient has an event"),
    "one patient in an arm": (lambda t: t.iloc[:61], {}, RefusalError, "arm 'drug' has one patient"),
    "one arm": (lambda t: t.iloc[:60], {}, RefusalError, "one arm only"),
    "negative count": (with_value("y", -1), {}, InputError, "column 'y', row 8: found -1"),
    "fractional count": (with_value("y", 1.5), {}, InputError, "column 'y', row 8: found 1.5"),
    "count above any sense": (with_value("y", 10**15), {}, InputError, "row 8"),
    "infinite count": (with_value("y", np.inf), {}, InputError, "row 8"),
    "text outcome": (lambda t: t.assign(y="many"), {}, InputError, "row 1: found 'many'"),
    "one text outcome": (with_value("y", "NR"), {}, InputError, "row 8: found 'NR'"),
    "zero exposure": (with_value("exposure_years", 0), {}, InputError, "exposure of 0"),
    "negative exposure": (lambda t: t.assign(exposure_years=-1), {}, InputError, "time at risk above 0"),
    "unknown reference": (lambda t: t, {"reference": "none"}, InputError, "no arm 'none'; its arms are placebo, drug"),
    "unknown outcome": (lambda t: t, {"outcome": "z"}, InputError, "no column 'z'"),
    "unknown covariate": (lambda t: t, {"adjust": "z"}, UsageError, "no column 'z'"),
    "formula that is none": (lambda t: t, {"adjust": "x +* "}, UsageError, "found '*' at letter 4"),
    "formula with two sides": (lambda t: t, {"adjust": "y ~ x"}, UsageError, "right-hand side"),
    "logarithm of a negative covariate": (lambda t: t, {"adjust": "log(x)"}, InputError, "log"),
    "infinite covariate": (with_value("x", np.inf), {}, InputError, "row 8"),
    "covariate out of range": (lambda t: t.assign(x=t["x"] * 1e300), {}, InputError, "rescale"),
    "duplicated patient": (lambda t: pd.concat([t, t.iloc[:1]]), {}, InputError, "row 121: patient 'p0' stands twice"),
    "column twice": (lambda t: pd.concat([t, t[["y"]]], axis=1), {}, InputError, "stands 2 times"),
    "no row complete": (lambda t: t.assign(arm=None), {}, RefusalError, "no row is complete"),
    "no row": (lambda t: t.iloc[:0], {}, InputError, "holds no rows"),
    "date outcome": (lambda t: t.assign(y=pd.Timestamp("2020-01-01")), {}, InputError, "row 1"),
    "separation": (
        lambda t: t.assign(y=(t["x"] > 0).astype(int)),
        {"measure": "risk-ratio", **NO_TIME},
        RefusalError,
        "separate patients with an event",
    ),
    "more coefficients than patients": (
        lambda t: t.assign(z=np.random.default_rng(0).permutation(120)),
        {"adjust": "C(z)"},
        RefusalError,
        "fewer covariates",
    ),
    "outcome that never varies": (lambda t: t.assign(y=2, exposure_years=1.0), {}, RefusalError, "does not vary"),
    "negative mean in a ratio": (
        lambda t: t.assign(y=t["x"] - 10),
        {"measure": "mean-ratio", "adjust": None, **NO_TIME},
        RefusalError,
        "ask for a difference",
    ),
    "negative values in a Poisson model": (
        lambda t: t.assign(y=t["x"]),
        {"measure": "mean-difference", "working_model": "poisson", "adjust": None, **NO_TIME},
        InputError,
        "working_model=linear",
    ),
    "negative prognostic count": (lambda t: t, {"prognostic": ["x"]}, InputError, "expected a count above 0"),
    "negative activity": (with_value("y", -2), {"measure": "risk-difference", **NO_TIME}, InputError, "expected 0, 1 or a count"),
    "one cluster": (lambda t: t.assign(site=1), {"cluster": "site"}, RefusalError, "one cluster only"),
    "exposure with a risk": (lambda t: t, {"measure": "risk-ratio"}, UsageError, "no meaning for a risk ratio"),
    "level out of range": (lambda t: t, {"level": 95}, UsageError, "between 0 and 1"),
    "unknown measure": (lambda t: t, {"measure": "hazard-ratio"}, UsageError, "no measure is called 'hazard-ratio'"),
    "covariates without a model": (lambda t: t, {"estimator": "unadjusted"}, UsageError, "takes no `adjust`"),
    "working model of another kind": (lambda t: t, {"working_model": "logistic"}, UsageError, "cannot give a rate ratio"),
    "coefficient of an interaction": (lambda t: t, {"estimator": "negbin", "interaction": True}, UsageError, "no single arm"),
    "bootstrap of a handful": (lambda t: t, {"variance": "bootstrap", "replicates": 10}, UsageError, "at least 100"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_that_names_the_fault(trial: pd.DataFrame, case: str) -> None:
    change, options, error, message = REFUSED[case]
    with pytest.raises(error, match=re.escape(message)) as caught:
        analyse(change(trial), **grouped_arguments(dict(**{**BASE, **options}, source="trial.csv")))
    assert "\n" not in str(caught.value)


def test_constant_and_collinear_covariates_are_left_out_and_named(trial: pd.DataFrame) -> None:
    plain = analyse(trial, **grouped_arguments(BASE))
    table = trial.assign(same=3.0, twice=2 * trial["x"] + 1)
    messy = analyse(table, **grouped_arguments({**BASE, "adjust": "x + same + twice"}))
    assert messy.contrasts[0].estimate == pytest.approx(plain.contrasts[0].estimate, rel=1e-10)
    assert messy.contrasts[0].se == pytest.approx(plain.contrasts[0].se, rel=1e-10)
    for name in ("same", "twice"):
        assert any(f"'{name}'" in note and "left out" in note for note in messy.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adjust": "arm*x"}, "`adjust`: 'arm' is the randomised arm, no baseline covariate; .* `interaction`"),
        ({"adjust": "C(arm)"}, "is the randomised arm"),
        ({"adjust": "log(y + 1)"}, "'y' is the outcome, no baseline covariate"),
        ({"adjust": "x + I(y > 0)"}, "'y' is the outcome"),
        ({"adjust": "treated"}, "'treated' is a recoded arm"),
        ({"adjust": "treated:x"}, "'treated' is a recoded arm"),
        ({"adjust": "C(words)"}, "'words' is a recoded arm"),
        ({"adjust": "I(left - right)"}, "is a recoded arm"),
        ({"adjust": "x + later"}, "'later' is a copy of the outcome"),
        ({"prognostic": ["later"]}, "`prognostic`: 'later' is a copy of the outcome"),
        ({"prognostic": ["y"]}, "'y' is also the outcome"),
        ({"exposure": "y"}, "'y' is also the outcome"),
        ({"strata": "arm"}, "'arm' is also the arm"),
        ({"adjust": "treated", "interaction": True}, "'treated' is a recoded arm"),
    ],
)
def test_the_arm_the_outcome_and_their_copies_are_no_covariates(trial: pd.DataFrame, options: dict, words: str) -> None:
    drug = trial["arm"] == "drug"
    table = trial.assign(treated=drug * 1.0, words=np.where(drug, "active", "control"), later=np.log(trial["y"] + 2))
    table = table.assign(left=trial["x"].round(1), right=lambda t: t["left"] - drug)
    table["left"], table["right"] = table["left"] + 0.0, table["right"] + 0.0
    with pytest.raises((InputError, UsageError), match=words):
        analyse(table, **grouped_arguments({**BASE, **options}))


def test_missing_values_are_left_out_counted_and_named(trial: pd.DataFrame) -> None:
    holes = trial.assign(y=trial["y"].where(trial.index > 1), x=trial["x"].where(trial.index != 5))
    analysis = analyse(holes, **grouped_arguments({**BASE, "missing_covariates": "drop"}))
    note = next(note for note in analysis.notes if "left out" in note)
    assert "3 of 120 rows" in note
    assert "y (2)" in note
    assert "x (1)" in note
    assert "row 1, 2, 6" in note
    complete = analyse(trial.drop(index=[0, 1, 5]), **grouped_arguments(BASE))
    assert analysis.contrasts == complete.contrasts


def test_many_missing_outcomes_in_one_arm_are_warned_of(trial: pd.DataFrame) -> None:
    holes = trial.assign(y=trial["y"].where((trial["arm"] == "drug") | (trial.index % 5 > 0)))
    notes = analyse(holes, **grouped_arguments(BASE)).notes
    assert any("missing in 0% of drug, 20% of placebo" in note for note in notes)


def test_all_zero_arm_still_has_a_crude_rate_difference(trial: pd.DataFrame) -> None:
    zero = trial.assign(y=np.where(trial["arm"] == "drug", 0, trial["y"]))
    contrast = analyse(zero, **grouped_arguments(dict(**{**BASE, **CRUDE}, measure="rate-difference"))).contrasts[0]
    placebo = zero[zero["arm"] == "placebo"]
    assert contrast.estimate == pytest.approx(-placebo["y"].sum() / placebo["exposure_years"].sum())
    assert np.isnan(contrast.se)  # its interval is made of the limits of each arm
    assert contrast.lower < contrast.estimate < contrast.upper < 0


def test_arms_may_be_numbers_categories_or_padded_text(trial: pd.DataFrame) -> None:
    expected = analyse(trial, **grouped_arguments(BASE)).contrasts
    for arm in (trial["arm"].astype("category"), " " + trial["arm"] + " "):
        assert analyse(trial.assign(arm=arm), **grouped_arguments(BASE)).contrasts == expected
    number = (trial["arm"] == "drug").astype(float)
    assert analyse(trial.assign(arm=number), **grouped_arguments({**BASE, "reference": "0"})).contrasts == expected


def test_scale_of_a_covariate_changes_nothing(trial: pd.DataFrame) -> None:
    expected = analyse(trial, **grouped_arguments(BASE)).contrasts[0]
    for factor in (1e-9, 1e9):
        contrast = analyse(trial.assign(x=trial["x"] * factor + 5 * factor), **grouped_arguments(BASE)).contrasts[0]
        assert contrast.estimate == pytest.approx(expected.estimate, rel=1e-9)


@pytest.mark.slow
def test_a_million_rows_in_under_a_minute() -> None:
    rng = np.random.default_rng(0)
    n = 1_000_000
    arm = np.where(np.arange(n) % 2 == 1, "placebo", "drug")
    rate = np.where(arm == "drug", 1.0, 2.0)
    table = pd.DataFrame({"y": rng.poisson(rate * rng.gamma(0.5, 2, n)), "arm": arm, "x": rng.normal(size=n)})
    start = time.perf_counter()
    contrast = analyse(
        table, **grouped_arguments({"outcome": "y", "reference": "placebo", "adjust": "x", "working_model": "negbin"})
    ).contrasts[0]
    assert time.perf_counter() - start < 60
    assert contrast.estimate == pytest.approx(0.5, abs=5 * 0.5 * contrast.se)


def results_or_message(table: pd.DataFrame, options: dict) -> tuple[pd.DataFrame | None, str]:
    try:
        return analyse(table, **grouped_arguments(options)).results, ""
    except CausalmsError as error:
        return None, str(error)


VALUES = st.one_of(
    st.integers(-2, 6),
    st.sampled_from([0, 0, 0, 1, 2, 0.5, 1e6, 1e13, np.nan, np.inf, None, "NR", ""]),
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(
        st.tuples(
            VALUES,
            st.sampled_from(["placebo", "drug", "other", None, 1, 1.0]),
            st.one_of(st.floats(-3, 3), st.sampled_from([np.nan, 1e200, 0.0])),
            st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.0, -1.0, np.nan]),
        ),
        max_size=25,
    ),
    measure=st.sampled_from(
        ["rate-ratio", "rate-difference", "risk-ratio", "risk-difference", "odds-ratio", "mean-ratio", "mean-difference"]
    ),
    estimator=st.sampled_from(["standardized", "negbin", "conditional", "unadjusted"]),
    variance=st.sampled_from([None, "influence", "small-sample", "leave-one-out-t", "hc3", "model-sas", "bootstrap"]),
    adjust=st.sampled_from([None, None, "x", "C(x)"]),
    clean=st.booleans(),
    interaction=st.booleans(),
)
def test_no_table_gives_a_traceback_or_a_silent_nan(rows, measure, estimator, variance, adjust, clean, interaction) -> None:
    table = pd.DataFrame(rows, columns=["y", "arm", "x", "time"])
    if clean:  # most random tables stop at the first check; these get further
        y = pd.to_numeric(table["y"], errors="coerce").clip(0, 1e6).fillna(0).round()
        table = table.assign(y=y, x=table["x"].fillna(0).clip(-3, 3), time=table["time"].abs().fillna(1).clip(0.5))
    exposure = "time" if measure.startswith("rate") else None
    options = {
        "outcome": "y",
        "reference": "placebo",
        "measure": measure,
        "estimator": estimator,
        "variance": variance,
        "adjust": adjust,
        "exposure": exposure,
        "interaction": interaction,
        "replicates": 100,
    }
    results, message = results_or_message(table, options)
    if results is None:
        assert message
        assert "\n" not in message
        return
    numbers = results[["estimate", "lower", "upper", "p_value"]].to_numpy(float)
    assert not np.isnan(numbers).any()
    no_events = (results["estimate"] == 0) & results["measure"].eq("rate ratio")
    assert ((results["se"] > 0) | (no_events & results["se"].isna())).all()
    assert (results["lower"] <= results["estimate"]).all()
    assert (results["estimate"] <= results["upper"]).all()
