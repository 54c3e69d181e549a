"""Fixed analyses of the statistics below the effects: fits, laws, scores, tests, weights, the model of a generator's error."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from causalms import stats
from causalms.validation.shipped_tables import Runs, epil, made_trial


def _regression() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(5)
    x = np.column_stack([np.ones(60), rng.normal(size=60), np.arange(60) % 2])
    y = rng.poisson(np.exp(0.5 + 0.4 * x[:, 1] - 0.6 * x[:, 2]) * rng.gamma(1.5, 1 / 1.5, 60)).astype(float)
    return x, y, rng


def _outcome(family: str, y: Any) -> Any:
    return (y > 1).astype(float) if family == "logistic" else y


def _fitted(family: str, scale: float) -> list[Any]:
    x, y, _ = _regression()
    if family == "logistic":
        x, scale = x[:, :2], max(scale, 1.0)
    time = 1.0 + np.arange(60) % 4 / 3
    fit = stats.fit_model(family, x, _outcome(family, np.floor(y * scale)), time if family in stats.LOG_LINK else None)  # type: ignore[arg-type]
    return [
        fit,
        fit.inverse_information,
        fit.leverage,
        fit.scores,
        stats.mean_slope(fit.family, fit.mean),
        stats.log_likelihood(fit),
        stats.pearson_chi_square(fit),
        stats.goodness(fit),
        *([stats.observed_information(fit)] if family == "negbin" else []),
    ]


def _batch(family: str, scale: float, exact: bool, weighted: bool, near: bool) -> Any:
    x, y, rng = _regression()
    counts = _outcome(family, np.floor(scale * rng.permuted(np.tile(y, (6, 1)), axis=1)))
    weights = rng.multinomial(60, np.full(60, 1 / 60), 6).astype(float) if weighted else None
    time = np.ones((1, 60)) * (1 + np.arange(60) % 3)
    start = None
    if near:
        start = stats.fit_batch(family, stats.Batch(x, counts[:1], time))  # type: ignore[arg-type]
        counts = counts[:1]
    batch = stats.Batch(x, counts, time, weights)
    fit = stats.fit_batch(family, batch, start, exact=exact, near_limit=near)  # type: ignore[arg-type]
    return [fit.coefficients, fit.alpha, fit.converged]


def _designs(family: str, scale: float) -> Any:
    """Replicates with a design each."""
    x, y, rng = _regression()
    every = [rng.permutation(60) for _ in range(4)]
    X, counts = np.stack([x[rows] for rows in every]), _outcome(family, np.stack([y[rows] + (y > 3) for rows in every]))
    counts = counts if family == "logistic" else np.floor(counts * scale)
    fit = stats.fit_batch(family, stats.Batch(X, counts, np.ones((1, 60))))  # type: ignore[arg-type]
    return [fit.coefficients, fit.alpha, fit.converged]


def _nearly_poisson(gamma: float) -> Any:
    """Counts with next to no dispersion, where formulas change to their series."""
    rng = np.random.default_rng(8)
    x = np.column_stack([np.ones(400), rng.normal(size=400)])
    mean = 0.02 * np.exp(0.3 * x[:, 1]) if gamma == 0.003 else 2 * np.exp(0.3 * x[:, 1])
    y = rng.poisson(mean * (1 + gamma * rng.normal(size=400)).clip(0.1)).astype(float)
    y[:6] += gamma > 0
    fit = stats.fit_model("negbin", x, y)
    at = replace(fit, alpha=2e-4)
    return [
        fit,
        stats.observed_information(fit),
        stats.observed_information(at),
        stats.log_likelihood(at),
        stats.adjusted_alphas(y[None], mean[None]),
    ]


def runs() -> Runs:
    """All of them."""
    for family, scale in product(stats.FAMILIES, (1.0, 700.0, 0.4, 3e4)):
        yield f"fit: {family} {scale}", lambda family=family, scale=scale: _fitted(family, scale)
    for family, size, exact, weighted, near in product(
        stats.FAMILIES, (1.0, 700.0, 0.4), (False, True), (False, True), (False, True)
    ):
        scale = 1.0 if family == "logistic" and size < 1 else size  # else some samples are separated
        if scale != size:
            continue
        yield (
            f"batch: {family} {scale} {exact} {weighted} {near}",
            lambda family=family, scale=scale, exact=exact, weighted=weighted, near=near: _batch(
                family, scale, exact, weighted, near
            ),
        )
    for name, fixed in product(("logistic", "poisson"), (None, (2, 0.3), (1, 9.0))):
        yield (
            f"firth: {name} {fixed}",
            lambda family=name, fixed=fixed: [
                fit := stats.fit_firth(family, _regression()[0], _outcome(family, _regression()[1]), fixed=fixed),
                stats.penalised_likelihood(fit),
            ],
        )
    for family, scale in product(stats.FAMILIES, (1.0, 3e4)):
        yield f"designs: {family} {scale}", lambda family=family, scale=scale: _designs(family, scale)
    for gamma in (0.0, 0.003, 0.05):
        yield f"nearly Poisson: {gamma}", lambda gamma=gamma: _nearly_poisson(gamma)
    yield from _laws()
    yield from _tests()
    yield from _error_model()
    yield from _resampling()


def _laws() -> Runs:
    def law(zero: float) -> Any:
        rng = np.random.default_rng(6)
        return stats.NegativeBinomialLaw(rng.uniform(0.2, 8, 40), rng.uniform(0.4, 3, 40), np.full(40, zero)), rng.poisson(
            3.0, 40
        )

    for zero in (0.0, 0.2):
        yield (
            f"law: {zero}",
            lambda zero=zero: [
                *(getattr(law(zero)[0], name)(law(zero)[1]) for name in ("pmf", "cdf", "log_pmf")),
                law(zero)[0].mean,
                law(zero)[0].variance,
                law(zero)[0].activity,
                law(zero)[0].quantile(0.7),
                law(zero)[0].interval(0.8),
                law(zero)[0].sample(np.random.default_rng(1), 3),
            ],
        )
        for name in stats.SCORES:
            yield f"score: {name} {zero}", lambda name=name, zero=zero: stats.score(name, *law(zero))
    pool = np.random.default_rng(7).poisson(2.5, (30, 9))
    for name in stats.SCORES:
        yield f"pool score: {name}", lambda name=name: stats.pool_scores(name, pool)
    yield "pool", lambda: [stats.others_moments(pool), stats.pool_ranks(pool), stats.moment_law(pool.mean(1), pool.var(1) + 0.1)]
    draws = stats.DrawsLaw(pool)
    yield (
        "draws law",
        lambda: [
            draws.mean,
            draws.variance,
            draws.pmf(pool[:, 0]),
            draws.cdf(pool[:, 1]),
            draws.quantile(0.3),
            draws.interval(0.5),
            draws.activity,
        ],
    )
    mixture = stats.NormalMixture(np.array([0.3, 0.7]), np.array([0.0, 1.0]), np.array([0.5, 2.0]))
    yield (
        "mixture",
        lambda: [
            mixture.mean,
            mixture.variance,
            mixture.quantile(0.9),
            mixture.cdf(0.2),
            mixture.posterior(0.4, 0.3),
            mixture.shifted(0.1, 2.0, 0.3),
            mixture.expected_information(),
        ],
    )
    yield "normal", lambda: [stats.normal_cdf(1.3), stats.normal_quantile(0.3), stats.normal_cdf(-9.0)]


def _tests() -> Runs:
    p = np.array([0.001, 0.02, 0.04, 0.3, 0.045])
    for method in stats.MULTIPLICITY_METHODS:
        yield f"multiplicity: {method}", lambda method=method: stats.adjusted_p_values(p, method)
    weights, arrows = np.array([0.5, 0.5, 0.0]), np.array([[0, 0.6, 0.4], [0.5, 0, 0.5], [1.0, 0, 0]])
    yield "graph", lambda: stats.graphical_p_values(p[1:4], weights, arrows)
    correlation = np.array([[1, 0.5, 0.2], [0.5, 1, 0.4], [0.2, 0.4, 1]])
    for degrees in (np.inf, 7.0):
        yield (
            f"simultaneous: {degrees}",
            lambda degrees=degrees: [
                stats.simultaneous_critical_value(correlation, 0.9, degrees),
                stats.probability_within(correlation, 2.0, degrees),
            ],
        )
    for structure in stats.STRUCTURES:
        for gaps in (False, True):
            yield f"gee: {structure} {gaps}", lambda structure=structure, gaps=gaps: _gee(structure, gaps)
    yield "rates, strong effect", lambda: stats.fit_rates(5.0 * (np.arange(12.0)[:, None] % 3), _intervals(), "breslow")
    yield (
        "gee: ar1, one visit each",
        lambda: stats.fit_gee(
            _regression()[0], _regression()[1], np.ones(60), np.arange(60), np.zeros(60, dtype=int), structure="ar1"
        ),
    )
    for ties in stats.TIES:
        yield (
            f"rates: {ties}",
            lambda ties=ties: [
                stats.fit_rates(np.arange(12.0)[:, None] % 3, _intervals(), ties),
                stats.mean_cumulative(_intervals()),
            ],
        )
    yield (
        "frailty",
        lambda: stats.fit_shared_frailty(
            np.column_stack([np.ones(40), np.arange(40) % 2]),
            np.random.default_rng(3).poisson(np.repeat([1.0, 4.0, 0.3, 9.0], 10)).astype(np.float64),
            np.asarray(1 + np.arange(40) % 3 / 2, dtype=np.float64),
            np.arange(40) // 4,
        ),
    )
    for kind, family in product(("zero-inflated", "hurdle"), ("negbin", "poisson")):
        yield (
            f"zeros: {kind} {family}",
            lambda kind=kind, family=family: stats.fit_zero_model(
                kind,
                family,
                _regression()[0],
                _regression()[0][:, :1],
                np.maximum(_regression()[1], 1) * (np.arange(60) % 3 > 0),
                np.asarray(1.0 + np.arange(60) % 2, dtype=np.float64),
            ),
        )
    yield (
        "dispersion",
        lambda: [
            stats.adjusted_alphas(by * _regression()[1].reshape(2, 30), np.repeat([[2.0], [6.0]], 30, axis=1))
            for by in (1.0, 2.0, 5.0, 3e4)
        ],
    )


def _gee(structure: str, gaps: bool) -> Any:
    x, y, _ = _regression()
    kept = np.flatnonzero(np.arange(60) % 7 > 0) if gaps else np.arange(60)
    return stats.fit_gee(x[kept], y[kept], 1 + kept % 4 / 3, kept // 4, kept % 4, structure=structure)


def _intervals() -> stats.Intervals:
    every = np.arange(12)
    start, stop = (np.asarray(time, dtype=np.float64) for time in (every % 2, 2 + every % 5))
    return stats.Intervals(start, stop, (every % 3 > 0).astype(float), every // 2, every % 2)


def _error_model() -> Runs:
    def held_out(seed: int, n: int, trials: int, shift: float = 0.0) -> stats.HeldOutCounts:
        rng = np.random.default_rng(seed)
        arm, log_expected = rng.integers(0, 2, n), np.log([4.0, 1.0]) + rng.normal(0, 0.5, (n, 1))
        mean = np.exp(log_expected[np.arange(n), arm] + np.array([0.0, 0.3 + shift])[arm])
        columns = np.array([30.0, 2.0]) + rng.normal(size=(n, 2)) @ np.array([[7.0, 0.3], [0.0, 0.5]])
        columns[::9, 0] = np.nan
        counts = rng.poisson(mean * rng.gamma(0.5, 2.0, n))
        return stats.HeldOutCounts(counts, arm, log_expected, columns, np.array([0.5, 0.7]), np.arange(n) % trials)

    def learned() -> stats.ErrorModel:
        return stats.fit_error_model(held_out(1, 400, 3), ("placebo", "drug"), ("age", "edss"))

    def cells() -> list[Any]:
        error, data = learned(), held_out(2, 30, 1)
        return [
            error,
            error.about_zero(),
            error.summary.distance(data.columns),
            error.draw(4, 1),
            error.log_ratios(data.log_expected, data.columns, error.mean[None]),
            error.loadings(data.log_expected, data.columns, 1),
            error.log_size_sd,
            error.means(data.log_expected, data.columns, 3, 5),
            [
                vars(cell)
                for arm in (0, 1)
                for cell in error.cells(data.log_expected, data.columns, arm, np.exp(data.log_expected[:, arm]), 0.6)
            ],
        ]

    yield "error model", lambda: cells()
    for shift, trials, known in ((0.0, 1, True), (3.0, 1, True), (0.0, 3, True), (0.0, 2, False)):
        yield (
            f"error model updated: {shift} {trials} {known}",
            lambda shift=shift, trials=trials, known=known: stats.update_error_model(
                learned(), held_out(3, 200, trials, shift), known=known
            ),
        )


def _resampling() -> Runs:
    groups = [np.arange(0, 20), np.arange(20, 30)]
    yield "resampling", lambda: stats.resampling_weights(groups, 30, 20, np.random.default_rng(1))

    def permuted() -> list[Any]:
        treated, values = (np.arange(30) % 2).astype(float), np.random.default_rng(2).poisson(3.0, 30).astype(float)
        labels = stats.permuted_labels(treated, groups, 15, np.random.default_rng(3))
        found = [one(labels, np.vstack([values, values**2])) for one in (stats.mean_differences, stats.welch_statistics)]
        return [*found, stats.extreme_permutations(found[0][:1], found[0])]

    yield "permutations", permuted
    replicates = np.random.default_rng(4).normal(size=(200, 2))
    yield (
        "bootstrap ends",
        lambda: [
            stats.bias_correction(replicates, np.array([0.1, -0.2])),
            stats.acceleration(replicates[:30, 0]),
            stats.bootstrap_ends(replicates, np.array([0.1, 0.0]), np.array([0.02, -0.01]), 0.9),
        ],
    )
    for shift in (0.1, 0.8, 1.6, 2.0):
        yield (
            f"entropy balance: {shift}",
            lambda shift=shift: stats.entropy_balance(np.random.default_rng(5).normal(size=(60, 3)) + shift),
        )
    yield (
        "own counts",
        lambda: stats.own_counts_test(
            made_trial()[0]["net2_lesions_week48"].to_numpy(float),
            np.full(120, 2.0),
            np.full(120, 6.0),
            np.arange(120) % 2,
            np.column_stack([np.full(120, 0.1), 0.2 * (np.arange(120) % 2)]),
        ),
    )
    yield "alone with events", lambda: stats.adjusted_alphas(np.eye(1, 400) * 3000, np.full((1, 400), 0.01))
    yield (
        "limit",
        lambda: [
            getattr(
                stats.fit_or_limit(
                    family,
                    np.column_stack([np.ones(59), epil()["trt"] == "placebo"]).astype(float),
                    epil()["few"].clip(upper=1).to_numpy(float) * (epil()["trt"] == "placebo"),
                ),
                name,
            )
            for family in ("poisson", "logistic", "negbin")
            for name in ("coefficients", "mean", "inverse_information")
        ],
    )
