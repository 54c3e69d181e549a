r"""The error model after a trial of one's own: the stored posterior as prior, widened by what trials differ in.

The parameters of the own trial are :math:`\theta = \theta_0 + \delta`, :math:`\theta_0` with the stored posterior and
:math:`\delta \sim N(0, \mathrm{diag}(d^2))`, centred at the mean lesion of the own patients; the posterior given the own counts
is Laplace's.  Where the observed arm effects contradict the stored error model it is dropped, and wide priors take its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from causalms.stats.glm import Array
from causalms.stats.model_error import ErrorModel, about_mean_lesion
from causalms.stats.model_error_fit import HeldOutCounts, Likelihood
from causalms.stats.own_counts import OwnCounts, own_counts_test

#: Standard deviations of what a trial differs in from those that the error model was learned from.  That of an arm's level, .1,
#: is between what two trials of one drug against one comparator differed in (docs/decisions/model_error.md).
BETWEEN_TRIALS = {
    "level": 0.3,
    "arm": 0.1,
    "slope": 0.1,
    "arm_slope": 0.05,
    "column": 0.05,
    "arm_column": 0.1,
    "width": 0.1,
    "arm_width": 0.05,
    "log_size": 0.5,
}
#: Standard deviations where nothing of the stored error model is kept.
NOTHING_KNOWN = {
    "level": 1.0,
    "arm": 1.0,
    "slope": 0.25,
    "arm_slope": 0.1,
    "column": 0.2,
    "arm_column": 0.3,
    "width": 0.5,
    "arm_width": 0.1,
    "log_size": 0.5,
}


@dataclass(frozen=True)
class Update:
    """The error model of a trial of one's own.

    Attributes
    ----------
    error : ErrorModel
        With a mean: how the generator's numbers move.
    test : OwnCounts
        Of the observed counts against the stored error model.
    dropped : bool
        Whether the stored error model was dropped: contradicted, or none was known.
    """

    error: ErrorModel
    test: OwnCounts
    dropped: bool

    @property
    def words(self) -> str:
        """What became of the stored error model, in words."""
        if not self.dropped:
            p = f"arm effects p = {self.test.arms_p:.2g}, level p = {self.test.level_p:.2g}"
            return f"own counts do not contradict the checkpoint ({p})"
        if np.isnan(self.test.arms_p):
            return "the model's own error was unknown: wide priors in its place"
        return f"own counts contradict the checkpoint (p = {self.test.arms_p:.2g}): its error model was dropped"


def update_error_model(stored: ErrorModel, own: HeldOutCounts, *, known: bool = True) -> Update:
    """Posterior of a generator's error given the counts of a trial of one's own.

    Parameters
    ----------
    stored : ErrorModel
        Of the checkpoint.
    own : HeldOutCounts
    known : bool
        False where the checkpoint has no error model: ``stored`` then only names arms and columns.

    Raises
    ------
    ConvergenceError
        If Newton's method does not find a mode.
    """
    test = own_counts_test(*_expected_of(own), own.arm, _own_loadings(stored, own))
    if not known:
        test = replace(test, arms_p=np.nan, level_p=np.nan)
    dropped = not known or test.contradicts
    spread = np.zeros(len(stored.mean))
    for block, sd in (NOTHING_KNOWN if dropped else BETWEEN_TRIALS).items():
        spread[stored.at[block]] = sd**2
    mean = np.zeros_like(stored.mean) if dropped else stored.mean
    z = stored.summary.standardised(own.columns)
    moved = about_mean_lesion(own.log_expected, z, stored.centre)
    covariance = (moved * spread) @ moved.T + (0.0 if dropped else stored.covariance)
    likelihood = Likelihood(own, z, stored.centre)
    trials = likelihood.p - len(mean)
    precision = np.zeros((likelihood.p, likelihood.p))
    precision[: len(mean), : len(mean)] = np.linalg.inv(covariance)
    level_sd = max(stored.trial_sd, 1e-3) if trials > 1 else 1e-3  # the level of a single trial is the level
    precision[len(mean) :, len(mean) :] = np.eye(trials) / level_sd**2
    prior = np.concatenate([mean, np.zeros(trials)])
    theta, curvature = likelihood.mode(precision, prior, prior)
    kept = slice(0, len(mean))
    posterior = np.linalg.inv(curvature)[kept, kept]
    learned = f"own patients and {stored.patients:,} {stored.how}" if not dropped else "own"
    error = replace(
        stored,
        mean=theta[kept],
        covariance=(posterior + posterior.T) / 2,
        trial_sd=0.0 if trials <= 1 else stored.trial_sd,
        patients=len(own.counts),
        how=learned,
    )
    return Update(error, test, dropped)


def _expected_of(own: HeldOutCounts) -> tuple[Array, Array, Array]:
    """Observed counts with the generator's mean and variance of each."""
    mean = np.exp(own.log_expected[np.arange(len(own.arm)), own.arm] + own.log_exposure)
    return own.counts, mean, mean + mean**2 / own.sizes[own.arm]


def _own_loadings(stored: ErrorModel, own: HeldOutCounts) -> Array:
    loadings = np.empty((len(own.arm), len(stored.mean) + 1))
    for arm in np.unique(own.arm):
        rows = own.arm == arm
        loadings[rows] = stored.loadings(own.log_expected[rows], own.columns[rows], int(arm))
    return loadings
