r"""Uncertainty of the model: a Pyro posterior that recalibrates expected counts on the observed arms.

With the generator's expected count :math:`m_i(a)` under the arm that patient i was given:

.. math::
    N_i \sim \mathrm{NB}(\mu_i, \alpha), \quad
    \log\mu_i = \bar\ell + c + s(\log m_i - \bar\ell) + b_{a_i} + t_{j_i}, \quad
    b_a \sim N(0, \tau_b^2), \quad t_j \sim N(0, \tau_t^2), \quad s \sim N(1, 0.25^2), \quad
    \log\alpha \sim N(\log\hat\alpha, 0.5^2).

The trial effects :math:`t_j` enter the likelihood and not the answer: they absorb what trials differ in beyond covariates, so
that a contrast that no trial randomises carries their uncertainty.  The posterior is Laplace's, by Newton's method on the
potential energy that Pyro makes of the model; its draws are members of an ensemble (column ``generator``), whence
``se_generator``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.causal.evidence import as_trial
from causalms.causal.model import CausalModel
from causalms.causal.sampling import Running
from causalms.errors import ConvergenceError, InputError, UsageError
from causalms.tables import MODEL_ERROR, name_of, net2_column

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class CountData:
    """Observed counts beside what the model expected of the same patients under their own arms.

    Attributes
    ----------
    counts, expected : array, shape (patients,)
    arm, trial : int array, shape (patients,)
        Index in ``arms`` and ``trials``.
    arms, trials : tuple of str
    dispersion : float
        The model's own alpha.
    """

    counts: FloatArray
    expected: FloatArray
    arm: npt.NDArray[np.integer[Any]]
    trial: npt.NDArray[np.integer[Any]]
    arms: tuple[str, ...]
    trials: tuple[str, ...]
    dispersion: float

    @classmethod
    def of(cls, expected: pd.DataFrame, participants: pd.DataFrame, week: int) -> CountData:
        """Join an expected table with the observed counts of a participants table at a visit; drop-outs are left out.

        Raises
        ------
        InputError
            If the expected table lacks the randomised arms, or nobody was seen.
        """
        column = net2_column(week)
        if column not in participants:
            raise InputError(f"participants: no column {column!r}; name a week with observed outcomes")
        own = expected[(expected["arm"] == expected["arm_randomised"]) & (expected["visit_week"] == week)]
        seen = participants[["participant_id", column]].dropna()
        rows = own.merge(seen, on="participant_id", validate="one_to_one")
        if len(rows) < 20:
            raise InputError(
                f"only {len(rows)} patients have both an expected count under their own arm and an observed one; ask do() with "
                "expected=True for all randomised arms at that week"
            )
        arms, trials = (tuple(sorted(rows[c].unique())) for c in ("arm", "trial"))
        dispersion = float(np.average(rows["dispersion"], weights=rows["expected_net2_lesions"] + 1e-9))
        return cls(
            rows[column].to_numpy(float),
            rows["expected_net2_lesions"].clip(lower=1e-6).to_numpy(float),
            np.array([arms.index(a) for a in rows["arm"]]),
            np.array([trials.index(t) for t in rows["trial"]]),
            arms,
            trials,
            max(dispersion, 1e-3),
        )


def count_model(data: CountData, arm_scale: float = 1.0, trial_scale: float = 0.2) -> None:
    """Recalibrate expected counts: the Pyro model whose posterior carries the uncertainty of the generator's rates."""
    import pyro
    import pyro.distributions as dist
    import torch

    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    level = pyro.sample("level", dist.Normal(zero, one))
    slope = pyro.sample("slope", dist.Normal(one, 0.25 * one))
    log_alpha = pyro.sample("log_alpha", dist.Normal(float(np.log(data.dispersion)) * one, 0.5 * one))
    arm = pyro.sample("arm_effect", dist.Normal(zero, arm_scale * one).expand([len(data.arms)]).to_event(1))
    log_m = torch.tensor(data.expected, dtype=torch.float64).log()
    log_mean = log_m.mean() + level + slope * (log_m - log_m.mean()) + arm[torch.as_tensor(data.arm)]
    if len(data.trials) > 1:
        trial = pyro.sample("trial_effect", dist.Normal(zero, trial_scale * one).expand([len(data.trials)]).to_event(1))
        log_mean = log_mean + trial[torch.as_tensor(data.trial)]
    size = torch.exp(-log_alpha)
    with pyro.plate("patients", len(data.counts)):
        pyro.sample(
            "counts",
            dist.NegativeBinomial(size, logits=log_mean - size.log()),
            obs=torch.tensor(data.counts, dtype=torch.float64),
        )


