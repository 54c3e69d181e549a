"""Covariates of a plain sum are built without formulaic, and are its columns to the last digit."""

from __future__ import annotations

from typing import Any

import formulaic
import numpy as np
import pandas as pd
import pytest

from causalms.effects import Design, analyse
from causalms.effects.columns import Covariates, column
from causalms.errors import InputError


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


@pytest.mark.parametrize(
    "use", [{"adjust": "C(site)"}, {"adjust": "site"}, {"design": Design(strata="site")}, {"design": Design(cluster="site")}]
)
def test_levels_that_differ_in_what_nobody_sees_are_refused_with_both_spellings(use: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"arm": ["a", "b"] * 30, "y": rng.poisson(3, 60), "site": np.resize(["N", "S", "n\u200b"], 60)})
    with pytest.raises(InputError, match=r"values of site 'N' and 'n\\u200b' differ only in case, blanks or invisible"):
        analyse(table, outcome="y", reference="a", **use)


def test_a_column_that_differs_in_case_alone_is_proposed() -> None:
    with pytest.raises(InputError, match=r"trial\.csv: no column 'ARM'; did you mean 'arm'\?"):
        column(pd.DataFrame({"arm": ["a"], "y": [1]}), "ARM", "trial.csv")
