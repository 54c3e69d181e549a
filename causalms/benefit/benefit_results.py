"""Everything that is said of a predicted benefit, trial by trial and arm by arm, as rows of the results table."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from causalms.benefit.cross_fitting import cross_fitted_benefit
from causalms.benefit.heterogeneity import benefit_curves, benefit_groups, best_linear_predictor, ranking
from causalms.benefit.policy import Policies, policy_value
from causalms.benefit.predict import Benefit, Comparison, benefit, benefit_row, predict_from_draws
from causalms.benefit.statistics import Inference, Statistic
from causalms.errors import CausalmsError, InputError, RefusalError, named_arguments
from causalms.tables import ResultRow, names_of, note_left_out, percent_in_full, refuse_lookalikes, results_table, significant

#: Shares of the most promising patients whose benefit is written.
WRITTEN_SHARES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)


@named_arguments
def who_benefits(
    people: pd.DataFrame,
    *,
    outcome: str,
    reference: str,
    draws: pd.DataFrame | None = None,
    covariates: str | None = None,
    week: float | None = None,
    arm: str = "arm",
    policies: Policies = Policies(),
    inference: Inference = Inference(),
) -> pd.DataFrame:
    """Judge a predicted benefit on every randomised comparison with the reference.

    Parameters
    ----------
    people : DataFrame
        Randomised patients with their outcome; trials are never mixed.
    outcome, reference, arm : str
    draws : DataFrame, optional
        Draws table, sampled or expected, of a generator that has not seen these outcomes.
    covariates : str, optional
        Without draws: formula of the cross-fitted prediction (:func:`causalms.benefit.cross_fit`).
    week : float, optional
        Of the draws, where they hold several.
    policies : Policies
        Caps on the share treated, and groups of predicted benefit.
    inference : Inference
        Level, redraws and seed; the seed is also that of the folds.

    Returns
    -------
    DataFrame
        Results table: AUTOC and Qini; AD(c) and AR(c) with intervals and bands; groups of predicted benefit; best linear
        predictor and calibration; values of policies.

    Raises
    ------
    InputError, RefusalError, UsageError
        If no trial randomised the reference and another arm of the draws, or nothing can be said of any of them.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> people = pd.DataFrame({"participant_id": range(200), "arm": ["p", "d"] * 100, "age": rng.uniform(20, 60, 200)})
    >>> people["y"] = rng.poisson(np.where(people["arm"] == "p", 9 - people["age"] / 8, 1.0))
    >>> results = who_benefits(people, outcome="y", reference="p", covariates="age", inference=Inference(redraws=99))
    >>> results["analysis"].unique().tolist()
    ['benefit: ranking', 'benefit: curve', 'benefit: groups', 'benefit: best linear predictor', 'benefit: policy']
    """
    if arm in people:
        refuse_lookalikes(people[arm].dropna().unique(), "arms", "benefit")
    tables, refusals = [], []
    for trial, rows, drug in _comparisons(people, reference, arm, outcome):
        who = f"patients of {trial} randomised to {drug} or {reference}" if trial else ""
        try:
            comparison = Comparison(outcome=outcome, drug=drug, reference=reference, arm=arm, population=who)
            if draws is not None:
                own = draws[names_of(draws["trial"]) == trial] if trial and "trial" in draws else draws
                data = benefit(rows, predict_from_draws(own, drug=drug, reference=reference, week=week), comparison)
            elif covariates:
                data = cross_fitted_benefit(rows, comparison, covariates, seed=inference.seed)
            else:
                raise InputError("benefit: nothing predicts; give draws, or covariates for a cross-fitted prediction")
            tables.append(benefit_results(data, policies, inference))
        except InputError:
            raise
        except CausalmsError as refusal:
            refusals.append(f"{f'{trial}, ' if trial else ''}{drug}: {refusal}")
    if not tables:
        raise RefusalError(
            "; ".join(refusals) or f"benefit: no trial randomised {reference!r} and another arm; name its reference"
        )
    return pd.concat(tables, ignore_index=True)


def benefit_results(data: Benefit, policies: Policies = Policies(), inference: Inference = Inference()) -> pd.DataFrame:
    """All statistics of one predicted benefit as a results table; see :func:`who_benefits`."""
    tables = [
        ranking(data, inference),
        results_table([*_curve_rows(data, inference), *_group_rows(data, policies.groups, inference)]),
        best_linear_predictor(data, inference),
        policy_value(data, policies.caps, policies.least_benefit, inference),
    ]
    return pd.concat(tables, ignore_index=True)


def _comparisons(people: pd.DataFrame, reference: str, arm: str, outcome: str) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Trial, its patients, and every other arm that it randomised against the reference."""
    for name in ("participant_id", arm, outcome):
        if name not in people:
            raise InputError(
                f"benefit: no column {name!r} among the patients; columns are {', '.join(map(str, people.columns[:20]))}"
            )
    seen = people[people[arm].notna() & people[outcome].notna()]
    note_left_out(
        len(people) - len(seen), len(people), {name: int(people[name].isna().sum()) for name in (outcome, arm)}, "benefit"
    )
    parts = seen.groupby(names_of(seen["trial"])) if "trial" in seen else [("", seen)]
    for trial, rows in parts:
        arms = sorted(set(names_of(rows[arm]).dropna()))
        for drug in [name for name in arms if name != reference and reference in arms]:
            yield str(trial), rows, drug


def _curve_rows(data: Benefit, inference: Inference) -> Iterator[ResultRow]:
    """AD(c), AR(c), then their bands, from all patients to few."""
    curve = benefit_curves(data, WRITTEN_SHARES, inference)
    names = {
        "ad": ("lesions spared, AD(c)", "mean lesions spared"),
        "ar": ("ratio of mean lesions, AR(c)", "ratio of mean lesions"),
    }
    for band in ("", "_band"):
        for name, (measure, what) in names.items():
            for row in curve[curve[name].notna()].to_dict("records"):
                yield benefit_row(
                    data,
                    "curve",
                    measure + (", simultaneous band" if band else ""),
                    f"{what}, {data.drug} against {data.reference}, where predicted benefit is at least "
                    f"{significant(row['threshold'], 3)}",
                    Statistic(
                        estimate=row[name],
                        se=row[f"{name}_se"],
                        lower=row[f"{name}{band}_lower"],
                        upper=row[f"{name}{band}_upper"],
                        level=inference.level,
                        variance=row["variance"],
                    ),
                    subgroup=f"most promising {percent_in_full(row['share'])}",
                    n=row["n"],
                )


def _group_rows(data: Benefit, groups: int, inference: Inference) -> Iterator[ResultRow]:
    """Observed benefit by group of predicted benefit, and the difference of the ends."""
    for row in benefit_groups(data, groups, inference).to_dict("records"):
        ends = row["group"] == "last - first"
        subgroup = "last group - first" if ends else f"group {row['group']} of {groups}"
        yield benefit_row(
            data,
            "groups",
            "difference of lesions spared between groups" if ends else "lesions spared by group of predicted benefit",
            f"mean lesions spared, {data.drug} against {data.reference}, in {subgroup}; predicted "
            f"{significant(row['predicted'], 4)}",
            Statistic(
                estimate=row["observed"],
                **{key: row[key] for key in ("se", "lower", "upper", "level", "p_value", "variance")},
            ),
            subgroup=subgroup,
            n=row["n"],
        )
