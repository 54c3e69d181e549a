"""The effect of an arm whose control borrows, and how often borrowing misleads where the borrowed controls are unlike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects.borrowing import ControlPrior
from causalms.effects.observed import Analysis
from causalms.effects.printing import interval, number, text_columns
from causalms.errors import UsageError
from causalms.stats import Array, NormalMixture, normal_quantile
from causalms.tables import (
    ResultRow,
    fixed,
    name_of,
    percent_in_full,
    percentage,
    results_table,
    shown,
    shown_digits,
    significant,
)

#: The analysis that borrows nothing, among the priors of a grid.
_ALONE = "trial alone"


@dataclass(frozen=True)
class LogRates:
    """Log rates of the control and of one arm of the trial, with their covariance.

    Attributes
    ----------
    arm, reference : str
    estimates : array (2,)
        Control first.
    covariance : array (2, 2)
    n, n_reference : int
    """

    arm: str
    reference: str
    estimates: Array
    covariance: Array
    n: int
    n_reference: int

    @property
    def slope(self) -> float:
        """Regression of the arm's estimate on the control's: 0 without covariates."""
        return float(self.covariance[0, 1] / self.covariance[0, 0])

    @property
    def residual_sd(self) -> float:
        """Standard deviation of the arm's estimate given the control's."""
        return float(np.sqrt(self.covariance[1, 1] - self.slope * self.covariance[0, 1]))

    @property
    def control_se(self) -> float:
        """Standard error of the control's log rate."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def unit_sd(self) -> float:
        """Standard deviation of the control's log rate estimated from one patient."""
        return float(np.sqrt(self.covariance[0, 0] * self.n_reference))

    @property
    def plain(self) -> tuple[float, float]:
        """The log rate ratio and its standard error without borrowing."""
        contrast = np.array([-1.0, 1.0])
        return float(contrast @ self.estimates), float(np.sqrt(contrast @ self.covariance @ contrast))

    def effect(self, prior: NormalMixture, control: Array | float) -> NormalMixture:
        """Posterior of the log rate ratio, less the arm's own estimate, given estimates of the control's log rate."""
        control = np.asarray(control, float)
        posterior = prior.posterior(control, self.control_se)
        return posterior.shifted(-self.slope * control, self.slope - 1, self.residual_sd)


def log_rates(analysis: Analysis, arm: str | None = None) -> LogRates:
    """The log rates of an analysis of rates, for borrowing.

    Raises
    ------
    UsageError
        The analysis is not of rates, has no means, or has several arms and none is named.
    """
    others = [analysis.data.arms[index] for index in analysis.reported]
    if analysis.means is None or analysis.settings.measure.option != "rate-ratio":
        raise UsageError(
            "borrowing needs the rates of the arms; use `measure=rate-ratio` with `estimator=standardized` or unadjusted"
        )
    if arm is None and len(others) > 1:
        raise UsageError(f"several arms are compared with the control; name one with `treated` ({', '.join(others)})")
    arm = others[0] if arm is None else arm
    if arm not in others:
        raise UsageError(f"`treated`: found {arm!r}, expected one of {', '.join(others)}")
    pair = np.array([0, analysis.data.arms.index(arm)])
    means = analysis.means.estimates[pair]
    covariance = analysis.covariance.matrix[pair[:, None], pair] / np.outer(means, means)
    sizes = analysis.data.sizes[pair]
    return LogRates(arm, analysis.data.arms[0], np.log(means), covariance, int(sizes[1]), int(sizes[0]))


