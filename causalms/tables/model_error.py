"""The generator's own error in a draws table, so that the table itself says how far it may be wrong.

Column :data:`MODEL_ERROR` holds a small JSON text in the first draw of every patient, arm and visit, and nothing in the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import InputError

#: The column.
MODEL_ERROR = "model_error"


@dataclass(frozen=True)
class ModelError:
    r"""How far the law of one patient's count under one arm may be wrong, to first order.

    Along independent standard normal directions :math:`e` that all rows of one model share,
    :math:`\log\mu_i(a)` errs by :math:`\sum_k l_{ik}(a) e_k`.

    Attributes
    ----------
    model : str
        Which model's directions these are: errors of two rows are correlated only within one model.
    source : str
        What the error was learned on: ``from 12,000 held-out patients``.
    log_mean : array (directions,)
        :math:`l_i(a)`.
    activity_slope : float
        Derivative of P(any) by the log mean.
    activity_size : float
        Error of P(any) by that of the arm's dispersion.
    log_volume : float
        Error of the arm's log mean volume of a lesion; missing where it is unknown.
    log_size : float
        Error of the arm's log dispersion; missing where it is unknown.
    distances : mapping of str to float
        By what is compared (``columns``, ``signals``, ``scanner``): how far the patient lies from those that the model learned
        from, in units of the distance that 99 of 100 of them keep within; empty where it is unknown.
    seen : int
        Number of patients that stand for those learned from.
    usual : mapping of str to (float, float)
        Mean and standard deviation of the squared distance of patients like those learned from, in the same units.

    Examples
    --------
    >>> error = ModelError("m1", "from 40 patients", np.array([0.1, -0.05]), 0.2, 0.01)
    >>> error.text()
    '{"model": "m1", "source": "from 40 patients", "log_mean": [0.1, -0.05], "activity": [0.2, 0.01]}'
    >>> ModelError.read(error.text()).log_mean.tolist()
    [0.1, -0.05]
    """

    model: str
    source: str
    log_mean: np.ndarray
    activity_slope: float
    activity_size: float
    log_volume: float = np.nan
    log_size: float = np.nan
    distances: Mapping[str, float] = field(default_factory=dict)
    seen: int = 0
    usual: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def text(self) -> str:
        """As JSON, to five decimals."""
        content: dict[str, Any] = {"model": self.model, "source": self.source}
        content["log_mean"] = [round(float(value), 5) for value in self.log_mean]
        content["activity"] = [round(self.activity_slope, 5), round(self.activity_size, 5)]
        if np.isfinite(self.log_volume):
            content["volume"] = round(self.log_volume, 5)
        if np.isfinite(self.log_size):
            content["size"] = round(self.log_size, 5)
        if self.distances:
            content["distance"] = {name: round(float(value), 3) for name, value in self.distances.items()}
            content["seen"] = self.seen
            content["usual"] = {name: [round(float(part), 4) for part in pair] for name, pair in self.usual.items()}
        return json.dumps(content)

    @classmethod
    def read(cls, text: str, source: str = "draws") -> ModelError:
        """The error that a cell holds.

        Raises
        ------
        InputError
            If it is no such text.
        """
        try:
            content = json.loads(text)
            slope, size = map(float, content["activity"])
            log_mean = np.array(content["log_mean"], dtype=float)
            volume, log_size = (float(content.get(name, np.nan)) for name in ("volume", "size"))
            distances = {str(name): float(value) for name, value in content.get("distance", {}).items()}
            seen = int(content.get("seen", 0))
            usual = {str(name): (float(mean), float(sd)) for name, (mean, sd) in content.get("usual", {}).items()}
            error = cls(str(content["model"]), str(content["source"]), log_mean, slope, size, volume, log_size)
            error = replace(error, distances=distances, seen=seen, usual=usual)
        except (ValueError, TypeError, KeyError, AttributeError) as failure:
            raise InputError(
                f"{source}: column {MODEL_ERROR!r}: found {str(text)[:40]!r}, expected the text that a query wrote; "
                "leave the column as it was, or leave it out"
            ) from failure
        if log_mean.ndim != 1 or not np.isfinite([*log_mean, slope, size, *distances.values()]).all():
            raise InputError(f"{source}: column {MODEL_ERROR!r}: found numbers that are not finite; ask the query again")
        return error


def first_model_errors(rows: pd.DataFrame, cells: np.ndarray, count: int, source: str) -> list[ModelError] | None:
    """The error of every cell (a patient under an arm at a visit), from the row that holds it; None where one is unknown.

    Parameters
    ----------
    rows : DataFrame
        Draws.
    cells : int array (rows,)
        Which of ``count`` cells each row belongs to.
    count : int
    source : str
    """
    if MODEL_ERROR not in rows:
        return None
    texts = rows[MODEL_ERROR].astype(object).tolist()
    by_cell: dict[int, str] = {}
    for cell, text in zip(cells, texts, strict=True):
        if isinstance(text, str) and text and int(cell) not in by_cell:
            by_cell[int(cell)] = text
    if len(by_cell) < count:
        return None
    errors = [ModelError.read(by_cell[cell], source) for cell in range(count)]
    return errors if _of_one_model(errors) else None


def _of_one_model(errors: Iterable[ModelError]) -> bool:
    return len({(error.model, len(error.log_mean)) for error in errors}) == 1
