"""Fixed analyses of draws tables, of borrowed and external controls, of plans, and of ADaM files."""

from __future__ import annotations

import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms import effects
from causalms.validation.shipped_tables import Runs, epil, expected_draws, made_trial, members, shipped

_EPIL: dict[str, Any] = {"outcome": "y", "arm": "trt", "reference": "placebo"}


def runs() -> Runs:
    """All of them."""
    yield from _draws()
    yield from _transport()
    yield from _plans()
    yield from _borrowing()
    yield "adam", _adam


def _kinds() -> dict[str, Any]:
    return {
        "sampled": lambda: made_trial()[1],
        "ensemble": lambda: members(made_trial()[1]),
        "expected": lambda: expected_draws(model_error=False),
        "model error": expected_draws,
        "taken for true": lambda: effects.taking_the_model_for_true(members(made_trial()[1])),
        "expected, taken for true": lambda: effects.taking_the_model_for_true(expected_draws()),
    }


def _draws() -> Runs:
    for (kind, table), measure in product(_kinds().items(), effects.MEASURES):
        for population in ("all", "treated"):
            yield (
                f"simulated: {kind} {measure} {population}",
                lambda table=table, measure=measure, population=population: effects.analyse_draws(
                    table(), reference="a", measure=measure, population=population, level=0.9
                ),
            )
    for few in (2, 3, 4):
        yield (
            f"simulated: {few} treated",
            lambda few=few: effects.analyse_draws(
                expected_draws().assign(
                    arm_randomised=lambda rows: np.where(rows["participant_id"].isin(["p1", "p2", "p3"][: few - 1]), "b", "a")
                ),
                reference="a",
                population="treated",
            ),
        )
    for kind, table in _kinds().items():
        yield f"patient effects: {kind}", lambda table=table: effects.patient_effects(table(), arm="b", reference="a")
        yield f"patient means: {kind}", lambda table=table: effects.patient_means(table(), reference="a")
        yield f"given the model: {kind}", lambda table=table: effects.given_model(effects.analyse_draws(table(), reference="a"))
        yield (
            f"volumes: {kind}",
            lambda table=table: effects.analyse_draws(
                table(), reference="a", measure="mean-difference", outcome="net2_volume_ml"
            ),
        )
        for known in (False, True):
            yield (
                f"simulated controls: {kind} {known}",
                lambda table=table, known=known: effects.simulated_source(table(), arm="a", model_known=known),
            )
        yield (
            f"cells: {kind}",
            lambda table=table: [
                [float(ord(letter)) for letter in str(cell)]
                for cell in effects.taking_the_model_for_true(table())["model_error"][:3]
            ],
        )
        for estimate in (0.03, 0.5, 0.97):  # probabilities, whose limits end at 0 and 1
            yield (
                f"probability: {kind} {estimate}",
                lambda table=table, estimate=estimate: effects.given_model(
                    effects.analyse_draws(table(), reference="a", measure="risk-difference").assign(
                        measure="probability of activity", estimate=estimate, se_patient=0.2
                    )
                ),
            )
    cell = expected_draws()["model_error"].iloc[0]
    for kind in ("sampled", "expected"):
        yield (
            f"own counts: {kind}",
            lambda kind=kind: effects.counts_against_draws(_kinds()[kind]().assign(model_error=cell), made_trial()[0]),
        )


def _transport() -> Runs:
    def weights() -> Any:
        people = made_trial()[0]
        return effects.transport_weights(people, people.assign(age=people["age"] * 0.7 + 15), "age + age**2")

    yield "transport", lambda: [weights(), weights().effective_n, weights().largest_share, weights().balance]
    for (kind, table), measure in product(list(_kinds().items())[:2], effects.MEASURES):
        yield (
            f"transported: {kind} {measure}",
            lambda table=table, measure=measure: effects.transported_effect(
                table(), weights(), arm="b", reference="a", measure=measure
            ),
        )
    yield (
        "cross-fitted",
        lambda: [
            effects.cross_fitted(epil(), lambda part: lambda rest: np.full(len(rest), part["y"].mean()), **more)
            for more in ({}, {"folds": 3, "seed": 2})
        ],
    )
    for table, name in (("trial", "lesions"), ("trial", "age")):
        yield (
            f"estimate: {name}",
            lambda table=table, name=name: (
                effects.estimate(
                    shipped(table), reference="placebo", outcome=name, measure="mean-difference", adjust="edss", level=0.8
                ).results
            ),
        )


