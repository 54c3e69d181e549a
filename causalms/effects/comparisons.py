"""Several comparisons of one analysis: all pairs of arms, adjusted p-values, Dunnett's and Tukey's simultaneous intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from causalms.effects.contrasts import Contrast, transformed, wald
from causalms.effects.design import BOOTSTRAPS
from causalms.effects.observed import Analysis
from causalms.effects.printing import interval, number, text_columns
from causalms.errors import RefusalError, UsageError
from causalms.stats import (
    MULTIPLICITY_METHODS,
    Array,
    adjusted_p_values,
    graphical_p_values,
    probability_within,
    simultaneous_critical_value,
)
from causalms.tables import p_value_text, percent_in_full, results_table, shown

#: Single-step methods, from the joint law of the contrasts: each arm against the reference, and all pairs.
SINGLE_STEP = ("dunnett", "tukey")
METHODS = (*MULTIPLICITY_METHODS, *SINGLE_STEP, "graphical")


@dataclass(frozen=True, repr=False)
class Comparisons:
    """Contrasts of arms as one family.

    Attributes
    ----------
    analysis : Analysis
    pairs : tuple of (int, int)
        Arm and arm that it is compared with.
    contrasts : tuple of Contrast
    method : str, optional
    p_adjusted : array, optional
    simultaneous : array (k, 2), optional
        Limits that hold together, of ``dunnett`` and ``tukey``.
    critical : float
    degrees_of_freedom : float
    """

    analysis: Analysis
    pairs: tuple[tuple[int, int], ...]
    contrasts: tuple[Contrast, ...]
    method: str | None
    p_adjusted: Array | None
    simultaneous: Array | None = None
    critical: float = np.nan
    degrees_of_freedom: float = np.inf

    @property
    def results(self) -> pd.DataFrame:
        """One row a contrast, in the schema of the results table, with what is adjusted in columns of their own."""
        analysis = self.analysis
        randomised = {analysis.data.arms.index(one.arm): bool(one.randomised) for one in analysis.populations} | {0: True}
        rows = []
        for (arm, other), contrast in zip(self.pairs, self.contrasts, strict=True):
            names = analysis.data.arms[arm], analysis.data.arms[other]
            estimand = replace(analysis.estimands[0], treatment=f"{names[0]} against {names[1]}")
            rows.append(analysis.row(names, estimand, contrast, randomised[arm] and randomised[other]))
        table = results_table(rows)
        if self.p_adjusted is not None:
            table["p_adjusted"] = self.p_adjusted
        if self.simultaneous is not None:
            table["lower_simultaneous"], table["upper_simultaneous"] = self.simultaneous.T
        return table

    def __repr__(self) -> str:
        """The family as a block of text."""
        settings, arms = self.analysis.settings, self.analysis.data.arms
        level = f"{percent_in_full(settings.level)} CI"
        head = [settings.measure.name, "estimate", level, "se(log)" if settings.measure.is_ratio else "se", "p"]
        head += ["adjusted p"] if self.p_adjusted is not None else []
        head += [f"simultaneous {level}"] if self.simultaneous is not None else []
        rows = [head]
        for index, ((arm, other), contrast) in enumerate(zip(self.pairs, self.contrasts, strict=True)):
            limits = interval(contrast.lower, contrast.upper)
            cells = [f"{arms[arm]} vs {arms[other]}", number(contrast.estimate), limits, number(contrast.se)]
            cells.append(p_value_text(contrast.p_value))
            cells += [p_value_text(self.p_adjusted[index])] if self.p_adjusted is not None else []
            cells += [interval(*self.simultaneous[index])] if self.simultaneous is not None else []
            rows.append(cells)
        law = "normal" if np.isinf(self.degrees_of_freedom) else f"t on {shown(self.degrees_of_freedom)} df"
        step = f" (single-step, {law}, critical value {shown(self.critical)})" if self.simultaneous is not None else ""
        lines = text_columns(rows)
        return "\n".join([*lines, f"multiplicity  {self.method}{step}, {len(self.pairs)} comparisons"] if self.method else lines)


def compare_arms(
    analysis: Analysis, *, all_pairs: bool = False, multiplicity: str | None = None, graph: pd.DataFrame | None = None
) -> Comparisons:
    r"""Contrasts of an analysis as one family.

    ``dunnett`` (against the reference) and ``tukey`` (all pairs) take the joint t law of the contrasts with their estimated
    correlations: :math:`\tilde p_j = P(\max_k |T_k| \ge |t_j|)`.  Where contrasts have degrees of freedom of their own, all have
    the smallest.

    Parameters
    ----------
    analysis : Analysis
    all_pairs : bool
        Every pair of arms in place of each arm against the reference.
    multiplicity : str, optional
        One of ``holm``, ``hochberg``, ``hommel``, ``bonferroni``, ``fixed-sequence``, ``dunnett``, ``tukey``, ``graphical``.
    graph : DataFrame, optional
        Of ``graphical``: columns ``arm`` and ``weight``, and a column for each arm with the share of the level that passes to it.

    Raises
    ------
    RefusalError, UsageError

    References
    ----------
    Dunnett (1955), JASA 50:1096-1121; Hothorn, Bretz, Westfall (2008), Biometrical Journal 50:346-363.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import analyse
    >>> table = pd.DataFrame({"y": [5, 7, 6, 9, 2, 3, 4, 2, 1, 2, 0, 1], "arm": ["a"] * 4 + ["b"] * 4 + ["c"] * 4})
    >>> analysis = analyse(table, outcome="y", reference="a", measure="mean-difference")
    >>> compare_arms(analysis, all_pairs=True, multiplicity="holm").results[["arm", "reference"]].values.tolist()
    [['b', 'a'], ['c', 'a'], ['c', 'b']]
    """
    if multiplicity is not None and multiplicity not in METHODS:
        raise UsageError(f"`multiplicity`: found {multiplicity!r}, expected one of {', '.join(METHODS)}")
    all_pairs = all_pairs or multiplicity == "tukey"
    if multiplicity == "dunnett" and all_pairs:
        raise UsageError("`multiplicity=dunnett` compares each arm with the reference; for all pairs use `multiplicity=tukey`")
    if analysis.others:
        raise RefusalError("contrasts are about the patients of different trials, so they are no family; name one `trial`")
    arms = range(len(analysis.data.arms))
    pairs = tuple((b, a) for a, b in combinations(arms, 2)) if all_pairs else tuple((arm, 0) for arm in analysis.reported)
    values, covariance, degrees = _joint(analysis, pairs) if all_pairs or multiplicity in SINGLE_STEP else (None, None, None)
    if values is None or covariance is None or degrees is None:
        contrasts = tuple(analysis.contrasts[arm - 1] for arm, _ in pairs)
    else:
        log, level = analysis.settings.measure.is_ratio, analysis.settings.level
        errors = np.sqrt(covariance.diagonal())
        contrasts = tuple(
            wald(float(value), float(se), log=log, level=level, degrees_of_freedom=float(df))
            for value, se, df in zip(values, errors, degrees, strict=True)
        )
        if multiplicity in SINGLE_STEP:
            return _single_step(analysis, pairs, contrasts, str(multiplicity), (values, covariance, float(degrees.min())))
    p_values = np.array([contrast.p_value for contrast in contrasts])
    adjusted = None
    if multiplicity == "graphical":
        adjusted = graphical_p_values(p_values, *_graph(graph, [analysis.data.arms[arm] for arm, _ in pairs], all_pairs))
    elif multiplicity is not None:
        adjusted = adjusted_p_values(p_values, multiplicity)
    return Comparisons(analysis, pairs, contrasts, multiplicity, adjusted)


def _joint(analysis: Analysis, pairs: tuple[tuple[int, int], ...]) -> tuple[Array, Array, Array]:
    """Contrasts on the scale of inference, their covariance, and their degrees of freedom."""
    arms, covariance = len(analysis.data.arms), analysis.covariance
    if analysis.settings.variance in BOOTSTRAPS:
        raise UsageError("`variance`: a bootstrap interval has no joint law of the contrasts; name another")
    if any(np.isnan(contrast.se) for contrast in analysis.contrasts):
        raise RefusalError("an arm has no event, so its contrasts have no standard error and no joint law; leave that arm out")
    if analysis.settings.estimator == "firth":
        raise UsageError("`estimator=firth` has intervals by profile; for several comparisons use another estimator")
    L = np.zeros((len(pairs), arms))
    for row, (arm, other) in enumerate(pairs):
        L[row, arm], L[row, other] = 1.0, -1.0
    if analysis.means is None:  # coefficients of the arms, that of the reference 0
        values, V = np.zeros(arms), np.zeros((arms, arms))
        values[1:], V[1:, 1:] = analysis.fit.coefficients[1:arms], covariance.matrix[1:arms, 1:arms]
        least = float(np.min(np.asarray(covariance.degrees_of_freedom, dtype=float)))
        return L @ values, L @ V @ L.T, np.full(len(pairs), least)
    values, slopes = transformed(analysis.means.estimates, analysis.settings.measure.scale, analysis.data.arms)
    V = covariance.matrix * np.outer(slopes, slopes)
    degrees = [covariance.of_contrast(np.array([b, a]), slopes[[b, a]] * np.array([-1.0, 1.0]))[1] for a, b in pairs]
    return L @ values, L @ V @ L.T, np.array(degrees, dtype=float)


def _single_step(
    analysis: Analysis,
    pairs: tuple[tuple[int, int], ...],
    contrasts: tuple[Contrast, ...],
    method: str,
    joint: tuple[Array, Array, float],
) -> Comparisons:
    values, covariance, degrees = joint
    errors, settings = np.sqrt(covariance.diagonal()), analysis.settings
    correlation = covariance / np.outer(errors, errors)
    p_values = np.array([1 - probability_within(correlation, float(t), degrees) for t in np.abs(values / errors)])
    alone = np.array([contrast.p_value for contrast in contrasts])
    critical = simultaneous_critical_value(correlation, settings.level, degrees)
    limits = np.column_stack([values - critical * errors, values + critical * errors])
    limits = np.exp(limits) if settings.measure.is_ratio else limits
    return Comparisons(analysis, pairs, contrasts, method, np.maximum(p_values, alone), limits, critical, degrees)


def _graph(graph: pd.DataFrame | None, arms: list[str], all_pairs: bool) -> tuple[Array, Array]:
    """Weights and transitions of a graph over arms."""
    if graph is None or all_pairs:
        raise UsageError(
            "`multiplicity=graphical` needs `graph`, a row an arm against the reference: arm, weight, a column an arm"
        )
    needed = {"arm", "weight", *arms}
    if not needed <= set(graph.columns) or set(graph["arm"].astype(str)) != set(arms):
        raise UsageError(
            f"`graph`: expected columns {', '.join(['arm', 'weight', *arms])} and a row for each of {', '.join(arms)}"
        )
    table = graph.assign(arm=graph["arm"].astype(str)).set_index("arm").loc[arms]
    return table["weight"].to_numpy(dtype=float), table[arms].to_numpy(dtype=float)
