"""What the tests share: the command line called in-process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
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
