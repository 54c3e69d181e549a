"""One training loop for every image baseline: exact under a seed, stopped by steps or by a budget of CPU time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from causalms.generator.train.loop import one_cycle
from causalms.generator.train.patients import TrainingPatient, Visit
from causalms.generator.train.risk import epoch_order

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to optimise.

    Parameters
    ----------
    steps : int
        Steps at most.
    budget_minutes : float or None
        Minutes at most: of this process's CPU time on a CPU, which a busy machine hardly inflates, of wall-clock time elsewhere.
        Only without a budget are the weights a function of the seed alone.
    learning_rate : float
        Peak of a schedule that rises for 5% and falls along a cosine.
    weight_decay : float
    clip : float
        Largest norm of the gradient.
    """

    steps: int
    budget_minutes: float | None
    learning_rate: float
    weight_decay: float = 0.02
    clip: float = 2.0


@dataclass(frozen=True)
class Optimised:
    """Steps done, seconds spent, mean training loss of the last tenth and the best validation score (NaN without one)."""

    steps: int
    seconds: float
    loss: float
    validation: float

    def header(self, seed: int, training: list[TrainingPatient]) -> dict[str, Any]:
        """What a checkpoint says of how it was trained."""
        return {"seed": seed, "steps": self.steps, "seconds": round(self.seconds, 1), "training_patients": len(training)}


def seeded(build: Callable[[], Net], seed: int) -> Net:
    """An untrained network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


class MovingAverage:
    """Exponential moving average of weights, ``mean <- d mean + (1 - d) now``, with ``d = min(decay, (1 + i) / (10 + i))``.

    The warm-up lets the average of a short run forget its start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.mean = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            self.mean[name].lerp_(value.detach(), 1 - decay)


def split(patients: list[TrainingPatient], seed: int, share: float = 0.1) -> tuple[list[TrainingPatient], list[TrainingPatient]]:
    """Training and validation patients, the same split as the generator's."""
    order = np.random.default_rng([seed, 0, 9]).permutation(len(patients))
    kept_out = max(1, round(share * len(patients)))
    return [patients[i] for i in order[kept_out:]], [patients[i] for i in order[:kept_out]]


def batch_at(patients: list[TrainingPatient], size: int, step: int, seed: int) -> list[TrainingPatient]:
    """The patients of a step: epochs in random order, from (seed, step) alone."""
    each = max(1, len(patients) // size)
    epoch, index = divmod(step, each)
    order = epoch_order(len(patients), epoch, seed)
    return [patients[i] for i in order[index * size : (index + 1) * size]]


def visits_at(
    patients: list[TrainingPatient], size: int, step: int, seed: int, generator: torch.Generator
) -> list[tuple[TrainingPatient, Visit]]:
    """The patients of a step, each with one of the own visits drawn at random."""
    batch = batch_at(patients, size, step, seed)
    return [(patient, patient.visits[int(torch.randint(len(patient.visits), (), generator=generator))]) for patient in batch]


def optimise(
    network: nn.Module,
    loss: Callable[[int, torch.Generator], Tensor],
    recipe: Recipe,
    seed: int,
    validate: Callable[[], float] | None = None,
    validations: int = 12,
    average: float | None = None,
) -> Optimised:
    """Minimise ``loss(step, generator)``; the network ends with its best validated, or its averaged, or its last weights.

    Parameters
    ----------
    loss : callable
        A scalar from the step's number and a generator seeded by (seed, step); dropout is seeded likewise.
    validate : callable, optional
        A score, the smaller the better, asked for ``validations`` times; the best weights are kept.
    average : float, optional
        Decay of an exponential moving average of the weights.
    """
    device = next(network.parameters()).device
    clock = time.process_time if device.type == "cpu" else time.monotonic
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    averaged = None if average is None else MovingAverage(network, average)
    best, best_score, validated = {}, float("inf"), 0
    losses: list[float] = []
    budget = float("inf") if recipe.budget_minutes is None else 60 * recipe.budget_minutes
    begin, step, done = clock(), 0, 0.0
    bar = tqdm(total=recipe.steps, desc=f"training {type(network).__name__}", unit="step", disable=None)
    with torch.random.fork_rng(devices=[]):
        while done < 1:
            rate = recipe.learning_rate * one_cycle(done)
            for group in optimiser.param_groups:
                group["lr"] = rate
            network.train()
            torch.manual_seed(seed * 1_000_003 + step)
            value = loss(step, torch.Generator().manual_seed(seed * 1_000_003 + step))
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            losses.append(float(value.detach()))
            if averaged is not None:
                averaged.update(network, step)
            step += 1
            done = max(step / recipe.steps, (clock() - begin) / budget)
            bar.update()
            if validate is not None and done * validations >= validated + 1:
                validated = int(done * validations)
                network.eval()
                with torch.no_grad():
                    score = validate()
                if score < best_score:
                    best_score = score
                    best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    bar.close()
    if best:
        network.load_state_dict(best)
    elif averaged is not None:
        network.load_state_dict(averaged.mean)
    network.eval()
    tail = losses[-max(1, len(losses) // 10) :]
    return Optimised(step, clock() - begin, float(np.mean(tail)), best_score if best else float("nan"))
