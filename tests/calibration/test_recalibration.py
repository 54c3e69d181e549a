"""Recalibration and conformal sets: fitted on one half, judged on the other."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.calibration import Pairs, Recalibration, assess, conformal, pit_histogram, recalibrate, split
from causalms.effects import analyse_draws
from causalms.errors import RefusalError
from causalms.stats import CountLaw, DrawsLaw, NegativeBinomialLaw

EFFECT = {"placebo": 1.0, "ocrelizumab": 0.15}


def made(seed: int, per_arm: int, bias: float = 1.0, size: float = 0.5, draws: int | None = None) -> Pairs:
    """Counts of size 0.5; forecasts with ``bias`` times the mean and another ``size``."""
    rng = np.random.default_rng(seed)
    arm = np.repeat(list(EFFECT), per_arm)
    mean = np.exp(rng.normal(0.8, 0.7, len(arm))) * np.array([EFFECT[name] for name in arm])
    y = NegativeBinomialLaw(mean, np.full(len(arm), 0.5)).sample(rng, 1)[:, 0]
    law: CountLaw = NegativeBinomialLaw(mean * bias, np.full(len(arm), size))
    if draws is not None:
        law = DrawsLaw(NegativeBinomialLaw(mean * bias, np.full(len(arm), size)).sample(rng, draws))
    frame = pd.DataFrame({"participant_id": np.arange(len(arm)), "trial": "T", "arm": arm, "observed": y})
    return Pairs(frame, law, law.activity, 48.0)


def test_split_is_disjoint_and_even_in_every_arm() -> None:
    first, second = split(made(1, 50), 0.5, seed=3)
    assert not set(first.frame["participant_id"]) & set(second.frame["participant_id"])
    assert first.frame["arm"].value_counts().tolist() == [25, 25] == second.frame["arm"].value_counts().tolist()


@pytest.mark.parametrize("draws", [None, 32], ids=["formula", "draws"])
def test_recalibration_mends_bias_and_dispersion_on_patients_it_has_not_seen(draws: int | None) -> None:
    fitted_on, judged_on = split(made(2, 1500, bias=2.5, size=4.0, draws=draws))
    assert pit_histogram(judged_on.law, judged_on.observed, repetitions=99).p_value <= 0.01
    mended = recalibrate(fitted_on).apply(judged_on)
    ratio = mended.observed.mean() / mended.law.mean.mean()
    # Standard error of the ratio with 1,500 patients of size 0.5: about 0.05.
    assert ratio == pytest.approx(1, abs=0.15)
    results = assess(mended, repetitions=99).results.set_index("measure")
    assert (
        results.loc["CRPS", "estimate"] < assess(judged_on, repetitions=99).results.set_index("measure").loc["CRPS", "estimate"]
    )
    # From a formula the recalibrated law is the true one; draws add their own noise to the predicted mean.
    if draws is None:
        assert results.loc["largest deviation of the PIT histogram from 1", "p_value"] > 0.02


def test_recalibrated_expected_table_moves_the_simulated_effect() -> None:
    fit = recalibrate(made(4, 3000, bias=1.0))
    people = made(5, 100, bias=1.0)
    tables = []
    for arm in EFFECT:
        mean = np.exp(np.linspace(-0.5, 1.5, people.n)) * EFFECT[arm] * (2.0 if arm == "placebo" else 1.0)
        keys = {"trial": "T", "arm": arm, "arm_randomised": people.frame["arm"], "visit_week": 48.0, "query": "interventional"}
        one = pd.DataFrame({"participant_id": np.arange(people.n), **keys, "query_id": "q", "expected_net2_lesions": mean})
        tables.append(one.assign(expected_net2_volume_ml=0.1, activity_probability=0.5, dispersion=0.1))
    draws = pd.concat(tables, ignore_index=True)
    after = fit.expected(draws)
    np.testing.assert_allclose(after["dispersion"], 2.0, rtol=0.2)
    for arm, rows in after.groupby("arm"):
        line = fit.table.set_index("arm").loc[arm]
        before = draws.loc[rows.index, "expected_net2_lesions"]
        np.testing.assert_allclose(rows["expected_net2_lesions"], np.exp(line["intercept"]) * before ** line["slope"], rtol=1e-9)
    assert len(analyse_draws(after, reference="placebo")) == 1
    with pytest.raises(RefusalError, match="'laquinimod' was not among"):
        fit.expected(draws.assign(arm="laquinimod"))


@pytest.mark.parametrize("draws", [None, 99], ids=["formula", "draws"])
def test_conformal_sets_cover_in_every_arm_though_the_forecasts_are_wrong(draws: int | None) -> None:
    # Average over 25 trials of 100 + 100 patients an arm: coverage at least 0.8, its standard error below 0.011 an arm.
    shares = []
    for seed in range(25):
        calibrated_on, judged_on = split(made(seed, 200, bias=0.5, size=2.0, draws=draws), seed=seed)
        shares.append(conformal(calibrated_on, 0.8).judge(judged_on).set_index("arm")["coverage"])
    mean = pd.concat(shares, axis=1).mean(axis=1)
    assert mean.min() > 0.8 - 3 * 0.011


def test_conformal_set_is_all_counts_whose_score_is_small_enough() -> None:
    from causalms.calibration.recalibration import _ends, _score

    for law in (made(1, 10).law, made(1, 10, draws=19).law):
        for threshold in (0.0, 0.3, 0.77, 0.89):
            lower, upper = _ends(law, threshold)
            for count in range(60):
                counts = np.full(law.n, count)
                if isinstance(law, DrawsLaw):
                    ends = (law.draws < count).sum(axis=1) / 20, ((law.draws <= count).sum(axis=1) + 1) / 20
                else:
                    ends = law.cdf(counts - 1), law.cdf(counts)
                inside = _score(*ends) <= threshold + 1e-9
                # A set is the hull of its counts: between its ends the scores may only exceed q where the law puts nothing.
                assert np.all(inside <= ((lower <= count) & (count <= upper)))


def test_too_few_patients_promise_nothing() -> None:
    with pytest.raises(RefusalError, match="8 patients cannot promise 90% coverage; at least 9 are needed"):
        conformal(made(1, 8), 0.9)
    with pytest.raises(RefusalError, match="too few to recalibrate"):
        recalibrate(made(1, 8))


def sampled_table(people: Pairs) -> pd.DataFrame:
    """A sampled draws table of everyone under both arms, with half a lesion's volume a lesion and one region."""
    rng = np.random.default_rng(8)
    tables = []
    for arm, effect in EFFECT.items():
        law = NegativeBinomialLaw(np.full(people.n, 3.0 * effect), np.full(people.n, 0.5))
        counts = law.sample(rng, 64)
        one = pd.DataFrame({"participant_id": np.repeat(np.arange(people.n), 64), "draw": np.tile(np.arange(64), people.n)})
        keys = {"trial": "T", "arm": arm, "arm_randomised": "placebo", "visit_week": 48.0, "query": "interventional"}
        volumes = {"net2_volume_ml": counts.ravel() * 0.5, "net2_lesions_periventricular": 0}
        tables.append(one.assign(**keys, query_id="q", net2_lesions=counts.ravel(), **volumes))
    return pd.concat(tables, ignore_index=True)


