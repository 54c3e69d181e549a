"""Values keep their names: arms, groups, levels and weeks are called what the file calls them, and no two share a name."""

import numpy as np
import pandas as pd
import pytest

from causalms.effects import estimate
from causalms.errors import InputError, UsageError
from causalms.subgroups import forest
from causalms.tables import (
    arm_order,
    contrast_population,
    formula,
    grouping,
    name_of,
    names_of,
    one_week,
    participant_key,
    percent_in_full,
)


def test_a_patient_without_identifier_is_named_by_row():
    for blank in (None, np.nan):
        with pytest.raises(InputError, match=r"column 'participant_id', row 2: .* identifier.*; fill it in or leave the row out"):
            participant_key(pd.Series(["a", blank, "b"], name="participant_id"))


def people(n=240):
    rng = np.random.default_rng(7)
    arm = np.resize([0, 1], n)
    return pd.DataFrame(
        {
            "arm": arm,
            "y": rng.poisson(np.where(arm == 0, 3.0, 1.5)),
            "site": rng.choice([1000001, 1000002], n),
            "dose": rng.choice([0.1234561, 0.1234562], n),
            "card": rng.choice([12345678901234567, 12345678901234568], n),
        }
    )


@pytest.mark.parametrize(
    ("column", "groups"),
    [
        ("site", ("site = 1000001", "site = 1000002")),
        ("dose", ("dose = 0.1234561", "dose = 0.1234562")),
        ("card", ("card = 12345678901234567", "card = 12345678901234568")),
    ],
)
def test_values_that_agree_in_six_digits_are_two_groups(column, groups):
    table = people()
    grouped = grouping(table, column)
    assert grouped.groups == groups
    assert [len(grouped.rows(group)) for group in groups] == table[column].value_counts().sort_index().tolist()


def test_a_missing_cell_elsewhere_does_not_rename_arms_sites_or_levels():
    whole = people()
    holed = whole.astype({"arm": float, "site": float})
    holed.loc[240] = [np.nan, 2, np.nan, 0.1234561, 12345678901234567]
    forests = [forest(t, ["site"], outcome="y", reference="0").table[["subgroup", "arm", "estimate"]] for t in (whole, holed)]
    pd.testing.assert_frame_equal(*forests)
    names = [formula("C(site)", t).fit(t.dropna()).names for t in (whole, holed)]
    assert names[0] == names[1] == ("C(site)[T.1000002]",)
    assert formula("C(site):dose", holed).fit(holed.dropna()).names == formula("C(site):dose", whole).fit(whole).names
    rows = estimate(holed, outcome="y", reference="0").results
    assert rows[["arm", "reference"]].values.tolist() == [["1", "0"]]


def test_arms_and_trials_read_as_floats_are_found_by_their_whole_number():
    table = pd.DataFrame({"trial": [1.0, 1.0, 2.0, None], "arm": [0.0, 1.0, 1.0, 0.0]})
    population = contrast_population(table, "1", "0")
    assert population.trials == ("1",)
    assert population.left_out_trials == ("", "2")
    assert arm_order(table["arm"], "1") == ("1", "0")


def test_a_week_is_listed_so_that_it_can_be_typed_again():
    week = 338 / 7
    draws = pd.DataFrame({"visit_week": [week, 96.0]})
    with pytest.raises(UsageError, match=f"weeks {week!r}, 96; choose one"):
        one_week(draws)
    assert one_week(draws, float(repr(week))) == week


def test_a_value_in_a_message_is_the_value_of_the_file():
    table = people().assign(y=lambda t: t["y"].astype(float))
    table.loc[5, "y"] = 1000000.5
    with pytest.raises(Exception, match=r"row 6: found 1000000\.5, expected a count"):
        estimate(table, outcome="y", reference="0")


def test_a_confidence_level_is_printed_in_full():
    assert "99.99999% CI" in str(estimate(people(), outcome="y", reference="0", level=0.9999999))
    assert percent_in_full(0.975) == "97.5%"
    assert percent_in_full(2 * 0.95 - 1) == "90%"
    assert "(97.5% interval)" in str(forest(people(), ["site"], outcome="y", reference="0", level=0.975))


def test_labels_of_groups_are_printed_whole():
    long = people().rename(columns={"dose": "dose_of_the_first_infusion_in_mg"})
    printed = str(forest(long, ["dose_of_the_first_infusion_in_mg"], outcome="y", reference="0"))
    assert "dose_of_the_first_infusion_in_mg = 0.1234561 " in printed
    assert "dose_of_the_first_infusion_in_mg = 0.1234562 " in printed


def test_names_of_keeps_missing_cells_missing_and_text_as_it_is():
    assert names_of(pd.Series(["None", None, " drug ", 2.0], dtype=object)).tolist() == ["None", None, "drug", "2"]
    assert name_of(np.float32(0.1)) == "0.1"
