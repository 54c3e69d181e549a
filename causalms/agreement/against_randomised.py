"""Simulated against randomised effect, within each trial, and how large a disagreement the trial could have shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.agreement.published import least_effective_arm
from causalms.agreement.result import Agreement, Effect, Rule, distance_row, judge, ratio_of, row_again, verdict_rows
from causalms.effects import (
    Analysis,
    Design,
    Measure,
    Method,
    analyse,
    analyse_draws,
    counts_against_draws,
    influence_values,
    measure_named,
    own_counts_words,
    patient_means,
    transformed,
)
from causalms.errors import InputError, RefusalError, named_arguments
from causalms.tables import (
    ResultRow,
    arm_order,
    as_frame,
    completed_draws,
    contrast_population,
    left_out_words,
    name_of,
    net2_column,
    of_one_trial,
    one_week,
    participant_key,
    results_table,
)

Floats = NDArray[np.float64]
#: Columns of the agreement table that stay missing where the model's own error is unknown.
_VERDICTS = (
    "standardised_difference", "significance_agreement", "estimate_agreement", "difference_agreement", "equivalence_lower",
    "equivalence_upper", "equivalence_p", "equivalent", "smallest_detectable",
)  # fmt: skip


@named_arguments
def agree(
    draws: Any,
    participants: Any,
    *,
    measure: str = "rate-ratio",
    week: float | None = None,
    reference: str | None = None,
    margin: float = 1.25,
    level: float = 0.95,
    exposure: str | None = None,
    sources: tuple[str, str] = ("draws", "observed table"),
) -> Agreement:
    r"""Agreement of the simulated with the randomised effect of every contrast that a trial randomised.

    Both effects are of the same patients: all of the trial whose count at the visit was observed.  With influence functions
    :math:`\psi^{sim}_i` and :math:`\psi^{rand}_i` on the log scale the ratio of rate ratios has
    :math:`se^2 = \sum_i (\psi^{sim}_i - \psi^{rand}_i)^2 / (n (n - 1)) + se_{generator}^2`: the first part counts their
    covariance and the draws' Monte-Carlo error, the second is the model's own error.  Where that is unknown agreement is not
    judged.

    Parameters
    ----------
    draws : DataFrame, or path
        Draws table, sampled or expected; its interventional rows are used.
    participants : DataFrame, or path
        With ``participant_id``, ``trial``, ``arm`` and ``net2_lesions_week<W>``.
    measure : {"rate-ratio", "risk-ratio", "risk-difference", "odds-ratio"}
    week : float, optional
        Needed when the draws hold several.
    reference : str, optional
        The arm to compare with.  Default: each trial's least effective arm as published; a trial with an arm that the published
        data do not know needs a name.
    margin : float
        Equivalence margin, named before the results are seen: agreement within 1 / margin to margin for ratios, within
        -margin to margin for differences.
    level : float
    exposure : str, optional
        Column of ``participants`` with the time at risk of the observed counts, for rate ratios: simulated counts are of the
        whole time to the visit for everybody.  Whether the observed counts contradict the model is then not tested.
    sources : tuple of two str
        Names of the two tables in messages.

    Returns
    -------
    Agreement
        Trials and contrasts that could not be compared are in ``refused``, each with its reason.

    Raises
    ------
    InputError
        If a column is missing.
    RefusalError
        If no contrast can be compared.
    UsageError
        If the margin leaves no room, or several weeks are there and none is named.

    Notes
    -----
    The three agreements are those of RCT-DUPLICATE: same direction and significance; simulated estimate within the interval
    of the randomised one; standardised difference below the quantile.  The last is easily met by a small trial, so it never
    stands without the equivalence test and the smallest difference that the trial could have detected.

    References
    ----------
    Wang et al. (2023), JAMA 329:1376 (RCT-DUPLICATE).  Schuirmann (1987), J Pharmacokinet Biopharm 15:657.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> people = pd.DataFrame({"participant_id": range(60), "trial": "T", "arm": ["placebo", "ocrelizumab"] * 30})
    >>> people["net2_lesions_week48"] = rng.poisson(np.where(people["arm"] == "placebo", 5, 1))
    >>> draws = pd.concat([people.assign(arm_randomised=people["arm"], arm=a, expected_net2_lesions=m + 0.01 * people.index)
    ...     for a, m in (("placebo", 5.0), ("ocrelizumab", 1.2))]).assign(visit_week=48.0, query="interventional", query_id="q")
    >>> agree(draws, people).table[["randomised_estimate", "simulated_estimate", "ratio"]].round(3).values.tolist()
    [[0.198, 0.282, 1.429]]
    """
    source, observed_source = sources
    chosen = measure_named(measure)
    rule = Rule(is_ratio=chosen.is_ratio, margin=margin, level=level)
    people_of_trials = of_one_trial(as_frame(participants))
    rows = interventional(completed_draws(as_frame(draws), people_of_trials, week, source), source)
    at = one_week(rows, week, source)
    rows = rows[rows["visit_week"] == at]
    if reference is not None and reference not in set(rows["arm"]):
        arms = ", ".join(sorted(rows["arm"].unique()))
        raise RefusalError(f"{source}: `reference`: found {reference!r}, expected an arm of the draws, one of {arms}")
    table: list[dict[str, Any]] = []
    results: list[ResultRow] = []
    observed, refused = _observed(people_of_trials, at, observed_source, exposure)
    for trial, people in observed.groupby("trial", sort=True):
        try:
            arms_of_trial = _arms(str(trial), people, rows, reference)
        except RefusalError as refusal:  # nothing says which arm to compare with: other trials may still be judged
            refused.append(str(refusal))
            continue
        for arm in arms_of_trial[1:]:
            try:
                contrast = _Contrast.of(rows, people, str(trial), (arms_of_trial[0], arm), chosen, at, level, exposure)
            except RefusalError as refusal:  # no event in an arm, one patient: other contrasts may still be judged
                refused.append(f"{trial}: {arm} against {arms_of_trial[0]}: {refusal}")
                continue
            table.append(contrast.line(rule))
            results += contrast.rows(table[-1])
    if not table:
        none = f"{source}: no trial randomised two arms that the draws also hold; simulate the arms of the trial"
        raise RefusalError("; ".join(refused) or none)
    own = None if exposure is not None else counts_against_draws(rows.drop(columns="key"), participants, at, source)
    return Agreement(pd.DataFrame(table), results_table(results), tuple(refused), tuple(own_counts_words(own)))


def interventional(draws: pd.DataFrame, source: str) -> pd.DataFrame:
    """Rows of a draws table that answer "what if": rung 2, with the ``key`` that patients are matched by."""
    for name in ("participant_id", "arm", "visit_week", "query"):
        if name not in draws:
            raise InputError(f"{source}: no column {name!r}; give a draws table")
    rows = draws[draws["query"] == "interventional"]
    if rows.empty:
        raise RefusalError(f"{source}: no interventional rows; effects of rung 2 are needed, as the query `do` gives them")
    return rows.assign(key=participant_key(rows["participant_id"]))


def _observed(participants: pd.DataFrame, week: float, source: str, exposure: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Patients of a known trial and arm whose count at the visit was observed, and how many were left out, in words."""
    column = net2_column(int(week))
    timed = () if exposure is None else (exposure,)
    for name in ("participant_id", "trial", "arm", column, *timed):
        if name not in participants:
            columns = ", ".join(map(str, participants.columns[:20]))
            raise InputError(f"{source}: no column {name!r}; add it (columns found: {columns})")
    if participants[column].isna().all():
        raise RefusalError(f"{source}: column {column!r} is empty; choose a week that was observed")
    missing = {name: int(participants[name].isna().sum()) for name in (column, "arm", "trial", *timed)}
    observed = participants.dropna(subset=list(missing))
    left_out = len(participants) - len(observed)
    notes = [left_out_words(left_out, len(participants), missing)] if left_out else []
    return observed.assign(key=participant_key(observed["participant_id"]), outcome=observed[column]), notes


