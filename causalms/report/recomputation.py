"""Patients that a report carries, checked before they are put into it, and the contrasts that a reader computes again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from causalms.errors import InputError
from causalms.tables import p_value_text, significant

#: What a reader is told of the section.
RECOMPUTE = (
    "This page carries the columns that these numbers were computed from, sorted, without identifiers: arm, outcome, time at "
    "risk and adjustment of an effect; observed count, mean and size of a forecast. At the button it fits the working model and "
    "forms means, variance and contrast, or coverage and PIT histogram, anew in JavaScript (`recompute.js`, readable in the "
    "source of the page), and shows how far each number lies from the reported one. No network is used."
)
_WORDS = {
    "estimator": ("standardized", "unadjusted", "coefficient"),
    "family": ("poisson", "negbin", "logistic", "linear"),
    "variance": ("influence", "small-sample", "leave-one-out", "leave-one-out-t", "model-r", "model-sas"),
    "scale": ("identity", "log", "logit"),
    "rate": ("unit", "exposure-weighted"),
    "interaction": (True, False),
    "counts": (True, False),
}
_NUMBERS = ("estimate", "se", "lower", "upper", "p_value")


def read_recomputation(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read and check what ``causalms effects --recompute`` wrote.

    Raises
    ------
    InputError
        If the file cannot be read, or is no such file.
    """
    try:
        bundle = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON; write it with `causalms effects` and `recompute`") from error
    return checked_recomputation(bundle, str(path))


def checked_recomputation(bundle: Any, source: str = "recomputation") -> dict[str, Any]:
    """The same bundle, checked: settings that the page knows, one finite value a patient in every column.

    Parameters
    ----------
    bundle : dict
        As :func:`causalms.effects.recomputation` or :func:`causalms.calibration.forecasts_again` gives it.
    source : str
        Its name in messages.

    Raises
    ------
    InputError
        Naming the part and the entry.

    Examples
    --------
    >>> checked_recomputation({"parts": [{"arms": ["a", "b"]}]}, "r.json")
    Traceback (most recent call last):
    ...
    causalms.errors.InputError: r.json, part 1: no 'estimator'; write the file again with `causalms effects` and `recompute`
    """
    parts = bundle.get("parts") if isinstance(bundle, Mapping) else None
    if not isinstance(parts, list):
        raise InputError(f"{source}: holds no 'parts'; write the file again with `causalms effects` and `recompute`")
    for number, part in enumerate(parts, start=1):
        wrong = _wrong(part) if isinstance(part, Mapping) else "is no object"
        if wrong:
            raise InputError(f"{source}, part {number}: {wrong}; write the file again with `causalms effects` and `recompute`")
    return dict(bundle)


def _wrong(part: Mapping[str, Any]) -> str | None:
    """What is wrong with the settings, columns or contrasts of one part."""
    if part.get("kind") == "forecasts":
        return _wrong_forecasts(part)
    for name, known in _WORDS.items():
        if name not in part:
            return f"no {name!r}"
        if part[name] not in known:
            return f"{name} {part[name]!r} is not one of {', '.join(map(str, known))}"
    try:
        arms, level = [str(arm) for arm in part["arms"]], float(part["level"])
        columns = {name: np.array(part[name], dtype=float) for name in ("arm", "outcome", "time")}
        n = len(columns["outcome"])
        columns["covariates"] = np.array(part["covariates"], dtype=float).reshape(n, -1)
        numbers = np.array([[row[name] for name in _NUMBERS] for row in part["rows"]], dtype=float)
        places = [int(row["index"]) for row in part["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        return f"lacks or misshapes {error}" if isinstance(error, KeyError) else "its columns are not a number a patient"
    if len({len(values) for values in columns.values()}) > 1 or not all(np.isfinite(v).all() for v in columns.values()):
        return "its columns are not one finite number a patient"
    if not 0 < level < 1 or len(arms) < 2 or set(columns["arm"]) != set(range(len(arms))) or (columns["time"] <= 0).any():
        return "level, arms or times are out of range"
    if not np.isfinite(numbers).all() or not all(0 <= place < len(arms) - 1 for place in places):
        return "its contrasts are not numbers of its arms"
    return None


def _wrong_forecasts(part: Mapping[str, Any]) -> str | None:
    """What is wrong with forecasts and the shares said of them."""
    try:
        sizes = np.array([np.inf if size is None else size for size in part["size"]], dtype=float)
        observed, means, levels = (np.array(part[name], dtype=float) for name in ("observed", "mean", "levels"))
        said = np.array([[row["estimate"], row["index"]] for row in part["rows"]], dtype=float)
        bins = int(part["bins"])
    except (KeyError, TypeError, ValueError) as error:
        return f"lacks or misshapes {error}" if isinstance(error, KeyError) else "its columns are not a number a patient"
    if not len(observed) == len(means) == len(sizes) > 0 or not np.isfinite([*observed, *means, *levels, *said.ravel()]).all():
        return "its columns are not one finite number a patient"
    if (observed < 0).any() or (means < 0).any() or (means > 1e5).any() or (sizes <= 0).any() or not 2 <= bins <= 1000:
        return "counts, means, sizes or bins are out of range"
    if not ((levels > 0) & (levels < 1)).all() or not ((said[:, 1] >= 0) & (said[:, 1] < len(levels) + bins)).all():
        return "levels or rows are out of range"
    return None


def contrast_lines(bundle: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One line a row: what the report says, to six digits."""
    return [
        {
            "part": at,
            "row": index,
            "contrast": row["of"] if "of" in row else f"{row['arm']} against {row['reference']}",
            "population": f"{len(part.get('outcome', part.get('observed')))}, {part.get('population', '')}".removesuffix(", "),
            "estimate": significant(row["estimate"], 6),
            "interval": f"{significant(row['lower'], 6)} to {significant(row['upper'], 6)}" if "lower" in row else "",
            "p_value": p_value_text(row["p_value"]) if "p_value" in row else "",
        }
        for at, part in enumerate(bundle["parts"])
        for index, row in enumerate(part["rows"])
    ]
