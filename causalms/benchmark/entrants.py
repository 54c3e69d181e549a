"""What a model has to answer to enter the benchmark, and three entrants: arm means, a regression, a checkpoint."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd

from causalms.stats import CountLaw, NegativeBinomialLaw, fit_model
from causalms.tables import net2_column
from causalms.trials import Trial


class Entrant(Protocol):
    """Three methods: learn, say the law of the counts, say where.

    ``expected_map`` or ``masks`` may be left out, and the scores of places or masks are then empty.  Read where they are there:
    ``parameters`` (int), and ``counterfactual``, with the arguments of ``masks`` and ``factual``, the mask that was seen.
    """

    name: str

    def fit(self, trial: Trial) -> None:
        """Learn from the observed arms and visits of the training trial."""

    def counts(self, trial: Trial, arms: tuple[str, ...], week: float) -> CountLaw:
        """Law of the count of every patient (in the order of the table) under every arm, patient by patient."""

    def expected_map(self, trial: Trial, participant_id: str, arm: str, week: float) -> np.ndarray:
        """Expected lesion centres of every voxel, on the trial's grid; only the proportions are scored."""

    def masks(self, trial: Trial, participant_id: str, arm: str, week: float, draws: int, seed: int) -> np.ndarray:
        """Sampled masks, bool (draws, X, Y, Z)."""


class ArmMeans:
    """Every patient of an arm has the arm's mean and its negative-binomial size; no places."""

    name = "arm means"

    def fit(self, trial: Trial) -> None:
        """Mean and dispersion of each arm's counts at the last visit."""
        self.laws = {}
        for arm, counts in _last(trial).groupby("arm")["count"]:
            fit = fit_model("negbin", np.ones((len(counts), 1)), counts.to_numpy(float))
            self.laws[arm] = (float(counts.mean()), float(fit.alpha))
        self.parameters = 2 * len(self.laws)

    def counts(self, trial: Trial, arms: tuple[str, ...], week: float) -> CountLaw:
        """The arm's law, the same for everybody."""
        mean, alpha = np.array([self.laws[arm] for arm in arms]).T
        return NegativeBinomialLaw(np.tile(mean, len(trial)), np.tile(1 / np.maximum(alpha, 1e-6), len(trial)))


class ColumnRegression:
    """Negative-binomial regression of the last visit's counts on arm and columns; no images are read."""

    name = "negative-binomial regression"
    columns = ("age", "edss", "disease_duration", "relapses_prior_year", "gd_lesions", "t2_lesions")

    def fit(self, trial: Trial) -> None:
        """Maximum likelihood; a missing value stands at the mean."""
        people = _last(trial)
        self.arms = tuple(sorted(people["arm"].unique()))
        raw = self._raw(people)
        self.mean, self.sd = np.nanmean(raw, axis=0), np.nanstd(raw, axis=0)
        design = self._design(people, people["arm"].to_numpy())
        fit = fit_model("negbin", design, people["count"].to_numpy(float))
        self.beta, self.alpha, self.parameters = fit.coefficients, float(np.max(fit.alpha)), len(fit.coefficients) + 1

    def counts(self, trial: Trial, arms: tuple[str, ...], week: float) -> CountLaw:
        """The patient's law under every arm."""
        people = trial.participants.loc[trial.participants.index.repeat(len(arms))]
        mean = np.exp(self._design(people, np.tile(arms, len(trial))) @ self.beta)
        return NegativeBinomialLaw(mean, np.full(len(mean), 1 / self.alpha))

    def _raw(self, people: pd.DataFrame) -> np.ndarray:
        values = people[list(self.columns)].to_numpy(float)
        values[:, -3:] = np.log1p(values[:, -3:])
        return np.column_stack([values, people["sex"] == "F"]).astype(float)

    def _design(self, people: pd.DataFrame, arm: np.ndarray) -> np.ndarray:
        columns = np.nan_to_num((self._raw(people) - self.mean) / self.sd)
        return np.column_stack([arm[:, None] == np.array(self.arms), columns]).astype(float)


class Checkpoint:
    """A generator of this package, trained elsewhere: fit does nothing.

    Parameters
    ----------
    model : str
        ``reference``, or a checkpoint.
    name : str
    """

    def __init__(self, model: str = "reference", name: str = "causalms, as shipped") -> None:
        self.model, self.name = model, name

    def fit(self, trial: Trial) -> None:
        """Read the checkpoint; nothing is learned from the trial."""
        from causalms.causal import CausalModel
        from causalms.generator import Generator

        self.generator, self.causal = Generator.load(self.model), CausalModel.load(self.model)
        self.parameters = self.generator.parameters
        self._scan: tuple[str, Any] = ("", None)

    def counts(self, trial: Trial, arms: tuple[str, ...], week: float) -> CountLaw:
        """One evaluation of the risk head a patient and arm."""
        rows = []
        for name in trial.participants["participant_id"]:
            scan = self.generator.encode(trial, name)
            rows += [(law.lesions, 1 / law.dispersion) for law in (self.generator.expect(scan, arm, week) for arm in arms)]
        mean, size = np.array(rows).T
        return NegativeBinomialLaw(mean, size)

    def expected_map(self, trial: Trial, participant_id: str, arm: str, week: float) -> np.ndarray:
        """Places of the risk head."""
        import torch

        scan, index = self._encoded(trial, participant_id), torch.tensor([self.generator.arm_index(arm)])
        with torch.no_grad():
            log_place = self.generator.network.risk.log_place(scan.encoded.features, scan.brain, index)
        return np.asarray(torch.exp(log_place[0]).cpu().numpy())

    def masks(self, trial: Trial, participant_id: str, arm: str, week: float, draws: int, seed: int) -> np.ndarray:
        """Masks of the diffusion sampler."""
        scan = self._encoded(trial, participant_id)
        noise = (self.generator.noise(participant_id, draw, seed) for draw in range(draws))
        return np.stack([self.generator.sample(scan, arm, week, part) for part in noise])

    def counterfactual(
        self, trial: Trial, participant_id: str, arm: str, week: float, draws: int, seed: int, factual: np.ndarray
    ) -> np.ndarray:
        """Masks by abduction of the observed arm's mask (monotone coupling)."""
        answer = self.causal.masks(trial, participant_id, arm, week, draws, seed, evidence_week=week)
        return next(iter(answer.values()))

    def _encoded(self, trial: Trial, participant_id: str) -> Any:
        if self._scan[0] != participant_id:
            self._scan = (participant_id, self.generator.encode(trial, participant_id))
        return self._scan[1]


def _last(trial: Trial) -> pd.DataFrame:
    """Patients with a count at the last visit, in column ``count``."""
    people = trial.participants
    return people.assign(count=people[net2_column(max(trial.weeks))]).dropna(subset=["count", "arm"])
