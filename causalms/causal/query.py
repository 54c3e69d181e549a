"""A causal query as data, its record, and what is refused before anything is computed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from causalms.causal.interventions import Intervention
from causalms.causal.mechanism import COUPLINGS, Mechanism
from causalms.errors import InputError, RefusalError, UsageError, near_or_all
from causalms.tables import name_of

ABDUCTIONS = ("stochastic", "deterministic")
ASSIGNMENTS = ("randomised", "registry")


@dataclass(frozen=True)
class Query:
    """What is asked of a causal model.

    Attributes
    ----------
    interventions : tuple of Intervention
        The arms (or policies) that are set, crossed with ``weeks`` on one linear axis.
    weeks : tuple of float
    draws : int
        Draws of U a patient; particles of its posterior where there is evidence.
    seed : int
    expected : bool
        Expected outcomes instead of draws.
    coupling : {"monotone", "ancestral", "independent", "rho"}
    rho : float, optional
        Correlation of the two worlds' noise, given with coupling ``rho`` only.
    evidence_week : float or None
        Visit whose factual outcome is conditioned on; None asks rung 2.
    abduction : {"stochastic", "deterministic"}
    missing : {"refuse", "skip"}
        What happens to patients without evidence.
    assignment : {"randomised", "registry"}
        How the arms of the table came about (:meth:`CausalModel.do`).

    Raises
    ------
    UsageError
        If the coupling is unknown, or ``rho`` is given without it or missing with it.

    Examples
    --------
    >>> from causalms.causal import value
    >>> Query((value("drug"),), (48.0,), coupling="rho", rho=0.5, evidence_week=48.0).rung
    3
    """

    interventions: tuple[Intervention, ...]
    weeks: tuple[float, ...]
    draws: int = 64
    seed: int = 0
    expected: bool = False
    coupling: str = "monotone"
    rho: float | None = None
    evidence_week: float | None = None
    abduction: str = "stochastic"
    missing: str = "refuse"
    assignment: str = "randomised"

    def __post_init__(self) -> None:
        correlation_of(self.coupling, self.rho)

    @property
    def correlation(self) -> float:
        """Correlation of normal scores of U between the factual world and another."""
        return correlation_of(self.coupling, self.rho)

    @property
    def rung(self) -> int:
        """2 without evidence, 3 with."""
        return 2 if self.evidence_week is None else 3

    def refuse_nonsense(self) -> None:
        """Refuse what makes no sense whatever the mechanism, so that it can be said before a model is loaded or fitted.

        Raises
        ------
        UsageError
            If an argument is unknown, empty, repeated or contradicts another.
        """
        if not self.interventions:
            raise UsageError("no arm to set; name at least one `arm` or a policy")
        names = [i.name for i in self.interventions]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"{twice!r} is asked for twice; name each arm once, and give policies names of their own")
        if not self.weeks or any(not math.isfinite(w) for w in self.weeks) or len(set(self.weeks)) < len(self.weeks):
            raise UsageError(f"weeks are {list(self.weeks)}; give visit weeks, each once")
        if not isinstance(self.draws, int | np.integer) or self.draws < 1:
            raise UsageError(f"`draws` is {self.draws}; give at least 1")
        if self.missing not in ("refuse", "skip"):
            raise UsageError(f"`missing` is {self.missing!r}; choose refuse or skip")
        if self.abduction not in ABDUCTIONS:
            raise UsageError(f"`abduction` {self.abduction!r} is unknown; choose {' or '.join(ABDUCTIONS)}")
        if self.rung == 2 and self.coupling == "rho":
            raise UsageError("`coupling=rho` ties a world to a factual one; use it with counterfactual()")
        if self.rung == 3 and self.expected:
            raise UsageError("expected outcomes are rung 2; a counterfactual needs particles: leave `expected` out")
        if self.assignment not in ASSIGNMENTS:
            raise UsageError(f"`assignment`: {self.assignment!r} is unknown; choose {' or '.join(ASSIGNMENTS)}")
        if self.assignment == "registry" and self.rung == 3:
            raise UsageError("`assignment=registry` is about effects in a population; ask for do()")

    def refuse_if_unanswerable(self, mechanism: Mechanism) -> None:
        """Refuse, by name and with the mend, what a mechanism cannot answer honestly.

        Raises
        ------
        UsageError
            If the call makes no sense whatever the mechanism.
        RefusalError
            If this mechanism cannot answer it.
        """
        self.refuse_nonsense()
        name, can = mechanism.name, mechanism.capabilities
        guidance = float(mechanism.description.get("guidance", 1.0))
        if guidance != 1.0:
            raise RefusalError(
                f"mechanism {name!r} samples with guidance {name_of(guidance)}, which biases every effect; set guidance to 1"
            )
        if not self.expected and getattr(mechanism, "cache", None):
            raise UsageError("`cache` keeps what expected outcomes need; ask for them (`expected`), or leave it out")
        if self.expected and "expect" not in can:
            raise RefusalError(f"mechanism {name!r} has no expect; sample instead (leave `expected` out)")
        if not self.expected and "push" not in can:
            raise RefusalError(f"mechanism {name!r} has no push; ask for expected outcomes (`expected=True`)")
        if self.rung == 3:
            self._refuse_abduction(mechanism)
        if self.coupling not in mechanism.couplings:
            raise RefusalError(
                f"mechanism {name!r} has no coupling {self.coupling!r}; choose {', '.join(sorted(mechanism.couplings))}"
            )
        for intervention in self.interventions:
            if intervention.kind != "value" and intervention.name in mechanism.arms:
                raise UsageError(f"a {intervention.kind} cannot be called {intervention.name!r}, the name of an arm; rename it")
            refuse_arms(intervention.arms, mechanism)
        first, last = mechanism.weeks
        for week in (*self.weeks, *(() if self.evidence_week is None else (self.evidence_week,))):
            if not max(first, 0.0) <= week <= last or week == 0:
                raise RefusalError(
                    f"week {name_of(week)} is outside what {name!r} was trained on ({name_of(first)} to {name_of(last)}); "
                    "choose a week inside"
                )

    def refuse_unknown_columns(self, participants: pd.DataFrame) -> None:
        """Refuse a policy that asks for a column the participants table does not have.

        Raises
        ------
        InputError
            Naming policy, column and the columns there are.
        """
        for intervention in self.interventions:
            for column in intervention.columns:
                if column not in participants:
                    known = ", ".join(map(str, participants.columns))
                    raise InputError(f"policy {intervention.name!r}: no column {column!r}; known are {known}")

    def _refuse_abduction(self, mechanism: Mechanism) -> None:
        name = mechanism.name
        if "abduct" not in mechanism.capabilities:
            raise RefusalError(f"mechanism {name!r} has no abduct, so it cannot explain a factual outcome; ask for do() instead")
        if mechanism.description.get("clipping"):
            raise RefusalError(f"mechanism {name!r} clips while sampling, which no abduction can invert; switch clipping off")
        if self.abduction == "deterministic" and "deterministic-abduct" not in mechanism.capabilities:
            raise RefusalError(f"mechanism {name!r} has no deterministic abduction; use `abduction=stochastic`")


@dataclass(frozen=True)
class QueryRecord:
    """Everything needed to ask the same query again, as JSON values; its digest is the query_id.

    Attributes
    ----------
    content : mapping

    Examples
    --------
    >>> QueryRecord({"seed": 0}).query_id == QueryRecord({"seed": 0}).query_id
    True
    """

    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def query_id(self) -> str:
        """First 12 hexadecimal digits of the record's SHA-256."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def correlation_of(coupling: str, rho: float | None) -> float:
    """Correlation that a coupling stands for.

    Raises
    ------
    UsageError
        If the coupling is unknown, or rho is given without it or missing with it.

    Examples
    --------
    >>> correlation_of("monotone", None), correlation_of("independent", None), correlation_of("rho", 0.5)
    (1.0, 0.0, 0.5)
    """
    if coupling not in COUPLINGS:
        raise UsageError(f"`coupling`: {coupling!r} is unknown; choose {', '.join(COUPLINGS)}")
    if (coupling == "rho") != (rho is not None):
        raise UsageError("`coupling=rho` and a value for `rho` go together; give both or neither")
    if rho is None:
        return 0.0 if coupling == "independent" else 1.0
    if not -1.0 <= rho <= 1.0:
        raise UsageError(f"`rho` is {rho}; give a correlation from -1 (mirrored) over 0 (independent) to 1 (shared)")
    return float(rho)


