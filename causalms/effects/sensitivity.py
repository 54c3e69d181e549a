"""Sensitivity to zeros of their own kind: the rate ratio of a zero-inflated or a hurdle model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalms.effects.contrasts import Contrast, wald
from causalms.effects.data import TrialData
from causalms.effects.means import design
from causalms.effects.observed import Analysis
from causalms.effects.printing import interval, number
from causalms.errors import UsageError
from causalms.stats import Array, ZeroModel, fit_zero_model
from causalms.tables import p_value_text, shown_digits, significant

#: Models whose zeros are partly of their own kind.
ZERO_MODELS = ("zero-inflated", "hurdle")


@dataclass(frozen=True)
class ZeroSensitivity:
    """Rate ratios of one model.

    Attributes
    ----------
    model : ZeroModel
    arms : tuple of str
        The reference first.
    contrasts : tuple of Contrast
        Ratio of mean counts for unit exposure over all patients, each arm against the reference.
    """

    model: ZeroModel
    arms: tuple[str, ...]
    contrasts: tuple[Contrast, ...]

    @property
    def sentences(self) -> list[str]:
        """What the command line prints."""
        law = "negative binomial" if self.model.family == "negbin" else "Poisson"
        likelihood, aic = (significant(value, shown_digits(5)) for value in (self.model.log_likelihood, self.model.aic))
        fit = f"log-likelihood {likelihood}, AIC {aic}"
        lines = [f"sensitivity  {self.model.kind} {law}: {fit}"]
        for arm, contrast in zip(self.arms[1:], self.contrasts, strict=True):
            limits = interval(contrast.lower, contrast.upper)
            p = p_value_text(contrast.p_value)
            lines.append(f"  rate ratio, {arm} vs {self.arms[0]}: {number(contrast.estimate)} ({limits}), p {p}")
        return lines


def zero_sensitivity(analysis: Analysis, kind: str, family: str = "negbin") -> tuple[ZeroSensitivity, ...]:
    r"""Rate ratios of a zero-inflated or hurdle model, arm and covariates in the counts, arm in the zeros.

    With :math:`m_i(a)` patient i's mean count for unit exposure under arm a, the ratio is
    :math:`\sum_i m_i(a)/\sum_i m_i(0)`; its standard error follows from the observed information by the delta method.

    Parameters
    ----------
    analysis : Analysis
        Of counts.
    kind : {"zero-inflated", "hurdle"}
    family : {"negbin", "poisson"}

    Returns
    -------
    tuple of ZeroSensitivity
        One for each set of patients.

    Raises
    ------
    UsageError
        The analysis is not of counts.
    ConvergenceError
        No finite fit.

    References
    ----------
    Zeileis, Kleiber, Jackman (2008), Journal of Statistical Software 27(8).

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import analyse
    >>> y = [0] * 9 + [1, 2, 2, 3, 4, 6, 7] + [0] * 5 + [1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 9]
    >>> table = pd.DataFrame({"y": y, "arm": ["drug"] * 16 + ["placebo"] * 16})
    >>> round(zero_sensitivity(analyse(table, outcome="y", reference="placebo"), "hurdle")[0].contrasts[0].estimate, 4)
    0.6757
    """
    if analysis.settings.measure.option != "rate-ratio":
        raise UsageError("`sensitivity` is about counts; use `measure=rate-ratio`")
    return tuple(_of_patients(part.data, kind, family, part.settings.level) for part in analysis.parts)


def _of_patients(data: TrialData, kind: str, family: str, level: float) -> ZeroSensitivity:
    arms = range(len(data.arms))
    own = np.column_stack([np.ones(data.n), np.eye(len(arms))[data.arm][:, 1:]])
    model = fit_zero_model(kind, family, design(data, False), own, data.outcome, data.exposure)
    indicators = np.eye(len(arms))
    indicators[:, 0] = 1.0
    designs = [(design(data, False, arm), np.tile(indicators[arm], (data.n, 1))) for arm in arms]

    def log_means(parameters: Array) -> Array:
        return np.log([model.means(parameters, X, Z).mean() for X, Z in designs])

    at, value = model.parameters, log_means(model.parameters)
    steps = np.eye(len(at)) * 1e-5
    slopes = np.array([(log_means(at + step) - log_means(at - step)) / 2e-5 for step in steps])
    contrasts = []
    for arm in arms[1:]:
        gradient = slopes[:, arm] - slopes[:, 0]
        se = float(np.sqrt(gradient @ model.covariance @ gradient))
        contrasts.append(wald(float(value[arm] - value[0]), se, log=True, level=level))
    return ZeroSensitivity(model, data.arms, tuple(contrasts))
