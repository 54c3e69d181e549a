r"""A mechanism from a negative-binomial regression on the participants table: counts and volumes, no images.

.. math::
    N(a, w) \mid X, U \sim \mathrm{Poisson}(U \lambda_a w), \qquad U \sim \mathrm{Gamma}(k, 1/k), \qquad
    \log\lambda_a = \beta_0 + \beta_a + X\beta .

Given the count, the total volume is a sum of independent Gamma lesion volumes, hence Gamma itself.  Abduction is exact: the
frailty is conjugate and the Poisson part is a truncated uniform.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from causalms.causal.evidence import participant_row
from causalms.causal.mechanism import Expected, MechanismBase, Noise, Outcome, Subject
from causalms.causal.mechanisms.observed_counts import complete_patients, left_out_patients, lesion_volumes
from causalms.effects import independent_columns
from causalms.errors import ConvergenceError, InputError, RefusalError, UsageError, near_or_all
from causalms.stats import keyed_generator
from causalms.tables import WEEKS_PER_YEAR, ModelError, net2_column, significant

_TRANSFORMS = {"linear": float, "log1p": lambda value: float(np.log1p(value))}
#: Covariates of the default regression and how they enter.
DEFAULT_COVARIATES = {"age": "linear", "gd_lesions": "log1p", "t2_lesions": "log1p"}


@dataclass(frozen=True)
class NegativeBinomialMechanism(MechanismBase):
    r"""Structural equation of a count by frailty and a Poisson draw.

    Coupling ``monotone`` shares the frailty and the Poisson uniform (:math:`N = F^{-1}_{U\lambda_a}(\Phi(z))`, so counts
    rise with the rate); ``ancestral`` shares the path of a unit-rate Poisson process whose points up to
    :math:`U\lambda_a` are the lesions (thinning: the lesions under the lower rate are a subset of those under the higher).

    Attributes
    ----------
    arms : tuple of str
    log_rates : tuple of float
        :math:`\beta_0 + \beta_a` of each arm, rate a year.
    covariates : mapping of str to {"linear", "log1p"}
    coefficients : tuple of float
    centres : tuple of float
        Subtracted from the transformed covariates.
    dispersion : float
        alpha = 1/k; 0 is Poisson.
    lesion_volume_ml, lesion_volume_shape : float
        Mean and Gamma shape of one lesion's volume.
    covariance : tuple of tuple of float
        Of the fitted log rates, coefficients and dispersion, in this order; empty where they were not fitted.
    patients : int
        How many they were fitted to.
    notes : tuple of str
        What was left out of the regression.

    Examples
    --------
    >>> m = NegativeBinomialMechanism(("placebo", "drug"), (1.0, 0.0), {}, (), (), dispersion=2.0)
    >>> s = Subject("p1", "t", "placebo", {}, encoding=0.0)
    >>> round(m.expect(s, "drug", 52.1775).lesions, 6)
    1.0
    >>> u = m.abduct(s, "placebo", 52.1775, Outcome(4, 0.3), draw=0, seed=1)
    >>> m.push(s, "placebo", 52.1775, u)
    Outcome(lesions=4.0, volume_ml=0.3, region_lesions=None)
    """

    arms: tuple[str, ...] = ()
    log_rates: tuple[float, ...] = ()
    covariates: Mapping[str, str] = field(default_factory=dict)
    coefficients: tuple[float, ...] = ()
    centres: tuple[float, ...] = ()
    dispersion: float = 0.0
    lesion_volume_ml: float = 0.1
    lesion_volume_shape: float = 0.5
    weeks: tuple[float, float] = (0.0, 96.0)
    path: bool = False
    covariance: tuple[tuple[float, ...], ...] = ()
    patients: int = 0
    name: str = "negative-binomial"
    notes: tuple[str, ...] = field(default=(), compare=False)
    capabilities = frozenset({"push", "expect", "abduct"})
    couplings = frozenset({"monotone", "ancestral", "independent", "rho"})

    def __post_init__(self) -> None:
        if not (len(self.arms) == len(self.log_rates) and len(self.covariates) == len(self.coefficients) == len(self.centres)):
            raise UsageError("one log rate an arm, one coefficient and one centre a covariate are needed")
        object.__setattr__(self, "arms", tuple(self.arms))

    @property
    def efficacy_order(self) -> tuple[str, ...]:
        """The arms by their fitted rates, the highest rate first."""
        return tuple(sorted(self.arms, key=lambda arm: -self.log_rates[self.arms.index(arm)]))

    @property
    def checksum(self) -> str:  # type: ignore[override]
        """Of the fitted numbers."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def description(self) -> dict[str, Any]:  # type: ignore[override]
        """What the query record says."""
        return {
            "kind": "negative-binomial regression",
            "arms": dict(zip(self.arms, self.log_rates, strict=True)),
            "covariates": {
                name: [how, float(b), float(c)]
                for (name, how), b, c in zip(self.covariates.items(), self.coefficients, self.centres, strict=True)
            },
            "dispersion": self.dispersion,
            "lesion_volume": [self.lesion_volume_ml, self.lesion_volume_shape],
        }

    @classmethod
    def fit(cls, participants: pd.DataFrame, week: int, covariates: Mapping[str, str] | None = None) -> NegativeBinomialMechanism:
        """Fit to the observed outcomes of a participants table by maximum likelihood.

        Parameters
        ----------
        participants : DataFrame
            With ``net2_lesions_week{week}``; patients without it are left out (they dropped out before).
        week : int
            Visit week of the counts; the rate is taken as constant from baseline.
        covariates : mapping of str to {"linear", "log1p"}, optional

        Raises
        ------
        InputError
            If a column is missing or empty, or nobody has a count.
        ConvergenceError
            If the likelihood has no maximum (all counts zero in an arm).
        """
        return _fit(cls, participants, week, dict(DEFAULT_COVARIATES if covariates is None else covariates))

    def prepare(self, trial: Any, participant_id: str) -> Subject:
        """The patient's linear predictor."""
        row = participant_row(trial, participant_id)
        predictor = 0.0
        for (name, how), coefficient, centre in zip(self.covariates.items(), self.coefficients, self.centres, strict=True):
            predictor += coefficient * (_transformed(row, name, how, participant_id) - centre)
        arm = row.get("arm")
        return Subject(participant_id, str(row["trial"]), arm if isinstance(arm, str) else None, row, predictor)

    def rate(self, subject: Subject, arm: str, week: float) -> float:
        """Expected count at a visit."""
        if arm not in self.arms:
            mend = near_or_all(arm, self.arms, "name one of", always=True)
            raise RefusalError(f"arm {arm!r} is outside what {self.name!r} was fitted on; {mend}")
        return float(np.exp(self.log_rates[self.arms.index(arm)] + subject.encoding) * week / WEEKS_PER_YEAR)

    def noise(self, subject: Subject, draw: int, seed: int) -> Noise:
        """Normal scores of frailty, count (or Poisson path) and volume."""
        generator = keyed_generator(self.name, subject.participant_id, draw, seed)
        frailty, count, volume = generator.standard_normal((3, 1))
        if self.path:
            return Noise({"frailty": frailty, "path": generator.standard_normal(self._path_length(subject)), "volume": volume})
        return Noise({"frailty": frailty, "count": count, "volume": volume})

    def push(self, subject: Subject, arm: str, week: float, noise: Noise) -> Outcome:
        """Count and volume as a deterministic function of arm, week and noise."""
        mean = self._frailty(float(noise.normals["frailty"][0])) * self.rate(subject, arm, week)
        if self.path:
            arrivals = np.cumsum(-special.log_ndtr(-noise.normals["path"]))
            if arrivals[-1] <= mean:
                raise RefusalError(
                    f"participant {subject.participant_id}: a count beyond the Poisson path; use coupling monotone"
                )
            lesions = int(np.searchsorted(arrivals, mean, side="right"))
        else:
            lesions = poisson_quantile(float(noise.normals["count"][0]), mean)
        if lesions == 0:
            return Outcome(0.0, 0.0)
        shape = lesions * self.lesion_volume_shape
        scale = self.lesion_volume_ml / self.lesion_volume_shape
        return Outcome(float(lesions), _gamma_quantile(float(noise.normals["volume"][0]), shape) * scale)

    def expect(self, subject: Subject, arm: str, week: float) -> Expected:
        """Mean, activity and dispersion in closed form."""
        mean = self.rate(subject, arm, week)
        silent = np.exp(-mean) if self.dispersion == 0 else (1 + self.dispersion * mean) ** (-1 / self.dispersion)
        return Expected(mean, mean * self.lesion_volume_ml, float(1 - silent), self.dispersion)

    def error(self, subject: Subject, arm: str, week: float) -> ModelError | None:
        """The covariance of the fitted parameters; unknown where they were given."""
        if not self.covariance:
            return None
        row = subject.covariates
        columns = [_transformed(row, n, how, subject.participant_id) for n, how in self.covariates.items()]
        own = [float(name == arm) for name in self.arms]
        direction = np.array([*own, *(np.array(columns) - self.centres), 0.0])
        covariance = np.array(self.covariance)
        values, vectors = np.linalg.eigh(covariance)
        alpha, mean = self.dispersion, self.rate(subject, arm, week)
        silent = 1 - self.expect(subject, arm, week).activity_probability
        by_alpha = silent * (np.log1p(alpha * mean) / alpha**2 - mean / (alpha * (1 + alpha * mean))) if alpha > 0 else 0.0
        return ModelError(
            self.checksum,
            f"from {self.patients:,} patients of the regression",
            direction @ (vectors * np.sqrt(np.clip(values, 0.0, None))),
            silent * mean / (1 + alpha * mean),
            abs(by_alpha) * float(np.sqrt(covariance[-1, -1])),
            log_size=float(np.sqrt(covariance[-1, -1])) / alpha if alpha > 0 else 0.0,
        )

    def abduct(
        self, subject: Subject, arm: str, week: float, outcome: Outcome, draw: int, seed: int, method: str = "stochastic"
    ) -> Noise:
        """Exact posterior draw of frailty, Poisson part and volume given the factual count and volume."""
        if method != "stochastic":
            raise RefusalError(f"mechanism {self.name!r} abducts by stochastic only; a count does not determine its noise")
        generator = keyed_generator(self.name, "abduct", subject.participant_id, draw, seed)
        rate, lesions = self.rate(subject, arm, week), int(outcome.lesions)
        frailty, score = 1.0, generator.standard_normal()
        if self.dispersion > 0:
            k = 1 / self.dispersion
            frailty = generator.gamma(k + lesions) / (k + rate)
            score = _gamma_score(k * frailty, k)
        volume = generator.standard_normal()
        if lesions and np.isfinite(outcome.volume_ml):
            scale = self.lesion_volume_ml / self.lesion_volume_shape
            volume = _gamma_score(outcome.volume_ml / scale, lesions * self.lesion_volume_shape)
        normals = {"frailty": np.array([score]), "volume": np.array([volume])}
        mean = self._frailty(score) * rate  # of the stored score, so that push meets the very same mean
        if not self.path:
            return Noise({**normals, "count": np.array([poisson_score(lesions, mean, generator.random())])})
        inside = np.sort(generator.random(lesions)) * mean
        waits = np.diff(inside, prepend=0.0)
        last = inside[-1] if lesions else 0.0
        beyond = generator.exponential(size=max(self._path_length(subject) - lesions, 64))
        beyond[0] += mean - last
        return Noise({**normals, "path": -special.ndtri_exp(-np.concatenate([waits, beyond]))})

    def for_coupling(self, coupling: str) -> NegativeBinomialMechanism:
        """The Poisson path for ``ancestral``, the quantile for the others; the outcome law is the same."""
        super().for_coupling(coupling)
        return replace(self, path=coupling == "ancestral")

    def _frailty(self, score: float) -> float:
        return 1.0 if self.dispersion == 0 else _gamma_quantile(score, 1 / self.dispersion) * self.dispersion

    def _path_length(self, subject: Subject) -> int:
        highest = float(np.exp(max(self.log_rates) + subject.encoding) * self.weeks[1] / WEEKS_PER_YEAR)
        mean = highest * self._frailty(6.5)  # exceeded with probability 4e-11
        return int(np.ceil(mean + 8 * np.sqrt(mean))) + 64