def _arms(trial: str, people: pd.DataFrame, draws: pd.DataFrame, reference: str | None) -> tuple[str, ...]:
    """Arms that the trial randomised and the draws hold, the reference first; none where nothing can be compared."""
    simulated = set(draws.loc[draws["key"].isin(set(people["key"])), "arm"].astype(str))
    arms = tuple(arm for arm in arm_order(people["arm"]) if arm in simulated)
    if len(arms) < 2:
        return ()
    if reference is not None and reference not in arms:
        raise RefusalError(f"trial {trial}: arms {', '.join(arms)}; {reference!r} is none of them")
    return arm_order(arms, reference or least_effective_arm(trial, arms))


@dataclass(frozen=True)
class _Contrast:
    """Both effects of a contrast in the same patients."""

    trial: str
    population: str
    week: float
    randomised: pd.Series
    simulated: pd.Series
    patients: int
    se_patient: float
    se_generator: float
    degrees_of_freedom: float
    time_at_risk: str

    @property
    def se(self) -> float:
        """Of the difference of both effects; missing where the model's own error is unknown."""
        return float(np.hypot(self.se_patient, self.se_generator))

    @classmethod
    def of(
        cls,
        draws: pd.DataFrame,
        people: pd.DataFrame,
        trial: str,
        pair: tuple[str, str],
        measure: Measure,
        week: float,
        level: float,
        exposure: str | None,
    ) -> _Contrast:
        """Both effects of ``pair``, reference first, and the standard error of their difference."""
        reference, arm = pair
        people = _with_events(people, pair) if measure.is_ratio else people
        people = people[people["key"].isin(set(draws["key"]))].sort_values("key").reset_index(drop=True)
        chosen = draws[draws["key"].isin(set(people["key"])) & draws["arm"].isin(pair)]
        population = f"{contrast_population(people, arm, reference).words} of {trial} observed at week {name_of(week)}"
        analysis = analyse(
            people,
            outcome="outcome",
            reference=reference,
            exposure=exposure,
            measure=measure.option,
            design=Design(population=population, source=f"trial {trial}"),
            method=Method(estimator="unadjusted", variance="leave-one-out-t", level=level),
        )
        simulated = analyse_draws(chosen.drop(columns="key"), reference=reference, measure=measure.option, level=level)
        simulated_influence = _simulated_influence(chosen, people["key"], pair, measure)
        influence = simulated_influence - _randomised_influence(analysis, arm, measure)
        n = len(people)
        return cls(
            trial=trial,
            population=population,
            week=week,
            randomised=analysis.results[analysis.results["arm"] == arm].iloc[0],
            simulated=simulated.iloc[0],
            patients=n,
            se_patient=float(np.sqrt((influence**2).sum() / (n * (n - 1)))),
            se_generator=float(simulated.iloc[0]["se_generator"]),
            degrees_of_freedom=float(analysis.covariance.degrees_of_freedom),
            time_at_risk="" if exposure is None else f", time at risk in {exposure}",
        )

    def line(self, rule: Rule) -> dict[str, Any]:
        """The contrast's row of the agreement table."""
        effects = {"randomised": self.randomised, "simulated": self.simulated}
        target, simulated = (
            Effect(row["estimate"], row["lower"], row["upper"], bool(row["p_value"] < 1 - rule.level)) for row in effects.values()
        )
        return {
            "label": f"{self.trial}: {self.randomised['arm']} against {self.randomised['reference']}",
            "trial": self.trial,
            "arm": self.randomised["arm"],
            "reference": self.randomised["reference"],
            "measure": self.randomised["measure"],
            "week": self.week,
            "n": self.patients,
            **{
                f"{kind}_{name}": row[name] for kind, row in effects.items() for name in ("estimate", "lower", "upper", "p_value")
            },
            **dict.fromkeys(_VERDICTS, np.nan),
            **judge(target, simulated, self.se, rule, self.degrees_of_freedom),
        }

    def rows(self, line: dict[str, Any]) -> list[ResultRow]:
        """The contrast's rows of the results table: both effects, their distance, equivalence and the three agreements."""
        randomised = row_again(self.randomised, "agreement: randomised effect")
        simulated = row_again(self.simulated, "agreement: simulated effect")
        what = ratio_of(line["measure"])
        against = "over" if line["measure"].endswith("ratio") else "minus"
        sides = f"{line['arm']} against {line['reference']} in {self.population}"
        distance = distance_row(
            line,
            ResultRow(
                analysis="agreement",
                measure=what,
                randomised=False,
                population=self.population,
                estimand=f"{what}, simulated {against} randomised, {sides}; randomised together in {self.trial}",
                estimator=f"{what}, simulated by g-computation, randomised unadjusted{self.time_at_risk}",
                variance="joint influence function of both effects over the same patients, t"
                + ("; model error unknown" if np.isnan(self.se_generator) else " + the model's own error"),
                n=randomised.n,
                n_reference=randomised.n_reference,
                se_patient=self.se_patient,
                se_generator=self.se_generator,
                se_monte_carlo=simulated.se_monte_carlo,
            ),
        )
        return [randomised, replace(simulated, population=self.population), distance, *verdict_rows(line, distance)]


