"""Variances between clusters: clubSandwich's digits, their choice, and their coverage with few clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalms.effects import Design, Method, analyse
from causalms.errors import RefusalError, UsageError
from causalms.subgroups import SubgroupAnalysis, forest

ORACLES = Path(__file__).parents[1] / "oracles"
R_TRUTH = pd.read_csv(ORACLES / "clusters_r.csv")
SITE = Design(cluster="site")
MODELS = {
    "poisson": ("rate-ratio", None),
    "poisson adjusted": ("rate-ratio", "base + age"),
    "logistic adjusted": ("odds-ratio", "base + age"),
    "linear adjusted": ("mean-difference", "base + age"),
    "negbin adjusted": ("rate-ratio", "base + age"),
}


@pytest.fixture(scope="module")
def epil() -> pd.DataFrame:
    """The epilepsy trial with ten made-up sites of unequal size."""
    table = pd.read_csv(ORACLES / "epil_totals.csv")
    table["site"] = table["subject"] % 10 // np.where(table["subject"] % 3 == 0, 2, 1)
    return table.assign(any=(table["y"] > 20).astype(int)).rename(columns={"trt": "arm"})


@pytest.mark.parametrize("row", range(len(R_TRUTH)))
def test_standard_error_and_degrees_of_freedom_match_clubsandwich(epil: pd.DataFrame, row: int) -> None:
    truth = R_TRUTH.iloc[row]
    name = truth["id"]
    if name == "standardized":
        measure, adjust, method = "rate-ratio", "base + age", Method(variance=truth["variance"])
    else:
        measure, adjust = MODELS[name]
        method = Method(estimator="conditional", working_model=name.split()[0], variance=truth["variance"])
    outcome = "any" if name.startswith("logistic") else "y"
    analysis = analyse(epil, outcome=outcome, reference="placebo", measure=measure, adjust=adjust, design=SITE, method=method)
    contrast = analysis.contrasts[0]
    value = contrast.estimate if measure == "mean-difference" else np.log(contrast.estimate)
    # glm.nb stops at a change of 1e-8 in theta; glm keeps the weights of its last step but one
    digits = {"rel": 2e-6 if name.startswith("negbin") else 1e-7}
    assert value == pytest.approx(truth["estimate"], **digits)
    assert contrast.se == pytest.approx(truth["se"], **digits)
    assert contrast.p_value == pytest.approx(2 * stats.t.sf(abs(truth["estimate"] / truth["se"]), truth["df"]), rel=1e-5)


@pytest.mark.parametrize(
    ("method", "design", "words"),
    [
        (Method(variance="hc3"), SITE, "`variance=hc3` takes patients as independent; with `cluster` use cr1, cr2 or cr3"),
        (Method(variance="bootstrap"), SITE, "with `cluster` use cr1, cr2 or cr3"),
        (Method(variance="cr3"), Design(), "name their column with `cluster`"),
        (Method(variance="cr2"), SITE, "`variance=cr2` is for coefficients"),
        (Method(test="score"), SITE, "leave out `test`"),
    ],
)
def test_a_variance_and_clusters_that_contradict_each_other_are_refused(
    epil: pd.DataFrame, method: Method, design: Design, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        analyse(epil, outcome="y", reference="placebo", design=design, method=method)


def test_few_clusters_are_noted_and_the_variance_is_named(epil: pd.DataFrame) -> None:
    analysis = analyse(epil, outcome="y", reference="placebo", design=SITE)
    assert (
        analysis.covariance.name == "jackknife, each cluster left out and all refitted, clustered (10 clusters, Satterthwaite t)"
    )
    assert any(note.startswith("10 clusters: below 30 an interval leans") for note in analysis.notes)


def test_the_jackknife_of_plain_arm_means_is_exact_for_clusters_of_one_size() -> None:
    """One arm a cluster, clusters of equal size: the variance of an arm's mean is that of its cluster means over their number."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"site": np.repeat(np.arange(12), 5)})
    table["arm"] = np.where(table["site"] % 2 == 0, "a", "b")
    table["y"] = rng.normal(size=60) + np.repeat(rng.normal(size=12), 5)
    for estimator in ("unadjusted", "standardized"):
        analysis = analyse(
            table, outcome="y", reference="a", measure="mean-difference", design=SITE, method=Method(estimator=estimator)
        )
        by_site = table.groupby(["arm", "site"])["y"].mean().groupby("arm")
        spread = (by_site.var(ddof=1) / by_site.size()).sum()
        # leaving one of G clusters out of arms of G/2: (G-1)/G (G_a)/(G_a - 1) times the usual variance
        assert analysis.contrasts[0].se ** 2 == pytest.approx(spread * (11 / 12) * (6 / 5), rel=1e-9)


def test_a_cluster_that_no_fit_can_do_without_is_named() -> None:
    table = pd.DataFrame({"arm": ["a", "b"] * 12, "site": np.repeat([0, 1, 2, 3], 6), "y": [1, 0] * 9 + [1, 2] * 3})
    with pytest.raises(RefusalError, match=r"without cluster '3' .* no event.*merge clusters, or use `variance=cr1`"):
        analyse(table, outcome="y", reference="a", design=SITE)


def test_clusters_of_subgroups_are_honoured(epil: pd.DataFrame) -> None:
    for method in (SubgroupAnalysis(cluster="site"), SubgroupAnalysis(cluster="site", estimator="negbin")):
        table = forest(epil, ["age > 28"], outcome="y", reference="placebo", method=method).table
        alone = analyse(epil, outcome="y", reference="placebo", design=SITE, method=Method(estimator=method.estimator))
        assert table["se"].iloc[0] == pytest.approx(alone.contrasts[0].se, rel=1e-12)
        assert table["variance"].str.contains("clustered").all()


def test_the_jackknife_covers_with_eight_clusters_where_sums_do_not() -> None:
    """60 trials at 95%: 0.001 quantile of a binomial 51; `studies/results/cluster_coverage.csv` has 2,000 repetitions."""
    held = {"cr1": 0, "cr3": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        table = pd.DataFrame({"site": np.repeat(np.arange(8), 15)})
        table["arm"] = np.where(table["site"] % 2 == 0, "a", "b")
        table["z"] = rng.normal(size=120) + np.repeat(rng.normal(size=8), 15)
        table["y"] = rng.poisson(np.exp(1 + 0.3 * table["z"] + np.repeat(rng.normal(0, 0.4, 8), 15)))
        for variance in held:
            line = analyse(
                table, outcome="y", reference="a", adjust="z", design=SITE, method=Method(variance=variance)
            ).contrasts[0]
            held[variance] += line.lower <= 1 <= line.upper
    assert held["cr3"] >= 51
    assert held["cr1"] < held["cr3"]
