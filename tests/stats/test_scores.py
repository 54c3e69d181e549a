"""Scores of a count law against R."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.stats import NegativeBinomialLaw, score


def test_crps_of_a_negative_binomial_matches_r_surveillance() -> None:
    # R surveillance 1.20.3: mu 2, size 0.8, observed 3; it prints eleven digits.
    crps = score("crps", NegativeBinomialLaw(np.array([2.0]), np.array([0.8])), np.array([3]))
    assert crps[0] == pytest.approx(1.0500890879, rel=1e-9)
