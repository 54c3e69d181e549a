"""The best of three arms under a cap: who gets what, and whether its value is estimated without bias."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.benefit import Inference, choose_treatment
from causalms.errors import InputError, RefusalError, UsageError

ARMS = ("placebo", "mild", "strong")


def trial(seed: int, patients: int = 300) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Patients with a marker that decides how much the strong drug spares; predictions are half right."""
    rng = np.random.default_rng(seed)
    marker = rng.uniform(0, 1, patients)
    truth = np.column_stack([3 + 2 * marker, 2.2 + 1.5 * marker, 3.0 - 2.0 * marker])
    arm = rng.permutation(np.arange(patients) % 3)
    people = pd.DataFrame({"participant_id": 1000 + np.arange(patients), "arm": np.array(ARMS, object)[arm]})
    people["lesions"] = rng.poisson(truth[np.arange(patients), arm])
    predictions = pd.DataFrame(0.5 + 0.7 * truth, columns=list(ARMS)).assign(participant_id=1000 + np.arange(patients))
    return people, predictions, truth


def test_the_capped_arm_goes_to_those_who_gain_most_from_it() -> None:
    people, predictions, _ = trial(1)
    assigned = choose_treatment(people, predictions, outcome="lesions", capped="strong", cap=0.2).assigned["arm"]
    assert (assigned == "strong").sum() == 60
    gain = np.minimum(predictions["placebo"], predictions["mild"]) - predictions["strong"]
    assert gain[assigned == "strong"].min() >= gain[assigned != "strong"].max()
    free = choose_treatment(people, predictions, outcome="lesions").assigned["arm"]
    np.testing.assert_array_equal(free, predictions[list(ARMS)].idxmin(axis=1))


def test_a_penalty_changes_the_choice_but_not_the_value_of_an_arm() -> None:
    people, predictions, _ = trial(2)
    plain = choose_treatment(people, predictions, outcome="lesions")
    dear = choose_treatment(people, predictions, outcome="lesions", penalty={"strong": 100.0})
    assert not (dear.assigned["arm"] == "strong").any()
    row = plain.results["measure"] == "mean outcome under strong"
    assert dear.results.loc[row, "estimate"].iloc[0] == plain.results.loc[row, "estimate"].iloc[0]


def test_intervals_of_value_and_gain_hold_the_truth_at_their_level() -> None:
    held = {"value of chosen treatment": 0, "spared by choosing": 0}
    for seed in range(40):
        people, predictions, truth = trial(seed)
        few = Inference(redraws=199, seed=seed)
        choice = choose_treatment(people, predictions, outcome="lesions", capped="strong", cap=0.3, inference=few)
        chosen = np.array([ARMS.index(name) for name in choice.assigned["arm"]])
        # The truth of this policy in its population: the marker's law is uniform, so a huge sample gives it.
        big_marker = np.linspace(0, 1, 20_001)
        big = np.column_stack([3 + 2 * big_marker, 2.2 + 1.5 * big_marker, 3.0 - 2.0 * big_marker])
        cut = (truth[:, 1] - truth[:, 2])[chosen == 2].min()
        value = np.where(big[:, 1] - big[:, 2] >= cut, big[:, 2], np.minimum(big[:, 0], big[:, 1])).mean()
        lines = choice.results.set_index("measure")
        held["value of chosen treatment"] += (
            lines.loc["value of chosen treatment", "lower"] <= value <= lines.loc["value of chosen treatment", "upper"]
        )
        spared = big[:, 1].mean() - value
        gain = lines.loc["spared by choosing"]
        held["spared by choosing"] += gain["lower"] <= spared <= gain["upper"]
    # 95% of 40 trials: 0.0005 quantile of a binomial 32.
    assert min(held.values()) >= 32


def test_what_cannot_be_chosen_is_refused() -> None:
    people, predictions, _ = trial(3, 60)
    with pytest.raises(UsageError, match="was not randomised here"):
        choose_treatment(people, predictions, outcome="lesions", capped="magic")
    with pytest.raises(UsageError, match="cap 2"):
        choose_treatment(people, predictions, outcome="lesions", capped="strong", cap=2)
    with pytest.raises(InputError, match="predict every patient"):
        choose_treatment(people, predictions.iloc[5:], outcome="lesions")
    with pytest.raises(RefusalError, match="needs at least two"):
        choose_treatment(people, predictions[["participant_id", "mild"]], outcome="lesions")
