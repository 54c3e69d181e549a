"""A copy of the arm or of the outcome is no covariate; an honest covariate is never taken for one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.errors import InputError
from causalms.tables import refuse_copies

RNG = np.random.default_rng(7)
N = 120
ARM = np.arange(N) % 2
THREE = np.arange(N) % 3
OUTCOME = RNG.negative_binomial(1, 0.3, N).astype(float)
SEX = RNG.choice(["F", "M"], N)


@pytest.mark.parametrize(
    ("copy", "arm"),
    [
        (ARM, ARM),
        (np.where(ARM == 1, "active", "control"), ARM),
        (np.where(ARM == 1, 10.0, 0.0), ARM),
        (pd.Categorical(np.where(ARM == 1, "b", "a")), ARM),
        (ARM == 0, ARM),
        (np.where(ARM == 1, np.arange(N) % 5, -1), ARM),  # doses: several values in one arm
        (THREE * 7, THREE),
        (THREE > 0, THREE),  # any drug against placebo
    ],
    ids=["itself", "names", "numbers", "categories", "truth values", "doses", "three arms", "any drug"],
)
def test_a_recoded_arm_is_named(copy: object, arm: np.ndarray) -> None:
    table = pd.DataFrame({"age": RNG.normal(40, 8, N), "code": copy})
    with pytest.raises(InputError, match=r"`adjust`: 'code' is a recoded arm .* `interaction`"):
        refuse_copies(table, arm, OUTCOME)


@pytest.mark.parametrize("arm", [ARM, THREE], ids=["two arms", "three arms"])
def test_a_column_whose_values_lie_apart_by_arm_is_named(arm: np.ndarray) -> None:
    """A noisy copy of the arm: almost as many values as patients, none of them in two arms' range."""
    table = pd.DataFrame({"age": RNG.normal(40, 8, N), "noisy": -5 * arm + RNG.uniform(0, 4, N)})
    with pytest.raises(InputError, match=r"'noisy' tells the arm .its values do not overlap between arms."):
        refuse_copies(table, arm, OUTCOME)


def test_two_columns_that_together_tell_the_arm_are_named() -> None:
    table = pd.DataFrame({"sex": SEX, "code": (ARM == 1) ^ (SEX == "F")})
    with pytest.raises(InputError, match="'sex' and 'code' together tell the arm"):
        refuse_copies(table, ARM, OUTCOME)


@pytest.mark.parametrize(
    "copy",
    [
        *(OUTCOME, np.log1p(OUTCOME), -OUTCOME, OUTCOME**2 + 3, OUTCOME > 0, OUTCOME.astype(str)),
        *(OUTCOME / RNG.uniform(0.5, 2, N), np.floor(OUTCOME / 2), np.where(OUTCOME > 2, "many", "few")),
    ],
    ids=["itself", "logarithm", "negative", "square", "any", "text", "rate", "halves", "words"],
)
def test_a_copy_of_the_outcome_is_named(copy: object) -> None:
    with pytest.raises(InputError, match="'late' is a copy of the outcome"):
        refuse_copies(pd.DataFrame({"age": RNG.normal(40, 8, N), "late": copy}), ARM, OUTCOME)


def test_a_continuous_outcome_in_other_units_is_named() -> None:
    volume = RNG.lognormal(size=N)
    for copy in (1000 * volume, np.log(volume), 1 / volume, volume > 1):
        with pytest.raises(InputError, match="'late' is a copy of the outcome"):
            refuse_copies(pd.DataFrame({"late": copy}), ARM, volume)


def test_honest_covariates_are_never_refused() -> None:
    """Seven hundred randomised tables of 4 to 200 patients, five covariates and three outcomes; the rule promises 1 in 1000."""
    rng, refused = np.random.default_rng(1), 0
    for _ in range(700):
        n = int(rng.choice([4, 6, 8, 10, 14, 20, 60, 200]))
        arm = rng.permutation(np.arange(n) % int(rng.choice([2, 3])))
        outcome = rng.choice([rng.poisson(0.5, n).astype(float), rng.normal(size=n), rng.integers(0, 2, n).astype(float)])
        table = pd.DataFrame({"age": rng.normal(40, 8, n).round(), "sex": rng.integers(0, 2, n), "site": rng.integers(0, 4, n)})
        table = table.assign(edss=rng.integers(0, 13, n) / 2, rare=(rng.random(n) < 0.05) * 1)
        try:
            refuse_copies(table, arm, outcome)
        except InputError:
            refused += 1
    assert refused <= 5  # Poisson with mean 0.7: above 5 once in 10,000


def test_a_small_table_in_which_sex_goes_with_the_arm_by_chance_is_accepted() -> None:
    arm = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    refuse_copies(pd.DataFrame({"sex": np.where(arm == 1, "F", "M")}), arm, np.arange(10.0))


def test_a_column_of_the_clusters_is_a_covariate_where_clusters_were_randomised() -> None:
    cluster = np.repeat(np.arange(12), 10)
    arm = cluster % 2
    table = pd.DataFrame({"beds": cluster * 25.0})
    refuse_copies(table, arm, OUTCOME, cluster=cluster)
    with pytest.raises(InputError, match="'beds' is a recoded arm"):
        refuse_copies(table, arm, OUTCOME)
