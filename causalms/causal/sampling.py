"""The answer to a query for one patient: outcomes of every draw in every world, or expected outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from causalms.causal.evidence import factual_outcome
from causalms.causal.law_error import error_texts
from causalms.causal.mechanism import Expected, Mechanism, Outcome, Subject
from causalms.causal.query import Query, refuse_arms
from causalms.causal.worlds import Randomisation, Tie, Worlds, WorldsRun
from causalms.errors import RefusalError
from causalms.tables import DRAWS_OUTCOMES, EXPECTED_OUTCOMES, MODEL_ERROR


@dataclass(frozen=True)
class PatientAnswer:
    """Outcomes of one patient on the linear axis of worlds.

    Attributes
    ----------
    subject : Subject
    arms : str array, shape (worlds, draws)
        The arm each draw got in each world.
    worlds : tuple of (intervention name, week)
    lesions, volume_ml : array, shape (worlds, draws)
    regions : array, shape (worlds, draws, 4), or None
    masks : bool array, shape (worlds, draws, *grid), or None
    factual : Outcome or None
    """

    subject: Subject
    arms: np.ndarray
    worlds: tuple[tuple[str, float], ...]
    lesions: np.ndarray
    volume_ml: np.ndarray
    regions: np.ndarray | None = None
    masks: np.ndarray | None = None
    factual: Outcome | None = None


@dataclass(frozen=True)
class ReadyPatient:
    """One patient before the draws: read, encoded, with the arms that every draw gets in every world.

    Attributes
    ----------
    mechanism : Mechanism
        That of the query's coupling.
    subject : Subject
    randomisation : Randomisation
    query : Query
    arms : str array, shape (worlds, draws)
    factual : Outcome or None
    """

    mechanism: Mechanism
    subject: Subject
    randomisation: Randomisation
    query: Query
    arms: np.ndarray
    factual: Outcome | None

    @classmethod
    def read(
        cls, mechanism: Mechanism, trial: Any, randomisation: Randomisation, query: Query, participant_id: str
    ) -> ReadyPatient | None:
        """Read and encode a patient; None without evidence, where the query skips such patients."""
        mechanism = mechanism.for_coupling(query.coupling)
        subject, factual = mechanism.prepare(trial, participant_id), None
        if query.evidence_week is not None:
            try:
                factual = _evidence(mechanism, trial, subject, query.evidence_week)
            except RefusalError:
                if query.missing == "skip":
                    return None
                raise
        assigned = np.array([i.assign(subject, range(query.draws), query.seed) for i in query.interventions])
        refuse_arms(list(np.unique(assigned)), mechanism)
        return cls(mechanism, subject, randomisation, query, np.repeat(assigned, len(query.weeks), axis=0), factual)

    def blocks(self, size: int) -> Iterator[range]:
        """The draws, so many at a time."""
        return (range(start, min(start + size, self.query.draws)) for start in range(0, self.query.draws, size))

    def run(self, draws: range) -> WorldsRun:
        """A run of the model in every world."""
        mechanism, subject, query = self.mechanism, self.subject, self.query
        own, given = subject.arm_randomised, self.arms[:, draws.start : draws.stop]
        index = {arm: k for k, arm in enumerate(self.randomisation.arms)}
        worlds = Worlds(np.array([[index[arm] for arm in row] for row in given]), np.tile(query.weeks, len(query.interventions)))
        noises = []
        # under the coupling independent the fact tells of its own world only: elsewhere there is nothing to abduct
        tied = query.correlation != 0 or bool((given == own).any())
        if self.factual is not None and query.evidence_week is not None and own is not None and tied:
            fact = own, query.evidence_week, self.factual
            noises = [mechanism.abduct(subject, *fact, d, query.seed, query.abduction) for d in draws]
        tie = Tie(query.coupling, query.correlation, own if self.factual is not None else None)
        return WorldsRun(mechanism, subject, self.randomisation, worlds, draws, query.seed, tie, noises)

    def answer(self, parts: Sequence[dict[str, np.ndarray]], masks: bool = False) -> PatientAnswer:
        """The outcomes of all blocks of draws."""
        sites = {name: np.concatenate([p[name] for p in parts], axis=1) for name in parts[0] if masks or name != "mask"}
        return PatientAnswer(
            self.subject,
            self.arms,
            tuple((i.name, w) for i in self.query.interventions for w in self.query.weeks),
            sites["net2_lesions"],
            sites["net2_volume_ml"],
            sites.get("net2_regions"),
            sites.get("mask"),
            self.factual,
        )


def sample_patient(
    mechanism: Mechanism, trial: Any, randomisation: Randomisation, query: Query, participant_id: str, masks: bool = False
) -> PatientAnswer | None:
    """Draw one patient's outcomes in every world; None if the patient has no evidence and the query skips such patients.

    The draws of a block run through the Pyro model together; blocks are small where masks are, so memory does not grow with
    the number of draws.
    """
    from causalms.causal.graph import sample_worlds

    ready = ReadyPatient.read(mechanism, trial, randomisation, query, participant_id)
    if ready is None:
        return None
    blocks = ready.blocks(2 if "mask" in mechanism.capabilities else 256)
    return ready.answer([sample_worlds(ready.run(block)) for block in blocks], masks)


def sample_patients(
    mechanism: Mechanism, ready: Iterable[ReadyPatient], draws_at_once: int
) -> Iterator[tuple[ReadyPatient, PatientAnswer]]:
    """Answers of several patients in their order, whose draws share batches: those of :func:`sample_patient` to rounding.

    Parameters
    ----------
    mechanism : Mechanism
        That of the query's coupling; the size of batches is its own.
    ready : iterable of ReadyPatient
        Taken as batches need them.
    draws_at_once : int
        Draws of a patient that are asked for together.
    """
    from causalms.causal.graph import asked_in_worlds, in_worlds

    waiting: deque[tuple[ReadyPatient, range, int]] = deque()

    def rows() -> Iterator[Any]:
        for patient in ready:
            for block in patient.blocks(draws_at_once):
                asked = asked_in_worlds(patient.run(block))
                waiting.append((patient, block, len(asked)))
                yield from asked

    outcomes, parts = mechanism.push_each(rows()), []
    for first in outcomes:
        patient, block, count = waiting.popleft()
        sites = in_worlds([first, *islice(outcomes, count - 1)], len(block))
        parts.append({name: values for name, values in sites.items() if name != "mask"})
        if block.stop == patient.query.draws:
            yield patient, patient.answer(parts)
            parts = []


def _evidence(mechanism: Mechanism, trial: Any, subject: Subject, week: float) -> Outcome:
    if subject.arm_randomised is None:
        raise RefusalError(
            f"participant {subject.participant_id}: no randomised arm, so the outcome has no world; fill in 'arm' or ask for do()"
        )
    refuse_arms(subject.arm_randomised, mechanism)
    return factual_outcome(mechanism, trial, subject.participant_id, week)


def expect_patient(mechanism: Mechanism, trial: Any, query: Query, participant_id: str) -> tuple[Subject, list[Expected]]:
    """Expected outcomes of one patient in every world; a stochastic intervention mixes its arms."""
    subject = mechanism.prepare(trial, participant_id)
    outcomes = []
    for intervention in query.interventions:
        law = intervention.law(subject)
        refuse_arms(list(law), mechanism)
        for week in query.weeks:
            outcomes.append(mixture([(p, mechanism.expect(subject, arm, week)) for arm, p in law.items()]))
    return subject, outcomes


#: The outcomes of the expected table as :class:`Expected` calls them.
_OF_EXPECTED = ("lesions", "volume_ml", "activity_probability", "dispersion")


def mixture(parts: Sequence[tuple[float, Expected]]) -> Expected:
    """Law of a mixture of count laws: means and activities average, the variance gains the spread of the means.

    Examples
    --------
    >>> low, high = Expected(1.0, 0.1, 0.5, 0.0), Expected(3.0, 0.3, 0.9, 0.0)
    >>> mixed = mixture([(0.5, low), (0.5, high)])
    >>> mixed.lesions, mixed.dispersion  # variance 2 + 1 = 3 = m + alpha m^2
    (2.0, 0.25)
    """
    if len(parts) == 1:
        return parts[0][1]
    weights = np.array([p for p, _ in parts])
    means = np.array([e.lesions for _, e in parts])
    mean = float(weights @ means)
    variance = float(weights @ [e.lesions + e.dispersion * e.lesions**2 + (e.lesions - mean) ** 2 for _, e in parts])
    return Expected(
        mean,
        float(weights @ [e.volume_ml for _, e in parts]),
        float(weights @ [e.activity_probability for _, e in parts]),
        max((variance - mean) / mean**2, 0.0) if mean > 0 else 0.0,
    )


def patient_rows(
    mechanism: Mechanism, trial: Any, randomisation: Randomisation, query: Query, query_id: str, participant_id: str
) -> pd.DataFrame | dict[str, Any]:
    """One patient's rows of the draws table, or the columns of those of the expected table."""
    if query.expected:
        subject, outcomes = expect_patient(mechanism, trial, query, participant_id)
        axis = [(i.name, w) for i in query.interventions for w in query.weeks]
        columns = _keys(subject, [a for a, _ in axis], [w for _, w in axis], "interventional", query_id)
        columns |= {name: [getattr(e, of) for e in outcomes] for name, of in zip(EXPECTED_OUTCOMES, _OF_EXPECTED, strict=True)}
        texts = error_texts(mechanism, subject, query)
        return columns if texts is None else columns | {MODEL_ERROR: texts}
    answer = sample_patient(mechanism, trial, randomisation, query, participant_id)
    return pd.DataFrame() if answer is None else drawn_rows(mechanism, answer, query, query_id)