def record_of(query: Query, mechanism: Mechanism, participants: pd.DataFrame, trial_name: str) -> QueryRecord:
    """The full record of a query put to a mechanism about these patients."""
    from causalms import __version__

    digest = hashlib.sha256(pd.util.hash_pandas_object(participants.astype(str), index=False).to_numpy().tobytes()).hexdigest()
    known = getattr(mechanism, "digest", None)  # of what lies beside the network, where there is something
    evidence = None
    if query.evidence_week is not None:
        seen = "NET2 mask" if "mask" in mechanism.capabilities else "NET2 count and volume"
        evidence = {"week": query.evidence_week, "outcome": seen, "missing": query.missing}
    return QueryRecord(
        {
            "query": "interventional" if query.rung == 2 else "counterfactual",
            "rung": query.rung,
            "intervention": [{"name": i.name, "kind": i.kind, **i.words} for i in query.interventions],
            "weeks": list(query.weeks),
            "evidence": evidence,
            "coupling": query.coupling,
            "rho": query.correlation,
            "abduction": query.abduction if evidence else None,
            "expected": query.expected,
            "draws": None if query.expected else query.draws,
            "seed": query.seed,
            "mechanism": mechanism.name,
            "model_checksum": mechanism.checksum,
            **({} if known is None else {"model_digest": known}),
            "guidance": float(mechanism.description.get("guidance", 1.0)),
            "lesion_rule": mechanism.description.get("lesion_rule"),
            "model": dict(mechanism.description),
            "trial": trial_name,
            "participants": len(participants),
            "participants_digest": digest[:16],
            "version": __version__,
        }
    )


def refuse_arms(arms: str | Sequence[str] | Mapping[str, float], mechanism: Mechanism) -> None:
    """Refuse arms that the mechanism never saw."""
    for arm in (arms,) if isinstance(arms, str) else arms:
        if arm not in mechanism.arms:
            mend = near_or_all(arm, mechanism.arms, "name one of", always=True)
            raise RefusalError(f"arm {arm!r} is outside the support of {mechanism.name!r}; {mend}")
