"""Who belongs to which prespecified group; the unknown belong to none."""

from __future__ import annotations

import pandas as pd
import pytest

from causalms.errors import InputError, UsageError
from causalms.tables import grouping

PEOPLE = pd.DataFrame({"age": [25, 35, 45, 55, None], "sex": ["F", None, "M", "F", "M"], "gd_lesions": [0, 1, 0, 2, 0]})


def test_a_missing_value_is_in_no_group() -> None:
    assert grouping(PEOPLE, "sex").labels.tolist() == ["sex = F", "", "sex = M", "sex = F", "sex = M"]
    assert grouping(PEOPLE, "age >= 40").labels.tolist() == ["age < 40", "age < 40", "age >= 40", "age >= 40", ""]
    assert grouping(PEOPLE, "age >= 40").missing == 1


def test_a_compound_condition_is_negated_as_a_whole() -> None:
    grouped = grouping(PEOPLE, "gd_lesions > 0 and age > 30")
    assert grouped.groups == ("gd_lesions > 0 and age > 30", "not (gd_lesions > 0 and age > 30)")
    assert grouped.rows("gd_lesions > 0 and age > 30").tolist() == [1, 3]


def test_quantiles_split_evenly_and_name_their_ends() -> None:
    grouped = grouping(PEOPLE, "quantiles(age, 2)")
    assert grouped.groups == ("age <= 40", "age > 40")
    assert grouped.labels.tolist() == ["age <= 40", "age <= 40", "age > 40", "age > 40", ""]


@pytest.mark.parametrize("text", ["weight > 70", "age + 1", "quantiles(sex, 2)", "quantiles(age, 1)", "age >"])
def test_what_divides_nobody_is_misuse(text: str) -> None:
    with pytest.raises(UsageError, match="`by`"):
        grouping(PEOPLE, text)


def test_any_column_name_stands_in_backticks() -> None:
    table = PEOPLE.rename(columns={"age": "age.bl", "sex": "1st"})
    assert grouping(table, "quantiles(`age.bl`, 2)").groups == grouping(table, "quantiles(age.bl, 2)").groups
    assert grouping(table, "`1st`").groups == ("1st = F", "1st = M")
    assert grouping(table, "`age.bl` >= 40").groups == ("`age.bl` >= 40", "`age.bl` < 40")


@pytest.mark.parametrize("by", ["age", "age > 40", "quantiles(age, 2)", "log(age) > 3.5"])
def test_a_word_among_numbers_is_named_by_its_row(by: str) -> None:
    table = pd.DataFrame({"age": ["30", "41", "4o", "50"]})
    with pytest.raises(InputError, match=r"column 'age', row 3: found '4o', expected a number"):
        grouping(table, by)
