"""The cell of a simulated contrast says how far the model may be wrong, and what that was learned from."""

from __future__ import annotations

import numpy as np
import pytest

from causalms.report.methods import opening_sentences
from causalms.report.rows import result_rows
from causalms.tables import results_table

ROW = {
    "analysis": "simulated lesions, week 96",
    "arm": "drug",
    "reference": "placebo",
    "measure": "rate ratio",
    "estimate": 0.5,
    "randomised": False,
    "rung": 2,
}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"se_generator": 0.123, "variance": "a + the model's own error (from 40 patients), for trials like those"},
         "model error 0.12 (from 40 patients), for trials like those"),
        ({"se_generator": np.nan, "variance": "a"}, "model error unknown"),
        ({"se_generator": np.nan, "variance": "a; given the model: its own error is left out"},
         "given the model: its own error is left out"),
        ({"se_generator": 0.06, "variance": "as for the interval"}, "model error 0.06"),
        ({"se_generator": 0.06, "variance": "patients + between 3 generators"}, "model error 0.06 between 3 generators"),
        ({"analysis": "primary", "randomised": True}, ""),
        ({"measure": "estimate agreement (1 = yes)", "estimand": "a; randomised together in BRAVO", "estimate": 1.0}, ""),
    ],
)  # fmt: skip
def test_every_simulated_contrast_and_no_other_states_its_model_error(more: dict[str, object], words: str) -> None:
    (shown,) = result_rows(results_table([{**ROW, **more}]))
    assert shown.model_error == words


def test_a_verdict_is_no_contrast_without_interval() -> None:
    verdict = {**ROW, "analysis": "agreement", "measure": "estimate agreement (1 = yes)", "estimate": 1.0}
    effect = {**ROW, "lower": 0.4, "upper": 0.625, "level": 0.95, "se_generator": 0.05}
    said = opening_sentences(results_table([effect, verdict]))
    assert said[1] == "Of 1 contrast, 1 is simulated for the same patients under both arms."
    assert "without interval" not in " ".join(said)
    assert result_rows(results_table([verdict]))[0].badges[0].label == "verdict"
