"""The public face of the room: a causal model that answers do() and counterfactual()."""

from __future__ import annotations

import json
import numbers
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.causal.cohort import Running, answer_all
from causalms.causal.diagnostics import act_on, diagnose
from causalms.causal.evidence import as_trial, chosen_participants
from causalms.causal.interventions import Arms, as_interventions
from causalms.causal.mechanism import Mechanism
from causalms.causal.mechanisms.negative_binomial import NegativeBinomialMechanism
from causalms.causal.query import Query, record_of
from causalms.causal.sampling import sample_patient
from causalms.causal.transport import refuse_without_support
from causalms.causal.worlds import Randomisation
from causalms.errors import RefusalError, UsageError, named_arguments
from causalms.files import whole_file
from causalms.tables import net2_column, validate, write_table

Weeks = float | Sequence[float]


@dataclass(frozen=True)
class Twin:
    """How a patient's counterfactual twin is made, beside the coupling.

    Attributes
    ----------
    rho : float, optional
        Correlation of normal scores of U between the two worlds, with coupling ``rho``.
    abduction : {"stochastic", "deterministic"}
    evidence_week : float, optional
        Visit of the factual outcome; the last week that is asked about by default.
    missing : {"refuse", "skip"}
        Patients without a factual outcome.
    checked_patients : int
        How many patients the diagnostics look at; 0 leaves the diagnostics out.

    Examples
    --------
    >>> Twin(rho=0.5).abduction
    'stochastic'
    """

    rho: float | None = None
    abduction: str = "stochastic"
    evidence_week: float | None = None
    missing: str = "refuse"
    checked_patients: int = 40


