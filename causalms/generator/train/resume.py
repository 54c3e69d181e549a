"""What a training run starts from, and what it is made of between two steps: kept in a file, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from causalms.errors import InputError, UsageError
from causalms.files import whole_file
from causalms.generator.checkpoint import Checkpoint, checksum, load_tensors, read_checkpoint, write_checkpoint
from causalms.generator.configurations import ModelConfig, TrainingConfig
from causalms.generator.network import Network

#: What a run is saved with, and the types that each entry may have.
_ENTRIES: dict[str, tuple[type, ...]] = {
    "stage": (str,),
    "step": (int,),
    "elapsed": (float, int),
    "log": (list,),
    "best_score": (float, int, type(None)),
    "fingerprint": (str,),
}


@dataclass
class Run:
    """The moving parts of a training run; everything in it is saved and restored.

    ``best`` holds the weights of the best validation score so far, ``average`` the running average of the weights where the
    recipe asks for one.
    """

    network: Network
    optimiser: torch.optim.AdamW
    stage: str = "risk"
    step: int = 0
    elapsed: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_score: float = float("inf")
    average: dict[str, Tensor] = field(default_factory=dict)

    def follow(self, decay: float) -> None:
        """Let the running average of the weights follow them by a step: ``average = decay average + (1 - decay) weights``.

        It starts at the weights; ``decay`` is smaller in the first steps, ``(1 + step) / (10 + step)``, so that it forgets them.
        """
        now = self.network.state_dict()
        if not self.average:
            self.average = {name: value.detach().clone() for name, value in now.items()}
            return
        weight = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for name, value in self.average.items():
            value.lerp_(now[name].to(value), weight)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The running average in the network's place, where there is one."""
        own = {name: value.detach().clone() for name, value in self.network.state_dict().items()} if self.average else {}
        self.network.load_state_dict(self.average or self.network.state_dict())
        try:
            yield
        finally:
            self.network.load_state_dict(own or self.network.state_dict())

    @property
    def stale(self) -> int:
        """Entries of this stage since its best validation score, the last of equal ones."""
        scores = [entry["place_log_score"] for entry in self.log if entry["stage"] == self.stage and "place_log_score" in entry]
        return int(np.argmin(scores[::-1])) if scores else 0


@dataclass(frozen=True)
class Kept:
    """Finished parts of what follows the steps, kept in a folder until the checkpoint is written; nowhere without a folder.

    ``key`` tells of which run and weights they are.
    """

    folder: Path | None = None
    key: str = ""

    @classmethod
    def of(cls, out: Path, fingerprint: str, network: Network) -> Kept:
        """Beside a checkpoint that is to be written."""
        made_from = f"{fingerprint} {checksum(network.state_dict())}"
        return cls(out.with_name(f"{out.name}.finishing"), hashlib.sha256(made_from.encode()).hexdigest()[:12])

    def part(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Arrays of a part that is kept, else made, and kept whole."""
        file = None if self.folder is None else self.folder / f"{name}.{self.key}.npz"
        if file is not None and file.is_file():
            with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(file, allow_pickle=False) as known:
                return dict(known)
        arrays = make()
        if file is not None:
            with whole_file(file) as beside, beside.open("wb") as target:
                np.savez(target, **arrays)  # type: ignore[arg-type]
        return arrays

    def forget(self) -> None:
        """Remove what was kept."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


#: Sizes that decide the shapes of the weights.
_SIZES = ("grid", "channels", "denoiser_channels", "denoiser_layers")
#: Weights of counts, which the first stage learns anew, and those with one row an arm.
_COUNTS = ("encoder.linear_rate", "encoder.columns", "encoder.learned", "encoder.hidden_rate")
_OF_ARMS = ("time_power", "place_arm", "log_mean_volume")


def start_from(network: Network, model: ModelConfig, arms: tuple[str, ...], recipe: TrainingConfig) -> str:
    """Put the weights of the checkpoint ``recipe.init`` into a new network; its checksum.

    What is taken over says where lesions come, when, and of what shape and size; how many is learned anew by the first stage.
    With ``tune="readout"`` the encoder and the denoiser are frozen; times, and what reads places from the encoder, are not.
    From a checkpoint whose denoiser does not see the scan, one that does starts with the same masks.

    Raises
    ------
    UsageError
        If the checkpoint is of another size.
    """
    source = _source(recipe)
    theirs = {"denoiser_channels": 0, **source.header.get("config", {})}
    other = [name for name in _SIZES if theirs.get(name) != getattr(model, name)]
    if theirs.get("denoiser_sees_scan", False) and not model.denoiser_sees_scan:
        other.append("denoiser_sees_scan")
    if other:
        raise UsageError(
            f"`init={recipe.init}`: has {', '.join(f'{name} {theirs.get(name)}' for name in other)}, this model "
            f"{', '.join(str(getattr(model, name)) for name in other)}; name a configuration of the same sizes"
        )
    own, known = network.state_dict(), [str(arm) for arm in source.header["arms"]]
    new = {name: tensor.clone() for name, tensor in own.items()}
    for name, tensor in source.tensors.items():
        part, _, field_ = name.rpartition(".")
        if part == "risk" and field_ in _OF_ARMS:
            for row, arm in enumerate(arms):
                if arm in known:
                    new[name][row] = tensor[known.index(arm)].to(new[name])
        elif part.startswith(("encoder", "denoiser", "risk.place")) and part not in _COUNTS and name in new:
            new[name] = tensor.to(new[name])
    load_tensors(network, new, recipe.init)
    if recipe.tune == "readout":
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith("risk."))
    return source.checksum


def known_rate(recipe: TrainingConfig) -> np.ndarray | None:
    """Weights (Q + P,) of columns and image signals, as they are read, in the log rate of the checkpoint ``recipe.init``.

    None if its rate is not that of a first stage.
    """
    tensors = _source(recipe).tensors
    if "encoder.hidden_rate.weight" in tensors or "encoder.linear_rate.weight" not in tensors:
        return None
    spread = torch.cat([tensors["covariate_sd"], tensors["pooled_sd"]]).double()
    return np.asarray((tensors["encoder.linear_rate.weight"][0].double() / spread).cpu().numpy())


def _source(recipe: TrainingConfig) -> Checkpoint:
    named = recipe.init == "reference"
    return read_checkpoint(Path(str(files("causalms.generator") / "reference.safetensors")) if named else Path(recipe.init))


def optimiser_of(network: Network, recipe: TrainingConfig) -> torch.optim.AdamW:
    """AdamW; the scalars of the risk head move ten times as fast and are not decayed (steps move times alone)."""
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
    tensors |= {f"average.{name}": value for name, value in run.average.items()}
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
    wrong += [] if "stage" in wrong or state["stage"] in ("risk", "denoiser", "finishing") else ["stage"]
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
    run.best, run.average = part("best."), part("average.")
    run.stage, run.step, run.elapsed, run.log = state["stage"], state["step"], state["elapsed"], state["log"]
    run.best_score = float("inf") if state["best_score"] is None else state["best_score"]
    run.optimiser = optimiser_of(run.network, recipe)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in part("optimiser.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    if moments:
        run.optimiser.load_state_dict({**run.optimiser.state_dict(), "state": moments})
