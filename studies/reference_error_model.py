"""The shipped checkpoint's own error: its error model, fitted to newly simulated patients of the design it was trained on.

python -m studies.reference_error_model --parts parts --out reference.safetensors
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import click
import numpy as np
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

import causalms as cms
from causalms.files import whole_file
from causalms.generator import Generator
from causalms.generator.inputs import anatomy_of
from causalms.generator.seen import error_columns
from causalms.generator.train.data import training_set
from causalms.generator.train.held_out import HeldOut, fit_to_held_out, held_out, seen_of
from causalms.generator.train.lacking import fit_patterns
from studies import missing_inputs
from studies.common import model_option, out_option, workers_option
from studies.missing_inputs import chunk_of

#: Patients simulated at a time, so that memory stays flat.
CHUNK = 250
#: Seeds of trials that nothing was learned from; of the second ones inputs are taken away.
FIRST_SEED, ROBBED = 7000, (7200, 7201, 7202, 7203)


def chunk_arrays(model: str, design: str, trial_seed: int, patients: int) -> dict[str, np.ndarray]:
    """Held-out arrays of one new trial, with the true log rates of the last week."""
    torch.set_num_threads(1)
    generator = Generator.load(model)
    trial = cms.simulate_trial(design, patients=patients, seed=trial_seed, grid=generator.config.grid)
    people = training_set(trial, generator.rule)
    unseen = held_out(generator.network, people, generator.arms, anatomy_of(trial.space), trial.space)
    truth = trial.truth.rates(max(trial.weeks)).loc[unseen.participant_id, list(generator.arms)]
    return {
        **{field.name: getattr(unseen, field.name) for field in fields(HeldOut)},
        "participant_id": np.array([f"{trial_seed}-{name}" for name in unseen.participant_id]),
        "trial": np.array([f"{trial_seed}-{name}" for name in unseen.trial]),
        "true_log_rate": np.log(truth.to_numpy(float)),
    }


def finished_chunk(model: str, design: str, trial_seed: int, parts: Path) -> Path:
    """File of one chunk, made if it is not there."""
    place = parts / f"{trial_seed}.npz"
    if not place.is_file():
        arrays = chunk_arrays(model, design, trial_seed, CHUNK)
        with whole_file(place) as beside, open(beside, "wb") as opened:
            np.savez_compressed(opened, **arrays)
    return place


def together(places: list[Path]) -> tuple[HeldOut, np.ndarray]:
    """The held-out patients of finished chunks, and their true log rates at the last week (n, arms)."""
    parts, truths = [], []
    for place in places:
        with np.load(place, allow_pickle=False) as opened:
            parts.append(HeldOut(**{field.name: opened[field.name] for field in fields(HeldOut)}))
            truths.append(opened["true_log_rate"])
    return HeldOut.together(parts), np.concatenate(truths)


@click.command()
@out_option
@model_option()
@click.option("--design", default="lifelike", show_default=True)
@click.option("--patients", default=12000, show_default=True)
@click.option(
    "--parts",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of finished chunks of this model; a killed run goes on.",
)
@workers_option(1)
def main(out: Path, model: str, design: str, patients: int, parts: Path, workers: int) -> None:
    """Write the checkpoint with its error model; network, levels and checksum stay what they are."""
    parts.mkdir(parents=True, exist_ok=True)
    seeds = [FIRST_SEED + number for number in range(patients // CHUNK)]
    jobs = (delayed(finished_chunk)(model, design, seed, parts) for seed in seeds)
    made = Parallel(n_jobs=workers, return_as="generator")(jobs)
    unseen, _ = together(list(tqdm(made, total=len(seeds), desc="trials", unit="trial", disable=None)))
    generator = Generator.load(model)
    fitted = fit_to_held_out(unseen, generator.arms, generator.network).about_zero()
    (aside := parts / "without").mkdir(exist_ok=True)
    robbed = missing_inputs.together(Parallel(n_jobs=workers)(delayed(chunk_of)(model, seed, aside) for seed in ROBBED))
    missing = [sorted(names) for names in missing_inputs.lacking(robbed)]
    lacking = fit_patterns(fitted, robbed["without"], missing, robbed["counts"], robbed["arm"], robbed["log_exposure"])
    generator.error_model, generator.seen = replace(fitted, lacking=lacking), seen_of(unseen)
    generator.save(out)
    log_expected = unseen.log_expected_at(generator.weeks[1])
    first = generator.error_model.loadings(log_expected, error_columns(unseen.covariates), 0).mean(axis=0)
    for arm, name in enumerate(generator.arms):
        loadings = generator.error_model.loadings(log_expected, error_columns(unseen.covariates), arm).mean(axis=0)
        click.echo(
            f"{name}: standard error of the log rate ratio against {generator.arms[0]} {np.linalg.norm(loadings - first):.3f}"
        )
    click.echo(f"{out}: error model {generator.error_model.words}, between trials {fitted.trial_sd:.3f}")


if __name__ == "__main__":
    main()
