"""The card of the shipped checkpoint says what was measured, of the file that ships."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

from causalms.generator import Generator

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "studies" / "results"
CARD = ROOT / "causalms" / "generator" / "MODEL_CARD.md"
MEND = "run studies/model_card.py, then studies/model_card_tables.py"


@pytest.fixture(scope="module")
def script() -> dict[str, object]:
    return runpy.run_path(str(ROOT / "studies" / "model_card_tables.py"))


def test_tables_of_the_card_are_the_committed_results(script: dict[str, object]) -> None:
    filled = script["filled"]
    assert callable(filled)
    assert filled(CARD.read_text(), RESULTS) == CARD.read_text(), MEND


def test_card_speaks_of_the_checkpoint_that_ships() -> None:
    measured = json.loads((RESULTS / "model_card" / "model_card.json").read_text())
    assert measured["checksum"] == Generator.load("reference").checksum, MEND


def test_card_has_the_sections_of_the_template() -> None:
    card = CARD.read_text()
    for section in (
        "Model details",
        "Intended use",
        "Factors",
        "Training data",
        "Evaluation data and metrics",
        "Results by arm",
        "Results by subgroup",
        "Limits and caveats",
        "Ethical considerations",
    ):
        assert f"\n## {section}\n" in card
    assert "Not for clinical use" in card


def test_a_card_without_its_marker_is_refused(script: dict[str, object]) -> None:
    filled = script["filled"]
    assert callable(filled)
    with pytest.raises(SystemExit, match="no marker <!-- summary -->"):
        filled("# A card\n", RESULTS)
