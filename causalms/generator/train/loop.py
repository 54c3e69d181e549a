"""Training from a trial to a checkpoint: a first stage of counts, two stages of one loop, a budget, exact resume, a log."""

from __future__ import annotations

import json
import sys
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
from causalms.generator.configurations import ModelConfig, TrainingConfig
from causalms.generator.model import Generator
from causalms.generator.network import Network, channels_last
from causalms.generator.sampling import SAMPLERS
from causalms.generator.train.count_calibration import REPEATS, calibrate, simulate_counts
from causalms.generator.train.cross_fitting import Learned, own_error
from causalms.generator.train.data import Material, read_material
from causalms.generator.train.denoiser import denoiser_step, place_patients
from causalms.generator.train.distributed import Processes, join
from causalms.generator.train.first_stage import fit_first_stage, write_first_stage
from causalms.generator.train.held_out import held_out
from causalms.generator.train.lacking import FEWEST, MOST, expected_without
from causalms.generator.train.resume import (
    Kept,
    Run,
    known_rate,
    optimiser_of,
    refuse_other_settings,
    restore_run,
    save_run,
    start_from,
)
from causalms.generator.train.risk import risk_step, start_values
from causalms.generator.train.scores import validation_scores
from causalms.lesions import LesionRule
from causalms.tables import write_table
from causalms.trials import Trial, mni_space

#: Shares of the budget for steps: three fifths for the risk head, two fifths for the denoiser.
_RISK, _DENOISER = 0.6, 0.4


@dataclass(frozen=True)
class Stage:
    """One stage of training: its loss of a step, how long it runs, and how often it is logged, validated and saved."""

    loss: Callable[[int], Tensor]
    steps: int
    steps_per_entry: int
    budget_seconds: float | None
    validate: Callable[[], dict[str, float]] | None = None


