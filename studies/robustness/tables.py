"""Damages of tables: cells, columns and rows, and statistics of results that cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from studies.robustness.damage import Right, damage

Random = np.random.Generator
#: Columns that the verbs of the study use as numbers.
NUMBERS = ("age", "edss", "exposure_years", "net2_lesions_week48")


def _cell(table: pd.DataFrame, random: Random, value: object, columns: tuple[str, ...] = NUMBERS) -> pd.DataFrame:
    """One value in one cell of one of the columns."""
    present = [name for name in columns if name in table] or ["net2_lesions"]
    column = str(random.choice(present))
    cells = table[column].astype(object).copy()
    cells.iloc[int(random.integers(len(table)))] = value
    return table.assign(**{column: cells.astype(str) if isinstance(value, str) else pd.to_numeric(cells)})


def _enter_cells() -> None:
    values: list[tuple[str, object, Right]] = [
        ("decimal comma", "43,6", "refused"),
        ("underscore", "1_0", "refused"),
        ("full-width digits", "４３", "refused"),
        ("Arabic digits", "٤٣", "refused"),
        ("a word", "unknown", "refused"),
        ("ND", "ND", "said"),
        ("a point", ".", "said"),
        ("blanks", "   ", "said"),
        ("None", "None", "said"),
        ("NA", "NA", "said"),
        ("empty cell", np.nan, "said"),
        ("infinity", np.inf, "refused"),
        ("negative", -3, "refused"),
        ("huge", 1e18, "refused"),
        ("tiny", 1e-13, "said"),
        ("hexadecimal", "0x1F", "refused"),
        ("number with a unit", "43 y", "refused"),
        ("quoted formula", "=1+1", "refused"),
    ]
    for name, value, right in values:

        def put(table: pd.DataFrame, random: Random, value: object = value) -> pd.DataFrame:
            return _cell(table, random, value)

        put.__name__ = name
        damage("cells", right, "table", "participants", "draws")(put)


_enter_cells()


def _name_cell(table: pd.DataFrame, random: Random, change: object, column: str = "arm") -> pd.DataFrame:
    row = int(random.integers(len(table)))
    cells = table[column].astype(object).copy()
    cells.iloc[row] = change(cells.iloc[row]) if callable(change) else change
    return table.assign(**{column: cells})


@damage("cells", "refused", "table", "participants", "draws")
def arm_in_other_case(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return _name_cell(table, random, str.upper)


@damage("cells", "refused", "table", "participants", "draws")
def arm_with_zero_width_space(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return _name_cell(table, random, lambda name: name + "\u200b")


@damage("cells", "said", "table", "participants")
def arm_blank(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return _name_cell(table, random, "")


@damage("cells", "said", "table", "participants")
def arm_unknown(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return _name_cell(table, random, "third drug")


@damage("cells", "refused", "table", "participants")
def identifier_blank(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return _name_cell(table, random, "", "participant_id")


@damage("cells", "refused", "table", "participants")
def exposure_in_days(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(exposure_years=(table["exposure_years"] * 365.25).round())


@damage("cells", "refused", "table", "participants")
def fractional_counts(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(net2_lesions_week48=table["net2_lesions_week48"] + 0.5)


@damage("columns", "refused", "table", "participants", "draws", "shard")
def column_renamed(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.rename(columns={str(random.choice(["arm", "participant_id"])): "renamed"})


@damage("columns", "said", "table", "participants", "draws")
def columns_in_other_case(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.rename(columns=str.upper)


@damage("columns", "refused", "table", "participants", "draws")
def column_dropped(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.drop(columns=str(random.choice(["arm", "participant_id"])))


@damage("columns", "refused", "table", "participants")
def outcome_all_missing(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(net2_lesions_week48=np.nan)


@damage("columns", "said", "table", "participants")
def covariate_all_missing(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(age=np.nan)


@damage("columns", "said", "table", "participants")
def covariate_constant(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(age=40.0)


@damage("columns", "refused", "table", "participants")
def outcome_constant(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(net2_lesions_week48=0)


@damage("columns", "harmless", "table", "participants", "draws", "shard")
def columns_reordered(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table[list(random.permutation(table.columns))]


@damage("columns", "harmless", "table", "participants", "draws")
def column_added(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(remark="x = 1, y")


@damage("rows", "refused", "table", "participants", "draws", "shard")
def row_repeated(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return pd.concat([table, table.iloc[[int(random.integers(len(table)))]]], ignore_index=True)


@damage("rows", "refused", "table", "participants", "draws")
def table_twice(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return pd.concat([table, table], ignore_index=True)


@damage("rows", "harmless", "table", "participants", "draws", "shard")
def rows_shuffled(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.iloc[random.permutation(len(table))].reset_index(drop=True)


@damage("rows", "refused", "table", "participants", "draws", "results", "shard")
def no_rows(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.iloc[:0]


@damage("rows", "refused", "table", "participants", "draws")
def one_arm(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table[table["arm"] == "placebo"].reset_index(drop=True)


@damage("rows", "refused", "table", "participants", "draws", "shard")
def one_row(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.iloc[[0]]


@damage("rows", "said", "table", "draws")
def some_patients_without_one_arm(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    gone = (table["participant_id"] == table["participant_id"].iloc[0]) & (table["arm"] == "drug")
    return table[~gone].reset_index(drop=True)


@damage("rows", "said", "table", "draws")
def unknown_patients(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.assign(participant_id="x" + table["participant_id"])


def _enter_results() -> None:
    values: list[tuple[str, dict[str, object]]] = [
        ("interval upside down", {"lower": 0.9, "upper": 0.2}),
        ("estimate outside its interval", {"estimate": 9.0}),
        ("level of 95", {"level": 95.0}),
        ("p-value of 7", {"p_value": 7.0}),
        ("standard error of -1", {"se": -1.0}),
        ("ratio of -3", {"estimate": -3.0}),
        ("infinite estimate", {"estimate": np.inf}),
        ("fractional n", {"n": 12.5}),
        ("negative n", {"n": -4.0}),
        ("randomised maybe", {"randomised": "maybe"}),
        ("randomised blank-padded no", {"randomised": " no "}),
        ("estimate in words", {"estimate": "half"}),
        ("estimate with decimal comma", {"estimate": "0,5"}),
        ("arm is the reference", {"arm": "placebo", "reference": "placebo"}),
        ("rung of 9", {"rung": 9.0}),
    ]
    for name, cells in values:

        def put(table: pd.DataFrame, random: Random, cells: dict[str, object] = cells) -> pd.DataFrame:
            row, out = int(random.integers(len(table))), table.copy()
            for column, value in cells.items():
                column_cells = out[column].astype(object)
                column_cells.iloc[row] = value
                out[column] = column_cells.astype(str) if isinstance(value, str) else column_cells.infer_objects()
            return out

        put.__name__ = name
        damage("statistics", "refused", "table", "results")(put)


_enter_results()


@damage("rows", "refused", "table", "results")
def result_repeated(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return pd.concat([table, table.iloc[[0]]], ignore_index=True)


@damage("columns", "refused", "table", "results")
def result_column_dropped(table: pd.DataFrame, random: Random) -> pd.DataFrame:
    return table.drop(columns=str(random.choice(["estimate", "measure", "level"])))
