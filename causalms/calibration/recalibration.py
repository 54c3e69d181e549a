"""Recalibration of the count law by arm, fitted on some patients and to be judged on others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.calibration.pairs import Pairs
from causalms.errors import ConvergenceError, InputError, RefusalError, UsageError, named_arguments
from causalms.stats import Array, CountLaw, DrawsLaw, NegativeBinomialLaw
from causalms.tables import DRAWS_OUTCOMES, as_frame, name_of


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
