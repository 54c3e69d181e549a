"""Operating characteristics by simulation: bias, coverage, type I error and power of every estimator and variance.

Planned as ADEMP (Morris, White, Crowther 2019): aims, data-generating models, estimands, methods, performance
with Monte-Carlo errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from causalms.effects.data import TrialData
from causalms.effects.means import ArmMeans, counterfactual_means, design
from causalms.effects.variance import coefficient_covariance, means_covariance
from causalms.stats import Array, Batch, Family, Fit, fit_batch
from studies.operating_characteristics.batched_tests import bootstrap_intervals, permutation_p_values, score_p_values


@dataclass(frozen=True)
class CountModel:
    """A data-generating model of a two-arm trial of lesion counts.

    Attributes
    ----------
    name : str
    mean : float
        Mean count a year in the control arm.
    alpha, alpha_treated : float
        Negative-binomial dispersion in the control and in the treated arm.
    zero_inflation : float
        Probability that a patient has no lesion whatever the arm.
    covariate_log_sd : float
        Log rate per standard deviation of a baseline covariate that the analysis adjusts for.
    drop_out : float
        Probability of leaving early, at a time uniform on (0.1, 1) years.
    strata : int
        Number of strata of a blocked randomisation, each with its own rate; 1 for simple randomisation.
    """

    name: str
    mean: float = 3.0
    alpha: float = 2.0
    alpha_treated: float = 2.0
    zero_inflation: float = 0.0
    covariate_log_sd: float = 0.0
    drop_out: float = 0.0
    strata: int = 1

    def simulate(self, ratio: float, per_arm: int, repetitions: int, rng: np.random.Generator) -> SimulatedTrials:
        """Draw trials whose true marginal rate ratio is ``ratio``; the first ``per_arm`` patients are the controls."""
        n = 2 * per_arm
        arm = np.repeat([0, 1], per_arm)
        x = rng.standard_normal((repetitions, n))
        log_rate = np.log(self.mean) + np.where(arm == 1, np.log(ratio), 0.0) + self.covariate_log_sd * x
        log_rate = log_rate - self.covariate_log_sd**2 / 2 - np.log(1 - self.zero_inflation)
        strata = None
        if self.strata > 1:  # blocks filled to the end: every stratum has as many treated as controls
            half = rng.integers(0, self.strata, (repetitions, per_arm))
            strata = np.concatenate([half, half], axis=1)
            levels = np.linspace(-1, 1, self.strata)
            log_rate = log_rate + levels[strata] - np.log(np.exp(levels).mean())
        time = np.ones((1, n))
        if self.drop_out:
            leaves = rng.random((repetitions, n)) < self.drop_out
            time = np.where(leaves, rng.uniform(0.1, 1, (repetitions, n)), 1.0)
        alpha = np.where(arm == 1, self.alpha_treated, self.alpha)
        frailty = rng.gamma(1 / alpha, alpha, (repetitions, n))
        y = rng.poisson(frailty * np.exp(log_rate) * time).astype(float)
        if self.zero_inflation:
            y *= rng.random((repetitions, n)) >= self.zero_inflation
        covariates = x[:, :, None] if self.covariate_log_sd else np.empty((repetitions, n, 0))
        return SimulatedTrials(y, time, arm, covariates, strata, float(np.log(ratio)))


@dataclass(frozen=True)
class SimulatedTrials:
    """R simulated trials of n patients: counts, exposure, arm, covariates (R, n, q), strata and the true log rate ratio."""

    y: Array
    time: Array
    arm: np.ndarray
    covariates: Array
    strata: np.ndarray | None
    log_ratio: float

    def take(self, rows: np.ndarray | slice) -> SimulatedTrials:
        """Chosen repetitions."""
        time = self.time if len(self.time) == 1 else self.time[rows]
        strata = None if self.strata is None else self.strata[rows]
        return SimulatedTrials(self.y[rows], time, self.arm, self.covariates[rows], strata, self.log_ratio)

    def means(self, family: Family, adjusted: bool = True) -> ArmMeans:
        """Fit a working model to every trial and standardise it."""
        covariates = self.covariates if adjusted else self.covariates[:, :, :0]
        names = tuple(f"x{column}" for column in range(covariates.shape[2]))
        time = np.broadcast_to(self.time, self.y.shape)
        rows = np.arange(len(self.arm))
        data = TrialData(self.y, self.arm, ("control", "treated"), time, covariates, names, rows, strata=self.strata)
        X = design(data, interaction=False)
        fit = fit_batch(family, Batch(X, self.y, self.time))
        return counterfactual_means(data, Fit(family, X, self.y, time, fit.coefficients, fit.alpha))


#: The data-generating models of the published table of operating characteristics.
COUNT_MODELS = (
    CountModel("equal dispersion"),
    CountModel("dispersion changed by treatment", alpha_treated=6.0),
    CountModel("zero inflation 40%", zero_inflation=0.4),
    CountModel("varying exposure", drop_out=0.3),
    CountModel("stratified blocks", alpha=1.0, alpha_treated=1.0, strata=4),
    CountModel("prognostic covariate", alpha=1.0, alpha_treated=1.0, covariate_log_sd=0.8),
)


#: Overdispersed counts on which a plain Poisson model must fail (Horton, Kim, Saitz 2007, table 1): mean 5, variance 13, 40, 70.
HORTON_MODELS = tuple(
    CountModel(f"Horton, variance {variance}", mean=5.0, alpha=(variance - 5) / 25, alpha_treated=(variance - 5) / 25)
    for variance in (13, 40, 70)
)


@dataclass(frozen=True)
class MethodResult:
    """Log rate ratios of one method over the repetitions, with standard errors and degrees of freedom.

    A resampling interval has ``lower`` and ``upper`` in place of the Wald ends; a test without an interval has ``p_value`` only.
    """

    estimator: str
    variance: str
    estimate: Array
    se: Array
    degrees_of_freedom: Array
    lower: Array | None = None
    upper: Array | None = None
    p_value: Array | None = None

    @classmethod
    def joined(cls, parts: Sequence[MethodResult]) -> MethodResult:
        """One result from those of successive chunks."""

        def join(name: str) -> Array | None:
            values = [getattr(part, name) for part in parts]
            return None if values[0] is None else np.concatenate(values)

        arrays = {name: join(name) for name in ("estimate", "se", "degrees_of_freedom", "lower", "upper", "p_value")}
        return cls(parts[0].estimator, parts[0].variance, **arrays)  # type: ignore[arg-type]


def methods(trials: SimulatedTrials) -> Iterator[MethodResult]:
    """Every estimator with every variance on the same trials."""
    families: tuple[tuple[Family, str], ...] = (("poisson", "Poisson"), ("negbin", "negative binomial"))
    for family, name in families:
        means = trials.means(family)
        kinds = ("model-r",) if family == "poisson" else ("model-sas", "model-r", "hc0", "hc3", "hc3-t")
        beta = means.fit.coefficients[:, 1]
        for kind in kinds:
            covariance = coefficient_covariance(means.fit, kind)
            degrees = np.full(len(beta), covariance.degrees_of_freedom)
            label = f"{name.replace(' ', '-')} regression"
            yield MethodResult(label, kind, beta, np.sqrt(covariance.matrix[:, 1, 1]), degrees)
        yield from _standardized(trials, means, f"standardized {name}", full=family == "poisson")
    if trials.covariates.shape[2]:
        yield from _standardized(trials, trials.means("poisson", adjusted=False), "unadjusted", full=False)


def _standardized(trials: SimulatedTrials, means: ArmMeans, label: str, full: bool) -> Iterator[MethodResult]:
    value = np.log(means.estimates[:, 1] / means.estimates[:, 0])
    gradient = np.array([-1, 1]) / means.estimates
    more = ("leave-one-out", "leave-one-out-t", "hc0", "hc1", "hc2", "hc3") if full else ()
    for name in ("influence", *more, "hc3-t", "small-sample"):
        for scheme in ("simple", "permuted-block"):
            if scheme == "permuted-block" and (trials.strata is None or name not in ("influence", "small-sample")):
                continue
            covariance = means_covariance(means, name, scheme)
            variance, degrees = covariance.of_contrast(np.array([0, 1]), gradient)
            printed = name if scheme == "simple" else f"{name}, {scheme}"
            yield MethodResult(label, printed, value, np.sqrt(variance), degrees)


def resampling(trials: SimulatedTrials, seed: Sequence[int], replicates: int = 999) -> Iterator[MethodResult]:
    """Score test, permutation test and bootstrap of the crude rates; the same resamples for every chunk of trials."""
    estimate = np.log(_crude(trials, 1) / _crude(trials, 0))
    nothing, infinite = np.ones(len(estimate)), np.full(len(estimate), np.inf)
    score = score_p_values(trials.y, trials.time, trials.arm)
    yield MethodResult("unadjusted", "score test", estimate, nothing, infinite, p_value=score)
    if trials.strata is None:
        permuted = permutation_p_values(trials.y, trials.time, trials.arm, replicates, np.random.default_rng(seed))
        yield MethodResult("unadjusted", "permutation test", estimate, nothing, infinite, p_value=permuted)
    drawn = bootstrap_intervals(trials.y, trials.time, trials.arm, replicates, 0.95, np.random.default_rng(seed))
    for name, (lower, upper) in drawn.items():
        yield MethodResult("unadjusted", name, estimate, nothing, infinite, lower=lower, upper=upper)


def _crude(trials: SimulatedTrials, arm: int) -> Array:
    own = trials.arm == arm
    time = np.broadcast_to(trials.time, trials.y.shape)[:, own].sum(axis=1)
    return np.asarray(trials.y[:, own].sum(axis=1) / time)


def performance(results: list[MethodResult], log_ratio: float, level: float = 0.95) -> pd.DataFrame:
    r"""Bias, coverage and rejection of each method, each with its Monte-Carlo error.

    Coverage and rejection are proportions with error :math:`\sqrt{\hat p(1-\hat p)/R}`; bias is on the log scale with error
    :math:`s/\sqrt{R}`.  Repetitions without a finite estimate (an arm without events, a fit that did not converge) are counted in
    ``failed`` and left out.

    References
    ----------
    Morris, White, Crowther (2019), Statistics in Medicine 38:2074-2102.
    """
    rows = []
    for result in results:
        good = np.isfinite(result.estimate) & np.isfinite(result.se) & (result.se > 0)
        value, se, degrees = result.estimate[good], result.se[good], result.degrees_of_freedom[good]
        finite = np.where(np.isfinite(degrees), degrees, 1e9)
        quantile = np.where(np.isfinite(degrees), stdtrit(finite, (1 + level) / 2), ndtri((1 + level) / 2))
        lower = value - quantile * se if result.lower is None else result.lower[good]
        upper = value + quantile * se if result.upper is None else result.upper[good]
        covered = (lower <= log_ratio) & (log_ratio <= upper)
        rejected = (lower > 0) | (upper < 0)
        if result.p_value is not None:  # a test of no effect has no interval to cover
            covered, rejected = np.full(len(value), np.nan), result.p_value[good] <= 1 - level
        count = len(value)
        rows.append(
            {
                "estimator": result.estimator,
                "variance": result.variance,
                "repetitions": count,
                "failed": len(good) - count,
                "bias": value.mean() - log_ratio,
                "bias_mcse": value.std(ddof=1) / np.sqrt(count),
                "empirical_se": value.std(ddof=1),
                "mean_se": np.sqrt((se**2).mean()) if result.lower is None and result.p_value is None else np.nan,
                "coverage": covered.mean(),
                "coverage_mcse": np.sqrt(covered.mean() * (1 - covered.mean()) / count),
                "rejection": rejected.mean(),
                "rejection_mcse": np.sqrt(rejected.mean() * (1 - rejected.mean()) / count),
                "median_width": np.median(upper - lower) if result.p_value is None else np.nan,
            }
        )
    return pd.DataFrame(rows)


def operating_characteristics(
    model: CountModel, ratio: float, per_arm: int, repetitions: int, seed: int, chunk: int = 500
) -> pd.DataFrame:
    """Performance of every method in one cell of the grid; the same numbers for any ``chunk``."""
    rng = np.random.default_rng([seed, per_arm, round(1000 * ratio), *model.name.encode()])
    trials = model.simulate(ratio, per_arm, repetitions, rng)
    total = np.stack([trials.y[:, trials.arm == arm].sum(axis=1) for arm in (0, 1)])
    usable = np.flatnonzero((total > 0).all(axis=0))
    pieces: list[list[MethodResult]] = []
    with np.errstate(all="ignore"):
        for start in range(0, len(usable), chunk):
            part = trials.take(usable[start : start + chunk])
            pieces.append([*methods(part), *resampling(part, [seed, per_arm])])
    joined = [MethodResult.joined(parts) for parts in zip(*pieces, strict=True)]
    table = performance(joined, trials.log_ratio)
    table["failed"] += repetitions - len(usable)
    table.insert(0, "model", model.name)
    table.insert(1, "ratio", ratio)
    table.insert(2, "per_arm", per_arm)
    return table