def test_recalibrated_draws_have_the_recalibrated_law_and_keep_their_order() -> None:
    people = made(6, 40)
    table = sampled_table(people)
    fit = Recalibration(pd.DataFrame({"arm": list(EFFECT), "intercept": [0.7, 0.2], "slope": [0.5, 1.0], "size": [2.0, 0.4]}))
    moved = fit.sampled(table, seed=1)
    for (participant, arm), rows in list(moved.groupby(["participant_id", "arm"]))[:12]:
        before = table.loc[rows.index, "net2_lesions"].to_numpy()
        law = fit.law(NegativeBinomialLaw([before.mean()], [np.inf]), np.array([arm], dtype=object))
        # 64 stratified quantiles: within one draw of the law's own distribution function everywhere.
        for count in (0, 1, 3):
            assert (rows["net2_lesions"] <= count).mean() == pytest.approx(law.cdf([count])[0], abs=1.01 / 64), participant
        order = np.argsort(before, kind="stable")
        assert (np.diff(rows["net2_lesions"].to_numpy()[order]) >= 0).all()
    np.testing.assert_allclose(moved["net2_volume_ml"], 0.5 * moved["net2_lesions"], atol=1e-9)
    assert "net2_lesions_periventricular" not in moved
    shuffled = fit.sampled(table.sample(frac=1, random_state=1), seed=1).sort_values(["arm", "participant_id", "draw"])
    again = moved.sort_values(["arm", "participant_id", "draw"])
    # Ties are broken by the order of rows, which only permutes equal draws: the law of every patient stays.
    assert shuffled.groupby(["arm", "participant_id"])["net2_lesions"].sum().sum() == pytest.approx(
        again["net2_lesions"].sum(), rel=0.02
    )


def test_zero_inflation_is_part_of_what_is_recalibrated_away() -> None:
    fit = Recalibration(pd.DataFrame({"arm": ["placebo"], "intercept": [0.0], "slope": [1.0], "size": [0.5]}))
    rows = pd.DataFrame({"arm": ["placebo"], "expected_net2_lesions": [2.0], "expected_net2_volume_ml": [0.2]})
    after = fit.expected(rows.assign(zero_inflation=0.5, activity_probability=0.3, dispersion=1.0))
    assert "zero_inflation" not in after
    assert after["activity_probability"].iloc[0] == pytest.approx(1 - (0.5 / 2.5) ** 0.5)
