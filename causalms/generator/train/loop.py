"""Training from a trial to a checkpoint: two stages, a budget, exact resume, several devices, a log as table and figure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from causalms.errors import InputError, UsageError
from causalms.generator.checkpoint import load_tensors
from causalms.generator.configurations import COVARIATES, ModelConfig, TrainingConfig
from causalms.generator.inputs import POOLED, pooled_signals, stack, template_planes, volumes
from causalms.generator.model import Generator
from causalms.generator.network import Network, channels_last
from causalms.generator.train.count_calibration import calibrate
from causalms.generator.train.data import TrainingPatient, training_set
from causalms.generator.train.denoiser import PlacedPatient, denoiser_loss, drawing_law, mask_batch
from causalms.generator.train.distributed import Processes, join
from causalms.generator.train.level_calibration import calibrate_levels
from causalms.generator.train.resume import Run, optimiser_of, restore_run, save_run
from causalms.generator.train.risk import (
    RowDropout,
    batches,
    drop_modalities,
    penalty,
    risk_batch,
    risk_log_likelihood,
    set_standardisation,
    start_values,
)
from causalms.generator.train.scores import validation_scores
from causalms.lesions import LesionRule
from causalms.tables import write_table
from causalms.trials import Trial, mni_space


@dataclass(frozen=True)
class Material:
    """What both stages read."""

    training: list[TrainingPatient]
    validation: list[TrainingPatient]
    arms: tuple[str, ...]
    weeks: tuple[float, float]
    planes: Tensor
    regions: Tensor
    voxel_ml: float
    shape: tuple[int, ...]

    @property
    def patients(self) -> list[TrainingPatient]:
        """Everyone, for what is not learned by steps."""
        return [*self.training, *self.validation]


def train(
    trial: Trial,
    out: Path,
    model: ModelConfig,
    recipe: TrainingConfig,
    seed: int = 0,
    budget_minutes: float | None = None,
    device: str = "auto",
    workers: int = 1,
) -> Generator:
    """Train a generator on the observed arms and visits of a trial.

    Started by ``torchrun``, every process takes its share of each batch, and the steps are those of one process up to
    the order of sums; the first process validates, saves and writes.

    Parameters
    ----------
    trial : Trial
        On the grid of ``model``; potential outcomes are never read.
    out : Path
        The checkpoint, ``.safetensors``; beside it ``.training.csv`` (the log) and, until the end, ``.resume.safetensors``.
    budget_minutes : float, optional
        Wall-clock minutes of optimisation; both stages are shortened to fit it (three fifths for the risk head).
    device : {"auto", "cpu", "cuda"}

    Returns
    -------
    Generator
        The trained model, already written to ``out``.

    Raises
    ------
    InputError
        If the trial is on another grid or too small.
    UsageError
        If CUDA is asked for and not there, or there are more processes than rows in a batch.
    """
    if not trial.space.same_as(mni_space(model.grid)):
        raise InputError(
            f"{trial.name}: images on {trial.space.describe()}, config {model.name!r} works on {model.grid}; "
            "simulate or resample to that grid"
        )
    processes = join(device)
    if processes.world > recipe.batch_masks:
        raise UsageError(
            f"{processes.world} processes share batches of {recipe.batch_masks} masks; start at most {recipe.batch_masks}"
        )
    material = _material(trial, recipe, seed, workers, processes.device)
    network = _network(model, material, seed)
    run = Run(network, optimiser_of(network, recipe))
    resume = out.with_suffix(".resume.safetensors")
    fingerprint = json.dumps([asdict(recipe), model.as_dict(), seed, len(material.patients), list(material.arms)])
    if resume.is_file():
        restore_run(run, resume, fingerprint, recipe)
    processes.spread(network)  # nobody saves before everybody has read what was saved

    def save() -> None:
        if processes.first:
            save_run(run, resume, fingerprint)

    if run.stage == "risk":
        step = _risk_step(network, material, recipe, seed, processes)
        budget = None if budget_minutes is None else 36 * budget_minutes
        each = max(10, recipe.risk_steps // 9)
        _loop(run, recipe.risk_steps, step, recipe, budget, save, each, lambda: _validate(network, material), processes)
        if processes.first:
            load_tensors(network, {**network.state_dict(), **run.best}, "best epoch")
            run.levels = _levels(network, material)
        processes.spread(network)
        run = Run(network, optimiser_of(network, recipe), "denoiser", log=run.log, levels=run.levels)
        save()
    if recipe.denoiser_steps:
        step = _denoiser_step(network, _place(network, material), model, material, recipe, seed, processes)
        budget = None if budget_minutes is None else 24 * budget_minutes
        _loop(run, recipe.denoiser_steps, step, recipe, budget, save, 250, None, processes)
    if processes.first:
        _finish(run, trial.name, out, model, material, recipe, seed)
        resume.unlink(missing_ok=True)
    processes.wait()
    return Generator.load(out)


def _material(trial: Trial, recipe: TrainingConfig, seed: int, workers: int, device: torch.device) -> Material:
    patients = training_set(trial, LesionRule.default(), workers)
    present = {p.arm for p in patients}
    weeks = [float(v.week) for p in patients for v in p.visits]
    order = np.random.default_rng([seed, 0, 9]).permutation(len(patients))
    held = max(1, round(recipe.validation_share * len(patients)))
    planes, regions = (part.to(device) for part in template_planes(trial.space))
    return Material(
        training=[patients[i] for i in order[held:]],
        validation=[patients[i] for i in order[:held]],
        arms=tuple(arm for arm in trial.arms if arm in present),
        weeks=(min(weeks), max(weeks)),
        planes=planes,
        regions=regions,
        voxel_ml=trial.space.voxel_volume_mm3 / 1000,
        shape=tuple(trial.space.shape),
    )


def _network(model: ModelConfig, material: Material, seed: int) -> Network:
    """A new network at the arms' observed rates, with inputs standardised and dropout keyed to the rows of a batch."""
    torch.manual_seed(seed)
    network = Network(model, len(material.arms), len(COVARIATES), POOLED, material.weeks[1]).to(material.planes.device)
    channels_last(network)
    network.encoder.pool_dropout = RowDropout(network.encoder.pool_dropout.p)
    set_standardisation(network, material.training, material.planes, material.regions, material.voxel_ml)
    start_values(network, material.training, material.arms)
    return network


