"""The value of treating by predicted benefit, under a cap on the share of patients who may be given the high-risk drug."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.benefit.predict import Benefit, benefit_row
from causalms.benefit.redraws import Floats, Redraws
from causalms.benefit.statistics import Inference, NullDistribution, Pair, capped_policy, studentised
from causalms.errors import UsageError
from causalms.tables import ResultRow, name_of, percent_in_full, percentage, results_table


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Rules of treatment by predicted benefit, and groups of it, that a trial judges.

    Attributes
    ----------
    caps : sequence of float
        Largest shares of patients that may be given the drug.
    least_benefit : float
        Predicted lesions spared below which the drug is not given.
    groups : int
        Quantile groups of the prediction.

    Examples
    --------
    >>> Policies(caps=(1.0, 0.3)).groups
    4
    """

    caps: Sequence[float] = (1.0,)
    least_benefit: float = 0.0
    groups: int = 4


#: Least number of patients on either side of a rule whose gain has an interval.
FEWEST = 10


def who_is_treated(data: Benefit, cap: float = 1.0, least_benefit: float = 0.0) -> Floats:
    """Probability that each patient gets the drug: the most promising first, while the budget lasts.

    Patients with a predicted benefit above ``least_benefit`` are treated in its order until the cap is reached; those tied at
    the cap share what is left.

    Examples
    --------
    >>> import numpy as np
    >>> data = Benefit(np.array([3.0, 1, 1, -1]), np.zeros(4), np.zeros(4), np.arange(4), "d", "p", "made")
    >>> who_is_treated(data, cap=0.5).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    if not 0 <= cap <= 1:
        raise UsageError(f"cap {name_of(cap)} on the share treated; give a number from 0 to 1")
    left = cap * data.n
    chance = np.zeros(data.n)
    for value in np.unique(data.score)[::-1]:
        tied = data.score == value
        if value <= least_benefit or left <= 0:
            break
        chance[tied] = min(1.0, left / tied.sum())
        left -= tied.sum()
    return chance


def benefit_at(score: Floats, spared: Floats, threshold: float, share: float = 0.2) -> float:
    """Mean benefit of the patients around a threshold of the score: a fifth of all, nearest by rank, ties included.

    Where a cap decides who is treated, the threshold moves with the sample; a patient more above it pushes one out who stands
    at it.  This is what that patient would have been spared.

    Examples
    --------
    >>> import numpy as np
    >>> benefit_at(np.arange(10.0), np.arange(10.0) ** 2, threshold=5.0)
    20.5
    """
    rank = np.argsort(np.argsort(score, kind="stable"), kind="stable")
    centre = (score < threshold).sum() - 0.5
    near = np.abs(rank - centre) <= max(share * len(score) / 2, 1)
    return float(spared[near | (score == threshold)].mean())


def policy_value(
    data: Benefit,
    caps: Sequence[float] = (1.0,),
    least_benefit: float = 0.0,
    inference: Inference = Inference(),
) -> pd.DataFrame:
    r"""Mean lesions if patients were treated by predicted benefit under a risk budget, beside treating all or nobody.

    With treatment probabilities d, :math:`V(d) = E[d(X) Y(1) + (1 - d(X)) Y(0)]`, estimated by the mean of
    :math:`d_i \Gamma_i(1) + (1 - d_i) \Gamma_i(0)`.  A second row of every policy is its gain over the same share treated at
    random, which is what the prediction is worth; it has no interval where the rule parts off fewer than 10 patients: what
    so few would have gained cannot be seen in one trial.

    Under a cap that binds, the threshold c is the sample's quantile of the score, so
    :math:`(d_i - \text{cap}) E[\Gamma(0) - \Gamma(1) \mid s = c]` belongs to the influence function: who is treated one more
    pushes out a patient at the threshold (``benefit_at``).  The interval is then of the best treatment of that share
    of the population.

    Parameters
    ----------
    data : Benefit
    caps : sequence of float
        Largest shares that may be given the drug.
    least_benefit : float
        Predicted lesions spared below which the drug is not given.
    inference : Inference

    Returns
    -------
    DataFrame
        Results table: ``value of ...`` (mean lesions) and ``lesions spared against random`` rows.

    References
    ----------
    Athey, Wager (2021), Econometrica 89:133.  Luedtke, van der Laan (2016), Int J Biostat 12:283 (treatment under a cap).

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> before = rng.gamma(2, 2, 400)
    >>> data = Benefit(before * 0.6, before, 0.4 * before, np.arange(400), "d", "p", "made")
    >>> policy_value(data, caps=(0.5,))[["measure", "estimate"]].round(2).values.tolist()[2:]
    [['value of treating at most 50% by predicted benefit', 2.09], ['lesions spared against random', 0.57]]
    """
    redraws = data.redraws(inference.redraws, inference.seed)
    rows = []
    for name, chance in (("treating nobody", np.zeros(data.n)), ("treating all", np.ones(data.n))):
        value = _value_and_gain(data, chance, None)
        drawn = None
        if redraws is not None:
            size = int(chance.sum())
            drawn = studentised(*_both(redraws, size, None))
        rows += _rows(data, name, chance.mean(), (value[0][:1], value[1][:1]), drawn, inference.level)
    for cap in caps:
        name = f"treating at most {percent_in_full(cap)} by predicted benefit"
        chance = who_is_treated(data, cap, least_benefit)
        drawn = None if redraws is None else studentised(*_both(redraws, round(cap * data.n), least_benefit))
        judged = _value_and_gain(data, chance, _margin(data, chance, least_benefit))
        rows += _rows(data, name, chance.mean(), judged, drawn, inference.level)
        if min(chance.sum(), (1 - chance).sum()) < FEWEST:
            why = f"no interval: fewer than {FEWEST} patients are treated, or not treated, by this rule"
            rows[-1] = replace(rows[-1], lower=np.nan, upper=np.nan, p_value=np.nan, variance=why)
    return results_table(rows)


def _value_and_gain(data: Benefit, chance: Floats, margin: float | None) -> Pair:
    """Value of a policy and its gain over the same share at random, each with its standard error."""
    share, moved = chance.mean(), 0.0 if margin is None else margin
    value = chance * data.under_drug + (1 - chance) * data.under_reference + moved * (chance - share)
    gain = (chance - share) * (data.spared - (data.spared.mean() if margin is None else margin))
    both = np.stack([value, gain])
    return both.mean(axis=1), both.std(axis=1, ddof=1) / np.sqrt(data.n)


def _both(redraws: Redraws, treated: int, least_benefit: float | None) -> tuple[Floats, Floats, Floats]:
    """Value and gain in the redraws with their errors, and in the law they were drawn from."""
    promising = None if least_benefit is None else redraws.score > least_benefit
    known = None if least_benefit is None else redraws.law_score > least_benefit
    values, ses = capped_policy(redraws.under_reference, redraws.under_drug, treated, promising)
    return values, ses, capped_policy(redraws.law_reference, redraws.law_drug, treated, known)[0]


def _rows(data: Benefit, name: str, share: float, value_and_gain: Pair, drawn: Floats | None, level: float) -> list[ResultRow]:
    estimate, se = value_and_gain
    null_distribution = NullDistribution(None if drawn is None else drawn[:, : len(estimate)], data.n - 1)
    statistics = null_distribution.statistics(estimate, se, level)
    statistics[0] = replace(statistics[0], p_value=np.nan)
    measures = [f"value of {name}", "lesions spared against random"]
    estimands = [f"mean lesions when {percentage(share)} are given {data.drug}", f"{name} against the same share at random"]
    return [
        benefit_row(data, "policy", measure, estimand, statistic)
        for measure, estimand, statistic in zip(measures, estimands, statistics, strict=False)  # a rule of all has no gain
    ]


def _margin(data: Benefit, chance: Floats, least_benefit: float) -> float | None:
    """Benefit at the threshold where a cap binds; None where the rule is fixed before the sample is drawn."""
    promising = data.score > least_benefit
    if not chance.any() or not (promising & (chance < 1)).any():
        return None
    return benefit_at(data.score, data.spared, float(data.score[chance > 0].min()))
