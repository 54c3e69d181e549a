"""Couplings and bounds judged against potential outcomes that are known: tables with their Monte-Carlo errors.

Only a simulated trial can be judged so; see :mod:`studies.known_truth.twins` for what its truth table holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.causal import Law, activity_harm_bounds, benefit_bounds, harm_bounds
from causalms.errors import InputError, UsageError
from causalms.stats import DrawsLaw, score
from studies.known_truth.twins import exact_twins, joined

FloatArray = npt.NDArray[np.floating[Any]]
MEASURES = ("benefit", "harm", "activity harm")
_SCORES = ("crps", "absolute_error", "coverage")


def rank_coverage(particles: npt.ArrayLike, truth: float, level: float = 0.9) -> float:
    r"""Probability that the truth's rank among K particles, ties and ends broken at random, lies in the central ``level``.

    If truth and particles have the same law, :math:`u = (\#\{x<y\} + V(\#\{x=y\}+1))/(K+1)` with V uniform is uniform, for
    any K and for counts, so that the mean of this number over patients is ``level`` exactly.

    Examples
    --------
    >>> round(rank_coverage([0, 1, 2, 3], 1.0, level=0.9), 3), round(rank_coverage([0, 0, 0, 0], 0.0, level=0.9), 3)
    (1.0, 0.9)
    """
    x = np.asarray(particles, dtype=float)
    below, ties = float((x < truth).sum()), float((x == truth).sum())
    low, high = below / (len(x) + 1), (below + ties + 1) / (len(x) + 1)
    inside = min(high, 0.5 + level / 2) - max(low, 0.5 - level / 2)
    return max(inside, 0.0) / (high - low)


def patient_scores(twins: pd.DataFrame, truth: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """Score every twin against the true potential count.

    Returns
    -------
    DataFrame
        participant_id, arm, crps (fair, in lesions), absolute_error (of one particle, on average), squared_error and error
        (of the particles' mean), coverage (:func:`rank_coverage`).
    """
    rows = []
    for (participant_id, arm), twin in joined(twins, truth).groupby(["participant_id", "arm"], sort=False):
        x, y = twin["net2_lesions"].to_numpy(float), float(twin["true_lesions"].iloc[0])
        error, crps = float(x.mean()) - y, float(score("crps", DrawsLaw(x[None]), [y])[0])
        absolute = float(np.abs(x - y).mean())
        rows.append((participant_id, arm, crps, absolute, error**2, error, rank_coverage(x, y, level)))
    return pd.DataFrame(rows, columns=["participant_id", "arm", "crps", "absolute_error", "squared_error", "error", "coverage"])


def compare_couplings(
    twins: Mapping[str, pd.DataFrame],
    truth: pd.DataFrame,
    size: float,
    level: float = 0.9,
    particles: int = 400,
    seed: int = 0,
    resamples: int = 1000,
) -> pd.DataFrame:
    """Error and coverage of every coupling, between an independent redraw (gap closed 0) and the exact answer (1).

    Parameters
    ----------
    twins : mapping of str to DataFrame
        Twins of the same patients and worlds by coupling; ``"independent"`` must be one of them.
    size : float
        Negative-binomial size k of the simulation.
    particles : int
        Of the exact answer under the simulation's own rule and rates.
    resamples : int
        Bootstrap resamples of patients (all worlds of a patient together), whence the columns ``_se``.

    Returns
    -------
    DataFrame
        coupling, patients, worlds, crps, mae (of one twin), mae_over_redraw, rmse, bias, gap_closed, coverage, each of crps,
        mae_over_redraw, gap_closed and coverage with ``_se``.

    Raises
    ------
    UsageError
        If there are no independent twins.
    """
    if "independent" not in twins:
        raise UsageError(f"twins hold {', '.join(twins)}; the gap is measured from 'independent': add those twins")
    exact = exact_twins(twins["independent"], truth, size, particles, seed)
    scores = {name: patient_scores(table, truth, level) for name, table in {**twins, "exact": exact}.items()}
    people = scores["independent"]["participant_id"].drop_duplicates().to_numpy()
    pick = np.random.default_rng(seed).integers(len(people), size=(resamples, len(people)))
    sums = {name: _sums(table, people) for name, table in scores.items()}
    rows = []
    for name, table in scores.items():
        means = {c: _resampled(sums[name], c, pick) for c in _SCORES}
        gap = np.array([_resampled(sums[n], "crps", pick) for n in ("independent", name, "exact")])
        over = means["absolute_error"] / _resampled(sums["independent"], "absolute_error", pick)
        closed = (gap[0] - gap[1]) / (gap[0] - gap[2])
        mae = [float(scores[n]["absolute_error"].mean()) for n in ("independent", name)]
        point = [float(scores[n]["crps"].mean()) for n in ("independent", name, "exact")]
        rows.append(
            {
                "coupling": name, "patients": len(people), "worlds": len(table),
                "crps": point[1], "crps_se": means["crps"].std(ddof=1),
                "mae": mae[1], "mae_over_redraw": mae[1] / mae[0], "mae_over_redraw_se": over.std(ddof=1),
                "rmse": float(np.sqrt(table["squared_error"].mean())), "bias": float(table["error"].mean()),
                "gap_closed": (point[0] - point[1]) / (point[0] - point[2]), "gap_closed_se": closed.std(ddof=1),
                "coverage": float(table["coverage"].mean()), "coverage_se": means["coverage"].std(ddof=1),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def _sums(scores: pd.DataFrame, people: npt.NDArray[Any]) -> pd.DataFrame:
    of_patients = scores.groupby("participant_id")[list(_SCORES)].sum().assign(n=scores.groupby("participant_id").size())
    if set(of_patients.index) != set(people):
        raise InputError("the couplings do not hold the same patients; ask them for the same participants and arms")
    return of_patients.loc[people]


def _resampled(sums: pd.DataFrame, column: str, pick: npt.NDArray[np.integer[Any]]) -> FloatArray:
    total, n = sums[column].to_numpy(float)[pick].sum(1), sums["n"].to_numpy(float)[pick].sum(1)
    return np.asarray(total / n)


def true_joint_probabilities(rate_reference: npt.ArrayLike, rate_arm: npt.ArrayLike, size: float) -> FloatArray:
    r"""P(benefit), P(harm) and P(activity under the arm only) given everything before treatment, under thinning with frailty.

    Of the points of one process those between the two rates make the difference, and
    :math:`P(\text{none of a mean } \delta) = (1 + \delta/k)^{-k}`.

    Returns
    -------
    array, shape (3, patients)

    Examples
    --------
    >>> true_joint_probabilities([2.0, 1.0], [1.0, 2.0], size=1.0).round(3).tolist()
    [[0.5, 0.0], [0.0, 0.5], [0.0, 0.167]]
    """
    zero, one = np.asarray(rate_reference, dtype=float), np.asarray(rate_arm, dtype=float)

    def quiet(mean: FloatArray) -> FloatArray:
        return np.asarray((1 + mean / size) ** -size)

    onset = np.where(one > zero, quiet(zero) - quiet(one), 0.0)
    return np.stack([1 - quiet(np.maximum(zero - one, 0)), 1 - quiet(np.maximum(one - zero, 0)), onset])


def law_bounds(
    mean_reference: npt.ArrayLike, mean_arm: npt.ArrayLike, dispersion_reference: npt.ArrayLike, dispersion_arm: npt.ArrayLike
) -> FloatArray:
    """Sharp bounds of benefit, harm and activity harm of every patient from negative-binomial marginals.

    Returns
    -------
    array, shape (patients, 3, 2)
        By measure, lower and upper.
    """
    of_patients = []
    for values in np.broadcast(*map(np.atleast_1d, (mean_reference, dispersion_reference, mean_arm, dispersion_arm))):
        zero, one = Law.negative_binomial(values[0], values[1]), Law.negative_binomial(values[2], values[3])
        benefit, harm = benefit_bounds(zero, one), harm_bounds(zero, one)
        onset = activity_harm_bounds(1 - zero.at_most(0.0), 1 - one.at_most(0.0))
        of_patients.append([[benefit.lower, benefit.upper], [harm.lower, harm.upper], [float(b) for b in onset]])
    return np.array(of_patients)


def bounds_by_stratum(
    members: Sequence[pd.DataFrame],
    truth: pd.DataFrame,
    size: float,
    strata: Mapping[str, Sequence[str]],
    arm: str,
    reference: str,
    week: float,
) -> pd.DataFrame:
    """Bounds from the true and from the estimated marginals beside the true joint probabilities, by stratum.

    Parameters
    ----------
    members : sequence of DataFrame
        Expected tables: the model itself first, then members of its posterior (they give the estimated bounds an error).
    strata : mapping of str to participant ids

    Returns
    -------
    DataFrame
        stratum, n, measure, truth, lower_true, upper_true, lower, upper, lower_se, upper_se.
    """
    ids = sorted({p for chosen in strata.values() for p in chosen})
    rates = truth[truth["visit_week"] == week].pivot(index="participant_id", columns="arm", values="true_rate").loc[ids]
    known = true_joint_probabilities(rates[reference], rates[arm], size)
    exact = law_bounds(rates[reference], rates[arm], 1 / size, 1 / size)
    estimated = np.stack([law_bounds(*_marginals(m, ids, arm, reference, week)) for m in members])
    rows = []
    for name, chosen in strata.items():
        at = [ids.index(p) for p in chosen]
        means = estimated[:, at].mean(1)  # members, measures, sides
        spread = means[1:].std(0, ddof=1) if len(members) > 2 else np.full(means.shape[1:], np.nan)
        for m, measure in enumerate(MEASURES):
            sides = (*exact[at].mean(0)[m], *means[0, m], *spread[m])
            rows.append((name, len(at), arm, reference, measure, known[m, at].mean(), *sides))
    names = ["stratum", "n", "arm", "reference", "measure", "truth", "lower_true", "upper_true"]
    return pd.DataFrame(rows, columns=[*names, "lower", "upper", "lower_se", "upper_se"])


def _marginals(expected: pd.DataFrame, ids: Sequence[str], arm: str, reference: str, week: float) -> list[FloatArray]:
    rows = expected[expected["visit_week"] == week].set_index("participant_id")
    return [
        rows.loc[rows["arm"] == world, column].loc[list(ids)].to_numpy(float)
        for column in ("expected_net2_lesions", "dispersion")
        for world in (reference, arm)
    ]
