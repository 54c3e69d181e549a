"""What a training run is made of between two steps, kept in a file so that a killed run goes on exactly where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalms.errors import InputError
from causalms.generator.checkpoint import load_tensors, read_checkpoint, write_checkpoint
from causalms.generator.configurations import TrainingConfig
from causalms.generator.network import Network

#: What a run is saved with, and the types that each entry may have.
_ENTRIES: dict[str, tuple[type, ...]] = {
    "stage": (str,),
    "step": (int,),
    "elapsed": (float, int),
    "log": (list,),
    "best_score": (float, int, type(None)),
    "levels": (dict,),
    "fingerprint": (str,),
}


@dataclass
class Run:
    """The moving parts of a training run; everything in it is saved and restored.

    ``best`` holds the weights of the best validation score so far, ``levels`` what the level calibration found.
    """

    network: Network
    optimiser: torch.optim.AdamW
    stage: str = "risk"
    step: int = 0
    elapsed: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = float("inf")
    levels: dict[str, float] = field(default_factory=dict)


def optimiser_of(network: Network, recipe: TrainingConfig) -> torch.optim.AdamW:
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


def save_run(run: Run, path: Path, fingerprint: str) -> None:
    """Write everything of a run; ``fingerprint`` says of which data, recipe and seed it is."""
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
            "levels": run.levels,
            "fingerprint": fingerprint,
        }
    }
    write_checkpoint(path, tensors, header)


def refuse_other_settings(path: Path, settings: str) -> None:
    """Refuse what another recipe, model or seed left, before the data are read.

    Raises
    ------
    InputError
    """
    if not str(_state(path, read_checkpoint(path).header)["fingerprint"]).endswith(f" {settings}"):
        raise _other_run(path)


def _state(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    state = header.get("resume")
    if not isinstance(state, dict) or set(state) != set(_ENTRIES):
        raise InputError(f"{path}: holds no interrupted run; remove it to start anew")
    wrong = [name for name, types in _ENTRIES.items() if not isinstance(state[name], types)]
    wrong += [name for name in ("step", "elapsed") if name not in wrong and not 0 <= state[name] < float("inf")]
    wrong += [] if "stage" in wrong or state["stage"] in ("risk", "denoiser") else ["stage"]
    if wrong or not all(isinstance(entry, dict) for entry in state["log"]):
        raise InputError(f"{path}: entry {(wrong or ['log'])[0]!r} of no interrupted run; remove the file to start anew")
    return state


def _other_run(path: Path) -> InputError:
    return InputError(
        f"{path}: left by a run with other data, recipe or seed; remove it to start anew, or repeat that run to resume it"
    )


def restore_run(run: Run, path: Path, fingerprint: str, recipe: TrainingConfig) -> None:
    """Put a saved run back.

    Raises
    ------
    InputError
        If it was left by a run with other data, recipe or seed.
    """
    checkpoint = read_checkpoint(path)
    state = _state(path, checkpoint.header)
    if state["fingerprint"] != fingerprint:
        raise _other_run(path)

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in checkpoint.tensors.items() if name.startswith(prefix)}

    load_tensors(run.network, part("network."), str(path))
    run.best = part("best.")
    run.stage, run.step, run.elapsed, run.log = state["stage"], state["step"], state["elapsed"], state["log"]
    run.best_score = float("inf") if state["best_score"] is None else state["best_score"]
    run.levels = state["levels"]
    run.optimiser = optimiser_of(run.network, recipe)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimiser.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    if moments:
        run.optimiser.load_state_dict({**run.optimiser.state_dict(), "state": moments})
