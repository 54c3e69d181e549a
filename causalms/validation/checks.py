"""The checks: each with its requirement, what was expected, what came, and whether it passed."""

from __future__ import annotations

import doctest
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import causalms
from causalms import effects
from causalms.errors import CausalmsError, InputError
from causalms.tables import read_table, significant
from causalms.validation.numbers import ROOMS, examples, release_digits, release_runs, same_digits
from causalms.validation.shipped_tables import DATA, shipped
from causalms.yaml_files import read_yaml

#: What the core needs.
_NEEDS = ("numpy", "pandas", "scipy", "formulaic", "statsmodels", "scikit-learn", "matplotlib", "pyarrow", "click")
#: Relative tolerance of R's digits as they are printed.
_R_ESTIMATE, _R_SE = 1e-6, 1e-4
_EXPECTED = ("estimate", "se", "lower", "upper", "p_value", "n", "n_reference")


@dataclass(frozen=True)
class Check:
    """One requirement with its test and result.

    Attributes
    ----------
    part : {"installation", "R", "release", "examples", "plan"}
    id, requirement : str
    test : str
        What was run.
    expected, found : str
    passed : bool
    """

    part: str
    id: str
    requirement: str
    test: str
    expected: str
    found: str
    passed: bool


@dataclass(frozen=True)
class Validation:
    """All checks of one run.

    Attributes
    ----------
    checks : tuple of Check
    machine : str
    started : str
        Date and time, UTC.
    seconds : float
    """

    checks: tuple[Check, ...]
    machine: str
    started: str
    seconds: float

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def counts(self) -> pd.DataFrame:
        """Checks and passes of each part."""
        table = pd.DataFrame([vars(check) for check in self.checks])
        return (
            table.groupby("part", sort=False)["passed"].agg(["size", "sum"]).rename(columns={"size": "checks", "sum": "passed"})
        )


def validate(
    plan: str | Path | None = None, *, parts: Sequence[str] = ("installation", "R", "release", "examples")
) -> Validation:
    """Run the checks on this machine.

    Parameters
    ----------
    plan : path, optional
        The user's own checks, YAML: a list of ``id``, ``requirement``, ``arguments`` (of :func:`causalms.analyse`, with
        ``table``) and ``expect`` (columns of the results table), optionally ``tolerance``.
    parts : sequence of str

    Raises
    ------
    InputError
        The plan is no such list.

    Examples
    --------
    >>> validation = validate(parts=["installation"])
    >>> len(validation.failed)
    0
    """
    start, clock = pd.Timestamp.now(tz="UTC"), time.monotonic()
    own = None if plan is None else _read_plan(Path(plan))
    checks = [run() for part in parts for _, run in checks_of(part)]
    if own is not None:
        assert plan is not None
        checks += [_planned(entry, Path(plan).parent) for entry in own]
    machine = f"{platform.platform()}, Python {platform.python_version()}, causalms {causalms.__version__}"
    return Validation(tuple(checks), machine, start.strftime("%Y-%m-%d %H:%M"), time.monotonic() - clock)


def checks_of(part: str) -> Iterator[tuple[str, Any]]:
    """Identifier and call of every check of a part; nothing is run before the call."""
    if part == "installation":
        return ((check.id, lambda check=check: check) for check in _installation())
    return {"R": _r_digits, "release": _release_digits, "examples": _examples}[part]()


def _installation() -> Iterator[Check]:
    least = (3, 11)
    yield Check(
        "installation",
        "I-python",
        "Python is 3.11 or later",
        "sys.version_info",
        "3.11",
        platform.python_version(),
        sys.version_info[:2] >= least,
    )
    for name in _NEEDS:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "not installed"
        yield Check(
            "installation",
            f"I-{name}",
            f"{name} is installed",
            "importlib.metadata",
            "a version",
            version,
            version != "not installed",
        )
    for room in ("tables", *ROOMS, "subgroups", "benefit", "agreement", "report"):
        try:
            importlib.import_module(f"causalms.{room}")
            said = "loads"
        except ImportError as error:
            said = str(error)
        yield Check("installation", f"I-{room}", f"room {room} loads", "import", "loads", said, said == "loads")


def _r_digits() -> Iterator[tuple[str, Any]]:
    for row in read_table(DATA / "r_digits.csv").to_dict("records"):
        yield f"R-{row['id']}", lambda row=row: _r_check(row)