def _validate(network: Network, material: Material) -> dict[str, float]:
    return validation_scores(network, material.validation, material.arms, material.planes, material.regions, material.voxel_ml)


def _levels(network: Network, material: Material) -> dict[str, float]:
    return calibrate_levels(network, material.patients, material.arms, material.planes, material.regions, material.voxel_ml)


def _finish(run: Run, data: str, out: Path, model: ModelConfig, material: Material, recipe: TrainingConfig, seed: int) -> None:
    """Match sampled to expected counts, then write log and checkpoint."""
    header: dict[str, Any] = {
        "recipe": asdict(recipe),
        "seed": seed,
        "patients": len(material.patients),
        "data": data,
        "torch": torch.__version__,
        "level_calibration": run.levels,
    }
    generator = Generator(run.network.cpu(), model, material.arms, material.weeks, LesionRule.default(), header)
    if recipe.denoiser_steps:
        some = [p.arrays for p in material.training[: recipe.calibration_patients]]
        generator.header["count_calibration"] = calibrate(generator, some, seed)
    write_table(pd.DataFrame(run.log), out.with_suffix(".training.csv"))
    generator.save(out)


def _loop(
    run: Run,
    steps: int,
    step: Callable[[int], Tensor],
    recipe: TrainingConfig,
    budget_seconds: float | None,
    save: Callable[[], None],
    each: int,
    validate: Callable[[], dict[str, float]] | None,
    processes: Processes,
) -> None:
    """Optimise until the steps or the budget are spent; the learning rate rises for 5% and falls along a cosine."""
    begin, before = time.monotonic(), run.elapsed
    total, count = 0.0, 0
    silent = None if processes.first else True
    bar = tqdm(total=steps, initial=run.step, desc=f"training {run.stage}", unit="step", disable=silent)
    while run.step < steps:
        run.elapsed = processes.agree(before + time.monotonic() - begin)
        done = run.step / steps if budget_seconds is None else max(run.step / steps, run.elapsed / budget_seconds)
        if done >= 1:
            break
        rate = recipe.learning_rate * min(done / 0.05 + 0.02, 0.5 * (1 + np.cos(np.pi * done)) + 0.005)
        for group in run.optimiser.param_groups:
            group["lr"] = rate * group["speed"]
        run.network.train()
        loss = step(run.step)
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        total, count = total + processes.sum_gradients(run.network, loss), count + 1
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), 2.0)
        run.optimiser.step()
        run.step += 1
        bar.update()
        if run.step % each == 0 or run.step == steps:
            if processes.first:
                bar.set_postfix(_logged(run, total / count, validate))
            total, count = 0.0, 0
            save()
    if count and processes.first:  # the budget ended between two entries
        _logged(run, total / count, validate)
    bar.close()


