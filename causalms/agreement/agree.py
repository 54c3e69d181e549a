"""Simulated against randomised effect, within each trial, and how large a disagreement the trial could have shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from causalms.agreement.published import by_efficacy
from causalms.effects import analyse, analyse_draws, patient_means
from causalms.effects.contrasts import transformed
from causalms.effects.estimands import Measure, measure_named
from causalms.effects.variance import influence_values
from causalms.errors import InputError, RefusalError, UsageError
from causalms.tables import net2_column, participant_key, results_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement of simulated with randomised effects.

    Attributes
    ----------
    table : DataFrame
        One row a contrast: ``label``, ``trial``, ``arm``, ``reference``, ``measure``, ``week``, ``n``; ``randomised_`` and
        ``simulated_`` ``estimate``, ``lower``, ``upper``, ``p_value``; ``ratio`` (simulated / randomised, or the difference for a
        difference measure) with ``lower``, ``upper``, ``se``, ``p_value``, ``level``; ``standardised_difference``;
        ``significance_agreement``, ``estimate_agreement``, ``difference_agreement``; ``margin``, ``equivalence_lower``,
        ``equivalence_upper``, ``equivalence_p``, ``equivalent``; ``smallest_detectable``: the ratio (or difference) that
        this trial could have told from agreement with 80% power.
    results : DataFrame
        The same in the schema of the results table.
    refused : tuple of str
        Contrasts that could not be compared, each with its reason.
    """

    table: pd.DataFrame
    results: pd.DataFrame
    refused: tuple[str, ...] = ()


