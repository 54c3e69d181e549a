"""Transport: weights that give the trial's patients the covariate means of a target population."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.effects.columns import Covariates
from causalms.effects.contrasts import Contrast, transformed
from causalms.effects.draws import simulated_outcomes
from causalms.effects.estimands import measure_named
from causalms.effects.simulated import Errors, contrast_errors, simulated_interval
from causalms.errors import InputError, RefusalError, near_or_all
from causalms.stats import Array, entropy_balance
from causalms.tables import names_of, one_week, refuse_arm_and_outcome_by_name, refuse_copies

#: Columns of observed outcomes in a participants table, whatever the visit.
_NET2_AT_A_VISIT = re.compile(r"net2_.*week\d")


@dataclass(frozen=True)
class Transport:
    """Entropy-balancing weights and how well the populations overlap.

    Attributes
    ----------
    weights : Series
        One a participant_id, adding up to the number of patients.
    balance : DataFrame
        One row a covariate column: mean in the trial, in the target and after weighting, and the standardised differences.
    centred : array (n, q)
        Trial covariates less the target means.
    target_covariance : array (q, q)
        Covariance of the target's covariate means.
    """

    weights: pd.Series
    balance: pd.DataFrame
    centred: Array
    target_covariance: Array

    @property
    def effective_n(self) -> float:
        r"""Kish's effective number of patients, :math:`(\sum w)^2/\sum w^2`."""
        w = self.weights.to_numpy()
        return float(w.sum() ** 2 / (w**2).sum())

    @property
    def largest_share(self) -> float:
        """Share of the whole weight that the heaviest patient carries."""
        return float(self.weights.max() / self.weights.sum())


def transport_weights(
    participants: pd.DataFrame, target: pd.DataFrame, formula: str, *, arm: str = "arm", outcome: str | None = None
) -> Transport:
    r"""Weights :math:`w_i \propto \exp(\lambda'(x_i-\bar x_T))` under which the trial's covariate means are the target's.

    Parameters
    ----------
    participants : DataFrame
        The trial's patients, with participant_id.
    target : DataFrame
        One row a person of the target population, with the same covariates.
    formula : str
        Covariates to balance, such as ``"age + gd_lesions"``.
    arm, outcome : str, optional
        Columns of the trial's arm and of its outcome, which are no covariates; nor are copies of the arm.

    Raises
    ------
    UsageError
        The formula names the arm or the outcome.
    InputError
        A covariate is missing in a table or a row, or is a recoded arm.
    RefusalError
        The target's means lie outside what any weighting of these patients can reach.

    References
    ----------
    Hainmueller (2012), Political Analysis 20:25-46; Josey et al. (2021), Statistics in Medicine 40:4310-4326.

    Examples
    --------
    >>> import pandas as pd
    >>> trial = pd.DataFrame({"participant_id": list("abcd"), "age": [20.0, 30, 40, 50]})
    >>> moved = transport_weights(trial, pd.DataFrame({"age": [40.0, 44.0]}), "age")
    >>> round(float((moved.weights * [20, 30, 40, 50]).sum() / 4), 6)
    42.0
    """
    if "participant_id" not in participants:
        raise InputError("participants: no column 'participant_id'; add it")
    of_trial = _complete(participants, formula, "participants")
    _refuse_arm_and_outcome(of_trial, participants, arm, outcome)
    fitted = of_trial.fitted(np.arange(len(participants)))
    x, names = of_trial.matrix(np.arange(len(participants)), fitted)
    if not names:
        raise InputError(f"{formula!r} names no covariate; name those in which the populations differ")
    t, _ = _complete(target, formula, "target").matrix(np.arange(len(target)), fitted)
    scale = x.std(axis=0)
    if (scale == 0).any():
        raise RefusalError(
            f"participants: covariate {names[int(np.flatnonzero(scale == 0)[0])]!r} is constant in the trial; leave it out"
        )
    centred = (x - t.mean(axis=0)) / scale
    balanced = entropy_balance(centred)
    if not balanced.reached:
        worst = names[int(np.abs(balanced.imbalance).argmax())]
        raise RefusalError(
            f"target: no weighting of the trial's patients reaches its mean of {worst!r} (no overlap); "
            "restrict the target population or leave the covariate out"
        )
    weights = balanced.weights
    after = weights @ x / weights.sum()
    balance = pd.DataFrame(
        {
            "covariate": names,
            "trial": x.mean(axis=0),
            "target": t.mean(axis=0),
            "weighted": after,
            "difference_before": (x.mean(axis=0) - t.mean(axis=0)) / scale,
            "difference_after": (after - t.mean(axis=0)) / scale,
        }
    )
    series = pd.Series(weights * len(weights) / weights.sum(), index=names_of(participants["participant_id"]))
    spread = np.atleast_2d(np.cov(t / scale, rowvar=False)) / len(t) if len(t) > 1 else np.zeros((len(names), len(names)))
    return Transport(series, balance, centred, spread)


