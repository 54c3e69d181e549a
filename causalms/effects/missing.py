"""Missing outcomes by a named strategy: inverse probability weighting, or multiple imputation by a generator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects import columns
from causalms.effects.data import Design
from causalms.effects.design import Method, MissingOutcomes
from causalms.effects.inverse_probability import inverse_probability_effects
from causalms.effects.observed import Analysis, analyse
from causalms.effects.pooling import pooled_results
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Array
from causalms.tables import (
    WEEKS_PER_YEAR,
    as_frame,
    name_of,
    names_of,
    one_week,
    percentage,
)


@named_arguments
def effects_with_missing_outcomes(
    table: Any,
    *,
    outcome: str,
    reference: str,
    arm: str = "arm",
    measure: str = "rate-ratio",
    exposure: str | None = None,
    adjust: str | None = None,
    design: Design = Design(),
    method: Method = Method(),
) -> pd.DataFrame:
    r"""Effects with missing outcomes handled by a named strategy, as a results table that says which.

    ``ipw``: complete cases weighted by the inverse of the probability :math:`\hat p_i` of being complete, from a logistic model
    within each arm on ``missing_given``.  With ``adjust`` (or prognostic columns) a model of the outcome, fitted with these
    weights, predicts every randomised patient, and arm means are corrected by the weighted residuals of the complete cases: right
    if either model is.  The variance is that of the stacked estimating equations, both models counted as estimated.  Where
    several trials randomised both arms, this is done trial by trial and averaged over their patients.

    ``multiple-imputation``: outcomes drawn by the generator under each patient's own arm, pooled by Rubin's rules; with M draws
    :math:`T = \bar U + (1 + 1/M) B` and the degrees of freedom of Barnard and Rubin (1999), which count those of the completed
    table.  An imputed patient's exposure is the whole time to ``week``.  ``jump-to-reference``: the same with draws under the
    reference for everybody who lacks an outcome.

    Parameters
    ----------
    table : DataFrame, or path
        One row a randomised patient; a missing outcome is an empty cell.
    outcome, reference, arm, measure, exposure, adjust, design
        As in :func:`causalms.effects.analyse`.
    method : Method
        ``method.missing`` is the strategy; complete cases where none is named.

    Returns
    -------
    DataFrame

    Raises
    ------
    UsageError
        The strategy is unknown, or an argument has no meaning with it.
    InputError
        A covariate of ``missing_given`` is itself missing, or a patient who lacks an outcome has no draw.
    RefusalError
        A patient's probability is so small that its weight decides the result (positivity); fewer than two draws.

    References
    ----------
    Robins, Rotnitzky, Zhao (1994), JASA 89:846-866; Seaman and White (2013), Statistical Methods in Medical Research 22:278-295.
    Rubin (1987), Multiple Imputation for Nonresponse in Surveys.

    Examples
    --------
    >>> table = pd.DataFrame({"y": [2.0, 4, np.nan, 3, 1, 2], "arm": ["p"] * 3 + ["d"] * 3})
    >>> strategy = MissingOutcomes(strategy="complete-case")
    >>> results = effects_with_missing_outcomes(table, outcome="y", reference="p", method=Method(missing=strategy))
    >>> round(float(results["estimate"].iloc[0]), 3), "complete cases" in results["estimator"].iloc[0]
    (0.667, True)
    """
    missing = method.missing or MissingOutcomes()
    if missing.strategy not in STRATEGIES:
        raise UsageError(f"`missing`: found {missing.strategy!r}, expected one of {', '.join(STRATEGIES)}")
    analysis = _Analysis(
        as_frame(table), outcome, reference, arm, measure, exposure, adjust, design, replace(method, missing=None)
    )
    return STRATEGIES[missing.strategy](analysis, missing)


@dataclass(frozen=True)
class _Analysis:
    """Arguments of :func:`causalms.effects.analyse`."""

    table: pd.DataFrame
    outcome: str
    reference: str
    arm: str
    measure: str
    exposure: str | None
    adjust: str | None
    design: Design
    method: Method

    def run(self) -> Analysis:
        return analyse(**vars(self))


def _complete_cases(analysis: _Analysis, missing: MissingOutcomes) -> pd.DataFrame:
    complete = analysis.run()
    left_out = [note for note in complete.notes if "left out" in note]
    results = complete.results
    return results.assign(estimator=["; ".join([text, "complete cases", *left_out]) for text in results["estimator"]])


def _inverse_probability(analysis: _Analysis, missing: MissingOutcomes) -> pd.DataFrame:
    """Arm means weighted by the inverse probability of being complete, augmented by a model of the outcome with ``adjust``."""
    compared = {name: getattr(analysis, name) for name in ("outcome", "arm", "reference", "measure", "exposure")}
    return inverse_probability_effects(analysis.table, compared, analysis.adjust, analysis.design, analysis.method, missing)


def _jump_to_reference(analysis: _Analysis, missing: MissingOutcomes) -> pd.DataFrame:
    """Missing outcomes imputed by the generator's draws under the reference, whatever the patient's arm."""
    return _multiple_imputation(analysis, missing, analysis.reference)


def _multiple_imputation(analysis: _Analysis, missing: MissingOutcomes, under: str | None = None) -> pd.DataFrame:
    """Effects of tables completed by the generator's draws, under the own arm or one arm for all, pooled by Rubin's rules."""
    table, source, exposure = analysis.table, analysis.design.source, analysis.exposure
    lacking = np.flatnonzero(columns.column(table, analysis.outcome, source).isna().to_numpy())
    if not len(lacking):
        raise RefusalError(f"{source}: column {analysis.outcome!r} lacks no value; use the complete-case strategy")
    if missing.draws is None:
        whose = "each patient's own arm" if under is None else f"{under!r}"
        raise UsageError(f"`missing={missing.strategy}` needs `draws` (under {whose})")
    imputed, week = _imputed_outcomes(table, lacking, missing, source, under)
    count = imputed.shape[1]
    if count < 2:
        raise RefusalError("draws: multiple imputation needs at least two draws; draw more")
    completed = table
    if exposure is not None:
        completed = _with_values(completed, exposure, lacking, week / WEEKS_PER_YEAR)
    analyses = [
        replace(analysis, table=_with_values(completed, analysis.outcome, lacking, imputed[draw].to_numpy())).run()
        for draw in imputed.columns
    ]
    results = pooled_results(analyses, analysis.method.level)
    left_out = "".join(f"; {note}" for note in analyses[0].notes if "left out" in note)
    share = len(lacking) / len(table)
    jumped = "" if under is None else f" under {under} (jump to reference)"
    results["estimator"] += (
        f"; {len(lacking)} missing outcomes ({percentage(share)}) imputed by the generator{jumped}, {count} draws{left_out}"
    )
    return results


def _with_values(table: pd.DataFrame, name: str, rows: np.ndarray, values: Array | float) -> pd.DataFrame:
    """A copy of the table with other numbers in some rows of a column."""
    column = table[name].astype(float).to_numpy().copy()
    column[rows] = values
    return table.assign(**{name: column})


def _imputed_outcomes(
    table: pd.DataFrame, lacking: np.ndarray, missing: MissingOutcomes, source: str, under: str | None
) -> tuple[pd.DataFrame, float]:
    """Draws of the patients who lack an outcome, one row a patient, one column a draw; and their week."""
    draws = missing.draws
    assert draws is not None
    week = one_week(draws, missing.week, "draws")
    wanted_arm = draws["arm_randomised"].astype(str) if under is None else under
    own = draws[(draws["arm"].astype(str) == wanted_arm) & (draws["visit_week"] == week)]
    wide = own.pivot_table(index=own["participant_id"].astype(str), columns="draw", values=missing.draw_column, aggfunc="first")
    wanted = names_of(columns.column(table, "participant_id", source)).iloc[lacking]
    imputed = wide.reindex(wanted)
    if imputed.empty or imputed.isna().any(axis=None):
        without = wanted.iloc[0] if imputed.empty else wanted[imputed.isna().any(axis=1).to_numpy()].iloc[0]
        whose = "the own arm" if under is None else repr(under)
        raise InputError(
            f"draws: patient {without!r} lacks a draw under {whose} at week {name_of(week)}; query that arm and week"
        )
    return imputed, week


#: Strategies for missing outcomes and their functions.
STRATEGIES: dict[str, Callable[[_Analysis, MissingOutcomes], pd.DataFrame]] = {
    "complete-case": _complete_cases,
    "ipw": _inverse_probability,
    "multiple-imputation": _multiple_imputation,
    "jump-to-reference": _jump_to_reference,
}
