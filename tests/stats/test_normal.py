"""The normal law without scipy is that of scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from causalms.stats import normal_cdf, normal_quantile


@pytest.mark.parametrize("z", [-30.0, -8.3, -1.0, 0.0, 1e-9, 2.5, 40.0])
def test_distribution_function_keeps_its_digits_in_the_tails(z: float) -> None:
    assert normal_cdf(z) == pytest.approx(ndtr(z), rel=1e-12, abs=0)


def test_quantiles_are_those_of_scipy() -> None:
    # two algorithms of double precision; the conditioning of the quantile itself allows 1e-13 near 0.9999
    probabilities = np.array([1e-300, 1e-12, 0.001, 0.025, 0.3, 0.5, 0.95, 0.975, 0.9999])
    np.testing.assert_allclose([normal_quantile(p) for p in probabilities], ndtri(probabilities), rtol=1e-12, atol=1e-15)
