"""The global model behind shrunken subgroup effects: every factor with its interaction with treatment, and main effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.effects import coefficient_covariance, independent_columns
from causalms.errors import RefusalError, UsageError
from causalms.stats import Array, fit_model
from causalms.tables import Grouping, formula, name_of, names_of, refuse_arm_and_outcome_by_name


@dataclass(frozen=True)
class MainEffects:
    """What enters the global model beside the factors: covariates and strata as main effects, clusters.

    Attributes
    ----------
    adjust, strata, cluster : str, optional
        Formula of the covariates, and columns.

    Examples
    --------
    >>> MainEffects(adjust="age", strata="region").words
    'adjusted for age; strata region'
    """

    adjust: str | None = None
    strata: str | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        """Strata and clusters contradict each other."""
        if self.strata and self.cluster:
            raise UsageError("`cluster` and `strata` contradict each other; name one of them")

    def needed(self, people: pd.DataFrame, arm: str, outcome: str) -> list[str]:
        """Columns that must be complete; a formula of the arm or of the outcome is refused."""
        names = [name for name in (self.strata, self.cluster) if name]
        for name in names:
            if name not in people:
                raise UsageError(f"no column {name!r}; name one of {', '.join(map(str, people.columns[:30]))}")
        if self.adjust:
            read = formula(self.adjust, people, "adjust")
            refuse_arm_and_outcome_by_name(read, arm, outcome)
            names += read.columns
        return list(dict.fromkeys(names))

    def columns(self, part: pd.DataFrame, base: Array) -> Array:
        """Design columns of covariates and strata that ``base`` does not give already, shape (n, q)."""
        blocks = [np.empty((len(part), 0))]
        if self.adjust:
            blocks.append(formula(self.adjust, part, "adjust").fit(part).matrix(part).to_numpy(float))
        if self.strata:
            codes = pd.factorize(part[self.strata])[0]
            blocks.append(np.eye(int(codes.max()) + 1)[codes][:, 1:])
        matrix = np.column_stack(blocks)
        return independent_columns(base, matrix, tuple(name_of(index) for index in range(matrix.shape[1])))[0]

    @property
    def words(self) -> str:
        """What a row of results says of them."""
        said = [f"adjusted for {self.adjust}"] if self.adjust else []
        return "; ".join([*said, *([f"strata {self.strata}"] if self.strata else [])])


@dataclass(frozen=True)
class GlobalModel:
    """Two arms, their global fit, and the map from deviations to its treatment coefficients.

    Attributes
    ----------
    treated, events : array (n,)
        Whether a patient is in the arm, and the count.
    levels : list of integer array (n,)
        Level of every factor.
    factors : list of Grouping
    estimate, covariance : array (k,), (k, k)
        Treatment coefficients and their covariance.
    coding : array (k, 1 + levels)
        From the overall effect and the deviation of every level to the treatment coefficients.
    weights : array (n,)
        Fitted rate under the reference.
    """

    treated: NDArray[Any]
    events: NDArray[Any]
    levels: list[NDArray[np.intp]]
    factors: list[Grouping]
    estimate: Array
    covariance: Array
    coding: Array
    weights: Array

    @classmethod
    def of(
        cls,
        part: pd.DataFrame,
        factors: list[Grouping],
        outcome: str,
        arm: str,
        other: str,
        exposure: str | None,
        more: MainEffects,
    ) -> GlobalModel:
        """Fit the global model to the patients of two arms."""
        treated = (names_of(part[arm]) == other).to_numpy(float)
        events = part[outcome].to_numpy(float)
        time = part[exposure].to_numpy(float) if exposure else np.ones(len(part))
        for factor in factors:
            for group in factor.groups:
                for side in (0, 1):
                    if events[(factor.labels == group) & (treated == side)].sum() == 0:
                        raise RefusalError(f"{group}: no event in one arm: the global model has no finite fit; merge subgroups")
        levels = [np.array([factor.groups.index(label) for label in factor.labels]) for factor in factors]
        dummies = [np.eye(len(factor.groups))[level][:, 1:] for factor, level in zip(factors, levels, strict=True)]
        mains = np.column_stack([np.ones(len(part)), *dummies])
        crossed = treated[:, None] * mains
        base = np.column_stack([mains, more.columns(part, np.column_stack([mains, crossed]))])
        fit = fit_model("negbin", np.column_stack([base, crossed]), events, time)
        width = base.shape[1]
        cluster = None if more.cluster is None else pd.factorize(part[more.cluster])[0]
        covariance = coefficient_covariance(fit, "hc3" if cluster is None else "cr3", cluster).matrix[width:, width:]
        rate = np.exp(base @ fit.coefficients[:width])
        return cls(treated, events, levels, factors, fit.coefficients[width:], covariance, _coding(factors), rate)

    @property
    def names(self) -> list[str]:
        """Names of "all" and of every subgroup."""
        return ["all", *(group for factor in self.factors for group in factor.groups)]

    def members(self) -> list[NDArray[np.bool_]]:
        """Who is in "all" and in each subgroup."""
        groups = [factor.labels == group for factor in self.factors for group in factor.groups]
        return [np.ones(len(self.treated), bool), *groups]

    def standardised(self, posterior: Array) -> Array:
        """Log rate ratio of every subgroup in every posterior draw; posterior (draws, 1 + levels)."""
        combos = np.column_stack(self.levels)
        distinct, place = np.unique(combos, axis=0, return_inverse=True)
        starts = 1 + np.concatenate([[0], np.cumsum([len(factor.groups) for factor in self.factors])[:-1]]).astype(int)
        effect = np.exp(posterior[:, [0]] + posterior[:, distinct + starts].sum(axis=2))
        columns = []
        for member in self.members():
            share = np.bincount(place[member], weights=self.weights[member], minlength=len(distinct))
            columns.append(np.log(effect @ (share / share.sum())))
        return np.column_stack(columns)


def _coding(factors: list[Grouping]) -> Array:
    """Matrix from (overall, deviation of every level) to (treatment at first levels, interactions against them)."""
    sizes = [len(factor.groups) for factor in factors]
    total = 1 + sum(sizes)
    first = np.zeros(total)
    first[0] = 1
    rows, start = [first], 1
    for size in sizes:
        first[start] = 1
        for level in range(1, size):
            row = np.zeros(total)
            row[start + level], row[start] = 1, -1
            rows.append(row)
        start += size
    return np.array(rows)
