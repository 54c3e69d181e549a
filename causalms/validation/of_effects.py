"""Fixed analyses of observed trials: every estimator, variance, measure, test, comparison and table of visits."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from causalms import effects, stats
from causalms.errors import CausalmsError
from causalms.validation.shipped_tables import Runs, epil, shipped

_EPIL: dict[str, Any] = {"outcome": "y", "arm": "trt", "reference": "placebo"}
_TRIAL: dict[str, Any] = {"outcome": "lesions", "reference": "placebo"}
_POLYPS: dict[str, Any] = {"outcome": "number", "arm": "treat", "reference": "placebo"}
_DOSE: dict[str, Any] = {"outcome": "y", "arm": "dose", "reference": "none"}
_VARIANCES = (
    "influence",
    "small-sample",
    "leave-one-out",
    "leave-one-out-t",
    "bootstrap",
    "bootstrap-percentile",
    "hc0",
    "hc1",
    "hc2",
    "hc3",
    "hc3-t",
    "model-sas",
    "model-r",
)


_MORE: tuple[dict[str, Any], ...] = ({}, {"strata": "block"}, {"prognostic": ["score"]}, {"adjust": "age"})


def _table(name: str) -> pd.DataFrame:
    return epil() if name == "epil" else shipped(name)


def analysis(name: str, options: Mapping[str, Any]) -> effects.Analysis:
    """One analysis of a shipped table."""
    return effects.analyse(_table(name), **effects.grouped_arguments({"replicates": 199, **options}))


def everything(found: effects.Analysis) -> list[Any]:
    """Results, arms, and all that can be asked of an analysis afterwards."""
    said: list[Any] = [found.results, found.arms, [len(note) for note in found.notes]]
    for part in found.parts:
        fit = part.fit
        said += [fit.coefficients, fit.alpha, part.covariance]
        if fit.limit is None:
            of = stats.goodness(fit)
            said += [of, of.alpha, of.alpha_se]
        said += [stats.pearson_chi_square(fit)]
    ratio = found.settings.measure.is_ratio
    for claim in effects.CLAIMS:
        try:
            said.append([vars(test) for test in effects.margin_tests(found, 1.3 if ratio else 0.7, claim)])
        except CausalmsError as refusal:
            said.append(len(str(refusal)))
    return said


def _cases() -> dict[str, tuple[str, dict[str, Any]]]:
    cases: dict[str, tuple[str, dict[str, Any]]] = {}
    models = ("standardized", "unadjusted", "conditional", "negbin")
    for variance, adjust, estimator in product(_VARIANCES, (None, "log(base) + age"), models):
        if estimator != "unadjusted" or adjust is None:
            options = {**_EPIL, "variance": variance, "adjust": adjust, "estimator": estimator, "exposure": "years"}
            cases[f"epil {estimator} {variance} {adjust or ''}"] = "epil", options
    for measure, interaction, variance in product(effects.MEASURES, (False, True), ("influence", "hc3", "model-r", "bootstrap")):
        outcome = "many" if measure.startswith(("risk", "odds")) else "y"
        options = {**_EPIL, "outcome": outcome, "measure": measure, "adjust": "age + base", "interaction": interaction}
        cases[f"epil {measure} {interaction} {variance}"] = "epil", options | {"variance": variance}
    for measure, variance in product(effects.MEASURES, ("small-sample", "model-sas", "hc2", "hc1")):
        cases[f"trial {measure} {variance}"] = (
            "trial",
            {**_TRIAL, "measure": measure, "adjust": "gd_lesions", "variance": variance},
        )
        cases[f"few {measure} {variance}"] = "epil", {**_EPIL, "outcome": "few", "measure": measure, "variance": variance}
    return cases | _tests() | _groups()


def _tests() -> dict[str, tuple[str, dict[str, Any]]]:
    cases: dict[str, tuple[str, dict[str, Any]]] = {}
    for test, model in product(
        ("score", "permutation", "permutation-plain", "permutation-prognostic", "wilcoxon"), ("poisson", "negbin")
    ):
        for more in _MORE:
            if (test == "wilcoxon" and {"prognostic", "adjust"} & set(more)) or (test.endswith("c") and "prognostic" not in more):
                continue
            cases[f"epil {test} {model} {list(more)}"] = "epil", {**_EPIL, "test": test, "working_model": model, **more}
    return cases


def _groups() -> dict[str, tuple[str, dict[str, Any]]]:
    cases: dict[str, tuple[str, dict[str, Any]]] = {}
    for between, estimator, adjust in product(
        ("cr1", "cr2", "cr3", None), ("standardized", "negbin", "conditional"), (None, "age")
    ):
        options = {**_EPIL, "cluster": "pair", "variance": between, "estimator": estimator, "adjust": adjust}
        if (between, estimator) != ("cr2", "standardized"):
            cases[f"clusters {between} {estimator} {adjust}"] = "epil", options
    for measure, strata in product(("risk-difference", "mean-difference", "rate-ratio"), ("block", "pair", "trial")):
        counted = {"outcome": "many" if measure == "risk-difference" else "y"}
        cases[f"strata {measure} {strata}"] = "epil", {**_EPIL, "strata": strata, "adjust": "age", "measure": measure, **counted}
        cases[f"strata {measure} {strata}, three arms"] = "epil", {**_DOSE, "strata": strata, "measure": measure, **counted}
    for estimator, measure in product(("firth", "negbin", "conditional"), ("odds-ratio", "rate-ratio")):
        if (estimator, measure) == ("negbin", "odds-ratio"):
            continue
        cases[f"firth {estimator} {measure}"] = (
            "epil",
            {**_EPIL, "outcome": "few", "estimator": estimator, "measure": measure, "adjust": "age", "level": 0.9},
        )
        cases[f"polyps {estimator} {measure}"] = (
            "polyps",
            {**_POLYPS, "estimator": estimator, "measure": measure, "adjust": "age"},
        )
    for rate, interaction, pool in product(("unit", "exposure-weighted"), (False, True), (False, True)):
        options = {**_EPIL, "exposure": "years", "rate": rate, "adjust": "base", "interaction": interaction, "pool_trials": pool}
        cases[f"rate {rate} {interaction} {pool}"] = "epil", options
    cases["prognostic"] = "epil", {**_EPIL, "prognostic": ["score"]}
    cases["factors"] = "trial", {**_TRIAL, "adjust": "C(sex) + sqrt(edss) + age:gd_lesions + log(1 + gd_lesions) + age**2"}
    cases["polyps level"] = "polyps", {**_POLYPS, "adjust": "age", "level": 0.9}
    return cases


def runs() -> Runs:
    """All fixed analyses of observed trials."""
    for name, (table, options) in _cases().items():
        yield f"effects: {name}", lambda table=table, options=options: everything(analysis(table, options))
    yield from _no_events()
    yield from _few_events()
    yield from _families()
    yield from _missing()
    yield from _visits()


def _no_events() -> Runs:
    def silent(measure: str, adjust: str | None, arms: str) -> effects.Analysis:
        table = epil().drop(columns="trial")
        table["y"] = table["y"] * (table[arms].isin(["placebo", "none", "low"]))
        options = {**(_EPIL if arms == "trt" else _DOSE), "measure": measure, "adjust": adjust}
        return effects.analyse(table, **options)

    for measure, adjust, arms in product(effects.MEASURES, (None, "age"), ("trt", "dose")):
        yield (
            f"no event: {measure} {adjust} {arms}",
            lambda measure=measure, adjust=adjust, arms=arms: everything(silent(measure, adjust, arms)),
        )


def _few_events() -> Runs:
    """Small arms with next to no events: the silent one is either, and the bound lies on either side of no effect."""
    for (first, second), n, measure in product(((1, 0), (3, 0), (0, 2), (0, 9)), (4, 20, 60), effects.MEASURES):
        small = 5 if n == 60 else n  # nothing among few: hardly any evidence
        y = np.r_[np.arange(n) < first, np.arange(small) < second].astype(int)
        people = pd.DataFrame({"y": y, "arm": ["a"] * n + ["b"] * small, "years": 1 + np.arange(n + small) % 3 / 2})
        for exposure in (None, "years") if measure.startswith("rate") else (None,):
            yield (
                f"few events: {first} {second} {n} {measure} {exposure}",
                lambda people=people, measure=measure, exposure=exposure: everything(
                    effects.analyse(people, outcome="y", reference="a", measure=measure, exposure=exposure)
                ),
            )
    for variance in ("influence", "hc3"):  # all or none have the event in a level of a covariate
        people = pd.DataFrame({"y": [0] * 12 + [1, 0, 1, 1] * 9, "arm": ["a", "b"] * 24, "level": [1] * 12 + [0] * 36})
        people["older"], people["words"] = people["level"].astype(bool), people["level"].astype(object)
        for covariate in ("level", "older", "words"):
            yield (
                f"separated: {variance} {covariate}",
                lambda people=people, variance=variance, covariate=covariate: everything(
                    effects.analyse(
                        people,
                        outcome="y",
                        reference="a",
                        measure="risk-difference",
                        adjust=covariate,
                        method=effects.Method(variance=variance, replicates=199),
                    )
                ),
            )


def _families() -> Runs:
    graph = pd.DataFrame({"arm": ["low", "high"], "weight": [0.6, 0.4], "low": [0.0, 1.0], "high": [1.0, 0.0]})
    kinds: tuple[dict[str, Any], ...] = (
        {},
        {"estimator": "negbin"},
        {"measure": "mean-difference"},
        {"measure": "mean-difference", "estimator": "conditional"},
        {"strata": "block"},
        {"cluster": "pair", "estimator": "conditional"},
    )
    for (place, kind), method, pairs in product(enumerate(kinds), effects.MULTIPLICITY_METHODS, (False, True)):
        if (pairs and method in ("dunnett", "graphical")) or (place in (1, 4, 5) and method not in ("holm", "dunnett", "tukey")):
            continue
        yield (
            f"family: {place} {method} {pairs}",
            lambda kind=kind, method=method, pairs=pairs: effects.compare_arms(
                analysis("epil", {**_DOSE, "adjust": "age", **kind}),
                all_pairs=pairs,
                multiplicity=method,
                graph=graph if method == "graphical" else None,
            ),
        )
    for place, kind in enumerate((kinds[0], kinds[2], kinds[4])):
        yield (
            f"own contrast: {place}",
            lambda kind=kind: [
                effects.weighted_contrast(analysis("epil", {**_DOSE, **kind}), {"low": 0.5, "high": 0.5, "none": -1}),
                effects.custom_contrast(analysis("epil", {**_DOSE, **kind}), lambda m: m[1] * m[2] - m[0], null=1.0),
            ],
        )
    for kind, family, exposure in product(effects.ZERO_MODELS, ("negbin", "poisson"), (None, "years")):
        yield (
            f"zeros: {kind} {family} {exposure}",
            lambda kind=kind, family=family, exposure=exposure: effects.zero_sensitivity(
                analysis("trial", {**_TRIAL, "adjust": "gd_lesions", "exposure": exposure}), kind, family
            ),
        )
    yield (
        "savings",
        lambda: [
            [saving.variance_ratio, vars(saving)]
            for saving in effects.savings(analysis("epil", {**_EPIL, "prognostic": ["score"]}))
        ],
    )
    yield "log rates", lambda: effects.log_rates(analysis("epil", {**_EPIL, "adjust": "age"}))


def _missing() -> Runs:
    def _of_missing(measure: str, exposure: str | None, **strategy: Any) -> pd.DataFrame:
        method = effects.Method(missing=effects.MissingOutcomes(**strategy))
        return effects.effects_with_missing_outcomes(
            shipped("trial"), **_TRIAL, exposure=exposure, measure=measure, method=method
        )

    def draws() -> pd.DataFrame:
        people = shipped("trial")
        many, rng = 8, np.random.default_rng(2)
        rows = people.loc[np.repeat(people.index, 2 * many), ["participant_id", "arm", "gd_lesions"]].reset_index(drop=True)
        rows = rows.rename(columns={"arm": "arm_randomised"}).assign(draw=np.tile(np.arange(many), 2 * len(people)))
        rows["arm"] = np.tile(np.repeat(sorted(people["arm"].unique())[::-1], many), len(people))
        mean = (1 + rows["gd_lesions"].fillna(0)) * np.where(rows["arm"] == "placebo", 4, 1)
        rows["net2_lesions"] = rng.poisson(mean)
        return rows.assign(trial="t", visit_week=96.0, query="interventional", query_id="q")

    for measure, exposure in (
        ("rate-ratio", None),
        ("rate-ratio", "years"),
        ("risk-difference", None),
        ("mean-difference", None),
    ):
        for strategy in ("complete-case", "ipw", "multiple-imputation", "jump-to-reference"):
            yield (
                f"missing: {strategy} {measure} {exposure}",
                lambda measure=measure, exposure=exposure, strategy=strategy: _of_missing(
                    measure,
                    exposure,
                    strategy=strategy,
                    missing_given="age + gd_lesions" if strategy == "ipw" else None,
                    draws=None if strategy in ("ipw", "complete-case") else draws(),
                    week=None if strategy in ("ipw", "complete-case") else 96.0,
                ),
            )
    for measure in ("rate-ratio", "risk-difference"):  # two trials
        yield (
            f"missing in two trials: {measure}",
            lambda measure=measure: effects.effects_with_missing_outcomes(
                epil().assign(few=lambda rows: rows["few"].where(rows.index % 6 > 0)),
                **{**_EPIL, "outcome": "few"},
                measure=measure,
                method=effects.Method(missing=effects.MissingOutcomes(strategy="ipw", missing_given="age + base")),
            ),
        )


_WEEKS, _DATES = {"visit": "weeks", "patient": "subject"}, {"visit": "tstop", "start": "tstart", "patient": "id"}


def _of_visits(name: str, more: Mapping[str, Any], **method: Any) -> list[Any]:
    cgd = name == "cgd"
    found = effects.analyse_visits(
        shipped(name),
        outcome="status" if cgd else "y",
        arm="treat" if cgd else "trt",
        reference="placebo",
        visits=effects.Visits(**(_DATES if cgd else _WEEKS)),
        method=effects.VisitMethod(**method),
        **more,
    )
    return [found.results, found.curves, found.rates, [len(note) for note in found.notes]]


def _visits() -> Runs:
    for structure, variance, by_visit in product(
        effects.VISIT_CHOICES["correlation"], effects.VISIT_CHOICES["variance"], (False, True)
    ):
        for adjust in (None, "age + log(base)"):
            yield (
                f"visits: {structure} {variance} {by_visit} {adjust}",
                lambda structure=structure, variance=variance, by_visit=by_visit, adjust=adjust: _of_visits(
                    "epil_visits", {"adjust": adjust}, correlation=structure, variance=variance, by_visit=by_visit
                ),
            )
    for name, variance, ties in product(("epil_visits", "cgd"), ("robust", "model"), (*stats.TIES, None)):
        if (name, ties) == ("epil_visits", "efron"):
            continue
        for more in ({}, {"adjust": "age"}, {"design": effects.Design(strata="sex" if name == "cgd" else "age")}):
            yield (
                f"andersen-gill: {name} {variance} {ties} {list(more)}",
                lambda name=name, variance=variance, ties=ties, more=more: _of_visits(
                    name, more, estimator="andersen-gill", variance=variance, ties=ties, level=0.9
                ),
            )
    for assumption, delta in product(effects.ASSUMPTIONS, (1.0, 2.0)):
        yield (
            f"imputed visits: {assumption} {delta}",
            lambda assumption=assumption, delta=delta: effects.impute_visits(
                shipped("epil_visits"),
                outcome="y",
                reference="placebo",
                arm="trt",
                adjust="log(base)",
                visits=effects.Visits(**_WEEKS),
                method=effects.VisitImputation(assumption=assumption, delta=delta, imputations=3),
            ),
        )
    yield (
        "visits by name",
        lambda: (
            effects.analyse_visits(
                shipped("epil_visits").assign(weeks=lambda rows: "w" + rows["weeks"].astype(str)),
                outcome="y",
                arm="trt",
                reference="placebo",
                visits=effects.Visits(**_WEEKS),
            ).results
        ),
    )
    for strategy in effects.STRATEGY_NAMES:
        count = 2.0 if strategy == "composite" else None
        yield (
            f"intercurrent: {strategy}",
            lambda strategy=strategy, count=count: effects.with_strategy(
                shipped("epil_visits").assign(stopped=lambda rows: np.where(rows["subject"] % 3 == 0, 5.0, np.nan)),
                "y",
                effects.Visits(**_WEEKS),
                effects.IntercurrentEvents(strategy=strategy, time="stopped", composite_count=count),
                "table",
            )[0],
        )
