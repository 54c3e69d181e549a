"""Judging a simulated effect by a randomised or published one, and the rows this takes in the results table."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import UsageError
from causalms.tables import ResultRow, name_of, percent_in_full


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What agreement is judged by.

    Attributes
    ----------
    is_ratio : bool
        Effects are ratios, compared on the log scale.
    margin : float
        Equivalence margin: 1 / margin to margin for ratios, -margin to margin for differences.
    level : float
        Of intervals and agreement.

    Raises
    ------
    UsageError
        If the margin leaves no room for equivalence.
    """

    is_ratio: bool
    margin: float
    level: float

    def __post_init__(self) -> None:
        if self.margin <= (1 if self.is_ratio else 0):
            expected = "a ratio above 1, such as 1.25" if self.is_ratio else "a difference above 0"
            raise UsageError(f"`margin`: found {name_of(self.margin)}, expected {expected}")


@dataclass(frozen=True)
class Effect:
    """An effect with its interval, and whether it is significant."""

    estimate: float
    lower: float
    upper: float
    significant: bool


def judge(
    target: Effect, simulated: Effect, se: float, rule: Rule, degrees_of_freedom: float = np.inf
) -> dict[str, float | bool]:
    r"""Distance of a simulated effect from its target, the three agreements, and equivalence by two one-sided tests.

    With :math:`d` the difference on the scale of inference (the log for ratios), :math:`s` its standard error and
    :math:`m` the margin on that scale, equivalence is claimed if
    :math:`\max\{P(t \ge (d + m)/s), P(t \le (d - m)/s)\} < 1 - level`.

    Parameters
    ----------
    target, simulated : Effect
    se : float
        Of the difference; missing where the target may not be judged by, and then only the distance is returned.
    rule : Rule
    degrees_of_freedom : float
        Of t; infinite for the normal law.

    Returns
    -------
    dict
        The columns from ``ratio`` to ``smallest_detectable`` of :attr:`causalms.agreement.Agreement.table`.

    References
    ----------
    Schuirmann (1987), J Pharmacokinet Biopharm 15:657; Wang et al. (2023), JAMA 329:1376.

    Examples
    --------
    >>> rule = Rule(is_ratio=True, margin=1.25, level=0.95)
    >>> judged = judge(Effect(0.5, 0.3, 0.8, True), Effect(0.5, 0.4, 0.6, True), 0.05, rule)
    >>> judged["ratio"], judged["estimate_agreement"], judged["equivalent"]
    (1.0, True, True)
    """
    from scipy import stats

    scale, back = (np.log, np.exp) if rule.is_ratio else (float, float)
    gap = float(scale(simulated.estimate)) - float(scale(target.estimate))
    common = {"ratio": float(back(gap)), "level": rule.level, "margin": rule.margin}
    if np.isnan(se):
        return common | dict.fromkeys(("lower", "upper", "se", "p_value"), np.nan)
    df, null, limit = degrees_of_freedom, 1.0 if rule.is_ratio else 0.0, float(scale(rule.margin))
    quantile, one_sided = float(stats.t.ppf((1 + rule.level) / 2, df)), float(stats.t.ppf(rule.level, df))
    same_direction = np.sign(target.estimate - null) == np.sign(simulated.estimate - null)
    p_equivalence = float(max(stats.t.sf((gap + limit) / se, df), stats.t.cdf((gap - limit) / se, df)))
    return common | {
        "lower": float(back(gap - quantile * se)),
        "upper": float(back(gap + quantile * se)),
        "se": se,
        "p_value": float(2 * stats.t.sf(abs(gap) / se, df)),
        "standardised_difference": gap / se,
        "significance_agreement": bool(
            target.significant == simulated.significant and (same_direction or not target.significant)
        ),
        "estimate_agreement": bool(target.lower <= simulated.estimate <= target.upper),
        "difference_agreement": bool(abs(gap) / se < quantile),
        "equivalence_lower": float(back(gap - one_sided * se)),
        "equivalence_upper": float(back(gap + one_sided * se)),
        "equivalence_p": p_equivalence,
        "equivalent": bool(p_equivalence < 1 - rule.level),
        "smallest_detectable": float(back((quantile + float(stats.t.ppf(0.8, df))) * se)),
    }


def row_again(row: pd.Series, analysis: str) -> ResultRow:
    """A row of a results table as :class:`causalms.tables.ResultRow`, under the name of another analysis."""
    return replace(ResultRow(**{field.name: row[field.name] for field in fields(ResultRow)}), analysis=analysis)


def ratio_of(measure: str) -> str:
    """How two effects of a measure are compared: by their ratio, or their difference for a difference."""
    return f"ratio of {measure}s" if measure.endswith("ratio") else f"difference of {measure}s"


def distance_row(line: dict[str, Any], row: ResultRow) -> ResultRow:
    """``row`` with the simulated effect over (or minus) the other one, from a line of the agreement table."""
    return replace(
        row,
        subgroup="all",
        arm=line["arm"],
        reference=line["reference"],
        measure=ratio_of(line["measure"]),
        estimate=line["ratio"],
        rung=2,
        **{name: line[name] for name in ("se", "lower", "upper", "p_value", "level")},
    )


def verdict_rows(line: dict[str, Any], distance: ResultRow) -> list[ResultRow]:
    """Equivalence and the three agreements of RCT-DUPLICATE, one row each, about the same patients as ``distance``.

    None where the distance has no standard error, because the model's own error is unknown.
    """
    if np.isnan(line["se"]):
        return []
    equivalence = replace(
        distance,
        measure=f"equivalence of {line['measure']}s within {name_of(line['margin'])}",
        estimator="two one-sided tests",
        variance="as for the interval",
        lower=line["equivalence_lower"],
        upper=line["equivalence_upper"],
        level=2 * line["level"] - 1,
        p_value=line["equivalence_p"],
        se_patient=np.nan,
        se_monte_carlo=np.nan,
    )
    plain = ResultRow(
        analysis=distance.analysis, measure="", randomised=distance.randomised, population=distance.population,
        subgroup="all", arm=distance.arm, reference=distance.reference, estimand=distance.estimand, n=distance.n,
        n_reference=distance.n_reference, rung=2,
    )  # fmt: skip
    quantile = f"{percent_in_full(line['level'])} quantile"
    judged_by = {
        "significance_agreement": "same direction and significance",
        "estimate_agreement": "simulated estimate within the randomised interval",
        "difference_agreement": f"|standardised difference| below the {quantile}; a small trial meets it easily",
    }
    agreements = [
        replace(plain, measure=f"{name.replace('_', ' ')} (1 = yes)", estimator=words, estimate=float(line[name]))
        for name, words in judged_by.items()
    ]
    return [equivalence, *agreements]
