"""The order of the rows of a file says nothing: every door gives shuffled rows the same numbers, lots included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.agreement import agree, compare_arms
from causalms.benefit import Inference, who_benefits
from causalms.calibration import assess, pair
from causalms.causal import CausalModel
from causalms.effects import (
    Method,
    MissingOutcomes,
    analyse,
    analyse_draws,
    cross_fitted,
    effects_with_missing_outcomes,
    grouped_arguments,
)
from causalms.subgroups import ShrinkageModel, SubgroupAnalysis, forest, shrink
from tests.calibration.conftest import made_trial

PEOPLE, DRAWS, _ = made_trial(patients=90, draws=8)
PEOPLE = PEOPLE.assign(
    gd_lesions=np.arange(90) % 3,
    t2_lesions=np.arange(90) % 11,
    sex=np.resize(["F", "M"], 90),
    site=np.resize(list("abcde"), 90),
    y=PEOPLE["net2_lesions_week48"],
)
THREE = PEOPLE.assign(arm=np.where(np.arange(90) % 3 == 0, "third", PEOPLE["arm"]))
HOLES = PEOPLE.assign(y=PEOPLE["y"].where(np.arange(90) % 7 > 0))
BASE = {"outcome": "y", "reference": "placebo"}
Tables = tuple[pd.DataFrame, pd.DataFrame]


def effects(**options: object) -> Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]:
    return lambda people, _: analyse(people, **grouped_arguments({**BASE, **options})).results


def counts_model(people: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    model = CausalModel.fit_counts(people, covariates={"age": "linear"})
    return model.do(people, arm=["placebo", "dimethyl-fumarate"], draws=4, seed=3)


def folds_of(people: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    def mean_of_the_others(train: pd.DataFrame) -> Callable[[pd.DataFrame], np.ndarray]:
        return lambda test: np.full(len(test), train["y"].mean())

    return people[["participant_id"]].assign(expected=cross_fitted(people, mean_of_the_others, seed=2))


def missing(**strategy: object) -> Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]:
    def door(people: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
        more = {"draws": draws, "week": 48} if strategy["strategy"] == "multiple-imputation" else {}
        method = Method(missing=MissingOutcomes(**strategy, **more))
        return effects_with_missing_outcomes(people, **BASE, method=method)

    return door


def benefit_door(people: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
    learned = who_benefits(people, **BASE, covariates="age + gd_lesions", inference=Inference(redraws=40))
    simulated = who_benefits(people, **BASE, draws=draws, inference=Inference(redraws=40))
    return pd.concat([learned, simulated])


DOORS: dict[str, tuple[pd.DataFrame, Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]]] = {
    "effects, influence": (THREE, effects(adjust="age")),
    "effects, bootstrap": (THREE, effects(adjust="age", variance="bootstrap", replicates=200)),
    "effects, permutation": (THREE, effects(test="permutation", replicates=300)),
    "effects, a covariate missing": (
        THREE.assign(age=THREE["age"].where(np.arange(90) % 7 > 0)),
        effects(adjust="age", test="permutation", replicates=100),
    ),
    "effects, permutation within strata": (PEOPLE, effects(test="permutation", replicates=300, strata="site")),
    "effects, clusters": (PEOPLE, effects(cluster="site")),
    "effects without identifiers, bootstrap": (
        PEOPLE.drop(columns="participant_id"),
        effects(adjust="age", variance="bootstrap", replicates=200),
    ),
    "effects without identifiers, permutation": (
        PEOPLE.drop(columns="participant_id"),
        effects(test="permutation", replicates=300),
    ),
    "effects of draws": (PEOPLE, lambda _, draws: analyse_draws(draws, reference="placebo")),
    "cross-fitting": (PEOPLE, folds_of),
    "inverse probability weighting": (HOLES, missing(strategy="ipw", missing_given="age")),
    "multiple imputation": (HOLES, missing(strategy="multiple-imputation")),
    "subgroups": (
        PEOPLE,
        lambda people, _: forest(people, ["sex"], **BASE, method=SubgroupAnalysis(variance="bootstrap")).table,
    ),
    "shrinkage": (
        PEOPLE,
        lambda people, _: shrink(people, ["sex"], **BASE, model=ShrinkageModel(draws=40, warmup=40)).table,
    ),
    "benefit": (PEOPLE, benefit_door),
    "calibration": (PEOPLE, lambda people, draws: assess(pair(draws, people, week=48), repetitions=49).results),
    "agreement": (PEOPLE, lambda people, draws: agree(draws, people, week=48, reference="placebo").results),
    "agreement of distributions": (PEOPLE, lambda people, draws: compare_arms(draws, people, 48, repetitions=49)),
    "counts of a fitted model": (PEOPLE, counts_model),
}


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    keys = [name for name in ("participant_id", "analysis", "subgroup", "arm", "measure", "visit_week", "draw") if name in table]
    return table.sort_values(keys, kind="stable").reset_index(drop=True)


@pytest.mark.parametrize("door", DOORS)
def test_shuffled_rows_give_the_same_numbers(door: str) -> None:
    people, function = DOORS[door]
    first = in_order(function(people, DRAWS))
    shuffled = people.sample(frac=1, random_state=11).reset_index(drop=True)
    second = in_order(function(shuffled, DRAWS.sample(frac=1, random_state=12).reset_index(drop=True)))
    numbers = [name for name in first.select_dtypes("number") if name != "seconds"]
    assert numbers
    assert len(first) == len(second)
    np.testing.assert_allclose(second[numbers].to_numpy(float), first[numbers].to_numpy(float), rtol=1e-12, atol=1e-12)


def test_shuffled_file_gives_the_same_counts_on_the_command_line(run, tmp_path: Path) -> None:
    for name, table in (("a", PEOPLE), ("b", PEOPLE.sample(frac=1, random_state=11))):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        common = ("--model", "counts", "--do", "placebo", "--draws", 3, "--seed", 5, "--out", tmp_path / f"{name}.parquet")
        assert run("query", tmp_path / f"{name}.csv", *common).code == 0
    first, second = (in_order(pd.read_parquet(tmp_path / f"{name}.parquet")) for name in "ab")
    pd.testing.assert_series_equal(first["net2_lesions"], second["net2_lesions"])
