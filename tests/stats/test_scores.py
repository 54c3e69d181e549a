"""Scores of a count law against R."""

from __future__ import annotations

import math

import numpy as np
import pytest

from causalms.stats import DrawsLaw, NegativeBinomialLaw, score


def test_crps_of_a_negative_binomial_matches_r_surveillance() -> None:
    # R surveillance 1.20.3: mu 2, size 0.8, observed 3; it prints eleven digits.
    crps = score("crps", NegativeBinomialLaw(np.array([2.0]), np.array([0.8])), np.array([3]))
    assert crps[0] == pytest.approx(1.0500890879, rel=1e-9)


def test_log_score_of_an_impossible_seeming_count_is_finite() -> None:
    """A forecast of 0.01 lesions and a count of 400: the probability underflows, its logarithm does not."""
    law = NegativeBinomialLaw(np.array([0.01, 3.0]), np.array([np.inf, 2.0]))
    assert law.pmf([400, 1])[0] == 0.0
    scored = score("log", law, [400, 1])
    assert scored[0] == pytest.approx(0.01 - 400 * np.log(0.01) + math.lgamma(401))
    assert scored[1] == pytest.approx(-np.log(law.pmf([400, 1])[1]))
    assert np.isfinite(score("log", DrawsLaw(np.array([[0, 0, 0, 0, 1]])), [1000])).all()
