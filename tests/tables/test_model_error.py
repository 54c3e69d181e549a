"""The model's own error in a draws table: read back as written, unknown where a cell lacks, refused where it is no such text."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from causalms.errors import InputError
from causalms.tables import MODEL_ERROR, ModelError, first_model_errors

ERROR = ModelError("m", "from 40 patients", np.array([0.1, -0.02]), 0.2, 0.01, 0.05)


def rows(*texts: object) -> pd.DataFrame:
    return pd.DataFrame({MODEL_ERROR: list(texts)})


def test_a_cell_is_read_back_as_it_was_written():
    again = ModelError.read(ERROR.text())
    assert again.log_mean.tolist() == [0.1, -0.02]
    assert (again.activity_slope, again.activity_size, again.log_volume, again.source) == (0.2, 0.01, 0.05, "from 40 patients")


def test_the_first_draw_of_every_cell_holds_its_error():
    table = rows(ERROR.text(), None, np.nan, ERROR.text(), "")
    found = first_model_errors(table, np.array([0, 0, 0, 1, 1]), 2, "draws")
    assert found is not None
    assert len(found) == 2


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"net2_lesions": [1, 2]}),
        rows(ERROR.text(), None),
        rows(ERROR.text(), ModelError("another", "from 40 patients", np.zeros(2), 0.0, 0.0).text()),
    ],
    ids=["no column", "a cell without", "two models"],
)
def test_the_error_is_unknown_where_a_cell_lacks_or_two_models_stand_in_one_table(table: pd.DataFrame):
    assert first_model_errors(table, np.arange(2), 2, "draws") is None


@pytest.mark.parametrize(
    "text", ["__import__('os')", "{}", '{"model": "m", "source": "s", "log_mean": [1e999], "activity": [0, 0]}']
)
def test_what_is_no_such_text_is_refused(text: str):
    with pytest.raises(InputError, match=r"d\.csv: column 'model_error': found "):
        first_model_errors(rows(text), np.zeros(1, int), 1, "d.csv")
