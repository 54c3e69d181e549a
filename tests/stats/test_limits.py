"""The maximum at infinity: found by its definition, whatever the coding of the columns."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.errors import RefusalError
from causalms.stats import fit_model, fit_or_limit


def test_predictions_do_not_depend_on_the_coding() -> None:
    rng = np.random.default_rng(2)
    level, x = rng.integers(0, 4, 200), rng.normal(size=200)
    y = rng.poisson(np.exp(0.5 * x) * (level != 2)).astype(float)
    indicators = np.eye(4)[level]
    X = np.column_stack([indicators, x])
    mixed = X @ rng.normal(size=(5, 5))
    first, second = fit_or_limit("poisson", X, y), fit_or_limit("poisson", mixed, y)
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-8, atol=1e-12)
    assert (first.mean == 0).tolist() == (level == 2).tolist()
    rest = level != 2
    np.testing.assert_allclose(first.mean[rest], fit_model("poisson", X[rest][:, [0, 1, 3, 4]], y[rest]).mean, rtol=1e-9)


def test_predictions_of_a_logistic_fit_are_0_and_1_where_levels_have_only_one_outcome() -> None:
    level = np.repeat([0, 1, 2], 10)
    y = np.where(level == 0, np.arange(30) % 2, level == 1).astype(float)
    fit = fit_or_limit("logistic", np.column_stack([np.ones(30), level == 1, level == 2]).astype(float), y)
    np.testing.assert_allclose(fit.mean, np.repeat([0.5, 1, 0], 10), rtol=1e-10)


def test_a_table_with_a_maximum_is_fitted_as_before() -> None:
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(50), rng.normal(size=50)])
    y = rng.poisson(2, 50).astype(float)
    fit = fit_or_limit("poisson", X, y)
    assert fit.limit is None
    assert np.array_equal(fit.coefficients, fit_model("poisson", X, y).coefficients)


def test_complete_separation_has_no_limit() -> None:
    x = np.arange(20.0)
    with pytest.raises(RefusalError, match="separate"):
        fit_or_limit("logistic", np.column_stack([np.ones(20), x]), (x > 9).astype(float))
