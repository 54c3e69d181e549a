"""Recalibration: what the observed arms of a trial of one's own say of the model, its stored error as prior."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.causal.cohort import Running
from causalms.causal.evidence import as_trial
from causalms.causal.mechanism import Mechanism
from causalms.causal.model import CausalModel
from causalms.errors import InputError, UsageError
from causalms.stats import Array, ColumnSummary, ErrorModel, HeldOutCounts, Update, update_error_model
from causalms.tables import EXPECTED_OUTCOMES, MODEL_ERROR, ModelError, name_of, names_of, net2_column, one_week

#: Fewest patients with an observed count that a recalibration is made of.
_FEWEST = 20


@dataclass(frozen=True)
class Recalibration:
    """The model's error after the observed arms of a trial.

    Attributes
    ----------
    update : Update
        The new error model, the test of the stored one, and whether that was dropped.
    week : float
        Visit of the observed counts.
    arms : tuple of str
        The observed ones.
    """

    update: Update
    week: float
    arms: tuple[str, ...]

    @property
    def words(self) -> str:
        """What the observed counts say of the model, in words."""
        return self.update.words

    def record(self) -> dict[str, Any]:
        """For the record of a query."""
        test = self.update.test
        return {
            "week": self.week,
            "patients": test.patients,
            "arms": list(self.arms),
            "p_arm_effects": None if np.isnan(test.arms_p) else test.arms_p,
            "p_level": None if np.isnan(test.level_p) else test.level_p,
            "stored_error_model_dropped": self.update.dropped,
        }


@dataclass(frozen=True)
class _Basis:
    """What the error model needs of patients: their order, log expected counts (n, arms) at the last week, columns (n, q)."""

    position: dict[str, int]
    log_expected: Array
    columns: Array
    sizes: Array

    @classmethod
    def of(cls, model: CausalModel, trial: Any, participants: list[str], week: float, running: Running) -> _Basis:
        mechanism = model.mechanism
        arms = list(mechanism.arms)
        table = model.do(trial, arms, week, expected=True, running=replace(running, participants=participants))
        wide = table.pivot(index="participant_id", columns="arm", values="expected_net2_lesions").loc[participants, arms]
        last = np.log(mechanism.weeks[1] / week)
        rows = trial.participants.set_index("participant_id").loc[participants]
        columns = [mechanism.error_columns(row) for _, row in rows.iterrows()]
        dispersion = table.groupby("arm")["dispersion"].mean()[arms].to_numpy(float)
        return cls(
            {name: number for number, name in enumerate(participants)},
            np.log(wide.to_numpy(float).clip(min=1e-6)) + last,
            np.asarray(columns, float).reshape(len(participants), -1),
            1 / np.maximum(dispersion, 1e-3),
        )


def recalibrate(model: CausalModel, trial: Any, week: float = 48, running: Running = Running()) -> Recalibration:
    """Error model of a causal model after the observed counts of a trial's arms.

    The checkpoint's error model is the prior, widened by what trials differ in; where the observed arm effects contradict it
    (p below .02), wide priors take its place (:func:`causalms.stats.update_error_model`).

    Parameters
    ----------
    model : CausalModel
    trial : Trial or DataFrame
        With observed counts at the visit; drop-outs are left out.
    week : float
        Visit of the observed counts.

    Returns
    -------
    Recalibration

    Raises
    ------
    InputError
        If fewer than 20 patients on known arms were seen at that visit.
    """
    trial = as_trial(trial)
    seen = _seen(model.mechanism, trial, week)
    return _recalibration(model, seen, _Basis.of(model, trial, list(seen["participant_id"]), week, running), week)


def recalibrated(
    model: CausalModel, trial: Any, expected: pd.DataFrame, running: Running = Running()
) -> tuple[pd.DataFrame, Recalibration]:
    """An expected table moved to what the observed arms of its own visit say, with the error that is left.

    Counts are multiplied by the posterior mean of the error, volumes in proportion; activity and dispersion follow, and the
    column ``model_error`` holds the posterior's error.

    Parameters
    ----------
    model : CausalModel
    trial : Trial or DataFrame
        With observed counts at the table's visit.
    expected : DataFrame
        From ``model.do(..., expected=True)`` at one visit, arms only (a policy mixes arms whose effects differ).

    Returns
    -------
    table : DataFrame
        ``attrs`` as before, the record with ``recalibration``.
    recalibration : Recalibration

    Raises
    ------
    UsageError
        If the table has several visits.
    InputError
        If fewer than 20 patients were seen at that visit, or a world is no arm.
    """
    trial = as_trial(trial)
    if "expected_net2_lesions" not in expected:
        raise UsageError("recalibration works on expected counts; ask do() with expected=True")
    week = one_week(expected, None, "expected")
    arms = model.mechanism.arms
    if strange := sorted(set(expected["arm"]) - set(arms)):
        raise InputError(f"world {strange[0]!r} is no arm of the model ({', '.join(arms)}); recalibrate arms, not policies")
    seen = _seen(model.mechanism, trial, week)
    people = list(dict.fromkeys([*seen["participant_id"], *expected["participant_id"]]))
    basis = _Basis.of(model, trial, people, week, running)
    recalibration = _recalibration(model, seen, basis, week)
    table = _moved(expected, recalibration, basis, arms)
    queries = {name: {**record, "recalibration": recalibration.record()} for name, record in expected.attrs["queries"].items()}
    table.attrs = {**expected.attrs, "queries": queries}
    return table, recalibration


def _seen(mechanism: Mechanism, trial: Any, week: float) -> pd.DataFrame:
    """Patients on known arms with an observed count at the visit."""
    people = trial.participants
    column = net2_column(int(week))
    if week != int(week) or column not in people:
        raise InputError(f"participants: no column {column!r}; recalibrate at a week with observed outcomes")
    arm = names_of(people["arm"])
    seen = people.assign(arm=arm)[people[column].notna().to_numpy() & arm.isin(mechanism.arms).to_numpy()]
    if len(seen) < _FEWEST:
        raise InputError(
            f"participants: {len(seen)} patients on known arms ({', '.join(mechanism.arms)}) were seen at week {name_of(week)}; "
            f"a recalibration needs at least {_FEWEST}, name a week with more observed outcomes"
        )
    return pd.DataFrame(seen)


def _recalibration(model: CausalModel, seen: pd.DataFrame, basis: _Basis, week: float) -> Recalibration:
    mechanism = model.mechanism
    rows = [basis.position[name] for name in seen["participant_id"]]
    arm = np.array([mechanism.arms.index(name) for name in seen["arm"]])
    own = HeldOutCounts(
        seen[net2_column(int(week))].to_numpy(float),
        arm,
        basis.log_expected[rows],
        basis.columns[rows],
        basis.sizes,
        np.unique(seen["trial"].astype(str), return_inverse=True)[1].reshape(-1),
        float(np.log(week / mechanism.weeks[1])),
    )
    stored = mechanism.error_model
    update = update_error_model(stored if stored is not None else _unknown(mechanism, own), own, known=stored is not None)
    return Recalibration(update, week, tuple(name for number, name in enumerate(mechanism.arms) if number in set(arm)))


def _unknown(mechanism: Mechanism, own: HeldOutCounts) -> ErrorModel:
    """Arms and columns of a mechanism that does not know its own error."""
    summary = ColumnSummary.of(own.columns, tuple(f"column {number + 1}" for number in range(own.columns.shape[1])))
    nothing = ErrorModel(
        mechanism.arms, np.zeros(0), np.zeros((0, 0)), own.sizes, 0.1, float(own.log_expected.mean()), summary, 0
    )
    count = nothing.at["trial"].stop
    volume = np.full(len(mechanism.arms), np.nan)
    return replace(nothing, mean=np.zeros(count), covariance=np.eye(count), volume_sd=volume)


def _moved(expected: pd.DataFrame, recalibration: Recalibration, basis: _Basis, arms: tuple[str, ...]) -> pd.DataFrame:
    error = recalibration.update.error
    moved = {name: expected[name].to_numpy(float).copy() for name in EXPECTED_OUTCOMES}
    texts = np.full(len(expected), None, dtype=object)
    before = _errors_before(expected)
    for name in expected["arm"].unique():
        at, arm = np.flatnonzero((expected["arm"] == name).to_numpy()), arms.index(name)
        rows = [basis.position[person] for person in expected["participant_id"].iloc[at]]
        log_expected, columns = basis.log_expected[rows], basis.columns[rows]
        factor = np.exp(error.terms(log_expected, columns, arm) @ error.mean)
        moved["expected_net2_lesions"][at] *= factor
        moved["expected_net2_volume_ml"][at] *= factor
        mean = moved["expected_net2_lesions"][at]
        size = np.exp(error.mean[error.at["log_size"]][arm]) / np.maximum(moved["dispersion"][at], 1e-3)
        moved["activity_probability"][at] = 1 - (size / (size + mean)) ** size
        moved["dispersion"][at] = 1 / size
        for row, cell in zip(at, error.cells(log_expected, columns, arm, mean, size), strict=True):
            known = before[row]
            if known is not None:
                cell = replace(cell, distances=known.distances, seen=known.seen, usual=known.usual)
            texts[row] = cell.text()
    return expected.assign(**moved, **{MODEL_ERROR: texts})


def _errors_before(expected: pd.DataFrame) -> list[ModelError | None]:
    if MODEL_ERROR not in expected:
        return [None] * len(expected)
    return [ModelError.read(text) if isinstance(text, str) else None for text in expected[MODEL_ERROR]]
