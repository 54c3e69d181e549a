"""Numbers of fixed analyses of shipped data through all methods of effects, calibration and stats: the digits of a release."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms import calibration, effects, stats
from causalms.errors import CausalmsError
from causalms.tables import read_table

DATA = Path(__file__).parent / "data"
#: Options of an analysis of the epilepsy totals, and what goes with each estimator.
_EPIL: dict[str, Any] = {"outcome": "y", "arm": "trt", "reference": "placebo"}
_VARIANCES = (
    *("influence", "small-sample", "leave-one-out", "bootstrap"),
    *("hc0", "hc1", "hc2", "hc3", "hc3-t", "model-sas", "model-r"),
)


def shipped(name: str) -> pd.DataFrame:
    """A table that ships with the package."""
    return read_table(DATA / f"{name}.csv")


def digest(value: Any) -> tuple[float, float]:
    """Two numbers that change when any number of a result does: sums weighted by place, of the values and of their squares.

    Examples
    --------
    >>> digest(np.array([1.0, 2.0]))
    (5.0, 9.0)
    """
    numbers = np.nan_to_num(np.array(list(_flat(value)), float), nan=-3.0, posinf=7e7, neginf=-7e7)
    weights = 1.0 + np.arange(len(numbers)) % 11
    return float(weights @ numbers), float(weights @ numbers**2)


def _flat(value: Any) -> Iterator[float]:
    """Every number of a result: of arrays, tables, dataclasses, lists and mappings; words are passed over."""
    if isinstance(value, pd.DataFrame):
        yield from _flat(value.select_dtypes(["number", "bool"]).to_numpy(float, na_value=np.nan))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _flat(getattr(value, field.name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from _flat(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _flat(one)
    elif isinstance(value, (np.ndarray, pd.Series)):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            yield from array.astype(float).ravel()
    elif isinstance(value, (bool, int, float, np.generic)) and not isinstance(value, np.str_):
        yield float(value)


def made_trial(seed: int = 1, patients: int = 120, draws: int = 12) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Participants with counts and draws under both arms, of known negative-binomial laws."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(["a", "b"], patients)
    base = np.exp(rng.normal(0.8, 0.6, patients))
    people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(patients)], "trial": "t", "arm": arm})
    people["age"] = rng.uniform(20, 55, patients)
    people["net2_lesions_week48"] = rng.negative_binomial(0.6, 0.6 / (0.6 + base * np.where(arm == "a", 1.0, 0.3)))
    rows = []
    for name, effect in (("a", 1.0), ("b", 0.4)):
        counts = rng.negative_binomial(0.6, (0.6 / (0.6 + base * effect))[:, None], (patients, draws))
        keys = {"participant_id": people["participant_id"], "trial": "t", "arm": name, "arm_randomised": arm}
        one = pd.DataFrame({**keys, "visit_week": 48.0, "query": "interventional", "query_id": "q"})
        one = one.loc[np.repeat(np.arange(patients), draws)].reset_index(drop=True)
        lesions = {"net2_lesions": counts.ravel(), "net2_volume_ml": 0.1 * counts.ravel()}
        rows.append(one.assign(draw=np.tile(np.arange(draws), patients), **lesions))
    return people, pd.concat(rows, ignore_index=True)


def release_numbers(first: str = "effects") -> Iterator[tuple[str, tuple[float, float]]]:
    """Identifier and digest of every fixed analysis, those of room ``first`` first; a refusal counts as a result of its own."""
    rooms = {"effects": _effects, "stats": _statistics, "calibration": _calibration}
    for name, run in chain.from_iterable(rooms[room]() for room in sorted(rooms, key=lambda room: room != first)):
        try:
            yield name, digest(run())
        except CausalmsError as refusal:
            yield name, (float(len(str(refusal))), -1.0)


_Runs = Iterator[tuple[str, Any]]


def _analysis(table: pd.DataFrame, options: dict[str, Any]) -> pd.DataFrame:
    analysis = effects.analyse(table, **effects.grouped_arguments({"replicates": 199, **options}))
    return pd.concat([analysis.results, analysis.arms], ignore_index=True)


def _effects() -> _Runs:
    epil, polyps, trial = shipped("epil_totals"), shipped("polyps"), shipped("trial")
    epil = epil.assign(block=np.arange(len(epil)) % 4, years=1 + np.arange(len(epil)) % 3 / 2, score=epil["base"] + 1.0)
    of_trial = {"outcome": "lesions", "reference": "placebo", "exposure": "years"}
    cases: dict[str, tuple[pd.DataFrame, dict[str, Any]]] = {}
    for variance, adjust, estimator in product(
        _VARIANCES, (None, "log(base) + age"), ("standardized", "unadjusted", "conditional", "negbin")
    ):
        if estimator != "unadjusted" or adjust is None:
            options = {**_EPIL, "variance": variance, "adjust": adjust, "estimator": estimator, "exposure": "years"}
            cases[f"epil {estimator} {variance} {adjust or ''}"] = epil, options
    for measure, interaction in product(effects.MEASURES, (False, True)):
        cases[f"epil {measure} {interaction}"] = (
            epil,
            {**_EPIL, "measure": measure, "adjust": "age + base", "interaction": interaction},
        )
        cases[f"trial {measure} {interaction}"] = (
            trial,
            {**of_trial, "exposure": None, "measure": measure, "adjust": "gd_lesions", "interaction": interaction},
        )
    for test, model in product(("score", "permutation"), ("poisson", "negbin")):
        cases[f"epil {test} {model}"] = epil, {**_EPIL, "test": test, "working_model": model, "adjust": "age"}
    for variance, estimator in (("cr1", "standardized"), ("cr3", "standardized"), ("cr2", "negbin"), ("cr1", "conditional")):
        cases[f"clusters {variance} {estimator}"] = (
            epil,
            {**_EPIL, "cluster": "block", "variance": variance, "estimator": estimator},
        )
    cases["strata"] = epil, {**_EPIL, "strata": "block", "adjust": "age"}
    cases["weighted rate"] = (
        epil,
        {**_EPIL, "exposure": "years", "rate": "exposure-weighted", "adjust": "base", "interaction": True},
    )
    cases["prognostic"] = epil, {**_EPIL, "prognostic": ["score"]}
    cases["percentile"] = epil, {**_EPIL, "variance": "bootstrap-percentile", "adjust": "age"}
    cases["polyps"] = polyps, {"outcome": "number", "arm": "treat", "reference": "placebo", "adjust": "age", "level": 0.9}
    cases["no event"] = epil.assign(y=epil["y"] * (epil["trt"] == "placebo")), dict(_EPIL)
    cases["no event, difference"] = epil.assign(y=epil["y"] * (epil["trt"] == "placebo")), {**_EPIL, "measure": "rate-difference"}
    for name, (table, options) in cases.items():
        yield f"effects: {name}", lambda table=table, options=options: _analysis(table, options)
    yield from _simulated_and_weighted(epil, trial)
    yield from _planning_and_borrowing(epil)


def _simulated_and_weighted(epil: pd.DataFrame, trial: pd.DataFrame) -> _Runs:
    people, draws = made_trial()
    for measure in effects.MEASURES:
        yield f"simulated: {measure}", lambda measure=measure: effects.analyse_draws(draws, reference="a", measure=measure)
    weights = effects.transport_weights(people, people.assign(age=people["age"] + 3), "age")
    yield "transport", lambda: weights.balance
    yield (
        "transported",
        lambda: list(vars(effects.transported_effect(draws, weights, arm="b", reference="a")).values()),
    )
    missing = effects.Method(missing=effects.MissingOutcomes(strategy="ipw", missing_given="age + gd_lesions"))
    yield (
        "missing: ipw",
        lambda: effects.effects_with_missing_outcomes(
            trial, outcome="lesions", reference="placebo", exposure="years", method=missing
        ),
    )
    yield (
        "savings",
        lambda: [
            saving.variance_ratio
            for saving in effects.savings(effects.analyse(epil, **_EPIL, method=effects.Method(prognostic=["score"])))
        ],
    )


def _planning_and_borrowing(epil: pd.DataFrame) -> _Runs:
    for margin, dropout, small, k in product((1.0, 1.25, 0.8), (0.0, 0.2), (False, True), (1.0, 2.0)):
        planning = effects.Planning(margin=margin, dropout=dropout, small_sample=small)
        plan = {"rate": 3.0, "ratio": 0.6, "dispersion": 1.5, "exposure_years": 2.0, "allocation": k, "planning": planning}
        yield (
            f"sample size: {margin} {dropout} {small} {k}",
            lambda plan=plan: [*effects.sample_size(**plan), effects.prospective_power(60, **plan)],
        )
    for null in effects.NULL_VARIANCES:
        plan = {"rate": 3.0, "ratio": 0.6, "dispersion": 1.5, "planning": effects.Planning(null_variance=null)}
        yield f"sample size: {null}", lambda plan=plan: [*effects.sample_size(**plan), effects.prospective_power(60, **plan)]
    schedule = effects.Schedule(budget=1e6, cost_patient=4000, cost_scan=700)
    yield (
        "schedules",
        lambda: effects.scan_schedules(schedule, rate=3, ratio=0.6, dispersion=2, planning=effects.Planning(dropout=0.1)),
    )
    analysis = effects.analyse(epil, **_EPIL, adjust="age")
    rates = effects.log_rates(analysis)
    sources = [effects.ControlSource("h1", 3.3, 0.15, 60), effects.ControlSource("h2", 3.6, 0.2, 40)]
    for kind in effects.PRIORS:
        prior = effects.control_prior(sources, kind=kind, unit_sd=rates.unit_sd)
        yield f"borrow: {kind}", lambda prior=prior: effects.borrow(analysis, prior).results
        yield f"worth: {kind}", lambda prior=prior: [prior.ess_elir, prior.ess_moment]
        yield (
            f"conflict: {kind}",
            lambda prior=prior: effects.operating_characteristics(rates, [prior], conflicts=(-0.5, 0.0, 0.5)),
        )
    treated, controls = epil[epil["trt"] != "placebo"], epil[epil["trt"] == "placebo"]
    for estimator in ("aipw", "targeted"):
        yield (
            f"external control: {estimator}",
            lambda estimator=estimator: (
                effects.external_control(treated, controls, outcome="y", adjust="age", estimator=estimator).results
            ),
        )


def _statistics() -> _Runs:
    rng = np.random.default_rng(5)
    x = np.column_stack([np.ones(60), rng.normal(size=60), np.arange(60) % 2])
    y = rng.poisson(np.exp(0.5 + 0.4 * x[:, 1] - 0.6 * x[:, 2]) * rng.gamma(1.5, 1 / 1.5, 60)).astype(float)
    outcomes = {"poisson": y, "negbin": y, "logistic": (y > 1).astype(float), "linear": y}
    for family, outcome in outcomes.items():
        fit = stats.fit_model(family, x, outcome)  # type: ignore[arg-type]
        yield (
            f"fit: {family}",
            lambda fit=fit: np.r_[fit.coefficients, np.atleast_1d(fit.alpha), np.diag(fit.inverse_information), fit.leverage],
        )
        yield f"scores: {family}", lambda fit=fit: np.r_[fit.scores.ravel(), stats.mean_slope(fit.family, fit.mean)]
        yield f"likelihood: {family}", lambda fit=fit: stats.log_likelihood(fit)
    mean, size = rng.uniform(0.2, 8, 40), rng.uniform(0.4, 3, 40)
    law = stats.NegativeBinomialLaw(mean, size)
    counts = rng.poisson(mean)
    yield "law: pmf and cdf", lambda: np.r_[law.pmf(counts), law.cdf(counts), law.mean, law.variance]
    for name in stats.SCORES:
        yield f"score: {name}", lambda name=name: stats.score(name, law, counts)
    p = np.array([0.001, 0.02, 0.04, 0.3, 0.045])
    for method in ("holm", "hochberg", "bonferroni", "fixed-sequence", "hommel"):
        if method in stats.MULTIPLICITY_METHODS:
            yield f"multiplicity: {method}", lambda method=method: stats.adjusted_p_values(p, method)
    yield "entropy balance", lambda: stats.entropy_balance(rng.normal(size=(50, 3)) + 0.2).weights
    yield "normal", lambda: [stats.normal_cdf(1.3), stats.normal_quantile(0.3)]
    mixture = stats.NormalMixture(np.array([0.3, 0.7]), np.array([0.0, 1.0]), np.array([0.5, 2.0]))
    yield (
        "mixture",
        lambda: [
            mixture.mean,
            mixture.variance,
            mixture.quantile(0.9),
            mixture.posterior(0.4, 0.3).variance,
            mixture.expected_information(),
        ],
    )
    yield "acceleration", lambda: [stats.acceleration(y), stats.bias_correction(y[:, None], np.array([2.0]))]
    groups = [np.arange(0, 20), np.arange(20, 30)]
    yield "resampling", lambda: stats.resampling_weights(groups, 30, 20, np.random.default_rng(1))
    yield "rates", lambda: stats.moment_law(mean, mean + mean**2)


def _calibration() -> _Runs:
    people, draws = made_trial()
    pairs = calibration.pair(draws, people, week=48)
    observed = pairs.observed
    laws = {"draws": pairs.law, "formula": stats.NegativeBinomialLaw(pairs.law.mean + 0.1, np.full(pairs.n, 0.7))}
    for kind, law in laws.items():
        yield f"{kind}: law", lambda law=law: [law.mean, law.variance, law.activity, law.pmf(observed), law.cdf(observed)]
        yield f"{kind}: quantiles", lambda law=law: [law.quantile(0.3), *law.interval(0.8)]
        for name in stats.SCORES:
            yield f"{kind}: score {name}", lambda law=law, name=name: stats.score(name, law, observed)
        yield f"{kind}: pit", lambda law=law: calibration.pit_histogram(law, observed)
        yield f"{kind}: pit curve", lambda law=law: calibration.pit_curve(law, observed)
        yield f"{kind}: pit ends", lambda law=law: calibration.pit_ends(law, observed)
        yield f"{kind}: coverage", lambda law=law: calibration.coverage_table(law, observed)
        yield f"{kind}: reliability", lambda law=law: calibration.reliability(law, observed)
        yield f"{kind}: rootogram", lambda law=law: calibration.rootogram(law, observed)
        yield f"{kind}: decomposition", lambda law=law: calibration.decomposition(law, observed)
        yield f"{kind}: test", lambda law=law: calibration.calibration_test(law, observed)
    yield "assessment", lambda: calibration.assess(pairs, repetitions=49, seed=1).results
    fitted, judged = calibration.split(pairs, 0.5, 1)
    sets = calibration.conformal(fitted, level=0.8)
    yield "conformal", lambda: sets.judge(judged)
    again = calibration.recalibrate(fitted)
    yield "recalibrate", lambda: [again, again.apply(judged).law.mean]
