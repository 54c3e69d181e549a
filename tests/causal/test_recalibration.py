"""The model's own uncertainty: Laplace against a known posterior, coverage of the population rate ratio, se_generator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

from causalms.causal import CausalModel
from causalms.causal.recalibration import CountData, count_model, laplace, recalibrate
from causalms.errors import InputError, UsageError

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


@pytest.fixture(scope="module")
def expected(truth, big_table):
    return CausalModel(truth).do(big_table, arm=ARMS, expected=True)


def test_laplace_is_exact_on_a_gaussian_regression():
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(40, 3)))
    y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + torch.tensor(rng.normal(size=40))

    def model():
        beta = pyro.sample("beta", dist.Normal(torch.zeros(3, dtype=torch.float64), 2.0).to_event(1))
        pyro.sample("y", dist.Normal(X @ beta, 1.0).to_event(1), obs=y)

    mode, covariance, _ = laplace(model, ())
    precision = X.T @ X + torch.eye(3, dtype=torch.float64) / 4
    assert covariance == pytest.approx(torch.linalg.inv(precision).numpy(), abs=1e-8)
    assert mode == pytest.approx(torch.linalg.solve(precision, X.T @ y).numpy(), abs=1e-8)


@pytest.mark.slow
def test_laplace_agrees_with_nuts(expected, big_table):
    from pyro.infer import MCMC, NUTS

    ids = big_table["participant_id"].head(300)
    data = CountData.of(expected[expected["participant_id"].isin(ids)], big_table, 48)
    mode, covariance, layout = laplace(count_model, (data,))
    pyro.set_rng_seed(1)
    with pyro.validation_enabled(False):
        chain = MCMC(NUTS(count_model), num_samples=200, warmup_steps=100, disable_progbar=True)
        chain.run(data)
    samples = chain.get_samples()
    for name in ("slope", "log_alpha"):
        k, draws = layout[name].start, samples[name].numpy()
        spread = np.sqrt(covariance[k, k])
        assert draws.mean() == pytest.approx(mode[k], abs=0.35 * spread)  # Monte-Carlo error of about 0.1 and skewness
        assert draws.std() == pytest.approx(spread, rel=0.25)
    contrast = (samples["arm_effect"][:, 2] - samples["arm_effect"][:, 0]).numpy()
    direction = np.zeros(len(mode))
    direction[layout["arm_effect"].start + 2], direction[layout["arm_effect"].start] = 1, -1
    assert contrast.std() == pytest.approx(np.sqrt(direction @ covariance @ direction), rel=0.25)


def test_a_right_model_is_left_as_it_is(expected, big_table):
    found = recalibrate(expected, big_table, members=400)
    assert found.slope.mean() == pytest.approx(1.0, abs=3 * found.slope.std())
    assert found.dispersion.mean() == pytest.approx(2.0, abs=3 * found.dispersion.std())
    for arm in range(1, 3):
        contrast = found.arm_effects[:, arm] - found.arm_effects[:, 0]
        assert abs(contrast.mean()) < 3 * contrast.std()


def test_a_wrong_arm_effect_is_mended(truth, big_table, expected):
    wrong = CausalModel(dataclasses.replace(truth, log_rates=(1.6, 0.8, 0.8)))  # ocrelizumab no better than dimethyl fumarate
    off = wrong.do(big_table, arm=ARMS, expected=True)
    found = recalibrate(off, big_table, members=400)
    means = expected.groupby("arm")["expected_net2_lesions"].mean()
    true = means["ocrelizumab"] / means["placebo"]
    ratios = np.log(found.rate_ratios(off, "ocrelizumab", "placebo"))
    assert np.exp(-1.8) == pytest.approx(true, rel=0.01)
    assert ratios.mean() == pytest.approx(np.log(true), abs=3 * ratios.std())
    assert ratios.mean() < np.log(0.3)  # the uncorrected model says exp(-0.8) = 0.45


@pytest.mark.slow
def test_rate_ratio_intervals_cover_the_truth_in_60_simulated_trials(truth, big_table, expected):
    wide = expected.pivot(index="participant_id", columns="arm", values="expected_net2_lesions").loc[big_table["participant_id"]]
    true = float(np.log(wide["ocrelizumab"].mean() / wide["placebo"].mean()))
    # the model that is recalibrated has wrong arm effects and too little dispersion
    wrong = CausalModel(dataclasses.replace(truth, log_rates=(1.4, 1.0, 0.3), dispersion=1.2))
    off = wrong.do(big_table, arm=ARMS, expected=True)
    blocks = {a: off[off["arm"] == a].set_index("participant_id").loc[wide.index].reset_index(drop=True) for a in ARMS}
    covered = []
    for trial in range(60):
        rng = np.random.default_rng(trial)
        rows, arm = rng.integers(0, len(wide), 300), rng.integers(0, 3, 300)
        rates = wide[ARMS].to_numpy()[rows, arm]
        counts = rng.poisson(rng.gamma(0.5, 2.0, 300) * rates).astype(float)
        names = [f"p{k}" for k in range(300)]
        own = np.array(ARMS)[arm]
        table = pd.concat([blocks[a].iloc[rows].assign(participant_id=names, arm_randomised=own) for a in ARMS])
        seen = pd.DataFrame({"participant_id": names, "net2_lesions_week48": counts})
        ratios = np.log(recalibrate(table, seen, members=100, seed=trial).rate_ratios(table, "ocrelizumab", "placebo"))
        covered.append(abs(ratios.mean() - true) < 1.96 * ratios.std())
    # nominal .95; binomial standard error with 60 trials is .028; 3 of them
    assert np.mean(covered) == pytest.approx(0.95, abs=0.085)


def test_trial_effects_widen_what_no_trial_randomises(truth, big_table, expected):
    trial = np.where(big_table["arm"] == "ocrelizumab", "B", "A")
    apart = expected.assign(trial=expected["participant_id"].map(dict(zip(big_table["participant_id"], trial, strict=True))))
    together = recalibrate(expected, big_table, members=400)
    split = recalibrate(apart, big_table, members=400)
    across = [np.log(r.rate_ratios(expected, "ocrelizumab", "placebo")).std() for r in (together, split)]
    within = [np.log(r.rate_ratios(expected, "dimethyl-fumarate", "placebo")).std() for r in (together, split)]
    # the prior of two trial effects of sd 0.2 adds 0.08 to the variance of the contrast across trials and nothing within
    assert across[1] ** 2 - across[0] ** 2 == pytest.approx(0.08, abs=0.03)
    assert within[1] == pytest.approx(within[0], rel=0.2)


def test_members_are_an_ensemble_that_effects_reads(expected, big_table):
    from causalms.effects import estimate

    few = expected[expected["participant_id"].isin(big_table["participant_id"].head(200))]
    found = recalibrate(few, big_table, members=50)
    table = found.table(few)
    assert table["generator"].nunique() == 50
    means = table.groupby(["generator", "arm"])["expected_net2_lesions"].mean().unstack()
    by_hand = np.log(means["ocrelizumab"] / means["placebo"])
    assert by_hand.to_numpy() == pytest.approx(np.log(found.rate_ratios(few, "ocrelizumab", "placebo")))
    rows = estimate(table, measure="rate-ratio", reference="placebo").results
    assert rows.set_index("arm").loc["ocrelizumab", "se_generator"] == pytest.approx(
        by_hand.std() * np.sqrt(1 + 1 / 50), rel=1e-6
    )


def test_activity_follows_from_the_members_own_law(expected, big_table):
    row = recalibrate(expected, big_table, members=3).table(expected.head(6)).iloc[-1]
    law = stats.nbinom(1 / row["dispersion"], 1 / (1 + row["dispersion"] * row["expected_net2_lesions"]))
    assert row["activity_probability"] == pytest.approx(law.sf(0))


def test_what_recalibration_needs_is_named(expected, big_table):
    with pytest.raises(InputError, match="no column 'net2_lesions_week96'"):
        recalibrate(expected, big_table, week=96)
    others = expected[expected["arm"] != expected["arm_randomised"]]
    with pytest.raises(InputError, match="only 0 patients have both"):
        recalibrate(others, big_table)
    with pytest.raises(UsageError, match="at least 2"):
        recalibrate(expected, big_table, members=1)
    with pytest.raises(InputError, match="arm 'aspirin' was not among"):
        recalibrate(expected, big_table, members=2).table(expected.head(3).assign(arm="aspirin"))
