"""Conformal prediction sets of counts: finite-sample coverage in every arm, whatever the forecasts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from causalms.calibration.pairs import Pairs, forecast_law
from causalms.calibration.pit import pit_ends
from causalms.errors import RefusalError, UsageError, named_arguments
from causalms.stats import Array, CountLaw, DrawsLaw
from causalms.tables import as_frame, percent_in_full


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
