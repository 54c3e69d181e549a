"""The model's own error in causal results: carried by each patient's law, and as the text that a draws table holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.causal.bounds import (
    Bounds,
    Law,
    activity_harm_bounds,
    benefit_bounds,
    frechet_hoeffding,
    harm_bounds,
    twin_mean_bounds,
)
from causalms.causal.mechanism import Mechanism, Subject
from causalms.causal.query import Query
from causalms.tables import MODEL_ERROR, ModelError


def error_texts(mechanism: Mechanism, subject: Subject, query: Query) -> list[str] | None:
    """The error of every world (interventions x weeks) of one patient; None where the mechanism does not know its own.

    Raises
    ------
    RefusalError
        If an arm or week is outside the mechanism's support.
    """
    worlds = [(intervention.law(subject), week) for intervention in query.interventions for week in query.weeks]
    texts = []
    for law, week in worlds:
        parts = [(share, mechanism.error(subject, arm, week)) for arm, share in law.items()]
        if any(error is None for _, error in parts):
            return None
        known = [(share, error) for share, error in parts if error is not None]
        if len(known) == 1:
            texts.append(known[0][1].text())
            continue
        means = [share * mechanism.expect(subject, arm, week).lesions for arm, share in law.items()]
        texts.append(_mixed([error for _, error in known], np.array([share for share, _ in known]), np.array(means)).text())
    return texts


def _mixed(errors: list[ModelError], shares: np.ndarray, means: np.ndarray) -> ModelError:
    """The error of a mixture of arms: log means weighted by their part of the mean, activities by their shares."""
    weights = means / means.sum() if means.sum() > 0 else shares
    log_mean = weights @ np.array([error.log_mean for error in errors])
    slope = float(shares @ [error.activity_slope for error in errors])
    size = float(np.linalg.norm(shares * [error.activity_size for error in errors]))
    return replace(errors[0], log_mean=log_mean, activity_slope=slope, activity_size=size, log_volume=np.nan, log_size=np.nan)


FloatArray = npt.NDArray[np.floating]
#: Step of the numerical slopes by log mean and log dispersion: about the size of the errors themselves.
_STEP = 0.1
#: What is said of one patient's twin.
TWIN = ("benefit", "harm", "active", "lesions")
#: Ends of the bounds of what is said of two worlds together.
JOINT = tuple((name, side) for name in TWIN[:3] for side in ("lower", "upper"))


@dataclass(frozen=True)
class CountLaw:
    """A negative-binomial law of one patient's count under one arm, and how far it may be wrong.

    Attributes
    ----------
    mean, dispersion : float
    error : ModelError or None
        None where it is unknown.
    """

    mean: float
    dispersion: float
    error: ModelError | None = None

    @property
    def source(self) -> str:
        """What its error was learned on, in words."""
        return "" if self.error is None else self.error.source

    @property
    def law(self) -> Law:
        """Support and probabilities."""
        return Law.negative_binomial(self.mean, self.dispersion)

    def moved(self, log_mean: float, log_dispersion: float) -> CountLaw:
        """The law with other parameters."""
        return CountLaw(self.mean * float(np.exp(log_mean)), self.dispersion * float(np.exp(log_dispersion)))


def count_laws(marginals: pd.DataFrame, week: float) -> dict[tuple[str, str], CountLaw]:
    """Count laws from (participant_id, arm), of an expected table; none from draws, whose laws have no parameters."""
    rows = marginals[(marginals["visit_week"] == week) & (marginals["query"] == "interventional")]
    if "expected_net2_lesions" not in rows:
        return {}
    texts = rows[MODEL_ERROR] if MODEL_ERROR in rows else pd.Series(None, index=rows.index, dtype=object)
    values = rows[["participant_id", "arm", "expected_net2_lesions", "dispersion"]].itertuples(index=False)
    return {
        (str(p), str(a)): CountLaw(float(m), float(d), ModelError.read(text) if isinstance(text, str) and text else None)
        for (p, a, m, d), text in zip(values, texts, strict=True)
    }


def given_fact(reference: CountLaw, arm: CountLaw, fact: float, shared: float) -> dict[str, float]:
    """What the twin would have, given the fact: benefit, harm, active and lesions; for slopes only.

    Parameters
    ----------
    reference, arm : CountLaw
    fact : float
    shared : float
        How much of the frailty the two worlds share, from 0 to 1.
    """
    alone = arm.law
    laws = [(1 - shared, alone)]
    if shared > 0:
        size, own = (1 / max(law.dispersion, 1e-9) for law in (reference, arm))
        frailty = (size + fact) / (size + reference.mean)
        laws.append((shared, Law.negative_binomial(arm.mean * frailty, 1 / (own + fact))))
    return {
        "benefit": sum(share * float(law.below(fact)) for share, law in laws),
        "harm": sum(share * (1 - float(law.at_most(fact))) for share, law in laws),
        "active": sum(share * (1 - float(law.at_most(0.0))) for share, law in laws),
        "lesions": sum(share * law.mean for share, law in laws),
    }


def directions(numbers: Callable[[CountLaw, CountLaw], FloatArray], reference: CountLaw, arm: CountLaw) -> FloatArray | None:
    """Errors (numbers, E + 2) of numbers of two laws along independent standard normal directions; None where unknown.

    The last two are the dispersions of the two arms.

    Examples
    --------
    >>> error = ModelError("m", "from 9 patients", np.array([0.1, 0.0]), 0.0, 0.0, log_size=0.2)
    >>> laws = CountLaw(2.0, 1.0, error), CountLaw(1.0, 1.0, error)
    >>> directions(lambda zero, one: np.array([zero.mean / one.mean, zero.mean]), *laws).round(2).tolist()
    [[0.0, 0.0, 0.0, 0.0], [0.2, 0.0, 0.0, 0.0]]
    """
    if reference.error is None or arm.error is None or reference.error.model != arm.error.model:
        return None
    sides = []
    for law, other, first in ((reference, arm, True), (arm, reference, False)):
        for step in ((_STEP, 0.0), (0.0, _STEP)):
            ends = [law.moved(*(sign * size for size in step)) for sign in (1.0, -1.0)]
            values = [numbers(end, other) if first else numbers(other, end) for end in ends]
            sides.append((values[0] - values[1]) / (2 * _STEP))
    by_reference, by_reference_size, by_arm, by_arm_size = sides
    log_mean = np.outer(by_reference, reference.error.log_mean) + np.outer(by_arm, arm.error.log_mean)
    sizes = np.column_stack([by_reference_size * reference.error.log_size, by_arm_size * arm.error.log_size])
    return np.column_stack([log_mean, sizes])


def twin_bounds(reference: Law, other: Law, fact: float) -> dict[str, Bounds]:
    """Bounds of what one patient's twin would have, given the fact."""
    p = event_probability(reference, fact)
    return {
        "benefit": _given(p, float(other.below(fact))),
        "harm": _given(p, 1 - float(other.at_most(fact))),
        "active": _given(p, 1 - float(other.at_most(0.0))),
        "lesions": twin_mean_bounds(other, p) if p > 0 else Bounds(0.0, np.inf),
    }


