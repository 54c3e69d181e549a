"""The three tables that rooms hand to each other: columns, reader and writer, keys, groups of patients."""

from __future__ import annotations

from causalms.tables.groups import Grouping, grouping
from causalms.tables.io import read_table, refuse_repeated_columns, write_table
from causalms.tables.keys import participant_key
from causalms.tables.results import results_table
from causalms.tables.schema import (
    ARMS,
    DRAWS_KEYS,
    DRAWS_OUTCOMES,
    EXPECTED_OUTCOMES,
    PARTICIPANTS_COLUMNS,
    REGIONS,
    RESULTS_COLUMNS,
    net2_column,
    schema,
    validate,
)

__all__ = [
    "ARMS",
    "DRAWS_KEYS",
    "DRAWS_OUTCOMES",
    "EXPECTED_OUTCOMES",
    "PARTICIPANTS_COLUMNS",
    "REGIONS",
    "RESULTS_COLUMNS",
    "Grouping",
    "grouping",
    "net2_column",
    "participant_key",
    "read_table",
    "refuse_repeated_columns",
    "results_table",
    "schema",
    "validate",
    "write_table",
]
