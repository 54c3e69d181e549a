"""Prediction intervals of patients who lack images, masks or columns: do they hold 90%, and does the risk stay out of CSF.

python -m studies.missing_inputs --parts parts --out studies/results

New phantom patients lose inputs in the patterns of :data:`causalms.generator.train.lacking.PATTERNS`; the checkpoint has its
corrections from the end of its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy.special import ndtri
from scipy.stats import nbinom
from tqdm import tqdm

import causalms as cms
from causalms.files import whole_file
from causalms.generator import Generator
from causalms.generator.inputs import PatientArrays, anatomy_of, patient_arrays
from causalms.generator.train.data import training_set
from causalms.generator.train.lacking import MASKS, PATTERNS, expected_without
from causalms.stats import LackingInputs
from causalms.tables import write_table
from causalms.trials import MODALITIES, template_anatomy
from studies.common import model_option, out_option, workers_option

#: Seeds of the trials that judge.
JUDGED = (7210, 7211)
CHUNK = 250
#: Patients whose risk maps are looked at.
MAPPED = 10
_NODES = ndtri((np.arange(21) + 0.5) / 21)

Arrays = dict[str, np.ndarray]


def chunk_of(model: str, seed: int, parts: Path) -> Path:
    """File of one trial's expected counts by pattern, made if it is not there."""
    place = parts / f"missing-{seed}.npz"
    if place.is_file():
        return place
    torch.set_num_threads(1)
    generator = Generator.load(model)
    trial = cms.simulate_trial("lifelike", patients=CHUNK, seed=seed, grid=generator.config.grid)
    people = training_set(trial, generator.rule)
    arrays = {
        "without": expected_without(generator.network, people, len(generator.arms), anatomy_of(trial.space)),
        "counts": np.array([float(p.last.lesions) for p in people]),
        "arm": np.array([generator.arms.index(p.arm) for p in people]),
        "log_exposure": np.log(np.array([float(p.last.week) for p in people]) / generator.weeks[1]),
        "missing": np.array([";".join(p.arrays.missing) for p in people]),
    }
    with whole_file(place) as beside, open(beside, "wb") as opened:
        np.savez_compressed(opened, **arrays)
    return place


def together(places: Sequence[Path]) -> Arrays:
    """Several trials as one."""
    read = [dict(np.load(place, allow_pickle=False)) for place in places]
    return {name: np.concatenate([one[name] for one in read], axis=int(name == "without")) for name in read[0]}


def lacking(arrays: Arrays) -> list[set[str]]:
    """What each patient lacks anyway."""
    return [set(filter(None, str(text).split(";"))) for text in arrays["missing"]]


def share_inside(counts: np.ndarray, mean: np.ndarray, size: np.ndarray, spread: float) -> tuple[float, float]:
    """Share of the counts' probability integral transform in the middle 90%, and the mean width of the 90% interval.

    The transform of a count is uniform between F(y - 1) and F(y), so that a right forecast has .90 and no more, whatever the
    counts round up; F is averaged over plausible generators, log-normal with this spread.
    """
    moved = mean[:, None] * np.exp(spread * _NODES)
    p = size[:, None] / (size[:, None] + moved)
    high = nbinom.cdf(counts[:, None], size[:, None], p).mean(axis=1)
    low = nbinom.cdf(counts[:, None] - 1, size[:, None], p).mean(axis=1)
    inside = np.clip(np.minimum(high, 0.95) - np.maximum(low, 0.05), 0, None) / (high - low)
    centre = size / (size + mean)
    width = nbinom.ppf(0.95, size, centre) - nbinom.ppf(0.05, size, centre)
    return float(inside.mean()), float(width.mean())


