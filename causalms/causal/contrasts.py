"""One simulated contrast and what must stand beside it: was it ever randomised, what it assumes, and what would erase it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalms.causal.transport import (
    BASELINE,
    Sensitivity,
    covariate_benchmarks,
    covariate_overlap,
    overlap_weights,
    trial_effect_benchmark,
    unmeasured_trial_effect,
)
from causalms.effects import analyse_draws
from causalms.errors import UsageError
from causalms.tables import ContrastPopulation, ResultRow, contrast_population, net2_column, one_week, results_table

_RATIO = {
    "net2_lesions": ("mean-ratio", "net2_lesions"),
    "net2_volume_ml": ("mean-ratio", "net2_volume_ml"),
    "any": ("risk-ratio", "net2_lesions"),
}


@dataclass(frozen=True)
class Support:
    """How the trials of a table support a simulated contrast of two of its worlds.

    Attributes
    ----------
    trials : tuple of str
        The trials that randomised both arms.
    assumption : str
        What has to hold for the contrast to be an effect, in words.
    compared : bool
        Whether patients of the table were given each of the two, so that their covariates can be compared.
    """

    trials: tuple[str, ...]
    assumption: str
    compared: bool = True

    @property
    def words(self) -> str:
        """In which trial, if any, both arms were randomised together."""
        if self.trials:
            return f"randomised together in {', '.join(self.trials)}"
        return "randomised together in no trial: transported"


def support(participants: pd.DataFrame, arm: str, reference: str, assignment: str = "randomised") -> Support:
    """The trials of a table that randomised both arms, and what must be assumed if none did.

    Parameters
    ----------
    participants : DataFrame
        With arm and trial.
    arm, reference : str
        Arms of the table, or names of treatment policies.
    assignment : {"randomised", "registry"}
        Under ``registry`` arms were chosen, so that patients of one centre on both arms are no randomised comparison.

    Examples
    --------
    >>> table = pd.DataFrame({"trial": ["A", "A", "B"], "arm": ["placebo", "drug", "other"]})
    >>> support(table, "drug", "placebo").words, support(table, "other", "placebo").words
    ('randomised together in A', 'randomised together in no trial: transported')
    """
    if not {arm, reference} <= set(participants["arm"].dropna()):
        alone = [name for name in (arm, reference) if name not in set(participants["arm"].dropna())]
        words = (
            f"{' and '.join(alone)} was not randomised by any trial: the contrast assumes that the model's count given "
            "covariates holds under every arm that is given"
        )
        return Support((), words, compared=False)
    if assignment == "registry":
        chosen = (
            f"{arm} and {reference} were chosen and not randomised: the contrast assumes that the measured baseline covariates "
            "hold every reason for the choice that also bears on the outcome, and that covariates overlap"
        )
        return Support((), chosen)
    population: ContrastPopulation = contrast_population(participants, arm, reference)
    return Support(population.trials, population.assumption)


@dataclass(frozen=True)
class Contrast:
    """A rung-2 contrast and its support.

    Attributes
    ----------
    results : DataFrame
        The ratio of means; for a transported contrast also that of the overlap population, and the E-values.
    support : Support
    overlap : DataFrame or None
        Covariate overlap of the two arms' patients; None where a trial randomised both.
    sensitivity : Sensitivity or None
        None where a trial randomised both.
    confounding : DataFrame or None
        What an unmeasured cause would have to be to erase the contrast, beside what measured covariates are; None where a trial
        randomised both.
    """

    results: pd.DataFrame
    support: Support
    overlap: pd.DataFrame | None = field(default=None, repr=False)
    sensitivity: Sensitivity | None = None
    confounding: pd.DataFrame | None = field(default=None, repr=False)


def contrast(
    table: pd.DataFrame,
    participants: pd.DataFrame,
    arm: str,
    reference: str,
    week: float | None = None,
    outcome: str = "net2_lesions",
    columns: Sequence[str] = BASELINE,
    assignment: str = "randomised",
) -> Contrast:
    """Ratio of means of two arms of a draws (or expected) table, with transport said where no trial randomised both.

    The estimate and its errors are those of :func:`causalms.effects.analyse_draws`.

    Parameters
    ----------
    table : DataFrame
        From ``do`` for both arms.
    participants : DataFrame
        The patients with their randomised arms, trials, baseline columns and (for the benchmark) observed outcomes.
    arm, reference : str
        Worlds of the table: arms, or names of treatment policies.
    week : float, optional
        Needed where the table has several visits.
    outcome : {"net2_lesions", "net2_volume_ml", "any"}
    columns : sequence of str
        Baseline columns that overlap and benchmark adjust for.
    assignment : {"randomised", "registry"}
        Under ``registry`` (arms chosen, not randomised) no trial counts as having randomised both.

    Raises
    ------
    UsageError
        If the outcome or the week is unknown.
    RefusalError
        If arms that no trial randomised together have no overlap.
    """
    if outcome not in _RATIO:
        raise UsageError(f"`outcome`: {outcome!r} is unknown; choose {', '.join(_RATIO)}")
    simulated = table[table["query"] != "observed"]
    week = one_week(simulated, week, "draws")
    measure, column = _RATIO[outcome]
    worlds = simulated[simulated["arm"].isin([arm, reference])]
    row = analyse_draws(worlds, reference=reference, measure=measure, outcome=column, week=week)
    supported = support(participants, arm, reference, assignment)
    words = supported.words if supported.trials else f"{supported.words}; {supported.assumption}"
    row = row.assign(estimand=row["estimand"] + f"; {words}", randomised=False)
    if supported.trials or not supported.compared:
        return Contrast(row, supported)
    overlap = covariate_overlap(participants, arm, reference, columns)
    ratio, lower, upper = (float(row[c].iloc[0]) for c in ("estimate", "lower", "upper"))  # the ends are missing where the
    # model's own error is unknown, and then the E-value of the interval is too
    benchmark = _benchmark(participants, net2_column(int(week)), columns, assignment)
    sensitivity = unmeasured_trial_effect(ratio, lower, upper, benchmark)
    weights = overlap_weights(participants, arm, reference, columns)
    alike = analyse_draws(worlds, reference=reference, measure=measure, outcome=column, week=week, weights=weights)
    alike = alike.assign(estimand=alike["estimand"] + f"; {words}", measure=alike["measure"] + ", overlap population")
    results = pd.concat([row, _beside(row.iloc[0], overlap, sensitivity), alike], ignore_index=True)
    confounding = _confounding(participants, row.iloc[0], net2_column(int(week)), columns, sensitivity)
    return Contrast(results, supported, overlap, sensitivity, confounding)


def contrasts_with_reference(
    table: pd.DataFrame,
    participants: pd.DataFrame,
    reference: str,
    outcome: str = "net2_lesions",
    columns: Sequence[str] = BASELINE,
    assignment: str = "randomised",
) -> pd.DataFrame:
    """Results of every world of a table against one of its arms, at every visit, each with what must stand beside it.

    ``attrs["confounding"]`` holds the rows of ``Contrast.confounding`` of all contrasts that no trial randomised.

    Parameters
    ----------
    table, participants, outcome, columns, assignment
        As for :func:`contrast`.
    reference : str
        A world of the table.

    Raises
    ------
    UsageError
        If the table holds no world but the reference.
    """
    rows = table[table["query"] != "observed"]
    others = [str(a) for a in rows["arm"].unique() if a != reference]
    if not others:
        raise UsageError(f"the table holds no world to compare with {reference!r}; set another arm or policy too")
    found = [
        contrast(table, participants, other, reference, week, outcome, columns, assignment)
        for week in sorted(rows["visit_week"].unique())
        for other in others
    ]
    results = pd.concat([one.results for one in found], ignore_index=True)
    results.attrs["confounding"] = [
        row for one in found if one.confounding is not None for row in one.confounding.to_dict("records")
    ]
    return results


def _confounding(
    participants: pd.DataFrame, row: pd.Series, observed: str, columns: Sequence[str], sensitivity: Sensitivity
) -> pd.DataFrame | None:
    """The biases that erase estimate and interval, then those that a cause like each measured covariate could make."""
    if observed not in participants:
        return None
    arm, reference = str(row["arm"]), str(row["reference"])
    erases = {"the estimate": sensitivity.erases_estimate, "the interval": sensitivity.erases_interval}
    needed = pd.DataFrame({"covariate": [f"needed to erase {what}" for what in erases], "bias": list(erases.values())})
    found = covariate_benchmarks(participants, arm, reference, observed, columns)
    table = pd.concat([needed, found], ignore_index=True).assign(arm=arm, reference=reference, analysis=row["analysis"])
    return table[["arm", "reference", "analysis", *found.columns]]


def _benchmark(participants: pd.DataFrame, observed: str, columns: Sequence[str], assignment: str) -> float:
    if observed not in participants or assignment == "registry":
        return np.nan
    ratios = trial_effect_benchmark(participants, observed, columns)["ratio"].to_numpy(float)
    return float(np.max(np.maximum(ratios, 1 / ratios))) if len(ratios) else np.nan


def _beside(row: pd.Series, overlap: pd.DataFrame, sensitivity: Sensitivity) -> pd.DataFrame:
    """Rows of overlap and sensitivity beside a contrast that no trial randomised."""
    propensity = overlap.iloc[-1]
    common = "share of the patients of the two arms in the range of the propensity that both hold"
    effective = "effective sample size of the smaller arm after weighting by inverse propensity, as a share of its patients"
    values = [
        ("E-value", sensitivity.e_value, sensitivity.words, "sensitivity to an unmeasured trial effect"),
        ("E-value of the interval", sensitivity.e_value_interval, sensitivity.words, "sensitivity to an unmeasured trial effect"),
        ("covariate overlap, share in common", propensity["share_in_common"], common, "overlap of baseline covariates"),
        ("covariate overlap, effective share", propensity["effective_share"], effective, "overlap of baseline covariates"),
    ]
    same = {name: row[name] for name in ("analysis", "population", "subgroup", "arm", "reference", "n", "n_reference")}
    return results_table(
        ResultRow(**same, measure=measure, estimate=float(value), estimand=text, estimator=how, randomised=False, rung=2)
        for measure, value, text, how in values
    )
