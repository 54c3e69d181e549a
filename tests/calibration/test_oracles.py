"""Scores, tests and PIT against R's surveillance 1.20.3; the numbers are printed with nine digits."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import gammaln

from causalms.calibration import calibration_test, pit_histogram
from causalms.stats import DrawsLaw, NegativeBinomialLaw, score

ORACLE = pd.read_csv(
    io.StringIO("""y,mu,size,log,crps,dawid-sebastiani
0,0.5,0.8,0.388406253,0.1183533073,0.100052943
0,1,0.8,0.648744173,0.3110492033,1.255374661
1,1,0.8,1.459674389,0.3564527789,0.810930216
3,2,0.8,2.409124023,1.0500890879,2.088767292
0,0.4,0.8,0.324372086,0.0846077759,-0.244158957
7,4,0.8,3.262159789,2.5840591033,3.553053830
2,3,0.8,2.047797318,0.6962582200,2.726932345
12,5,0.8,4.021492181,5.5063708746,4.942163519
0,2,0.8,1.002210375,0.7389932310,2.517338720
1,1.5,0.8,1.495429706,0.3807439826,1.519488797
""")
)
LAW = NegativeBinomialLaw(ORACLE["mu"], ORACLE["size"])


@pytest.mark.parametrize("name", ["log", "crps", "dawid-sebastiani"])
def test_scores_match_surveillance(name: str) -> None:
    np.testing.assert_allclose(score(name, LAW, ORACLE["y"]), ORACLE[name], atol=1e-9)


def test_dawid_sebastiani_test_matches_surveillance() -> None:
    assert calibration_test(LAW, ORACLE["y"], "dawid-sebastiani", method="normal").p_value == pytest.approx(0.52110834, abs=1e-8)


def test_pit_histogram_matches_surveillance() -> None:
    printed = [0.749522425, 0.704663046, 1.449561633, 1.231560311, 0.864692585]
    np.testing.assert_allclose(pit_histogram(LAW, ORACLE["y"], bins=5, repetitions=99).table["density"], printed, atol=1e-9)


@pytest.mark.parametrize("size", [0.05, 0.3, 0.8, 1.0, 4.0, np.inf])
@pytest.mark.parametrize("mean", [0.0, 0.01, 2.0, 800.0])
def test_law_matches_scipy_at_every_size(mean: float, size: float) -> None:
    counts = np.array([0, 1, 3, 50, 5000])
    law = NegativeBinomialLaw(np.full(5, mean), np.full(5, size))
    other = stats.poisson(mean) if np.isinf(size) else stats.nbinom(size, size / (size + mean))
    np.testing.assert_allclose(law.pmf(counts), other.pmf(counts), rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(law.cdf(counts), other.cdf(counts), rtol=1e-9)
    np.testing.assert_allclose(law.variance[0], other.var(), rtol=1e-12)
    for probability in (0.05, 0.5, 0.975):
        quantiles = law.quantile(probability)[0]
        assert other.cdf(quantiles) >= probability - 1e-12
        assert quantiles == 0 or other.cdf(quantiles - 1) < probability + 1e-12


def test_crps_of_a_poisson_matches_its_closed_form() -> None:
    from scipy.special import ive

    mean, y = 7.0, np.array([0, 3, 7, 25])
    law = stats.poisson(mean)
    closed = (y - mean) * (2 * law.cdf(y) - 1) + 2 * mean * law.pmf(y) - mean * (ive(0, 2 * mean) + ive(1, 2 * mean))
    np.testing.assert_allclose(score("crps", NegativeBinomialLaw(np.full(4, mean), np.full(4, np.inf)), y), closed, rtol=1e-9)


def test_crps_of_a_wide_law_keeps_its_digits() -> None:
    # Mean 3,000 at size 0.05: closed forms lose all digits here.  E|X - y| - E|X - X'| / 2 by a million draws, error about 0.3%.
    law = NegativeBinomialLaw([3000.0], [0.05])
    x = np.sort(law.sample(np.random.default_rng(3), 1_000_000)[0]).astype(float)
    n = len(x)
    spread = 2 * np.sum((2 * np.arange(1, n + 1) - n - 1) * x) / n**2
    assert score("crps", law, [10])[0] == pytest.approx(np.abs(x - 10).mean() - spread / 2, rel=0.02)


def test_zero_inflated_law_has_its_mean_variance_and_zeros() -> None:
    law = NegativeBinomialLaw([2.0], [0.7], [0.3])
    counts = np.arange(4000)
    mass = law.pmf(counts[None, :])[0]
    mean = (mass * counts).sum()
    assert mean == pytest.approx(2.0, rel=1e-10)
    assert (mass * (counts - mean) ** 2).sum() == pytest.approx(law.variance[0], rel=1e-8)
    assert mass[0] == pytest.approx(0.3 + 0.7 * stats.nbinom.pmf(0, 0.7, 0.7 / (0.7 + 2 / 0.7)), rel=1e-10)


def test_fair_scores_of_draws_do_not_depend_on_their_number() -> None:
    # Averaged over simulators with D draws, the fair scores are those of the law itself; tolerance 4 standard errors.
    patients, mean, size = 4000, 2.0, 0.8
    law = NegativeBinomialLaw(np.full(patients, mean), np.full(patients, size))
    rng = np.random.default_rng(5)
    y = law.sample(rng, 1)[:, 0]
    for name in ("crps", "brier"):
        truth = score(name, law, y)
        for draws in (2, 5, 40):
            gap = score(name, DrawsLaw(law.sample(rng, draws)), y) - truth
            assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(patients)


def test_log_score_of_an_undrawn_count_is_finite() -> None:
    assert np.isfinite(score("log", DrawsLaw([[0, 0, 0, 0]]), [9])).all()
    assert np.isfinite(score("dawid-sebastiani", DrawsLaw([[0, 0, 0, 0]]), [9])).all()


def _moments_of_surveillance(tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the log score as that package sums them.

    Terms linear in the count are summed to infinity in closed form; the series of log(k! gamma(size) / gamma(k + size)) stops
    at the ``1 - tail`` quantile plus five, in the mean and again in the variance.
    """
    means, variances = [], []
    for mean, size in zip(ORACLE["mu"], ORACLE["size"], strict=True):
        law = stats.nbinom(size, size / (size + mean))
        k = np.arange(int(law.isf(tail)) + 6)
        series = gammaln(k + 1) + gammaln(size) - gammaln(k + size)
        expected = (series * law.pmf(k)).sum() - size * np.log(size) - mean * np.log(mean) + (mean + size) * np.log(mean + size)
        square = ((series + k * np.log1p(size / mean)) ** 2 * law.pmf(k)).sum()
        means.append(expected)
        variances.append(square - (expected - size * np.log1p(mean / size)) ** 2)
    return np.array(means), np.array(variances)


def test_log_score_test_differs_from_surveillance_by_its_truncated_series_alone() -> None:
    def p_value(tail: float) -> float:
        mean, variance = _moments_of_surveillance(tail)
        z = ((ORACLE["log"] - mean) / np.sqrt(variance)).sum() / np.sqrt(len(ORACLE))
        return float(2 * stats.norm.sf(abs(z)))

    # Its tail of 1e-5 gives the printed p; the same sums with the tail left in give ours. The scores have nine digits.
    assert p_value(1e-5) == pytest.approx(0.860696136, abs=1e-9)
    ours = calibration_test(LAW, ORACLE["y"], "log", method="normal").p_value
    assert ours == pytest.approx(p_value(1e-14), abs=1e-9)
    assert ours == pytest.approx(0.860578519, abs=1e-9)
