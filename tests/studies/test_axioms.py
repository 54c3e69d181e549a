"""Axiom metrics on counterfactual functions whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.causal.evidence import TableTrial
from causalms.errors import UsageError
from studies.known_truth.axioms import absolute, composition, effectiveness, function_of, reversibility

X = np.array([0.0, 2.0, 5.0, 9.0])
SHIFT = {"placebo": 4.0, "drug": 1.0}


def perfect(x, a, b):
    return x + SHIFT[b] - SHIFT[a]


def test_a_shift_by_the_arm_is_perfect_in_every_axiom():
    assert composition(perfect, X, "placebo", times=3) == 0.0
    assert reversibility(perfect, X, "placebo", "drug", times=3) == 0.0
    assert effectiveness(perfect, X, "placebo", "drug", expected_mean=X.mean() - 3.0) == 1.0


def test_the_identity_composes_and_reverses_but_is_not_effective():
    def identity(x, a, b):
        return x

    assert composition(identity, X, "placebo") == reversibility(identity, X, "placebo", "drug") == 0.0
    assert effectiveness(identity, X, "placebo", "drug", expected_mean=1.0) == 4.0


def test_the_mean_of_the_arm_is_effective_but_forgets_the_patient():
    def forget(x, a, b):
        return np.full(len(x), SHIFT[b])

    assert effectiveness(forget, X, "placebo", "drug", expected_mean=1.0) == 1.0
    assert composition(forget, X, "placebo") == pytest.approx(np.abs(X - 4.0).mean())
    assert reversibility(forget, X, "placebo", "drug") == pytest.approx(np.abs(X - 4.0).mean())


def test_rounding_errors_add_up_over_cycles():
    def lossy(x, a, b):
        return perfect(x, a, b) + 0.25

    assert composition(lossy, X, "drug", times=4) == pytest.approx(1.0)
    assert reversibility(lossy, X, "placebo", "drug", times=2) == pytest.approx(1.0)


def test_distance_of_masks_counts_voxels():
    one, other = np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
    other[1, :2, 0] = True
    assert absolute(one, other).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("coupling", ["monotone", "ancestral"])
def test_the_count_mechanism_composes_exactly_and_reverses_better_than_a_redraw(truth, table, coupling):
    trial = TableTrial(table)
    subjects = [truth.prepare(trial, p) for p in table["participant_id"]]
    counts = table["net2_lesions_week48"].to_numpy(float)
    f = function_of(truth, subjects, 48.0, coupling=coupling)
    redraw = function_of(truth, subjects, 48.0, coupling="independent")
    assert composition(f, counts, "placebo") == 0.0
    back, lost = (reversibility(g, counts, "placebo", "dimethyl-fumarate") for g in (f, redraw))
    assert back < 0.7 * lost


def test_metrics_refuse_nonsense():
    with pytest.raises(UsageError, match="at least 1"):
        composition(perfect, X, "drug", times=0)
    with pytest.raises(UsageError, match="at least 1"):
        reversibility(perfect, X, "drug", "placebo", times=0)
    with pytest.raises(UsageError, match="needs a positive one"):
        effectiveness(perfect, X, "drug", "placebo", expected_mean=0.0)
