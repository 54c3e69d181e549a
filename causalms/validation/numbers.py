"""The digits of a release: every fixed analysis and every example of the documentation as three numbers."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import fields, is_dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from causalms.errors import CausalmsError
from causalms.validation import of_calibration, of_effects, of_simulations, of_stats

#: Rooms whose examples are run.
ROOMS = ("stats", "effects", "calibration")
#: Fits by an optimiser whose last digits are those of the machine.
_STOPS_EARLY = ("zeros:", "example: stats.zero_models", "example: effects.sensitivity")
#: A line of an example that keeps what it computes under a name.
_NAMED = re.compile(r"[\w, ]+ = ")


def digest(value: Any) -> tuple[float, float, float]:
    """Two sums over the numbers of a result, weighted by place, that change when any of them does, and how many there are.

    A number enters by asinh(1000 x), so that neither large ones hide small ones nor small ones a relative change.

    Examples
    --------
    >>> [round(number, 4) for number in digest(np.array([1.0, 2.0]))]
    [24.189, 27.5066, 2.0]
    """
    numbers = np.nan_to_num(np.array(list(_flat(value)), float), nan=-3.0, posinf=7e7, neginf=-7e7)
    place, seen = np.arange(len(numbers)), np.arcsinh(1e3 * numbers)
    return float((1.0 + place % 11) @ seen), float((1.0 + place * 7 % 13 / 5) @ seen), float(len(numbers))


def same_digits(found: tuple[float, ...], known: tuple[float, ...], name: str = "") -> bool:
    """Whether two digests agree to about 1e-8 of each of their numbers (1e-4 where an optimiser stops early)."""
    near = 1e-4 if name.startswith(_STOPS_EARLY) else 2e-8
    return found[2] == known[2] and bool(np.allclose(found[:2], known[:2], rtol=1e-9, atol=near * max(known[2], 1.0)))


def _flat(value: Any) -> Iterator[float]:
    """Every number of a result: of arrays, tables, dataclasses, lists and mappings; words are passed over."""
    if isinstance(value, pd.DataFrame):
        yield from _flat(value.select_dtypes(["number", "bool"]).to_numpy(float, na_value=np.nan))
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _flat(getattr(value, field.name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from _flat(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _flat(one)
    elif isinstance(value, (np.ndarray, pd.Series)):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            yield from array.astype(float).ravel()
        elif array.dtype.kind == "O":
            yield from _flat(array.ravel().tolist())
    elif isinstance(value, (bool, int, float, np.generic)) and not isinstance(value, np.str_):
        yield float(value)


def release_runs() -> Iterator[tuple[str, Any]]:
    """Identifier and call of every fixed analysis; nothing is computed before the call."""
    for room in (of_effects, of_simulations, of_stats, of_calibration):
        yield from room.runs()
    for name in [name for name, test in examples().items() if any(_NAMED.match(line.source) for line in test.examples)]:
        yield f"example: {name}", lambda name=name: _left_by(name)


def release_digits(run: Callable[[], Any]) -> tuple[float, float, float]:
    """The digest of a fixed analysis; a refusal is a result of its own."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return digest(run())
    except CausalmsError as refusal:
        return float(len(str(refusal))), -1.0, 0.0


def release_numbers() -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Identifier and digest of every fixed analysis."""
    for name, run in release_runs():
        yield name, release_digits(run)


@cache
def examples() -> dict[str, doctest.DocTest]:
    """The examples of stats, effects and calibration by name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found: dict[str, doctest.DocTest] = {}
    for room in ROOMS:
        for module in pkgutil.iter_modules(importlib.import_module(f"causalms.{room}").__path__, f"causalms.{room}."):
            loaded = importlib.import_module(module.name)
            found |= {test.name.removeprefix("causalms."): test for test in finder.find(loaded, module.name) if test.examples}
    return found


def _left_by(name: str) -> list[Any]:
    """All that an example computes under a name, unrounded."""
    example = examples()[name]
    test = doctest.DocTest(example.examples, dict(example.globs), name, example.filename, example.lineno, example.docstring)
    with redirect_stdout(io.StringIO()):
        doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None, clear_globs=False)
    own = {key: value for key, value in test.globs.items() if key not in example.globs and not isinstance(value, ModuleType)}
    return [own[key] for key in sorted(own) if not key.startswith("__")]
