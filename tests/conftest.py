"""What the tests share: the command line called in-process, and the keys of a table of draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from causalms.cli.main import main
from causalms.tables import ModelError

#: Column ``model_error`` of a simulator that is the truth itself: its own error is known to be none.
NO_MODEL_ERROR = ModelError("truth", "of the truth", np.zeros(1), 0.0, 0.0, 0.0).text()


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    printed: str
    error: str


Run = Callable[..., Ended]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process: ``run("effects", path, "--reference", "placebo")``."""

    def ended(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(int(end.value.code or 0), captured.out, captured.err)

    return ended


def refused(ended: Ended, code: int, *words: str) -> None:
    """Assert that a command ended with ``code`` and one line of error that holds ``words``."""
    assert ended.code == code, ended.error
    assert ended.error.startswith("error: ")
    assert ended.error.count("\n") == 1
    for word in words:
        assert word in ended.error


def files_in(folder: Path) -> list[str]:
    """Everything that lies in a folder, by its path in it."""
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def interventional(arms: Sequence[str], patient: np.ndarray, arm: np.ndarray, draw: np.ndarray) -> pd.DataFrame:
    """Keys of draws of one trial at week 48, a row an entry of the three: patients randomised to the arms in turn."""
    keys = {
        "participant_id": [f"p{number}" for number in patient],
        "trial": "one",
        "arm": np.array(arms)[arm],
        "arm_randomised": np.array(arms)[patient % len(arms)],
    }
    return pd.DataFrame({**keys, "visit_week": 48.0, "query": "interventional", "query_id": "q", "draw": draw})
