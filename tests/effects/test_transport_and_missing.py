"""Target populations and missing outcomes: the known answer is recovered, and what cannot be answered is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.effects import ProgramInput, analyse, analyse_draws, grouped_arguments, r_program
from causalms.effects.missing import effects_with_missing_outcomes
from causalms.effects.transport import transport_weights, transported_effect
from causalms.errors import DataNote, InputError, RefusalError, UsageError
from tests.conftest import NO_MODEL_ERROR

ORACLES = Path(__file__).parents[1] / "oracles"


def simulated(n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Participants, and expected outcomes whose log effect grows with age: -1 + 0.05 (age - 40)."""
    rng = np.random.default_rng(seed)
    people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(n)], "age": rng.normal(38, 9, n)})
    base = np.exp(0.5 - 0.02 * (people["age"] - 40))
    parts = []
    for arm, rate in (("placebo", base), ("drug", base * np.exp(-1 + 0.05 * (people["age"] - 40)))):
        part = people[["participant_id"]].assign(arm=arm, expected_net2_lesions=rate, trial="t", arm_randomised="placebo")
        parts.append(part.assign(visit_week=52.1775, query="interventional", query_id="q", model_error=NO_MODEL_ERROR))
    return people, pd.concat(parts)


def test_transported_effect_is_that_of_the_target_population() -> None:
    people, draws = simulated(600, 0)
    rng = np.random.default_rng(1)
    age = rng.normal(46, 8, 4000)
    transport = transport_weights(people, pd.DataFrame({"age": age}), "age + I(age**2)")
    contrast = transported_effect(draws, transport, arm="drug", reference="placebo")
    base = np.exp(0.5 - 0.02 * (age - 40))
    truth = (base * np.exp(-1 + 0.05 * (age - 40))).mean() / base.mean()
    here = analyse_draws(draws, reference="placebo").iloc[0].estimate
    assert abs(np.log(here / truth)) > 0.2  # the trial's own effect is another
    assert np.log(contrast.estimate) == pytest.approx(np.log(truth), abs=4 * contrast.se)
    assert np.abs(transport.balance["difference_after"]).max() < 1e-8
    assert transport.effective_n < 600
    weighted = analyse_draws(draws, reference="placebo", weights=transport.weights.rename("the registry")).iloc[0]
    assert weighted.estimate == pytest.approx(contrast.estimate, rel=1e-9)
    assert weighted.population == "the registry"


def test_error_of_a_transported_effect_is_its_spread_over_repeated_samples() -> None:
    values, errors = [], []
    for seed in range(60):
        people, draws = simulated(150, seed)
        target = pd.DataFrame({"age": np.random.default_rng(900 + seed).normal(43, 8, 80)})
        contrast = transported_effect(draws, transport_weights(people, target, "age"), arm="drug", reference="placebo")
        values.append(np.log(contrast.estimate))
        errors.append(contrast.se)
    # The spread of 60 repetitions is known to 9%; three of them.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values, ddof=1), rel=0.27)


def test_target_without_overlap_is_refused() -> None:
    people, _ = simulated(50, 0)
    with pytest.raises(RefusalError, match="no overlap"):
        transport_weights(people, pd.DataFrame({"age": [95.0, 99.0]}), "age")
    with pytest.raises(UsageError, match="no column 'edss'"):
        transport_weights(people, pd.DataFrame({"age": [40.0]}), "edss")
    with pytest.raises(InputError, match="row 2 lacks"):
        transport_weights(people, pd.DataFrame({"age": [40.0, np.nan]}), "age")