def _refuse_arm_and_outcome(covariates: Covariates, participants: pd.DataFrame, arm: str, outcome: str | None) -> None:
    if covariates.formula is not None:
        refuse_arm_and_outcome_by_name(covariates.formula, arm, outcome)
        for name in filter(_NET2_AT_A_VISIT.match, covariates.formula.columns):
            refuse_arm_and_outcome_by_name(covariates.formula, None, name)
    known = participants[[name for name in (arm, outcome) if name in participants]].notna().all(axis=1).to_numpy()
    if arm in participants and known.any():
        seen = participants[outcome][known] if outcome in participants else np.zeros(known.sum(), dtype=int)
        codes = pd.factorize(names_of(participants[arm][known]))[0]
        refuse_copies(covariates.table[known], codes, pd.factorize(seen)[0], argument="formula")


def _complete(table: pd.DataFrame, formula: str, source: str) -> Covariates:
    covariates = Covariates.of(table, formula, source, "formula")
    if not covariates.complete.all():
        row = int(np.flatnonzero(~covariates.complete)[0]) + 1
        raise InputError(f"{source}: row {row} lacks a covariate of {formula!r}; fill it in or leave the row out")
    return covariates


def transported_effect(
    draws: pd.DataFrame,
    transport: Transport,
    *,
    arm: str,
    reference: str,
    measure: str = "rate-ratio",
    week: float | None = None,
    level: float = 0.95,
) -> Contrast:
    r"""Simulated effect in the target population, with the error of the weights and of the target's own means.

    Influence of patient i: :math:`n w_i(\psi_i - B'(x_i-\bar x_T))`, with B the weighted regression of the contrast on the
    covariates; the target's part of the variance is :math:`B'\,\mathrm{Cov}(\bar x_T)\,B`.  Draws are averaged first, so their
    Monte-Carlo error is part of the patients' error here; :func:`causalms.effects.analyse_draws` shows it apart.  The model's own
    error is part of the interval; where it is unknown there is none.

    Raises
    ------
    InputError
        A patient of the draws has no weight, or the draws hold several queries.
    UsageError
        The draws hold several weeks, or not the one named.
    """
    chosen = measure_named(measure)
    week = one_week(draws, week, "draws")
    parts = list(simulated_outcomes(draws, reference=reference, measure=measure, week=week))
    if len(parts) != 1:
        raise InputError("draws: interventional and counterfactual rows are mixed; keep those of one query")
    part = parts[0]
    if arm not in part.arms:
        raise InputError(f"draws: no arm {arm!r}; {near_or_all(arm, part.arms, 'arms are', always=True)}")
    order = pd.Series(np.arange(len(transport.weights)), index=transport.weights.index).reindex(part.patients["participant_id"])
    if order.isna().any():
        raise InputError(f"draws: patient {part.patients['participant_id'][order.isna().to_numpy()].iloc[0]!r} has no weight")
    rows = order.to_numpy(dtype=int)
    weights, x = transport.weights.to_numpy()[rows], transport.centred[rows]
    weights = weights / weights.sum()
    means = part.patient_means[:, [0, part.arms.index(arm)]]
    theta = weights @ means
    values, slopes = transformed(theta, chosen.scale, (reference, arm))
    psi = (means - theta) @ (slopes * np.array([-1.0, 1.0]))
    slope = np.linalg.lstsq(x * np.sqrt(weights)[:, None], psi * np.sqrt(weights), rcond=None)[0]
    patient = float((weights**2 * (psi - x @ slope) ** 2).sum()) * len(psi) / (len(psi) - 1)
    variance = patient + float(slope @ transport.target_covariance @ slope)
    _, errors = contrast_errors(part, part.arms.index(arm), chosen, weights)
    total = Errors(variance, errors.generator, 0.0, errors.generators, errors.direction)
    return simulated_interval(float(values[1] - values[0]), total, chosen, level)
