"""Quantiles of sorted values have the bits of numpy's."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.generator.seen import _counted_quantiles
from causalms.stats import median, sorted_quantiles

SHARES = (0.0, 0.02, 0.25, 0.5, 0.9, 1.0)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 999, 1000])
def test_quantiles_have_the_bits_of_numpy(count):
    for values in np.random.default_rng(count).standard_normal((20, count)).astype(np.float32):
        ours = sorted_quantiles(np.sort(values), SHARES)
        assert ours.dtype == np.quantile(values, SHARES).dtype
        assert (ours == np.quantile(values, SHARES)).all()
        assert median(values) == np.median(values)


def test_quantiles_of_counted_indices_are_those_of_the_indices():
    rng = np.random.default_rng(3)
    for counts in rng.integers(0, 40, (50, 30)):
        indices = np.repeat(np.arange(30), counts)
        assert _counted_quantiles(counts, (0.99, 0.01)) == pytest.approx(np.quantile(indices, (0.99, 0.01)), abs=1e-12)
