"""Formulas are read by a grammar: as the formula library has them, and nothing else is let through."""

from __future__ import annotations

import formulaic
import numpy as np
import pandas as pd
import pytest

from causalms.errors import InputError, UsageError
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
    ("text", "words"),
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
        ("age ~ sex", "found '~' at letter 5, expected only the right-hand side"),
        ("age > 40", "found '>' at letter 5"),
        ("age + 3", "3 is no term"),
        ("bs(age, dff=4)", "did you mean 'df'"),
        ("bs(age, df=100000)", "df of bs must be a whole number from 1 to 100"),
        ("poly(age, degree=sex)", "degree of poly must be a number"),
        ("I(C(site) + 1)", "C gives several columns"),
        ("(age + edss + site + sex) ** 9", "expands to 1953124 terms"),
        ("age + sxe", "did you mean 'sex'"),
        ("bs(age, df=__import__('os'))", "'__import__' at letter 12 cannot be called"),
        ("lambda: 1", "no column 'lambda'"),
        ("age +", "found 'the end'"),
        ("(" * 50 + "age" + ")" * 50, "nested more than 40 deep"),
        ("age + " * 1000 + "age", "at most 4000"),
    ],
)
def test_everything_else_is_refused_with_its_place(people: pd.DataFrame, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        formula(text, people)
    assert "\n" not in str(refused.value)


def test_values_that_do_not_fit_are_said_by_the_names_of_the_user(people: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="column 'site' holds text where a number is needed"):
        formula("log(site)", people).matrix(people)
    with pytest.raises(UsageError, match="'bs\\(age, df=2\\)' cannot be evaluated on this table"):
        formula("bs(age, df=2)", people).matrix(people)


@pytest.mark.parametrize(
    "text",
    [
        *("bs(age, df=4)", "cr(age, df=4)", "cs(age, df=4)", "poly(age, degree=3)", "scale(age)", "center(age)"),
        *("standardize(age)", "C(quantiles(age, 3))", "log1p(scale(age) + 9)", "C(site) * scale(age)"),
        *("I(age > 40) + site", "edss + C(site)"),
    ],
)
def test_knots_means_and_levels_of_the_fit_are_used_on_other_patients(people: pd.DataFrame, text: str) -> None:
    """The rows of some patients are those they have in the table of the fit, whoever else is there."""
    fitted = formula(text, people).fit(people)
    inner = people[people["age"].between(people["age"].quantile(0.2), people["age"].quantile(0.6)) & (people["site"] != "S2")]
    np.testing.assert_allclose(fitted.matrix(inner), fitted.matrix(people).loc[inner.index], rtol=1e-10, atol=1e-12)
    assert fitted.matrix(inner).columns.tolist() == list(fitted.names)


@pytest.mark.parametrize("text", ["C(site)", "site", "C(site) * age", "C(site, levels=['S1', 'S2', 'S3'])"])
def test_a_level_unknown_to_the_fit_is_named(people: pd.DataFrame, text: str) -> None:
    fitted = formula(text, people).fit(people)
    with pytest.raises(InputError, match="'site': level 'S9' is not among those known"):
        fitted.matrix(people.assign(site="S9"))


def test_conditions_stand_inside_i(people: pd.DataFrame) -> None:
    design = formula("I(age >= 40 and sex == 'F') + I(site in ['S1', 'S2']) + I(not edss > 2)", people).matrix(people)
    expected = [(people["age"] >= 40) & (people["sex"] == "F"), people["site"].isin(["S1", "S2"]), ~(people["edss"] > 2)]
    np.testing.assert_array_equal(design.to_numpy(), np.column_stack(expected).astype(float))


def test_text_in_quotes_is_a_value_and_never_code(people: pd.DataFrame, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    odd = "{open('ran', 'w')}"
    table = people.assign(site=people["site"].replace("S2", odd))
    design = formula(f'C(site, levels=["{odd}", "S1", "S3"])', table).matrix(table)
    np.testing.assert_array_equal(design.iloc[:, 0], (people["site"] == "S1").astype(float))
    assert not list(tmp_path.iterdir())
