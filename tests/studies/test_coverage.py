"""Coverage of simulated ratios, the committed study at the size of a test: generators learned from a few hundred patients."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.generator.configurations import COVARIATES
from causalms.stats import HeldOutCounts, update_error_model
from studies.coverage import Population, judged, trained, under

ARMS, GENERATORS = 3, 8


def population(n: int) -> Population:
    """Patients of whom a column and an image signal tell the rate; arms at .6 and .3 of the reference."""
    rng = np.random.default_rng(3)
    columns, signals = rng.normal(size=(n, len(COVARIATES))), rng.normal(size=(n, 6))
    columns[:, COVARIATES.index("gd_lesions")] = np.log1p(rng.poisson(0.5, n))
    patient = 0.4 * columns[:, 0] + 0.4 * signals[:, 0]
    return Population(columns, signals, np.log([6.0, 3.6, 1.8]) + patient[:, None])


@pytest.fixture(scope="module")
def judgements() -> dict[str, list[bool]]:
    people, found = population(4000), {}
    for number in range(GENERATORS):
        rng = np.random.default_rng([14, number])
        counts, error = trained(people, 500, rng, folds=3)
        new = people.some(400, rng)
        for what, holds, _ in judged(new, counts.log_expected(new), error, people, None):
            found.setdefault(what, []).append(holds)
        for name, shift in (("in design", 0.0), ("another law", 1.5)):
            true, _, _ = under("in design", people, rng)
            own, arm = true.some(240, rng), rng.integers(0, ARMS, 240)
            observed = Population(own.columns, own.signals, own.log_rate + np.array([0, 0, shift])).counts(arm, rng)
            data = HeldOutCounts(observed, arm, counts.log_expected(own), own.error_columns, error.sizes, np.zeros(240, int))
            found.setdefault(name, []).append(update_error_model(error, data).dropped)
    return found


def test_the_interval_holds_the_truth_and_the_one_without_the_models_error_does_not(judgements: dict[str, list[bool]]):
    """16 contrasts of 8 generators, nominal .95: three binomial errors of .05; without the model's error next to none holds."""
    assert np.mean(judgements["population ratio"]) >= 0.8
    assert np.mean(judgements["subgroup ratio"]) >= 0.85
    assert np.mean(judgements["population ratio, given the model"]) <= 0.5


def test_no_modification_is_invented(judgements: dict[str, list[bool]]):
    """16 interaction tests at 5% where nothing modifies: at most 3 reject with probability .99."""
    assert sum(judgements["interaction test rejects"]) <= 3


def test_own_counts_drop_the_error_model_under_another_law_only(judgements: dict[str, list[bool]]):
    """An arm at 4.5 times its rate is seen in every trial of 240; of 8 of the design, at .02, at most 1 is contradicted."""
    assert all(judgements["another law"])
    assert sum(judgements["in design"]) <= 1
