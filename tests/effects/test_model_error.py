"""The model's own error in simulated effects: its size, where it cancels, where it is unknown, and the interval without it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.effects import analyse_draws, estimate, given_model, patient_effects
from causalms.effects.draws import _shrunk
from causalms.effects.transport import transport_weights, transported_effect
from causalms.subgroups import simulated_forest
from causalms.tables import MODEL_ERROR, ModelError
from tests.conftest import Run, refused

PATIENTS, ARMS, SIZE = 60, ("placebo", "drug"), 0.5
rng = np.random.default_rng(4)
MEANS = np.exp(rng.normal(1, 0.6, (PATIENTS, 1)) + np.log([1.0, 0.3]))
#: Directions: a level that both arms share, the drug's own level, its modification by sex.
FEMALE = np.arange(PATIENTS) % 2 == 0
LOADINGS = np.zeros((PATIENTS, 2, 3))
LOADINGS[:, :, 0], LOADINGS[:, 1, 1], LOADINGS[:, 1, 2] = 0.3, 0.1, 0.2 * np.where(FEMALE, 1, -1)


def expected(loadings: np.ndarray = LOADINGS, means: np.ndarray = MEANS) -> pd.DataFrame:
    """An expected table whose cells carry these errors of the log mean."""
    rows = []
    for i in range(PATIENTS):
        for a, arm in enumerate(ARMS):
            m = means[i, a]
            silent = (SIZE / (SIZE + m)) ** SIZE
            error = ModelError("m", "from 400 held-out patients", loadings[i, a], silent * SIZE * m / (SIZE + m), 0.0, 0.0)
            rows.append((f"p{i}", arm, m, 0.1 * m, 1 - silent, 1 / SIZE, error.text()))
    outcomes = ["expected_net2_lesions", "expected_net2_volume_ml", "activity_probability", "dispersion", MODEL_ERROR]
    table = pd.DataFrame(rows, columns=["participant_id", "arm", *outcomes])
    return table.assign(trial="T", arm_randomised="placebo", visit_week=48.0, query="interventional", query_id="q")


def people() -> pd.DataFrame:
    sex = np.where(FEMALE, "F", "M")
    return pd.DataFrame({"participant_id": [f"p{i}" for i in range(PATIENTS)], "sex": sex, "age": np.linspace(25, 55, PATIENTS)})


@pytest.mark.parametrize("measure", ["rate-ratio", "rate-difference", "risk-ratio", "odds-ratio", "mean-ratio"])
def test_generator_error_is_the_spread_over_plausible_generators(measure: str):
    """80 generators with small errors (first order): the spread of their effects has a relative error of 1 / sqrt(160) = 8%."""
    small = 0.2 * LOADINGS
    row = analyse_draws(expected(small), reference="placebo", measure=measure).iloc[0]
    effects = []
    for normal in np.random.default_rng(1).standard_normal((80, 3)):
        table = expected(small, MEANS * np.exp(small @ normal)).drop(columns=MODEL_ERROR)
        effects.append(analyse_draws(table, reference="placebo", measure=measure).iloc[0].estimate)
    scale = np.log if measure.endswith("ratio") else np.asarray
    assert row.se_generator == pytest.approx(np.std(scale(effects), ddof=1), rel=0.25)
    assert row.se == pytest.approx(np.hypot(row.se_patient, row.se_generator))


def test_an_error_that_both_arms_share_cancels_in_a_ratio_and_not_in_a_difference():
    shared = np.where(np.arange(3) == 0, LOADINGS, 0.0)
    assert analyse_draws(expected(shared), reference="placebo").iloc[0].se_generator == pytest.approx(0, abs=1e-12)
    assert analyse_draws(expected(shared), reference="placebo", measure="rate-difference").iloc[0].se_generator > 0.3


def test_draws_carry_the_error_in_their_first_row_and_survive_a_csv(tmp_path):
    draws = pd.concat([expected().assign(draw=d, net2_lesions=np.random.default_rng(d).poisson(MEANS.ravel())) for d in range(8)])
    draws.loc[draws["draw"] > 0, MODEL_ERROR] = None
    draws = draws.drop(columns=["expected_net2_lesions", "expected_net2_volume_ml", "activity_probability", "dispersion"])
    draws.to_csv(tmp_path / "draws.csv", index=False)
    row = estimate(tmp_path / "draws.csv", reference="placebo").results.iloc[0]
    # The drug's own level .1 and its modification, of which the means of women and men leave a part.
    assert 0.1 <= row.se_generator < 0.15
    assert "the model's own error (from 400 held-out patients), for trials like those" in row.variance


def test_without_an_error_there_is_neither_interval_nor_p_value_and_given_the_model_there_is():
    known = analyse_draws(expected(), reference="placebo")
    unknown = analyse_draws(expected().drop(columns=MODEL_ERROR), reference="placebo")
    assert unknown[["se", "lower", "upper", "p_value"]].isna().all(axis=None)
    assert unknown["estimate"].tolist() == known["estimate"].tolist()
    narrow = given_model(known).iloc[0]
    assert narrow.se == pytest.approx(narrow.se_patient)
    assert narrow.upper - narrow.lower < (known["upper"] - known["lower"]).iloc[0]
    assert "given the model" in narrow.variance
    assert given_model(unknown)["lower"].tolist() == pytest.approx([narrow.lower])


def test_an_outcome_the_error_does_not_speak_of_has_none():
    draws = expected().assign(draw=0, net2_lesions_periventricular=1.0)
    draws["net2_lesions_periventricular"] += np.arange(len(draws)) % 3
    row = analyse_draws(draws, reference="placebo", outcome="net2_lesions_periventricular").iloc[0]
    assert np.isnan(row.se_generator)
    assert np.isnan(row.lower)


def test_an_error_that_subgroups_share_does_not_hide_their_difference():
    """Level errors cancel between women and men: the error of the ratio of ratios is twice the modification's, .4."""
    forest = simulated_forest(expected(), people(), ["sex"], reference="placebo")
    test = forest.results[forest.results["analysis"] == "simulated interaction"].iloc[0]
    ses = forest.table.loc[forest.table["factor"] == "sex", "se_patient"]
    assert test.se == pytest.approx(np.sqrt((ses**2).sum() + 0.4**2), rel=1e-6)
    between = forest.results[forest.results["analysis"] == "simulated interaction"].iloc[0]
    assert between.se_generator > 0
    assert between.se == pytest.approx(np.sqrt(between.se_patient**2 + between.se_generator**2 + between.se_monte_carlo**2))
    unknown = simulated_forest(expected().drop(columns=MODEL_ERROR), people(), ["sex"], reference="placebo")
    assert unknown.table["interaction_p"].isna().all()
    assert "error unknown" in repr(unknown)