def _with_events(people: pd.DataFrame, pair: tuple[str, str]) -> pd.DataFrame:
    """Patients of the arms that have an event: a ratio of an arm without any is 0 or boundless, without a standard error."""
    silent = people.groupby("arm", observed=True)["outcome"].sum().loc[lambda events: events == 0].index
    for name in pair:
        if name in silent:
            raise RefusalError(f"arm {name!r} has no event, so its ratio has no standard error to compare by")
    return people[~people["arm"].isin(silent)]


def _simulated_influence(draws: pd.DataFrame, keys: pd.Series, pair: tuple[str, str], measure: Measure) -> Floats:
    """Influence of every patient on the simulated effect, on the scale of inference, shape (n,)."""
    means = patient_means(draws.drop(columns="key"), reference=pair[0], measure=measure.option)
    keyed = means.assign(key=participant_key(means["participant_id"])).set_index("key")
    values = keyed.loc[keys, list(pair)].to_numpy(float)
    average = values.mean(axis=0)
    _, slopes = transformed(average, measure.scale, pair)
    return np.asarray((values - average) @ (slopes * np.array([-1.0, 1.0])))


def _randomised_influence(analysis: Analysis, arm: str, measure: Measure) -> Floats:
    """Influence of every patient on the randomised effect, on the scale of inference, by leave-one-out residuals, shape (n,)."""
    means = analysis.means
    assert means is not None
    columns = [0, analysis.data.arms.index(arm)]
    left_out = means.residuals / np.clip(1 - means.fit.leverage, 1e-8, None)
    _, slopes = transformed(means.estimates[columns], measure.scale)
    return np.asarray(influence_values(means, left_out)[:, columns] @ (slopes * np.array([-1.0, 1.0])))
