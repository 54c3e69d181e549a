"""Several contrasts as one family, and margins, against multcomp, t.test and p.adjust (tests/oracles/comparisons.R)."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.effects import Design, Method, analyse, compare_arms, margin_tests
from causalms.errors import RefusalError, UsageError
from causalms.stats import adjusted_p_values, graphical_p_values

ORACLES = Path(__file__).parents[1] / "oracles"
TRUTH = pd.read_csv(ORACLES / "comparisons_r.csv")
LM = Method(estimator="conditional", variance="model-r")
POISSON = Method(estimator="conditional", working_model="poisson", variance="model-r")


def quine(measure: str, method: Method, adjust: str | None = None):
    table = pd.read_csv(ORACLES / "quine.csv")
    return analyse(table, outcome="Days", arm="Age", reference="F0", measure=measure, adjust=adjust, method=method)


@pytest.mark.parametrize("kind", ["Dunnett", "Tukey"])
@pytest.mark.parametrize("model", ["linear", "poisson"])
def test_single_step_p_values_and_intervals_are_those_of_multcomp(model: str, kind: str) -> None:
    """p to 2e-5, the error of both integrals; limits to 2e-3, that of multcomp's critical value (its tolerance is 1e-3)."""
    analysis = quine("mean-difference", LM) if model == "linear" else quine("rate-ratio", POISSON, "Sex")
    result = compare_arms(analysis, multiplicity=kind.lower()).results
    truth = TRUTH[TRUTH["id"] == f"{model} {kind}"].set_index("pair")
    result = result.set_index(result["arm"] + " - " + result["reference"]).loc[truth.index]
    scale = np.log if model == "poisson" else np.asarray
    np.testing.assert_allclose(scale(result["estimate"]), truth["estimate"], rtol=1e-7)
    np.testing.assert_allclose(result["p_adjusted"], truth["p_value"], atol=2e-5)
    for ours, theirs in (("lower_simultaneous", "lower"), ("upper_simultaneous", "upper")):
        np.testing.assert_allclose(scale(result[ours]), truth[theirs], atol=2e-3 * float((truth["upper"] - truth["lower"]).max()))


def test_pairs_with_the_reference_are_the_contrasts_of_the_analysis() -> None:
    """A standardized analysis, whose contrasts have degrees of freedom of their own."""
    analysis = quine("rate-ratio", Method(), "Sex")
    pairs = compare_arms(analysis, all_pairs=True).results
    own = pairs[pairs["reference"] == "F0"].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, analysis.results, check_exact=False, rtol=1e-12)
    by_other = analyse(
        pd.read_csv(ORACLES / "quine.csv"), outcome="Days", arm="Age", reference="F1", adjust="Sex", method=Method()
    ).results
    shared = by_other[by_other["arm"] == "F3"].iloc[0]
    row = pairs[(pairs["arm"] == "F3") & (pairs["reference"] == "F1")].iloc[0]
    assert [row.estimate, row.se, row.p_value] == pytest.approx([shared.estimate, shared.se, shared.p_value], rel=1e-9)


def test_hommel_is_that_of_r() -> None:
    truth = TRUTH[TRUTH["id"] == "hommel"]
    np.testing.assert_allclose(adjusted_p_values(truth["estimate"], "hommel"), truth["p_value"], rtol=1e-9)


