"""Simulated effects against published ones, when only a paper's aggregates are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from causalms.agreement.agree import Agreement
from causalms.agreement.matching import match_baseline
from causalms.agreement.published import published_baseline, published_contrasts
from causalms.effects import analyse_draws
from causalms.errors import RefusalError, UsageError
from causalms.tables import participant_key, results_table

#: A simulated visit stands for a published one that is at most this many weeks away (96 for 104).
WEEKS_APART = 8
#: Weights that leave less than this share of the patients as effective size stand for somebody else's trial.
LEAST_EFFECTIVE_SHARE = 0.1


def agree_published(
    draws: pd.DataFrame,
    participants: pd.DataFrame,
    *,
    margin: float = 1.25,
    level: float = 0.95,
    matched: bool = True,
    source: str = "draws",
) -> Agreement:
    """Hold simulated effects against the published contrasts of the six arms.

    All simulated patients stand under both arms; where the published report gives baseline means, they are weighted to
    them (:func:`causalms.agreement.match_baseline`).  The contrast is transported to the published population,
    so it is never marked as randomised, and the remaining assumption is that baseline differences beyond the matched
    means do not modify the effect.

    Parameters
    ----------
    draws : DataFrame
        Draws table, sampled or expected; its interventional rows are used.
    participants : DataFrame
        Covariates for the weighting.
    margin, level
        As for :func:`causalms.agreement.agree`.
    matched : bool
        Weight to the published baseline where it is known.
    source : str
        Name of the draws in messages.

    Returns
    -------
    Agreement
        ``table`` has the columns of :func:`causalms.agreement.agree` (randomised = published) and ``target``, ``how``,
        ``definition``, ``matched_on``, ``effective_size``, ``source_title``, ``source_url``, ``note``.  Where no interval was
        published, the ratio has none either and no agreement is judged.  Unverified numbers have ``target`` False, no
        judgement, and say so in their label.  A contrast whose published baseline these patients cannot be weighted to is not
        compared: ``refused`` says why.

    Raises
    ------
    RefusalError
        If no published contrast has both arms and its visit week among the draws, or none can be matched.

    Examples
    --------
    >>> import pandas as pd
    >>> people = pd.DataFrame({"participant_id": range(8), "age": range(32, 48, 2), "sex": ["F", "F", "F", "M"] * 2})
    >>> keys = {"trial": "T", "arm_randomised": "placebo", "visit_week": 96.0, "query": "interventional", "query_id": "q"}
    >>> draws = pd.concat([people[["participant_id"]].assign(**keys, arm=arm, expected_net2_lesions=mean + people.index / 9,
    ...     activity_probability=0.5) for arm, mean in (("placebo", 10.0), ("dimethyl-fumarate", 2.0))])
    >>> found = agree_published(draws, people).table
    >>> found.loc[found["trial"] == "DEFINE", ["measure", "randomised_estimate", "simulated_estimate"]].round(2).values.tolist()
    [['rate ratio', 0.15, 0.23], ['risk ratio', 0.75, 1.0]]
    """
    if margin <= 1:
        raise UsageError(f"margin {margin:g}: give a ratio above 1, such as 1.25")
    rows = draws[draws["query"] == "interventional"]
    rows = rows.assign(key=participant_key(rows["participant_id"]))
    people = participants.assign(participant_id=participant_key(participants["participant_id"]))
    lines: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    refused: list[str] = []
    for found in published_contrasts().to_dict("records"):
        contrast = {str(key): value for key, value in found.items()}
        part = _drawn(rows, contrast)
        if part is None:
            continue
        try:
            line, told = _compare(part, people, contrast, margin, level, matched)
        except RefusalError as refusal:
            refused.append(f"{contrast['trial']}, {contrast['measure']}, week {contrast['week']:g}: {refusal}")
            continue
        lines.append(line)
        results += told
    if not lines:
        none = (
            f"{source}: no published contrast has both arms and its week among the draws; query --do for more arms or --week 96"
        )
        raise RefusalError("; ".join(refused) or none)
    return Agreement(pd.DataFrame(lines), results_table(results), tuple(refused))


def _drawn(rows: pd.DataFrame, contrast: dict[str, Any]) -> pd.DataFrame | None:
    """Draws under both arms at the simulated visit nearest to the published one."""
    part = rows[rows["arm"].isin([contrast["arm"], contrast["reference"]])]
    if part["arm"].nunique() < 2:
        return None
    weeks = part["visit_week"].unique()
    nearest = weeks[np.abs(weeks - contrast["week"]).argmin()]
    if abs(nearest - contrast["week"]) > WEEKS_APART:
        return None
    return part[part["visit_week"] == nearest]


def _compare(
    part: pd.DataFrame, people: pd.DataFrame, contrast: dict[str, Any], margin: float, level: float, matched: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    weights, matched_on, size, why = _weights(part, people, contrast["trial"], matched)
    plain = part.drop(columns="participant_id").rename(columns={"key": "participant_id"})
    who = f"simulated patients weighted to the published baseline of {contrast['trial']} ({matched_on})" if matched_on else ""
    simulated = analyse_draws(
        plain, reference=contrast["reference"], measure=contrast["measure"], level=level, weights=weights, weights_name=who
    ).iloc[0]
    week = float(part["visit_week"].iloc[0])
    unverified = "" if contrast["target"] else ", UNVERIFIED"
    line: dict[str, Any] = {
        "label": f"{contrast['trial']} (published{unverified}): {contrast['arm']} against {contrast['reference']}",
        "trial": contrast["trial"],
        "arm": contrast["arm"],
        "reference": contrast["reference"],
        "measure": simulated["measure"],
        "week": week,
        "published_week": contrast["week"],
        "n": int(simulated["n"]),
        **{f"randomised_{key}": contrast[key] for key in ("estimate", "lower", "upper")},
        **{f"simulated_{key}": simulated[key] for key in ("estimate", "lower", "upper", "p_value")},
        **_judgement(simulated, contrast, margin, level),
        **{key: contrast[key] for key in ("target", "how", "definition", "source_title", "source_url", "note")},
        "matched_on": matched_on or why,
        "effective_size": size,
    }
    return line, _results(line, simulated, contrast, level)


def _weights(part: pd.DataFrame, people: pd.DataFrame, trial: str, matched: bool) -> tuple[pd.Series | None, str, float, str]:
    """Weights, what was matched, their effective size, and why nothing was matched."""
    drawn = set(part["key"])
    if not matched:
        return None, "", float(len(drawn)), "not asked for"
    targets = published_baseline(trial)
    targets = targets[targets["column"].isin(people.columns)]
    if targets.empty:
        return None, "", float(len(drawn)), "no verified baseline mean of a column at hand"
    members = people[people["participant_id"].isin(drawn)].reset_index(drop=True)
    found = match_baseline(members, targets, f"published baseline of {trial}")
    if found.effective_size < LEAST_EFFECTIVE_SHARE * len(members):
        raise RefusalError(
            f"published baseline of {trial}: weighting {len(members)} patients to it leaves an effective number of "
            f"{found.effective_size:.1f}; simulate patients more like that trial's"
        )
    told = [
        " ".join(filter(None, (row["column"], row["value"], f"{row['target']:g}"))) for row in found.balance.to_dict("records")
    ]
    return found.weights, ", ".join(told), found.effective_size, ""


def _judgement(simulated: pd.Series, contrast: dict[str, Any], margin: float, level: float) -> dict[str, Any]:
    """Ratio of simulated to published; its interval and the agreements only where an interval was published and verified."""
    gap = float(np.log(simulated["estimate"]) - np.log(contrast["estimate"]))
    told: dict[str, Any] = {"ratio": float(np.exp(gap)), "level": level, "margin": margin}
    told |= dict.fromkeys(("lower", "upper", "se", "p_value"), np.nan)
    if not contrast["target"] or np.isnan(contrast["se"]):
        return told
    se = float(np.hypot(simulated["se"], contrast["se"]))
    quantile, one_sided = float(stats.norm.ppf((1 + level) / 2)), float(stats.norm.ppf(level))
    limit = float(np.log(margin))
    p_equivalence = float(max(stats.norm.sf((gap + limit) / se), stats.norm.cdf((gap - limit) / se)))
    published_clear = not contrast["lower"] <= 1 <= contrast["upper"]
    same_side = (simulated["estimate"] - 1) * (contrast["estimate"] - 1) > 0
    simulated_clear = bool(simulated["p_value"] < 1 - level)
    return told | {
        "lower": float(np.exp(gap - quantile * se)),
        "upper": float(np.exp(gap + quantile * se)),
        "se": se,
        "p_value": float(2 * stats.norm.sf(abs(gap) / se)),
        "standardised_difference": gap / se,
        "significance_agreement": bool(published_clear == simulated_clear and (same_side or not published_clear)),
        "estimate_agreement": bool(contrast["lower"] <= simulated["estimate"] <= contrast["upper"]),
        "difference_agreement": bool(abs(gap) / se < quantile),
        "equivalence_lower": float(np.exp(gap - one_sided * se)),
        "equivalence_upper": float(np.exp(gap + one_sided * se)),
        "equivalence_p": p_equivalence,
        "equivalent": p_equivalence < 1 - level,
        "smallest_detectable": float(np.exp((quantile + float(stats.norm.ppf(0.8))) * se)),
    }


def _results(line: dict[str, Any], simulated: pd.Series, contrast: dict[str, Any], level: float) -> list[dict[str, Any]]:
    status = "verified in the source" if contrast["target"] else "UNVERIFIED, no target"
    source = f"{contrast['source_title']} <{contrast['source_url']}>; {status}"
    common = {
        "arm": line["arm"],
        "reference": line["reference"],
        "subgroup": "all",
        "level": level,
        "randomised": False,
        "rung": 2,
    }
    published = {
        "analysis": "agreement: published effect",
        "population": f"{line['trial']} as published",
        "measure": line["measure"],
        "estimand": f"{line['measure']} of {contrast['definition']}, week {contrast['week']:g}",
        "estimator": contrast["how"],
        "variance": source,
        **{key: contrast[key] for key in ("estimate", "se", "lower", "upper")},
        "randomised": True,
    }
    told = {key: simulated[key] for key in ("population", "measure", "estimand", "estimator", "variance", "estimate", "se")}
    told |= {key: simulated[key] for key in ("lower", "upper", "p_value", "se_patient", "se_generator", "se_monte_carlo", "n")}
    ratio = {
        "analysis": "agreement: published",
        "population": simulated["population"],
        "measure": f"ratio of {line['measure']}s",
        "estimand": f"ratio of {line['measure']}s, simulated over published ({line['trial']}), transported: effects assumed "
        f"equal beyond the matched baseline; matched on: {line['matched_on']}",
        "estimator": "ratio of independent estimates",
        "variance": "sum of both; none where the paper prints no interval",
        "estimate": line["ratio"],
        **{key: line.get(key) for key in ("se", "lower", "upper", "p_value")},
    }
    return [{**common, **published}, {**common, **told, "analysis": "agreement: simulated effect"}, {**common, **ratio}]