def test_a_transported_effect_carries_the_error_too():
    transport = transport_weights(people(), people().assign(age=people()["age"] + 3), "age")
    known = transported_effect(expected(), transport, arm="drug", reference="placebo")
    unknown = transported_effect(expected().drop(columns=MODEL_ERROR), transport, arm="drug", reference="placebo")
    assert known.se > 0.1
    assert np.isnan(unknown.se)


def test_given_the_model_nothing_simulated_has_a_p_value(run: Run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected().to_csv("draws.csv", index=False)
    trial = people().assign(trial="T", arm=np.where(np.arange(PATIENTS) % 3 == 0, *ARMS), net2_lesions_week48=MEANS[:, 0].round())
    trial.to_csv("people.csv", index=False)
    whole = given_model(analyse_draws(expected(), reference="placebo")).iloc[0]
    assert np.isnan(whole.p_value)
    run("subgroups", "draws.csv", "--participants", "people.csv", "--by", "sex", "--reference", "placebo", "--given-model",
        "--forest", "forest.csv")  # fmt: skip
    forest = pd.read_csv("forest.csv")
    assert forest.loc[0, ["lower", "upper"]].tolist() == pytest.approx([whole.lower, whole.upper])
    assert forest[["p_value", "interaction_p"]].isna().all(axis=None)
    asked = ("agree", "draws.csv", "--observed", "people.csv", "--reference", "placebo")
    wide = run(*asked, "--table", "wide.csv")
    narrow = run(*asked, "--given-model", "--table", "narrow.csv")
    assert "given the model: its own error is left out" in narrow.printed
    assert "given the model" not in wide.printed
    ses = [pd.read_csv(name)["se"].iloc[0] for name in ("narrow.csv", "wide.csv")]
    assert ses[0] < ses[1]


def test_a_patients_own_effect_has_the_error_of_its_directions():
    own = patient_effects(expected(), arm="drug", reference="placebo")
    assert own["log_rate_ratio_se_generator"].to_numpy() == pytest.approx(np.hypot(0.1, 0.2))  # what both arms share cancels
    assert own["log_rate_ratio"].to_numpy() == pytest.approx(np.log(0.3))
    assert (own["difference_se_monte_carlo"] == 0).all()  # expected outcomes are not drawn
    assert own["log_rate_ratio_shrunk"].to_numpy() == pytest.approx(np.log(0.3))


def test_own_ratios_are_drawn_to_the_mean_where_the_models_error_explains_their_spread():
    """Deviations of 1, errors of .5, mean 0: tau^2 = 1 - .25, which keeps three quarters; errors of 1 keep nothing."""
    own, apart = np.array([-1.0, 1.0]), np.array([[-0.5], [0.5]])
    assert _shrunk(own, apart, np.zeros(2)) == pytest.approx([-0.75, 0.75])
    assert _shrunk(own, 2 * apart, np.zeros(2)) == pytest.approx(0.0)
    assert _shrunk(own, apart + 9.0, np.zeros(2)) == pytest.approx([-0.75, 0.75])  # what all share moves their mean alone


def test_the_command_prints_the_model_error_or_that_it_is_unknown(run: Run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected().to_csv("known.csv", index=False)
    expected().drop(columns=MODEL_ERROR).to_csv("unknown.csv", index=False)
    known = run("effects", "known.csv", "--reference", "placebo").printed
    assert " simulated  " in known
    assert "from 400 held-out patients), for trials like those" in known
    unknown = run("effects", "unknown.csv", "--reference", "placebo").printed
    assert "model error unknown: neither interval nor p-value" in unknown
    assert "95% CI given the model" in run("effects", "unknown.csv", "--reference", "placebo", "--given-model").printed
    pd.DataFrame({"arm": list(ARMS) * 10, "y": range(20)}).to_csv("observed.csv", index=False)
    ended = run("effects", "observed.csv", "--outcome", "y", "--reference", "placebo", "--given-model")
    refused(ended, 2, "--given-model is about simulated outcomes")
