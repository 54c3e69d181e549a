"""The answer to a query for one patient, and for all of them in parallel with idempotent restart."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from joblib import delayed
from tqdm import tqdm

from causalms.causal.evidence import factual_outcome
from causalms.causal.law_error import error_texts
from causalms.causal.mechanism import Expected, Mechanism, Outcome, Subject
from causalms.causal.query import Query, refuse_arms
from causalms.causal.shards import joined
from causalms.causal.worlds import Randomisation, Tie, Worlds
from causalms.errors import InputError, RefusalError
from causalms.files import whole_file
from causalms.heap import keep_freed_memory, return_free_memory_at_times
from causalms.shards import Shard, Skipped
from causalms.tables import DRAWS_OUTCOMES, EXPECTED_OUTCOMES, MODEL_ERROR
from causalms.workers import results_in_order


@dataclass(frozen=True)
class Running:
    """How a query is run, and for whom; the numbers of a patient do not depend on it.

    Attributes
    ----------
    workers : int, optional
        joblib's n_jobs; None takes the backend in force (:func:`joblib.parallel_config`, for example Dask), else one.
    progress : bool
        Whether to show a bar.
    parts : path, optional
        Folder in which each finished patient is kept; a killed query that is asked again goes on where it stopped.
    skip_bad : bool
        Whether patients whose scan or row cannot be used are left out and listed in ``attrs["skipped"]``.
    shard : Shard, optional
        Only this part of the patients is answered; :func:`causalms.causal.merge_draws` joins the parts to the whole.

    participants : sequence of str, optional
        Only these patients are answered, by default all.

    Examples
    --------
    >>> Running(workers=2, participants=["sub-001"]).workers
    2
    """

    workers: int | None = None
    progress: bool = False
    parts: str | os.PathLike[str] | None = None
    skip_bad: bool = False
    shard: Shard | None = None
    participants: Sequence[str] | None = None

    def over(self, calls: Iterator[Any] | Sequence[Any], count: int, what: str) -> list[Any]:
        """Results of joblib calls, one a patient, in their order."""
        go_on = "run it again" if self.parts is None else "finished patients are kept: the same command goes on where it stopped"
        done = results_in_order(calls, self.workers, f"{go_on}, with fewer `workers` if memory is short")
        return list(tqdm(done, desc=what, unit="patient", total=count, disable=None if self.progress else True))


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


def sample_patient(
    mechanism: Mechanism, trial: Any, randomisation: Randomisation, query: Query, participant_id: str, masks: bool = False
) -> PatientAnswer | None:
    """Draw one patient's outcomes in every world; None if the patient has no evidence and the query skips such patients.

    The draws of a block run through the Pyro model together; blocks are small where masks are, so memory does not grow with
    the number of draws.
    """
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
    assigned = np.repeat(assigned, len(query.weeks), axis=0)
    size = 2 if "mask" in mechanism.capabilities else 256
    blocks = [range(start, min(start + size, query.draws)) for start in range(0, query.draws, size)]
    parts = [_sample_block(mechanism, subject, randomisation, query, assigned, block, factual) for block in blocks]
    sites = {name: np.concatenate([p[name] for p in parts], axis=1) for name in parts[0] if masks or name != "mask"}
    return PatientAnswer(
        subject,
        assigned,
        tuple((i.name, w) for i in query.interventions for w in query.weeks),
        sites["net2_lesions"],
        sites["net2_volume_ml"],
        sites.get("net2_regions"),
        sites.get("mask"),
        factual,
    )


def _evidence(mechanism: Mechanism, trial: Any, subject: Subject, week: float) -> Outcome:
    if subject.arm_randomised is None:
        raise RefusalError(
            f"participant {subject.participant_id}: no randomised arm, so the outcome has no world; fill in 'arm' or ask for do()"
        )
    refuse_arms(subject.arm_randomised, mechanism)
    return factual_outcome(mechanism, trial, subject.participant_id, week)


def _sample_block(
    mechanism: Mechanism,
    subject: Subject,
    randomisation: Randomisation,
    query: Query,
    assigned: np.ndarray,
    draws: range,
    factual: Outcome | None,
) -> dict[str, np.ndarray]:
    from causalms.causal.graph import sample_worlds

    own, given = subject.arm_randomised, assigned[:, draws.start : draws.stop]
    index = {arm: k for k, arm in enumerate(randomisation.arms)}
    worlds = Worlds(np.array([[index[arm] for arm in row] for row in given]), np.tile(query.weeks, len(query.interventions)))
    noises = []
    # under the coupling independent the fact tells of its own world only: elsewhere there is nothing to abduct
    tied = query.correlation != 0 or bool((given == own).any())
    if factual is not None and query.evidence_week is not None and own is not None and tied:
        noises = [mechanism.abduct(subject, own, query.evidence_week, factual, d, query.seed, query.abduction) for d in draws]
    tie = Tie(query.coupling, query.correlation, own if factual is not None else None)
    return sample_worlds(mechanism, subject, randomisation, worlds, draws, query.seed, tie, noises)


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
    if answer is None:
        return pd.DataFrame()
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


def answer_all(
    mechanism: Mechanism,
    trial: Any,
    query: Query,
    query_id: str,
    participants: Sequence[str],
    running: Running = Running(),
) -> pd.DataFrame:
    """Answer for every patient, in parallel over patients by joblib; the same numbers for any number of workers or backend."""
    randomisation = Randomisation.of(trial.participants, mechanism.arms)
    folder = None if running.parts is None else Path(running.parts) / query_id
    one, task = partial(_answered, mechanism, trial, randomisation, query, query_id, folder), delayed(_one_patient)
    calls = (task(one, participant_id, running.skip_bad) for participant_id in participants)
    answers = running.over(calls, len(participants), "patients")
    skipped = [answer for answer in answers if isinstance(answer, Skipped)]
    tables = [answer for answer in answers if not isinstance(answer, Skipped) and len(answer)]
    if skipped and not tables:
        raise InputError(f"no patient could be answered; the first, {skipped[0].participant_id}: {skipped[0].reason}")
    if not tables:
        raise RefusalError("no patient has evidence to condition on; ask for do() or give observed outcomes")
    table = joined(tables)
    table.attrs["skipped"] = [asdict(one) for one in skipped]
    return table


def _finished(part: Path) -> pd.DataFrame | None:
    """The rows of a patient answered before; None where there are none, or the disk spoilt them."""
    try:
        return pd.DataFrame(pd.read_parquet(part))
    except (OSError, ValueError):  # pyarrow's errors of a damaged file are ValueErrors
        return None


def _one_patient(
    answer: Callable[[str], pd.DataFrame | dict[str, Any]], participant_id: str, skip_bad: bool
) -> pd.DataFrame | dict[str, Any] | Skipped:
    try:
        return answer(participant_id)
    except (InputError, RefusalError) as error:
        if not skip_bad:
            raise
        return Skipped(participant_id, str(error))


def _answered(
    mechanism: Mechanism,
    trial: Any,
    randomisation: Randomisation,
    query: Query,
    query_id: str,
    folder: Path | None,
    participant_id: str,
) -> pd.DataFrame | dict[str, Any]:
    def rows() -> pd.DataFrame | dict[str, Any]:
        keep_freed_memory()
        with on_one_thread():
            table = patient_rows(mechanism, trial, randomisation, query, query_id, participant_id)
        return_free_memory_at_times()
        return table

    return kept_or_made(folder, trial, participant_id, rows)


def kept_or_made(
    folder: Path | None, trial: Any, participant_id: str, make: Callable[[], pd.DataFrame | dict[str, Any]]
) -> pd.DataFrame | dict[str, Any]:
    """A patient's rows as they are kept in ``folder``, else made, and kept there whole."""
    part = None if folder is None else folder / _part_name(trial, participant_id)
    if part is not None and (known := _finished(part)) is not None:
        return known
    table = make()
    if part is not None:
        with whole_file(part) as beside:
            pd.DataFrame(table).to_parquet(beside, index=False)
    return table


def _part_name(trial: Any, participant_id: str) -> str:
    """File of a finished patient: of other scans than those it was answered from it has another name, and is not taken."""
    stamp = getattr(getattr(trial, "source", None), "stamp", None)
    scans = "" if stamp is None else "." + hashlib.sha256(stamp(participant_id).encode()).hexdigest()[:12]
    return f"{quote(participant_id, safe='')}{scans}.parquet"  # an id is never a path


def on_one_thread() -> AbstractContextManager[None]:
    """Torch on one thread, so that the bits are the same on any machine; nothing where torch is not in use."""
    if "torch" not in sys.modules:
        return nullcontext()
    from causalms.generator import one_thread

    return one_thread()
