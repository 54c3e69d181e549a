r"""Counterfactuals against a truth that is known: only a simulated trial has one.

The truth is a table: participant_id, arm, visit_week, true_lesions (potential count) and true_rate (expected count given
everything before treatment).  Under the rule "lesions of the lower rate are a random subset of those of the higher, patient
frailty Gamma with size k":

.. math::
    N_b \mid N_a = n \sim \mathrm{Bin}(n, \lambda_b/\lambda_a) \quad (\lambda_b \le \lambda_a), \qquad
    N_b - n \sim \mathrm{Poisson}(U(\lambda_b-\lambda_a)),\ U \sim \Gamma(k+n,\ 1/(k+\lambda_a)) \quad (\lambda_b > \lambda_a).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.errors import InputError
from causalms.stats import keyed_generator

FloatArray = npt.NDArray[np.floating[Any]]
TRUTH_COLUMNS = ("participant_id", "arm", "visit_week", "true_lesions", "true_rate")


def exact_thinning_twins(
    fact: int, rate: float, other_rate: float, size: float, particles: int, rng: np.random.Generator
) -> FloatArray:
    """Exact counterfactual counts under monotone thinning with Gamma frailty, given the factual count and the true rates.

    Examples
    --------
    >>> twins = exact_thinning_twins(10, 4.0, 1.0, 0.5, 20000, np.random.default_rng(0))
    >>> abs(twins.mean() - 2.5) < 0.05, twins.max() <= 10
    (np.True_, np.True_)
    """
    if other_rate <= rate:
        return rng.binomial(fact, other_rate / rate, size=particles).astype(float)
    frailty = rng.gamma(size + fact, 1 / (size + rate), size=particles)
    return fact + rng.poisson(frailty * (other_rate - rate)).astype(float)


def crps(particles: npt.ArrayLike, truth: float) -> float:
    r"""Continuous ranked probability score of particles: :math:`E|X-y| - \tfrac12 E|X-X'|`; 0 is perfect, in lesions.

    The particles are the forecast here; the score of the law that they were drawn from is ``score("crps", DrawsLaw(...))`` of
    :mod:`causalms.stats`, which is unbiased for any number of them.

    Examples
    --------
    >>> crps([2.0, 2.0], 5.0)
    3.0
    >>> crps([0.0, 1.0], 1.0)
    0.25
    """
    x = np.sort(np.asarray(particles, dtype=float))
    n = len(x)
    spread = 2 * float((np.arange(1, n + 1) * x).sum()) / n**2 - (n + 1) / n * float(x.mean())
    return float(np.abs(x - truth).mean()) - spread


def counterfactual_error(twins: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Error of counterfactual counts against the true potential counts, in the worlds other than the factual one.

    Returns
    -------
    DataFrame
        arm, n, crps (mean, in lesions), rmse (of the particles' mean), bias.
    """
    rows = []
    for arm, of_arm in joined(twins, truth).groupby("arm", sort=False):
        scores, errors = [], []
        for _, patient in of_arm.groupby("participant_id"):
            y = float(patient["true_lesions"].iloc[0])
            scores.append(crps(patient["net2_lesions"], y))
            errors.append(float(patient["net2_lesions"].mean()) - y)
        rows.append((arm, len(scores), np.mean(scores), np.sqrt(np.mean(np.square(errors))), np.mean(errors)))
    return pd.DataFrame(rows, columns=["arm", "n", "crps", "rmse", "bias"])


def exact_twins(twins: pd.DataFrame, truth: pd.DataFrame, size: float, particles: int = 200, seed: int = 0) -> pd.DataFrame:
    """The exact answer under the simulation's own rule, for the same patients and worlds as ``twins``.

    Parameters
    ----------
    size : float
        Negative-binomial size k of the simulation.
    """
    columns = truth[["participant_id", "arm", "visit_week", "true_rate"]].itertuples(index=False)
    known = {(str(p), str(a), float(w)): float(r) for p, a, w, r in columns}
    seen = twins[twins["query"] == "observed"]
    facts = dict(zip(seen["participant_id"].astype(str), seen["net2_lesions"].astype(float), strict=True))
    worlds = twins.loc[_other(twins), ["participant_id", "trial", "arm", "arm_randomised", "visit_week"]].drop_duplicates()
    parts = []
    for p, trial, arm, own, week in worlds.itertuples(index=False):
        rates = [_known_rate(known, str(p), str(a), float(week)) for a in (own, arm)]
        rng = keyed_generator("exact", str(p), str(arm), seed)
        values = exact_thinning_twins(int(facts[str(p)]), rates[0], rates[1], size, particles, rng)
        frame = pd.DataFrame(
            {"net2_lesions": values, "draw": np.arange(particles), "participant_id": p, "trial": trial, "arm": arm}
        )
        parts.append(frame.assign(arm_randomised=own, visit_week=week, query="counterfactual", query_id="exact"))
    return pd.concat([seen, *parts], ignore_index=True)