def poisson_quantile(score: float, mean: float) -> int:
    """Smallest n with F(n) >= Phi(score), by the tail in which the score lies, so that far tails stay exact.

    Examples
    --------
    >>> poisson_quantile(0.0, 3.3), poisson_quantile(30.0, 1.0) > 100
    (3, True)
    """
    if mean <= 0:
        return 0
    inner = special.ndtr(min(max(score, -8.0), 8.0))
    n = max(int(np.ceil(special.pdtrik(inner, mean))), 0)
    while not _reaches(n, score, mean):
        n += 1
    while n > 0 and _reaches(n - 1, score, mean):
        n -= 1
    return n


def _reaches(n: int, score: float, mean: float) -> bool:
    if score <= 0:
        return bool(special.pdtr(n, mean) >= special.ndtr(score))
    return bool(special.pdtrc(n, mean) <= special.ndtr(-score))


def poisson_score(n: int, mean: float, uniform: float) -> float:
    """Normal score of a uniform in (F(n-1), F(n)]: where the noise of a count n lies, given its mean.

    Examples
    --------
    >>> poisson_quantile(poisson_score(7, 0.5, 0.3), 0.5)
    7
    """
    inside = 1e-6 + (1 - 2e-6) * uniform  # off the ends, so that rounding cannot reach the neighbour
    below = special.pdtr(n - 1, mean) if n > 0 else 0.0
    if below < 0.5:
        z = special.ndtri(below + inside * special.pdtr(n, mean) - inside * below)
        if z <= 0:
            return float(z)
    above = special.pdtrc(n, mean)
    until = special.pdtrc(n - 1, mean) if n > 0 else 1.0
    if until < 1e-300:
        raise RefusalError(
            f"a count of {n} where {significant(mean, 3)} are expected has no explanation in this model; fit one that allows it"
        )
    return float(-special.ndtri(until + inside * (above - until)))


