"""Counts per visit: digits of geepack and survival, the layout of the long table, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.effects import Design, VisitMethod, Visits, analyse_visits
from causalms.errors import InputError, RefusalError, UsageError
from causalms.stats import fit_gee
from tests.conftest import Run

ORACLES = Path(__file__).parents[1] / "oracles"
R_TRUTH = pd.read_csv(ORACLES / "visits_r.csv").set_index("id")
EPIL = pd.read_csv(ORACLES / "epil_visits.csv")
CGD = pd.read_csv(ORACLES / "cgd.csv")
VISITS = Visits(visit="weeks", patient="subject")
DATES = Visits(visit="tstop", start="tstart", patient="id")
RATES = VisitMethod(estimator="andersen-gill")


def _alike(analysis: object, name: str) -> None:
    row = analysis.results.iloc[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        [np.log(row["estimate"]), row["se"]], R_TRUTH.loc[name, ["estimate", "se"]].astype(float), rtol=1e-7
    )


@pytest.mark.parametrize("structure", ["independence", "exchangeable", "ar1"])
@pytest.mark.parametrize("adjust", [None, "log(base) + age"])
def test_estimating_equations_have_the_digits_of_geepack(structure: str, adjust: str | None) -> None:
    method = VisitMethod(correlation=structure)
    analysis = analyse_visits(EPIL, outcome="y", reference="placebo", arm="trt", visits=VISITS, adjust=adjust, method=method)
    _alike(analysis, f"gee {structure}{' adjusted' if adjust else ''}")


def test_weights_against_drop_out_match_the_stacked_sandwich_in_r() -> None:
    left = EPIL.assign(y=EPIL["y"].mask(((3 * EPIL["subject"] + EPIL["age"]) % 5 == 0) & (EPIL["weeks"] > 4))
                       .mask(((EPIL["subject"] + EPIL["base"]) % 6 == 1) & (EPIL["weeks"] > 6)))  # fmt: skip
    of = {"outcome": "y", "reference": "placebo", "arm": "trt", "visits": VISITS, "adjust": "log(base)"}
    row = analyse_visits(left, **of, method=VisitMethod(ipcw_given="age")).results.iloc[0]
    truth = pd.read_csv(ORACLES / "weighting_r.csv").set_index("id").loc["censoring"]
    np.testing.assert_allclose([row["estimate"], row["se"]], truth.astype(float), rtol=1e-7)
    assert "18 of 58 patients drop out, 31%; largest weight 2.46" in row["estimator"]
    with pytest.raises(RefusalError, match="the model of dropping out has no finite fit"):
        analyse_visits(EPIL, **of, method=VisitMethod(ipcw_given="age + log(base) + I(age**2)"))
    corrected = analyse_visits(left, **of, method=VisitMethod(ipcw_given="age", variance="bias-corrected")).results.iloc[0]
    assert 1 < corrected["se"] / row["se"] < 1.15
    with pytest.raises(UsageError, match="with `variance=robust`"):
        analyse_visits(left, **of, method=VisitMethod(ipcw_given="age", variance="model"))


def test_weights_undo_drop_out_of_patients_with_many_counts() -> None:
    """Placebo patients leave after many counts, so what is seen of placebo later is too low; true ratio 0.5."""
    rng, n = np.random.default_rng(3), 3000
    drug, frailty = np.arange(n) % 2 == 1, rng.gamma(1.0, 1.0, n)
    y = rng.poisson(2 * (np.where(drug, 0.5, 1) * frailty)[:, None], (n, 3)).astype(float)
    stays = np.ones(n, dtype=bool)
    for visit in (1, 2):
        stays &= rng.random(n) < 1 / (1 + np.exp(np.where(drug, 2.0, 3.5 - 2.5 * np.log1p(y[:, :visit].mean(axis=1)))) ** -1)
        y[~stays, visit] = np.nan
    table = pd.DataFrame({"participant_id": np.repeat(np.arange(n), 3), "visit_week": np.tile([12, 24, 36], n), "y": y.ravel()})
    table["arm"], table["x"] = np.repeat(np.where(drug, "drug", "placebo"), 3), np.repeat(rng.normal(size=n), 3)
    methods = [VisitMethod(ipcw_given=given, correlation="independence") for given in (None, "x")]
    rows = [analyse_visits(table, outcome="y", reference="placebo", method=method).results.iloc[0] for method in methods]
    errors = [np.log(row["estimate"] / 0.5) / row["se"] for row in rows]
    assert errors[0] > 4
    assert abs(errors[1]) < 3


def test_proportional_rates_have_the_digits_of_survival() -> None:
    def fitted(method: VisitMethod = RATES, **more: object) -> object:
        of = {"outcome": "status", "reference": "placebo", "arm": "treat", "visits": DATES, "method": method}
        return analyse_visits(CGD, **of, **more)

    _alike(fitted(), "cgd efron")
    _alike(fitted(VisitMethod(estimator="andersen-gill", ties="breslow")), "cgd breslow")
    _alike(fitted(VisitMethod(estimator="andersen-gill", variance="model")), "cgd model")
    _alike(fitted(adjust="age + sex"), "cgd adjusted")
    _alike(fitted(design=Design(strata="sex")), "cgd stratified")
    assert fitted().results["estimate"].iloc[0] == pytest.approx(np.exp(-1.095287), rel=1e-6)  # type: ignore[attr-defined]


def test_counts_at_visits_follow_breslow_and_skip_missed_visits() -> None:
    analysis = analyse_visits(EPIL, outcome="y", reference="placebo", arm="trt", visits=VISITS, method=RATES)
    _alike(analysis, "visits breslow")
    assert any("25 of 232 rows left out" in note for note in analysis.notes)


def test_mean_cumulative_function_has_the_digits_of_survfit() -> None:
    curves = analyse_visits(CGD, outcome="status", reference="placebo", arm="treat", visits=DATES, method=RATES).curves
    for name, truth in R_TRUTH[R_TRUTH.index.str.startswith("mean ")].iterrows():
        _, arm, time = str(name).split()
        row = curves[(curves["arm"] == arm) & (curves["time"] <= float(time))].iloc[-1]
        np.testing.assert_allclose([row["mean"], row["se"]], truth[["estimate", "se"]].astype(float), rtol=1e-10)


def test_rate_ratios_of_visits_are_those_of_their_crude_rates() -> None:
    method = VisitMethod(correlation="independence", by_visit=True)
    analysis = analyse_visits(EPIL, outcome="y", reference="placebo", arm="trt", visits=VISITS, method=method)
    crude = analysis.rates.pivot_table(index="visit", columns="arm", values="rate")
    by_visit = analysis.results[analysis.results["subgroup"] != "all"]
    np.testing.assert_allclose(by_visit["estimate"], crude["progabide"] / crude["placebo"], rtol=1e-9)
    assert any(note.startswith("arm x visit: chi-square") and "3 degrees" in note for note in analysis.notes)


def test_rows_in_any_order_give_the_same_numbers() -> None:
    mixed = EPIL.sample(frac=1, random_state=3).reset_index(drop=True)
    one, other = (
        analyse_visits(table, outcome="y", reference="placebo", arm="trt", visits=VISITS, adjust="age") for table in (EPIL, mixed)
    )
    np.testing.assert_allclose(one.results["se"], other.results["se"], rtol=1e-9)


def test_bias_corrected_variance_covers_in_small_trials_where_the_plain_one_is_short() -> None:
    """400 trials of 2 x 12 patients, four visits, true ratio 1: Monte-Carlo error .011 at .95."""
    rng, covered = np.random.default_rng(5), {"robust": 0, "bias_corrected": 0}
    patient, visit = np.repeat(np.arange(24), 4), np.tile(np.arange(4), 24)
    X = np.column_stack([np.ones(96), patient % 2, *(visit == number for number in (1, 2, 3))]).astype(float)
    for _ in range(400):
        y = rng.poisson(2.0 * np.repeat(rng.gamma(1.0, 1.0, 24), 4)).astype(float)
        fit = fit_gee(X, y, np.ones(96), patient, visit, structure="exchangeable")
        for name, quantile in (("robust", stats.norm.ppf(0.975)), ("bias_corrected", stats.t.ppf(0.975, 24 - 5))):
            covered[name] += abs(fit.coefficients[1]) < quantile * np.sqrt(getattr(fit, name)[1, 1])
    assert covered["bias_corrected"] / 400 > 0.95 - 2 * 0.011
    assert covered["robust"] / 400 < 0.95


@pytest.mark.parametrize(
    ("change", "more", "error", "words"),
    [
        (
            lambda t: pd.concat([t, t.iloc[[5]]], ignore_index=True),
            {},
            InputError,
            "row 233: patient '2' has two rows of visit 4",
        ),
        (lambda t: t.assign(age=t["age"] + t["period"]), {"adjust": "age"}, InputError, "'age' changes within patient '1'"),
        (lambda t: t.assign(weeks=t["weeks"] - 2), {}, InputError, "visits count from 0"),
        (lambda t: t.assign(y=t["y"].where(t["weeks"] > 2, 0)), {}, RefusalError, "visit 2: nobody has no event|nobody has"),
        (lambda t: t.assign(y=t["y"].where(t["trt"] == "placebo", 0)), {}, RefusalError, "arm 'progabide' has no event"),
        (lambda t: t, {"method": VisitMethod(estimator="gee", ties="efron")}, UsageError, "`ties` are of"),
        (lambda t: t, {"method": VisitMethod(estimator="andersen-gill", ties="efron")}, UsageError, "use breslow for counts"),
        (lambda t: t, {"design": Design(cluster="period")}, UsageError, "patients are the clusters"),
        (lambda t: t, {"design": Design(strata="period")}, UsageError, "with gee adjust for them"),
    ],
)
def test_what_a_long_table_cannot_answer_is_refused(change: object, more: dict[str, object], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        analyse_visits(change(EPIL), outcome="y", reference="placebo", arm="trt", visits=VISITS, **more)  # type: ignore[operator]


def test_the_command_line_prints_rates_and_draws_curves(run: Run, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("results.csv", "curves.csv", "curves.png", "rates.csv")]
    words = [ORACLES / "epil_visits.csv", "--outcome", "y", "--visit", "weeks", "--patient", "subject", "--arm", "trt"]
    outputs = [word for pair in zip(("--out", "--curves", "--figure", "--rates"), files, strict=True) for word in pair]
    ended = run("visits", *words, "--reference", "placebo", *outputs)
    assert ended.code == 0, ended.error
    assert all(file.is_file() for file in files)
    assert "exchangeable 0.660" in ended.printed
    assert "see --variance bias-corrected" in ended.printed
