"""Who a phantom patient is: baseline columns, the markers that only images show, and the true rates under every arm."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p

import numpy as np
from scipy.stats import gamma

from causalms.phantom.design import CovariateLaws, Design, TrialDesign
from causalms.phantom.lesion_laws import BaselineLesions

#: The most T2 lesions placed in one patient, so that the brain has room for them.
MOST_T2_LESIONS = 180
_MOST_GD_LESIONS = 25


@dataclass(frozen=True)
class Baseline:
    """What is known of a patient before treatment; lesion numbers are the intended ones, images may merge some."""

    age: float
    sex: str
    edss: float
    disease_duration: float
    relapses_prior_year: int
    gd_lesions: int
    t2_lesions: int
    lesion_scale: float
    dirty_white_matter: float
    black_holes: float


def draw_baseline(laws: CovariateLaws, rng: np.random.Generator, lesions: BaselineLesions | None = None) -> Baseline:
    """Draw one patient's baseline.

    Age is normal within 18-55 years. Lesion load and disease duration are log-normal with correlation 0.35. Enhancing lesions are
    present with odds that fall by 0.32 on the log scale per 14 years of age (odds ratio 0.64 of 40-50 against younger) and rise
    with lesion load; their number is then 1 plus a geometric variable. The image markers are standard normal and independent of
    all columns.

    Examples
    --------
    >>> import numpy as np
    >>> from causalms.phantom.design import CovariateLaws
    >>> patient = draw_baseline(CovariateLaws(), np.random.default_rng(0))
    >>> 18 <= patient.age <= 55, patient.t2_lesions >= patient.gd_lesions
    (True, True)
    """
    sizes = lesions or BaselineLesions()
    z = rng.standard_normal(8)
    uniform = rng.random(3)
    age = _age(laws, rng)
    aged = (age - laws.age_mean_years) / 10
    duration = min(laws.disease_duration_median_years * np.exp(0.3 * aged + 0.75 * z[0]), max(age - 14.0, 1.0))
    load = 0.35 * z[0] + np.sqrt(1 - 0.35**2) * z[1]
    t2 = min(round(laws.t2_lesions_median * np.exp(laws.t2_lesions_log_sd * load)), MOST_T2_LESIONS)
    gd = _gd_lesions(laws, aged, load, uniform[0], rng)
    edss = laws.edss_mean + 0.35 * aged + 0.3 * load + 1.0 * z[2]
    return Baseline(
        age=round(age, 1),
        sex="F" if uniform[1] < laws.female_share else "M",
        edss=float(np.clip(np.round(2 * edss) / 2, 0.0, 6.0)),
        disease_duration=round(float(duration), 1),
        relapses_prior_year=1 + int(rng.poisson(laws.relapses_prior_year_mean - 1)),
        gd_lesions=gd,
        t2_lesions=max(t2, gd, 2),
        lesion_scale=float(np.exp(sizes.patient_log_sd * z[3] + sizes.log_volume_per_load * load)),
        dirty_white_matter=float(z[4]),
        black_holes=float(z[5]),
    )


def terms(
    *,
    age: float,
    sex: str,
    edss: float,
    disease_duration: float,
    relapses_prior_year: float,
    gd_lesions: float,
    t2_lesions: float,
    t2_volume_ml: float,
) -> dict[str, float]:
    """Centred terms of the rate from the columns as they stand in the participants table.

    Examples
    --------
    >>> centred = terms(age=47, sex="F", edss=2.5, disease_duration=5, relapses_prior_year=1, gd_lesions=0,
    ...                 t2_lesions=40, t2_volume_ml=9)
    >>> centred["age"], centred["relapses"], round(centred["log_gd"], 2)
    (1.0, 0.0, -0.45)
    """
    return {
        "log_gd": log1p(gd_lesions) - 0.45,
        "gd_positive": float(gd_lesions > 0) - 0.4,
        "age": (age - 37.0) / 10.0,
        "log_t2": (log1p(t2_lesions) - log(36.0)) / 0.8,
        "log_t2_volume": log1p(t2_volume_ml) - log(10.0),
        "relapses": relapses_prior_year - 1.0,
        "edss": (edss - 2.5) / 1.3,
        "disease_duration": (log1p(disease_duration) - log(6.0)) / 0.7,
        "female": float(sex == "F") - 0.67,
    }


def _age(laws: CovariateLaws, rng: np.random.Generator) -> float:
    while True:  # a truncated normal by rejection: nearly always the first draw
        age = float(rng.normal(laws.age_mean_years, laws.age_sd_years))
        if 18.0 <= age <= 55.0:
            return age


def _gd_lesions(laws: CovariateLaws, aged: float, load: float, uniform: float, rng: np.random.Generator) -> int:
    if laws.gd_positive_share == 0:
        return 0
    logit = log(laws.gd_positive_share / (1 - laws.gd_positive_share)) - 0.23 * aged + 0.45 * load
    if uniform > 1 / (1 + np.exp(-logit)):
        return 0
    return min(int(rng.geometric(1 / laws.gd_lesions_mean_if_positive)), _MOST_GD_LESIONS)


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