class CausalModel:
    """A structural causal model of NET2 outcomes around one mechanism.

    Parameters
    ----------
    mechanism : Mechanism

    Examples
    --------
    >>> m = NegativeBinomialMechanism(("placebo", "drug"), (1.0, 0.0), {}, (), (), dispersion=2.0)
    >>> table = pd.DataFrame({"participant_id": ["a", "b"], "trial": "T", "site": "1", "arm": ["placebo", "drug"], "age": 40.0,
    ...     "sex": "F", "edss": 2.0, "disease_duration": 5.0, "relapses_prior_year": 1.0, "gd_lesions": 1.0, "t2_lesions": 20.0,
    ...     "t2_volume_ml": 5.0, "exposure_years": 1.8, "net2_lesions_week48": [3.0, 0.0], "net2_volume_ml_week48": [0.2, 0.0]})
    >>> model = CausalModel(m)
    >>> draws = model.do(table, arm=["placebo", "drug"], week=48, draws=3, seed=0)
    >>> len(draws), draws["query"].unique().tolist()
    (12, ['interventional'])
    >>> twin = model.counterfactual(table, arm="drug", week=48, particles=2, seed=0)
    >>> own = twin[(twin["participant_id"] == "b") & (twin["query"] == "counterfactual")]  # the factual arm gives the factual
    >>> own["net2_lesions"].tolist()
    [0.0, 0.0]
    """

    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism = mechanism

    def __repr__(self) -> str:
        return f"CausalModel({self.mechanism.name}, arms={', '.join(self.mechanism.arms)})"

    @classmethod
    def load(
        cls, model: str | os.PathLike[str] = "reference", device: str = "cpu", cache: str | os.PathLike[str] = ""
    ) -> CausalModel:
        """Load a causal model whose mechanism is a trained generator.

        Parameters
        ----------
        model : path or "reference"
            A checkpoint, or the one that ships with the package.
        device : {"cpu", "cuda", "auto"}
            Where it runs; a GPU rounds otherwise in the last digits.
        cache : path, optional
            Folder that keeps encoded scans: expected outcomes of patients seen before then need neither images nor encoder.
        """
        from causalms.causal.mechanisms.diffusion import DiffusionMechanism

        return cls(DiffusionMechanism.load(model, device, cache))

    @classmethod
    def fit_counts(cls, trial: Any, week: int | None = None, covariates: Mapping[str, str] | None = None) -> CausalModel:
        """Fit a causal model of counts to a participants table: a negative-binomial regression, no images.

        Parameters
        ----------
        trial : Trial or DataFrame
        week : int, optional
            Visit week of the counts; the last one of the table by default.
        covariates : mapping of str to {"linear", "log1p"}, optional
        """
        table = as_trial(trial).participants
        if week is None:
            prefix = net2_column(0)[:-1]
            weeks = [int(c.removeprefix(prefix)) for c in table if c.startswith(prefix) and table[c].notna().any()]
            week = max(weeks, default=96)
        return cls(NegativeBinomialMechanism.fit(table, week, covariates))

    @named_arguments
    def do(
        self,
        trial: Any,
        arm: Arms = (),
        week: Weeks = 48,
        draws: int = 64,
        seed: int = 0,
        expected: bool = False,
        assignment: str = "randomised",
        running: Running = Running(),
    ) -> pd.DataFrame:
        """Rung 2: outcomes of every patient had the arm been set.

        Parameters
        ----------
        trial : Trial or DataFrame
            A participants table is enough for mechanisms that need no images.
        arm : str, law, Intervention, or a sequence of them
            Arms and treatment policies (:func:`causalms.causal.read_policy`), a world each.
        week : float or sequence
            Visit weeks; arms x weeks are one linear axis.
        draws : int
            Draws of the exogenous noise a patient, shared by all worlds (common random numbers).  Other couplings of the worlds
            are asked for by :meth:`ask`; at rung 2 they change the Monte-Carlo error of contrasts and nothing else.
        seed : int
        expected : bool
            Expected outcomes by one evaluation a patient and arm, without sampling.
        assignment : {"randomised", "registry"}
            How the arms of the table came about. Under ``registry`` (arms chosen by measured covariates) every arm must have
            support among these patients; ``attrs["overlap"]`` holds the overlap, and ``arm_randomised`` is "n/a" for all.
        running : Running
            Only some patients, workers, progress, and a folder of finished patients for restart after a kill.

        Returns
        -------
        DataFrame
            The draws (or expected) table; ``attrs["queries"]`` holds the record by query_id.

        Raises
        ------
        RefusalError
            If the mechanism cannot answer (arm outside support, no push, guidance not 1).
        """
        worlds, weeks = as_interventions(arm), _weeks(week)
        query = Query(worlds, weeks, 1 if expected else draws, seed, expected, assignment=assignment)
        return self.ask(trial, query, running)

    @named_arguments
    def counterfactual(
        self,
        trial: Any,
        arm: Arms = (),
        week: Weeks = 48,
        coupling: str = "monotone",
        particles: int = 64,
        seed: int = 0,
        twin: Twin = Twin(),
        running: Running = Running(),
    ) -> pd.DataFrame:
        """Rung 3: outcomes of every patient had the arm been another, given the outcome that was seen.

        Not identified by any trial: the coupling is an assumption, so it is named in the record of every result, and
        :func:`causalms.causal.individual_effects` puts sharp bounds beside every number.

        Parameters
        ----------
        trial, arm, week, seed, running
            As for :meth:`do`.
        coupling : {"monotone", "ancestral", "independent", "rho"}
            How the noise of the two worlds is tied; ``rho`` needs the value ``Twin(rho=...)``.
        particles : int
            Draws of the posterior of U a patient; never averaged here.
        twin : Twin
            Correlation, abduction, visit of the evidence, patients without it, and how many patients are diagnosed.

        Returns
        -------
        DataFrame
            Draws table: one row of query ``observed`` a patient, then ``counterfactual`` ones; ``attrs["diagnostics"]`` holds
            the diagnostics as records, ``attrs["diagnostic_points"]`` what their figure draws
            (:func:`causalms.causal.diagnostics_table` puts both in one table).

        Warns
        -----
        UserWarning
            For every diagnostic beyond its warning threshold.

        Raises
        ------
        RefusalError
            If the mechanism cannot abduct, evidence is missing, or a diagnostic is beyond its refusal threshold.
        """
        weeks = _weeks(week)
        query = Query(
            as_interventions(arm),
            weeks,
            particles,
            seed,
            coupling=coupling,
            rho=twin.rho,
            evidence_week=float(max(weeks, default=0.0) if twin.evidence_week is None else twin.evidence_week),
            abduction=twin.abduction,
            missing=twin.missing,
        )
        return self.ask(trial, query, running, twin.checked_patients)

    def ask(self, trial: Any, query: Query, running: Running = Running(), checked_patients: int = 40) -> pd.DataFrame:
        """Put a query; :meth:`do` and :meth:`counterfactual` are its two everyday forms."""
        trial = as_trial(trial)
        query = replace(query, interventions=tuple(i.within(self.mechanism.efficacy_order) for i in query.interventions))
        query.refuse_if_unanswerable(self.mechanism)
        query.refuse_unknown_columns(trial.participants)
        chosen = chosen_participants(trial, running.participants)
        overlap = _registry_overlap(trial, query) if query.assignment == "registry" else None
        table = trial.participants[trial.participants["participant_id"].isin(chosen)]
        record = record_of(query, self.mechanism, table, str(getattr(trial, "name", "trial")))
        own = chosen if running.shard is None else running.shard.part(chosen)
        answer = answer_all(self.mechanism, trial, query, record.query_id, own, running)
        skipped = answer.attrs.pop("skipped", [])
        answer = validate(answer, "expected" if query.expected else "draws", "draws")
        content = {**record.content, "participants_answered": int(answer["participant_id"].nunique())}
        content |= {"participants_skipped": skipped} if skipped else {}
        content |= {} if running.shard is None else {"shard": str(running.shard)}
        if "missing_inputs" in answer:
            lacking = answer.drop_duplicates("participant_id")["missing_inputs"].dropna()
            content["participants_with_missing_inputs"] = lacking.value_counts().to_dict()
        answer.attrs["queries"] = {record.query_id: content}
        if skipped:
            answer.attrs["skipped"] = skipped
        if overlap is not None:
            answer["arm_randomised"] = "n/a"  # the arm was given, not randomised: no contrast of this table is randomised
            answer.attrs["overlap"] = overlap.to_dict("records")
            content["assignment"] = "registry"
        if query.rung == 3 and checked_patients > 0 and running.shard is None:
            answered = [str(p) for p in answer["participant_id"].unique()]
            verdicts = diagnose(self.mechanism, trial, query, answered, checked_patients, running=running)
            act_on(verdicts)
            answer.attrs["diagnostics"] = verdicts.to_dict("records")
            answer.attrs["diagnostic_points"] = verdicts.attrs["points"]
        return answer

    def risk_map(self, trial: Any, participant_id: str, arm: str, week: float = 48) -> npt.NDArray[np.floating[Any]]:
        """P(voxel is in a NET2 lesion) of one patient under one arm, on the model's grid.

        Raises
        ------
        RefusalError
            If the mechanism knows no masks.
        """
        query = Query(as_interventions(arm), (float(week),), 1, 0)
        query.refuse_if_unanswerable(self.mechanism)
        subject = self.mechanism.prepare(as_trial(trial), participant_id)
        return self.mechanism.risk_map(subject, arm, float(week))

    def masks(
        self,
        trial: Any,
        participant_id: str,
        arm: Arms,
        week: Weeks = 48,
        draws: int = 1,
        seed: int = 0,
        coupling: str = "monotone",
        evidence_week: float | None = None,
    ) -> dict[tuple[str, float], npt.NDArray[np.bool_]]:
        """Sampled NET2 masks of one patient: the masks whose counts :meth:`do` (or, with evidence, :meth:`counterfactual`) gives.

        Returns
        -------
        dict
            From (arm, week) to a bool array of shape ``(draws, *grid)``.
        """
        query = Query(as_interventions(arm), _weeks(week), draws, seed, coupling=coupling, evidence_week=evidence_week)
        query.refuse_if_unanswerable(self.mechanism)
        trial = as_trial(trial)
        randomisation = Randomisation.of(trial.participants, self.mechanism.arms)
        answer = sample_patient(self.mechanism, trial, randomisation, query, participant_id, masks=True)
        if answer is None or answer.masks is None:
            raise RefusalError(f"mechanism {self.mechanism.name!r} gives counts without masks; use a mechanism with masks")
        return {world: answer.masks[k] for k, world in enumerate(answer.worlds)}


def write_draws(draws: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a draws table and, beside it, the record of its queries (``draws.parquet`` -> ``draws.queries.json``).

    The record is written first: a table that is there always has its record.
    """
    file = Path(path)
    draws = draws.copy(deep=False)
    queries = json.loads(json.dumps(draws.attrs.get("queries", {}), sort_keys=True, default=str))
    draws.attrs = {**draws.attrs, **({"queries": queries} if queries else {})}  # in one order, whoever made the record
    with whole_file(file.with_suffix(".queries.json")) as beside:
        beside.write_text(json.dumps(queries, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")
    return write_table(draws, file)


def _weeks(week: Weeks) -> tuple[float, ...]:
    weeks = np.atleast_1d(np.asarray(week, dtype=object)).ravel().tolist()
    if any(isinstance(w, bool) or not isinstance(w, numbers.Real) for w in weeks):
        raise UsageError(f"`week` is {week!r}; give a number of weeks since baseline, or several")
    return tuple(float(w) for w in weeks)


def _registry_overlap(trial: Any, query: Query) -> pd.DataFrame:
    arms = [arm for intervention in query.interventions for arm in intervention.arms]
    return refuse_without_support(trial.participants, list(dict.fromkeys(arms)))
