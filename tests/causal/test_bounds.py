"""Bounds against a linear program over all couplings: valid and sharp."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from causalms.causal.bounds import (
    Bounds,
    Law,
    activity_harm_bounds,
    benefit_bounds,
    frechet_hoeffding,
    harm_bounds,
    makarov,
    twin_mean_bounds,
)
from causalms.errors import UsageError


def best_and_worst(reference: Law, arm: Law, event) -> tuple[float, float]:
    """Smallest and largest probability of an event over every joint law with these marginals."""
    n, m = len(reference.support), len(arm.support)
    cost = np.array([[float(event(a, b)) for b in arm.support] for a in reference.support]).ravel()
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    equal = {"A_eq": np.vstack([rows, columns]), "b_eq": np.concatenate([reference.probabilities, arm.probabilities])}
    low, high = linprog(cost, **equal), linprog(-cost, **equal)
    return low.fun, -high.fun


laws = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=5, unique_by=lambda t: t[0]).map(
    lambda pairs: Law(
        np.array(sorted(p[0] for p in pairs), dtype=float),
        np.array([w for _, w in sorted(pairs)], dtype=float) / sum(w for _, w in pairs),
    )
)


@given(laws, laws, st.integers(-4, 4))
@settings(max_examples=60, deadline=None)
def test_makarov_bounds_equal_the_extremes_over_all_couplings(reference, arm, d):
    low, high = best_and_worst(reference, arm, lambda a, b: b - a <= d)
    bounds = makarov(reference, arm, float(d))
    assert bounds.lower == pytest.approx(low, abs=1e-9)  # tolerance of the linear program
    assert bounds.upper == pytest.approx(high, abs=1e-9)


@given(laws, laws)
@settings(max_examples=60, deadline=None)
def test_benefit_and_harm_bounds_equal_the_extremes_over_all_couplings(reference, arm):
    for bound, event in ((benefit_bounds, lambda a, b: b < a), (harm_bounds, lambda a, b: b > a)):
        low, high = best_and_worst(reference, arm, event)
        bounds = bound(reference, arm)
        assert bounds.lower == pytest.approx(low, abs=1e-9)
        assert bounds.upper == pytest.approx(high, abs=1e-9)


def test_benefit_of_counts_is_makarov_at_minus_one():
    reference, arm = Law.negative_binomial(3.0, 2.0), Law.negative_binomial(0.7, 2.0)
    assert benefit_bounds(reference, arm) == makarov(reference, arm, -1.0)


@given(laws, st.integers(1, 99))
@settings(max_examples=40, deadline=None)
def test_twin_mean_bounds_equal_the_extremes_given_an_event(arm, percent):
    p = percent / 100
    m = len(arm.support)
    equal = {"A_eq": np.ones((1, m)), "b_eq": [p], "bounds": [(0, q) for q in arm.probabilities]}
    low, high = linprog(arm.support, **equal).fun / p, -linprog(-arm.support, **equal).fun / p
    bounds = twin_mean_bounds(arm, p)
    assert bounds.lower == pytest.approx(low, abs=1e-8)
    assert bounds.upper == pytest.approx(high, abs=1e-8)


def test_frechet_hoeffding_holds_both_extreme_couplings():
    p, q = 0.6, 0.3
    lower, upper = frechet_hoeffding(p, q)
    u = (np.arange(100_000) + 0.5) / 100_000
    assert ((u < p) & (u < q)).mean() == pytest.approx(upper, abs=1e-5)  # comonotone
    assert ((u < p) & (u > 1 - q)).mean() == pytest.approx(lower, abs=1e-5)  # countermonotone


def test_bounds_given_covariates_then_averaged_lie_inside_bounds_of_the_averaged_marginals():
    means = np.array([0.3, 4.0])
    inside = [harm_bounds(Law.negative_binomial(m, 1.0), Law.negative_binomial(0.5 * m, 1.0)) for m in means]
    support = np.arange(400, dtype=float)

    def pooled(factor: float) -> Law:
        probabilities = np.zeros(400)
        for m in means:
            law = Law.negative_binomial(factor * m, 1.0)
            probabilities[: len(law.support)] += law.probabilities / 2
        return Law(support, probabilities)

    outside = harm_bounds(pooled(1.0), pooled(0.5))
    assert np.mean([b.lower for b in inside]) >= outside.lower - 1e-9
    assert np.mean([b.upper for b in inside]) <= outside.upper + 1e-9


def test_equal_laws_leave_harm_between_never_and_almost_always():
    law = Law.negative_binomial(2.0, 2.0)
    bounds = harm_bounds(law, law)
    assert bounds.lower == 0.0
    assert 0.5 < bounds.upper < 1.0


def test_bounds_of_volume_with_an_atom_at_zero():
    reference, arm = Law(np.array([0.0, 0.25, 1.5]), np.array([0.5, 0.25, 0.25])), Law(np.array([0.0, 0.3]), np.array([0.8, 0.2]))
    low, high = best_and_worst(reference, arm, lambda a, b: b - a <= -0.2 + 1e-12)
    assert makarov(reference, arm, -0.2).lower == pytest.approx(low, abs=1e-9)
    assert makarov(reference, arm, -0.2).upper == pytest.approx(high, abs=1e-9)


def test_negative_binomial_law_has_its_moments():
    law = Law.negative_binomial(3.0, 2.0)
    variance = float((law.support - law.mean) ** 2 @ law.probabilities)
    assert law.mean == pytest.approx(3.0, rel=1e-7)
    assert variance == pytest.approx(3.0 + 2.0 * 9.0, rel=1e-5)


def test_activity_harm_is_zero_at_least_when_the_arm_is_better():
    lower, upper = activity_harm_bounds(np.array([0.6, 0.2]), np.array([0.3, 0.5]))
    assert lower.tolist() == pytest.approx([0.0, 0.3])
    assert upper.tolist() == pytest.approx([0.3, 0.5])


def test_no_probability_outside_zero_and_one():
    with pytest.raises(UsageError, match="between 0 and 1"):
        frechet_hoeffding(1.2, 0.5)
    with pytest.raises(UsageError, match="above 0"):
        twin_mean_bounds(Law.of_draws([1.0]), 0.0)


def test_bounds_know_what_they_contain():
    assert Bounds(0.1, 0.3).contains(0.3)
    assert not Bounds(0.1, 0.3).contains(0.31)


def test_a_bound_that_is_zero_but_for_the_rounding_of_sums_is_zero() -> None:
    rounded = []
    for mean in np.linspace(0.3, 40, 60):
        worse, better = Law.negative_binomial(mean, 2.0), Law.negative_binomial(mean / 13, 2.0)
        points = np.union1d(worse.support, better.support)
        rounded.append(np.max(worse.at_most(points) - better.at_most(points)))
        assert benefit_bounds(better, worse).lower == 0
    assert max(rounded) > 0
