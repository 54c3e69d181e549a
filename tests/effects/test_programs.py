"""Programs in R and SAS: what they hold, what they refuse, and that the committed hundred are R's to 1e-6."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from causalms.effects import Method, ProgramInput, analyse, r_program, sas_program
from causalms.errors import UsageError

RESULTS = Path(__file__).parents[2] / "studies" / "results" / "reproduced_in_r.csv"
SOURCE = ProgramInput(table="t.csv", exposure="t", adjust="x + C(site)", columns=("y", "arm", "t", "x", "site"))


def _analysis(**method: str) -> object:
    table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2, 1, 5] * 4, "arm": ["p", "d"] * 16, "t": 1.5, "x": range(32)})
    table["site"] = ["a", "b", "b", "a"] * 8
    return analyse(table, outcome="y", reference="p", exposure="t", adjust="x + C(site)", method=Method(**method))


def test_committed_hundred_analyses_are_those_of_r() -> None:
    table = pd.read_csv(RESULTS)
    assert len(table) == 100
    assert (table["largest_relative_difference"] < 1e-6).all()


def test_r_program_has_factors_offset_and_sandwich() -> None:
    text = r_program(_analysis(estimator="negbin", variance="hc3"), SOURCE)
    assert "MASS::glm.nb(y ~ arm + x + factor(site) + offset(log(t))" in text
    assert "sandwich::vcovHC(fit, type = 'HC3')" in text
    assert 'c("y", "arm", "t", "x", "site")' in text


def test_sas_program_has_classes_offset_and_empirical_variance() -> None:
    text = sas_program(_analysis(estimator="negbin", variance="hc0"), SOURCE)
    assert "class arm(ref='p') site row_ / param=ref;" in text
    assert "model y = arm x site / dist=negbin link=log offset=log_t alpha=0.05;" in text
    assert "repeated subject=row_;" in text


def test_what_has_no_program_is_refused() -> None:
    with pytest.raises(UsageError, match="written for coefficients"):
        r_program(_analysis(), SOURCE)
    with pytest.raises(UsageError, match="none for `variance=model-sas`"):
        r_program(_analysis(estimator="negbin"), SOURCE)