def _r_check(row: Mapping[Any, Any]) -> Check:
    options = json.loads(str(row["options"]))
    test = f"analyse({row['table']}.csv, {', '.join(f'{name}={value}' for name, value in options.items())})"
    expected = f"log {significant(row['estimate'], 9)}, se {significant(row['se'], 6)}"
    try:
        result = effects.analyse(shipped(str(row["table"])), **effects.grouped_arguments(options)).results.iloc[0]
        value = float(np.log(result["estimate"]))
        said = f"log {significant(value, 9)}, se {significant(result['se'], 6)}"
        passed = bool(abs(value / row["estimate"] - 1) < _R_ESTIMATE and abs(float(result["se"]) / row["se"] - 1) < _R_SE)
    except CausalmsError as error:
        said, passed = str(error), False
    return Check("R", f"R-{row['id']}", str(row["requirement"]), test, expected, said, passed)


def _release_digits() -> Iterator[tuple[str, Any]]:
    truth = read_table(DATA / "release_digits.csv").set_index("id")
    for name, run in release_runs():
        known = tuple(truth.loc[name].astype(float)) if name in truth.index else (np.nan, np.nan, np.nan)
        yield f"D-{name}", lambda name=name, run=run, known=known: _release_check(name, run, known)


def _release_check(name: str, run: Callable[[], Any], known: tuple[float, ...]) -> Check:
    found = release_digits(run)
    expected, said = (", ".join(significant(value, 10) for value in numbers) for numbers in (known, found))
    requirement = f"{name}: the digits of the release"
    return Check("release", f"D-{name}", requirement, "numbers.py", expected, said, same_digits(found, known, name))


def _examples() -> Iterator[tuple[str, Any]]:
    for name, test in examples().items():
        yield f"E-{name}", lambda name=name, test=test: _example(name, test)


def _example(name: str, test: doctest.DocTest) -> Check:
    lines = (test.docstring or "").strip().splitlines()
    said: list[str] = []
    own = doctest.DocTest(test.examples, dict(test.globs), name, test.filename, test.lineno, test.docstring)
    result = doctest.DocTestRunner(verbose=False).run(own, out=said.append)
    found = "as shown" if not result.failed else "".join(said)[-300:]
    return Check("examples", f"E-{name}", lines[0] if lines else name, "its docstring", "as shown", found, not result.failed)


def _read_plan(path: Path) -> list[Mapping[str, Any]]:
    entries = read_yaml(path, "a list of checks with id, requirement, arguments and expect")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: found no list, expected checks with id, requirement, arguments and expect")
    for place, entry in enumerate(entries, start=1):
        missing = [
            name for name in ("id", "requirement", "arguments", "expect") if not isinstance(entry, dict) or name not in entry
        ]
        if missing:
            raise InputError(f"{path}: check {place} lacks {', '.join(missing)}; add it")
        unknown = [name for name in entry["expect"] if name not in _EXPECTED]
        if unknown:
            raise InputError(f"{path}: check {place} expects {unknown[0]!r}; columns are {', '.join(_EXPECTED)}")
        if "table" not in entry["arguments"]:
            raise InputError(f"{path}: check {place} names no table; add `table` to its arguments")
    return entries


def _planned(entry: Mapping[str, Any], folder: Path) -> Check:
    arguments, tolerance = dict(entry["arguments"]), float(entry.get("tolerance", _R_ESTIMATE))
    table = folder / str(arguments.pop("table"))
    expect = {name: float(value) for name, value in entry["expect"].items()}
    test = f"analyse({table.name}, {', '.join(f'{name}={value}' for name, value in arguments.items())})"
    try:
        row = effects.analyse(read_table(table), **effects.grouped_arguments(arguments)).results.iloc[0]
        came = {name: float(row[name]) for name in expect}
        said = ", ".join(f"{name} {significant(value, 10)}" for name, value in came.items())
        passed = all(bool(np.isclose(came[name], expect[name], rtol=tolerance, atol=0)) for name in expect)
    except CausalmsError as error:
        said, passed = str(error), False
    expected = ", ".join(f"{name} {significant(value, 10)}" for name, value in expect.items())
    return Check(
        "plan", f"P-{entry['id']}", str(entry["requirement"]), test, f"{expected} (relative {tolerance:g})", said, passed
    )
