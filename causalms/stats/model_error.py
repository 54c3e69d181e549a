r"""Hierarchical error model of expected counts: how far another plausible generator would lie from this one.

For patient i under arm a, with the generator's expected count :math:`m_i(a)`, on the log scale

.. math::
    \log\mu_i(a) = \log m_i(a) + b_0 + b_a + (s_0 + s_a) r_i + z_i'(g_0 + g_a) + (w_0 + w_a) d_i(a) + t_j, \quad
    Y_i \sim \mathrm{NB}(\mu_i(A_i), k_{A_i}),

:math:`r_i` the mean of :math:`\log m_i` over all arms, centred over the patients; :math:`d_i(a)` is :math:`\log m_i(a)` less that
mean over arms; :math:`z` are standardised columns, :math:`t_j` is the trial.  Priors are normal with mean 0 and the standard
deviations of :class:`causalms.stats.model_error_fit.Priors`; scales named ``*_scale`` are unknown, half-normal.  The posterior is
Laplace's: the mode by Newton's method and the inverse Hessian there.

The anchor is the mean over all arms and not a reference arm: anchored on one arm, its own error enters every other arm's ``d``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any

import numpy as np

from causalms.errors import InputError
from causalms.stats.glm import Array
from causalms.stats.lacking_inputs import LackingInputs, read_lacking
from causalms.stats.resampling import keyed_generator
from causalms.tables import ModelError


@dataclass(frozen=True)
class ColumnSummary:
    """Mean, standard deviation and correlation of the columns of the patients that the error model was fitted to.

    Attributes
    ----------
    names : tuple of str
    mean, sd : array (q,)
    correlation : array (q, q)
    """

    names: tuple[str, ...]
    mean: Array
    sd: Array
    correlation: Array

    @classmethod
    def of(cls, columns: Array, names: Sequence[str]) -> ColumnSummary:
        """Summary of columns (n, q), missing values left out; a constant column has standard deviation 1."""
        known = np.isfinite(columns)
        number = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, columns, 0.0).sum(axis=0) / number
        centred = np.where(known, columns - mean, 0.0)
        sd = np.sqrt((centred**2).sum(axis=0) / number)
        sd = np.where(sd > 1e-6, sd, 1.0)
        z = centred / sd
        correlation = z.T @ z / max(len(columns), 1)
        correlation = 0.99 * correlation + 0.01 * np.eye(len(names))
        np.fill_diagonal(correlation, 1.0)
        return cls(tuple(names), mean, sd, correlation)

    def standardised(self, columns: Array) -> Array:
        """Columns (n, q) with mean 0 and standard deviation 1 in the fitted patients; missing ones at the mean."""
        return np.nan_to_num((np.asarray(columns, float) - self.mean) / self.sd)

    def distance(self, columns: Array) -> Array:
        """Squared Mahalanobis distance (n,) of patients from the fitted ones."""
        z = self.standardised(columns)
        return np.asarray(np.einsum("nq,nq->n", z, np.linalg.solve(self.correlation, z.T).T))


@lru_cache(maxsize=64)
def blocks(arms: int, columns: int, trials: int = 0) -> dict[str, slice]:
    """Where each term stands in the vector of parameters; trials last, in the fit only.

    Examples
    --------
    >>> blocks(2, 1)["log_size"]
    slice(12, 14, None)
    """
    sizes = {
        "level": 1,
        "arm": arms,
        "slope": 1,
        "arm_slope": arms,
        "column": columns,
        "arm_column": arms * columns,
        "width": 1,
        "arm_width": arms,
        "log_size": arms,
        "trial": trials,
    }
    ends = np.cumsum(list(sizes.values()))
    return {name: slice(int(end) - size, int(end)) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def terms(log_expected: Array, columns: Array, arm: np.ndarray, centre: float) -> Array:
    """Derivatives of log mu by the parameters of all blocks but ``log_size`` and ``trial`` (zero there), one row a patient.

    Parameters
    ----------
    log_expected : array (n, arms)
    columns : array (n, q)
        Standardised.
    arm : int array (n,)
        The arm that each row speaks of.
    centre : float
        Of the patients' mean log expected count.
    """
    n, arms = log_expected.shape
    q = columns.shape[1]
    at = blocks(arms, q)
    own = np.eye(arms)[arm]
    average = log_expected.mean(axis=1)
    r, d = average - centre, log_expected[np.arange(n), arm] - average
    X = np.zeros((n, at["trial"].stop))
    X[:, at["level"]] = 1.0
    X[:, at["arm"]] = own
    X[:, at["slope"]] = r[:, None]
    X[:, at["arm_slope"]] = own * r[:, None]
    X[:, at["column"]] = columns
    X[:, at["arm_column"]] = (own[:, :, None] * columns[:, None, :]).reshape(n, arms * q)
    X[:, at["width"]] = d[:, None]
    X[:, at["arm_width"]] = own * d[:, None]
    return X


def lesion_weights(log_expected: Array) -> Array:
    r"""Weights (n,) of patients by their share of the expected counts (n, arms), :math:`w_i \propto \sum_a m_i(a)/\sum_j m_j(a)`.

    Examples
    --------
    >>> lesion_weights(np.log([[1.0, 2.0], [3.0, 6.0]])).round(2).tolist()
    [0.25, 0.75]
    """
    expected = np.exp(log_expected - log_expected.max(axis=0))
    return np.asarray((expected / expected.sum(axis=0)).mean(axis=1))


def about_mean_lesion(log_expected: Array, z: Array, centre: float) -> Array:
    """Matrix (p, p) from parameters centred at the mean lesion to those of :func:`terms`; the identity without a patient.

    Slopes, columns and widths are centred at their means weighted by expected counts: then the ratio of two arms' summed counts
    depends, to first order, on the levels of the arms alone, and the priors of the other terms say nothing of it.

    Parameters
    ----------
    log_expected : array (n, arms)
    z : array (n, q)
        Standardised columns.
    centre : float
        That :func:`terms` is centred at.
    """
    arms, q = log_expected.shape[1], z.shape[1]
    at = blocks(arms, q)
    moved = np.eye(at["trial"].stop)
    if not len(z):
        return moved
    weights, average = lesion_weights(log_expected), log_expected.mean(axis=1)
    slope, columns, width = weights @ average - centre, weights @ z, weights @ (log_expected - average[:, None])
    moved[at["level"], at["slope"]], moved[at["level"], at["column"]] = -slope, -columns
    moved[at["arm"], at["arm_slope"]] = -slope * np.eye(arms)
    moved[at["arm"], at["arm_column"]] = -np.kron(np.eye(arms), columns)
    moved[at["arm"], at["width"]], moved[at["arm"], at["arm_width"]] = -width[:, None], -np.diag(width)
    return moved


@dataclass(frozen=True)
class ErrorModel:
    """Posterior of the error model: the error that every simulated number of a generator carries.

    Attributes
    ----------
    arms : tuple of str
    mean : array (p,)
        In the order of ``blocks`` without trials.
    covariance : array (p, p)
    sizes : array (arms,)
        The generator's negative-binomial sizes, which ``log_size`` is relative to.
    trial_sd : float
        Standard deviation of the level between trials.
    centre : float
        Of the fitted patients' mean log expected count.
    summary : ColumnSummary
    patients : int
        How many it was fitted to.
    how : str
        ``"held-out"`` or ``"cross-fitted"``.
    volume_sd : array (arms,)
        Error of the log mean size of one event, where events have a size; none where empty.
    lacking : tuple of LackingInputs
        Corrections for patients of whom inputs are missing; empty in checkpoints of older versions.
    """

    arms: tuple[str, ...]
    mean: Array = field(repr=False)
    covariance: Array = field(repr=False)
    sizes: Array = field(repr=False)
    trial_sd: float
    centre: float
    summary: ColumnSummary = field(repr=False)
    patients: int
    how: str = "held-out"
    volume_sd: Array = field(default_factory=lambda: np.zeros(0), repr=False)
    lacking: tuple[LackingInputs, ...] = field(default=(), repr=False)

    @property
    def at(self) -> dict[str, slice]:
        """Where each term stands in ``mean`` and ``covariance``."""
        return blocks(len(self.arms), len(self.summary.names))

    @property
    def words(self) -> str:
        """What it was learned on: ``from 2,131 held-out patients``."""
        return f"from {self.patients:,} {self.how} patients"

    def about_zero(self) -> ErrorModel:
        """The same error about the generator's own numbers: what the mean corrects becomes part of the error.

        The second moment ``covariance + mean mean'`` of the parameters, with mean 0.
        """
        return replace(self, mean=np.zeros_like(self.mean), covariance=self.covariance + np.outer(self.mean, self.mean))

    def level_corrections(self, log_expected: Array, columns: Array) -> tuple[Array, Array]:
        """Log factors (arms,) of the arms' levels, at the mean lesion of patients as in ``terms``, and their covariance."""
        if not len(log_expected):
            return np.zeros(len(self.arms)), np.eye(len(self.arms))
        weights = lesion_weights(log_expected)
        rows = np.array([weights @ self.terms(log_expected, columns, arm) for arm in range(len(self.arms))])
        return rows @ self.mean, rows @ self.covariance @ rows.T

    def with_levels(self, shift: Array) -> ErrorModel:
        """The error that is left where a generator adds ``shift`` (arms,) to its own log expected counts."""
        at, common = self.at, float(shift.mean())
        moved = np.eye(len(self.mean))
        moved[at["arm"], at["width"]], moved[at["arm"], at["arm_width"]] = (common - shift)[:, None], np.diag(common - shift)
        mean = moved @ self.mean
        mean[at["arm"]] -= shift
        return replace(self, mean=mean, covariance=moved @ self.covariance @ moved.T, centre=self.centre + common)

    @cached_property
    def _root(self) -> Array:
        return self.root()

    def root(self) -> Array:
        """A matrix (p, p) whose product with its transpose is the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))

    def draw(self, draws: int, seed: int) -> Array:
        """Parameters of ``draws`` plausible generators, shape (draws, p), from the seed alone."""
        normal = keyed_generator("model error", seed).standard_normal((draws, len(self.mean)))
        return np.asarray(self.mean + normal @ self._root.T)

    def terms(self, log_expected: Array, columns: Array, arm: int) -> Array:
        """Derivatives (n, p) of log mu under one arm by the parameters.

        Parameters
        ----------
        log_expected : array (n, arms)
            Of the generator, under all of its arms.
        columns : array (n, q)
            As they were fitted, not standardised.
        arm : int
            Position among ``arms``.
        """
        z = self.summary.standardised(columns)
        return terms(np.asarray(log_expected, float), z, np.full(len(z), arm), self.centre)

    def log_ratios(self, log_expected: Array, columns: Array, parameters: Array) -> Array:
        """Log mu - log m of every draw, patient and arm, shape (draws, n, arms), without the level of a new trial."""
        each = [self.terms(log_expected, columns, arm) @ parameters.T for arm in range(len(self.arms))]
        return np.stack(each, axis=-1).swapaxes(0, 1)

    def means(self, log_expected: Array, columns: Array, draws: int, seed: int) -> Array:
        """Expected counts of plausible generators, shape (draws, n, arms).

        Every draw is one generator and the same trial level for all patients.
        """
        parameters = self.draw(draws, seed)
        level = self.trial_sd * keyed_generator("trial level", seed).standard_normal(draws)
        log_ratio = self.log_ratios(log_expected, columns, parameters) + level[:, None, None]
        return np.asarray(np.exp(log_expected[None] + log_ratio))

    def loadings(self, log_expected: Array, columns: Array, arm: int) -> Array:
        """Errors (n, p + 1) of log mu under one arm along independent standard normal directions, a new trial's level last.

        The covariance of log mu between any two rows is the product of their loadings.
        """
        own = self.terms(log_expected, columns, arm) @ self._root
        return np.column_stack([own, np.full(len(own), self.trial_sd)])

    @cached_property
    def name(self) -> str:
        """Twelve hexadecimal digits that its numbers have: errors of two rows are correlated only within one model."""
        return sha256(self.mean.tobytes() + self.covariance.tobytes()).hexdigest()[:12]

    def cells(self, log_expected: Array, columns: Array, arm: int, mean: Array, size: float | Array) -> list[ModelError]:
        r"""The error of patients' counts under one arm, as a table of draws carries it.

        With :math:`P_0 = (k/(k+m))^k` the probability of no event, P(any) errs by :math:`P_0 k m/(k+m)` times the error of log m,
        and by its slope in log k times that of log k.

        Parameters
        ----------
        log_expected : array (n, arms)
            At the last visit, which the error model speaks of.
        columns : array (n, q)
        arm : int
        mean : array (n,)
            Expected counts under the arm at the visit that is asked about.
        size : float or array (n,)
            Negative-binomial size of each count.
        """
        loadings = self.loadings(log_expected, columns, arm)
        silent = (size / (size + mean)) ** size
        slope = silent * size * mean / (size + mean)
        by_log_size = np.abs(silent * size * (np.log(size / (size + mean)) + mean / (size + mean)))
        size_sd, volume_sd = float(self.log_size_sd[arm]), float(self.volume_sd[arm]) if len(self.volume_sd) else np.nan
        return [
            ModelError(self.name, self.words, own, float(by_mean), float(by_size) * size_sd, volume_sd, size_sd)
            for own, by_mean, by_size in zip(loadings, slope, by_log_size, strict=True)
        ]

    @cached_property
    def log_size_sd(self) -> Array:
        """Standard errors (arms,) of the log negative-binomial sizes."""
        return np.asarray(np.sqrt(np.diag(self.covariance)[self.at["log_size"]]))

    def arrays(self) -> dict[str, Array]:
        """Its arrays by name, for a file; what is no array is in :meth:`words_and_numbers`."""
        lacking = {"lacking": np.array([one.numbers for one in self.lacking])} if self.lacking else {}
        return lacking | {
            "mean": self.mean,
            "covariance": self.covariance,
            "sizes": self.sizes,
            "volume_sd": self.volume_sd,
            "column_mean": self.summary.mean,
            "column_sd": self.summary.sd,
            "column_correlation": self.summary.correlation,
        }

    def words_and_numbers(self) -> dict[str, Any]:
        """What is no array, as JSON values."""
        lacking = {"lacking": [list(one.names) for one in self.lacking]} if self.lacking else {}
        return lacking | {
            "arms": list(self.arms),
            "columns": list(self.summary.names),
            "trial_sd": self.trial_sd,
            "centre": self.centre,
            "patients": self.patients,
            "how": self.how,
        }

    @classmethod
    def read(cls, arrays: Mapping[str, Array], words: Mapping[str, Any]) -> ErrorModel:
        """The error model that :meth:`arrays` and :meth:`words_and_numbers` describe.

        Raises
        ------
        InputError
            If a part is missing or an array has another shape than arms and columns ask for.
        """
        try:
            arms, names = tuple(map(str, words["arms"])), tuple(map(str, words["columns"]))
            read = {name: np.asarray(arrays[name], float) for name in _SHAPES}
            own: dict[str, Any] = {
                "trial_sd": float(words["trial_sd"]),
                "centre": float(words["centre"]),
                "patients": int(words["patients"]),
            }
            how = str(words["how"])
            lacking = read_lacking(words.get("lacking", []), np.asarray(arrays.get("lacking", np.zeros((0, 5))), float))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"error model: incomplete or unreadable ({error}); fit it again") from error
        sizes = {"p": blocks(len(arms), len(names))["trial"].stop, "arms": len(arms), "columns": len(names)}
        for name, shape in _SHAPES.items():
            expected = tuple(sizes[axis] for axis in shape)
            if read[name].shape != expected or not np.isfinite(read[name]).all():
                raise InputError(
                    f"error model: {name} of shape {read[name].shape}, expected finite numbers of {expected}; fit it again"
                )
        summary = ColumnSummary(names, read["column_mean"], read["column_sd"], read["column_correlation"])
        own |= {"volume_sd": read["volume_sd"], "lacking": lacking}
        return cls(arms, read["mean"], read["covariance"], read["sizes"], summary=summary, how=how, **own)


_SHAPES = {
    "mean": ("p",),
    "covariance": ("p", "p"),
    "sizes": ("arms",),
    "volume_sd": ("arms",),
    "column_mean": ("columns",),
    "column_sd": ("columns",),
    "column_correlation": ("columns", "columns"),
}