def _logged(run: Run, loss: float, validate: Callable[[], dict[str, float]] | None) -> dict[str, str]:
    """Add an entry to the log and keep the best weights so far; the entry's numbers as text."""
    entry: dict[str, Any] = {"stage": run.stage, "step": run.step, "seconds": round(run.elapsed, 1), "loss": loss}
    if validate is not None:
        entry |= validate()
        if entry["count_crps"] < run.best_score:
            run.best_score = entry["count_crps"]
            run.best = {name: value.detach().clone() for name, value in run.network.state_dict().items()}
    run.log.append(entry)
    return {key: f"{value:.4g}" for key, value in entry.items() if isinstance(value, float)}


def _risk_step(
    network: Network, material: Material, recipe: TrainingConfig, seed: int, processes: Processes
) -> Callable[[int], Tensor]:
    patients, device = material.training, material.planes.device
    a_epoch = -(-len(patients) // recipe.batch_patients)
    dropout = network.encoder.pool_dropout
    assert isinstance(dropout, RowDropout)
    cache: dict[int, list[list[TrainingPatient]]] = {}

    def step(number: int) -> Tensor:
        epoch, index = divmod(number, a_epoch)
        if epoch not in cache:
            cache.clear()
            cache[epoch] = list(batches(patients, recipe, epoch, seed))
        whole = cache[epoch][index]
        share = processes.share(len(whole))
        random = torch.Generator().manual_seed(seed * 1_000_003 + number)
        torch.manual_seed(seed * 1_000_003 + number)
        loss = penalty(network) / len(patients) / processes.world
        if not share.rows:  # the last batch of an epoch may have fewer patients than there are processes
            return loss
        batch = risk_batch([whole[row] for row in share.rows], material.arms, device)
        drop_modalities(batch, recipe.modality_dropout, random, share)
        dropout.share = share
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision or device.type == "cuda"):
            terms = risk_log_likelihood(network, batch, material.planes, material.regions, material.voxel_ml)
        return loss - (terms["count"] + terms["when"] + terms["where"] / 10) / share.whole

    return step


@torch.no_grad()
def _place(network: Network, material: Material) -> list[PlacedPatient]:
    """The frozen risk head's place law and log means for every training patient's own arm and visits."""
    network.eval()
    planes, placed = material.planes, []
    for patient in tqdm(material.training, desc="placing lesions", unit="patient", disable=None):
        images, masks, covariates = stack([patient.arrays], planes.device)
        pooled = pooled_signals(images, masks, planes, material.regions, material.voxel_ml)
        covariates, pooled = network.standardise(covariates, pooled)
        encoded, rate = network.encoder(volumes(images, masks, planes), pooled, covariates, masks[:, :1])
        arm = torch.tensor([material.arms.index(patient.arm)], device=planes.device)
        log_place = network.risk.log_place(encoded.features, masks[:, 0] > 0, arm)[0].flatten()
        means = []
        for visit in patient.visits:
            week = torch.tensor([float(visit.week)], device=planes.device)
            means.append(float(network.risk.log_expected_count(rate, encoded.state, arm, week)[0]))
        size = float(network.risk.size(arm)[0])
        placed.append(PlacedPatient(patient, log_place.clamp(min=-60000).half().cpu().numpy(), tuple(means), size))
    return placed


def _denoiser_step(
    network: Network,
    placed: list[PlacedPatient],
    model: ModelConfig,
    material: Material,
    recipe: TrainingConfig,
    seed: int,
    processes: Processes,
) -> Callable[[int], Tensor]:
    law, share = drawing_law(placed), processes.share(recipe.batch_masks)
    device = material.planes.device

    def step(number: int) -> Tensor:
        rng = np.random.default_rng([seed, number, 2])
        random = torch.Generator().manual_seed(seed * 1_000_003 + number + 500_000_000)
        batch = mask_batch(placed, law, material.shape, share, rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision or device.type == "cuda"):
            return denoiser_loss(network, batch, model, random, share)

    return step
