"""Small arms of counts: the small-sample variance by default, and a Poisson model that its own residuals contradict."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.effects import Method, analyse
from causalms.effects.variance import SMALL_ARM

OVER = "overdispersed: chi-square / df"


def counts(per_arm: int, dispersion: float = 2.0) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    arm = np.repeat(["placebo", "drug"], per_arm)
    rate = np.where(arm == "drug", 1.5, 3.0)
    y = rng.poisson(rate * (rng.gamma(1 / dispersion, dispersion, len(arm)) if dispersion else 1.0))
    return pd.DataFrame({"y": y, "arm": arm, "score": rng.normal(size=len(arm))})


def test_counts_of_small_arms_have_the_small_sample_variance_and_say_so() -> None:
    table = counts(SMALL_ARM - 1)
    default = analyse(table, outcome="y", reference="placebo")
    named = analyse(table, outcome="y", reference="placebo", method=Method(variance="small-sample"))
    assert default.contrasts == named.contrasts
    assert default.results["variance"][0].startswith("small-sample")
    said = f"the smallest arm has {SMALL_ARM - 1} patients: small-sample variance, the default for counts below {SMALL_ARM}"
    assert said in default.notes
    assert said not in named.notes


@pytest.mark.parametrize("method", [Method(variance="influence"), Method(variance="hc3-t")], ids=["influence", "hc3-t"])
def test_a_named_variance_overrules_the_default_of_small_arms(method: Method) -> None:
    row = analyse(counts(30), outcome="y", reference="placebo", method=method).results.iloc[0]
    assert not row.variance.startswith("small-sample")


def test_large_arms_risks_and_means_keep_the_influence_function() -> None:
    large = analyse(counts(SMALL_ARM), outcome="y", reference="placebo")
    risk = analyse(counts(30), outcome="y", reference="placebo", measure="risk-difference")
    mean = analyse(counts(30), outcome="score", reference="placebo", measure="mean-difference")
    assert all(one.results["variance"][0].startswith("influence function") for one in (large, risk, mean))


def test_a_conditional_poisson_model_of_overdispersed_counts_warns() -> None:
    method = Method(estimator="conditional")
    notes = " ".join(analyse(counts(60), outcome="y", reference="placebo", method=method).notes)
    assert OVER in notes
    robust = Method(estimator="conditional", variance="hc3")
    assert OVER not in " ".join(analyse(counts(60), outcome="y", reference="placebo", method=robust).notes)
    poisson = analyse(counts(60, dispersion=0.0), outcome="y", reference="placebo", method=method)
    assert OVER not in " ".join(poisson.notes)