def _known_rate(known: dict[tuple[str, str, float], float], participant_id: str, arm: str, week: float) -> float:
    if (participant_id, arm, week) not in known:
        raise InputError(
            f"the truth lacks participant {participant_id} under {arm!r} at week {week:g}; give that of the same trial"
        )
    return known[participant_id, arm, week]


def gap_closed(errors: pd.DataFrame, independent: pd.DataFrame, exact: pd.DataFrame, score: str = "crps") -> float:
    """Share of the gap between an independent redraw (0) and the exact answer (1) that a coupling closes.

    Examples
    --------
    >>> t = lambda e: pd.DataFrame({"arm": ["x"], "n": [10], "crps": [e]})
    >>> gap_closed(t(1.5), t(2.0), t(1.0))
    0.5
    """
    means = [float(np.average(t[score], weights=t["n"])) for t in (errors, independent, exact)]
    if means[1] <= means[2]:
        raise InputError("an independent redraw is as good as the exact answer here; more patients or particles are needed")
    return (means[1] - means[0]) / (means[1] - means[2])


def pehe(effects: pd.DataFrame, truth: pd.DataFrame, arm: str, reference: str, week: float) -> float:
    r"""Precision in estimating heterogeneous effects, :math:`\sqrt{\operatorname{mean}_i(\hat\tau_i - \tau_i)^2}`, in lesions.

    Parameters
    ----------
    effects : DataFrame
        From :func:`causalms.causal.patient_effects`.
    truth : DataFrame
        With true_rate: the true effect is the difference of the true rates.

    References
    ----------
    Hill (2011) J. Comput. Graph. Stat. 20.
    """
    rates = truth[truth["visit_week"] == week].pivot(index="participant_id", columns="arm", values="true_rate")
    true = (rates[arm] - rates[reference]).reindex(effects["participant_id"]).to_numpy(float)
    if np.isnan(true).any():
        raise InputError("the truth lacks some of these patients; give the truth of the same trial")
    return float(np.sqrt(np.mean((effects["difference"].to_numpy(float) - true) ** 2)))


def interval_coverage(twins: pd.DataFrame, truth: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """Coverage of individual counterfactual intervals (quantiles of the particles, outwards to whole counts).

    Counts are whole, so an interval holds more than its level even when the law is right: ``expected`` is the mean probability
    that the particles themselves put inside.

    Returns
    -------
    DataFrame
        arm, n, coverage, se, expected, width.
    """
    rows = []
    low, high = (1 - level) / 2, (1 + level) / 2
    for arm, of_arm in joined(twins, truth).groupby("arm", sort=False):
        inside, mass, width = [], [], []
        for _, patient in of_arm.groupby("participant_id"):
            x, y = patient["net2_lesions"].to_numpy(float), float(patient["true_lesions"].iloc[0])
            a, b = np.quantile(x, low, method="lower"), np.quantile(x, high, method="higher")
            inside.append(a <= y <= b)
            mass.append(np.mean((x >= a) & (x <= b)))
            width.append(b - a)
        n, coverage = len(inside), float(np.mean(inside))
        rows.append((arm, n, coverage, np.sqrt(coverage * (1 - coverage) / n), np.mean(mass), np.mean(width)))
    return pd.DataFrame(rows, columns=["arm", "n", "coverage", "se", "expected", "width"])


def true_joint(
    truth: pd.DataFrame, arm: str, reference: str, week: float, participants: Sequence[str] | None = None
) -> pd.Series:
    """True probabilities of benefit, harm and activity harm, from the potential counts themselves."""
    wide = truth[truth["visit_week"] == week].pivot(index="participant_id", columns="arm", values="true_lesions")
    if participants is not None:
        wide = wide.loc[list(participants)]
    zero, one = wide[reference], wide[arm]
    return pd.Series(
        {"benefit": (one < zero).mean(), "harm": (one > zero).mean(), "activity harm": ((one > 0) & (zero == 0)).mean()}
    )


def _other(twins: pd.DataFrame) -> pd.Series:
    return (twins["query"] == "counterfactual") & (twins["arm"] != twins["arm_randomised"])


def joined(twins: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Twins in worlds other than the factual one, each with its true potential count.

    Raises
    ------
    InputError
        If the truth lacks a column or some of the twins.
    """
    for column in TRUTH_COLUMNS:
        if column not in truth:
            raise InputError(f"truth: no column {column!r}; it needs {', '.join(TRUTH_COLUMNS)}")
    keys = ["participant_id", "arm", "visit_week"]
    beside = twins[_other(twins)].merge(truth[[*keys, "true_lesions"]], on=keys, how="left", validate="many_to_one")
    if beside.empty or beside["true_lesions"].isna().any():
        raise InputError("the truth lacks some of these patients, arms or weeks; give the truth of the same trial")
    return beside
