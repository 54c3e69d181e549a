"""Training from a trial to a checkpoint: two stages, a budget, exact resume, a log as table and figure."""

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

from causalms.errors import InputError
from causalms.generator.checkpoint import load_tensors, read_checkpoint, write_checkpoint
from causalms.generator.config import COVARIATES, ModelConfig, TrainingConfig
from causalms.generator.count_calibration import calibrate
from causalms.generator.dataset import TrainingPatient, training_set
from causalms.generator.denoiser_training import PlacedPatient, denoiser_loss, drawing_law, mask_batch
from causalms.generator.inputs import POOLED, template_planes
from causalms.generator.level_calibration import calibrate_levels
from causalms.generator.model import Generator
from causalms.generator.network import Network, channels_last
from causalms.generator.risk_training import (
    batches,
    drop_modalities,
    penalty,
    risk_batch,
    risk_log_likelihood,
    set_standardisation,
    start_values,
)
from causalms.generator.scores import validation_scores
from causalms.lesions import LesionRule
from causalms.tables import ARMS, write_table
from causalms.trials import Trial, mni_space


@dataclass
class Run:
    """The moving parts of a training run; everything in it is saved and restored."""

    network: Network
    optimiser: torch.optim.AdamW
    stage: str
    step: int
    elapsed: float
    log: list[dict[str, Any]]
    best: dict[str, Tensor]
    best_score: float


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
    """
    if not trial.space.same_as(mni_space(model.grid)):
        raise InputError(
            f"{trial.name}: images on {trial.space.describe()}, config {model.name!r} works on {model.grid}; "
            "simulate or resample to that grid"
        )
    where = torch.device("cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu")
    rule = LesionRule.default()
    patients = training_set(trial, rule, workers)
    present = {p.arm for p in patients}
    arms = (*(a for a in ARMS if a in present), *sorted(present - set(ARMS)))
    last_week = float(max(v.week for p in patients for v in p.visits))
    first_week = float(min(v.week for p in patients for v in p.visits))
    order = np.random.default_rng([seed, 0, 9]).permutation(len(patients))
    held = max(1, round(recipe.validation_share * len(patients)))
    validation, training = [patients[i] for i in order[:held]], [patients[i] for i in order[held:]]
    torch.manual_seed(seed)
    network = channels_last(Network(model, len(arms), len(COVARIATES), POOLED, last_week).to(where))
    planes, regions = (part.to(where) for part in template_planes(trial.space))
    voxel_ml = trial.space.voxel_volume_mm3 / 1000
    set_standardisation(network, training, planes, regions, voxel_ml)
    start_values(network, training, arms)
    run = Run(network, _optimiser(network, recipe), "risk", 0, 0.0, [], {}, float("inf"))
    resume = out.with_suffix(".resume.safetensors")
    fingerprint = json.dumps([asdict(recipe), model.as_dict(), seed, len(patients), list(arms)])
    if resume.is_file():
        _restore(run, resume, fingerprint, recipe)

    if run.stage == "risk":
        step = _risk_step(network, training, arms, recipe, planes, regions, voxel_ml, seed)

        def validate() -> dict[str, float]:
            return validation_scores(network, validation, arms, planes, regions, voxel_ml)

        budget = None if budget_minutes is None else 36 * budget_minutes
        each = max(10, recipe.risk_steps // 9)
        _loop(run, recipe.risk_steps, step, recipe, budget, lambda: _save(run, resume, fingerprint), each, validate)
        load_tensors(network, {**network.state_dict(), **run.best}, "best epoch")
        calibrate_levels(network, patients, arms, planes, regions, voxel_ml)
        run = Run(network, _optimiser(network, recipe), "denoiser", 0, 0.0, run.log, {}, float("inf"))
        _save(run, resume, fingerprint)
    if recipe.denoiser_steps:
        placed = _place(network, training, arms, planes, regions, voxel_ml)
        step = _denoiser_step(network, placed, model, recipe, tuple(trial.space.shape), seed)
        budget = None if budget_minutes is None else 24 * budget_minutes
        _loop(run, recipe.denoiser_steps, step, recipe, budget, lambda: _save(run, resume, fingerprint), 250, None)

    header = {"recipe": asdict(recipe), "seed": seed, "patients": len(patients), "data": trial.name, "torch": torch.__version__}
    generator = Generator(network.cpu(), model, arms, (first_week, last_week), rule, header)
    if recipe.denoiser_steps:
        some = [p.arrays for p in training[: recipe.calibration_patients]]
        generator.header["count_calibration"] = calibrate(generator, some, seed)
    write_table(pd.DataFrame(run.log), out.with_suffix(".training.csv"))
    generator.save(out)
    resume.unlink(missing_ok=True)
    return Generator.load(out)


def _optimiser(network: Network, recipe: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; the few scalars of the risk head (effects, sizes, time) move ten times as fast and are not decayed."""
    few = {"intercept", "effect", "time_power", "log_size", "log_size_arm", "log_mean_volume"}
    named = dict(network.risk.named_parameters())
    scalars = [parameter for name, parameter in named.items() if name in few]
    rest = [parameter for parameter in network.parameters() if not any(parameter is scalar for scalar in scalars)]
    groups: list[dict[str, Any]] = [
        {"params": rest, "weight_decay": recipe.weight_decay, "speed": 1.0},
        {"params": scalars, "weight_decay": 0.0, "speed": 10.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _loop(
    run: Run,
    steps: int,
    step: Callable[[int], Tensor],
    recipe: TrainingConfig,
    budget_seconds: float | None,
    save: Callable[[], None],
    each: int,
    validate: Callable[[], dict[str, float]] | None,
) -> None:
    """Optimise until the steps or the budget are spent; the learning rate rises for 5% and falls along a cosine."""
    begin, before = time.monotonic(), run.elapsed
    total, count = 0.0, 0
    bar = tqdm(total=steps, initial=run.step, desc=f"training {run.stage}", unit="step", disable=None)
    while run.step < steps:
        run.elapsed = before + time.monotonic() - begin
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
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), 2.0)
        run.optimiser.step()
        total, count = total + float(loss.detach()), count + 1
        run.step += 1
        bar.update()
        if run.step % each == 0 or run.step == steps:
            bar.set_postfix(_logged(run, total / count, validate))
            total, count = 0.0, 0
            save()
    if count:  # the budget ended between two entries
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
    network: Network,
    patients: list[TrainingPatient],
    arms: tuple[str, ...],
    recipe: TrainingConfig,
    planes: Tensor,
    regions: Tensor,
    voxel_ml: float,
    seed: int,
) -> Callable[[int], Tensor]:
    a_epoch = -(-len(patients) // recipe.batch_patients)
    cache: dict[int, list[list[TrainingPatient]]] = {}

    def step(number: int) -> Tensor:
        epoch, index = divmod(number, a_epoch)
        if epoch not in cache:
            cache.clear()
            cache[epoch] = list(batches(patients, recipe, epoch, seed))
        random = torch.Generator().manual_seed(seed * 1_000_003 + number)
        torch.manual_seed(seed * 1_000_003 + number)
        batch = risk_batch(cache[epoch][index], arms, planes.device)
        drop_modalities(batch, recipe.modality_dropout, random)
        with torch.autocast(planes.device.type, torch.bfloat16, enabled=recipe.mixed_precision or planes.device.type == "cuda"):
            terms = risk_log_likelihood(network, batch, planes, regions, voxel_ml)
        count = len(cache[epoch][index])
        where = terms["where"] / 10
        return -(terms["count"] + terms["when"] + where) / count + penalty(network) / len(patients)

    return step


@torch.no_grad()
def _place(
    network: Network, patients: list[TrainingPatient], arms: tuple[str, ...], planes: Tensor, regions: Tensor, voxel_ml: float
) -> list[PlacedPatient]:
    """The frozen risk head's place law and log means for every training patient's own arm and visits."""
    from causalms.generator.inputs import pooled_signals, stack, volumes

    network.eval()
    placed = []
    for patient in tqdm(patients, desc="placing lesions", unit="patient", disable=None):
        images, masks, covariates = stack([patient.arrays], planes.device)
        pooled = pooled_signals(images, masks, planes, regions, voxel_ml)
        covariates, pooled = network.standardise(covariates, pooled)
        encoded, rate = network.encoder(volumes(images, masks, planes), pooled, covariates, masks[:, :1])
        arm = torch.tensor([arms.index(patient.arm)], device=planes.device)
        log_place = network.risk.log_place(encoded.features, masks[:, 0] > 0, arm)[0].flatten()
        means = []
        for visit in patient.visits:
            week = torch.tensor([float(visit.week)], device=planes.device)
            means.append(float(network.risk.log_expected_count(rate, encoded.state, arm, week)[0]))
        size = float(network.risk.size(arm)[0])
        placed.append(PlacedPatient(patient, log_place.clamp(min=-60000).half().cpu().numpy(), tuple(means), size))
    return placed


def _denoiser_step(
    network: Network, placed: list[PlacedPatient], model: ModelConfig, recipe: TrainingConfig, shape: tuple[int, ...], seed: int
) -> Callable[[int], Tensor]:
    law = drawing_law(placed)
    device = next(network.parameters()).device

    def step(number: int) -> Tensor:
        rng = np.random.default_rng([seed, number, 2])
        random = torch.Generator().manual_seed(seed * 1_000_003 + number + 500_000_000)
        batch = mask_batch(placed, law, shape, recipe.batch_masks, rng)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision or device.type == "cuda"):
            return denoiser_loss(network, batch, model, random)

    return step


