"""A table of several trials: every door compares an arm with the reference among the trials that randomised both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.effects import analyse, effects_with_missing_outcomes, estimate, grouped_arguments
from causalms.effects.publication import publication_table
from causalms.errors import UsageError
from causalms.tables import write_table

BASIC = {"outcome": "y", "reference": "placebo"}


@pytest.fixture
def two_trials() -> pd.DataFrame:
    """A: placebo and drug, true rate ratio 0.4; B: drug and other, with twice the rate."""
    rng, n = np.random.default_rng(3), 400
    table = pd.DataFrame({"participant_id": [f"p{i}" for i in range(2 * n)], "trial": ["A"] * n + ["B"] * n})
    even = np.arange(2 * n) % 2 == 0
    table["arm"] = np.where(table.trial == "A", np.where(even, "placebo", "drug"), np.where(even, "drug", "other"))
    table["age"] = 40.0 + rng.normal(0, 8, 2 * n)
    table["y"] = rng.poisson(np.where(table.arm == "placebo", 3, 1.2) * np.where(table.trial == "B", 2.0, 1.0))
    return table


def test_a_contrast_is_about_the_trial_that_randomised_both_arms(two_trials: pd.DataFrame) -> None:
    alone = analyse(two_trials[two_trials.trial == "A"], **grouped_arguments(BASIC)).results.iloc[0]
    rows = analyse(two_trials, **grouped_arguments(BASIC)).results.set_index("arm")
    assert rows.loc["drug", ["estimate", "se", "lower", "upper"]].tolist() == alone[["estimate", "se", "lower", "upper"]].tolist()
    assert rows.loc["drug", "population"] == "all randomised patients of A"
    assert rows.loc["drug", "randomised"]
    assert not rows.loc["other", "randomised"]
    assert rows.loc["drug", "n"] == 200


def test_every_door_gives_the_same_effect_and_population(two_trials: pd.DataFrame) -> None:
    weighted = effects_with_missing_outcomes(
        two_trials, **grouped_arguments(dict(strategy="ipw", missing_given="age", **BASIC))
    ).iloc[0]
    complete = effects_with_missing_outcomes(two_trials, **grouped_arguments(dict(strategy="complete-case", **BASIC))).iloc[0]
    door = estimate(two_trials, **BASIC).results.iloc[0]
    for row in (weighted, complete):
        assert row.estimate == pytest.approx(door.estimate, rel=1e-12)  # nothing is missing: weights are one
        assert (row.population, row.randomised, row.n) == (door.population, door.randomised, door.n)


def test_patients_left_out_are_counted_and_their_trial_named(two_trials: pd.DataFrame) -> None:
    assert "200 patients of B left out" in repr(analyse(two_trials, **grouped_arguments(BASIC)))


def test_trials_pooled_on_request_are_not_randomised(two_trials: pd.DataFrame) -> None:
    row = analyse(two_trials, **grouped_arguments(dict(**BASIC, pool_trials=True))).results.set_index("arm").loc["drug"]
    assert not row.randomised
    assert row.n == 400
    assert "pooled on request" in row.population


def test_trial_is_a_factor_where_several_trials_randomised_both_arms() -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"trial": np.repeat(["A", "B"], [300, 300]), "arm": ["placebo", "drug"] * 300})
    table["arm"] = np.where((table.trial == "B") & (rng.random(600) < 0.6), "drug", table["arm"])
    table["y"] = rng.poisson(np.where(table.trial == "B", 9, 3) * np.where(table.arm == "drug", 0.5, 1.0))
    row = analyse(table, **grouped_arguments(BASIC)).results.iloc[0]
    by_hand = analyse(
        table.drop(columns="trial").assign(t=table["trial"]), **grouped_arguments(dict(**BASIC, adjust="C(t)"))
    ).results.iloc[0]
    assert row.randomised
    assert "trial B" in row.estimator
    assert row.estimate == pytest.approx(by_hand.estimate, rel=1e-9)
    assert abs(np.log(row.estimate / 0.5)) < 3 * row.se
    pooled = analyse(table, **grouped_arguments(dict(**BASIC, pool_trials=True))).results.iloc[0]
    assert np.log(pooled.estimate / 0.5) > 3 * pooled.se  # without the factor, more patients of the busier trial had the drug


def test_weighting_by_inverse_probability_takes_each_trial_by_itself() -> None:
    """The busier trial gave more patients the drug; nobody is missing, so the answer is that of the model with trial x arm."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"trial": np.repeat(["A", "B"], [300, 300]), "arm": ["placebo", "drug"] * 300})
    table["arm"] = np.where((table.trial == "B") & (rng.random(600) < 0.6), "drug", table["arm"])
    table["time"], table["age"] = rng.uniform(0.5, 2, 600), rng.uniform(20, 60, 600)
    rate = np.where(table.trial == "B", 9, 3) * np.where(table.arm == "drug", 0.5, 1.0)
    table["y"] = rng.poisson(rate * table["time"]).astype(float)
    options = dict(**BASIC, exposure="time")
    weighted = effects_with_missing_outcomes(
        table, **grouped_arguments(dict(strategy="ipw", missing_given="age", variance="influence", **options))
    )
    saturated = analyse(table, **grouped_arguments(dict(interaction=True, **options))).results
    assert weighted["estimate"].iloc[0] == pytest.approx(saturated["estimate"].iloc[0], rel=1e-8)
    # By hand: the rates of each trial with their variances, averaged by the trials' shares, whose patients are a sample too.
    rates, variance = {}, 0.0
    for (trial, arm), cell in table.groupby(["trial", "arm"]):
        rates[trial, arm] = cell.y.sum() / cell.time.sum()
    means = {arm: (rates["A", arm] + rates["B", arm]) / 2 for arm in ("placebo", "drug")}
    for (trial, arm), cell in table.groupby(["trial", "arm"]):
        variance += 0.25 * ((cell.y - rates[trial, arm] * cell.time) ** 2).sum() / (cell.time.sum() * means[arm]) ** 2
    between = [rates[trial, "drug"] / means["drug"] - rates[trial, "placebo"] / means["placebo"] for trial in "AB"]
    variance += 300 * (between[0] ** 2 + between[1] ** 2) / 600**2
    assert weighted["se"].iloc[0] == pytest.approx(np.sqrt(variance), rel=1e-9)
    assert "trial by trial, averaged over the patients of A, B" in weighted["estimator"].iloc[0]
    table.loc[rng.random(600) < np.where(table.trial == "B", 0.4, 0.1), "y"] = np.nan
    row = effects_with_missing_outcomes(
        table, **grouped_arguments(dict(strategy="ipw", missing_given="age", variance="influence", **options))
    ).iloc[0]
    assert abs(np.log(row.estimate / 0.5)) < 3 * row.se


