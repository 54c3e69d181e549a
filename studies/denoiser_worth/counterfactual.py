"""Masks under another arm given the mask seen on placebo, against the true ones: lesion-wise F1 and the size of the change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalms.generator import Generator
from causalms.generator.inputs import PatientArrays
from causalms.generator.noise import stream
from causalms.lesions import match_lesions
from studies.denoiser_worth.samplers import Counted, Draw, lesions_of

#: A mask of (patient, arm, week, mask seen on placebo).
Change = Callable[[PatientArrays, str, float, np.ndarray], np.ndarray]
FACTUAL = "placebo"


def redrawn(draw: Draw) -> Change:
    """A model that cannot take in the mask seen: a draw under the other arm."""
    return lambda patient, arm, week, _: draw(patient, arm, week, 0)


def twins(generator: Generator, counted: Counted) -> Change:
    """The generator's twin: the noise of the mask seen is abducted and sampled anew under the other arm."""
    kept: dict[str, object] = {}

    def change(patient: PatientArrays, arm: str, week: float, seen: np.ndarray) -> np.ndarray:
        name, scan = patient.participant_id, counted.scan(patient)
        if name not in kept:
            kept.clear()
            kept[name] = generator.abduct(scan, FACTUAL, week, seen, 0, 0).noise
        return generator.sample(scan, arm, week, kept[name], "ancestral")  # type: ignore[arg-type]

    return change


def thinned(counted: Counted) -> Change:
    """Every lesion seen stays with the ratio of the expected counts as its probability; none is added."""

    def change(patient: PatientArrays, arm: str, week: float, seen: np.ndarray) -> np.ndarray:
        generator, scan = counted.generator, counted.scan(patient)
        ratio = generator.expect(scan, arm, week).lesions / generator.expect(scan, FACTUAL, week).lesions
        rng = stream("thinned", patient.participant_id, 0, 0)
        kept = np.zeros(seen.size, dtype=bool)
        for lesion in lesions_of(seen, float(generator.space.voxel_volume_mm3)):
            kept[lesion] = rng.random() < ratio
        return kept.reshape(seen.shape)

    return change


def compared(true: np.ndarray, own: np.ndarray, seen: np.ndarray, voxel_mm3: float) -> dict[str, np.ndarray]:
    """Lesions found, true, confirmed and own; and products of the true and the own change from the mask seen."""
    match = match_lesions(true, own, voxel_mm3)
    z, change = ((mask.astype(float) - seen).ravel() for mask in (true, own))
    lesions = [sum(match.reference_found), len(match.reference_found), sum(match.test_confirmed), len(match.test_confirmed)]
    return {"matched": np.array(lesions, dtype=float), "changes": np.array([z @ change, z @ z, change @ change])}


def f1(sums: dict[str, np.ndarray]) -> float:
    """Harmonic mean of the share of true lesions found and of own lesions confirmed, all patients and arms together."""
    found, true, confirmed, own = sums["matched"]
    return float(2 / (true / found + own / confirmed)) if found and confirmed else 0.0


def effectiveness(sums: dict[str, np.ndarray]) -> float:
    """1 where the true change is made in full (as in :mod:`causalms.benchmark`)."""
    return float(sums["changes"][0] / sums["changes"][1])


def amplification(sums: dict[str, np.ndarray]) -> float:
    """0 where nothing else is changed."""
    return float(np.sqrt(max(sums["changes"][2] / sums["changes"][1] - effectiveness(sums) ** 2, 0)))