def _save(run: Run, path: Path, fingerprint: str) -> None:
    tensors = {f"network.{name}": value for name, value in run.network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in run.best.items()}
    for index, state in run.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
    header = {
        "resume": {
            "stage": run.stage,
            "step": run.step,
            "elapsed": run.elapsed,
            "log": run.log,
            "best_score": run.best_score if np.isfinite(run.best_score) else None,
            "fingerprint": fingerprint,
        }
    }
    write_checkpoint(path, tensors, header)


def _restore(run: Run, path: Path, fingerprint: str, recipe: TrainingConfig) -> None:
    checkpoint = read_checkpoint(path)
    state = checkpoint.header["resume"]
    if state["fingerprint"] != fingerprint:
        raise InputError(
            f"{path}: left by a run with other data, recipe or seed; remove it to start anew, or repeat that run to resume it"
        )

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in checkpoint.tensors.items() if name.startswith(prefix)}

    load_tensors(run.network, part("network."), str(path))
    run.best = part("best.")
    run.stage, run.step, run.elapsed, run.log = state["stage"], state["step"], state["elapsed"], state["log"]
    run.best_score = float("inf") if state["best_score"] is None else state["best_score"]
    run.optimiser = _optimiser(run.network, recipe)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimiser.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    if moments:
        run.optimiser.load_state_dict({**run.optimiser.state_dict(), "state": moments})
