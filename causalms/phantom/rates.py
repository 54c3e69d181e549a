"""True rates: the expected count of new or enlarging lesions of a patient under every arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import gamma

from causalms.phantom.design import Design, TrialDesign


@dataclass(frozen=True)
class Rates:
    """Rates of one patient under every arm of the design, in the design's order.

    Attributes
    ----------
    log_rate : float array of shape (arms,)
        Log expected count at the last week, given everything observable: no frailty in it.
    realised : float array of shape (arms,)
        The expected count given the patient's frailty too; 0 for a structural zero.
    """

    log_rate: np.ndarray
    realised: np.ndarray


def log_rates(design: Design, trial: TrialDesign, values: dict[str, float], site_log_rate: float = 0.0) -> np.ndarray:
    """Log expected count at the last week under every arm.

    Parameters
    ----------
    design : Design
    trial : TrialDesign
    values : dict
        Centred terms (:func:`causalms.phantom.covariates.terms`) and image markers.
    site_log_rate : float

    Returns
    -------
    float array of shape (arms,)

    Examples
    --------
    >>> from causalms.phantom import load_design
    >>> design = load_design("pooled")
    >>> zero = dict.fromkeys(("log_gd", "age", "log_t2", "relapses", "dirty_white_matter", "black_holes"), 0.0)
    >>> rates = log_rates(design, design.trials[0], zero)
    >>> float(np.exp(rates[1] - rates[0]).round(3))
    0.835
    """
    slope = {**design.rate.columns, **design.rate.image_markers}
    patient = trial.log_rate_week96 + np.log(max(design.weeks) / 96.0) + site_log_rate
    patient += sum(coefficient * values[term] for term, coefficient in slope.items())
    effects = np.array([design.log_rate_ratio(arm, trial) for arm in design.arms])
    for entry in design.modification:
        effects[design.arms.index(entry.arm)] += entry.log_rate_ratio * values[entry.term]
    return np.asarray(patient + effects)


def realise(design: Design, log_rate: np.ndarray, rng: np.random.Generator) -> Rates:
    """Add frailty and structural zeros, shared by all arms.

    One uniform number is the quantile of the patient's gamma frailty under every arm (mean 1, shape ``counts.size``, so counts
    have variance m + m^2 / size); where an arm has a size of its own the same quantile is used. One more uniform number
    decides on a structural zero; the other patients' rates are divided by 1 - ``zero_inflation``, so that means stay.
    """
    quantile, zero = rng.random(2)
    sizes = np.array([design.counts.size_by_arm.get(arm, design.counts.size) for arm in design.arms])
    frailty = np.zeros(len(sizes))
    for size in np.unique(sizes):
        frailty[sizes == size] = gamma.ppf(quantile, size) / size
    active = zero >= design.counts.zero_inflation
    return Rates(log_rate, np.exp(log_rate) * frailty * active / (1.0 - design.counts.zero_inflation))
