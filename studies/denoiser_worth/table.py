"""One row a model and measure: estimate, truth, and the paired difference of errors to the model that sees the scan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from studies.denoiser_worth.counterfactual import amplification, effectiveness, f1
from studies.denoiser_worth.patterns import LAWS, distance_of_sizes
from studies.denoiser_worth.samplers import REGIONS

OURS = "denoiser that sees the scan"
RESAMPLES = 500
Sums = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measure:
    """A function of sums over patients, own and true, and how far from right it is: the smaller the better."""

    value: Callable[[Sums, Sums], float]
    truth: Callable[[Sums], float] | None = None
    error: Callable[[float, float], float] = lambda value, truth: value


def _law(name: str) -> Measure:
    return Measure(lambda own, _: LAWS[name](own), LAWS[name], lambda value, truth: abs(value - truth))


def _sizes(region: int) -> Measure:
    return Measure(lambda own, true: distance_of_sizes(own, true, region))


def _score(name: str) -> Measure:
    return Measure(lambda own, _: float(own[name] / own["patients"]))


MASKS: dict[str, Measure] = {
    "energy score": _score("energy"),
    "variogram score": _score("variogram"),
    **{name: _law(name) for name in LAWS},
    **{f"KS of sizes, {region}": _sizes(k) for k, region in enumerate(REGIONS)},
}
COUNTERFACTUAL: dict[str, Measure] = {
    "counterfactual lesion-wise F1": Measure(lambda own, _: f1(own), lambda _: 1.0, lambda value, _: 1 - value),
    "counterfactual effectiveness": Measure(lambda own, _: effectiveness(own), lambda _: 1.0, lambda value, _: abs(1 - value)),
    "counterfactual amplification": Measure(lambda own, _: amplification(own), lambda _: 0.0),
}


def table(models: dict[str, Sums], true: Sums, measures: dict[str, Measure], seed: int) -> pd.DataFrame:
    """Every measure of every model, with 95% intervals over patients.

    Parameters
    ----------
    models : dict
        Arrays with one row a patient; a slow model may have fewer patients than the others, the first ones.
    true : dict
        The same of the truth.
    measures : dict
    seed : int

    Returns
    -------
    DataFrame
        ``model``, ``measure``, ``estimate``, ``lower``, ``upper``, ``truth`` and ``gap``, the error of :data:`OURS` less that of
        the model (below 0: ours is nearer), with its interval and the number of patients.
    """
    rows = []
    for model, arrays in models.items():
        patients = len(next(iter(arrays.values())))
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(patients, np.full(patients, 1 / patients), RESAMPLES)
        for name, measure in measures.items():
            found = np.array([_values(measure, arrays, models[OURS], true, w) for w in (np.ones(patients), *weights)])
            low, high = np.nanquantile(found[1:], [0.025, 0.975], axis=0)
            truth = np.nan if measure.truth is None else measure.truth(_summed(true, np.ones(patients)))
            gap = (found[0, 1], low[1], high[1]) if model != OURS else (np.nan,) * 3
            rows.append((model, name, found[0, 0], low[0], high[0], truth, *gap, patients))
    columns = ["model", "measure", "estimate", "lower", "upper", "truth", "gap", "gap_lower", "gap_upper", "patients"]
    return pd.DataFrame(rows, columns=columns)


def _summed(arrays: Sums, weights: np.ndarray) -> Sums:
    return {name: np.tensordot(weights, values[: len(weights)], axes=1) for name, values in arrays.items()}


def _values(measure: Measure, own: Sums, ours: Sums, true: Sums, weights: np.ndarray) -> tuple[float, float]:
    """Value of a model, and error of ours less its error."""
    truth = _summed(true, weights)
    known = 0.0 if measure.truth is None else measure.truth(truth)
    value, of_ours = (measure.value(_summed(arrays, weights), truth) for arrays in (own, ours))
    return value, measure.error(of_ours, known) - measure.error(value, known)
