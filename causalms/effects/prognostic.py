"""Prognostic adjustment: what a generator's expected counts save, and what that is worth in patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from causalms.effects.contrasts import transformed
from causalms.effects.observed import Analysis, analyse_data
from causalms.effects.variance import means_covariance
from causalms.errors import InputError, UsageError
from causalms.tables import fixed, patient_order, shown


@dataclass(frozen=True)
class Saving:
    r"""What adjustment saves in one contrast.

    Attributes
    ----------
    arm, reference : str
    variance_ratio : float
        Variance of the adjusted over that of the unadjusted estimate, both by influence functions with every patient's residual
        over one minus its leverage: what the covariates explain of patients whom the model has not seen, as a plan for another
        trial needs.  In large trials :math:`1-\rho^2` of a linear model.
    n : int
        Patients in the analysis.
    equivalent_n : float
        Patients an unadjusted trial would need for the same precision.
    """

    arm: str
    reference: str
    variance_ratio: float
    n: int

    @property
    def equivalent_n(self) -> float:
        """Size of an unadjusted trial with the same precision."""
        return self.n / self.variance_ratio

    @property
    def sentence(self) -> str:
        """One line for a report."""
        change = 100 * (1 - self.variance_ratio)
        verb = "saves" if change >= 0 else "costs"
        return (
            f"adjustment {verb} {shown(abs(change), 1)}% of the variance of {self.arm} vs {self.reference}: "
            f"{self.n} patients count for {fixed(self.equivalent_n, 0)} unadjusted ones"
        )


def savings(analysis: Analysis) -> tuple[Saving, ...]:
    """Variance saved by the covariates (prognostic or other) of a standardized analysis, contrast by contrast.

    Raises
    ------
    UsageError
        The analysis is of a conditional coefficient, whose unadjusted version is another estimand.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from causalms.effects import Method, analyse
    >>> rng = np.random.default_rng(0)
    >>> score = np.exp(rng.normal(size=200))
    >>> table = pd.DataFrame({"y": rng.poisson(score), "score": score, "arm": ["a", "b"] * 100})
    >>> saved = savings(analyse(table, outcome="y", reference="a", method=Method(prognostic=["score"])))[0]
    >>> saved.variance_ratio < 0.6, saved.equivalent_n > 330
    (True, True)
    """
    return tuple(saving for part in analysis.parts for saving in _savings(part))


def _savings(analysis: Analysis) -> list[Saving]:
    if analysis.means is None:
        raise UsageError("what adjustment saves is known for means only; use `estimator=standardized`")
    plain = replace(analysis.settings, estimator="unadjusted", variance="leave-one-out", interaction=False, test="wald")
    crude = analyse_data(analysis.data, plain, analysis.outcome, analysis.populations)
    adjusted = means_covariance(analysis.means, "leave-one-out", analysis.settings.randomization)
    out = []
    for index in analysis.reported:
        arm = analysis.data.arms[index]
        pair = np.array([0, index])
        _, slopes = transformed(analysis.means.estimates[pair], analysis.settings.measure.scale)
        variance = adjusted.of_contrast(pair, slopes * np.array([-1.0, 1.0]))[0]
        ratio = variance / crude.contrasts[index - 1].se ** 2
        out.append(Saving(arm, analysis.data.arms[0], float(ratio), int(analysis.data.sizes[pair].sum())))
    return out


def cross_fitted(
    table: pd.DataFrame,
    learn: Callable[[pd.DataFrame], Callable[[pd.DataFrame], np.ndarray]],
    *,
    folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Expected outcomes of every patient from a learner that never saw that patient.

    Needed when the prognostic model is trained on the trial that is analysed; a generator trained elsewhere needs none.

    Parameters
    ----------
    table : DataFrame
        One row a patient.
    learn : callable
        Takes the training rows and returns a function from rows to expected outcomes.
    folds, seed : int

    Returns
    -------
    array (n,)

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame({"y": [1.0, 2, 3, 4]})
    >>> def mean_of_the_others(train):
    ...     return lambda test: np.full(len(test), train["y"].mean())
    >>> cross_fitted(table, mean_of_the_others, folds=4).round(3).tolist()
    [3.0, 2.667, 2.333, 2.0]
    """
    if not 2 <= folds <= len(table):
        raise UsageError(f"folds: found {folds}, expected 2 to {len(table)} (the number of patients)")
    order = patient_order(table)
    table = table.iloc[order]
    fold = np.random.default_rng(seed).permutation(np.arange(len(table)) % folds)
    expected = np.empty(len(table))
    for number in range(folds):
        held = fold == number
        values = np.asarray(learn(table[~held])(table[held]), dtype=float)
        if values.shape != (int(held.sum()),) or not np.isfinite(values).all():
            raise InputError(f"cross-fitting, fold {number + 1}: the learner gave missing or misshapen expectations; check it")
        expected[order[held]] = values
    return expected