def _plans() -> Runs:
    for margin, dropout, small, k in product((1.0, 1.25, 0.8), (0.0, 0.2), (False, True), (1.0, 2.0)):
        planning = effects.Planning(margin=margin, dropout=dropout, small_sample=small)
        plan = {"rate": 3.0, "ratio": 0.6, "dispersion": 1.5, "exposure_years": 2.0, "allocation": k, "planning": planning}
        yield (
            f"sample size: {margin} {dropout} {small} {k}",
            lambda plan=plan: [*effects.sample_size(**plan), effects.prospective_power(60, **plan)],
        )
    for null in effects.NULL_VARIANCES:
        plan = {"rate": 3.0, "ratio": 0.6, "dispersion": 1.5, "planning": effects.Planning(null_variance=null)}
        yield (
            f"sample size: {null}",
            lambda plan=plan: [
                *effects.sample_size(**plan),
                *effects.sample_size(power=0.8, level=0.9, variance_ratio=0.7, **plan),
                effects.prospective_power(60, **plan),
                effects.prospective_power(5, **plan),
                effects.prospective_power(1, **(plan | {"planning": effects.Planning(small_sample=True)})),
            ],
        )
    schedule = effects.Schedule(budget=1e6, cost_patient=4000, cost_scan=700)
    for allocation, share in product((1.0, 2.0), (1.0, 0.6)):
        yield (
            f"schedules: {allocation} {share}",
            lambda allocation=allocation, share=share: effects.scan_schedules(
                schedule,
                rate=3,
                ratio=0.6,
                dispersion=2,
                allocation=allocation,
                variance_ratio=share,
                planning=effects.Planning(dropout=0.1),
            ),
        )


def _borrowing() -> Runs:
    def _of(kind: str, rates: bool = False, **more: Any) -> Any:
        analysis = effects.analyse(epil(), **_EPIL, adjust="age")
        own = effects.log_rates(analysis)
        sources = [effects.ControlSource("h1", 3.3, 0.15, 60), effects.ControlSource("h2", 3.6, 0.2, 40)]
        prior = effects.control_prior(sources, kind=kind, unit_sd=own.unit_sd, **more)
        return (own, prior) if rates else (effects.borrow(analysis, prior), prior)

    for kind, weight in product(effects.PRIORS, (None, 0.3)):
        for heterogeneity in (0.5, 0.2):
            name = f"{kind} {weight} {heterogeneity}"
            more = {"weight": weight, "heterogeneity": heterogeneity}

            def borrowed(kind: str = kind, more: dict[str, Any] = more) -> list[Any]:
                found, prior = _of(kind, **more)
                return [found.results, found.probability, found.conflict, prior.ess_elir, prior.ess_moment, prior.law]

            yield f"borrow: {name}", borrowed

    def _conflict(kind: str, **more: Any) -> pd.DataFrame:
        rates, prior = _of(kind, rates=True)
        return effects.operating_characteristics(rates, [prior], **more)

    for kind in effects.PRIORS:
        yield f"conflict: {kind}", lambda kind=kind: _conflict(kind, conflicts=(-0.5, 0.0, 0.5), ratio=0.7, level=0.9)
    yield "conflicts", lambda: _conflict("power")
    for reference in (None, "placebo"):
        for trials in (False, True):
            yield (
                f"historical: {reference} {trials}",
                lambda reference=reference, trials=trials: effects.historical_sources(
                    epil() if trials else shipped("epil_totals"), outcome="y", arm="trt", reference=reference
                ),
            )
    for estimator, exposure, adjust in product(("aipw", "targeted"), (None, "years"), ("age", "age + log(base)")):
        yield (
            f"external control: {estimator} {exposure} {adjust}",
            lambda estimator=estimator, exposure=exposure, adjust=adjust: vars(
                effects.external_control(
                    epil()[lambda rows: rows["trt"] != "placebo"],
                    epil()[lambda rows: rows["trt"] == "placebo"],
                    outcome="y",
                    adjust=adjust,
                    estimator=estimator,
                    exposure=exposure,
                )
            ),
        )


def _adam() -> list[pd.DataFrame]:
    """ADSL and BDS written and read: flags, either case, visits by name and number, derived records."""
    people = shipped("trial").assign(trial="T")
    people["lesions"] = people["lesions"].fillna(1)
    subjects = people.rename(columns={"participant_id": "usubjid", "arm": "TRT01P", "age": "AGE"})[["usubjid", "TRT01P", "AGE"]]
    subjects = subjects.assign(FASFL=np.where(np.arange(len(people)) % 9 > 0, "Y", "N"))
    visits = [
        effects.bds_table(
            people.assign(lesions=people["lesions"] + by), {"lesions": ("NET2", "T2")}, visit=f"Week {week:g}", visit_number=week
        )
        for by, week in ((0, 48.0), (1, 96.0))
    ]
    records = pd.concat(visits, ignore_index=True).assign(DTYPE=lambda rows: np.where(rows.index % 5 == 0, "LOCF", ""))
    records["ANL01FL"] = np.where(records.index % 11 > 0, "Y", "")
    with tempfile.TemporaryDirectory() as folder:
        adsl = effects.write_xpt(subjects, Path(folder, "adsl.xpt"), "ADSL")
        bds = effects.write_xpt(records, Path(folder, "adnet2.xpt"), "ADNET2")
        return [
            effects.read_adam(adsl, bds, parameters={"NET2": "y"}, visit=visit, population=population)
            for visit, population in (("Week 48", None), (96.0, "fasfl"))
        ]
