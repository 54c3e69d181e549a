r"""Counts expected without some of the inputs: how far they err, learned by taking these inputs from patients who have them.

With the count :math:`m_i(a)` that the generator expects without the inputs, :math:`r_i` as in the error model,

.. math::
    \log\mu_i(a) = \log m_i(a) + c + s\, r_i, \quad Y_i \sim \mathrm{NB}(\mu_i(A_i),\ k_{A_i} e^{t}),

with normal priors of mean 0 and standard deviation .5 for :math:`c, s, t`.  s < 0 draws patients together who can no longer be
told apart, t < 0 widens the prediction interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from causalms.errors import ConvergenceError, InputError
from causalms.stats.glm import Array

_PRIOR_SD = 0.5
#: Akaike: a correction of three numbers gains at least so much log likelihood.
_LEAST_GAIN = 3.0


@dataclass(frozen=True)
class LackingInputs:
    """Correction of the counts expected of patients who lack these inputs.

    Attributes
    ----------
    names : tuple of str
        The inputs, in alphabetical order.
    shift, slope, log_size : float
        c, s and t.
    shift_sd : float
        Standard error of c.
    patients : int
        How many it was learned from.

    Examples
    --------
    >>> flair = LackingInputs(("FLAIR",), 0.1, -0.2, -0.5, 0.05, 400)
    >>> round(flair.of_log_mean(2.0), 2)
    -0.3
    """

    names: tuple[str, ...]
    shift: float
    slope: float
    log_size: float
    shift_sd: float
    patients: int

    def of_log_mean(self, r: float) -> float:
        """What is added to the log expected count of a patient with r."""
        return self.shift + self.slope * r

    @classmethod
    def read(cls, names: Sequence[str], numbers: Array) -> LackingInputs:
        """From the names and the row of :attr:`numbers`."""
        shift, slope, log_size, shift_sd, patients = map(float, numbers)
        return cls(tuple(map(str, names)), shift, slope, log_size, shift_sd, int(patients))

    @property
    def numbers(self) -> Array:
        """Its five numbers, for a file."""
        return np.array([self.shift, self.slope, self.log_size, self.shift_sd, self.patients], float)


@dataclass(frozen=True)
class Forecasts:
    """What was expected of some patients under their own arms.

    Attributes
    ----------
    log_mean, r : array (n,)
        Log expected count; the r of the error model.
    """

    log_mean: Array
    r: Array


def fit_lacking_inputs(names: Sequence[str], counts: Array, size: Array, without: Forecasts, whole: Forecasts) -> LackingInputs:
    """Learn the correction from patients of whom these inputs were taken.

    The same three numbers are learned of the forecasts with all inputs and subtracted: what these patients differ in anyway is
    no error of what is missing.  Where the correction gains fewer than three units of log likelihood (Akaike), it is none.

    Parameters
    ----------
    names : sequence of str
    counts, size : array (n,)
        Observed counts; the generator's size of each patient's arm.
    without, whole : Forecasts
        Of the same patients without the inputs, and with them.

    Raises
    ------
    ConvergenceError
        If no mode is found.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> r, noise = rng.normal(0, 0.6, (2, 3000))
    >>> y = rng.poisson(np.exp(0.3 + r) * rng.gamma(1.0, 1.0, 3000))
    >>> whole, without = Forecasts(0.3 + r, r), Forecasts(0.1 + r + noise, r + noise)  # noise doubles the variance
    >>> found = fit_lacking_inputs(["FLAIR"], y, np.ones(3000), without, whole)
    >>> round(found.slope, 1), found.log_size < -0.1, found.shift_sd < 0.05
    (-0.5, True, True)
    """
    likelihood = _Likelihood(np.asarray(counts, float), size, without)
    of_whole, influence_of_whole = replace(likelihood, forecasts=whole).mode(names)
    mode, influence = likelihood.mode(names)
    if (likelihood.of_each(mode) - likelihood.of_each(of_whole)).sum() < _LEAST_GAIN:
        return LackingInputs(tuple(sorted(names)), 0.0, 0.0, 0.0, 0.0, len(counts))
    shift, slope, log_size = map(float, mode - of_whole)
    shift_sd = float(np.sqrt(((influence - influence_of_whole)[:, 0] ** 2).sum()))
    return LackingInputs(tuple(sorted(names)), shift, slope, log_size, shift_sd, len(counts))


@dataclass(frozen=True)
class _Likelihood:
    """Likelihood of counts in (c, s, t), given what was expected of them."""

    counts: Array
    size: Array
    forecasts: Forecasts

    def of_each(self, theta: Array) -> Array:
        """Log likelihood (n,)."""
        from scipy.special import gammaln

        y, forecasts = self.counts, self.forecasts
        log_mu, k = forecasts.log_mean + theta[0] + theta[1] * forecasts.r, self.size * np.exp(theta[2])
        total = np.logaddexp(np.log(k), log_mu)
        return np.asarray(gammaln(y + k) - gammaln(k) + k * (np.log(k) - total) + y * (log_mu - total))

    def mode(self, names: Sequence[str]) -> tuple[Array, Array]:
        """Mode under the prior, and the influence (n, 3) of every patient on it."""
        from scipy.optimize import minimize

        def cost(theta: Array) -> float:
            return float(0.5 * (theta**2).sum() / _PRIOR_SD**2 - self.of_each(theta).sum())

        found = minimize(cost, np.zeros(3), method="BFGS")
        if not np.isfinite(found.x).all() or np.abs(found.x).max() > 10 * _PRIOR_SD:
            raise ConvergenceError(f"patients without {', '.join(names)}: no correction found ({found.message})")
        steps = 1e-4 * np.eye(3)
        scores = np.column_stack([self.of_each(found.x + step) - self.of_each(found.x - step) for step in steps]) / 2e-4
        return found.x, scores @ np.linalg.inv(scores.T @ scores + np.eye(3) / _PRIOR_SD**2)


def correction_for(known: Sequence[LackingInputs], missing: Sequence[str]) -> tuple[LackingInputs, tuple[str, ...]] | None:
    """The correction for a patient who lacks some inputs, and which more it takes away than the patient lacks.

    The one of the same inputs, else of the fewest that hold them all, else (some inputs are of no pattern) the widest one; none
    where nothing is missing or nothing is known.

    Examples
    --------
    >>> known = [LackingInputs(("FLAIR",), 0, 0, -0.1, 0, 9), LackingInputs(("FLAIR", "T2w"), 0, 0, -0.2, 0, 9)]
    >>> found = correction_for(known, ["T2w"])
    >>> found[0].names, found[1]
    (('FLAIR', 'T2w'), ('FLAIR',))
    """
    lacking = set(missing)
    if not lacking or not known:
        return None
    holding = [one for one in known if lacking <= set(one.names)]
    chosen = min(holding, key=lambda one: len(one.names)) if holding else min(known, key=lambda one: one.log_size)
    return chosen, tuple(sorted(set(chosen.names) - lacking))


def read_lacking(names: Sequence[Sequence[str]], numbers: Array) -> tuple[LackingInputs, ...]:
    """All corrections of a checkpoint.

    Raises
    ------
    InputError
        If there are not five finite numbers of each.
    """
    if numbers.shape != (len(names), 5) or not np.isfinite(numbers).all():
        raise InputError(
            f"error model: lacking of shape {numbers.shape}, expected finite numbers of {(len(names), 5)}; fit it again"
        )
    return tuple(LackingInputs.read(own, row) for own, row in zip(names, numbers, strict=True))
