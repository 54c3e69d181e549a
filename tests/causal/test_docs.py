"""The mechanism that the documentation shows: short, and answering every query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from causalms.causal import CausalModel, Twin, policy, rho_sweep

PAGE = Path(__file__).parents[2] / "docs" / "causal" / "own_mechanism.md"


@pytest.fixture(scope="module")
def mechanism():
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    body = code.split("class PoissonByArm")[1].strip().splitlines()
    assert sum(bool(line.strip()) for line in body) < 20
    names: dict[str, object] = {}
    exec(code, names)
    return names["PoissonByArm"]()


@pytest.fixture
def two_arms(make_participants, make_outcomes, mechanism):
    return make_outcomes(make_participants(12, 3, mechanism.arms), mechanism, 48, 1)


def test_the_page_s_mechanism_answers_every_query(mechanism, two_arms):
    model = CausalModel(mechanism)
    draws = model.do(two_arms, ["placebo", "ocrelizumab", policy("p", [("gd_lesions > 0", "ocrelizumab")], "placebo")], draws=40)
    expected = model.do(two_arms, ["placebo", "ocrelizumab"], expected=True)
    means = draws.groupby("arm")["net2_lesions"].mean()
    closed = expected.groupby("arm")["expected_net2_lesions"].mean()
    assert means["placebo"] == pytest.approx(closed["placebo"], abs=4 * np.sqrt(closed["placebo"] / (12 * 40)))
    for coupling, rho in (("monotone", None), ("independent", None), ("rho", 0.5)):
        twins = model.counterfactual(two_arms, ["placebo", "ocrelizumab"], coupling=coupling, particles=2, twin=Twin(rho=rho))
        values = {row["diagnostic"]: row["value"] for row in twins.attrs["diagnostics"]}
        assert values["composition"] == 0.0
        assert values["invariance"] == 0.0
    sweep = rho_sweep(model, two_arms, ("ocrelizumab", "placebo"), rhos=(0.0, 1.0), draws=20)
    assert sweep.set_index(["rho", "measure"]).loc[(1.0, "harm"), "estimate"] == 0.0
