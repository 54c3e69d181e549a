"""The three tables that rooms hand to each other: columns, reader and writer, keys, groups of patients."""

from __future__ import annotations

from causalms.tables.baseline import refuse_arm_and_outcome_by_name, refuse_copies
from causalms.tables.cells import (
    mend_of_number,
    plain_numbers,
    refuse_lookalikes,
    refuse_words_among_numbers,
)
from causalms.tables.complete import counted, left_out_words, note_left_out
from causalms.tables.foreign import columns_given, completed_draws, is_foreign, of_one_trial, visit_words
from causalms.tables.formula_matrix import FittedFormula
from causalms.tables.formulas import FORMULA_FUNCTIONS, Formula, formula
from causalms.tables.groups import Grouping, condition_columns, grouping, rows_where
from causalms.tables.io import as_frame, read_table, write_table
from causalms.tables.keys import (
    WEEKS_PER_YEAR,
    arm_order,
    name_of,
    names_of,
    one_week,
    participant_key,
    patient_order,
    percent_in_full,
)
from causalms.tables.model_error import MODEL_ERROR, ModelError, first_model_errors
from causalms.tables.population import ContrastPopulation, contrast_population
from causalms.tables.results import RESULTS_COLUMNS, ResultRow, is_ratio, results_table
from causalms.tables.rounding import fixed, p_value_text, percentage, showing, shown, shown_digits, significant, total_text
from causalms.tables.schema import (
    DRAWS_KEYS,
    DRAWS_OUTCOMES,
    EXPECTED_OUTCOMES,
    LARGEST_COUNT,
    LARGEST_VALUES,
    PARTICIPANTS_COLUMNS,
    REGIONS,
    named_in_full,
    net2_column,
    validate,
)
from causalms.tables.spreadsheets import mark_formulas
from causalms.tables.stored_draws import TALLY, is_stored_draws, partition_draws, tallied_draws, tally_of
from causalms.tables.text_files import EXACT_NUMBERS
from causalms.tables.unlike import COMPARED, distances_of_cells, limit_of, outside_notes, patient_distances

__all__ = [
    "COMPARED",
    "DRAWS_KEYS",
    "DRAWS_OUTCOMES",
    "EXACT_NUMBERS",
    "EXPECTED_OUTCOMES",
    "FORMULA_FUNCTIONS",
    "LARGEST_COUNT",
    "LARGEST_VALUES",
    "MODEL_ERROR",
    "PARTICIPANTS_COLUMNS",
    "REGIONS",
    "RESULTS_COLUMNS",
    "TALLY",
    "WEEKS_PER_YEAR",
    "ContrastPopulation",
    "FittedFormula",
    "Formula",
    "Grouping",
    "ModelError",
    "ResultRow",
    "arm_order",
    "as_frame",
    "columns_given",
    "completed_draws",
    "condition_columns",
    "contrast_population",
    "counted",
    "distances_of_cells",
    "first_model_errors",
    "fixed",
    "formula",
    "grouping",
    "is_foreign",
    "is_ratio",
    "is_stored_draws",
    "left_out_words",
    "limit_of",
    "mark_formulas",
    "mend_of_number",
    "name_of",
    "named_in_full",
    "names_of",
    "net2_column",
    "note_left_out",
    "of_one_trial",
    "one_week",
    "outside_notes",
    "p_value_text",
    "participant_key",
    "partition_draws",
    "patient_distances",
    "patient_order",
    "percent_in_full",
    "percentage",
    "plain_numbers",
    "read_table",
    "refuse_arm_and_outcome_by_name",
    "refuse_copies",
    "refuse_lookalikes",
    "refuse_words_among_numbers",
    "results_table",
    "rows_where",
    "showing",
    "shown",
    "shown_digits",
    "significant",
    "tallied_draws",
    "tally_of",
    "total_text",
    "validate",
    "visit_words",
    "write_table",
]