def judged(arrays: Arrays, generator: Generator, corrections: Sequence[LackingInputs], spread: float) -> list[dict[str, object]]:
    """Coverage of every pattern without its correction and with it."""
    model, known = generator.error_model, {one.names: one for one in corrections}
    assert model is not None
    rows = []
    for log_expected, pattern in zip(arrays["without"], ((), *PATTERNS), strict=True):
        alike = np.array([own <= set(pattern) for own in lacking(arrays)])
        arm, y = arrays["arm"][alike], arrays["counts"][alike]
        log_mean, size = log_expected[alike, arm], model.sizes[arm]
        r = (log_expected.mean(axis=1) - arrays["log_exposure"])[alike] - model.centre
        none = LackingInputs(tuple(sorted(pattern)), 0.0, 0.0, 0.0, 0.0, 0)
        one = known.get(none.names, none)
        before, _ = share_inside(y, np.exp(log_mean), size, spread)
        mean = np.exp(log_mean + one.shift + one.slope * r)
        after, width = share_inside(y, mean, size * np.exp(one.log_size), float(np.hypot(spread, one.shift_sd)))
        rows.append(
            {
                "missing": ", ".join(pattern) or "nothing", "patients": len(y), "shift": one.shift, "slope": one.slope,
                "log_size": one.log_size, "uncorrected": before, "coverage": after,
                "coverage_se": float(np.sqrt(0.09 / len(y))), "width": width, "mean": float(mean.mean()),
                "observed": float(y.mean()),
            }
        )  # fmt: skip
    return rows


def without(patient: PatientArrays, pattern: Sequence[str]) -> PatientArrays:
    """One patient without the images and masks of a pattern."""
    images, masks = patient.images.copy(), patient.masks.copy()
    images[[MODALITIES.index(name) for name in pattern if name in MODALITIES]] = 0
    masks[[1 + MASKS.index(name) for name in pattern if name in MASKS]] = False
    return replace(patient, images=images, masks=masks, missing=tuple(sorted({*patient.missing, *pattern})))


def risk_in_csf(generator: Generator) -> dict[str, float]:
    """Share of the risk that lies in voxels which are mostly CSF on the template, by pattern of missing images and masks."""
    trial = cms.simulate_trial("lifelike", patients=MAPPED, seed=JUDGED[0], grid=generator.config.grid)
    csf = np.asarray(template_anatomy(trial.space).csf) > 0.5
    people = [patient_arrays(trial, name) for name in trial.participants["participant_id"]]
    shares: dict[tuple[str, ...], float] = {}
    by_pattern = {}
    for pattern in tqdm(((), *PATTERNS), desc="risk maps", unit="pattern", disable=None):
        of_images = tuple(name for name in (*MODALITIES, *MASKS) if name in pattern)
        if of_images not in shares:
            scans = [generator.encode_arrays(without(patient, of_images)) for patient in people]
            maps = [generator.expect(scan, generator.arms[0], generator.weeks[1], risk=True).risk for scan in scans]
            shares[of_images] = float(np.mean([risk[csf].sum() / risk.sum() for risk in maps if risk is not None]))
        by_pattern[", ".join(pattern) or "nothing"] = shares[of_images]
    return by_pattern


@click.command()
@out_option
@model_option()
@click.option("--parts", type=click.Path(path_type=Path), required=True, help="Folder of finished trials; a killed run goes on.")
@workers_option(1)
def main(out: Path, model: str, parts: Path, workers: int) -> None:
    """Write missing_inputs.csv."""
    parts.mkdir(parents=True, exist_ok=True)
    arrays = together(list(Parallel(n_jobs=workers)(delayed(chunk_of)(model, seed, parts) for seed in JUDGED)))
    generator = Generator.load(model)
    assert generator.error_model is not None
    loadings = generator.error_model.loadings(np.zeros((1, len(generator.arms))), generator.error_model.summary.mean[None], 0)
    spread = float(np.linalg.norm(loadings))
    table = pd.DataFrame(judged(arrays, generator, generator.error_model.lacking, spread))
    table["risk_in_csf"] = table["missing"].map(risk_in_csf(generator))
    write_table(table.assign(seed=JUDGED[0]), out / "missing_inputs.csv")
    click.echo(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
