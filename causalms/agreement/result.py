"""Agreement of simulated with randomised or published effects: the rule, the verdict, and its rows of results."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import RefusalError, UsageError, named_arguments
from causalms.tables import ResultRow, as_frame, fixed, name_of, p_value_text, percent_in_full, results_table, shown


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


#: Contrasts over which a correlation is computed at least.
FEWEST_CONTRASTS = 3


@dataclass(frozen=True, repr=False)
class Agreement:
    """Agreement of simulated with randomised or published effects; printed, it reads as on the command line.

    Attributes
    ----------
    table : DataFrame
        One row a contrast: ``label``, ``trial``, ``arm``, ``reference``, ``measure``, ``week``, ``n``; ``randomised_`` and
        ``simulated_`` ``estimate``, ``lower``, ``upper``, ``p_value``; ``ratio`` (simulated / randomised, or the difference for a
        difference measure) with ``lower``, ``upper``, ``se``, ``p_value``, ``level``; ``standardised_difference``;
        ``significance_agreement``, ``estimate_agreement``, ``difference_agreement``; ``margin``, ``equivalence_lower``,
        ``equivalence_upper``, ``equivalence_p``, ``equivalent``; ``smallest_detectable``: the ratio (or difference) that
        this trial could have distinguished from agreement with 80% power.
    results : DataFrame
        The same in the schema of the results table.
    refused : tuple of str
        Contrasts that could not be compared, each with its reason.
    notes : tuple of str
        What the observed counts say of the model with its stated error (:func:`causalms.effects.counts_against_draws`).
    """

    table: pd.DataFrame
    results: pd.DataFrame
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def across(self) -> pd.DataFrame | None:
        """Correlation over the contrasts (:func:`correlate`); None for published ones or fewer than three."""
        if "published_week" in self.table or len(self.table) < FEWEST_CONTRASTS:
            return None
        return correlate(self.table, float(self.table["level"].iloc[0]))

    def __repr__(self) -> str:
        """The page that the command line prints."""
        refused = [f"not compared: {reason}" for reason in self.refused]
        if "published_week" in self.table:
            return "\n".join([*_published_lines(self.table), *refused])
        across = self.across
        lines = [*_randomised_lines(self.table), *refused, *([] if across is None else _across_lines(across))]
        if across is not None and self.table.duplicated(["trial", "reference"]).any():
            lines.append("  contrasts of one trial share its reference arm, so the interval of the correlation is too short")
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        shown = self.results[["analysis", "population", "arm", "reference", "measure", "estimate", "lower", "upper", "p_value"]]
        page = f"<details><summary>details</summary><pre>{escape(repr(self))}</pre></details>"
        return f"{shown.to_html(index=False, border=0)}{page}"


def _randomised_lines(table: pd.DataFrame) -> list[str]:
    """Four lines a contrast."""
    lines = []
    for row in table.to_dict("records"):
        what = "ratio (simulated / randomised)" if row["measure"].endswith("ratio") else "difference (simulated - randomised)"
        lines += [
            f"{row['label']}: {row['measure']} at week {name_of(row['week'])}, {row['n']} patients",
            f"  randomised {_interval(row, 'randomised_')}   simulated {_interval(row, 'simulated_')}",
        ]
        if np.isnan(row["se"]):
            ratio = shown(row["ratio"], 3)
            lines.append(f"  {what} {ratio}; model error unknown: no interval, and agreement is not judged")
            continue
        lines += [
            f"  {what} {_interval(row, '', 'ratio')}, p = {p_value_text(row['p_value'])}; "
            f"detectable with 80% power: {fixed(row['smallest_detectable'], 2)}",
            f"  agreement: significance {_yes(row, 'significance')}, estimate {_yes(row, 'estimate')}, "
            f"standardised difference {fixed(row['standardised_difference'], 2)} {_yes(row, 'difference')}; "
            f"equivalent within {name_of(row['margin'])}: {'yes' if row['equivalent'] else 'not shown'} "
            f"(p = {p_value_text(row['equivalence_p'])})",
        ]
    return lines


def _published_lines(table: pd.DataFrame) -> list[str]:
    """Three lines a published contrast: the effects, what was matched, and where the number was read."""
    lines = ["published contrasts (transported, not randomised here):"]
    for row in table.to_dict("records"):
        why = "model error unknown: no interval" if np.isnan(row["simulated_lower"]) else "no published interval"
        unpublished = f"; {why}" if np.isnan(row["lower"]) else ""
        lines += [
            f"{row['label']}: {row['measure']}, week {name_of(row['published_week'])}: published "
            f"{_interval(row, 'randomised_')}, simulated at week {name_of(row['week'])} {_interval(row, 'simulated_')}, "
            f"ratio {_interval(row, '', 'ratio')}{unpublished}",
            f"  matched on: {row['matched_on']} (effective size {fixed(row['effective_size'], 0)} of {row['n']})",
            f"  source: {row['source_title']}; {row['how']}" + ("" if row["target"] else "; UNVERIFIED, no target"),
        ]
    return lines


def _across_lines(across: pd.DataFrame) -> list[str]:
    """Correlation and concordance."""
    lines = []
    for row in across.to_dict("records"):
        lines.append(f"{row['measure']} over {fixed(row['n'], 0)} contrasts: {_interval(row, '')}")
    return lines


def _interval(row: dict[Any, Any], prefix: str, name: str = "estimate") -> str:
    """An estimate, with its interval where there is one."""
    lower, upper = row[f"{prefix}lower"], row[f"{prefix}upper"]
    return shown(row[prefix + name], 3) + ("" if np.isnan(lower) else f" ({shown(lower, 3)} to {shown(upper, 3)})")


def _yes(row: dict[Any, Any], which: str) -> str:
    return "yes" if row[f"{which}_agreement"] else "no"


@named_arguments
def correlate(table: Any, level: float = 0.95) -> pd.DataFrame:
    r"""Correlation of simulated with randomised effects over the contrasts of an agreement table.

    Pearson's correlation of the logarithms (of the effects themselves for a difference), with Fisher's z interval, which exists
    for at least four contrasts, and Lin's concordance, which also counts distance from the line of equality.  Contrasts that
    share an arm are not independent; the interval does not know.

    Parameters
    ----------
    table : DataFrame
        ``table`` of :class:`causalms.agreement.Agreement`; unverified published rows are left out.
    level : float

    Returns
    -------
    DataFrame
        Results table of two rows a measure.

    Raises
    ------
    RefusalError
        With fewer than three contrasts of a measure.

    References
    ----------
    Lin (1989), Biometrics 45:255.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"measure": "rate ratio", "randomised_estimate": [0.2, 0.4, 0.6, 0.9],
    ...     "simulated_estimate": [0.25, 0.35, 0.6, 1.0]})
    >>> correlate(table)[["measure", "estimate", "n"]].round(2).values.tolist()
    [['correlation of rate ratios', 0.97, 4.0], ['concordance of rate ratios', 0.97, 4.0]]
    """
    table = as_frame(table)
    judged = table[table["target"].fillna(True).astype(bool)] if "target" in table else table
    rows: list[ResultRow] = []
    for measure, lines in judged.groupby("measure", sort=False):
        if len(lines) >= FEWEST_CONTRASTS:
            rows += _correlation_rows(str(measure), lines, level)
    if not rows:
        raise RefusalError("fewer than three contrasts of one measure; a correlation over trials needs more")
    return results_table(rows)


def _correlation_rows(measure: str, lines: pd.DataFrame, level: float) -> list[ResultRow]:
    from scipy import stats

    pair = lines[["randomised_estimate", "simulated_estimate"]].to_numpy(float)
    x, y = (np.log(pair) if measure.endswith("ratio") else pair).T
    n = len(x)
    spread = np.ptp(x) > 0 and np.ptp(y) > 0
    r = float(np.corrcoef(x, y)[0, 1]) if spread else np.nan
    apart = float(x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    concordance = float(2 * np.cov(x, y, bias=True)[0, 1] / apart) if apart > 0 else np.nan
    lower = upper = se = np.nan
    if n > 3 and abs(r) < 1:
        half = float(stats.norm.ppf((1 + level) / 2)) / np.sqrt(n - 3)
        lower, upper, se = np.tanh(np.arctanh(r) - half), np.tanh(np.arctanh(r) + half), 1 / np.sqrt(n - 3)
    common: dict[str, Any] = {
        "analysis": "agreement across contrasts",
        "population": f"{n} contrasts",
        "subgroup": "all",
        "level": level,
        "n": n,
        "randomised": False,
        "rung": 2,
        "estimator": "logarithms of the effects" if measure.endswith("ratio") else "effects",
    }
    over = f"of simulated with randomised {measure}s over contrasts"
    return [
        ResultRow(
            **common, measure=f"correlation of {measure}s", estimand=f"Pearson correlation {over}", estimate=r,
            variance="Fisher's z; none below four contrasts" if spread else "not estimable: every contrast has the same effect",
            se=se, lower=lower, upper=upper,
        ),
        ResultRow(
            **common, measure=f"concordance of {measure}s", estimand=f"Lin's concordance {over}", estimate=concordance,
            variance=None if apart > 0 else "not estimable: every contrast has the same effect",
        ),
    ]  # fmt: skip
