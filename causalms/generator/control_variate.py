"""The expectation as a control variate: sampled counts with the noise of the patients' frailty taken out.

Most of the Monte-Carlo error of a mean of sampled counts is the frailty ``U`` that the draws happened to have, and that is known:
a draw's count has mean ``mu U`` given ``U``, where ``mu`` is the expected count.  As ``E[U] = 1`` exactly,

(1) controlled mean = mean_d( N_d - (mu U_d - mu) )

has the same expectation as the plain mean, whatever the sampler does; its variance falls from ``m + m^2 / k`` a draw towards
that of a Poisson count, ``m``: by a factor of about ``1 + m / k`` (Owen 2013, Monte Carlo theory, methods and examples, 8.9).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalms.errors import InputError
from causalms.generator.noise import frailty_from_normal, stream
from causalms.tables import name_of

_KEYS = ["participant_id", "arm", "visit_week"]


@dataclass(frozen=True)
class ControlledMean:
    """Mean of sampled counts with the expectation as control variate.

    Attributes
    ----------
    plain, se_plain : float
        Mean of the draws, and its Monte-Carlo standard error.
    controlled, se_controlled : float
        Equation 1, and its Monte-Carlo standard error.
    variance_factor : float
        How many times as many draws the plain mean needs for the same error.
    draws : int
    """

    plain: float
    se_plain: float
    controlled: float
    se_controlled: float
    variance_factor: float
    draws: int


def frailties(participant_id: str, draws: np.ndarray, seed: int, size: float) -> np.ndarray:
    """Frailty ``U`` of a patient's draws, the one that :meth:`Generator.sample` used for these draws and this seed.

    Parameters
    ----------
    participant_id : str
    draws : int array (D,)
    seed : int
        Of the query.
    size : float
        Negative-binomial size of the arm, one over the dispersion of its expected law.

    Examples
    --------
    >>> bool(np.isclose(frailties("sub-1", np.arange(4000), seed=0, size=0.5).mean(), 1, atol=4 * (2 / 4000) ** 0.5))
    True
    """
    normals = [float(stream("frailty", participant_id, int(draw), seed).standard_normal()) for draw in draws]
    return frailty_from_normal(np.asarray(normals), size)


def controlled_mean(counts: np.ndarray, frailty: np.ndarray, expected: float) -> ControlledMean:
    """Controlled mean of one patient's draws under one arm (equation 1).

    Parameters
    ----------
    counts, frailty : array (D,)
        Sampled counts, and the frailty that each was sampled with.
    expected : float
        Expected count; the better it is, the smaller the error, but the estimate is unbiased for any value.

    Raises
    ------
    InputError
        If there are fewer than two draws, or the arrays differ in length.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> frailty = rng.gamma(0.5, 2.0, 64)
    >>> found = controlled_mean(rng.poisson(10 * frailty), frailty, expected=10.0)
    >>> round(found.se_plain, 2), round(found.se_controlled, 2)
    (2.04, 0.41)
    """
    counts, frailty = np.asarray(counts, dtype=float), np.asarray(frailty, dtype=float)
    if counts.shape != frailty.shape:
        raise InputError(f"{counts.size} counts and {frailty.size} frailties; give one frailty a draw")
    if counts.size < 2:
        raise InputError(f"{counts.size} draws; a Monte-Carlo error needs at least 2")
    residual = counts - expected * (frailty - 1)
    plain, controlled = counts.var(ddof=1), residual.var(ddof=1)
    root = np.sqrt(counts.size)
    return ControlledMean(
        plain=float(counts.mean()),
        se_plain=float(np.sqrt(plain) / root),
        controlled=float(residual.mean()),
        se_controlled=float(np.sqrt(controlled) / root),
        variance_factor=float(plain / controlled) if controlled > 0 else float("nan"),
        draws=int(counts.size),
    )


def controlled_means(draws: pd.DataFrame, expected: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Controlled means of an interventional draws table, one row a patient, arm and week.

    Parameters
    ----------
    draws : DataFrame
        Sampled outcomes, as ``model.do(..., draws=D, seed=seed)`` gives them.
    expected : DataFrame
        The same query with ``expected=True``.
    seed : int
        Of the sampled query.

    Returns
    -------
    DataFrame
        participant_id, arm, visit_week, expected_net2_lesions and the fields of ``ControlledMean``.

    Raises
    ------
    InputError
        If a patient and arm of the draws has no expectation, or draws are of a counterfactual query, whose frailty has
        another law.
    """
    if "query" in draws and (draws["query"].astype(str) != "interventional").any():
        raise InputError(
            "draws: column 'query' holds other than interventional rows; their frailty does not have mean 1, leave them out"
        )
    laws = {tuple(row[key] for key in _KEYS): row for row in expected.to_dict("records")}
    rows = []
    for found_key, part in draws.groupby(_KEYS, sort=False, observed=True):
        key = tuple(found_key)
        if key not in laws:
            raise InputError(
                f"expected: no row for participant {key[0]}, arm {key[1]}, week {name_of(key[2])}; "
                "ask the same query with expected=True"
            )
        law = laws[key]
        mean, size = float(law["expected_net2_lesions"]), 1 / float(law["dispersion"])
        frailty = frailties(str(key[0]), part["draw"].to_numpy(), seed, size)
        mean_count = controlled_mean(part["net2_lesions"].to_numpy(), frailty, mean)
        rows.append({**dict(zip(_KEYS, key, strict=True)), "expected_net2_lesions": mean, **vars(mean_count)})
    return pd.DataFrame(rows)
