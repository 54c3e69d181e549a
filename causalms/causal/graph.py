"""The causal graph as one Pyro model, and the two questions put to it by Pyro's own handlers.

Per patient::

    trial -> arm                                   (randomised within the trial)
    covariates, scan, arm, week, U -> mask -> count, volume, region counts

The exogenous noise U is an explicit sample site and the mask a deterministic one, so worlds that share U share it bit for bit.
Scenarios (arms x weeks) are one linear axis: ``arm`` and ``week`` are vectors of worlds after ``do``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine

from causalms.causal.mechanism import Mechanism, Noise, Outcome, Subject
from causalms.causal.worlds import Randomisation, Tie, Worlds, WorldsRun, world_seed
from causalms.errors import InputError, UsageError

#: Sites of the model that hold outcomes.
OUTCOME_SITES = ("net2_lesions", "net2_volume_ml", "net2_regions", "mask")


class Exogenous(dist.TorchDistribution):  # type: ignore[misc]  # pyro has no types
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
        return torch.as_tensor(dist.Normal(0.0, 1.0).log_prob(value).flatten(1).sum(1))


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
    trial = pyro.sample("trial", dist.Categorical(torch.from_numpy(randomisation.trial_shares)))
    arm = pyro.sample("arm", dist.Categorical(torch.from_numpy(randomisation.arm_shares)[trial]))
    week = pyro.sample("week", dist.Delta(torch.tensor(float(mechanism.weeks[1]))))
    pyro.deterministic("covariates", _numbers(subject.covariates))
    drawn = [mechanism.noise(subject, draw, seed) for draw in draws]
    with pyro.plate("draws", len(draws)):
        u = {name: pyro.sample(f"U.{name}", Exogenous(_stack([n.normals[name] for n in drawn]))) for name in drawn[0].normals}
    shared = [Noise({name: values[d].numpy() for name, values in u.items()}, drawn[d].key) for d in range(len(draws))]

    arms = arm.reshape(-1, 1) if arm.ndim < 2 else arm
    weeks = week.reshape(-1).expand(len(arms))
    asked = []
    for world in range(len(arms)):
        for d, draw in enumerate(draws):
            name = randomisation.arms[int(arms[world, min(d, arms.shape[1] - 1)])]
            noise = tie.noise(shared[d], name, partial(mechanism.noise, subject, draw, world_seed(seed, name)))
            asked.append((name, float(weeks[world]), noise))
    each = list(mechanism.push_each((subject, *one) for one in asked))
    for name, values in _outcome_sites(each, len(draws)).items():
        pyro.deterministic(name, values)
    return [each[start : start + len(draws)] for start in range(0, len(each), len(draws))]


def _outcome_sites(outcomes: Sequence[Outcome], draws: int) -> dict[str, torch.Tensor]:
    """The sites of :data:`OUTCOME_SITES`, (worlds, draws, ...), of outcomes world by world, draw by draw."""
    shape, first = (-1, draws), outcomes[0]
    sites = {
        "net2_lesions": torch.tensor([o.lesions for o in outcomes], dtype=torch.float64).reshape(shape),
        "net2_volume_ml": torch.tensor([o.volume_ml for o in outcomes], dtype=torch.float64).reshape(shape),
    }
    if first.region_lesions is not None:
        sites["net2_regions"] = torch.tensor([o.region_lesions for o in outcomes]).reshape(*shape, len(first.region_lesions))
    if first.mask is not None:
        sites["mask"] = _stack([o.mask for o in outcomes]).reshape(*shape, *first.mask.shape)
    return sites


def intervened(worlds: Worlds, evidence: Mapping[str, torch.Tensor] | None = None) -> Any:
    """Give the model under ``do(arm, week)``, given evidence: Pyro's condition inside Pyro's do (they commute).

    Parameters
    ----------
    worlds : Worlds
    evidence : mapping of site to value, optional
        Abducted noise ``U.*``, the patient's own trial and natural arm.
    """
    data = {"arm": torch.as_tensor(worlds.arms), "week": torch.as_tensor(worlds.weeks, dtype=torch.float32)}
    return poutine.do(poutine.condition(net2_model, data=dict(evidence or {})), data=data)


def run(model: Any, *arguments: Any) -> dict[str, torch.Tensor]:
    """Values of every site of one execution, by name (the natural arm stands at ``arm``)."""
    with torch.no_grad(), pyro.validation_enabled(False):
        trace = poutine.trace(model).get_trace(*arguments)
    return {name: node["value"] for name, node in trace.nodes.items() if node["type"] == "sample"}


def sample_worlds(asked: WorldsRun) -> dict[str, np.ndarray]:
    """One patient's outcomes in every world, (worlds, draws, ...), by site."""
    values = _run_in_worlds(asked, asked.mechanism)
    return {name: values[name].numpy() for name in OUTCOME_SITES if name in values}


class _Asked:
    """Takes a mechanism's place in one run of the model, and keeps what is asked of it."""

    def __init__(self, mechanism: Mechanism) -> None:
        self.weeks, self.noise = mechanism.weeks, mechanism.noise
        self.rows: list[tuple[Subject, str, float, Noise]] = []

    def push_each(self, asked: Iterable[tuple[Subject, str, float, Noise]]) -> Iterator[Outcome]:
        self.rows = list(asked)
        return (Outcome(0.0, 0.0) for _ in self.rows)


def _run_in_worlds(asked: WorldsRun, mechanism: Mechanism | _Asked) -> dict[str, torch.Tensor]:
    model = intervened(asked.worlds, evidence_of(asked.subject, asked.randomisation, asked.noises))
    return run(model, mechanism, asked.subject, asked.randomisation, asked.draws, asked.seed, asked.tie)


def asked_in_worlds(run_asked: WorldsRun) -> list[tuple[Subject, str, float, Noise]]:
    """What :func:`sample_worlds` asks of the mechanism, world by world, draw by draw; :func:`in_worlds` takes the outcomes."""
    asked = _Asked(run_asked.mechanism)
    _run_in_worlds(run_asked, asked)
    return asked.rows


def in_worlds(outcomes: Sequence[Outcome], draws: int) -> dict[str, np.ndarray]:
    """Outcomes of what :func:`asked_in_worlds` gave, as :func:`sample_worlds` returns them."""
    return {name: values.numpy() for name, values in _outcome_sites(outcomes, draws).items()}


def largest_change_before_treatment(
    mechanism: Mechanism, subject: Subject, randomisation: Randomisation, worlds: Worlds, seed: int
) -> float:
    """Largest change of anything before treatment between the model under do() and the model left alone: 0 by its graph."""
    evidence = evidence_of(subject, randomisation)
    arguments = (mechanism, subject, randomisation, [0], seed)
    before = run(poutine.condition(net2_model, data=evidence), *arguments)
    after = run(intervened(worlds, evidence), *arguments)
    sites = [s for s in before if (s in ("trial", "arm", "covariates") or s.startswith("U.")) and before[s].numel()]
    return max(float((before[s].double() - after[s].double()).abs().nan_to_num().max()) for s in sites)


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