def drawn_rows(mechanism: Mechanism, answer: PatientAnswer, query: Query, query_id: str) -> pd.DataFrame:
    """Rows of the draws table of one patient, with the model's own error."""
    table = answer_rows(answer, query, query_id)
    return _with_errors(table, error_texts(mechanism, answer.subject, query)) if query.rung == 2 else table


def _with_errors(table: pd.DataFrame, texts: list[str] | None) -> pd.DataFrame:
    """The model's own error in the first row of every world; no column where it is unknown."""
    if texts is None:
        return table
    cells = np.full(len(table), None, dtype=object)
    cells[:: len(table) // len(texts)] = texts
    return table.assign(**{MODEL_ERROR: cells})


def answer_rows(answer: PatientAnswer, query: Query, query_id: str) -> pd.DataFrame:
    """Rows of the draws table: world by world, draw by draw; the factual outcome first where there is one."""
    count = answer.lesions.shape[1]
    names = [arm for arm, _ in answer.worlds for _ in range(count)]
    weeks = np.repeat([w for _, w in answer.worlds], count)
    kind = "interventional" if query.rung == 2 else "counterfactual"
    columns = _keys(answer.subject, names, weeks, kind, query_id)
    columns["draw"] = np.tile(np.arange(count), len(answer.worlds))
    columns["net2_lesions"], columns["net2_volume_ml"] = answer.lesions.ravel(), answer.volume_ml.ravel()
    if answer.regions is not None:
        regions = answer.regions.reshape(-1, answer.regions.shape[-1])
        columns |= dict(zip(DRAWS_OUTCOMES[2:], regions.T, strict=True))
    if any(i.kind != "value" for i in query.interventions):
        columns["arm_assigned"] = answer.arms.ravel()
    table = pd.DataFrame(columns)
    if answer.factual is None:
        return table
    return pd.concat([_factual_row(answer, query, query_id), table], ignore_index=True)


def _factual_row(answer: PatientAnswer, query: Query, query_id: str) -> pd.DataFrame:
    assert answer.factual is not None
    row = _keys(answer.subject, [answer.subject.arm_randomised], [query.evidence_week], "observed", query_id)
    row["draw"], row["net2_lesions"] = 0, answer.factual.lesions
    row["net2_volume_ml"] = answer.factual.volume_ml
    if answer.factual.region_lesions is not None and answer.regions is not None:
        row |= dict(zip(DRAWS_OUTCOMES[2:], answer.factual.region_lesions, strict=True))
    if any(i.kind != "value" for i in query.interventions):
        row["arm_assigned"] = answer.subject.arm_randomised
    return pd.DataFrame(row)


def _keys(subject: Subject, arms: Sequence[str | None], weeks: Any, kind: str, query_id: str) -> dict[str, Any]:
    """Columns that say whose row it is and what was asked, those of one value as that value."""
    missing = {"missing_inputs": "; ".join(subject.missing)} if subject.missing else {}
    return {
        "participant_id": subject.participant_id,
        "trial": subject.trial,
        "arm": list(arms),
        "arm_randomised": subject.arm_randomised if subject.arm_randomised is not None else "n/a",
        **missing,
        "visit_week": np.asarray(weeks, dtype=float),
        "query": kind,
        "query_id": query_id,
    }
