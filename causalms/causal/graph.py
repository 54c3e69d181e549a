"""The causal graph as one Pyro model, and the two questions put to it by Pyro's own handlers.

Per patient::

    trial -> arm                                   (randomised within the trial)
    covariates, scan, arm, week, U -> mask -> count, volume, region counts

The exogenous noise U is an explicit sample site and the mask a deterministic one, so worlds that share U share it bit for bit.
Scenarios (arms x weeks) are one linear axis: ``arm`` and ``week`` are vectors of worlds after ``do``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from causalms.causal.mechanism import Mechanism, Noise, Outcome, Subject
from causalms.errors import InputError, UsageError


@dataclass(frozen=True)
class Randomisation:
    """Who gets which arm: shares of trials, and of arms within each trial.

    Attributes
    ----------
    trials, arms : tuple of str
    trial_shares : tensor, shape (trials,)
    arm_shares : tensor, shape (trials, arms)
    """

    trials: tuple[str, ...]
    arms: tuple[str, ...]
    trial_shares: torch.Tensor
    arm_shares: torch.Tensor

    @classmethod
    def of(cls, participants: pd.DataFrame, arms: Sequence[str]) -> Randomisation:
        """Shares seen in a participants table; arms of the mechanism come first, arms that only the table has after them.

        Examples
        --------
        >>> table = pd.DataFrame({"trial": ["A", "A", "B"], "arm": ["placebo", "x", "x"]})
        >>> Randomisation.of(table, ["placebo", "x"]).arm_shares.tolist()
        [[0.5, 0.5], [0.0, 1.0]]
        """
        known = [str(a) for a in participants["arm"].dropna().unique()]
        names = tuple(dict.fromkeys([*arms, *sorted(known)]))
        trials = tuple(sorted(str(t) for t in participants["trial"].unique()))
        counts = np.zeros((len(trials), len(names)))
        for trial, arm in zip(participants["trial"], participants["arm"], strict=True):
            if isinstance(arm, str):
                counts[trials.index(str(trial)), names.index(arm)] += 1
        empty = counts.sum(1) == 0
        counts[empty] = 1.0  # a trial nobody was randomised in: any arm alike, and no query depends on it
        patients = participants["trial"].value_counts()
        shares = torch.tensor([float(patients[t]) for t in trials])
        return cls(trials, names, shares / shares.sum(), torch.tensor(counts / counts.sum(1, keepdims=True)))

    def randomised(self, arm: str, other: str) -> bool:
        """Whether some trial randomises both arms."""
        if arm not in self.arms or other not in self.arms:
            return False
        both = self.arm_shares[:, [self.arms.index(arm), self.arms.index(other)]] > 0
        return bool(both.all(dim=1).any())


@dataclass(frozen=True)
class Tie:
    """How the noise of two worlds of one patient is tied.

    Attributes
    ----------
    coupling : {"monotone", "ancestral", "independent", "rho"}
    rho : float
        Correlation of normal scores between the factual world and another; 1 unless coupling is independent (0) or rho
        (-1 to 1).
    factual_arm : str or None
        The world that evidence came from keeps its own noise (consistency); None at rung 2.
    """

    coupling: str = "monotone"
    rho: float = 1.0
    factual_arm: str | None = None

    def noise(self, shared: Noise, arm: str, redraw: Any) -> Noise:
        """Noise of the world ``arm``; ``redraw`` gives that world's own noise when it is needed."""
        if arm == self.factual_arm or self.rho == 1.0:
            return shared
        return shared.mix(redraw(), self.rho)


