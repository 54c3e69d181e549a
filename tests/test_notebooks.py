"""Notebooks run from top to bottom, and are committed without outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "statsmodels_simulator.ipynb"


def test_a_statsmodels_simulator_is_judged_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    said: dict[str, object] = {}
    for cell in cells:
        source = "".join(cell["source"]).replace("= 300, 60, 100, 96", "= 60, 16, 20, 96")
        exec(compile(source, str(NOTEBOOK), "exec"), said)
    ratios = said["ratios"]
    assert isinstance(ratios, dict)
    assert set(ratios) == {"truth", "statsmodels", "causalms"}
    # 60 patients to learn from, 16 to judge: only that all three say that lesions become fewer
    assert all(0 < ratio < 0.6 for ratio in pd.Series(ratios))
    assert "15 patients at week 96" in repr(said["judged"]["causalms"])  # type: ignore[index]
