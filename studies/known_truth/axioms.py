"""Axioms of counterfactuals as metrics of any counterfactual function: composition, reversibility, effectiveness.

A counterfactual function takes (outcomes, arm, other arm) and gives outcomes under the other arm, one a patient.  A perfect one
composes (the own arm changes nothing), reverses (there and back is where it began) and is effective (the outcome looks like
the arm that was set).
Soundness needs all three and is not certified by them: an exactly reversible map can have a wrong law.

References
----------
Galles and Pearl (1998) Found. Sci. 3; Monteiro, Ribeiro, Pawlowski, Castro, Glocker (2023) ICLR.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from causalms.causal import Mechanism, Outcome, Subject, world_seed
from causalms.errors import UsageError

FloatArray = npt.NDArray[np.floating[Any]]
CounterfactualFunction = Callable[[FloatArray, str, str], FloatArray]
Distance = Callable[[FloatArray, FloatArray], FloatArray]


def absolute(x: FloatArray, y: FloatArray) -> FloatArray:
    """Absolute difference of each patient; of masks, the number of voxels that differ."""
    return np.abs(np.asarray(x, dtype=float) - np.asarray(y, dtype=float)).reshape(len(x), -1).sum(1)


def composition(
    f: CounterfactualFunction, outcomes: FloatArray, arm: str, times: int = 1, distance: Distance = absolute
) -> float:
    r"""Mean distance :math:`d(x, f^{(m)}(x, a, a))`: setting the arm that was there must change nothing.

    Parameters
    ----------
    f : callable
        ``f(outcomes, arm, other)``.
    outcomes : array, shape (patients, ...)
    arm : str
    times : int
        m, how often in a row.

    Examples
    --------
    >>> drift = lambda x, a, b: x + 0.5
    >>> composition(drift, np.array([1.0, 4.0]), "placebo", times=3)
    1.5
    """
    if times < 1:
        raise UsageError(f"times is {times}; give at least 1")
    applied = outcomes
    for _ in range(times):
        applied = f(applied, arm, arm)
    return float(distance(outcomes, applied).mean())


def reversibility(
    f: CounterfactualFunction, outcomes: FloatArray, arm: str, other: str, times: int = 1, distance: Distance = absolute
) -> float:
    r"""Mean distance :math:`d(x, f(f(x, a, b), b, a))` after so many trips there and back.

    Examples
    --------
    >>> halve = lambda x, a, b: x * {"ab": 0.5, "ba": 2.0}[a + b]
    >>> reversibility(halve, np.array([1.0, 4.0]), "a", "b")
    0.0
    >>> floor = lambda x, a, b: np.floor(x * {"ab": 0.5, "ba": 2.0}[a + b])
    >>> reversibility(floor, np.array([1.0, 4.0]), "a", "b")
    0.5
    """
    if times < 1:
        raise UsageError(f"times is {times}; give at least 1")
    applied = outcomes
    for _ in range(times):
        applied = f(f(applied, arm, other), other, arm)
    return float(distance(outcomes, applied).mean())


def effectiveness(f: CounterfactualFunction, outcomes: FloatArray, arm: str, other: str, expected_mean: float) -> float:
    r"""Ratio of the mean outcome under the set arm to the mean that the randomised arm has; 1 is fully effective.

    Parameters
    ----------
    expected_mean : float
        Mean of the patients randomised to ``other`` (or of do(other)).

    Examples
    --------
    >>> nothing = lambda x, a, b: x
    >>> effectiveness(nothing, np.array([2.0, 4.0]), "a", "b", expected_mean=1.5)
    2.0
    """
    if expected_mean <= 0:
        raise UsageError(f"the expected mean is {expected_mean:g}; a ratio needs a positive one")
    return float(np.mean(f(outcomes, arm, other)) / expected_mean)


def function_of(
    mechanism: Mechanism, subjects: list[Subject], week: float, draw: int = 0, seed: int = 0, coupling: str = "monotone"
) -> CounterfactualFunction:
    """Make the counterfactual function (of counts) of a mechanism: abduct one particle, push it into the other world.

    Parameters
    ----------
    subjects : list of Subject
        One a patient, in the order of the outcomes.
    coupling : {"monotone", "ancestral", "independent"}
    """
    tied = mechanism.for_coupling(coupling)

    def counterfactual(outcomes: FloatArray, arm: str, other: str) -> FloatArray:
        applied = []
        for subject, count in zip(subjects, outcomes, strict=True):
            noise = tied.abduct(subject, arm, week, Outcome(float(count), float("nan")), draw, seed)
            if coupling == "independent" and other != arm:
                noise = tied.noise(subject, draw, world_seed(seed, other))
            applied.append(tied.push(subject, other, week, noise).lesions)
        return np.array(applied)

    return counterfactual