@dataclass(frozen=True)
class Borrowed:
    """An effect with borrowing, beside the one without.

    Attributes
    ----------
    rates : LogRates
    prior : ControlPrior
    level : float
    outcome, population : str
    notes : tuple of str
        Those of the trial's own analysis.
    """

    rates: LogRates
    prior: ControlPrior
    level: float
    outcome: str
    population: str
    notes: tuple[str, ...] = ()

    @property
    def posterior(self) -> NormalMixture:
        """Posterior law of the log rate ratio."""
        treated = float(self.rates.estimates[1])
        return self.rates.effect(self.prior.law, self.rates.estimates[0]).shifted(treated, 1.0, 0.0)

    @property
    def probability(self) -> float:
        """Posterior probability of a rate ratio below 1."""
        return float(self.posterior.cdf(0.0))

    @property
    def conflict(self) -> float:
        """Two-sided prior predictive probability of a control rate at least as far from the prior as the one observed."""
        predictive = self.prior.law.shifted(0.0, 1.0, self.rates.control_se)
        below = float(predictive.cdf(self.rates.estimates[0]))
        return 2 * min(below, 1 - below)

    @property
    def results(self) -> pd.DataFrame:
        """Results table: the effect without and with borrowing. A borrowed contrast is not marked as randomised."""
        value, se = self.rates.plain
        z = normal_quantile((1 + self.level) / 2)
        law = self.posterior
        lower, middle, upper = (float(law.quantile(p)) for p in ((1 - self.level) / 2, 0.5, (1 + self.level) / 2))
        common: dict[str, Any] = {
            "analysis": f"observed {self.outcome}",
            "population": self.population,
            "subgroup": "all",
            "arm": self.rates.arm,
            "reference": self.rates.reference,
            "measure": "rate ratio",
            "level": self.level,
            "n": self.rates.n,
            "n_reference": self.rates.n_reference,
            "rung": 2,
        }
        own: dict[str, Any] = {"estimator": "log rates of the trial alone", "variance": "of the trial's own log rates; normal"}
        with_prior: dict[str, Any] = {
            "estimator": f"posterior median, {self.prior.words}",
            "variance": "posterior standard deviation of the log",
        }
        model = float(np.sqrt(sum(source.se_model**2 for source in self.prior.sources)))
        plain = np.exp([value, value - z * se, value + z * se])
        rows = [
            ResultRow(estimate=plain[0], lower=plain[1], upper=plain[2], se=se, randomised=False, **own, **common),
            ResultRow(
                estimate=np.exp(middle),
                lower=np.exp(lower),
                upper=np.exp(upper),
                se=float(np.sqrt(law.variance)),
                se_generator=model if model > 0 else np.nan,
                randomised=False,
                **with_prior,
                **common,
            ),
        ]
        return results_table(rows)

    def __repr__(self) -> str:
        """The page that the command line prints."""
        heads = [["rate ratio", "estimate", f"{percent_in_full(self.level)} CI", "se(log)", "P(ratio < 1)"]]
        value, se = self.rates.plain
        trial = NormalMixture(np.ones(1), np.array([value]), np.array([se]))
        pair = f"{self.rates.arm} vs {self.rates.reference}"
        for name, row, law in zip(
            ("trial alone", "with borrowing"), self.results.to_dict("records"), (trial, self.posterior), strict=True
        ):
            limits = interval(row["lower"], row["upper"])
            heads.append(
                [f"{pair}, {name}", number(row["estimate"]), limits, number(row["se"]), _probability(float(law.cdf(0.0)))]
            )
        sources = [["borrowed controls", "patients", "rate", "se(log)", "of it the model's"]]
        for source in self.prior.sources:
            model = number(source.se_model) if source.se_model else "-"
            sources.append([source.name, str(source.patients), number(np.exp(source.log_rate)), number(source.se), model])
        prior = self.prior
        own = self.rates.n_reference
        return "\n".join(
            [
                *text_columns(heads),
                "",
                *text_columns(sources),
                "",
                f"prior      {prior.words}",
                f"worth      {shown(prior.ess_elir, 1)} patients (ELIR), {shown(prior.ess_moment, 1)} (moments), "
                f"beside {own} controls of the trial",
                f"conflict   control rate {number(np.exp(self.rates.estimates[0]))} in the trial, prior mean "
                f"{number(np.exp(float(prior.law.mean)))}; prior predictive p {significant(self.conflict, shown_digits(2))}",
                *(f"note: {note}" for note in self.notes),
                "note: a contrast with borrowed controls is not a randomised one",
            ]
        )


def _probability(value: float) -> str:
    """A posterior probability with four decimals, never as certain as 0 or 1."""
    return "<0.0001" if value < 1e-4 else ">0.9999" if value > 1 - 1e-4 else fixed(value, max(4, shown_digits()))


def borrow(analysis: Analysis, prior: ControlPrior, *, arm: str | None = None) -> Borrowed:
    """The rate ratio of an analysis when its control arm borrows by a prior.

    Parameters
    ----------
    analysis : Analysis
        Of rates, standardised or unadjusted; covariates are kept.
    prior : ControlPrior
    arm : str, optional
        Needed where several arms are compared with the control.

    Returns
    -------
    Borrowed

    Examples
    --------
    >>> from causalms.effects import ControlSource, Method, analyse, control_prior, log_rates
    >>> table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2, 1, 1], "arm": ["placebo"] * 4 + ["drug"] * 4})
    >>> analysis = analyse(table, outcome="y", reference="placebo", method=Method(variance="influence"))
    >>> source = ControlSource("earlier trial", 1.0, 0.2, 40)
    >>> prior = control_prior([source], kind="power", weight=0.5, unit_sd=log_rates(analysis).unit_sd)
    >>> row = borrow(analysis, prior).results.iloc[1]
    >>> row[["estimate", "lower", "upper"]].astype(float).round(3).tolist()
    [0.385, 0.159, 0.931]
    """
    rates, level = log_rates(analysis, arm), analysis.settings.level
    return Borrowed(rates, prior, level, analysis.outcome, analysis.populations[0].words, analysis.notes)


