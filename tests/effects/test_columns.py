"""Covariates of a plain sum are built without formulaic, and are its columns to the last digit."""

from __future__ import annotations

import formulaic
import numpy as np
import pandas as pd
import pytest

from causalms.effects.columns import Covariates


@pytest.mark.parametrize(
    "formula",
    ["age", "age + C(site)", "C(site) + age", "C(code) + age", "age + age", "~ age+C( site )", "C(one) + age", "site + age"],
)
def test_a_sum_of_columns_is_what_formulaic_makes_of_it(formula: str) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {"age": rng.normal(size=40), "site": rng.choice(["S2", "S10", "S1"], 40), "code": rng.integers(8, 12, 40), "one": "x"}
    )
    matrix, names = Covariates.of(table, formula, "table").matrix(np.arange(40))
    theirs = formulaic.model_matrix(f"~ {formula.removeprefix('~')}", table).drop(columns="Intercept")
    assert names == tuple(theirs.columns)
    assert np.array_equal(matrix, theirs.to_numpy(dtype=float))
