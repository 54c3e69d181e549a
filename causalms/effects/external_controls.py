r"""Treated patients against external controls: doubly robust, for the patients of the trial.

With S = 1 for the trial's treated patients and 0 for the external controls, propensity :math:`e(x)=P(S=1\mid x)`, weights
:math:`w=e/(1-e)` and a model :math:`m(x)` of the controls' rate, the mean rate without treatment among the treated is

.. math::
    \theta_0 = \frac{1}{n_1}\sum_{S=1} m(x_i) + \frac{\sum_{S=0} w_i (Y_i - t_i m(x_i))}{\sum_{S=0} w_i t_i}
    \;\text{(AIPW)}, \qquad
    \theta_0 = \frac{e^{\varepsilon}}{n_1}\sum_{S=1} m(x_i),\;
    e^{\varepsilon} = \frac{\sum_{S=0} w_i Y_i}{\sum_{S=0} w_i t_i m(x_i)} \;\text{(targeted)}.

Both are right if the propensity or the model is.  The variance is that of the stacked estimating equations of everything that is
estimated, so that it holds if either is right.

References
----------
Robins, Rotnitzky, Zhao (1994), JASA 89:846-866; van der Laan and Rubin (2006), International Journal of Biostatistics 2(1);
Stefanski and Boos (2002), American Statistician 56:29-38.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects.columns import Covariates, counts_and_times
from causalms.effects.contrasts import wald
from causalms.effects.printing import interval, number, text_columns
from causalms.errors import RefusalError, UsageError, named_arguments
from causalms.stats import Array, fit_model, inverse_link
from causalms.tables import ResultRow, as_frame, fixed, percentage, refuse_arm_and_outcome_by_name, results_table, shown

ESTIMATORS = ("aipw", "targeted")
#: Below this share of the controls' number, weights leave too few of them to speak of.
_FEW_EFFECTIVE = 0.2


@dataclass(frozen=True)
class ExternalControl:
    """A treated arm against external controls, with what shows whether they overlap.

    Attributes
    ----------
    results : DataFrame
        One row.
    balance : DataFrame
        One row a covariate column: means of the treated and of the controls before and after weighting, and the standardised
        differences.
    propensity : DataFrame
        ``treated`` (bool) and ``propensity`` of every patient.
    effective_controls : float
        Kish's effective number of controls.
    largest_share : float
        Share of the whole weight that one control carries.
    outside : float
        Share of the treated whose propensity is above that of every control.
    """

    results: pd.DataFrame
    balance: pd.DataFrame
    propensity: pd.DataFrame
    effective_controls: float
    largest_share: float
    outside: float

    def __repr__(self) -> str:
        """The page that the command line prints."""
        row = self.results.iloc[0]
        pair = f"{row['arm']} vs {row['reference']} ({fixed(row['n'], 0)}, {fixed(row['n_reference'], 0)})"
        effect = text_columns(
            [
                ["rate ratio", "estimate", "95% CI".replace("95", fixed(100 * row["level"], 0)), "se(log)"],
                [pair, number(row["estimate"]), interval(row["lower"], row["upper"]), number(row["se"])],
            ]
        )
        heads = [["covariate", "treated", "controls", "weighted", "difference", "weighted difference"]]
        for line in self.balance.to_dict("records"):
            heads.append([str(line["covariate"]), *(number(line[name]) for name in list(line)[1:])])
        notes = []
        if self.outside > 0:
            notes.append(
                f"note: {percentage(self.outside, 1)} of the treated are less like the controls than any control is (propensity)"
            )
        controls = float(row["n_reference"])
        if self.effective_controls < _FEW_EFFECTIVE * controls:
            notes.append("note: little overlap: most controls count for nothing; restrict the treated to those like the controls")
        return "\n".join(
            [
                *effect,
                "",
                *text_columns(heads),
                "",
                f"overlap    {fixed(controls, 0)} controls count for {shown(self.effective_controls, 1)}; "
                f"the heaviest carries {percentage(self.largest_share, 1)}",
                f"estimand   {row['estimand']}",
                f"estimator  {row['estimator']}",
                f"variance   {row['variance']}",
                *notes,
                "note: not randomised: right only if the covariates hold all that differs between the two and matters",
            ]
        )


@dataclass(frozen=True)
class _Equations:
    """Stacked estimating equations of propensity, model of the controls, and the two rates."""

    x: Array
    y: Array
    t: Array
    treated: Array
    targeted: bool

    @property
    def q(self) -> int:
        return int(self.x.shape[1])

    def start(self) -> Array:
        """Where every equation but the last ones is already solved: the two fits, then the rates in closed form."""
        gamma = fit_model("logistic", self.x, self.treated).coefficients
        control = self.treated == 0
        beta = fit_model("poisson", self.x[control], self.y[control], self.t[control]).coefficients
        m, w = np.exp(self.x @ beta), self.weights(gamma)
        s = self.treated
        level = (s * m).sum() / s.sum()
        rate_1 = (s * self.y).sum() / (s * self.t).sum()
        if self.targeted:
            correction = float(np.log((w * self.y).sum() / (w * self.t * m).sum()))
            return np.asarray(np.r_[gamma, beta, correction, np.log(level) + correction, np.log(rate_1)])
        correction = float((w * (self.y - self.t * m)).sum() / (w * self.t).sum())
        if level + correction <= 0:
            raise RefusalError("the corrected rate of the controls is not above 0; use `estimator=targeted`, which keeps it so")
        return np.asarray(np.r_[gamma, beta, correction, np.log(level + correction), np.log(rate_1)])

    def weights(self, gamma: Array) -> Array:
        """Odds of being treated, of the controls alone."""
        return np.asarray((1 - self.treated) * np.exp(np.clip(self.x @ gamma, -30, 30)))

    def __call__(self, theta: Array) -> Array:
        """Values (n, 2q + 3) of the equations at each patient."""
        gamma, beta = theta[: self.q], theta[self.q : 2 * self.q]
        correction, log_0, log_1 = theta[2 * self.q :]
        s, w, m = self.treated, self.weights(gamma), np.exp(self.x @ beta)
        if self.targeted:
            of_correction = w * (self.y - self.t * m * np.exp(correction))
            of_control = s * (m * np.exp(correction) - np.exp(log_0))
        else:
            of_correction = w * (self.y - self.t * m - correction * self.t)
            of_control = s * (m + correction - np.exp(log_0))
        of_treated = s * (self.y - self.t * np.exp(log_1))
        return np.column_stack(
            [
                self.x * (s - inverse_link("logistic", self.x @ gamma))[:, None],
                self.x * ((1 - s) * (self.y - self.t * m))[:, None],
                of_correction,
                of_control,
                of_treated,
            ]
        )

    def covariance(self, theta: Array) -> Array:
        """The sandwich, its bread by central differences."""
        steps = 1e-5 * np.maximum(np.abs(theta), 1.0)
        bread = np.column_stack(
            [
                (self(theta + step * unit).sum(axis=0) - self(theta - step * unit).sum(axis=0)) / (2 * step)
                for step, unit in zip(steps, np.eye(len(theta)), strict=True)
            ]
        )
        values = self(theta)
        inverse = np.linalg.inv(bread)
        return np.asarray(inverse @ (values.T @ values) @ inverse.T)


@named_arguments
def external_control(
    treated: Any,
    controls: Any,
    *,
    outcome: str,
    adjust: str,
    exposure: str | None = None,
    estimator: str = "aipw",
    level: float = 0.95,
    names: tuple[str, str] = ("treated", "external controls"),
) -> ExternalControl:
    """Rate ratio of treated patients against external controls, in the population of the treated.

    Parameters
    ----------
    treated, controls : DataFrame, or path
        One row a patient, with the same columns.
    outcome : str
        Column of counts.
    adjust : str
        Formula of baseline covariates in which the two differ, such as ``"age + gd_lesions"``.
    exposure : str, optional
    estimator : {"aipw", "targeted"}
    level : float
    names : tuple of str
        What the two are called.

    Raises
    ------
    InputError, RefusalError, UsageError

    References
    ----------
    Robins, Rotnitzky, Zhao (1994), JASA 89:846-866; van der Laan and Rubin (2006), International Journal of Biostatistics 2(1).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x1, x0 = rng.normal(0.5, 1, 400), rng.normal(0, 1, 800)
    >>> treated = pd.DataFrame({"x": x1, "y": rng.poisson(np.exp(0.3 * x1))})
    >>> controls = pd.DataFrame({"x": x0, "y": rng.poisson(2 * np.exp(0.3 * x0))})
    >>> result = external_control(treated, controls, outcome="y", adjust="x")
    >>> round(float(result.results["estimate"][0]), 1), result.effective_controls > 500
    (0.5, True)
    """
    if estimator not in ESTIMATORS:
        raise UsageError(f"`estimator`: found {estimator!r}, expected one of {', '.join(ESTIMATORS)}")
    frames = [as_frame(treated), as_frame(controls)]
    if frames[0].equals(frames[1]):
        raise RefusalError(f"{names[0]} and {names[1]}: the same table twice; give other patients as the controls")
    both = pd.concat(frames, ignore_index=True)
    is_treated = np.repeat([1.0, 0.0], [len(frame) for frame in frames])
    covariates = Covariates.of(both, adjust, "the two tables together", "adjust")
    if covariates.formula is not None:
        refuse_arm_and_outcome_by_name(covariates.formula, None, outcome)
    y, t, known = zip(
        *(counts_and_times(frame, outcome, exposure, name) for name, frame in zip(names, frames, strict=True)), strict=True
    )
    place = np.concatenate([known[0], len(frames[0]) + known[1]])
    rows = place[covariates.complete[place]]
    used = np.isin(place, rows)
    y, t, s = np.concatenate(y)[used], np.concatenate(t)[used], is_treated[rows]
    columns, labels = covariates.matrix(rows, covariates.fitted(rows))
    for name, own in zip(names, (s == 1, s == 0), strict=True):
        if own.sum() < 2 or not y[own].any():
            raise RefusalError(f"{name}: fewer than two complete patients, or no event among them, so there is no rate")
    equations = _Equations(np.column_stack([np.ones(len(rows)), columns]), y, t, s, estimator == "targeted")
    theta = equations.start()
    covariance = equations.covariance(theta)[-2:, -2:]
    contrast = np.array([-1.0, 1.0])
    se = float(np.sqrt(contrast @ covariance @ contrast))
    effect = wald(float(contrast @ theta[-2:]), se, log=True, level=level)
    row = ResultRow(
        analysis=f"observed {outcome}",
        population=f"the patients of {names[0]}" + (" with complete data" if len(rows) < len(both) else ""),
        subgroup="all",
        arm=names[0],
        reference=names[1],
        measure="rate ratio",
        estimand=f"rate of {outcome} of the treated, against what they would have had untreated; exchangeable given {adjust}",
        estimator=("AIPW" if estimator == "aipw" else "targeted (TMLE)")
        + f", logistic propensity and Poisson rate given {adjust}",
        variance="stacked estimating equations (sandwich), propensity and rate model counted as estimated",
        **effect.columns,
        n=int(s.sum()),
        n_reference=int((1 - s).sum()),
        se_patient=se,
        randomised=False,
        rung=2,
    )
    weights = equations.weights(theta[: equations.q])
    return ExternalControl(results_table([row]), _balance(columns, labels, s, weights), *_overlap(equations, theta, weights))


def _balance(columns: Array, labels: tuple[str, ...] | list[str], treated: Array, weights: Array) -> pd.DataFrame:
    of_treated = columns[treated == 1].mean(axis=0)
    of_controls = columns[treated == 0].mean(axis=0)
    weighted = weights @ columns / weights.sum()
    scale = columns[treated == 1].std(axis=0, ddof=1)
    return pd.DataFrame(
        {
            "covariate": list(labels),
            "treated": of_treated,
            "controls": of_controls,
            "weighted": weighted,
            "difference": (of_treated - of_controls) / scale,
            "weighted_difference": (of_treated - weighted) / scale,
        }
    )


def _overlap(equations: _Equations, theta: Array, weights: Array) -> tuple[pd.DataFrame, float, float, float]:
    propensity = inverse_link("logistic", equations.x @ theta[: equations.q])
    treated = equations.treated == 1
    outside = float((propensity[treated] > propensity[~treated].max()).mean())
    table = pd.DataFrame({"treated": treated, "propensity": propensity})
    return table, float(weights.sum() ** 2 / (weights**2).sum()), float(weights.max() / weights.sum()), outside
