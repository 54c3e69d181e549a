"""Forecasts mended on some patients and judged on others: recalibration by arm, and conformal sets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.calibration.pairs import Pairs, forecast_law
from causalms.calibration.pit import pit_ends
from causalms.errors import ConvergenceError, InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw
from causalms.tables import DRAWS_OUTCOMES, as_frame, name_of, percent_in_full


@named_arguments
def split(pairs: Pairs, share: float = 0.5, seed: int = 0) -> tuple[Pairs, Pairs]:
    """Two disjoint sets of patients, the first with ``share`` of every trial and arm.

    Examples
    --------
    >>> import pandas as pd
    >>> law = NegativeBinomialLaw([1.0] * 8, [0.5] * 8)
    >>> frame = pd.DataFrame({"trial": "T", "arm": list("aaaabbbb"), "observed": range(8)})
    >>> [part.frame["arm"].tolist() for part in split(Pairs(frame, law, law.activity, 48))]
    [['a', 'a', 'b', 'b'], ['a', 'a', 'b', 'b']]
    """
    if not 0 < share < 1:
        raise UsageError(f"`share`: found {name_of(share)} for a split, expected a number between 0 and 1, such as 0.5")
    rng = np.random.default_rng(seed)
    first = np.zeros(pairs.n, bool)
    for rows in pairs.frame.groupby(["trial", "arm"], sort=True).indices.values():
        first[rng.permutation(rows)[: round(share * len(rows))]] = True
    return pairs.take(np.flatnonzero(first)), pairs.take(np.flatnonzero(~first))


@dataclass(frozen=True)
class Recalibration:
    """A recalibration of the count law.

    Attributes
    ----------
    table : DataFrame
        One row an arm: ``arm``, ``intercept``, ``slope``, ``size`` (negative-binomial; infinite is Poisson), ``n``.
    """

    table: pd.DataFrame

    def law(self, law: CountLaw, arm: NDArray[np.object_] | pd.Series) -> NegativeBinomialLaw:
        """The recalibrated law of patients under given arms."""
        rows = self._rows(pd.Series(np.asarray(arm)))
        mean = np.exp(rows["intercept"].to_numpy() + rows["slope"].to_numpy() * _log_mean(law))
        return NegativeBinomialLaw(mean, rows["size"].to_numpy())

    def apply(self, pairs: Pairs) -> Pairs:
        """The same patients with the recalibrated law, and activity from it."""
        law = self.law(pairs.law, pairs.frame["arm"])
        return replace(pairs, law=law, activity=law.activity)

    def expected(self, draws: pd.DataFrame, source: str = "draws") -> pd.DataFrame:
        """An expected table under the recalibrated law, ready for the effects of simulated tables.

        Volumes are scaled with the mean counts.  Every arm of the table must have been recalibrated, that is, been randomised
        among the patients of the fit.
        """
        draws = as_frame(draws)
        if "expected_net2_lesions" not in draws:
            raise InputError(f"{source}: no column 'expected_net2_lesions'; give an expected table")
        law = self.law(_point(draws["expected_net2_lesions"].to_numpy(float)), draws["arm"])
        volume: pd.Series = draws["expected_net2_volume_ml"] * law.mean / np.maximum(draws["expected_net2_lesions"], 1e-12)
        return draws.drop(columns="zero_inflation", errors="ignore").assign(
            expected_net2_lesions=law.mean,
            expected_net2_volume_ml=volume,
            activity_probability=law.activity,
            dispersion=1 / law.size,
        )

    def sampled(self, draws: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
        r"""Sampled draws moved to the recalibrated law, draw by draw, ready for the effects of simulated tables.

        The r-th smallest of a patient's D counts under an arm becomes the recalibrated law's quantile at (r - 1 + U) / D, U
        uniform: the map is monotone, so draws keep their order.  A draw has the same U under every arm, which keeps the arms of
        a patient coupled.  Volumes scale with counts (a draw that had no lesion gets the arm's mean volume a lesion);
        counts by region have no recalibrated law and are left out.
        """
        draws = as_frame(draws)
        rows = draws.drop(columns=[name for name in DRAWS_OUTCOMES[2:] if name in draws]).reset_index(drop=True)
        cell = rows.groupby(["participant_id", "arm", "visit_week"], sort=False)["net2_lesions"]
        many = cell.transform("size").to_numpy(float)
        mean = np.maximum(cell.transform("mean").to_numpy(float), 0.5 / many)
        uniform = _uniforms(rows, seed)
        place = (cell.rank(method="first").to_numpy(float) - 1 + uniform) / many
        law = self.law(_point(mean), rows["arm"])
        counts = law.quantile(np.minimum(place, 1 - 1e-12))
        old, volume = rows["net2_lesions"].to_numpy(float), rows["net2_volume_ml"].to_numpy(float)
        by_arm = rows.groupby("arm")[["net2_lesions", "net2_volume_ml"]].transform("sum")
        typical = (by_arm["net2_volume_ml"] / by_arm["net2_lesions"].where(by_arm["net2_lesions"] > 0)).fillna(0).to_numpy(float)
        each = np.where(old > 0, volume / np.maximum(old, 1), typical)
        return rows.assign(net2_lesions=counts, net2_volume_ml=counts * each)

    def _rows(self, arm: pd.Series) -> pd.DataFrame:
        known = self.table.set_index("arm")
        if unknown := sorted(set(arm.astype(str)) - set(known.index)):
            raise RefusalError(f"arm {unknown[0]!r} was not among the patients of the recalibration; it has no recalibrated law")
        return known.loc[list(arm.astype(str))].reset_index(drop=True)


@named_arguments
def recalibrate(pairs: Pairs, slope: bool = True) -> Recalibration:
    r"""Fit, arm by arm, a negative-binomial law whose mean is a power of the predicted one.

    .. math:: Y_i \sim NB(\exp(a + b \log m_i), size), \quad a, b, size \text{ by maximum likelihood within the arm}

    The law keeps the simulator's ranking of patients within an arm; a = 0, b = 1 leaves its means alone.

    Parameters
    ----------
    pairs : Pairs
        Patients to fit on; judge the result on others (:func:`split`).
    slope : bool
        False fixes b = 1.

    Returns
    -------
    Recalibration

    Raises
    ------
    RefusalError
        If an arm has fewer than ten patients or no lesion at all.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(1)
    >>> law = NegativeBinomialLaw(np.exp(rng.normal(1, 1, 400)), np.full(400, 0.5))
    >>> frame = pd.DataFrame({"trial": "T", "arm": "a", "observed": law.sample(rng, 1)[:, 0]})
    >>> biased = NegativeBinomialLaw(2 * law.mean, np.full(400, 5.0))
    >>> fit = recalibrate(Pairs(frame, biased, biased.activity, 48)).table.iloc[0]
    >>> [round(float(fit[name]), 1) for name in ("intercept", "slope", "size")]
    [-0.6, 1.0, 0.5]
    """
    rows = []
    for arm in sorted(pairs.frame["arm"].astype(str).unique()):
        part = pairs.take(np.flatnonzero(pairs.frame["arm"].astype(str) == arm))
        if part.n < 10 or part.observed.sum() == 0:
            raise RefusalError(f"arm {arm!r}: {part.n} patients with {part.observed.sum()} lesions are too few to recalibrate on")
        intercept, power, size = _fit(part.observed, _log_mean(part.law), slope)
        rows.append({"arm": arm, "intercept": intercept, "slope": power, "size": size, "n": part.n})
    return Recalibration(pd.DataFrame(rows))


def _fit(y: NDArray[np.int64], log_mean: Array, slope: bool) -> tuple[float, float, float]:
    from scipy.optimize import minimize

    start = np.array([np.log(y.mean()) - np.log(np.exp(log_mean).mean()), 1.0, 0.0])
    free = np.array([True, slope, True])

    def loss(chosen: Array) -> float:
        at = start.copy()
        at[free] = chosen
        mean = np.exp(np.clip(at[0] + at[1] * log_mean, -30, 30))
        mass = NegativeBinomialLaw(mean, np.full(len(y), np.exp(np.clip(at[2], -12, 12)))).pmf(y)
        return float(-np.log(np.maximum(mass, 1e-300)).mean())

    optimum = minimize(loss, start[free], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000})
    if not optimum.success:
        raise ConvergenceError(f"recalibration did not converge ({optimum.message}); fix the slope (`slope=False`)")
    at = start.copy()
    at[free] = optimum.x
    return float(at[0]), float(at[1]), float("inf") if at[2] > 11 else float(np.exp(at[2]))


def _log_mean(law: CountLaw) -> Array:
    """Log predicted mean; draws that are all zero count as half a lesion among all of them."""
    floor = 0.5 / law.draws.shape[1] if isinstance(law, DrawsLaw) else 1e-6
    return np.log(np.maximum(law.mean, floor))


def _point(mean: Array) -> NegativeBinomialLaw:
    return NegativeBinomialLaw(mean, np.full(len(mean), np.inf))


def _uniforms(rows: pd.DataFrame, seed: int) -> Array:
    """One uniform number a patient and draw, the same under every arm and in any order of the rows."""
    patients, whose = np.unique(rows["participant_id"].astype(str), return_inverse=True)
    drawn, which = np.unique(rows["draw"].to_numpy(), return_inverse=True)
    return np.random.default_rng(seed).random((len(patients), len(drawn)))[whose, which]


@dataclass(frozen=True)
class ConformalSets:
    """Conformal sets, calibrated arm by arm.

    Attributes
    ----------
    level : float
        Least coverage, in every arm.
    thresholds : DataFrame
        ``arm``, ``threshold`` (nominal level of the forecast's own central interval that reaches the coverage), ``n``.
    """

    level: float
    thresholds: pd.DataFrame

    def sets(self, law: CountLaw, arm: NDArray[np.object_] | pd.Series) -> pd.DataFrame:
        """Ends of each patient's set: ``lower``, ``upper`` (infinite where the forecasts cannot tell)."""
        known = self.thresholds.set_index("arm")["threshold"]
        arms = pd.Series(np.asarray(arm)).astype(str)
        if unknown := sorted(set(arms) - set(known.index)):
            raise RefusalError(f"arm {unknown[0]!r} was not among the patients of the calibration; it has no conformal set")
        lower, upper = np.zeros(law.n), np.zeros(law.n)
        for name in sorted(set(arms)):
            rows = np.flatnonzero(arms == name)
            lower[rows], upper[rows] = _ends(law.take(rows), float(known[name]))
        return pd.DataFrame({"lower": lower, "upper": upper})

    def table(self, draws: pd.DataFrame, week: float, outcome: str = "net2_lesions", source: str = "draws") -> pd.DataFrame:
        """Sets of every patient under every arm of a draws table: its keys, ``lower``, ``upper`` and ``level``."""
        draws = as_frame(draws)
        rows = draws[(draws["query"] == "interventional") & (draws["visit_week"] == week)]
        parts = []
        for arm, part in rows.groupby("arm", sort=False):
            keys, law = forecast_law(part, outcome, source)
            parts.append(pd.concat([keys, self.sets(law, np.full(law.n, str(arm)))], axis=1).assign(level=self.level))
        return pd.concat(parts, ignore_index=True)

    def judge(self, pairs: Pairs, confidence: float = 0.95) -> pd.DataFrame:
        """Coverage (Wilson interval) and width on other patients: ``arm``, ``n``, ``coverage``, ``lower``, ``upper``, ``width``.

        ``width`` is the mean number of lesions between the ends over the finite sets, ``infinite`` the share of the others.
        """
        from scipy import stats

        ends = self.sets(pairs.law, pairs.frame["arm"])
        inside = ((ends["lower"] <= pairs.observed) & (pairs.observed <= ends["upper"])).to_numpy()
        width = (ends["upper"] - ends["lower"]).to_numpy()
        rows = []
        arms = pairs.frame["arm"].astype(str).to_numpy()
        for name in ["all", *sorted(set(arms))]:
            chosen = np.ones(pairs.n, bool) if name == "all" else arms == name
            share = stats.binomtest(int(inside[chosen].sum()), int(chosen.sum())).proportion_ci(confidence, method="wilson")
            finite = np.isfinite(width) & chosen
            rows.append(
                {
                    "arm": name,
                    "n": int(chosen.sum()),
                    "level": self.level,
                    "coverage": inside[chosen].mean(),
                    "lower": share.low,
                    "upper": share.high,
                    "width": width[finite].mean() if finite.any() else np.inf,
                    "infinite": float(np.isinf(width[chosen]).mean()),
                }
            )
        return pd.DataFrame(rows)


@named_arguments
def conformal(pairs: Pairs, level: float = 0.9) -> ConformalSets:
    r"""Calibrate prediction sets on patients with known counts, arm by arm (Mondrian).

    A count's score is the level of the narrowest central interval of its forecast that holds it,
    :math:`s = \min_{u \in [P(Y<y), P(Y \le y)]} |2u - 1|`.  With the :math:`\lceil (n + 1) level \rceil`-th smallest
    score q of the arm's n patients, the set of a new patient of the arm, :math:`\{k: s(k) \le q\}`, holds the count
    with probability at least ``level`` if the patients are exchangeable; whole counts make it more.

    Parameters
    ----------
    pairs : Pairs
        Patients to calibrate on, other than those to be predicted.
    level : float

    Returns
    -------
    ConformalSets

    Raises
    ------
    RefusalError
        If an arm has fewer than level / (1 - level) patients, so that no finite set has the coverage.

    References
    ----------
    Vovk, Gammerman, Shafer (2005), Algorithmic Learning in a Random World.  Chernozhukov et al. (2021), PNAS 118:e2107794118.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.stats import NegativeBinomialLaw
    >>> rng = np.random.default_rng(1)
    >>> law = NegativeBinomialLaw(np.exp(rng.normal(1, 1, 300)), np.full(300, 0.5))
    >>> frame = pd.DataFrame({"arm": "a", "observed": law.sample(rng, 1)[:, 0]})
    >>> narrow = NegativeBinomialLaw(law.mean / 2, np.full(300, 5.0))
    >>> conformal(Pairs(frame, narrow, narrow.activity, 48), 0.9).sets(narrow, frame["arm"]).head(2).values.tolist()
    [[0.0, 10.0], [0.0, 14.0]]
    """
    if not 0 < level < 1:
        raise UsageError(f"`level`: found {level} for prediction sets, expected a number between 0 and 1, for example 0.9")
    lower, upper = pit_ends(pairs.law, pairs.observed)
    scores = _score(lower, upper)
    rows = []
    for arm, places in pairs.frame.groupby("arm", sort=True).indices.items():
        rank = int(np.ceil((len(places) + 1) * level - 1e-9))
        if rank > len(places):
            raise RefusalError(
                f"arm {arm!r}: {len(places)} patients cannot promise {percent_in_full(level)} coverage; "
                f"at least {int(np.ceil(level / (1 - level) - 1e-9))} are needed"
            )
        rows.append({"arm": str(arm), "threshold": float(np.sort(scores[places])[rank - 1]), "n": len(places)})
    return ConformalSets(level, pd.DataFrame(rows))


def _score(lower: Array, upper: Array) -> Array:
    """Least |2u - 1| over the ends of the transform; zero where they enclose one half."""
    edge = np.minimum(np.abs(2 * lower - 1), np.abs(2 * upper - 1))
    return np.where((lower < 0.5) & (upper > 0.5), 0.0, edge)


def _ends(law: CountLaw, threshold: float) -> tuple[Array, Array]:
    """Smallest count whose P(Y <= k) reaches (1 - q) / 2, and largest whose P(Y < k) stays within (1 + q) / 2."""
    low, high = (1 - threshold) / 2, (1 + threshold) / 2
    if isinstance(law, DrawsLaw):
        size = law.draws.shape[1] + 1
        first = int(np.ceil(size * low - 1 - 1e-9))
        last = int(np.floor(size * high + 1e-9))
        lower = np.zeros(law.n) if first <= 0 else law.draws[:, first - 1].astype(float)
        return lower, np.full(law.n, np.inf) if last >= size - 1 else law.draws[:, last].astype(float)
    if high >= 1:
        return np.zeros(law.n), np.full(law.n, np.inf)
    return law.quantile(max(low - 1e-12, 0.0)).astype(float), law.quantile(min(high + 1e-12, 1 - 1e-15)).astype(float)
