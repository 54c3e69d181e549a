"""An outside model in the benchmark: Poisson regression with gamma frailty on three columns, lesions where T2 lesions are."""

import numpy as np
import statsmodels.api as sm
from scipy import ndimage

from causalms.stats import NegativeBinomialLaw


class Model:
    """``causalms benchmark benchmark_entrant.py`` reads this class."""

    name = "statsmodels on three columns"

    def fit(self, trial):
        """Learn from observed arms and counts: trial.participants, trial.image(...), trial.mask(...)."""
        people = trial.participants.dropna(subset=["net2_lesions_week96"])
        self.arms = sorted(people["arm"].unique())
        self.middle = people[["age", "gd_lesions", "t2_lesions"]].median()
        model = sm.GLM(people["net2_lesions_week96"], self._design(people, people["arm"]), family=sm.families.Poisson())
        self.beta = np.asarray(model.fit().params)
        mean = np.exp(self._design(people, people["arm"]) @ self.beta)
        excess = ((people["net2_lesions_week96"] - mean) ** 2 - mean).sum() / (mean**2).sum()
        self.size, self.parameters = 1 / max(excess, 0.05), len(self.beta) + 1

    def counts(self, trial, arms, week):
        """Law of the count of every patient under every arm, patient by patient."""
        people = trial.participants.loc[trial.participants.index.repeat(len(arms))]
        mean = np.exp(self._design(people, np.tile(arms, len(trial))) @ self.beta) * week / 96
        return NegativeBinomialLaw(mean, np.full(len(mean), self.size))

    def expected_map(self, trial, participant_id, arm, week):
        """New lesions near old ones, inside the brain."""
        old = trial.mask(participant_id, "T2").astype(float)
        return (ndimage.gaussian_filter(old, 2) + 1e-4) * trial.mask(participant_id, "brain")

    def _design(self, people, arm):
        raw = people[["age", "gd_lesions", "t2_lesions"]].fillna(self.middle)
        columns = np.column_stack([raw["age"] / 10, np.log1p(raw["gd_lesions"]), np.log1p(raw["t2_lesions"])])
        return np.column_stack([np.asarray(arm)[:, None] == np.array(self.arms), columns]).astype(float)
