"""Bootstrap of patients, stratified by trial and arm, with percentile and BCa intervals; all replicates at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from causalms.effects.contrasts import Contrast, transformed
from causalms.effects.covariance import Covariance, influence_values
from causalms.effects.data import TrialData
from causalms.effects.design import Settings
from causalms.effects.means import ArmMeans, design
from causalms.errors import RefusalError, UsageError
from causalms.stats import (
    LOG_LINK,
    Array,
    Batch,
    BatchFit,
    Fit,
    acceleration,
    bias_correction,
    bootstrap_ends,
    fit_batch,
    inverse_link,
    resampling_weights,
)

_CHUNK = 250  # replicates drawn from one seed; part of the definition, so that numbers never depend on memory
INTERVALS = ("bca", "percentile")


@dataclass(frozen=True)
class Bootstrap:
    r"""Bootstrap replicates of the contrasts with the reference on the scale of inference.

    Attributes
    ----------
    replicates : array (B, K - 1)
        Missing where a replicate has no finite fit (an arm drawn without events).
    observed : array (K - 1,)
    acceleration : array (K - 1,)
        From the influence function: :math:`\sum\psi^3 / 6(\sum\psi^2)^{3/2}`.
    """

    replicates: Array
    observed: Array
    acceleration: Array

    @property
    def failed(self) -> int:
        """Number of replicates without a finite contrast."""
        return int((~np.isfinite(self.replicates).all(axis=1)).sum())

    def contrast(self, index: int, *, log: bool, level: float = 0.95, interval: str = "bca") -> Contrast:
        """Interval and p-value of one contrast; the p-value is the level at which the interval touches no effect."""
        from scipy.special import ndtr, ndtri

        if interval not in INTERVALS:
            raise UsageError(f"`interval`: found {interval!r}, expected one of {', '.join(INTERVALS)}")
        values = np.sort(self.replicates[np.isfinite(self.replicates[:, index]), index])
        count = len(values)
        if count < 0.9 * len(self.replicates):
            raise RefusalError(
                f"bootstrap: {len(self.replicates) - count} of {len(self.replicates)} replicates have an arm without events; "
                "use `variance=small-sample`"
            )
        shift = accelerated = 0.0
        if interval == "bca":
            shift = float(bias_correction(values[:, None], self.observed[index : index + 1])[0])
            accelerated = float(self.acceleration[index])
        lower, upper = (
            float(end[0]) for end in bootstrap_ends(values[:, None], np.array([shift]), np.array([accelerated]), level)
        )
        null = float(ndtri(np.clip((values < 0).mean(), 1 / (count + 1), count / (count + 1)))) - shift
        tail = float(ndtr(null / (1 + accelerated * null) - shift))
        p_value = min(1.0, 2 * min(tail, 1 - tail))
        se = float(values.std(ddof=1))
        ends = (float(self.observed[index]), lower, upper)
        estimate, low, high = (float(np.exp(end)) for end in ends) if log else ends
        return Contrast(estimate, se, low, high, p_value, level)


def bootstrap(means: ArmMeans, *, scale: str, replicates: int = 10_000, seed: int = 0, interaction: bool = False) -> Bootstrap:
    """Resample patients within trial and arm, refit the working model and standardise anew, for all replicates together.

    Parameters
    ----------
    means : ArmMeans
        The analysis of the whole sample.
    scale : {"log", "identity", "logit"}
    replicates : int
    seed : int
    interaction : bool
        As in the analysis.

    References
    ----------
    Efron (1987), JASA 82:171-185.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects.data import trial_data
    >>> from causalms.effects.means import unadjusted_means
    >>> table = pd.DataFrame({"y": [1, 5, 3, 4, 2, 2, 0, 1], "arm": list("aaaabbbb")})
    >>> data = trial_data(table, outcome="y", arm="arm", reference="a")
    >>> result = bootstrap(unadjusted_means(data, counts=True), scale="log", replicates=500, seed=1)
    >>> round(result.contrast(0, log=True).estimate, 4)
    0.3846
    """
    if replicates < 100:
        raise UsageError(f"`replicates`: found {replicates}, expected at least 100")
    data = means.data
    groups = _groups(data)
    chunks = []
    seeds = np.random.SeedSequence(seed).spawn(-(-replicates // _CHUNK))
    for number, child in enumerate(seeds):
        weights = resampling_weights(groups, data.n, min(_CHUNK, replicates - number * _CHUNK), np.random.default_rng(child))
        chunks.append(_replicate(means, weights, interaction))
    theta = np.concatenate(chunks)
    observed, slopes = transformed(means.estimates, scale, data.arms)
    with np.errstate(all="ignore"):
        values = {"identity": theta, "log": np.log(theta), "logit": np.log(theta) - np.log1p(-theta)}[scale]
    influence = influence_values(means) * slopes
    psi = influence[:, 1:] - influence[:, :1]
    return Bootstrap(values[:, 1:] - values[:, :1], observed[1:] - observed[0], acceleration(psi))


def _groups(data: TrialData) -> list[np.ndarray]:
    """Patients by trial and arm, the reference first, the other arms by name: lots do not depend on which arm was met first."""
    trial = np.zeros(data.n, dtype=int) if data.trial is None else np.unique(data.trial, return_inverse=True)[1]
    rank = np.argsort(sorted(range(len(data.arms)), key=lambda arm: (arm > 0, data.arms[arm])))
    order = trial * len(data.arms) + rank[data.arm]
    return [np.flatnonzero(order == value) for value in np.unique(order)]


def _replicate(means: ArmMeans, weights: Array, interaction: bool) -> Array:
    """Counterfactual means of weighted samples, shape (replicates, K)."""
    data, fit = means.data, means.fit
    arms = len(data.arms)
    own = np.eye(arms)[data.arm]
    events, time = weights @ (own * data.outcome[:, None]), weights @ (own * data.exposure[:, None])
    if not np.any(means.gradient) and len(fit.coefficients) == arms and fit.family == "linear":
        return np.asarray(events / time)  # unadjusted arm means
    batch = _refitted(fit, weights)
    omega = data.exposure if means.rate == "exposure-weighted" else np.ones(data.n)
    theta = np.empty((len(weights), arms))
    with np.errstate(all="ignore"):
        shared = None if interaction or fit.family not in LOG_LINK else _weighted_rates(means, batch, weights, 0, interaction)
        for arm in range(arms):
            if shared is None:
                rates = _weighted_rates(means, batch, weights, arm, interaction)
            else:  # without interaction every patient's rate moves by the same factor
                rates = shared if arm == 0 else shared * np.exp(batch.coefficients[:, arm])[:, None]
            inside = (events[:, arm] - rates @ (own[:, arm] * data.exposure)) / time[:, arm]
            theta[:, arm] = rates @ omega / (weights @ omega) + inside
        if fit.family in LOG_LINK:
            theta[events.min(axis=1) <= 0] = np.nan
    return theta


def _refitted(fit: Fit, weights: Array) -> BatchFit:
    """The working model fitted to weighted samples; patients who are predicted 0 or 1 in the whole sample are so in every one."""
    if fit.limit is None:
        start = BatchFit(fit.coefficients[None], np.array([fit.alpha]), np.array([True]))
        return fit_batch(fit.family, Batch(fit.X, fit.y[None], fit.exposure[None], weights), start, near_limit=True)
    left, kept = fit.limit.side(fit.X) == 0, fit.limit.kept
    start = BatchFit(fit.coefficients[None, kept], np.array([fit.alpha]), np.array([True]))
    finite = Batch(fit.X[np.ix_(left, kept)], fit.y[None, left], fit.exposure[None, left], weights[:, left])
    fitted = fit_batch(fit.family, finite, start, near_limit=True)
    coefficients = np.zeros((len(weights), len(kept)))
    coefficients[:, kept] = fitted.coefficients
    return replace(fitted, coefficients=coefficients)


def _weighted_rates(means: ArmMeans, batch: BatchFit, weights: Array, arm: int, interaction: bool) -> Array:
    """Weights times the predicted rates under an arm, shape (replicates, n)."""
    X = design(means.data, interaction, arm)
    rates = inverse_link(means.fit.family, batch.coefficients @ X.T)
    limit = means.fit.limit
    return np.asarray(weights * (rates if limit is None else limit.predictions(X, rates, means.fit.family)))


def bootstrapped_contrasts(
    means: ArmMeans, covariance: Covariance, settings: Settings
) -> tuple[tuple[Contrast, ...], Covariance, tuple[str, ...]]:
    """Bootstrap contrasts in place of the Wald ones."""
    interval = "percentile" if settings.variance == "bootstrap-percentile" else "bca"
    log = settings.measure.is_ratio
    drawn = bootstrap(
        means,
        scale=settings.measure.scale,
        replicates=settings.replicates,
        seed=settings.seed,
        interaction=settings.interaction,
    )
    count = range(len(means.data.arms) - 1)
    contrasts = tuple(drawn.contrast(index, log=log, level=settings.level, interval=interval) for index in count)
    kind = "percentile" if interval == "percentile" else "BCa"
    name = f"bootstrap of patients within trial and arm ({settings.replicates} replicates, {kind})"
    notes = (f"{drawn.failed} bootstrap replicates without a finite fit are left out",) if drawn.failed else ()
    return contrasts, replace(covariance, name=name), notes
