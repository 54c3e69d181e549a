"""Agreement as a result: its table, what is printed of it, and its correlation over contrasts."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import RefusalError, named_arguments
from causalms.tables import ResultRow, as_frame, fixed, name_of, p_value_text, results_table

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
    """

    table: pd.DataFrame
    results: pd.DataFrame
    refused: tuple[str, ...] = ()

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
        return "\n".join(lines)

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
            ratio = fixed(row["ratio"], 3)
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
    return fixed(row[prefix + name], 3) + ("" if np.isnan(lower) else f" ({fixed(lower, 3)} to {fixed(upper, 3)})")


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
