"""The contract between a causal model and whatever makes NET2 outcomes: noise, push, abduct, expect.

A mechanism is the structural equation of the outcome, ``outcome = f(covariates, scan, arm, week, U)``, for one patient at
a time.  It declares what it can do; a query that needs more is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from causalms.errors import RefusalError, UsageError
from causalms.stats import ErrorModel, keyed_generator
from causalms.tables import ModelError

#: What a mechanism may declare: sample outcomes, expectations without sampling, posterior noise given an outcome, masks,
#: and the deterministic (dequantised, fixed-point) form of abduction.
CAPABILITIES = frozenset({"push", "expect", "abduct", "mask", "deterministic-abduct"})

#: How the noise of two worlds of one patient is tied.
COUPLINGS = ("monotone", "ancestral", "independent", "rho")


@dataclass(frozen=True)
class Subject:
    """One patient as the mechanism sees them: everything before treatment, prepared once for all arms, weeks and draws.

    Attributes
    ----------
    participant_id, trial : str
    arm_randomised : str or None
        The arm the patient was randomised to.
    covariates : mapping of str to value
        The patient's row of the participants table.
    encoding : Any
        What the mechanism keeps of the scan (an encoded image, a linear predictor).
    missing : tuple of str
        Inputs that the patient lacks and the mechanism does without.
    """

    participant_id: str
    trial: str
    arm_randomised: str | None
    covariates: Mapping[str, Any] = field(default_factory=dict, repr=False)
    encoding: Any = field(default=None, repr=False)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Noise:
    r"""Exogenous noise U of one patient and draw, every component as independent standard normals a priori.

    A uniform enters as its normal score :math:`\Phi^{-1}(u)`, a gamma frailty as :math:`\Phi^{-1}(F(u))`, so that one rule
    mixes everything.

    Attributes
    ----------
    normals : mapping of str to array
        Named components, each of a shape of its own.
    key : tuple of int
        For mechanisms that expand part of their noise on demand (a sampler path): the key of that part.

    Examples
    --------
    >>> first, second = Noise({"u": np.array([1.0])}), Noise({"u": np.array([-1.0])})
    >>> float(first.mix(second, rho=0.6).normals["u"][0])
    -0.20000000000000007
    >>> first.mix(second, rho=1.0) is first
    True
    """

    normals: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    key: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "normals", dict(self.normals))

    def mix(self, other: Noise, rho: float) -> Noise:
        r"""Gaussian copula with correlation rho, element by element: :math:`\rho z + \sqrt{1-\rho^2}\,z'`.

        With ``other`` an independent redraw the result keeps the prior law; 1 gives this noise, 0 gives ``other``, -1 the
        mirror image of this noise.

        Raises
        ------
        UsageError
            If rho is outside [-1, 1] or the components differ.
        RefusalError
            If part of the noise exists only as a key, which cannot be mixed.
        """
        if not -1.0 <= rho <= 1.0:
            raise UsageError(f"`rho` is {rho}; give a correlation from -1 (mirrored) over 0 (independent) to 1 (shared)")
        if rho == 1.0:
            return self
        if rho == 0.0:
            return other
        if self.normals.keys() != other.normals.keys():
            raise UsageError(f"noises of components {sorted(self.normals)} and {sorted(other.normals)} cannot be mixed")
        if self.key != other.key:
            raise RefusalError("a sampler path that exists only as a key cannot be mixed; use coupling monotone with rho")
        share = np.sqrt(1.0 - rho * rho)
        return replace(self, normals={name: rho * z + share * other.normals[name] for name, z in self.normals.items()})


@dataclass(frozen=True)
class Outcome:
    """What one patient has at one visit: NET2 lesions since baseline.

    Attributes
    ----------
    lesions : float
        Count by the mechanism's lesion rule.
    volume_ml : float
    region_lesions : tuple of int or None
        One count a region in the order of :data:`causalms.tables.REGIONS`.
    mask : bool array or None
        The NET2 mask on the model's grid; None from mechanisms that give counts only.
    """

    lesions: float
    volume_ml: float
    region_lesions: tuple[int, ...] | None = None
    mask: npt.NDArray[np.bool_] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Expected:
    """The law of one patient's outcome by one evaluation, without sampling.

    Attributes
    ----------
    lesions, volume_ml : float
        Expected count and volume.
    activity_probability : float
        P(at least one lesion).
    dispersion : float
        Negative-binomial alpha of the count: variance = m + alpha m^2; 0 is Poisson.
    """

    lesions: float
    volume_ml: float
    activity_probability: float
    dispersion: float


@runtime_checkable
class Mechanism(Protocol):
    """The structural equation of NET2 outcomes for one patient at a time.

    Attributes
    ----------
    name : str
    arms : tuple of str
        The arms it was trained on; others are refused.
    weeks : tuple of float
        First and last visit week it was trained on.
    capabilities : frozenset of str
        Subset of push, expect, abduct, mask, deterministic-abduct.
    couplings : frozenset of str
        Subset of :data:`COUPLINGS` that it can serve.
    checksum : str
        Identifies the fitted weights in every query record.
    description : mapping
        What the query record says about it (guidance, lesion rule, ...); JSON values only.
    """

    @property
    def name(self) -> str:
        """What messages and records call it."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms it was trained on."""

    @property
    def efficacy_order(self) -> tuple[str, ...]:
        """Its arms from the least to the most effective one, along which a shift moves."""

    @property
    def weeks(self) -> tuple[float, float]:
        """First and last visit week it was trained on."""

    @property
    def capabilities(self) -> frozenset[str]:
        """Subset of push, expect, abduct, mask, deterministic-abduct."""

    @property
    def couplings(self) -> frozenset[str]:
        """Subset of :data:`COUPLINGS`."""

    @property
    def checksum(self) -> str:
        """Of the fitted weights."""

    @property
    def description(self) -> Mapping[str, Any]:
        """For the query record."""

    def prepare(self, trial: Any, participant_id: str) -> Subject:
        """Everything before treatment, read and encoded once."""

    def noise(self, subject: Subject, draw: int, seed: int) -> Noise:
        """Exogenous noise, keyed by (patient, mechanism, draw, seed): never by arm, batch, order or worker."""

    def push(self, subject: Subject, arm: str, week: float, noise: Noise) -> Outcome:
        """The outcome in the world where the patient has ``arm``: a deterministic function of its arguments."""

    def push_each(self, asked: Iterable[tuple[Subject, str, float, Noise]]) -> Iterator[Outcome]:
        """The outcome of every (subject, arm, week, noise), as ``push`` gives it."""

    @property
    def at_once(self) -> int:
        """Outcomes that it is fastest with together."""

    def expect(self, subject: Subject, arm: str, week: float) -> Expected:
        """The law of the outcome by one evaluation."""

    def abduct(
        self, subject: Subject, arm: str, week: float, outcome: Outcome, draw: int, seed: int, method: str = "stochastic"
    ) -> Noise:
        """One particle of the posterior of U given that the patient had ``outcome`` under ``arm`` at ``week``."""

    def error(self, subject: Subject, arm: str, week: float) -> ModelError | None:
        """How far its own law of the count may be wrong; None where that is unknown."""

    @property
    def error_model(self) -> ErrorModel | None:
        """The stored error model that :meth:`error` speaks from; None where there is none."""

    def error_columns(self, row: Mapping[Any, Any]) -> npt.NDArray[np.floating[Any]]:
        """Columns (q,) of a patient's row that the error model reads."""

    def risk_map(self, subject: Subject, arm: str, week: float) -> npt.NDArray[np.floating[Any]]:
        """P(voxel is in a NET2 lesion) on the model's grid (mechanisms with masks only)."""

    def measure(self, mask: npt.NDArray[np.bool_]) -> Outcome:
        """Count and volume of a mask by the mechanism's lesion rule (mechanisms with masks only)."""

    def for_coupling(self, coupling: str) -> Mechanism:
        """The same outcome law with the structural equation that this coupling shares between worlds."""


