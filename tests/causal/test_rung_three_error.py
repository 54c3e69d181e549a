"""The model's own error of rung 3: what is printed is the spread over plausible models, in probabilities, bounds and twins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.causal import CausalModel, Twin, benefit_and_harm, individual_effects
from causalms.causal.law_error import CountLaw, joint_bounds, joint_directions
from causalms.effects import given_model
from causalms.tables import MODEL_ERROR, ModelError

ARMS = ["placebo", "dimethyl-fumarate", "ocrelizumab"]


@pytest.fixture(scope="module")
def asked(table):
    """Twins and marginals of a regression of counts, which knows the covariance of its parameters."""
    model = CausalModel.fit_counts(table, 48)
    people = table.head(30)
    twins = model.counterfactual(people, "ocrelizumab", particles=40, twin=Twin(checked_patients=0))
    return twins, model.do(people, ARMS, expected=True)


def test_bounds_err_as_much_as_they_vary_over_plausible_laws():
    """400 redrawn pairs of laws: the spread of their bounds has a relative error of 1 / sqrt(800) = 3.5%."""
    errors = [ModelError("m", "made", 0.1 * np.array(own), 0, 0, log_size=0.15) for own in ([1, 0.5], [1, -0.8])]
    laws = CountLaw(4.0, 0.6, errors[0]), CountLaw(1.5, 0.9, errors[1])
    along = joint_directions({("p", "a"): laws[0], ("p", "b"): laws[1]}, ("p", "a", "b"))
    assert along is not None
    rng, ends = np.random.default_rng(2), []
    for _ in range(400):
        shared, sizes = rng.standard_normal(2), rng.standard_normal(2)
        moved = [law.moved(law.error.log_mean @ shared, 0.15 * size) for law, size in zip(laws, sizes, strict=True)]
        bounds = joint_bounds(moved[0].law, moved[1].law)
        ends.append([getattr(bounds[name], side) for name in ("benefit", "harm", "active") for side in ("lower", "upper")])
    spread = np.std(ends, axis=0, ddof=1)
    wide = spread > 0.005
    assert wide.sum() >= 4
    assert np.linalg.norm(along, axis=1)[wide] == pytest.approx(spread[wide], rel=0.25)


def test_probabilities_and_each_end_of_their_bounds_carry_three_errors(asked):
    rows = benefit_and_harm(*asked, "ocrelizumab", "placebo", "monotone")
    assert rows["se_generator"].notna().all()
    assert (rows["se_generator"] > 0.01).sum() >= 6  # a bound of nearly 0 does not move
    assert rows["variance"].str.contains("the model's own error (from 60 patients of the regression)", regex=False).all()
    total = np.sqrt((rows[["se_patient", "se_generator", "se_monte_carlo"]].fillna(0) ** 2).sum(axis=1))
    assert rows["se"].to_numpy() == pytest.approx(total.to_numpy(), rel=1e-6)
    assert ((rows["lower"] <= rows["estimate"]) & (rows["estimate"] <= rows["upper"])).all()
    assert rows["lower"].min() >= 0
    assert rows["upper"].max() <= 1
    assert rows["p_value"].isna().all()
    narrow = given_model(rows)
    assert (narrow["se"] <= rows["se"]).all()


def test_every_patient_carries_it_and_marginals_without_it_leave_it_unknown(asked):
    twins, marginals = asked
    found = individual_effects(twins, marginals)
    for name in ("benefit", "harm", "active", "lesions"):
        own = found[[f"{name}_se_generator", f"{name}_lower_se_generator", f"{name}_upper_se_generator"]]
        assert np.isfinite(own).all(axis=None)
        assert own.max(axis=None) > 0
    unknown = individual_effects(twins, pd.DataFrame(marginals.drop(columns=MODEL_ERROR)))
    assert unknown["benefit_se_generator"].isna().all()
    assert unknown["benefit"].tolist() == found["benefit"].tolist()


def test_worlds_that_share_nothing_owe_no_error_of_the_twin_to_the_factual_law(asked):
    """The factual law's level has no part in an unrelated twin: the error of its mean is that of the other arm's mean alone."""
    found = individual_effects(*asked, coupling="independent").iloc[0]
    cell = asked[1].set_index(["participant_id", "arm"]).loc[(found["participant_id"], "ocrelizumab")]
    expected = cell["expected_net2_lesions"] * np.linalg.norm(ModelError.read(cell[MODEL_ERROR]).log_mean)
    assert found["lesions_se_generator"] == pytest.approx(expected, rel=0.01)
