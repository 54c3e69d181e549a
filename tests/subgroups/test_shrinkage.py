"""Bayesian shrinkage: its posterior by quadrature, its collapse without interaction, its honesty with one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.errors import RefusalError, UsageError
from causalms.subgroups import MainEffects, ShrinkageModel, forest, shrink
from causalms.subgroups.global_model import GlobalModel
from causalms.tables import grouping

FACTORS = ["gd > 0", "age >= 40", "sex"]


def made(seed: int, patients: int, modification: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    people = pd.DataFrame(
        {
            "arm": rng.permutation(np.repeat(["placebo", "drug"], patients // 2)),
            "age": rng.uniform(20, 55, patients),
            "gd": rng.poisson(0.8, patients),
            "sex": rng.choice(["F", "M"], patients),
        }
    )
    ratio = 0.4 * np.where(people["gd"] > 0, modification, 1.0)
    mean = 3 * np.exp(0.4 * (people["gd"] > 0)) * np.where(people["arm"] == "drug", ratio, 1.0)
    return people.assign(lesions=rng.negative_binomial(0.6, 0.6 / (0.6 + mean)))


def by_quadrature(part: GlobalModel, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and variance of overall + deviation of each level of one factor under the half-normal prior."""
    grid = np.linspace(1e-4, 2.5, 2000)
    pick = np.column_stack([np.ones(2), np.eye(2)])
    logs, means, variances = [], [], []
    for spread in grid:
        prior = np.diag([6.25, spread**2, spread**2])
        total = part.coding @ prior @ part.coding.T + part.covariance
        gain = prior @ part.coding.T @ np.linalg.inv(total)
        logs.append(stats.halfnorm.logpdf(spread, scale=scale) + stats.multivariate_normal.logpdf(part.estimate, cov=total))
        means.append(pick @ gain @ part.estimate)
        variances.append(np.diag(pick @ (prior - gain @ part.coding @ prior) @ pick.T))
    weight = np.exp(np.array(logs) - max(logs))
    weight /= weight.sum()
    mean = weight @ np.array(means)
    return mean, weight @ (np.array(variances) + np.array(means) ** 2) - mean**2


@pytest.mark.slow
def test_posterior_of_the_half_normal_prior_matches_quadrature() -> None:
    people = made(1, 300, 1.8)
    shrinkage = shrink(people, ["gd > 0"], outcome="lesions", reference="placebo", model=ShrinkageModel(draws=1000, warmup=300))
    part = GlobalModel.of(people, [grouping(people, "gd > 0")], "lesions", "arm", "drug", None, MainEffects())
    mean, variance = by_quadrature(part, 0.35)
    logs = shrinkage.draws[["gd > 0", "gd <= 0"]].to_numpy()
    # At least 200 effective draws: 4 standard errors of a mean are 0.28 standard deviations.
    np.testing.assert_allclose(logs.mean(axis=0), mean, atol=0.28 * np.sqrt(variance.max()))
    np.testing.assert_allclose(logs.std(axis=0), np.sqrt(variance), rtol=0.2)


SETTINGS = {"outcome": "lesions", "reference": "placebo"}


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["half-normal", "horseshoe"])
def test_shrinkage_collapses_without_interaction(prior: str) -> None:
    people = made(4, 600)
    shrunk = shrink(people, FACTORS, model=ShrinkageModel(prior, draws=250, warmup=150), **SETTINGS).table
    raw = forest(people, FACTORS, **SETTINGS).table
    subgroups = raw["factor"] != "all"
    gaps = [np.log(table.loc[subgroups, "estimate"] / table["estimate"].iloc[0]).abs().mean() for table in (shrunk, raw)]
    assert gaps[0] < 0.5 * gaps[1]
    assert (shrunk["upper"] / shrunk["lower"]).iloc[1:].mean() < (raw["upper"] / raw["lower"]).iloc[1:].mean()


@pytest.mark.slow
def test_the_horseshoe_keeps_a_strong_interaction() -> None:
    people = made(4, 1200, 4.0)
    shrunk = shrink(people, FACTORS, model=ShrinkageModel("horseshoe", draws=250, warmup=150), **SETTINGS).table
    raw = forest(people, FACTORS, **SETTINGS).table
    kept, seen = (float(np.log(table.loc[table["factor"] == "gd > 0", "estimate"]).diff().abs().max()) for table in (shrunk, raw))
    assert kept > 0.6 * seen


def test_same_seed_same_posterior_and_no_global_seed_is_touched() -> None:
    import torch

    torch.manual_seed(5)
    before = torch.random.get_rng_state().clone()
    model = ShrinkageModel(draws=50, warmup=50, seed=3)
    people = made(2, 200)
    first = shrink(people, ["sex"], model=model, **SETTINGS).table
    second = shrink(people, ["sex"], model=model, **SETTINGS).table
    pd.testing.assert_frame_equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_subgroup_without_events_has_no_global_model() -> None:
    people = made(3, 100)
    people.loc[(people["sex"] == "M") & (people["arm"] == "drug"), "lesions"] = 0
    with pytest.raises(RefusalError, match="sex = M: no event"):
        shrink(people, ["sex"], outcome="lesions", reference="placebo")
    with pytest.raises(UsageError, match="`prior`: found 'lasso'"):
        ShrinkageModel(prior="lasso")


def test_adjusting_strata_and_clusters_enter_the_global_model_and_are_said() -> None:
    """A covariate explains variation between patients: its subgroup effects are narrower; clusters change their width."""
    rng = np.random.default_rng(8)
    n = 400
    x, site = rng.normal(size=n), np.repeat(np.arange(20), 20)
    arm = np.where(np.arange(n) % 2, "drug", "placebo")
    rate = 3 * np.exp(0.8 * x + 0.5 * rng.normal(size=20)[site] - 0.5 * (arm == "drug"))
    table = pd.DataFrame({"arm": arm, "x": x, "site": site, "sex": rng.choice(["f", "m"], n), "lesions": rng.poisson(rate)})
    factors = [grouping(table, "sex")]

    def errors(**more: str) -> np.ndarray:
        model = GlobalModel.of(table, factors, "lesions", "arm", "drug", None, MainEffects(**more))
        return np.sqrt(np.diag(model.covariance))

    plain, clustered = errors(), errors(cluster="site")
    assert (errors(adjust="x") < 0.8 * plain).all()
    assert (errors(strata="site") < plain).all()
    assert not np.allclose(clustered, plain, rtol=0.02)
    assert MainEffects(adjust="x", strata="site").words == "adjusted for x; strata site"
    with pytest.raises(UsageError, match="contradict"):
        MainEffects(strata="site", cluster="site")
    with pytest.raises(UsageError, match="no column 'region'"):
        shrink(table, ["sex"], outcome="lesions", reference="placebo", more=MainEffects(strata="region"))