class MechanismBase:
    """What a mechanism of a user's own inherits: honest defaults, and refusals for what it does not implement.

    Examples
    --------
    >>> class Coin(MechanismBase):
    ...     name, arms = "coin", ("placebo",)
    >>> Coin().abduct(Subject("p1", "t", "placebo"), "placebo", 48, Outcome(1, 0.1), 0, 0)
    Traceback (most recent call last):
    ...
    causalms.errors.RefusalError: mechanism 'coin' has no abduct; counterfactual queries need one, interventional ones do not
    """

    name: str = "mechanism"
    arms: tuple[str, ...] = ()
    weeks: tuple[float, float] = (0.0, 96.0)
    capabilities: frozenset[str] = frozenset({"push"})
    couplings: frozenset[str] = frozenset({"monotone", "independent", "rho"})
    checksum: str = ""
    description: Mapping[str, Any] = MappingProxyType({})

    @property
    def efficacy_order(self) -> tuple[str, ...]:
        """The arms as they are named."""
        return self.arms

    def prepare(self, trial: Any, participant_id: str) -> Subject:
        """The patient's row of the participants table, nothing encoded."""
        row = trial.participants.set_index("participant_id").loc[participant_id]
        arm = row.get("arm")
        return Subject(participant_id, str(row["trial"]), arm if isinstance(arm, str) else None, row.to_dict())

    def noise(self, subject: Subject, draw: int, seed: int) -> Noise:
        """One standard normal ``u``, keyed by (patient, mechanism, draw, seed)."""
        return Noise({"u": keyed_generator(self.name, subject.participant_id, draw, seed).standard_normal(1)})

    def push(self, subject: Subject, arm: str, week: float, noise: Noise) -> Outcome:
        """Refuse: nothing to sample."""
        raise RefusalError(f"mechanism {self.name!r} has no push; ask for expected outcomes (`expected=True`)")

    def push_each(self, asked: Iterable[tuple[Subject, str, float, Noise]]) -> Iterator[Outcome]:
        """Push every (subject, arm, week, noise) in turn; a mechanism that is faster at several has a way of its own."""
        return (self.push(*one) for one in asked)

    @property
    def at_once(self) -> int:
        """One."""
        return 1

    def expect(self, subject: Subject, arm: str, week: float) -> Expected:
        """Refuse: no closed form."""
        raise RefusalError(f"mechanism {self.name!r} has no expect; sample instead (`expected=False`)")

    def abduct(
        self, subject: Subject, arm: str, week: float, outcome: Outcome, draw: int, seed: int, method: str = "stochastic"
    ) -> Noise:
        """Refuse: no posterior of the noise."""
        raise RefusalError(f"mechanism {self.name!r} has no abduct; counterfactual queries need one, interventional ones do not")

    def error(self, subject: Subject, arm: str, week: float) -> ModelError | None:
        """Unknown: results print neither interval nor p-value."""
        return None

    @property
    def error_model(self) -> ErrorModel | None:
        """Unknown: recalibration starts from wide priors."""
        return None

    def error_columns(self, row: Mapping[Any, Any]) -> npt.NDArray[np.floating[Any]]:
        """Columns of a patient that the error model reads: none."""
        return np.zeros(0)

    def risk_map(self, subject: Subject, arm: str, week: float) -> npt.NDArray[np.floating[Any]]:
        """Refuse: no place."""
        raise RefusalError(f"mechanism {self.name!r} gives counts without place; use a mechanism with masks")

    def measure(self, mask: npt.NDArray[np.bool_]) -> Outcome:
        """Refuse: no masks."""
        raise RefusalError(f"mechanism {self.name!r} gives counts without masks; use a mechanism with masks")

    def for_coupling(self, coupling: str) -> Mechanism:
        """Give this mechanism itself, if it serves the coupling."""
        if coupling not in self.couplings:
            raise RefusalError(
                f"mechanism {self.name!r} has no coupling {coupling!r}; it serves {', '.join(sorted(self.couplings))}"
            )
        return self
