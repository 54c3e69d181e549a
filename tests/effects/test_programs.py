"""Programs in R and SAS: what they hold, what they refuse, and that the committed hundred are R's to 1e-6."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from causalms.effects import Analysis, Design, Method, ProgramInput, analyse, r_program, sas_program
from causalms.errors import UsageError

RESULTS = Path(__file__).parents[2] / "studies" / "results" / "reproduced_in_r.csv"
SOURCE = ProgramInput(table="t.csv", exposure="t", adjust="x + C(site)", columns=("y", "arm", "t", "x", "site"))


def _table() -> pd.DataFrame:
    table = pd.DataFrame({"y": [2, 14, 3, 1, 0, 2, 1, 9] * 4, "arm": ["p", "d"] * 16, "t": 1.5, "x": range(32)})
    return table.assign(site=["a", "b", "b", "a"] * 8)


def _analysis(**method: Any) -> Analysis:
    return analyse(_table(), outcome="y", reference="p", exposure="t", adjust="x + C(site)", method=Method(**method))


def test_committed_hundred_analyses_are_those_of_r() -> None:
    """Over estimators, models, variances, measures, strata, clusters, prognosis and score tests; all contrasts of each."""
    table = pd.read_csv(RESULTS)
    assert len(table) == 100
    assert (table["largest_difference"] < 1e-6).all()
    assert {"standardized", "unadjusted", "conditional", "negbin"} <= set(table["estimator"])
    assert {"small-sample", "influence", "hc3", "cr1", "cr3", "model-sas"} <= set(table["variance"])


def test_r_program_has_factors_offset_and_sandwich() -> None:
    text = r_program(_analysis(estimator="negbin", variance="hc3"), SOURCE)
    assert "MASS::glm.nb(y ~ arm + x + factor(site) + offset(log(t))" in text
    assert 'sandwich::vcovHC(fit, type = "HC3")' in text
    assert 'c("y", "arm", "t", "x", "site")' in text


def test_sas_program_has_classes_offset_and_empirical_variance() -> None:
    text = sas_program(_analysis(estimator="negbin", variance="hc0"), SOURCE)
    assert "class arm(ref='p') site row_ / param=ref;" in text
    assert "model y = arm x site / dist=negbin link=log offset=log_t alpha=0.05;" in text
    assert "repeated subject=row_;" in text


def test_sas_program_of_a_linear_coefficient_is_of_proc_glm() -> None:
    table = pd.DataFrame({"y": [2.5, 4, 3, 1, 0, 2, 1, 5] * 4, "arm": ["p", "d"] * 16})
    analysis = analyse(table, outcome="y", reference="p", measure="mean-difference", method=Method(estimator="conditional"))
    text = sas_program(analysis, ProgramInput(table="t.tsv", trial="A", columns=("y", "arm", "trial")))
    assert "proc glm data=d;\n  class arm(ref='p');\n  model y = arm / solution clparm alpha=0.05;" in text
    assert "dbms=tab" in text
    assert "  where trial = 'A';" in text


def test_sas_reads_products_of_a_formula_as_the_formula_means_them() -> None:
    text = sas_program(_analysis(estimator="negbin"), replace(SOURCE, adjust="x*C(site)", columns=("y", "arm", "t", "x", "site")))
    assert "model y = arm x|site / dist=negbin" in text  # in SAS x*site is the product alone
    text = sas_program(_analysis(estimator="negbin"), replace(SOURCE, adjust="x + x:C(site)"))
    assert "model y = arm x x*site / dist=negbin" in text


def test_sas_program_of_means_has_every_step_that_its_variance_needs() -> None:
    small = sas_program(_analysis(), SOURCE)
    assert "a_ = whichc(arm, 'p', 'd'); if a_ = 0 then delete;" in small
    assert "proc glmmod data=d outdesign=x noprint;\n  class site;\n  model y_ = x site;" in small
    assert "start slope_alpha(" in small
    assert "res = left;" in small
    alone = analyse(
        _table(), outcome="y", reference="p", exposure="t", method=Method(estimator="unadjusted", variance="influence")
    )
    plain = sas_program(alone, replace(SOURCE, adjust=None))
    assert "glmmod" not in plain
    assert "slope_alpha" not in plain
    assert "res = u;" in plain
    names = re.findall(r"\b[A-Za-z]\w*\b(?= = )", small)
    assert len({name.lower() for name in names}) == len(set(names))  # SAS knows no case


def test_quotes_in_the_names_of_arms_stay_inside_the_strings_of_a_program() -> None:
    table = _table().replace({"arm": {"p": "p'l\"a"}})
    analysis = analyse(table, outcome="y", reference="p'l\"a")
    source = ProgramInput(table="t.csv", columns=("y", "arm"))
    assert "whichc(arm, 'p''l\"a', 'd')" in sas_program(analysis, source)
    assert 'arms <- c("p\'l\\"a", "d")' in r_program(analysis, source)


def test_the_matrix_steps_of_sas_gave_the_same_numbers_in_octave() -> None:
    table = pd.read_csv(RESULTS.with_name("sas_in_octave.csv"))
    assert len(table) == 11
    assert (table["largest_difference"] < 1e-9).all()


def test_every_kind_of_row_has_an_r_program() -> None:
    small = r_program(_analysis(), SOURCE)  # the default: standardised rate ratio in small arms
    assert "dispersion <- function(y, m)" in small
    assert "jackknife" not in small
    assert "vcovCR(fit, d$site" in r_program(
        analyse(_table(), outcome="y", reference="p", design=Design(cluster="site"), method=Method(estimator="negbin")),
        ProgramInput(table="t.csv", cluster="site"),
    )
    assert 'd <- d[d$trial == "A", ]' in r_program(_analysis(), replace(SOURCE, trial="A"))


def test_what_has_no_program_is_refused() -> None:
    with pytest.raises(UsageError, match="bootstrap draws or ranks"):
        r_program(_analysis(variance="bootstrap", replicates=200), SOURCE)
    with pytest.raises(UsageError, match="means have influence, leave-one-out and small-sample"):
        sas_program(_analysis(variance="hc3"), SOURCE)
    with pytest.raises(UsageError, match="none for `variance=hc3`"):
        sas_program(_analysis(estimator="negbin", variance="hc3"), SOURCE)
    with pytest.raises(UsageError, match="'bs\\(' in `adjust` differs between languages"):
        r_program(_analysis(), replace(SOURCE, adjust="bs(x, df=3)"))


def test_an_interaction_that_an_arm_cannot_tell_is_left_out_as_in_r() -> None:
    """No pupil of F3 learns slowly: R gives 0.7100128337673, se 0.261821503659 (leave-one-out, first contrast)."""
    quine = pd.read_csv(RESULTS.parents[2] / "tests" / "oracles" / "quine.csv")
    method = Method(interaction=True, variance="leave-one-out", working_model="poisson")
    analysis = analyse(quine, outcome="Days", arm="Age", reference="F0", adjust="C(Lrn) + C(Eth)", method=method)
    row = analysis.results.iloc[0]
    assert [row.estimate, row.se] == pytest.approx([0.710012833767, 0.261821503659], rel=1e-9)
    assert (analysis.results["se"] < 1).all()
    assert any("interactions of arm and covariate cannot be estimated" in note for note in analysis.notes)
