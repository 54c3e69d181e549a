"""The four steps in one call: an observed trial table in, effects with their estimand, estimator and variance out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects.contrasts import Contrast, wald
from causalms.effects.covariance import Covariance
from causalms.effects.data import TREATMENT_POLICY, Adjustment, Design, TrialData, trial_data
from causalms.effects.design import Method, Settings, checked_settings, of_small_arms
from causalms.effects.estimands import Estimand
from causalms.effects.means import ArmMeans
from causalms.effects.no_events import silent_arms
from causalms.effects.steps import (
    differences_with_silent_arms,
    differences_without_covariates,
    estimated,
    estimated_with_silent_arms,
)
from causalms.effects.wording import TEST_NAMES, estimand_of, estimator_name, notes_of
from causalms.errors import InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Fit
from causalms.tables import ContrastPopulation, ResultRow, as_frame, contrast_population, results_table


@dataclass(frozen=True, repr=False)
class Analysis:
    """Effects of arms against the reference among one set of patients, with all that is needed to read and check them.

    Contrasts of a table of several trials may be about different patients: ``parts`` holds one analysis for each set.

    Attributes
    ----------
    data : TrialData
        The patients that were used.
    settings : Settings
    fit : Fit
        The working model.
    means : ArmMeans or None
        Counterfactual means; None for a conditional coefficient.
    covariance : Covariance
        Of the means, or of the coefficients for a conditional estimator.
    contrasts : tuple of Contrast
        One an arm other than the reference, in the order of ``data.arms``.
    populations : tuple of ContrastPopulation
        Whom each contrast is about; those of an arm whose contrast is about other patients are not reported here.
    estimands : tuple of Estimand
    notes : tuple of str
    others : tuple of Analysis
        The analyses of the other sets of patients.
    """

    data: TrialData
    settings: Settings
    fit: Fit
    means: ArmMeans | None
    covariance: Covariance
    contrasts: tuple[Contrast, ...]
    populations: tuple[ContrastPopulation, ...]
    estimands: tuple[Estimand, ...]
    outcome: str
    estimator_name: str
    notes: tuple[str, ...] = ()
    others: tuple[Analysis, ...] = ()

    @property
    def parts(self) -> tuple[Analysis, ...]:
        """One analysis for each set of patients, this one first."""
        return (replace(self, others=()), *self.others)

    @property
    def reported(self) -> tuple[int, ...]:
        """Indices of the arms whose contrast with the reference is about these patients."""
        arms = {population.arm for population in self.populations}
        return tuple(index for index, arm in enumerate(self.data.arms) if index and arm in arms)

    @property
    def results(self) -> pd.DataFrame:
        """One row a contrast, in the schema of the results table."""
        return results_table(row for part in self.parts for row in part._rows())

    def _rows(self) -> list[ResultRow]:
        by_arm = {population.arm: population for population in self.populations}
        return [self._row(index, by_arm[self.data.arms[index]]) for index in self.reported]

    def _row(self, index: int, population: ContrastPopulation) -> ResultRow:
        names = self.data.arms[index], self.data.arms[0]
        return self.row(names, self.estimands[index - 1], self.contrasts[index - 1], population.randomised)

    def row(self, names: tuple[str, str], estimand: Estimand, contrast: Contrast, randomised: bool) -> ResultRow:
        """The row of a contrast of two arms of this analysis."""
        sizes = dict(zip(self.data.arms, self.data.sizes, strict=True))
        return ResultRow(
            analysis=f"observed {self.outcome}",
            population=estimand.population,
            subgroup="all",
            arm=names[0],
            reference=names[1],
            measure=self.settings.measure.name,
            estimand=estimand.sentence,
            estimator=self.estimator_name,
            variance=self.covariance.name,
            **contrast.columns,
            n=sizes[names[0]],
            n_reference=sizes[names[1]],
            se_patient=contrast.se,
            randomised=randomised,
            rung=2,
        )

    def __repr__(self) -> str:
        """The page that the command line prints."""
        from causalms.effects.printing import page

        return page(self)

    def _repr_html_(self) -> str:
        from causalms.effects.printing import html_page

        return html_page(self.results, repr(self))

    @property
    def joint_covariance(self) -> pd.DataFrame:
        """Covariance of the arms' means, arms by arms.

        Raises
        ------
        UsageError
            The analysis is of a coefficient.
        """
        if self.means is None:
            raise UsageError("there is a joint covariance of means only; use `estimator` standardized or unadjusted")
        names = pd.Index(self.data.arms, name="arm")
        return pd.DataFrame(self.covariance.matrix, index=names, columns=names)

    @property
    def arms(self) -> pd.DataFrame:
        """One row an arm: patients, events, exposure, crude and estimated rate (risk, mean) with its interval."""
        events = np.bincount(self.data.arm, weights=self.data.outcome, minlength=len(self.data.arms))
        exposure = np.bincount(self.data.arm, weights=self.data.exposure, minlength=len(self.data.arms))
        table = pd.DataFrame({"arm": self.data.arms, "n": self.data.sizes, "events": events, "exposure": exposure})
        table["crude"] = events / exposure
        for name in ("estimate", "lower", "upper"):
            table[name] = np.nan
        if self.means is None:
            return table
        for index in range(len(self.data.arms)):
            value, slope = self.means.estimates[index], 1.0
            log = self.settings.measure.kind == "rate" and value > 0
            if log:
                value, slope = np.log(value), 1 / value
            se = float(np.sqrt(max(self.covariance.matrix[index, index], 0)) * slope)
            own = self.covariance.arm_degrees
            degrees = float(self.covariance.degrees_of_freedom if own is None else own[index])
            table.loc[index, "estimate"] = self.means.estimates[index]
            if se > 0:
                interval = wald(value, se, log=log, level=self.settings.level, degrees_of_freedom=degrees)
                table.loc[index, ["lower", "upper"]] = interval.lower, interval.upper
        return table


@named_arguments
def analyse(
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
) -> Analysis:
    """Estimate treatment effects from one row a patient.

    Parameters
    ----------
    table : DataFrame, or path
        pandas, polars or arrow, or a file that holds one.
    outcome : str
        Column of counts (rates), of 0/1 or counts (risks: any against none), or of numbers (means).
    reference : str
        The arm to compare with.
    arm : str
        Column of the randomised arm.
    measure : str
        One of :data:`causalms.effects.estimands.MEASURES`.
    exposure : str, optional
        Column of time at risk (not its logarithm), for rates.
    adjust : str, optional
        Formula of baseline covariates, such as ``"age + C(site)"``.
    design : Design
        Randomisation, strata, clusters, and whom the contrasts are about.
    method : Method
        Estimator, working model, variance, test, level.

    Returns
    -------
    Analysis

    Raises
    ------
    InputError, RefusalError, UsageError, ConvergenceError
        In one line that names the column or option and the mend.

    References
    ----------
    ICH E9(R1) (2019); FDA (2023), Adjusting for Covariates in Randomized Clinical Trials; Ye et al. (2023), JASA 118:2370-2382.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"relapses": [2, 4, 3, 1, 0, 2], "arm": ["placebo"] * 3 + ["drug"] * 3})
    >>> result = analyse(table, outcome="relapses", reference="placebo").results
    >>> result[["estimate", "se"]].round(4).values.tolist()
    [[0.3333, 0.9574]]
    """
    if method.missing is not None:
        raise UsageError("`missing` names a strategy for missing outcomes; call effects_with_missing_outcomes")
    settings, source = checked_settings(measure, exposure, adjust, design, method), design.source
    table = as_frame(table)
    adjustment = Adjustment(formula=adjust, prognostic=method.prognostic, log_prognostic=settings.family != "linear")
    columns_used: dict[str, Any] = {
        "outcome": outcome,
        "arm": arm,
        "reference": reference,
        "kind": settings.measure.outcome_kind,
        "exposure": exposure,
        "design": design,
    }
    everybody = trial_data(table, **columns_used, adjustment=adjustment)
    if settings.family == "poisson" and (everybody.outcome < 0).any():
        raise InputError(f"{source}: column {outcome!r} holds negative values; use `working_model=linear`")
    if settings.family != "linear" and not everybody.outcome.any():
        raise RefusalError(
            f"{source}: column {outcome!r}: no patient has an event, so arms cannot be compared; choose another outcome or visit"
        )
    parts = []
    for populations in sets_of_patients(everybody, design.pool_trials):
        data, who = everybody, populations[0]
        # trial is a factor of the working model where several trials randomised both arms
        factor = who.randomised and len(who.trials) > 1
        if factor or not who.included.all():
            rows = everybody.rows[who.included]
            own = table.iloc[rows].reset_index(drop=True)
            data = trial_data(own, **columns_used, adjustment=replace(adjustment, trial=factor))
            notes = tuple(dict.fromkeys((*everybody.notes, *data.notes)))
            data = replace(data, rows=rows[data.rows], notes=notes)
        parts.append(analyse_data(data, settings, outcome, populations, design.population, design.intercurrent_events))
    return replace(parts[0], others=tuple(parts[1:]))


def sets_of_patients(data: TrialData, pool: bool) -> list[tuple[ContrastPopulation, ...]]:
    """The contrasts with the reference, those about the same patients together."""
    table = pd.DataFrame({"arm": np.array(data.arms, dtype=object)[data.arm]})
    if data.trial is not None:
        table["trial"] = data.trial
    sets: dict[tuple[bytes, bool], list[ContrastPopulation]] = {}
    for arm in data.arms[1:]:
        population = contrast_population(table, arm, data.arms[0], pool=pool)
        factor = population.randomised and len(population.trials) > 1
        sets.setdefault((population.included.tobytes(), factor), []).append(population)
    return [tuple(populations) for populations in sets.values()]


def analyse_data(
    data: TrialData,
    settings: Settings,
    outcome: str,
    populations: tuple[ContrastPopulation, ...],
    population_words: str | None = None,
    intercurrent_events: str = TREATMENT_POLICY,
) -> Analysis:
    """The four steps on checked data; see :func:`analyse`."""
    settings = of_small_arms(settings, int(data.sizes.min()))
    bounded = settings.estimator != "firth" and settings.measure.option in ("rate-ratio", "risk-ratio", "odds-ratio")
    silent = silent_arms(data) if bounded else ()
    if silent:
        fit, means, covariance, contrasts, more = estimated_with_silent_arms(data, settings, outcome, silent)
    elif differences_without_covariates(data, settings) and (quiet := silent_arms(data)):
        fit, means, covariance, contrasts, more = differences_with_silent_arms(data, settings, outcome, quiet)
    else:
        fit, means, covariance, contrasts, more = estimated(data, settings, outcome)
    if settings.test != "wald":
        contrasts, name, said = _tested(data, contrasts, settings)
        covariance, more = replace(covariance, name=f"{covariance.name}; p: {name}"), more + said
    left_out = any("left out for a missing value" in note for note in data.notes)
    words = population_words or populations[0].words + (" with complete data" if left_out else "")
    estimands = tuple(estimand_of(data, settings, outcome, arm, words, intercurrent_events) for arm in data.arms[1:])
    notes = data.notes + more + notes_of(data, settings, fit) + tuple(filter(None, (who.note for who in populations)))
    if settings.estimator == "unadjusted" and populations[0].randomised and len(populations[0].trials) > 1:
        notes += ("arm means over several trials take no account of trial; the standardized estimator does",)
    return Analysis(
        data=data,
        settings=settings,
        fit=fit,
        means=means,
        covariance=covariance,
        contrasts=contrasts,
        populations=populations,
        estimands=estimands,
        outcome=outcome,
        estimator_name=estimator_name(data, settings),
        notes=notes,
    )


def _tested(
    data: TrialData, contrasts: tuple[Contrast, ...], settings: Settings
) -> tuple[tuple[Contrast, ...], str, tuple[str, ...]]:
    """The same contrasts with the p-value of the named test, the test's name, and what it adds in words."""
    from causalms.effects.ranks import rank_test
    from causalms.effects.tests import permutation_test, score_test

    if settings.test == "wilcoxon":
        ranks = [rank_test(data, arm, settings.level) for arm in range(1, len(data.arms))]
        with_p = tuple(replace(contrast, p_value=test.p_value) for contrast, test in zip(contrasts, ranks, strict=True))
        return with_p, ranks[0].name, tuple(test.sentence for test in ranks)
    tested = []
    for arm, contrast in enumerate(contrasts, start=1):
        if settings.test == "score":
            p_value = score_test(data, settings.family, arm)[1]
        else:
            p_value = permutation_test(data, settings.family, arm, settings.replicates, settings.seed, settings.test)[1]
        tested.append(replace(contrast, p_value=p_value))
    return tuple(tested), TEST_NAMES[settings.test], ()
