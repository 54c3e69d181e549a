"""One phantom patient, from baseline to every potential outcome."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from causalms.lesions import LesionRule, count_lesions
from causalms.phantom.anatomy import PatientAnatomy, draw_anatomy
from causalms.phantom.covariates import Baseline, Rates, draw_baseline, log_rates, realise, terms
from causalms.phantom.design import Design
from causalms.phantom.lesion_laws import BaselineLesions, SizeLaw
from causalms.phantom.place_law import Sizes, at_sites, sizes_by_place
from causalms.phantom.placement import (
    Density,
    Growth,
    baseline_density,
    dilate26,
    growth_cost,
    net2_density,
    place,
    rim_growth,
    voxel_sizes,
)
from causalms.phantom.roster import ANATOMY, ASSIGNMENT, BASELINE, FOLLOW_UP, OUTCOMES, READINGS, Enrolled, generator
from causalms.tables import WEEKS_PER_YEAR
from causalms.trials import Space

#: Enhancing lesions have a size law of their own.
_GD_MEDIAN_MM3 = 90.0
_GD_LOG_SD = 0.8
_MOST_NET2_LESIONS = 300


@dataclass(frozen=True)
class PotentialLesions:
    """Lesions that appear under at least one arm.

    A lesion is there under arm a at week w if ``u < realised_a / max(realised)`` and ``onset_week <= w``: a Poisson process
    thinned with noise that all arms share, so an arm with a lower rate keeps a subset of the lesions.
    """

    u: np.ndarray
    onset_week: np.ndarray
    voxels: tuple[np.ndarray, ...]
    dropped: int

    def present(self, rates: Rates, arm: int, week: float) -> np.ndarray:
        """Which lesions are there (bool array)."""
        largest = rates.realised.max()
        if largest <= 0:
            return np.zeros(len(self.u), dtype=bool)
        realised: np.ndarray = (self.u < rates.realised[arm] / largest) & (self.onset_week <= week)
        return realised


@dataclass(frozen=True)
class Readings:
    """What follow-up scans are read as, where a design has readers who err; the truth is as without them.

    Attributes
    ----------
    missed : bool array of shape (lesions, visits)
    spurious : tuple of tuples of int arrays
        Of every visit, voxels of lesions that are not there; none touches another lesion.
    """

    missed: np.ndarray
    spurious: tuple[tuple[np.ndarray, ...], ...]


@dataclass(frozen=True)
class PhantomPatient:
    """Everything there is to know of a patient, images aside (they are made from this when asked for)."""

    enrolled: Enrolled
    arm: str
    baseline: Baseline
    t2_lesions: tuple[np.ndarray, ...]
    gd_lesions: tuple[np.ndarray, ...]
    t2_count: int
    t2_volume_ml: float
    rates: Rates
    potential: PotentialLesions
    last_week: float
    missing: tuple[str, ...]
    readings: Readings | None = None

    @property
    def participant_id(self) -> str:
        """Name of the patient."""
        return self.enrolled.participant_id

    def observed_lesions(self, design: Design, week: int) -> list[np.ndarray]:
        """Voxels of the new and enlarging lesions that are seen at a visit, under the patient's own arm."""
        here = self.potential.present(self.rates, design.arms.index(self.arm), week)
        if self.readings is None:
            return [voxels for voxels, there in zip(self.potential.voxels, here, strict=True) if there]
        visit = design.weeks.index(week)
        seen = here & ~self.readings.missed[:, visit]
        return [voxels for voxels, there in zip(self.potential.voxels, seen, strict=True) if there] + list(
            self.readings.spurious[visit]
        )


def simulate_patient(design: Design, enrolled: Enrolled, seed: int, space: Space) -> PhantomPatient:
    """Make one patient; the same for the same design, place in the roster, seed and grid, whatever else is simulated.

    Parameters
    ----------
    design : Design
    enrolled : Enrolled
    seed : int
    space : Space
    """
    index = enrolled.index
    anatomy = patient_anatomy(seed, index, space)
    rng = generator(seed, BASELINE, index)
    baseline = draw_baseline(enrolled.trial.baseline, rng, design.baseline_lesions)
    t2_lesions, gd_lesions = _baseline_lesions(design.baseline_lesions, baseline, anatomy, rng)
    counted = count_lesions(mask_of(t2_lesions, space.shape), space.voxel_volume_mm3, LesionRule.default())
    values = terms(
        age=baseline.age,
        sex=baseline.sex,
        edss=baseline.edss,
        disease_duration=baseline.disease_duration,
        relapses_prior_year=baseline.relapses_prior_year,
        gd_lesions=len(gd_lesions),
        t2_lesions=counted.lesions,
        t2_volume_ml=counted.volume_ml,
    )
    arm = _assigned(design, enrolled, values, seed)
    values |= {"dirty_white_matter": baseline.dirty_white_matter, "black_holes": baseline.black_holes}
    rng = generator(seed, OUTCOMES, index)
    rates = realise(design, log_rates(design, enrolled.trial, values, enrolled.site_log_rate), rng)
    density = net2_density(anatomy, mask_of(t2_lesions, space.shape), mask_of(gd_lesions, space.shape), design.lesions)
    potential = _potential(design, rates, density, anatomy, t2_lesions, rng)
    readings = _readings(design, density, potential, t2_lesions, anatomy, generator(seed, READINGS, index))
    last_week, missing = _follow_up(design, arm, generator(seed, FOLLOW_UP, index))
    return PhantomPatient(
        enrolled=enrolled,
        arm=arm,
        baseline=baseline,
        t2_lesions=t2_lesions,
        gd_lesions=gd_lesions,
        t2_count=counted.lesions,
        t2_volume_ml=counted.volume_ml,
        rates=rates,
        potential=potential,
        last_week=last_week,
        missing=missing,
        readings=readings,
    )