def agree(
    draws: pd.DataFrame,
    participants: pd.DataFrame,
    *,
    measure: str = "rate-ratio",
    week: float | None = None,
    reference: str | None = None,
    margin: float = 1.25,
    level: float = 0.95,
    source: str = "draws",
    observed_source: str = "observed table",
) -> Agreement:
    r"""Hold the simulated effect of every randomised contrast against the randomised one, trial by trial.

    Both effects are of the same patients: all of the trial whose count at the visit was observed.  With influence functions
    :math:`\psi^{sim}_i` and :math:`\psi^{rand}_i` on the log scale the ratio of rate ratios has
    :math:`se^2 = \sum_i (\psi^{sim}_i - \psi^{rand}_i)^2 / (n (n - 1))`, which counts their covariance and the draws'
    Monte-Carlo error.

    Parameters
    ----------
    draws : DataFrame
        Draws table, sampled or expected; its interventional rows are used.
    participants : DataFrame
        With ``participant_id``, ``trial``, ``arm`` and ``net2_lesions_week<W>``.
    measure : {"rate-ratio", "risk-ratio", "risk-difference", "odds-ratio"}
    week : float, optional
        Needed when the draws hold several.
    reference : str, optional
        Default: each trial's least effective arm by the published numbers; among other drugs the first by name.
    margin : float
        Equivalence margin, named before the results are seen: agreement within 1 / margin to margin for ratios, within
        -margin to margin for differences.
    level : float
    source, observed_source : str
        Names of the two tables in messages.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError, RefusalError, UsageError

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
    chosen = measure_named(measure)
    if margin <= (1 if chosen.is_ratio else 0):
        raise UsageError(f"margin {margin:g}: give a ratio above 1 (such as 1.25), for a difference measure one above 0")
    rows = _interventional(draws, week, source)
    at = float(rows["visit_week"].iloc[0])
    seen = _observed(participants, at, observed_source)
    if reference is not None and reference not in set(rows["arm"]):
        held = ", ".join(sorted(rows["arm"].unique()))
        raise RefusalError(f"{source}: reference {reference!r} is no arm of the draws; name one of {held}")
    lines: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    refused: list[str] = []
    for trial, people in seen.groupby("trial", sort=True):
        arms = _arms(people, rows, reference)
        if len(arms) < 2:
            continue
        for arm in arms[1:]:
            try:
                line, told = _contrast(rows, people, str(trial), arms, arm, chosen, at, margin, level)
            except RefusalError as refusal:  # no event in an arm, one patient: other contrasts may still be judged
                refused.append(f"{trial}: {arm} against {arms[0]}: {refusal}")
                continue
            lines.append(line)
            results += told
    if not lines:
        none = f"{source}: no trial randomised two arms that the draws also hold; query --do for the arms of the trial"
        raise RefusalError("; ".join(refused) or none)
    return Agreement(pd.DataFrame(lines), results_table(results), tuple(refused))


def _interventional(draws: pd.DataFrame, week: float | None, source: str) -> pd.DataFrame:
    rows = draws[draws["query"] == "interventional"]
    if week is not None:
        rows = rows[rows["visit_week"] == week]
    if rows.empty:
        raise RefusalError(f"{source}: no interventional rows of this week; effects of rung 2 are needed (query with --do)")
    weeks = sorted(rows["visit_week"].unique())
    if len(weeks) > 1:
        raise UsageError(f"{source}: weeks {', '.join(f'{found:g}' for found in weeks)}; choose one with --week")
    return rows.assign(key=participant_key(rows["participant_id"]))


def _observed(participants: pd.DataFrame, week: float, source: str) -> pd.DataFrame:
    column = net2_column(int(week))
    for name in ("participant_id", "trial", "arm", column):
        if name not in participants:
            found = ", ".join(map(str, participants.columns[:20]))
            raise InputError(f"{source}: no column {name!r}; add it (columns found: {found})")
    seen = participants[participants[column].notna()]
    if seen.empty:
        raise RefusalError(f"{source}: column {column!r} is empty; choose a week that was observed")
    return seen.assign(key=participant_key(seen["participant_id"]), outcome=seen[column])


def _arms(people: pd.DataFrame, draws: pd.DataFrame, reference: str | None) -> list[str]:
    """Arms that the trial randomised and the draws hold, the reference first."""
    held = set(draws.loc[draws["key"].isin(set(people["key"])), "arm"].astype(str))
    arms = by_efficacy(set(people["arm"].astype(str)) & held)
    if reference is None:
        return arms
    return [reference, *(arm for arm in arms if arm != reference)] if reference in arms else []


def _contrast(
    draws: pd.DataFrame,
    people: pd.DataFrame,
    trial: str,
    arms: list[str],
    arm: str,
    measure: Measure,
    week: float,
    margin: float,
    level: float,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    people = people[people["key"].isin(set(draws["key"]))].sort_values("key").reset_index(drop=True)
    chosen = draws[draws["key"].isin(set(people["key"])) & draws["arm"].isin([arms[0], arm])]
    randomised = analyse(
        people.drop(columns="trial"),
        outcome="outcome",
        reference=arms[0],
        measure=measure.option,
        estimator="unadjusted",
        variance="leave-one-out-t",
        level=level,
        population=f"patients of {trial} observed at week {week:g}",
        source=f"trial {trial}",
    )
    which = randomised.data.arms.index(arm)
    seen = randomised.results.iloc[which - 1]
    simulated = analyse_draws(chosen.drop(columns="key"), reference=arms[0], measure=measure.option, level=level).iloc[0]
    influence = _simulated_influence(chosen, people["key"], arms[0], arm, measure) - _randomised_influence(
        randomised, which, measure
    )
    n = len(people)
    se = float(np.sqrt((influence**2).sum() / (n * (n - 1))))
    gap = _on_scale(simulated["estimate"], measure) - _on_scale(seen["estimate"], measure)
    line = {
        "label": f"{trial}: {arm} against {arms[0]}",
        "trial": trial,
        "arm": arm,
        "reference": arms[0],
        "measure": measure.name,
        "week": week,
        "n": n,
        **{f"randomised_{key}": seen[key] for key in ("estimate", "lower", "upper", "p_value")},
        **{f"simulated_{key}": simulated[key] for key in ("estimate", "lower", "upper", "p_value")},
        **_judgement(gap, se, seen, simulated, measure, margin, level, randomised.covariance.degrees_of_freedom),
    }
    return line, _results(line, seen, simulated, level)


def _simulated_influence(draws: pd.DataFrame, keys: pd.Series, reference: str, arm: str, measure: Measure) -> Floats:
    means = patient_means(draws.drop(columns="key"), reference=reference, measure=measure.option)
    keyed = means.assign(key=participant_key(means["participant_id"])).set_index("key")
    values = keyed.loc[keys, [reference, arm]].to_numpy(float)
    average = values.mean(axis=0)
    _, slopes = transformed(average, measure.scale, (reference, arm))
    return np.asarray((values - average) @ (slopes * np.array([-1.0, 1.0])))


def _randomised_influence(found: Any, which: int, measure: Measure) -> Floats:
    means = found.means
    left = means.residuals / np.clip(1 - means.fit.leverage, 1e-8, None)
    values = influence_values(means, left)[:, [0, which]]
    _, slopes = transformed(means.estimates[[0, which]], measure.scale)
    return np.asarray(values @ (slopes * np.array([-1.0, 1.0])))


def _on_scale(value: float, measure: Measure) -> float:
    return float(np.log(value)) if measure.is_ratio else float(value)


def _judgement(
    gap: float, se: float, seen: pd.Series, simulated: pd.Series, measure: Measure, margin: float, level: float, df: float
) -> dict[str, Any]:
    back = np.exp if measure.is_ratio else float
    quantile, one_sided = float(stats.t.ppf((1 + level) / 2, df)), float(stats.t.ppf(level, df))
    limit = float(np.log(margin)) if measure.is_ratio else margin
    null = 1.0 if measure.is_ratio else 0.0
    alpha = 1 - level
    sides = [np.sign(effect["estimate"] - null) for effect in (seen, simulated)]
    clear = [effect["p_value"] < alpha for effect in (seen, simulated)]
    p_equivalence = float(max(stats.t.sf((gap + limit) / se, df), stats.t.cdf((gap - limit) / se, df)))
    return {
        "ratio": back(gap),
        "lower": back(gap - quantile * se),
        "upper": back(gap + quantile * se),
        "se": se,
        "p_value": float(2 * stats.t.sf(abs(gap) / se, df)),
        "level": level,
        "standardised_difference": gap / se,
        "significance_agreement": bool(clear[0] == clear[1] and (sides[0] == sides[1] or not clear[0])),
        "estimate_agreement": bool(seen["lower"] <= simulated["estimate"] <= seen["upper"]),
        "difference_agreement": bool(abs(gap) / se < quantile),
        "margin": margin,
        "equivalence_lower": back(gap - one_sided * se),
        "equivalence_upper": back(gap + one_sided * se),
        "equivalence_p": p_equivalence,
        "equivalent": p_equivalence < alpha,
        "smallest_detectable": back((quantile + float(stats.t.ppf(0.8, df))) * se),
    }


def _results(line: dict[str, Any], seen: pd.Series, simulated: pd.Series, level: float) -> list[dict[str, Any]]:
    name = line["measure"]
    what = f"ratio of {name}s" if name.endswith("ratio") else f"difference of {name}s"
    population = f"patients of {line['trial']} observed at week {line['week']:g}"
    common = {"population": population, "subgroup": "all", "arm": line["arm"], "reference": line["reference"], "level": level}
    common |= {"randomised": True, "rung": 2, "n": seen["n"], "n_reference": seen["n_reference"]}
    against = "over" if name.endswith("ratio") else "minus"
    both = f"{what}, simulated {against} randomised, {line['arm']} against {line['reference']} in {population}"
    keys = ("measure", "estimand", "estimator", "variance", "estimate", "se", "lower", "upper", "p_value", "se_patient")
    errors = ("se_generator", "se_monte_carlo")
    agreement = {**common, "estimand": both, "analysis": "agreement"}
    rows = [
        {**common, "analysis": "agreement: randomised effect", **{key: seen[key] for key in keys}},
        {
            **common,
            "analysis": "agreement: simulated effect",
            **{key: simulated[key] for key in (*keys, *errors)},
            "n": line["n"],
            "n_reference": line["n"],
        },
        {
            **agreement,
            "measure": what,
            "estimator": f"{what}, simulated by g-computation, randomised unadjusted",
            "variance": "joint influence function of both effects over the same patients, t; generator error not included",
            **{key: line[key] for key in ("se", "lower", "upper", "p_value")},
            "estimate": line["ratio"],
            "se_patient": line["se"],
            "se_monte_carlo": simulated["se_monte_carlo"],
        },
        {
            **agreement,
            "measure": f"equivalence of {name}s within {line['margin']:g}",
            "estimator": "two one-sided tests",
            "variance": "as for the interval",
            "estimate": line["ratio"],
            "se": line["se"],
            "lower": line["equivalence_lower"],
            "upper": line["equivalence_upper"],
            "level": 2 * level - 1,
            "p_value": line["equivalence_p"],
        },
    ]
    for key, told in (
        ("significance_agreement", "same direction and significance"),
        ("estimate_agreement", "simulated estimate within the randomised interval"),
        ("difference_agreement", f"|standardised difference| below the {level:.0%} quantile; a small trial meets it easily"),
    ):
        measure = key.replace("_", " ") + " (1 = yes)"
        rows.append({**agreement, "measure": measure, "estimator": told, "estimate": float(line[key]), "level": np.nan})
    return rows
