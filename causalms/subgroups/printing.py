"""Effects by subgroup as a plain-text page."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import pandas as pd

from causalms.tables import fixed, p_value_text, percent_in_full, total_text


def html_page(results: pd.DataFrame, text: str) -> str:
    """A results table for a notebook, and the plain-text page folded below it."""
    shown = results[["subgroup", "arm", "reference", "measure", "estimate", "lower", "upper", "p_value", "n", "n_reference"]]
    return f"{shown.to_html(index=False, border=0)}<details><summary>details</summary><pre>{escape(text)}</pre></details>"


_HEAD = f"{'n':>11s}{'events':>13s}{'estimate':>10s}{'interval':>18s}{'interaction p':>15s}{'Holm':>8s}"


def page(table: pd.DataFrame) -> str:
    """A forest in plain text: one line a subgroup, the interaction p at the first line of its factor."""
    text = []
    for (source, arm), rows in table.groupby(["source", "arm"], sort=False):
        first = rows.iloc[0]
        origin = "" if source == "simulated" or first["randomised"] == 1 else "; not randomised against each other"
        head = f"{source}: {arm} against {first['reference']}, {first['measure']}"
        text.append(f"{head} ({percent_in_full(first['level'])} interval{origin})")
        width = max(28, 1 + int(rows["subgroup"].str.len().max()))
        text.append(f"  {'subgroup':{width}s}{_HEAD}")
        factors = {"all"}
        for row in rows.to_dict("records"):
            text.append(_line(row, width, first_of_factor=row["factor"] not in factors))
            factors.add(row["factor"])
    return "\n".join(text)


def _line(row: dict[Any, Any], width: int, first_of_factor: bool) -> str:
    n = "" if math.isnan(row["n"]) else f"{fixed(row['n'], 0)}/{fixed(row['n_reference'], 0)}"
    events = "" if math.isnan(row["events"]) else f"{total_text(row['events'])}/{total_text(row['events_reference'])}"
    if isinstance(row.get("note"), str) and row["note"]:
        return f"  {row['subgroup']:{width}s}{n:>11s}{events:>13s}  not estimable: {row['note']}"
    unknown = row["source"] == "simulated" and math.isnan(row["lower"])
    interval = "error unknown" if unknown else f"{fixed(row['lower'], 3)} to {fixed(row['upper'], 3)}"
    tested = first_of_factor and not math.isnan(row.get("interaction_p", math.nan))
    p = f"{p_value_text(row['interaction_p']):>15s}{p_value_text(row['interaction_p_holm']):>8s}" if tested else ""
    return f"  {row['subgroup']:{width}s}{n:>11s}{events:>13s}{fixed(row['estimate'], 3):>10s}{interval:>18s}{p}"