@dataclass(frozen=True)
class Recalibration:
    """Posterior of the recalibration.

    Attributes
    ----------
    data_arms : tuple of str
    centre : float
        Mean of log expected counts that the slope turns about.
    level, slope, dispersion : array, shape (members,)
    arm_effects : array, shape (members, arms)
    """

    data_arms: tuple[str, ...]
    centre: float
    level: FloatArray
    slope: FloatArray
    dispersion: FloatArray
    arm_effects: FloatArray

    def means(self, log_expected: FloatArray, arm: str) -> FloatArray:
        """Recalibrated expected counts under one arm, (members, patients), from the model's log expected counts.

        Raises
        ------
        InputError
            If the posterior never saw the arm.
        """
        if arm not in self.data_arms:
            raise InputError(f"arm {arm!r} was not among the recalibrated ones ({', '.join(self.data_arms)}); leave it out")
        shift = self.level + self.arm_effects[:, self.data_arms.index(arm)]
        return np.exp(self.centre + shift[:, None] + self.slope[:, None] * (log_expected - self.centre))

    def rate_ratios(self, expected: pd.DataFrame, arm: str, reference: str) -> FloatArray:
        """Population rate ratio of every member, (members,), over the patients of an expected table at one visit."""
        means = []
        for name in (arm, reference):
            m = expected.loc[expected["arm"] == name, "expected_net2_lesions"].clip(lower=1e-6).to_numpy(float)
            means.append(self.means(np.log(m), name).mean(1))
        return np.asarray(means[0] / means[1])

    def table(self, expected: pd.DataFrame) -> pd.DataFrame:
        """Every member's expected outcomes: the expected table once a member, with a column ``generator``.

        Volume changes in proportion to the count; activity follows from the count's law.

        Raises
        ------
        InputError
            If the table has an arm that the posterior never saw.
        """
        m = expected["expected_net2_lesions"].clip(lower=1e-6).to_numpy(float)
        means = np.empty((len(self.level), len(m)))
        for arm in expected["arm"].unique():
            rows = (expected["arm"] == arm).to_numpy()
            means[:, rows] = self.means(np.log(m[rows]), str(arm))
        volume = expected["expected_net2_volume_ml"].to_numpy(float) / m
        expected = expected.drop(columns=MODEL_ERROR, errors="ignore")  # the members carry the error in its place
        parts = [
            expected.assign(
                expected_net2_lesions=mean,
                expected_net2_volume_ml=volume * mean,
                activity_probability=1 - (1 + alpha * mean) ** (-1 / alpha),
                dispersion=alpha,
                generator=g,
            )
            for g, (mean, alpha) in enumerate(zip(means, self.dispersion, strict=True))
        ]
        return pd.concat(parts, ignore_index=True)


def recalibrate(
    expected: pd.DataFrame,
    participants: pd.DataFrame,
    week: int = 48,
    members: int = 100,
    seed: int = 0,
    arm_scale: float = 1.0,
    trial_scale: float = 0.2,
) -> Recalibration:
    """Posterior of arm effects, spread and frailty given the observed counts, as members of an ensemble.

    Parameters
    ----------
    expected : DataFrame
        Expected table with, for each patient, at least the arm that was given.
    participants : DataFrame
        With ``net2_lesions_week{week}``.
    members : int
        Posterior draws.
    arm_scale, trial_scale : float
        Prior standard deviations of the log rates' arm and trial effects.

    Raises
    ------
    ConvergenceError
        If Newton's method does not find a mode.
    """
    if members < 2:
        raise UsageError(f"members is {members}; an error between members needs at least 2")
    data = CountData.of(expected, participants, week)
    mode, covariance, layout = laplace(count_model, (data, arm_scale, trial_scale))
    draws = np.random.default_rng(seed).multivariate_normal(mode, covariance, size=members, method="cholesky")
    sites = {name: draws[:, span] for name, span in layout.items()}
    return Recalibration(
        data.arms,
        float(np.log(data.expected).mean()),
        sites["level"][:, 0],
        sites["slope"][:, 0],
        np.exp(sites["log_alpha"][:, 0]),
        sites["arm_effect"],
    )


