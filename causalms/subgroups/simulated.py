"""Simulated effects in the same prespecified subgroups, from a draws table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects import analyse_draws
from causalms.errors import InputError, RefusalError, named_arguments
from causalms.subgroups.table import Forest, assemble, baseline_divisions
from causalms.tables import as_frame, net2_column, one_week, participant_key


@named_arguments
def simulated_forest(
    draws: Any,
    people: Any,
    by: Sequence[str],
    *,
    reference: str,
    measure: str = "rate-ratio",
    outcome: str | None = None,
    week: float | None = None,
    level: float = 0.95,
    source: str = "participants",
) -> Forest:
    """Simulated effect of every arm in every prespecified subgroup of the patients of a draws table.

    Every patient counts under every arm, so a subgroup's ``n`` is the same in both arms.  Intervals hold the model's own error,
    and the test of interaction its part that differs between subgroups; where it is unknown there is neither.

    Parameters
    ----------
    draws : DataFrame, or path
        Draws table, sampled or expected, interventional, of one visit week.
    people : DataFrame, or path
        Participants with the columns that ``by`` names.
    by : sequence of str
        As for :func:`causalms.subgroups.forest`.
    reference, measure, outcome, level
        As for :func:`causalms.effects.analyse_draws`.
    week : float, optional
        Needed where the draws hold several.
    source : str
        Name of the participants in messages.

    Returns
    -------
    Forest
        ``events`` are missing: nobody was observed.

    Raises
    ------
    UsageError
        If the draws hold several weeks and none is named, or not the one named; if a factor names the observed outcome.
    InputError
        If patients of the draws are not among the participants.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(p, arm, 1 + p % 3 + (arm == "a") * (1 + p % 2)) for p in range(8) for arm in "ab"]
    >>> draws = pd.DataFrame(rows, columns=["participant_id", "arm", "expected_net2_lesions"])
    >>> draws = draws.assign(trial="T", arm_randomised="a", visit_week=48.0, query="interventional", query_id="q")
    >>> people = pd.DataFrame({"participant_id": range(8), "sex": ["F"] * 4 + ["M"] * 4})
    >>> by_sex = simulated_forest(draws, people, ["sex"], reference="a")
    >>> by_sex.table[["subgroup", "n", "estimate"]].round(3).values.tolist()
    [['all', 8.0, 0.556], ['sex = F', 4.0, 0.538], ['sex = M', 4.0, 0.571]]
    """
    draws, people = as_frame(draws), as_frame(people)
    rows = draws[draws["query"] == "interventional"]
    if rows.empty:
        raise RefusalError("draws: no interventional rows; a subgroup effect is of rung 2 (query with `do`)")
    week = one_week(rows, week, "draws")
    rows = rows[rows["visit_week"] == week]
    keyed = rows.assign(key=participant_key(rows["participant_id"]))
    keys = participant_key(people["participant_id"])
    if lost := set(keyed["key"]) - set(keys):
        raise InputError(f"{source}: no participant {min(lost)}, of whom there are draws; give the trial that was queried")
    members = people[keys.isin(set(keyed["key"])).to_numpy()].reset_index(drop=True)

    def effects_of(part: pd.DataFrame) -> pd.DataFrame:
        chosen = keyed[keyed["key"].isin(set(participant_key(part["participant_id"])))].drop(columns="key")
        effects = analyse_draws(chosen, reference=reference, measure=measure, outcome=outcome, level=level)
        directions = pd.Series(effects.attrs["model_error_directions"], index=effects.index, dtype=object)
        return effects.assign(
            df=np.inf, note="", events=np.nan, events_reference=np.nan, randomised=False, model_error_direction=directions
        )

    divisions = baseline_divisions(members, by, arm=None, outcome=net2_column(int(week), outcome or "net2_lesions"))
    return assemble(members, divisions, effects_of, source="simulated", level=level)