def train_generator(
    trial: Trial,
    out: Path,
    model: ModelConfig,
    recipe: TrainingConfig,
    seed: int = 0,
    budget_minutes: float | None = None,
    device: str = "auto",
    workers: int = 1,
    cache: Path | None = None,
) -> Generator:
    """Train a generator on the observed arms and visits of a trial.

    Started by ``torchrun``, every process takes its share of each batch, and the steps are those of one process up to
    the order of sums; the first process validates, saves and writes.

    Parameters
    ----------
    trial : Trial
        On the grid of ``model``, of any drugs; potential outcomes are never read.
    out : Path
        The checkpoint, ``.safetensors``; beside it ``.training.csv`` (the log) and, until the end, ``.resume.safetensors``.
    model : ModelConfig
    recipe : TrainingConfig
    seed : int
    budget_minutes : float, optional
        Wall-clock minutes from the first step to the checkpoint: what error model and calibration will take is measured on a
        few patients and kept for them, and both stages are shortened to fit the rest (three fifths for the risk head).
    device : {"auto", "cpu", "cuda"}
    workers : int
        Processes that read patients.
    cache : Path, optional
        Folder in which patients are kept as training reads them, for this run and others.

    Returns
    -------
    Generator
        The trained model, already written to ``out``.

    Raises
    ------
    InputError
        If the trial is on another grid or too small, or ``.resume.safetensors`` is of another run.
    UsageError
        If CUDA is wanted and not there, or there are more processes than rows in a batch.
    """
    if not trial.space.same_as(mni_space(model.grid)):
        raise InputError(
            f"{trial.name}: images on {trial.space.describe()}, config {model.name!r} works on {model.grid}; "
            "resample it to that grid (`resample`, causalms.trials.resample_trial)"
        )
    processes = join(device)
    if processes.world > (most := max(recipe.batch_patients, recipe.batch_masks)):
        raise UsageError(
            f"{processes.world} processes share batches of {recipe.batch_patients} patients and {recipe.batch_masks} masks; "
            f"start at most {most}, or raise batch_patients in a configuration file"
        )
    resume = out.with_suffix(".resume.safetensors")
    settings = json.dumps([asdict(recipe), model.as_dict(), seed])
    if resume.is_file():
        refuse_other_settings(resume, settings)
    material = read_material(trial, recipe, seed, workers, processes, cache)
    network = new_network(model, material, seed)
    # A checkpoint of one's own may have learned from these patients, whose counts would then be used twice.
    learned = Learned.of(network, material, known_rate(recipe) if recipe.init == "reference" else None)
    origin = {"initialised_from": start_from(network, model, material.arms, recipe)} if recipe.init else {}
    run = Run(network, optimiser_of(network, recipe))
    fingerprint = f"{material.digest} {settings}"
    if resume.is_file():
        restore_run(run, resume, fingerprint, recipe)
    processes.spread(network)  # the first process saves only after every process has read what was saved

    log = _LiveLog(out, len(run.log))

    def save() -> None:
        if processes.first:
            log.show(run.log)
            save_run(run, resume, fingerprint)

    seconds = _seconds_for_steps(network, learned, model, recipe, budget_minutes, processes)
    if run.stage == "risk":
        loss, entry = risk_step(network, material, recipe, seed, processes), max(10, recipe.risk_steps // 9)
        budget = None if seconds is None else _RISK * seconds
        _optimise(
            run,
            Stage(loss, recipe.risk_steps, entry, budget, lambda: validation_scores(network, material)),
            recipe,
            save,
            processes,
        )
        _end_with_first_stage(run, learned, processes)
        run = Run(network, optimiser_of(network, recipe), "denoiser", log=run.log)
        save()
    if run.stage == "denoiser" and recipe.denoiser_steps and recipe.tune == "all":
        loss = denoiser_step(network, place_patients(network, material), model, material, recipe, seed, processes)
        budget = None if seconds is None else _DENOISER * seconds
        _optimise(run, Stage(loss, recipe.denoiser_steps, 250, budget), recipe, save, processes)
    run.stage = "finishing"
    if processes.first:
        save()
        kept = Kept.of(out, fingerprint, run.network)
        _finish(run, {"data": trial.name, **origin}, out, model, learned, recipe, seed, kept)
        resume.unlink(missing_ok=True)
        kept.forget()
    processes.wait()
    return Generator.load(out)


def _end_with_first_stage(run: Run, learned: Learned, processes: Processes) -> None:
    """Give every process the weights of the best entry, with the first stage of counts anew."""
    if processes.first:
        load_tensors(run.network, {**run.network.state_dict(), **run.best}, "best epoch")
        write_first_stage(run.network, fit_first_stage(learned.data(run.network), len(learned.material.arms)))
    processes.spread(run.network)


def _seconds_for_steps(
    network: Network,
    learned: Learned,
    model: ModelConfig,
    recipe: TrainingConfig,
    budget_minutes: float | None,
    processes: Processes,
) -> float | None:
    """What the budget leaves for steps when error model and calibration are done: at least half of it; None without a budget.

    Their time is that of a few patients, times how many there will be.
    """
    if budget_minutes is None:
        return None
    material, few = learned.material, learned.material.patients[:8]
    patients, times = len(material.patients), [time.monotonic()]
    fit_first_stage(learned.data(network), len(material.arms))
    times.append(time.monotonic())
    held_out(network, few, material.arms, material.anatomy, mni_space(model.grid), learned.signals[: len(few)])
    times.append(time.monotonic())
    if patients >= FEWEST:
        expected_without(network, few, len(material.arms), material.anatomy)
    times.append(time.monotonic())
    masks = len(SAMPLERS) * REPEATS * min(recipe.calibration_patients, len(material.training)) if recipe.denoiser_steps else 0
    if masks:
        generator = Generator(network, model, material.arms, material.weeks, LesionRule.default())
        for sampler in SAMPLERS:
            simulate_counts(generator, [few[0].arrays], sampler, seed=0, repeats=1)
    times.append(time.monotonic())
    fit, own, without, sampled = np.diff(times)
    fits = fit * (1 + recipe.folds / 2)  # those of the folds take over the prior of the first
    after = fits + own * patients / len(few) + without * min(patients, MOST) / len(few) + sampled * masks / len(SAMPLERS)
    whole = 60 * budget_minutes
    words = f"{after / 60:.1f} of {budget_minutes:g} minutes are kept for error model and calibration"
    if after > whole / 2:
        words = (
            f"error model and calibration take about {after / 60:.1f} minutes, more than half of the budget: it will be passed"
        )
    if processes.first:
        print(f"training: {words}", file=sys.stderr, flush=True)
    return processes.agree(max(whole - after, whole / 2))


def _optimise(run: Run, stage: Stage, recipe: TrainingConfig, save: Callable[[], None], processes: Processes) -> None:
    """Optimise until the steps or the budget are spent; the learning rate rises for 5% and falls along a cosine."""
    begin, before = time.monotonic(), run.elapsed
    total, count = 0.0, 0
    bar = tqdm(
        total=stage.steps, initial=run.step, desc=f"training {run.stage}", unit="step", disable=None if processes.first else True
    )
    patience = recipe.patience if stage.validate is not None else 0
    stop = bool(patience) and bool(processes.agree(float(run.stale >= patience)))
    while run.step < stage.steps and not stop:
        run.elapsed = processes.agree(before + time.monotonic() - begin)
        done = run.step / stage.steps
        done = done if stage.budget_seconds is None else max(done, run.elapsed / stage.budget_seconds)
        if done >= 1:
            break
        rate = recipe.learning_rate * one_cycle(done)
        for group in run.optimiser.param_groups:
            group["lr"] = rate * group["speed"]
        run.network.train()
        loss = stage.loss(run.step)
        run.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        total, count = total + processes.sum_gradients(run.network, loss), count + 1
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), 2.0)
        run.optimiser.step()
        run.step += 1
        if recipe.ema and processes.first:
            run.follow(recipe.ema)
        bar.update()
        if run.step % stage.steps_per_entry == 0 or run.step == stage.steps:
            if processes.first:
                bar.set_postfix(_logged(run, total / count, stage.validate))
            total, count = 0.0, 0
            save()
            stop = bool(patience) and bool(processes.agree(float(run.stale >= patience)))
    if count and processes.first:  # the budget ended between two entries
        _logged(run, total / count, stage.validate)
    if run.average and stage.validate is None:
        run.network.load_state_dict(run.average)
    bar.close()


