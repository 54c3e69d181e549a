"""An analysis of visits as a plain-text page: rates of visits and arms, rate ratios, estimands, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalms.effects.printing import interval, number, text_columns
from causalms.tables import fixed, p_value_text, percent_in_full

if TYPE_CHECKING:
    from causalms.effects.visits import VisitAnalysis

#: Visits above which the table of rates is left out of the page: dates of events.
_MOST_SHOWN = 24


def visits_page(analysis: VisitAnalysis) -> str:
    """The whole page that the command line prints."""
    results, rates = analysis.results, analysis.rates
    level = f"{percent_in_full(results['level'].iloc[0])} CI"
    blocks = []
    if rates["visit"].nunique() <= _MOST_SHOWN:
        rows = [["visit", "arm", "n", "events", "exposure", "rate", level]]
        for row in rates.to_dict("records"):
            counts = [str(row["patients"]), number(row["events"]), number(row["exposure"]), number(row["rate"])]
            rows.append([str(row["visit"]), str(row["arm"]), *counts, interval(row["lower"], row["upper"])])
        blocks.append(text_columns(rows))
    rows = [["rate ratio", "estimate", level, "se(log)", "p"]]
    for row in results.to_dict("records"):
        pair = f"{row['arm']} vs {row['reference']} ({fixed(row['n'], 0)}, {fixed(row['n_reference'], 0)})"
        pair += "" if row["subgroup"] == "all" else f", {row['subgroup']}"
        limits = interval(row["lower"], row["upper"])
        rows.append([pair, number(row["estimate"]), limits, number(row["se"]), p_value_text(row["p_value"])])
    blocks.append(text_columns(rows))
    lines = [f"  {line}" for line in analysis.estimands[0].lines()]
    arms = list(dict.fromkeys(results["arm"]))
    if len(arms) > 1:
        lines[1] = f"  treatment                 {', '.join(arms)}, each against {results['reference'].iloc[0]}"
    first = results.iloc[0]
    blocks.append(["estimand (ICH E9(R1))", *lines, f"estimator  {first.estimator}", f"variance   {first.variance}"])
    if analysis.notes:
        blocks.append([f"note: {note}" for note in analysis.notes])
    return "\n\n".join("\n".join(block) for block in blocks)
