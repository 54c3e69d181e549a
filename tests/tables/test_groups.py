"""Conditions on columns: three-valued, with texts and numbers kept apart, and no code."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.errors import InputError, UsageError
from causalms.tables import grouping
from causalms.tables.groups import rows_where

PEOPLE = pd.DataFrame(
    {"age": [30.0, 45.0, np.nan, 50.0], "sex": ["F", "M", "F", None], "site": [1000001, 1000002, 1000001, 3], "C": [0, 1, 2, 3]}
)


@pytest.mark.parametrize(
    ("text", "true", "unknown"),
    [
        ("age >= 40", [0, 1, 0, 1], [0, 0, 1, 0]),
        ("age >= 40 and sex == 'M'", [0, 1, 0, 0], [0, 0, 1, 1]),
        ("age > 40 | C == 0", [1, 1, 0, 1], [0, 0, 1, 0]),
        ("not (age > 40)", [1, 0, 0, 0], [0, 0, 1, 0]),
        ("~(age > 40) & C < 1", [1, 0, 0, 0], [0, 0, 1, 0]),
        ("30 < age <= 45", [0, 1, 0, 0], [0, 0, 1, 0]),
        ("site in [1000001, 3]", [1, 0, 1, 1], [0, 0, 0, 0]),
        ("site not in (1000001, 3)", [0, 1, 0, 0], [0, 0, 0, 0]),
        ("sex in ['F']", [1, 0, 1, 0], [0, 0, 0, 1]),
        ("log1p(C) ** 2 - 1 > -C / 2 + 0.5 * (C - 1)", [0, 0, 0, 0], [0, 0, 0, 0]),
        ("`C` % 2 == 1", [0, 1, 0, 1], [0, 0, 0, 0]),
        ("C > -1", [1, 1, 1, 1], [0, 0, 0, 0]),
    ],
)
def test_a_condition_is_true_false_or_unknown(text: str, true: list[int], unknown: list[int]) -> None:
    met, lacking = rows_where(PEOPLE, text)
    assert lacking.astype(int).tolist() == unknown
    if "log1p" in text:
        values = PEOPLE["C"].to_numpy(float)
        true = (np.log1p(values) ** 2 - 1 > -values / 2 + 0.5 * (values - 1)).astype(int).tolist()
    assert met.astype(int).tolist() == true


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("age > 40 + 0*@pd.io.common.os.system('touch ran')", "found '@' at letter 14"),
        ("age", "gives no true or false"),
        ("age + 1", "gives no true or false"),
        ("1 < 2", "gives no true or false"),
        ("sex > 3", "a text is compared with a number"),
        ("site == '3'", "a text is compared with a number"),
        ("sex + 1 > 2", "column 'sex' holds text"),
        ("age and sex == 'F'", "join conditions"),
        ("age in 3", "a list after"),
        ("age in []", "the list after in is empty"),
        ("age >= ４０", "found '４"),
        ("age == 1_000", "expected"),
        ("open('x')", "cannot be called"),
        ("age.mean() > 3", "'age.mean' at letter 1 cannot be called"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        rows_where(PEOPLE, text, "by")


MISSING = pd.DataFrame({"age": [25, 35, 45, 55, None], "sex": ["F", None, "M", "F", "M"], "gd_lesions": [0, 1, 0, 2, 0]})


def test_a_missing_value_is_in_no_group() -> None:
    assert grouping(MISSING, "sex").labels.tolist() == ["sex = F", "", "sex = M", "sex = F", "sex = M"]
    assert grouping(MISSING, "age >= 40").labels.tolist() == ["age < 40", "age < 40", "age >= 40", "age >= 40", ""]
    assert grouping(MISSING, "age >= 40").missing == 1


def test_a_compound_condition_is_negated_as_a_whole() -> None:
    grouped = grouping(MISSING, "gd_lesions > 0 and age > 30")
    assert grouped.groups == ("gd_lesions > 0 and age > 30", "not (gd_lesions > 0 and age > 30)")
    assert grouped.rows("gd_lesions > 0 and age > 30").tolist() == [1, 3]


def test_quantiles_split_evenly_and_name_their_ends() -> None:
    grouped = grouping(MISSING, "quantiles(age, 2)")
    assert grouped.groups == ("age <= 40", "age > 40")
    assert grouped.labels.tolist() == ["age <= 40", "age <= 40", "age > 40", "age > 40", ""]


@pytest.mark.parametrize("text", ["weight > 70", "age + 1", "quantiles(sex, 2)", "quantiles(age, 1)", "age >"])
def test_what_divides_nobody_is_misuse(text: str) -> None:
    with pytest.raises(UsageError, match="`by`"):
        grouping(MISSING, text)


def test_any_column_name_stands_in_backticks() -> None:
    table = MISSING.rename(columns={"age": "age.bl", "sex": "1st"})
    assert grouping(table, "quantiles(`age.bl`, 2)").groups == grouping(table, "quantiles(age.bl, 2)").groups
    assert grouping(table, "`1st`").groups == ("1st = F", "1st = M")
    assert grouping(table, "`age.bl` >= 40").groups == ("`age.bl` >= 40", "`age.bl` < 40")


@pytest.mark.parametrize("by", ["age", "age > 40", "quantiles(age, 2)", "log(age) > 3.5"])
def test_a_word_among_numbers_is_named_by_its_row(by: str) -> None:
    table = pd.DataFrame({"age": ["30", "41", "4o", "50"]})
    with pytest.raises(InputError, match=r"column 'age', row 3: found '4o', expected a number"):
        grouping(table, by)


@pytest.mark.parametrize("by", ["age", "age >= 40", "quantiles(age, 2)"])
def test_words_among_numbers_are_named_with_the_file(by: str) -> None:
    people = pd.DataFrame({"age": ["30", "45", "forty", "50", "61"] * 4})
    with pytest.raises(InputError, match=r"^trial\.csv: column 'age'"):
        grouping(people, by, "trial.csv")
