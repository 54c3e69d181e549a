r"""Counts of visits weighted by the inverse probability of still being in the study (IPCW).

A patient is in the study at visit j if there is a count at j or later.  Within each arm a pooled logistic model gives the
probability :math:`p_{ij}` of being in the study at visit j for those who were at the visit before, given baseline covariates, the
number of the visit and the patient's mean count so far (log1p), over visits at which somebody leaves; the weight of a count is
:math:`w_{ij}=\prod_{k\le j}1/p_{ik}`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.data import Design
from causalms.errors import ConvergenceError, InputError, RefusalError
from causalms.stats import Array, GeeFit, fit_gee, fit_model
from causalms.tables import arm_order, names_of, percentage, refuse_arm_and_outcome_by_name, significant

PATIENT = "\x00patient"


@dataclass(frozen=True)
class Compared:
    """What is compared: columns of the outcome and the arm, the reference, the column of time at risk."""

    outcome: str
    arm: str
    reference: str
    exposure: str | None


@dataclass(frozen=True)
class VisitWeights:
    """Weights of counts, and what estimating them adds to a variance.

    Attributes
    ----------
    weight : array (n,)
        One a row of the analysis.
    slope : array (n, g)
        Derivative of the weights by the coefficients of their models.
    errors : array (P, g)
        Influence of every patient on these coefficients, patients without a count included.
    patient : integer array (n,)
        Row of ``errors`` of each row of the analysis.
    words : str
    """

    weight: Array
    slope: Array
    errors: Array
    patient: np.ndarray
    words: str

    def fit(self, X: Array, y: Array, exposure: Array, patient: np.ndarray, visit: np.ndarray) -> GeeFit:
        """Weighted estimating equations with the independence correlation; the sandwich counts the weights as estimated.

        ``bias_corrected`` frees every patient's residuals of their own leverage (Mancl and DeRouen).
        """
        weighted = fit_gee(X, self.weight * y, self.weight * exposure, patient, visit, structure="independence")
        mean = exposure * np.exp(X @ weighted.coefficients)
        bread = np.linalg.inv((X * (self.weight * mean)[:, None]).T @ X)
        of_weights = self.errors @ (self.slope * (y - mean)[:, None]).T @ X
        scaled, residual = X * np.sqrt(self.weight * mean)[:, None], (y - mean) * np.sqrt(self.weight / mean)
        plain, freed = np.zeros((2, len(self.errors), X.shape[1]))
        for one in np.unique(self.patient):
            rows = self.patient == one
            Z = scaled[rows]
            plain[one] = Z.T @ residual[rows]
            freed[one] = Z.T @ np.linalg.solve(np.eye(len(Z)) - Z @ bread @ Z.T, residual[rows])
        robust, corrected = (
            np.asarray(bread @ (scores.T @ scores) @ bread, dtype=float) for scores in (plain + of_weights, freed + of_weights)
        )
        return GeeFit(weighted.coefficients, 0.0, weighted.scale, robust, corrected, robust)


def visit_weights(table: pd.DataFrame, rows: np.ndarray, compared: Compared, given: str, design: Design) -> VisitWeights:
    """Weights of chosen rows of a table made by :func:`long_table`.

    Raises
    ------
    RefusalError
        Nobody drops out, or the model of dropping out has no finite fit.

    References
    ----------
    Robins, Rotnitzky, Zhao (1995), JASA 90:106-121.
    """
    source, outcome, arm = design.source, compared.outcome, compared.arm
    people = table.drop_duplicates(PATIENT).reset_index(drop=True)
    number = pd.Series(np.arange(len(people)), index=people[PATIENT])
    visits = int(table["\x00visit"].max()) + 1
    count = np.full((len(people), visits), np.nan)
    count[number[table[PATIENT]].to_numpy(), table["\x00visit"].to_numpy()] = columns.column(table, outcome, source).astype(float)
    seen = ~np.isnan(count)
    inside = np.flip(np.maximum.accumulate(np.flip(seen, axis=1), axis=1), axis=1)
    if inside.all():
        raise RefusalError(f"{source}: no patient drops out, so no count needs a weight; leave out `ipcw_given`")
    covariates = columns.Covariates.of(people, given, source, "ipcw_given")
    if covariates.formula is not None:
        refuse_arm_and_outcome_by_name(covariates.formula, arm, outcome)
    if design.missing_covariates == "drop" and not covariates.complete.all():
        lonely = people[PATIENT][~covariates.complete].iloc[0]
        raise InputError(f"{source}: patient {lonely!r} lacks a covariate of {given!r}; weights need it for every patient")
    x = covariates.filled(np.arange(len(people))).matrix(np.arange(len(people)))[0]
    labels = names_of(people[arm])
    arms = {name: (labels == name).to_numpy() for name in arm_order(labels, compared.reference)}
    weight, slope, errors = _by_arm(count, inside, x, arms)
    patient, visit = number[table[PATIENT].iloc[rows]].to_numpy(), table["\x00visit"].iloc[rows].to_numpy()
    heaviest = weight[patient, visit].max()
    left = int((~inside).any(axis=1).sum())
    words = f"inverse probability of censoring weights given {given}, visit and counts so far ({left} of {len(people)} patients"
    words += f" drop out, {percentage(left / len(people))}; largest weight {significant(float(heaviest), 3)})"
    return VisitWeights(weight[patient, visit], slope[patient, visit], errors, patient, words)


def _by_arm(count: Array, inside: np.ndarray, x: Array, arms: dict[str, np.ndarray]) -> tuple[Array, Array, Array]:
    """Weights (P, V), their derivative (P, V, g) and errors of the coefficients (P, g), models of all arms side by side."""
    people, visits = inside.shape
    seen = np.isfinite(count)
    so_far = np.cumsum(np.where(seen, count, 0.0), axis=1) / np.maximum(np.cumsum(seen, axis=1), 1)
    before = np.log1p(np.column_stack([np.zeros(people), so_far[:, :-1]]))
    at_risk = np.column_stack([np.ones(people, dtype=bool), inside[:, :-1]])
    weight, slopes, errors = np.ones((people, visits)), [np.zeros((people, visits, 0))], [np.zeros((people, 0))]
    for name, own in arms.items():
        leaves = (at_risk & ~inside)[own].any(axis=0)  # where nobody of the arm leaves, everybody stays
        i, j = np.nonzero(at_risk & own[:, None] & leaves)
        stays = inside[i, j].astype(float)
        if not len(stays):
            continue
        z = np.column_stack([x[i], j, before[i, j]])
        z = columns.independent_columns(np.ones((len(i), 1)), z, tuple(map(str, range(z.shape[1]))))[0]
        try:
            fit = fit_model("logistic", np.column_stack([np.ones(len(i)), z]), stays)
        except (RefusalError, ConvergenceError):
            left = int((1 - stays).sum())
            raise RefusalError(
                f"arm {name!r}: the model of dropping out has no finite fit ({left} patients drop out; {z.shape[1]} covariates, "
                "the visit and the counts so far among them); use fewer covariates in `ipcw_given`, or impute"
            ) from None
        chance, change = np.ones((people, visits)), np.zeros((people, visits, fit.X.shape[1]))
        chance[i, j] = fit.mean
        change[i, j] = -(1 - fit.mean)[:, None] * fit.X
        product = np.cumprod(chance, axis=1)
        weight = np.where(own[:, None], 1 / product, weight)
        slopes.append(np.cumsum(change, axis=1) / product[..., None])
        error = np.zeros((people, fit.X.shape[1]))
        np.add.at(error, i, fit.scores @ fit.inverse_information)
        errors.append(error)
    return weight, np.concatenate(slopes, axis=-1), np.hstack(errors)