def trial_with_dropout(seed: int, n: int = 1200) -> pd.DataFrame:
    """Outcomes missing at random given x, more often under placebo with high x: complete cases are biased."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    arm = rng.permutation(np.repeat(["placebo", "drug"], n // 2))
    y = rng.poisson(np.exp(0.8 + 0.6 * x + np.where(arm == "drug", np.log(0.5), 0)) * rng.gamma(2, 0.5, n)).astype(float)
    leaves = rng.random(n) < 1 / (1 + np.exp(-(-1.0 + np.where(arm == "placebo", 1.2, -0.4) * x)))
    identifiers = [f"p{i}" for i in range(n)]
    return pd.DataFrame({"participant_id": identifiers, "y": np.where(leaves, np.nan, y), "arm": arm, "x": x})


def test_weighting_removes_the_bias_of_complete_cases() -> None:
    weighted, complete, errors = [], [], []
    for seed in range(64):
        table = trial_with_dropout(seed)
        row = effects_with_missing_outcomes(
            table, **grouped_arguments({"strategy": "ipw", "outcome": "y", "reference": "placebo", "missing_given": "x"})
        ).iloc[0]
        weighted.append(np.log(row.estimate))
        errors.append(row.se)
        complete.append(
            np.log(analyse(table, **grouped_arguments({"outcome": "y", "reference": "placebo"})).contrasts[0].estimate)
        )
    mcse = np.std(weighted, ddof=1) / 8
    assert abs(np.mean(weighted) - np.log(0.5)) < 3 * mcse
    assert abs(np.mean(complete) - np.log(0.5)) > 6 * mcse
    # The spread of 64 repetitions is known to 9%; three of them.
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(weighted, ddof=1), rel=0.27)


def test_weighting_without_missing_outcomes_is_the_crude_analysis(trial: pd.DataFrame) -> None:
    options = {"outcome": "y", "reference": "placebo", "exposure": "exposure_years"}
    crude = analyse(trial, **grouped_arguments(dict(**options, estimator="unadjusted", variance="hc0"))).contrasts[0]
    weighted = grouped_arguments(dict(strategy="ipw", missing_given="x", variance="influence", **options))
    row = effects_with_missing_outcomes(trial, **weighted).iloc[0]
    assert row.estimate == pytest.approx(crude.estimate, rel=1e-10)
    assert row.se == pytest.approx(crude.se, rel=1e-10)


def test_weights_with_and_without_an_outcome_model_match_the_stacked_sandwich_in_r() -> None:
    truth = pd.read_csv(ORACLES / "weighting_r.csv").set_index("id")
    epil = pd.read_csv(ORACLES / "epil_totals.csv")
    epil["y"] = epil["y"].where((7 * epil["subject"] + epil["base"]) % 4 != 0)
    epil["active"] = (epil["y"] > 20).astype(float).where(epil["y"].notna())
    cases = {"weighted": ("y", "rate-ratio", None), "augmented": ("y", "rate-ratio", "log(base)"),
             "risk": ("active", "risk-difference", "log(base)"), "mean": ("y", "mean-difference", "log(base)")}  # fmt: skip
    for name, (outcome, measure, adjust) in cases.items():
        options = {
            "outcome": outcome,
            "measure": measure,
            "adjust": adjust,
            "reference": "placebo",
            "arm": "trt",
            "variance": "influence",
        }
        arguments = grouped_arguments(dict(strategy="ipw", missing_given="log(base) + age", **options))
        row = effects_with_missing_outcomes(epil, **arguments).iloc[0]
        assert [row.estimate, row.se] == pytest.approx(truth.loc[name, ["estimate", "se"]].tolist(), rel=1e-7)
    epil = pd.read_csv(ORACLES / "epil_totals.csv")
    epil["age"] = epil["age"].where(epil["subject"] % 4 != 0)
    options = {
        "outcome": "y",
        "reference": "placebo",
        "arm": "trt",
        "adjust": "log(base) + age",
        "estimator": "conditional",
        "variance": "hc0",
    }
    analysis = analyse(epil, **grouped_arguments(options))
    row = analysis.results.iloc[0]
    assert [row.estimate, row.se] == pytest.approx(truth.loc["indicator", ["estimate", "se"]].tolist(), rel=1e-7)
    assert any("baseline missing: age (14) of 59 rows; by default the mean stands in" in note for note in analysis.notes)
    with pytest.raises(UsageError, match="use `missing_covariates=drop`"):
        r_program(analysis, ProgramInput(table="epil.csv", arm="trt"))
    left_out = analyse(epil, **grouped_arguments({**options, "missing_covariates": "drop"}))
    assert left_out.data.n == 45
    assert any("14 of 59 rows left out" in note for note in left_out.notes)


@pytest.mark.parametrize("wrong", ["weights", "outcome model"])
def test_augmented_weights_are_right_if_either_model_is(wrong: str) -> None:
    values = []
    for seed in range(40):
        table = trial_with_dropout(seed, 600).assign(noise=np.random.default_rng(seed).normal(size=600))
        given, adjust = ("noise", "x") if wrong == "weights" else ("x", "noise")
        options = {"strategy": "ipw", "outcome": "y", "reference": "placebo", "missing_given": given, "adjust": adjust}
        values.append(np.log(effects_with_missing_outcomes(table, **grouped_arguments(options))["estimate"].iloc[0]))
    assert abs(np.mean(values) - np.log(0.5)) < 3 * np.std(values, ddof=1) / np.sqrt(40)


def imputations(table: pd.DataFrame, seed: int, draws: int = 8) -> pd.DataFrame:
    """Draws from the true law of every patient under the own arm, as a perfect generator would give."""
    rng = np.random.default_rng(10_000 + seed)
    mean = np.exp(0.8 + 0.6 * table["x"].to_numpy() + np.where(table["arm"] == "drug", np.log(0.5), 0))
    counts = rng.poisson(mean[:, None] * rng.gamma(2, 0.5, (len(table), draws)))
    rows = np.repeat(np.arange(len(table)), draws)
    return pd.DataFrame(
        {
            "participant_id": table["participant_id"].to_numpy()[rows],
            "arm": table["arm"].to_numpy()[rows],
            "arm_randomised": table["arm"].to_numpy()[rows],
            "visit_week": 48.0,
            "draw": np.tile(np.arange(draws), len(table)),
            "net2_lesions": counts.ravel(),
        }
    )


def test_imputation_by_a_right_generator_is_unbiased_and_its_error_honest() -> None:
    values, errors = [], []
    for seed in range(24):
        table = trial_with_dropout(seed, n=500)
        row = effects_with_missing_outcomes(
            table,
            **grouped_arguments(
                {
                    "strategy": "multiple-imputation",
                    "outcome": "y",
                    "reference": "placebo",
                    "draws": imputations(table, seed),
                    "week": 48,
                }
            ),
        ).iloc[0]
        values.append(np.log(row.estimate))
        errors.append(row.se)
        assert row.se**2 == pytest.approx(row.se_patient**2 + row.se_monte_carlo**2)
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values) - np.log(0.5)) < 3 * spread / np.sqrt(24)
    # Rubin's variance may be too wide here (the imputer knows more than the analyst), never too short by more than
    # the noise of 24 repetitions (14%, times two and a half).
    assert np.sqrt(np.mean(np.square(errors))) > 0.65 * spread


def test_strategies_refuse_what_they_cannot_do(trial: pd.DataFrame) -> None:
    options = {"outcome": "y", "reference": "placebo"}
    with pytest.raises(UsageError, match="expected one of complete-case"):
        effects_with_missing_outcomes(trial, **grouped_arguments(dict(strategy="locf", **options)))
    with pytest.raises(InputError, match="weights need it for every patient"):
        effects_with_missing_outcomes(
            trial.assign(x=trial["x"].where(trial.index > 3)),
            **grouped_arguments(dict(strategy="ipw", missing_given="x", missing_covariates="drop", **options)),
        )
    with pytest.raises(RefusalError, match="lacks no value"):
        effects_with_missing_outcomes(
            trial, **grouped_arguments(dict(strategy="multiple-imputation", draws=pd.DataFrame(), week=48, **options))
        )
    weighted = grouped_arguments(dict(strategy="ipw", missing_given="x", **options))
    named = trial.assign(participant_id=np.arange(len(trial)))
    with pytest.raises(InputError, match="stands twice; give one row each"):
        effects_with_missing_outcomes(pd.concat([named, named.head(1)], ignore_index=True), **weighted)
    holes = named.assign(y=named["y"].where(named.index > 9), arm=named["arm"].where(named.index != 20))
    with pytest.warns(DataNote, match=rf"1 of {len(trial)} patients left out for a missing value in arm"):
        effects_with_missing_outcomes(holes, **weighted)
    table = trial_with_dropout(0, 100)
    with pytest.raises(UsageError, match="no rows of week 96; its weeks are 48"):
        effects_with_missing_outcomes(
            table, **grouped_arguments(dict(strategy="multiple-imputation", draws=imputations(table, 0), week=96, **options))
        )


def test_complete_case_results_say_so(trial: pd.DataFrame) -> None:
    row = effects_with_missing_outcomes(
        trial, **grouped_arguments({"strategy": "complete-case", "outcome": "y", "reference": "placebo"})
    ).iloc[0]
    assert row.estimator.endswith("complete cases")


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("age + C(arm)", "`formula`: 'arm' is the randomised arm, no baseline covariate; leave it out$"),
        ("age + log(y + 1)", "`formula`: 'y' is the outcome"),
        ("net2_lesions_week48", "'net2_lesions_week48' is the outcome"),
        ("age + treated", "`formula`: 'treated' is a recoded arm .* leave it out$"),
    ],
)
def test_a_population_is_not_described_by_the_arm_or_the_outcome(formula: str, words: str) -> None:
    people, _ = simulated(80, 0)
    people = people.assign(arm=["placebo", "drug"] * 40, y=np.arange(80) % 5, net2_lesions_week48=np.arange(80) % 4)
    people["treated"] = (people["arm"] == "drug") * 1.0
    with pytest.raises((UsageError, InputError), match=words):
        transport_weights(people, people, formula, outcome="y")


@pytest.mark.parametrize("formula", ["scale(age)", "center(age)", "standardize(age)", "poly(age, degree=2)"])
def test_what_a_formula_learns_is_learned_of_the_trial_and_used_on_the_target(formula: str) -> None:
    """Centring each table by its own mean would call two populations of different age alike."""
    people, _ = simulated(400, 0)
    target = pd.DataFrame({"age": np.random.default_rng(1).normal(42, 6, 300)})
    moved = transport_weights(people, target, formula)
    assert abs(moved.balance["difference_before"].iloc[0]) > 0.3
    assert np.average(people["age"], weights=moved.weights) == pytest.approx(target["age"].mean(), abs=1e-6)


def test_a_level_of_the_target_that_the_trial_lacks_is_named() -> None:
    people = pd.DataFrame({"participant_id": list("abcdef"), "site": list("xyxyxy")})
    with pytest.raises(InputError, match="'site': level 'z' is not among those known"):
        transport_weights(people, pd.DataFrame({"site": ["x", "z"]}), "C(site)")


def test_missing_given_is_a_formula_and_never_code(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame({"y": [1.0, None, 2, 3] * 10, "arm": ["a", "a", "b", "b"] * 10, "age.bl": np.arange(40.0)})
    options = {"outcome": "y", "reference": "a", "strategy": "ipw"}
    with pytest.raises(UsageError, match=r"`missing_given`: .* found '\{' at letter 1"):
        effects_with_missing_outcomes(table, **grouped_arguments(dict(**options, missing_given="{np.savetxt('ran', [1])}")))
    assert not list(tmp_path.iterdir())
    for formula in ("y", "C(arm)"):
        with pytest.raises(UsageError, match="no baseline covariate"):
            effects_with_missing_outcomes(table, **grouped_arguments({**options, "missing_given": formula}))
    assert (
        len(effects_with_missing_outcomes(table, **grouped_arguments(dict(**options, missing_given="bs(`age.bl`, df=4)")))) == 1
    )
