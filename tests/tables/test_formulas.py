"""Formulas are read by a grammar: as the formula library has them, and nothing else is let through."""

from __future__ import annotations

import formulaic
import numpy as np
import pandas as pd
import pytest

from causalms.errors import UsageError
from causalms.tables.formulas import formula


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 60
    return pd.DataFrame(
        {
            "age": rng.normal(40, 8, n),
            "edss": rng.integers(0, 9, n) / 2,
            "site": rng.choice(["S1", "S2", "S3"], n),
            "sex": rng.choice(["F", "M"], n),
        }
    )


@pytest.mark.parametrize(
    "text",
    [
        "age",
        "age + C(site)",
        "age + site",
        "age * sex",
        "age * sex - age",
        "(age + edss) ** 2",
        "(age + sex):site",
        "age / sex",
        "bs(age, df=4)",
        "cr(age, df=3) + sex",
        "poly(age, degree=2)",
        "scale(age) + center(edss)",
        "I(age ** 2) + I(age - (edss - 1))",
        "log(age + 1) + exp(edss / 10)",
        "0 + age",
        "1",
        "~ age + sex",
    ],
)
def test_a_formula_gives_the_librarys_own_columns(people: pd.DataFrame, text: str) -> None:
    expected = pd.DataFrame(formulaic.model_matrix(f"~ {text.removeprefix('~')}", people)).astype(float)
    expected = expected.drop(columns="Intercept", errors="ignore")
    design = formula(text, people).matrix(people)
    assert design.columns.tolist() == expected.columns.tolist()
    np.testing.assert_array_equal(design.to_numpy(), expected.to_numpy())


def test_functions_that_the_library_lacks_are_numpys(people: pd.DataFrame) -> None:
    design = formula("log1p(edss) + sqrt(edss)", people).matrix(people)
    np.testing.assert_array_equal(design.to_numpy(), np.column_stack([np.log1p(people["edss"]), np.sqrt(people["edss"])]))
    groups = formula("C(quantiles(age, 3))", people).matrix(people)
    assert groups.sum().tolist() == [20.0, 20.0]


@pytest.mark.parametrize("name", ["age.bl", "1st", "C", "Q", "log", "Intercept", "a b", "ålder", "and", "x:y"])
def test_any_column_name_stands_in_backticks_and_keeps_its_name(people: pd.DataFrame, name: str) -> None:
    table = people.rename(columns={"age": name})
    design = formula(f"`{name}` + edss", table).matrix(table)
    assert design.columns.tolist() == [name, "edss"]
    np.testing.assert_array_equal(design[name].to_numpy(), people["age"].to_numpy())


def test_a_dotted_name_needs_no_backticks(people: pd.DataFrame) -> None:
    table = people.rename(columns={"age": "age.bl"})
    assert formula("age.bl + sex", table).columns == ("age.bl", "sex")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{open('x', 'w') or age}", r"found '\{' at letter 1"),
        ("np.savetxt('ran', [1])", "'np.savetxt' at letter 1 cannot be called"),
        ("age.__class__", "no column 'age.__class__'"),
        ("@age", "found '@' at letter 1"),
        ("age + eval('1')", "'eval' at letter 7 cannot be called"),
        ("C(site)[0]", "found '\\[' at letter 8"),
        ("C(site).x", "found '.' at letter 8"),
        ("age ; sex", "found ';' at letter 5"),
        ("y ~ age", "no column 'y'"),
        ("age + sxe", "did you mean 'sex'"),
        ("bs(age, df=__import__('os'))", "'__import__' at letter 12 cannot be called"),
        ("lambda: 1", "no column 'lambda'"),
        ("age +", "found 'the end'"),
        ("(" * 50 + "age" + ")" * 50, "nested more than 40 deep"),
        ("age + " * 1000 + "age", "at most 4000"),
    ],
)
def test_everything_else_is_refused_with_its_place(people: pd.DataFrame, text: str, found: str) -> None:
    with pytest.raises(UsageError, match=found) as refused:
        formula(text, people)
    assert "\n" not in str(refused.value)


def test_values_that_do_not_fit_are_said_by_the_names_of_the_user(people: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="cannot be evaluated on this table"):
        formula("log(site)", people).matrix(people)