def _gamma_quantile(score: float, shape: float) -> float:
    if score <= 0:
        return float(special.gammaincinv(shape, special.ndtr(score)))
    return float(special.gammainccinv(shape, special.ndtr(-score)))


def _gamma_score(value: float, shape: float) -> float:
    below = special.gammainc(shape, value)
    score = special.ndtri(below) if below < 0.5 else -special.ndtri(special.gammaincc(shape, value))
    return float(np.clip(score, -37.0, 37.0))


def _transformed(row: Mapping[Any, Any], name: str, how: str, participant_id: str) -> float:
    value = row.get(name)
    if value is None or pd.isna(value):
        raise InputError(
            f"participants: participant {participant_id}: column {name!r} is missing; fill it in or leave the covariate out"
        )
    if name == "sex":
        return float(value == "F")
    return _TRANSFORMS[how](value)


def _fit(
    cls: type[NegativeBinomialMechanism], participants: pd.DataFrame, week: int, covariates: dict[str, str]
) -> NegativeBinomialMechanism:
    from statsmodels.discrete.discrete_model import NegativeBinomial, Poisson

    lesions, volume = net2_column(week), net2_column(week, "net2_volume_ml")
    seen = complete_patients(participants, lesions, list(covariates))
    arms = tuple(sorted(seen["arm"].unique()))
    silent = [arm for arm in arms if seen.loc[seen["arm"] == arm, lesions].sum() == 0]
    if silent:
        raise ConvergenceError(f"arm {silent[0]!r}: all counts are zero, so its rate has no estimate; leave the arm out")
    rows = seen.to_dict("records")
    columns = [[_transformed(row, n, h, str(row["participant_id"])) for n, h in covariates.items()] for row in rows]
    if len(seen) <= len(arms) + len(covariates) + 1:
        few = f"{len(seen)} patients with an outcome for {len(arms)} arms and {len(covariates)} covariates"
        raise RefusalError(f"participants: {few}; a regression needs more patients, or name fewer covariates")
    X = np.array(columns, dtype=float).reshape(len(seen), len(covariates))
    for name, finite in zip(covariates, np.isfinite(X).all(axis=0), strict=True):
        if not finite:
            raise InputError(f"participants: column {name!r} holds a value that is not finite; correct it or leave it out")
    of_arm = np.stack([seen["arm"] == arm for arm in arms], axis=1).astype(float)
    kept, left_out = independent_columns(of_arm, X, tuple(covariates))[1:]
    X = X[:, [name in kept for name in covariates]]
    centres = X.mean(axis=0)
    design = np.column_stack([of_arm, X - centres])
    y, years = seen[lesions].to_numpy(float), np.full(len(seen), week / WEEKS_PER_YEAR)
    poisson = Poisson(y, design, exposure=years).fit(disp=0, maxiter=100)
    excess = float(np.mean((y - poisson.predict()) ** 2 - y) / np.mean(poisson.predict() ** 2))
    parameters, dispersion = np.asarray(poisson.params), 0.0
    covariance = np.pad(np.asarray(poisson.cov_params(), float), (0, 1))
    if excess > 1e-3:
        start = np.append(parameters, excess)
        model = NegativeBinomial(y, design, exposure=years)
        fitted = model.fit(start_params=start, method="bfgs", maxiter=500, gtol=1e-6, disp=0)
        if not (np.all(np.isfinite(fitted.params)) and fitted.mle_retvals["converged"]):
            raise ConvergenceError("the negative-binomial regression did not converge; use fewer covariates")
        parameters, dispersion = np.asarray(fitted.params)[:-1], max(float(fitted.params[-1]), 0.0)
        covariance = np.asarray(fitted.cov_params(), float)
    lesion_ml, shape = lesion_volumes(seen, lesions, volume)
    return cls(
        arms=arms,
        log_rates=tuple(float(b) for b in parameters[: len(arms)]),
        covariates={name: how for name, how in covariates.items() if name in kept},
        coefficients=tuple(float(b) for b in parameters[len(arms) :]),
        centres=tuple(float(c) for c in centres),
        dispersion=dispersion,
        lesion_volume_ml=lesion_ml,
        lesion_volume_shape=shape,
        covariance=tuple(tuple(float(value) for value in row) for row in covariance) if np.isfinite(covariance).all() else (),
        patients=len(seen),
        notes=(*left_out_patients(participants, seen), *left_out),
    )
