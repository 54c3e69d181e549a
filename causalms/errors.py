"""The few errors that causalms raises on purpose.

Every message names the file, row or column, what was found, what was expected and what to do about it, in one line: the
command line prints it and never shows a traceback for bad input.

A message names an argument of the function in backticks, with a value where one is advised: ```week``` or
```variance=small-sample```.  The command line writes these as its own options (``--week``, ``--variance small-sample``).
Columns, arms and values stand in quotes.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class CausalmsError(Exception):
    """Something asked for cannot be done; the command line exits with 1."""

    exit_code = 1


class InputError(CausalmsError):
    """A file, table or image from outside is not as it must be."""


class RefusalError(CausalmsError):
    """The data are readable, but the question has no honest answer on them (no support, no abduction, one arm only)."""


class ConvergenceError(CausalmsError):
    """A fit did not converge; no number is returned in its place."""


class WorkerError(CausalmsError):
    """A process that was to do a part of the work died; what other processes finished is not lost where the message says so."""


class MissingExtraError(CausalmsError, ModuleNotFoundError):
    """A package of an optional extra is not installed; the message is the line that installs it."""


class DataNote(UserWarning):
    """How a table was read where it could be read otherwise; the command line prints it as a note."""


class UsageError(CausalmsError):
    """A call that makes no sense whatever the data (unknown option value, contradictory arguments); exit code 2."""

    exit_code = 2


#: Modules of the optional extras of pyproject.toml, and the extra that installs each.
_EXTRA_OF_MODULE = {
    **dict.fromkeys(("cc3d", "nibabel", "nilearn"), "images"),
    **dict.fromkeys(("torch", "pyro", "safetensors"), "model"),
    **dict.fromkeys(("dask", "distributed"), "scale"),
    **dict.fromkeys(("picsl_greedy", "deepbet", "SimpleITK"), "register"),
    "docx": "publish",
}


def missing_extra(error: ModuleNotFoundError, extra: str | None = None) -> MissingExtraError | None:
    """The one-line error for a module of an optional extra, or None if the module belongs to no extra.

    Parameters
    ----------
    error : ModuleNotFoundError
    extra : str, optional
        The extra that the caller needs in full; default: the one that installs the module.

    Examples
    --------
    >>> str(missing_extra(ModuleNotFoundError("No module named 'torch'", name="torch")))
    'torch is not installed; install it with: pip install "causalms[model]"'
    """
    module = (error.name or "").partition(".")[0]
    if module not in _EXTRA_OF_MODULE:
        return None
    line = f'pip install "causalms[{extra or _EXTRA_OF_MODULE[module]}]"'
    return MissingExtraError(f"{module} is not installed; install it with: {line}", name=module)


@contextlib.contextmanager
def optional_packages() -> Iterator[None]:
    """Around an import of packages that an extra brings (as a block or a decorator): a missing one is a one-line error.

    Raises
    ------
    MissingExtraError
    """
    try:
        yield
    except ModuleNotFoundError as error:
        refusal = missing_extra(error)
        if refusal is None or isinstance(error, MissingExtraError):
            raise
        raise refusal from error


def near_name(name: object, known: Iterable[str]) -> str:
    """The question after a misspelt name, or nothing where no known name is near; case plays no part.

    Examples
    --------
    >>> near_name("ruls", ["name", "rules"]), near_name("NAME", ["name", "rules"]), near_name("x", ["name", "rules"])
    ("did you mean 'rules'?", "did you mean 'name'?", '')
    """
    spelt = {one.lower(): one for one in reversed([str(one) for one in known])}
    near = difflib.get_close_matches(str(name).lower(), list(spelt), 1)
    return f"did you mean {spelt[near[0]]!r}?" if near else ""


def near_or_all(name: object, known: Iterable[str], words: str, always: bool = False) -> str:
    """The question after a misspelt name, or ``words`` and all the known names where none is near.

    With ``always`` both: another drug is not a misspelling, however near its name.

    Examples
    --------
    >>> near_or_all("placeb", ["placebo", "drug"], "arms are"), near_or_all("x", ["placebo", "drug"], "arms are")
    ("did you mean 'placebo'?", 'arms are placebo, drug')
    """
    names = list(known)
    near, listed = near_name(name, names), f"{words} {', '.join(map(str, names[:30])) or 'none'}"
    return f"{listed}; {near}" if near and always else near or listed


def named_arguments(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a misspelt keyword argument of a public function an error of one line that says the near name.

    Raises
    ------
    UsageError
        When the function is called with a keyword that it does not have.

    Examples
    --------
    >>> @named_arguments
    ... def effect(*, exposure=None):
    ...     return exposure
    >>> effect(exposre=1)
    Traceback (most recent call last):
    ...
    causalms.errors.UsageError: effect has no argument 'exposre'; did you mean 'exposure'?
    """
    names = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        for name in kwargs:
            if name not in names:
                mend = near_or_all(name, names, "it has")
                raise UsageError(f"{function.__name__} has no argument {name!r}; {mend}")
        return function(*args, **kwargs)

    return checked
