"""Entropy balancing against a solution by hand, an optimiser and a target out of reach."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from causalms.stats import entropy_balance


def test_two_patients_are_weighted_as_by_hand():
    balance = entropy_balance([[-1.0], [3.0]])  # w_1 (-1) + w_2 3 = 0 and w_1 + w_2 = 1
    assert balance.weights == pytest.approx([0.75, 0.25], abs=1e-9)


def test_no_other_weights_with_these_means_have_a_larger_entropy():
    x = np.random.default_rng(1).normal(0.3, 1.0, (12, 2))
    balance = entropy_balance(x)
    constraints = [{"type": "eq", "fun": lambda w: np.append(w @ x, w.sum() - 1)}]
    best = optimize.minimize(
        lambda w: float(w @ np.log(w)), np.full(12, 1 / 12), bounds=[(1e-9, 1)] * 12, constraints=constraints, tol=1e-12
    )
    assert np.abs(balance.imbalance).max() < 1e-10
    assert balance.weights == pytest.approx(best.x, abs=1e-4)  # the optimiser's own precision
    assert balance.weights @ np.log(balance.weights) <= best.fun + 1e-6


def test_a_mean_that_is_already_there_changes_nobody():
    x = np.array([[-1.0, 2.0], [1.0, 0.0], [0.0, -2.0]])
    assert entropy_balance(x).weights == pytest.approx([1 / 3] * 3, abs=1e-12)


def test_a_target_beyond_the_data_is_not_reached():
    balance = entropy_balance(np.linspace(1.0, 2.0, 9)[:, None])  # all on one side of the target, 0
    assert not balance.reached
    assert np.isfinite(balance.weights).all()