def test_python_prints_what_the_command_line_prints(
    two_trials: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = write_table(two_trials, tmp_path / "trial.csv")
    with pytest.raises(SystemExit):
        main(["effects", str(file), "--outcome", "y", "--reference", "placebo"])
    printed = capsys.readouterr().out
    assert printed == repr(estimate(file, **BASIC)) + "\n"
    assert "all randomised patients of A" in estimate(file, **BASIC)._repr_html_()


def test_a_table_for_a_paper_names_the_population_of_each_contrast(two_trials: pd.DataFrame) -> None:
    table = publication_table(analyse(two_trials, **grouped_arguments(BASIC)), [0.1, 0.2])
    assert table["arm"].tolist() == ["placebo", "drug", "placebo", "other"]
    assert table["population"].tolist() == ["all randomised patients of A"] * 2 + ["all patients of the table"] * 2
    assert table["adjusted p"].tolist() == ["", "0.1000", "", "0.2000"]


def test_a_misspelt_argument_is_named_with_the_near_one(two_trials: pd.DataFrame) -> None:
    for door in (analyse, estimate):
        with pytest.raises(UsageError, match="no argument 'exposre'; did you mean 'exposure'"):
            door(two_trials, **BASIC, exposre="years")


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_other_frames_give_the_same_digits(two_trials: pd.DataFrame, kind: str) -> None:
    library = pytest.importorskip(kind)
    frame = library.from_pandas(two_trials) if kind == "polars" else library.Table.from_pandas(two_trials)
    assert repr(estimate(frame, **BASIC)) == repr(estimate(two_trials, **BASIC))