def operating_characteristics(
    rates: LogRates,
    priors: Sequence[ControlPrior],
    *,
    ratio: float = 0.5,
    level: float = 0.95,
    conflicts: Sequence[float] = tuple(np.linspace(-1.5, 1.5, 31).round(2)),
) -> pd.DataFrame:
    r"""Type I error and power of the claim "rate ratio below 1" when the trial's control rate is not the borrowed one.

    The claim is made where its posterior probability is above :math:`1-\alpha/2`.  Standard errors are those of the trial.  No
    random number is drawn: the probability is an integral over the control's estimate.

    Parameters
    ----------
    rates : LogRates
    priors : sequence of ControlPrior
        The trial alone is always the first row of each conflict.
    ratio : float
        The true rate ratio at which power is computed.
    level : float
    conflicts : sequence of float
        True log control rate of the trial less the prior's mean.

    Returns
    -------
    DataFrame
        ``prior``, ``conflict``, ``rate_ratio_of_controls``, ``type_1_error``, ``power``, ``coverage`` of a true ratio of 1.

    Examples
    --------
    >>> from causalms.effects import ControlSource, control_prior
    >>> rates = LogRates("drug", "placebo", np.array([1.0, 0.3]), np.diag([0.02, 0.02]), 60, 60)
    >>> prior = control_prior([ControlSource("earlier trial", 1.0, 0.1, 100)], kind="power", weight=1.0, unit_sd=rates.unit_sd)
    >>> table = operating_characteristics(rates, [prior], conflicts=(0.0, 0.5))
    >>> table[["prior", "conflict", "type_1_error"]].round(4).values.tolist()[:2]
    [['trial alone', 0.0, 0.025], ['power', 0.0, 0.0159]]
    """
    if not 0 < ratio < 1:
        raise UsageError(f"`ratio`: found {name_of(ratio)}, expected a rate ratio between 0 and 1")
    alone = [(_ALONE, NormalMixture(np.ones(1), np.zeros(1), np.array([1e6])), 0.0)]
    laws = [*alone, *((prior.kind, prior.law, float(prior.law.mean)) for prior in priors)]
    rows = []
    for name, law, centre in laws:
        for conflict in conflicts:
            ends = _claims(rates, law, centre + conflict, (0.0, float(np.log(ratio))), level)
            rows.append((name, float(conflict), float(np.exp(conflict)), *ends))
    columns = ["prior", "conflict", "rate_ratio_of_controls", "type_1_error", "coverage", "power"]
    table = pd.DataFrame(rows, columns=columns)
    order = {name: place for place, (name, *_) in enumerate(laws)}
    return (
        table.assign(place=table["prior"].map(order))
        .sort_values(["conflict", "place"])
        .drop(columns="place")
        .reset_index(drop=True)
    )


def _claims(
    rates: LogRates, law: NormalMixture, truth: float, effects: tuple[float, float], level: float
) -> tuple[float, float, float]:
    """Probability of the claim under no effect, coverage there, and probability of the claim under an effect."""
    from scipy.special import ndtr

    steps = np.linspace(-7, 7, 141)
    density = np.exp(-0.5 * steps**2)
    density /= density.sum()
    control = truth + rates.control_se * steps
    given = rates.effect(law, control)
    upper, lower = given.quantile((1 + level) / 2), given.quantile((1 - level) / 2)
    expected = truth + rates.slope * (control - truth)
    claims, covered = [], 0.0
    for effect in effects:
        # the posterior is that of the arm's estimate plus a law that does not depend on it
        below = ndtr((-upper - expected - effect) / rates.residual_sd)
        claims.append(float(density @ below))
        if effect == 0.0:
            covered = float(density @ (ndtr((-lower - expected) / rates.residual_sd) - below))
    return claims[0], covered, claims[1]


def conflict_words(table: pd.DataFrame, level: float) -> str:
    """The largest type I error of each prior over the grid of conflict, in words."""
    lines = []
    for name in table["prior"].unique():
        part = table[table["prior"] == name]
        errors, powers, ratios = (part[column].to_numpy() for column in ("type_1_error", "power", "rate_ratio_of_controls"))
        worst, agree = int(errors.argmax()), int(np.abs(part["conflict"].to_numpy()).argmin())
        line = f"  {name}: type I error {percentage(errors[agree], 1)} and power {percentage(powers[agree], 1)} without conflict"
        if name != _ALONE:
            line += (
                f"; at most {percentage(errors[worst], 1)}, "
                f"where the trial's controls have {fixed(ratios[worst], 2)} times the borrowed rate"
            )
        lines.append(line)
    return "\n".join([f"claim of benefit (nominal {percentage((1 - level) / 2, 1)}), over the grid of conflict", *lines])