def one_cycle(done: float) -> float:
    """Learning rate as a share of its peak after a share ``done`` of training: up for 5%, then down along a cosine.

    Examples
    --------
    >>> [round(float(one_cycle(done)), 3) for done in (0.0, 0.05, 0.5, 1.0)]
    [0.02, 0.999, 0.505, 0.005]
    """
    return float(min(done / 0.05 + 0.02, 0.5 * (1 + np.cos(np.pi * done)) + 0.005))


def _logged(run: Run, loss: float, validate: Callable[[], dict[str, float]] | None) -> dict[str, str]:
    """Add an entry to the log and keep the best weights so far; the entry's numbers as text."""
    entry: dict[str, Any] = {"stage": run.stage, "step": run.step, "seconds": round(run.elapsed, 1), "loss": loss}
    if validate is not None:
        with run.averaged():
            entry |= validate()
            if entry["place_log_score"] <= run.best_score:  # equal where validation patients have no lesion: the last
                run.best_score = entry["place_log_score"]
                run.best = {name: value.detach().clone() for name, value in run.network.state_dict().items()}
    run.log.append(entry)
    return {key: f"{value:.4g}" for key, value in entry.items() if isinstance(value, float)}


class _LiveLog:
    """Entries as they come: a line each where no bar shows them, the table beside the checkpoint, TensorBoard where installed."""

    def __init__(self, out: Path, shown: int) -> None:
        self._table, self._folder, self._shown = out.with_suffix(".training.csv"), out.with_suffix(".tensorboard"), shown
        self._board: Any = None

    def show(self, log: list[dict[str, Any]]) -> None:
        """Show the entries that were not shown before."""
        if len(log) == self._shown:
            return
        write_table(pd.DataFrame(log), self._table)
        for entry in log[self._shown :]:
            numbers = {name: value for name, value in entry.items() if name not in ("stage", "step")}
            if not sys.stderr.isatty():
                words = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
                print(f"training {entry['stage']}: step {entry['step']}, {words}", file=sys.stderr, flush=True)
            self._on_board(entry, numbers)
        self._shown = len(log)

    def _on_board(self, entry: dict[str, Any], numbers: dict[str, float]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # TensorBoard is not installed
            return
        self._board = self._board or SummaryWriter(str(self._folder))
        for name, value in numbers.items():
            self._board.add_scalar(f"{entry['stage']}/{name}", value, entry["step"])
        self._board.flush()


def new_network(model: ModelConfig, material: Material, seed: int) -> Network:
    """A new network, which knows nothing but how large a lesion is.

    Raises
    ------
    UsageError
        If the model has no first stage: it is of a checkpoint from before it.
    """
    if not model.first_stage:
        raise UsageError(f"config {model.name!r} has no first stage of counts: such models are read and no longer trained")
    torch.manual_seed(seed)
    network = Network(model, len(material.arms), material.weeks[1]).to(material.anatomy.planes.device)
    channels_last(network)
    start_values(network, material.patients, material.arms)
    return network


def _finish(
    run: Run,
    origin: dict[str, str],
    out: Path,
    model: ModelConfig,
    learned: Learned,
    recipe: TrainingConfig,
    seed: int,
    kept: Kept,
) -> None:
    """Learn the error by cross-fitting, match sampled to expected counts, on the device of the steps; write the checkpoint."""
    network, material = run.network, learned.material
    error_model, seen, found = own_error(network, learned, mni_space(model.grid), recipe.folds, seed, kept)
    header: dict[str, Any] = {
        "recipe": asdict(recipe),
        "seed": seed,
        "patients": len(material.patients),
        **origin,
        "left_out": [asdict(one) for one in material.skipped],
        "torch": torch.__version__,
        **found,
    }
    rule = LesionRule.default()
    generator = Generator(network, model, material.arms, material.weeks, rule, header, error_model=error_model, seen=seen)
    if recipe.denoiser_steps and recipe.calibration_patients:
        some = [p.arrays for p in material.training[: recipe.calibration_patients]]
        generator.header["count_calibration"] = calibrate(generator, some, seed, kept)
    generator.save(out)