def test_graph_of_holm_and_of_a_fixed_sequence_are_these() -> None:
    p = np.array([0.04, 0.01, 0.03])
    complete = (np.ones((3, 3)) - np.eye(3)) / 2
    np.testing.assert_allclose(graphical_p_values(p, np.full(3, 1 / 3), complete), adjusted_p_values(p, "holm"))
    chain = np.array([[0.0, 1, 0], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_allclose(
        graphical_p_values(p, np.array([1.0, 0, 0]), chain), adjusted_p_values(p, "fixed-sequence"), rtol=1e-12
    )


def test_graph_is_the_closed_test_of_weighted_bonferroni() -> None:
    """Every intersection by brute force: its weights are those left when the other hypotheses are taken out, in any order."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        p, w, G = rng.uniform(0, 0.2, 3), rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(2), 3)
        transitions = np.array([[0, *G[0]], [G[1, 0], 0, G[1, 1]], [*G[2], 0]])
        closed = np.zeros(3)
        for inside in list(product([False, True], repeat=3))[1:]:
            weights, graph = w.copy(), transitions.copy()
            for out in np.flatnonzero(~np.array(inside)):
                new, left = np.zeros((3, 3)), [k for k in range(3) if k != out]
                for k, other in product(left, left):
                    if k != other and graph[k, out] * graph[out, k] < 1:
                        share = graph[k, other] + graph[k, out] * graph[out, other]
                        new[k, other] = share / (1 - graph[k, out] * graph[out, k])
                weights = weights + weights[out] * graph[out]
                weights[out], graph = 0.0, new
            members = np.flatnonzero(inside)
            value = min(1.0, min(p[j] / weights[j] for j in members))
            closed[members] = np.maximum(closed[members], value)
        np.testing.assert_allclose(graphical_p_values(p, w, transitions), closed, rtol=1e-9)


def test_one_sided_p_values_against_a_margin_are_those_of_t_test() -> None:
    table = pd.read_csv(ORACLES / "quine.csv").query("Age in ('F0', 'F1')")
    analysis = analyse(table, outcome="Days", arm="Age", reference="F0", measure="mean-difference", method=LM)
    less, more = TRUTH[TRUTH["id"] == "margin"]["p_value"]
    assert margin_tests(analysis, 4, "non-inferiority")[0].p_value == pytest.approx(less, rel=1e-8)
    assert margin_tests(analysis, -4, "non-inferiority")[0].p_value == pytest.approx(more, rel=1e-8)
    assert margin_tests(analysis, 4, "equivalence")[0].p_value == pytest.approx(max(less, more), rel=1e-8)
    assert margin_tests(analysis, -4, "superiority")[0].p_value == pytest.approx(1 - more, rel=1e-8)


def test_a_claim_is_met_where_the_interval_lies_within_the_margin() -> None:
    analysis = quine("rate-ratio", Method(variance="influence"))
    upper = analysis.results["upper"][0]
    for factor, met in ((1.001, True), (0.999, False)):
        test = margin_tests(analysis, upper * factor, "non-inferiority")[0] if upper * factor > 1 else None
        test = test or margin_tests(analysis, upper * factor, "superiority")[0]
        assert test.met is met


@pytest.mark.parametrize(("margin", "claim"), [(1.0, "superiority"), (-1.0, "equivalence"), (1.2, "sameness")])
def test_margins_without_a_meaning_are_refused(margin: float, claim: str) -> None:
    with pytest.raises(UsageError, match=r"`margin`|`claim`"):
        margin_tests(quine("rate-ratio", Method()), margin, claim)


def test_families_that_are_none_are_refused() -> None:
    analysis = quine("rate-ratio", Method(variance="bootstrap", replicates=100))
    with pytest.raises(UsageError, match="bootstrap"):
        compare_arms(analysis, multiplicity="tukey")
    table = pd.read_csv(ORACLES / "quine.csv").assign(Days=lambda rows: rows["Days"].where(rows["Age"] != "F3", 0))
    silent = analyse(table, outcome="Days", arm="Age", reference="F0", design=Design())
    with pytest.raises(RefusalError, match="no event"):
        compare_arms(silent, all_pairs=True)
    with pytest.raises(RefusalError, match="no standard error"):
        margin_tests(silent, 1.1, "non-inferiority")


def test_the_command_line_prints_the_family_and_the_margin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = pd.DataFrame({"arm": ["F1", "F2", "F3"], "weight": [0.5, 0.5, 0], "F1": [0, 0, 1], "F2": [0, 0, 0], "F3": [1, 1, 0]})
    graph.to_csv(tmp_path / "graph.csv", index=False)
    base = ["effects", str(ORACLES / "quine.csv"), "--outcome", "Days", "--arm", "Age", "--reference", "F0"]
    more = ["--multiplicity", "graphical", "--graph", str(tmp_path / "graph.csv"), "--out", str(tmp_path / "out.csv")]
    with pytest.raises(SystemExit) as stop:
        main([*base, *more, "--margin", "1.1", "--claim", "non-inferiority"])
    assert not stop.value.code
    text = capsys.readouterr().out
    assert "multiplicity  graphical, 3 comparisons" in text
    assert "non-inferiority, F1 vs F0: effect below 1.1" in text
    assert {"p_adjusted", "margin", "claim", "p_margin"} <= set(pd.read_csv(tmp_path / "out.csv"))