def twin_directions(
    known: dict[tuple[str, str], CountLaw], key: tuple[str, str, str], fact: float, coupling: str
) -> FloatArray | None:
    """Errors of a patient's twin numbers and their bounds (4 numbers, 4 lower, 4 upper; directions); None where unknown."""
    participant_id, own, arm = key
    if (participant_id, own) not in known or (participant_id, arm) not in known:
        return None
    shared = _shared(coupling)

    def numbers(reference: CountLaw, other: CountLaw) -> FloatArray:
        given, bounds = given_fact(reference, other, fact, shared), twin_bounds(reference.law, other.law, fact)
        sides = [getattr(bounds[name], side) for side in ("lower", "upper") for name in TWIN]
        return np.array([*(given[name] for name in TWIN), *sides])

    return directions(numbers, known[participant_id, own], known[participant_id, arm])


def _shared(coupling: str) -> float:
    """How much of the noise the worlds share under a coupling, from 0 to 1."""
    kind, _, rho = coupling.partition(" ")
    return {"independent": 0.0, "rho": min(max(float(rho or 0), 0.0), 1.0)}.get(kind, 1.0)


def own_errors(known: dict[tuple[str, str], CountLaw], key: tuple[str, str, str], fact: float, coupling: str) -> dict[str, float]:
    """The model's own error of a patient's twin numbers and their bounds; missing where it is unknown."""
    along = twin_directions(known, key, fact, coupling)
    sizes = np.full(3 * len(TWIN), np.nan) if along is None else np.linalg.norm(along, axis=1)
    names = [f"{name}{side}_se_generator" for side in ("", "_lower", "_upper") for name in TWIN]
    return dict(zip(names, sizes.tolist(), strict=True))


def joint_bounds(reference: Law, arm: Law) -> dict[str, Bounds]:
    """Bounds of one patient's probabilities of benefit, harm and activity under the arm only."""
    onset = activity_harm_bounds(1 - float(reference.at_most(0.0)), 1 - float(arm.at_most(0.0)))
    return {
        "benefit": benefit_bounds(reference, arm),
        "harm": harm_bounds(reference, arm),
        "active": Bounds(float(onset[0]), float(onset[1])),
    }


def joint_directions(known: dict[tuple[str, str], CountLaw], key: tuple[str, str, str]) -> FloatArray | None:
    """Errors of a patient's bounds before the fact is seen, ends of :data:`JOINT` x directions; None where unknown."""
    participant_id, own, arm = key
    if (participant_id, own) not in known or (participant_id, arm) not in known:
        return None

    def numbers(reference: CountLaw, other: CountLaw) -> FloatArray:
        bounds = joint_bounds(reference.law, other.law)
        return np.array([getattr(bounds[name], side) for name, side in JOINT])

    return directions(numbers, known[participant_id, own], known[participant_id, arm])


def event_probability(law: Law, fact: float) -> float:
    """P(Y = fact)."""
    return float(law.at_most(fact) - law.below(fact))


def _given(p: float, q: float) -> Bounds:
    if p <= 0:
        return Bounds(0.0, 1.0)
    low, high = frechet_hoeffding(min(p, 1.0), min(max(q, 0.0), 1.0))
    return Bounds(float(low) / p, min(float(high) / p, 1.0))
