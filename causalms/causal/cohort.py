"""A query answered for all patients: in parallel, with idempotent restart; draws of several patients in a batch on a GPU."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from joblib import delayed
from tqdm import tqdm

from causalms.causal.mechanism import Mechanism
from causalms.causal.query import Query
from causalms.causal.sampling import ReadyPatient, drawn_rows, patient_rows, sample_patients
from causalms.causal.shards import joined
from causalms.causal.worlds import Randomisation
from causalms.errors import InputError, RefusalError
from causalms.files import whole_file
from causalms.heap import keep_freed_memory, return_free_memory_at_times
from causalms.shards import Shard, Skipped
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

    def over(self, calls: Iterator[Any] | Sequence[Any], count: int, what: str, several: bool = False) -> list[Any]:
        """Results of joblib calls, one a patient (or a list of several patients'), in their order."""
        go_on = "run it again" if self.parts is None else "finished patients are kept: the same command goes on where it stopped"
        done = results_in_order(calls, self.workers, f"{go_on}, with fewer `workers` if memory is short")
        each = chain.from_iterable(done) if several else done
        return list(tqdm(each, desc=what, unit="patient", total=count, disable=None if self.progress else True))


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
    work = _Work(mechanism, trial, randomisation, query, query_id, folder, running.skip_bad)
    one, several = delayed(_Work.answer), delayed(_Work.answer_several)
    if work.in_batches:
        size = work.patients_at_once
        groups = [list(participants[start : start + size]) for start in range(0, len(participants), size)]
        answers = running.over((several(work, group) for group in groups), len(participants), "patients", several=True)
    else:
        answers = running.over((one(work, name) for name in participants), len(participants), "patients")
    skipped = [answer for answer in answers if isinstance(answer, Skipped)]
    tables = [answer for answer in answers if not isinstance(answer, Skipped) and len(answer)]
    if skipped and not tables:
        raise InputError(f"no patient could be answered; the first, {skipped[0].participant_id}: {skipped[0].reason}")
    if not tables:
        raise RefusalError("no patient has evidence to condition on; ask for do() or give observed outcomes")
    table = joined(tables)
    table.attrs["skipped"] = [asdict(one) for one in skipped]
    return table


@dataclass(frozen=True)
class _Work:
    """What a worker does for a patient, or for several."""

    mechanism: Mechanism
    trial: Any
    randomisation: Randomisation
    query: Query
    query_id: str
    folder: Path | None
    skip_bad: bool

    @property
    def in_batches(self) -> bool:
        """Whether draws share batches: on a GPU."""
        return not self.query.expected and self.mechanism.at_once > 1

    @property
    def worlds(self) -> int:
        """Interventions times weeks."""
        return len(self.query.interventions) * len(self.query.weeks)

    @property
    def patients_at_once(self) -> int:
        """Patients of a call in batches: as many as fill four."""
        return max(4 * self.mechanism.at_once // (self.worlds * self.query.draws), 1)

    def answer(self, participant_id: str) -> pd.DataFrame | dict[str, Any] | Skipped:
        """Rows of one patient, or why there are none."""
        try:
            return kept_or_made(self.folder, self.trial, participant_id, partial(self._rows, participant_id))
        except (InputError, RefusalError) as error:
            if not self.skip_bad:
                raise
            return Skipped(participant_id, str(error))

    def _rows(self, participant_id: str) -> pd.DataFrame | dict[str, Any]:
        keep_freed_memory()
        with on_one_thread():
            table = patient_rows(self.mechanism, self.trial, self.randomisation, self.query, self.query_id, participant_id)
        return_free_memory_at_times()
        return table

    def answer_several(self, participants: Sequence[str]) -> list[pd.DataFrame | dict[str, Any] | Skipped]:
        """Rows of several patients whose draws share batches; one by one where a patient cannot be used."""
        found: dict[str, pd.DataFrame] = {}
        mechanism = self.mechanism.for_coupling(self.query.coupling)
        try:
            with on_one_thread():
                ready = self._ready(participants, found)
                for patient, answer in sample_patients(mechanism, ready, max(mechanism.at_once // self.worlds, 1)):
                    name = patient.subject.participant_id
                    found[name] = drawn_rows(mechanism, answer, self.query, self.query_id)
                    kept_or_made(self.folder, self.trial, name, partial(found.__getitem__, name))
        except (InputError, RefusalError):
            return [self.answer(name) for name in participants]
        return [found[name] for name in participants]

    def _ready(self, participants: Sequence[str], found: dict[str, pd.DataFrame]) -> Iterator[ReadyPatient]:
        """Those who are to be drawn, encoded; the rows of the others go into ``found``."""
        for name in participants:
            part = None if self.folder is None else self.folder / _part_name(self.trial, name)
            if part is not None and (known := _finished(part)) is not None:
                found[name] = known
                continue
            ready = ReadyPatient.read(self.mechanism, self.trial, self.randomisation, self.query, name)
            if ready is None:
                found[name] = pd.DataFrame()
            else:
                yield ready


def _finished(part: Path) -> pd.DataFrame | None:
    """The rows of a patient answered before; None where there are none, or the disk spoilt them."""
    try:
        return pd.DataFrame(pd.read_parquet(part))
    except (OSError, ValueError):  # pyarrow's errors of a damaged file are ValueErrors
        return None


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