@lru_cache(maxsize=2)  # a patient's lesions and images are made from the same anatomy, one after the other
def patient_anatomy(seed: int, index: int, space: Space) -> PatientAnatomy:
    """The anatomy of the patient with this place in the roster."""
    return draw_anatomy(space, generator(seed, ANATOMY, index))


def mask_of(lesions: tuple[np.ndarray, ...] | list[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """Lesions as one bool mask."""
    mask = np.zeros(shape, dtype=bool)
    if lesions:
        mask.ravel()[np.concatenate(lesions)] = True
    return mask


def _baseline_lesions(
    law: BaselineLesions, baseline: Baseline, anatomy: PatientAnatomy, rng: np.random.Generator
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    density = baseline_density(anatomy, law.place)
    gd_volumes = _GD_MEDIAN_MM3 * np.exp(_GD_LOG_SD * rng.standard_normal(baseline.gd_lesions))
    gd = place(density, voxel_sizes(gd_volumes, anatomy.voxel_mm**3, rng), anatomy.allowed, anatomy.shape, rng, apart=True)
    allowed = anatomy.allowed
    if gd:
        allowed[np.concatenate(gd)] = False
    others = baseline.t2_lesions - baseline.gd_lesions
    sizes = _sizes(law, baseline.lesion_scale, others, anatomy, rng)
    growth = Growth(growth_cost(anatomy, law.growth_along)) if law.growth_along else None
    rest = place(density, sizes, allowed, anatomy.shape, rng, apart=False, growth=growth)
    return (*gd, *rest), tuple(gd)


def _sizes(law: SizeLaw, scale: float, lesions: int, anatomy: PatientAnatomy, rng: np.random.Generator) -> np.ndarray | Sizes:
    if law.log_median_by_place or law.log_sd_by_place:
        return sizes_by_place(law, scale, lesions, anatomy, at_sites(anatomy), rng)
    volumes = law.median_volume_mm3 * scale * np.exp(law.log_sd * rng.standard_normal(lesions))
    return voxel_sizes(np.minimum(volumes, law.largest_volume_mm3), anatomy.voxel_mm**3, rng)


def _assigned(design: Design, enrolled: Enrolled, values: dict[str, float], seed: int) -> str:
    if design.assignment.kind == "randomised":
        return enrolled.arm
    arms = list(enrolled.trial.arms)
    utility = np.log(list(enrolled.trial.arms.values()))
    for number, arm in enumerate(arms):
        utility[number] += sum(slope * values[term] for term, slope in design.assignment.logits.get(arm, {}).items())
    gumbel = generator(seed, ASSIGNMENT, enrolled.index).gumbel(size=len(arms))
    return arms[int(np.argmax(utility + gumbel))]


def _potential(
    design: Design,
    rates: Rates,
    density: Density,
    anatomy: PatientAnatomy,
    t2_lesions: tuple[np.ndarray, ...],
    rng: np.random.Generator,
) -> PotentialLesions:
    lesions = int(rng.poisson(rates.realised.max()))
    fit = min(lesions, _MOST_NET2_LESIONS)
    u = rng.random(fit)
    onset = (1.0 - rng.random(fit)) * max(design.weeks)
    law = design.lesions
    allowed = anatomy.allowed
    allowed[np.concatenate(t2_lesions)] = False
    growth = rim_growth(mask_of(t2_lesions, anatomy.shape), law.rim_growth) if law.rim_growth else None
    sizes = _sizes(law, 1.0, fit, anatomy, rng)
    voxels = place(density, sizes, allowed, anatomy.shape, rng, apart=True, growth=growth)
    placed = len(voxels)
    return PotentialLesions(u[:placed], onset[:placed], tuple(voxels), dropped=lesions - placed)


def _readings(
    design: Design,
    density: Density,
    potential: PotentialLesions,
    t2_lesions: tuple[np.ndarray, ...],
    anatomy: PatientAnatomy,
    rng: np.random.Generator,
) -> Readings | None:
    law, visits = design.annotation, len(design.weeks)
    if not (law.missed or law.spurious_per_visit):
        return None
    missed = rng.random((len(potential.voxels), visits)) < law.missed
    numbers = rng.poisson(law.spurious_per_visit, visits)
    taken = mask_of(potential.voxels, anatomy.shape)
    allowed = anatomy.allowed & ~(dilate26(taken) | mask_of(t2_lesions, anatomy.shape)).ravel()
    sizes = _sizes(design.lesions, 1.0, int(numbers.sum()), anatomy, rng)
    placed = place(density, sizes, allowed, anatomy.shape, rng, apart=True)
    ends = np.cumsum(numbers)
    return Readings(missed, tuple(tuple(placed[end - number : end]) for end, number in zip(ends, numbers, strict=True)))


def _follow_up(design: Design, arm: str, rng: np.random.Generator) -> tuple[float, tuple[str, ...]]:
    """Week of the last contact (never before the first follow-up scan) and the modalities not acquired at baseline."""
    hazard = design.follow_up.dropout_per_year_by_arm.get(arm, design.follow_up.dropout_per_year)
    stayed = rng.standard_exponential()
    end = max(design.weeks)
    last = min(design.weeks[0] + stayed / hazard * WEEKS_PER_YEAR, end) if hazard > 0 else float(end)
    chance = design.missing_modality.model_dump()
    missing = tuple(name for name, draw in zip(chance, rng.random(len(chance)), strict=True) if draw < chance[name])
    shortest = design.follow_up.shortest_planned_weeks
    if shortest is not None:
        last = min(last, shortest + 2 * (end - shortest) * rng.random())
    return float(last), missing
