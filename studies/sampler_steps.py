"""Count bias and seconds of every sampler against its number of steps, before and after the count-calibration curve.

Masks of new phantom patients at known intensities (0.25 to 40 lesions, log-spaced); the same patients and noise in every cell.

    python -m studies.sampler_steps --out results [--model reference] [--masks 60] [--seed 7]
"""

import time
from dataclasses import replace
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import causalms as cms
from causalms.generator import SAMPLERS, Generator
from causalms.generator.noise import normal_from_frailty
from causalms.generator.train.count_calibration import fit_curve
from causalms.tables import write_table
from studies.common import model_option, out_option, seed_option

STEPS = (4, 6, 8, 12, 16, 20)
BANDS = {"all": (0.0, np.inf), "below 2": (0.0, 2.0), "2 to 10": (2.0, 10.0), "above 10": (10.0, np.inf)}
WEEK = 96


def plan(generator: Generator, masks: int, seed: int) -> list[tuple]:
    """Scan, arm, noise and intensity of every mask; the frailty is set so that the intensity is the wanted one."""
    trial = cms.simulate_trial("lifelike", patients=masks, seed=seed, grid=generator.config.grid)
    wanted = np.random.default_rng(seed).permutation(np.geomspace(0.25, 40, masks))
    planned = []
    for index, participant_id in enumerate(trial.participants["participant_id"]):
        scan, arm = generator.encode(trial, participant_id), generator.arms[index % len(generator.arms)]
        law = generator.expect(scan, arm, WEEK)
        normal = float(normal_from_frailty(wanted[index] / law.lesions, 1 / law.dispersion))
        planned.append((scan, arm, replace(generator.noise(participant_id, 0, seed), frailty_normal=normal), wanted[index]))
    return planned


def calibrated(intensity: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean count the fitted curve gives at every intensity, each half of the masks by the curve of the other half."""
    fitted, odd = np.zeros(len(counts)), np.arange(len(counts)) % 2 == 1
    for half in (odd, ~odd):
        a, b, c, _, _ = fit_curve(intensity[~half], counts[~half])
        log_mu = np.log(intensity[half])
        fitted[half] = np.exp(a + b * log_mu + c * log_mu**2)
    return fitted


def ratio(counts: np.ndarray, means: np.ndarray) -> tuple[float, float]:
    """Sum of counts over sum of means, and its standard error from the residuals."""
    ratio = counts.sum() / means.sum()
    return ratio, float(np.sqrt(((counts - ratio * means) ** 2).sum()) / means.sum())


def cell(generator: Generator, planned: list[tuple], sampler: str, steps: int) -> list[dict]:
    """Rows of one sampler and number of steps, one a band of intensities."""
    begin = time.process_time()
    masks = [generator.sample(scan, arm, WEEK, noise, sampler, steps) for scan, arm, noise, _ in planned]
    seconds = (time.process_time() - begin) / len(masks)
    counts, intensity = np.array([generator.count(mask) for mask in masks], float), np.array([p[3] for p in planned])
    voxels, fitted = np.array([mask.sum() for mask in masks]), calibrated(intensity, counts)
    rows = []
    for band, (low, high) in BANDS.items():
        inside = (intensity >= low) & (intensity < high)
        before, after = ratio(counts[inside], intensity[inside]), ratio(counts[inside], fitted[inside])
        row = {"sampler": sampler, "steps": steps, "intensity": band, "masks": int(inside.sum()), "before": before[0]}
        row |= {"se_before": before[1], "after": after[0], "se_after": after[1]}
        rows.append(row | {"voxels_a_lesion": voxels[inside].sum() / max(counts[inside].sum(), 1), "cpu_seconds_a_mask": seconds})
    return rows


def figure(table: pd.DataFrame) -> plt.Figure:
    """Count bias before and after the curve, and CPU seconds, against steps; bars are one standard error."""
    drawn, axes = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for sampler, part in table[table["intensity"] == "all"].groupby("sampler", sort=False):
        for axis, name in zip(axes, ("before", "after"), strict=False):
            axis.errorbar(part["steps"], part[name], part[f"se_{name}"], marker="o", capsize=3, label=sampler)
            axis.set(xlabel="steps", ylabel="sampled / expected count", title=f"{name} the count-calibration curve")
            axis.axhline(1, color="grey", linewidth=0.8)
        axes[2].plot(part["steps"], part["cpu_seconds_a_mask"], marker="o", label=sampler)
    axes[2].set(xlabel="steps", ylabel="CPU seconds a mask", ylim=(0, None), title="cost on one core")
    axes[0].legend(title="sampler")
    return drawn


@click.command()
@out_option
@model_option()
@click.option("--masks", default=60, show_default=True)
@seed_option(7)
def main(out: Path, model: str, masks: int, seed: int) -> None:
    torch.set_num_threads(1)
    generator, rows = Generator.load(model), []
    planned = plan(generator, masks, seed)
    generator.network.count_calibration[:] = torch.tensor([0.0, 1.0, 0.0, -5.0, 5.0])  # masks before the curve
    for steps, sampler in tqdm([(steps, sampler) for steps in STEPS for sampler in SAMPLERS], unit="cell", disable=None):
        rows += cell(generator, planned, sampler, steps)
        table = pd.DataFrame(rows).assign(model=generator.checksum[:12])
        write_table(table.round(4), out / "sampler_steps_by_intensity.csv")
        write_table(table[table["intensity"] == "all"].drop(columns="intensity").round(3), out / "sampler_steps.csv")
    figure(table).savefig(out / "sampler_steps.png", dpi=110)
    click.echo(table[table["intensity"] == "all"].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