class Exogenous(dist.TorchDistribution):
    """Standard normal noise whose draws are looked up by key instead of taken from global random state."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - the name and form that torch expects
    support = dist.constraints.real

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        super().__init__(values.shape[:1], values.shape[1:], validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> Exogenous:
        """Itself: one value a draw is already there."""
        if tuple(batch_shape) != tuple(self.batch_shape):
            raise UsageError(f"noise of {tuple(self.batch_shape)} draws cannot be asked for {tuple(batch_shape)}")
        return self

    def sample(self, sample_shape: torch.Size = torch.Size()) -> torch.Tensor:  # noqa: B008 - torch's signature
        """The keyed values."""
        return self.values

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """Of the standard normal law that the keys stand for."""
        return dist.Normal(0.0, 1.0).log_prob(value).flatten(1).sum(1)


def net2_model(
    mechanism: Mechanism,
    subject: Subject,
    randomisation: Randomisation,
    draws: Sequence[int],
    seed: int,
    tie: Tie = Tie(),
) -> list[list[Outcome]]:
    """Generate one patient's outcome: the structural causal model that every query conditions and intervenes on.

    Sites: ``trial``, ``arm``, ``week``, ``covariates``, ``U.*`` (exogenous), ``mask``, ``net2_lesions``, ``net2_volume_ml``,
    ``net2_regions``; outcomes have shape (worlds, draws).

    Returns
    -------
    list of list of Outcome
        By world, by draw.
    """
    trial = pyro.sample("trial", dist.Categorical(randomisation.trial_shares))
    arm = pyro.sample("arm", dist.Categorical(randomisation.arm_shares[trial]))
    week = pyro.sample("week", dist.Delta(torch.tensor(float(mechanism.weeks[1]))))
    pyro.deterministic("covariates", _numbers(subject.covariates))
    drawn = [mechanism.noise(subject, draw, seed) for draw in draws]
    with pyro.plate("draws", len(draws)):
        u = {name: pyro.sample(f"U.{name}", Exogenous(_stack([n.normals[name] for n in drawn]))) for name in drawn[0].normals}
    shared = [Noise({name: values[d].numpy() for name, values in u.items()}, drawn[d].key) for d in range(len(draws))]

    arms = torch.atleast_1d(arm).reshape(-1, 1) if arm.ndim < 2 else arm
    weeks = torch.atleast_1d(week).expand(len(arms))
    outcomes = []
    for world in range(len(arms)):
        column = []
        for d, draw in enumerate(draws):
            name = randomisation.arms[int(arms[world, min(d, arms.shape[1] - 1)])]
            noise = tie.noise(shared[d], name, lambda n=name, k=draw: mechanism.noise(subject, k, world_seed(seed, n)))
            column.append(mechanism.push(subject, name, float(weeks[world]), noise))
        outcomes.append(column)

    if outcomes[0][0].mask is not None:
        pyro.deterministic("mask", torch.stack([_stack([o.mask for o in column]) for column in outcomes]))
    pyro.deterministic("net2_lesions", torch.tensor([[o.lesions for o in c] for c in outcomes], dtype=torch.float64))
    pyro.deterministic("net2_volume_ml", torch.tensor([[o.volume_ml for o in c] for c in outcomes], dtype=torch.float64))
    if outcomes[0][0].region_lesions is not None:
        pyro.deterministic("net2_regions", torch.tensor([[o.region_lesions for o in c] for c in outcomes]))
    return outcomes


@dataclass(frozen=True)
class Worlds:
    """The linear axis of scenarios: one arm (or one arm a draw, under a stochastic policy) and one week each.

    Attributes
    ----------
    arms : int tensor, shape (worlds, 1) or (worlds, draws)
        Index in :attr:`Randomisation.arms`.
    weeks : float tensor, shape (worlds,)
    """

    arms: torch.Tensor
    weeks: torch.Tensor


def intervened(worlds: Worlds, evidence: Mapping[str, torch.Tensor] | None = None) -> Any:
    """Give the model under ``do(arm, week)``, given evidence: Pyro's condition inside Pyro's do (they commute).

    Parameters
    ----------
    worlds : Worlds
    evidence : mapping of site to value, optional
        Abducted noise ``U.*``, the patient's own trial and natural arm.
    """
    data = {"arm": worlds.arms, "week": worlds.weeks}
    return poutine.do(poutine.condition(net2_model, data=dict(evidence or {})), data=data)


def run(model: Any, *arguments: Any) -> dict[str, torch.Tensor]:
    """Values of every site of one execution, by name (the natural arm stands at ``arm``)."""
    with torch.no_grad(), pyro.validation_enabled(False):
        trace = poutine.trace(model).get_trace(*arguments)
    return {name: node["value"] for name, node in trace.nodes.items() if node["type"] == "sample"}


def evidence_of(subject: Subject, randomisation: Randomisation, noises: Sequence[Noise] = ()) -> dict[str, torch.Tensor]:
    """What is known of a patient: the trial, the randomised arm and, after abduction, particles of the noise."""
    known = {"trial": torch.tensor(randomisation.trials.index(subject.trial))}
    if subject.arm_randomised in randomisation.arms:
        known["arm"] = torch.tensor(randomisation.arms.index(subject.arm_randomised))
    else:
        known["arm"] = torch.tensor(0)  # not randomised: a placeholder, for do() cuts the edge from it
    if noises:
        if any(n.normals.keys() != noises[0].normals.keys() for n in noises):
            raise InputError(f"participant {subject.participant_id}: particles have unlike noise components; a mechanism defect")
        known |= {f"U.{name}": _stack_ragged([n.normals[name] for n in noises]) for name in noises[0].normals}
    return known


def world_seed(seed: int, arm: str) -> int:
    """Seed of the noise that belongs to one arm's world alone, for couplings that redraw.

    Examples
    --------
    >>> world_seed(0, "placebo") != world_seed(0, "ocrelizumab")
    True
    """
    return int.from_bytes(hashlib.sha256(f"world|{seed}|{arm}".encode()).digest()[:6], "big")


def _stack(arrays: Sequence[Any]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))


def _stack_ragged(arrays: Sequence[Any]) -> torch.Tensor:
    """Stack; shorter paths are continued by plus infinity scores of waiting time, which no outcome reaches."""
    length = max(len(a) for a in arrays)
    if all(len(a) == length for a in arrays):
        return _stack(arrays)
    return _stack([np.concatenate([a, np.full((length - len(a), *a.shape[1:]), 8.0)]) for a in arrays])


def _numbers(covariates: Mapping[str, Any]) -> torch.Tensor:
    values = [v for v in covariates.values() if isinstance(v, int | float | np.number) and not isinstance(v, bool)]
    return torch.tensor([float(v) for v in values], dtype=torch.float64)
