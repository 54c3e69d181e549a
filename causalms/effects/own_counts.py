"""Observed counts of a trial against a draws table with the generator's stated error: one line, two p-values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from causalms.stats import OwnCounts, keyed_generator, own_counts_test
from causalms.tables import (
    TALLY,
    arm_order,
    as_frame,
    first_model_errors,
    net2_column,
    one_week,
    p_value_text,
    participant_key,
    tally_of,
)


def counts_against_draws(draws: Any, participants: Any, week: float | None = None, source: str = "draws") -> OwnCounts | None:
    """Test of the counts that a trial observed against the draws under the arms that it gave.

    Parameters
    ----------
    draws : DataFrame
        Sampled or expected, of one query, with the generator's error (column ``model_error``).
    participants : DataFrame
        With ``net2_lesions_week{week}``.
    week : float, optional
        Needed where the draws hold several.
    source : str

    Returns
    -------
    OwnCounts, or None
        None where the draws do not hold the generator's error, or nobody has both counts.

    Examples
    --------
    >>> from causalms.tables import ModelError
    >>> cell = ModelError("m", "from 9 patients", np.array([0.1]), 0.0, 0.0).text()
    >>> people = pd.DataFrame({"participant_id": [f"p{i}" for i in range(80)], "arm": ["a", "b"] * 40, "net2_lesions_week48": 4})
    >>> draws = people.assign(arm_randomised=people["arm"], visit_week=48.0, query="interventional", model_error=cell)
    >>> test = counts_against_draws(draws.assign(expected_net2_lesions=4.0, dispersion=2.0), people)
    >>> test.ratios.tolist(), round(test.arms_p, 3)
    ([1.0, 1.0], 1.0)
    """
    table, people = as_frame(draws), as_frame(participants)
    if "arm_randomised" not in table or not ({"dispersion", "draw", TALLY} & set(table)):
        return None
    rows = table[(table["query"] == "interventional") & (table["arm"].astype(str) == table["arm_randomised"].astype(str))]
    if rows.empty:
        return None
    at = one_week(rows, week, source)
    rows, column = rows[rows["visit_week"] == at], net2_column(int(at))
    if column not in people:
        return None
    counts = pd.Series(people[column].to_numpy(float), index=participant_key(people["participant_id"]))
    keys = participant_key(rows["participant_id"])
    rows = rows[keys.isin(counts.index[counts.notna()]).to_numpy()]
    patient, names = pd.factorize(participant_key(rows["participant_id"]), sort=True)
    errors = first_model_errors(rows, patient, len(names), source) if len(names) else None
    if errors is None:
        return None
    expected, variance, weights = _law(rows, patient, names)
    arms = arm_order(rows["arm"].unique())
    arm = np.empty(len(names), int)
    arm[patient] = [arms.index(name) for name in rows["arm"].astype(str)]
    loadings = np.array([error.log_mean for error in errors])
    observed = counts.loc[names].to_numpy(float)
    return own_counts_test(observed, expected, variance, arm, loadings, weights) if expected.any() else None


def _law(rows: pd.DataFrame, patient: np.ndarray, names: pd.Index) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Mean and variance of each patient's count, and the weights of the test.

    Of draws, half of a patient's give the mean and its Monte-Carlo error, the other half the weight: it does not depend on the
    mean's luck.  Which draws are which goes by the patient's name, so that draws and their tallies give the same digits.
    """
    count = len(names)
    if "draw" not in rows and TALLY not in rows:
        mean, alpha = np.empty(count), np.empty(count)
        mean[patient], alpha[patient] = rows["expected_net2_lesions"].to_numpy(float), rows["dispersion"].to_numpy(float)
        return mean, mean + alpha * mean**2, None
    means, spread, draws = np.empty((count, 2)), np.empty(count), np.empty(count)
    for one, (values, numbers) in enumerate(_tallies(rows, patient, count)):
        rng = keyed_generator("own counts", str(names[one]))
        half = rng.multivariate_hypergeometric(numbers, -(-numbers.sum() // 2), method="marginals")
        other = numbers - half if numbers.sum() > 1 else half
        means[one] = half @ values / half.sum(), other @ values / other.sum()
        draws[one] = half.sum()
        centred = values - numbers @ values / numbers.sum()
        spread[one] = numbers @ centred**2 / max(numbers.sum() - 1, 1)
    mean = means[:, 0]
    dispersion = max(float((spread - mean).sum()), 0.0) / max(float((mean**2).sum()), 1e-9)
    weights = 1 / (1 + dispersion * means[:, 1]) if draws.min() > 1 else np.ones(count)
    return mean, (mean + dispersion * mean**2) * (1 + 1 / draws), weights


def _tallies(rows: pd.DataFrame, patient: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of every patient the counts that were drawn, in rising order, and how often each was."""
    if TALLY in rows:
        counts, numbers = tally_of(rows[TALLY])
        for row in np.argsort(patient):
            rising = np.argsort(counts[row])
            known = rising[numbers[row][rising] > 0]
            yield counts[row][known].astype(float), numbers[row][known]
        return
    values, order = rows["net2_lesions"].to_numpy(float), np.argsort(patient, kind="stable")
    for own in np.split(values[order], np.cumsum(np.bincount(patient, minlength=count))[:-1]):
        counts, numbers = np.unique(own, return_counts=True)
        yield counts, numbers.astype(np.int64)


def own_counts_words(test: OwnCounts | None) -> list[str]:
    """The test in a line; none where it could not be made.

    Examples
    --------
    >>> own_counts_words(OwnCounts(np.array([1.0, 3.0]), (0, 1), 0.4, 0.001, 80))
    ['own counts contradict the model: arm effects p 0.0010, level p 0.4000 (80 patients, its stated error included)']
    """
    if test is None:
        return []
    arms = "" if np.isnan(test.arms_p) else f"arm effects p {p_value_text(test.arms_p)}, "
    verdict = "contradict" if test.contradicts else "do not contradict"
    level = f"level p {p_value_text(test.level_p)}"
    return [f"own counts {verdict} the model: {arms}{level} ({test.patients} patients, its stated error included)"]
