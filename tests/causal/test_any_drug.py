"""Drugs that the project never saw: a count model answers every query, the shipped checkpoint refuses and lists its arms."""

from __future__ import annotations

import subprocess
import sys

import pytest

from causalms.causal import CausalModel, Twin, contrasts_with_reference, recalibrated, rung_three_results
from causalms.errors import RefusalError, UsageError

ARMS = ["fingolimod", "teriflunomide"]


@pytest.fixture(scope="module")
def trial(make_participants, make_outcomes, truth):
    """Teriflunomide against fingolimod, counts with rates as placebo and dimethyl fumarate have them in the test's model."""
    import dataclasses

    rates = dataclasses.replace(truth, arms=("teriflunomide", "fingolimod"), log_rates=(1.6, 0.8))
    return make_outcomes(make_participants(120, 5, ("teriflunomide", "fingolimod")), rates, 48, 7)


def test_a_count_model_answers_every_query(trial):
    model = CausalModel.fit_counts(trial)
    draws = model.do(trial, ARMS, draws=4)
    expected = model.do(trial, ARMS, expected=True)
    ratio = contrasts_with_reference(expected, trial, "teriflunomide").iloc[0]
    assert "randomised together in T" in ratio["estimand"]
    assert not ratio["randomised"]
    assert 0.2 < ratio["estimate"] < 0.9  # truth exp(-0.8) = 0.45
    assert set(draws["arm"]) == set(ARMS)
    twins = model.counterfactual(trial, "fingolimod", particles=4, twin=Twin(checked_patients=10))
    assert {"probability of benefit", "composition"} <= set(rung_three_results(model, trial, twins)["measure"])
    moved, recalibration = recalibrated(model, trial, expected)
    assert set(moved["arm"]) == set(ARMS)
    assert recalibration.update.dropped  # a model of counts keeps no error model: wide priors in its place


def test_the_shipped_checkpoint_refuses_other_drugs_in_one_line_that_lists_its_own(trial):
    model = CausalModel.load("reference")
    for ask in (
        lambda: model.do(trial, "teriflunomide", expected=True),
        lambda: model.counterfactual(trial, "fingolimod", particles=1),
    ):
        with pytest.raises(RefusalError) as refused:
            ask()
        assert "\n" not in str(refused.value)
        assert all(arm in str(refused.value) for arm in model.mechanism.arms)
        assert len(model.mechanism.arms) == 6


def test_a_misspelt_argument_is_one_line_with_the_near_name(trial):
    with pytest.raises(UsageError, match="do has no argument 'drwas'; did you mean 'draws'"):
        CausalModel.fit_counts(trial).do(trial, ARMS, drwas=4)


def test_the_room_opens_without_torch_pyro_or_images():
    code = "import sys, causalms.causal; print(sorted({'torch', 'pyro', 'nibabel', 'statsmodels'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_expected_counts_need_neither_torch_nor_pyro(tmp_path, trial):
    trial.to_csv(tmp_path / "trial.csv", index=False)
    code = (
        "import sys, pandas as pd; from causalms.causal import CausalModel; "
        f"t = pd.read_csv({str(tmp_path / 'trial.csv')!r}); "
        "CausalModel.fit_counts(t).do(t, ['fingolimod'], expected=True); print({'torch', 'pyro'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"
