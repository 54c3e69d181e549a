"""Tests against a margin: non-inferiority, superiority by a margin, equivalence by two one-sided tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.effects.contrasts import Contrast, wald
from causalms.effects.observed import Analysis
from causalms.errors import RefusalError, UsageError
from causalms.tables import fixed, p_value_text, percent_in_full, significant

CLAIMS = ("non-inferiority", "superiority", "equivalence")


@dataclass(frozen=True)
class MarginTest:
    """One contrast against a margin.

    Attributes
    ----------
    arm, reference, claim : str
    margin : float
    lowest, highest : float
        What the effect is claimed to lie between.
    p_value : float
        One-sided; of equivalence the larger of the two.
    alpha : float
        One-sided level: half of what the interval leaves out.
    """

    arm: str
    reference: str
    claim: str
    margin: float
    lowest: float
    highest: float
    p_value: float
    alpha: float

    @property
    def met(self) -> bool:
        """Whether the claim holds at the one-sided level: the interval then lies within the margins."""
        return self.p_value < self.alpha

    @property
    def sentence(self) -> str:
        """The test as it is printed."""
        ends = [significant(end, 6) for end in (self.lowest, self.highest)]
        claimed = f"above {ends[0]}" if np.isinf(self.highest) else f"below {ends[1]}"
        claimed = f"between {ends[0]} and {ends[1]}" if self.claim == "equivalence" else claimed
        verdict = "shown" if self.met else "not shown"
        kind = "larger of two one-sided p" if self.claim == "equivalence" else "one-sided p"
        alpha = fixed(self.alpha, 4).rstrip("0")
        name = f"{self.claim}, {self.arm} vs {self.reference}"
        return f"{name}: effect {claimed} {verdict} at {alpha} ({kind} {p_value_text(self.p_value)})"


def margin_tests(analysis: Analysis, margin: float, claim: str) -> tuple[MarginTest, ...]:
    r"""Each contrast of an analysis against a margin, by the estimate, standard error and law of its interval.

    The side on which the margin lies says which way is better: non-inferiority within a ratio of 1.1 claims one below 1.1
    (fewer events are better), within 0.9 one above 0.9; superiority by 0.8 claims a ratio below 0.8, by 1.25 one above it.
    Equivalence claims :math:`1/m` to m for ratios, :math:`-m` to m for differences.  With :math:`\delta` the margin on the scale
    of inference, :math:`t = (\hat\theta - \delta)/\mathrm{se}`.

    Parameters
    ----------
    analysis : Analysis
    margin : float
    claim : {"non-inferiority", "superiority", "equivalence"}

    Raises
    ------
    UsageError
        A margin that is no effect, or an unknown claim.
    RefusalError
        A contrast without a standard error.

    References
    ----------
    Schuirmann (1987), Journal of Pharmacokinetics and Biopharmaceutics 15:657-680; EMA (2005), EMEA/CPMP/EWP/2158/99.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import analyse
    >>> table = pd.DataFrame({"y": [5, 7, 6, 9, 5, 6, 7, 6], "arm": ["a"] * 4 + ["b"] * 4})
    >>> analysis = analyse(table, outcome="y", reference="a", measure="mean-difference")
    >>> print(margin_tests(analysis, 3, "non-inferiority")[0].sentence)
    non-inferiority, b vs a: effect below 3 shown at 0.025 (one-sided p <0.0001)
    """
    ratio = analysis.settings.measure.is_ratio
    null = 1.0 if ratio else 0.0
    if claim not in CLAIMS:
        raise UsageError(f"`claim`: found {claim!r}, expected one of {', '.join(CLAIMS)}")
    lowest = 0.0 if ratio or claim == "equivalence" else -np.inf
    if not np.isfinite(margin) or margin <= lowest or margin == null:
        wanted = "a ratio above 0 other than 1" if ratio else "a difference other than 0 (of equivalence above 0)"
        raise UsageError(f"`margin`: found {margin:g}, expected {wanted}")
    alpha = (1 - analysis.settings.level) / 2
    below = (margin > null) == (claim == "non-inferiority")
    ends = (0.0 if ratio else -np.inf, margin) if below else (margin, np.inf)
    if claim == "equivalence":
        ends = (min(margin, 1 / margin), max(margin, 1 / margin)) if ratio else (-margin, margin)
    out = []
    for part in analysis.parts:
        for index in part.reported:
            contrast, arms = part.contrasts[index - 1], part.data.arms
            if np.isnan(contrast.se):
                raise RefusalError(
                    f"{arms[index]} vs {arms[0]}: no standard error, so no test against a margin; read its "
                    f"{percent_in_full(contrast.level)} limits"
                )
            p_value = max(_one_sided(contrast, end, ratio, below=high) for end, high in zip(ends, (False, True), strict=True))
            out.append(MarginTest(arms[index], arms[0], claim, margin, ends[0], ends[1], p_value, alpha))
    return tuple(out)


def _one_sided(contrast: Contrast, margin: float, ratio: bool, *, below: bool) -> float:
    """P-value for the effect lying below (above) a margin; 0 where the margin is the end of the scale."""
    if np.isinf(margin) or (ratio and margin == 0):
        return 0.0
    value, null = (np.log(contrast.estimate), np.log(margin)) if ratio else (contrast.estimate, margin)
    degrees = contrast.degrees_of_freedom
    two_sided = wald(float(value), contrast.se, log=False, degrees_of_freedom=degrees, null=float(null)).p_value
    return two_sided / 2 if (value < null) == below else 1 - two_sided / 2
