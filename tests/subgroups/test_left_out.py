"""Whoever is left out of an analysis by subgroup is counted and the column at fault named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.benefit import who_benefits
from causalms.errors import DataNote, RefusalError
from causalms.subgroups import ShrinkageModel, forest, shrink


def people() -> pd.DataFrame:
    """120 patients: two without an outcome, one without an arm, three without a sex."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"participant_id": [f"p{i}" for i in range(120)], "arm": ["a", "b"] * 60})
    table["sex"] = rng.choice(["F", "M"], 120).astype(object)
    table["age"], table["lesions"] = rng.normal(40, 8, 120), rng.poisson(3, 120).astype(float)
    table.loc[[3, 70], "lesions"] = np.nan
    table.loc[9, "arm"] = None
    table.loc[[5, 6, 80], "sex"] = None
    return table


def test_a_forest_says_who_is_left_out_of_all_and_of_each_factor() -> None:
    notes = forest(people(), ["sex"], outcome="lesions", reference="a").notes
    assert notes == (
        "3 of 120 rows left out for a missing value in lesions (2), arm (1): row 4, 10, 71",
        "sex: 3 of 120 patients in no group for a missing value",
    )


def test_the_page_of_a_forest_closes_with_its_notes() -> None:
    text = repr(forest(people(), ["sex"], outcome="lesions", reference="a"))
    assert text.splitlines()[-1] == "note: sex: 3 of 120 patients in no group for a missing value"


def test_a_forest_of_complete_patients_has_no_note() -> None:
    assert forest(people().dropna(), ["sex"], outcome="lesions", reference="a").notes == ()


def test_shrinkage_says_who_is_left_out() -> None:
    with pytest.warns(DataNote, match=r"6 of 120 patients left out .* lesions \(2\), arm \(1\), sex \(3\)"):
        shrink(people(), ["sex"], outcome="lesions", reference="a", model=ShrinkageModel(draws=300, warmup=200))


def test_benefit_says_who_is_left_out() -> None:
    with pytest.warns(DataNote, match=r"benefit: 3 of 120 patients left out for a missing value in lesions \(2\), arm \(1\)"):
        who_benefits(people(), outcome="lesions", reference="a", covariates="age")


def test_a_long_name_of_a_group_that_cannot_be_estimated_is_printed_in_full() -> None:
    table = people().dropna()
    table["place"] = np.where(table.index < 6, "a hospital with a very long name indeed", "elsewhere")
    table.loc[table["place"] != "elsewhere", "lesions"] = 0
    text = repr(forest(table, ["place"], outcome="lesions", reference="a"))
    assert "place = a hospital with a very long name indeed " in text
    assert "not estimable" in text


def test_a_factor_that_is_missing_for_everybody_is_said_to_be() -> None:
    with pytest.raises(RefusalError, match="`by` 'sex': it is missing for every patient; nothing to compare"):
        forest(people().assign(sex=None), ["sex"], outcome="lesions", reference="a")