def recalibrated(
    model: CausalModel,
    trial: Any,
    expected: pd.DataFrame,
    members: int = 100,
    seed: int = 0,
    running: Running = Running(),
) -> pd.DataFrame:
    """Recalibrate an expected table on the observed counts of its own visit, asking the model for the arms that were given.

    Parameters
    ----------
    model : CausalModel
    trial : Trial or DataFrame
        With observed counts at the table's visit.
    expected : DataFrame
        From ``model.do(..., expected=True)`` at one visit, arms only (a policy mixes arms whose effects differ).

    Returns
    -------
    DataFrame
        The table once a member, with a column ``generator``; ``attrs`` as before, the record with ``recalibration``.

    Raises
    ------
    UsageError
        If the table has several visits.
    InputError
        If nobody was seen at that visit, or a world is no arm of the trial.
    """
    trial = as_trial(trial)
    weeks = expected["visit_week"].unique()
    if len(weeks) != 1:
        raise UsageError(f"the table has visits at weeks {sorted(weeks)}; recalibrate one visit at a time")
    week = float(weeks[0])
    people = trial.participants
    if week != int(week) or net2_column(int(week)) not in people:
        raise InputError(f"participants: no column {net2_column(int(week))!r}; recalibrate at a week with observed outcomes")
    seen = people[people[net2_column(int(week))].notna() & people["arm"].isin(model.mechanism.arms)]
    own = [
        model.do(trial, str(arm), week, expected=True, participants=list(of_arm["participant_id"]), running=running)
        for arm, of_arm in seen.groupby("arm")
    ]
    if not own:
        raise InputError(
            f"participants: nobody on a known arm was seen at week {name_of(week)}; name a week with observed outcomes"
        )
    table = recalibrate(pd.concat(own), people, int(week), members, seed).table(expected)
    queries = {i: {**r, "recalibration": {"members": members, "seed": seed}} for i, r in expected.attrs["queries"].items()}
    table.attrs = {**expected.attrs, "queries": queries}
    return table


def laplace(
    model: Any, arguments: Sequence[Any], tolerance: float = 1e-8, most: int = 100
) -> tuple[FloatArray, FloatArray, dict[str, slice]]:
    """Laplace's approximation to a Pyro model's posterior: mode and inverse Hessian of its potential energy.

    Returns
    -------
    mode : array, shape (k,)
    covariance : array, shape (k, k)
    layout : dict of str to slice
        Where each site stands in the vector.

    Examples
    --------
    >>> import pyro, torch
    >>> import pyro.distributions as dist
    >>> def coin():
    ...     x = pyro.sample("x", dist.Normal(torch.zeros((), dtype=torch.float64), 1.0))
    ...     pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(2.0, dtype=torch.float64))
    >>> mode, covariance, _ = laplace(coin, ())
    >>> mode.round(6).tolist(), covariance.round(6).tolist()
    ([1.0], [[0.5]])
    """
    import pyro
    import torch
    from pyro.infer.mcmc.util import initialize_model

    with torch.random.fork_rng(), pyro.validation_enabled(False):
        pyro.set_rng_seed(0)
        initial, potential, _, _ = initialize_model(model, model_args=tuple(arguments), initial_params=None)
        layout, start = {}, 0
        for name, value in initial.items():
            layout[name] = slice(start, start + max(value.numel(), 1))
            start = layout[name].stop
        shapes = {name: value.shape for name, value in initial.items()}

        def energy(x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(potential({name: x[span].reshape(shapes[name]) for name, span in layout.items()}))

        x = torch.zeros(start, dtype=torch.float64)
        for _ in range(most):
            gradient = torch.autograd.functional.jacobian(energy, x)  # type: ignore[no-untyped-call]
            hessian = torch.autograd.functional.hessian(energy, x)  # type: ignore[no-untyped-call]
            step, scale = _descent(hessian, gradient), 1.0
            here = float(energy(x))
            while scale > 1e-6 and not float(energy(x - scale * step)) <= here + 1e-10:
                scale /= 2
            x = x - scale * step
            if float(gradient.abs().max()) < tolerance * max(1.0, abs(here)):
                covariance = torch.linalg.inv(torch.autograd.functional.hessian(energy, x)).numpy()  # type: ignore[no-untyped-call]
                return x.numpy(), (covariance + covariance.T) / 2, layout
    raise ConvergenceError("Newton's method found no posterior mode; check the counts and expected counts for outliers")


def _descent(hessian: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Newton step on the absolute Hessian, so that a saddle is left downhill."""
    import torch

    values, vectors = torch.linalg.eigh(hessian)
    return torch.as_tensor(vectors @ ((vectors.T @ gradient) / values.abs().clamp(min=1e-3)))
