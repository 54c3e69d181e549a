"""Contrasts that no trial randomises: said so, with the assumption in words, the overlap, and what would erase them.

Also registry-style assignment: adjustment by the measured covariates, and refusal where an arm has no support.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from causalms.errors import InputError, RefusalError
from causalms.tables import fixed, name_of, percentage

#: Baseline columns that adjustment and overlap look at by default.
BASELINE = ("age", "edss", "disease_duration", "relapses_prior_year", "gd_lesions", "t2_lesions", "t2_volume_ml")
_SKEWED = ("gd_lesions", "t2_lesions", "t2_volume_ml", "disease_duration", "relapses_prior_year")


def covariate_overlap(
    participants: pd.DataFrame, arm: str, reference: str, columns: Sequence[str] = BASELINE, caliper: float = 0.02
) -> pd.DataFrame:
    r"""Overlap of the patients of two arms in their baseline covariates.

    The propensity :math:`e(x) = P(\text{arm} \mid x,\ \text{arm or reference})` is a logistic regression on the columns
    (skewed ones as log(1 + x)).

    Returns
    -------
    DataFrame
        One row a covariate (standardised mean difference), then the propensity: its standardised difference, the share of
        patients inside the range that both arms hold (``share_in_common``), and the effective sample size of the smaller
        arm after weighting by inverse propensity, as a share of its n (``effective_share``).

    Raises
    ------
    RefusalError
        If less than ``caliper`` of the patients lie where both arms have some.
    """
    rows, used, zero, one = _two_arms(participants, arm, reference, columns)
    X = _design(rows, used)
    e = _propensity(X, one)
    out = [{"covariate": name, "standardised_difference": _standardised_difference(X[:, k], one)} for k, name in enumerate(used)]
    low = max(np.quantile(e[one], 0.005), np.quantile(e[zero], 0.005))
    high = min(np.quantile(e[one], 0.995), np.quantile(e[zero], 0.995))
    common = float(np.mean((e >= low) & (e <= high)))
    weights = np.where(one, 1 / e, 1 / (1 - e))
    effective = min(float(weights[g].sum() ** 2 / (weights[g] ** 2).sum() / g.sum()) for g in (one, zero))
    out.append(
        {
            "covariate": "propensity", "standardised_difference": _standardised_difference(np.log(e / (1 - e)), one),
            "share_in_common": common, "effective_share": effective,
        }
    )  # fmt: skip
    if common < caliper:
        raise RefusalError(
            f"patients of {arm!r} and {reference!r} have no covariates in common (share in the common range {fixed(common, 3)}); "
            "compare arms of alike patients, or restrict the population"
        )
    return pd.DataFrame(out)


@dataclass(frozen=True)
class Sensitivity:
    """How strong an unmeasured trial effect would have to be to erase a ratio.

    Attributes
    ----------
    ratio, limit : float
        The rate ratio and the confidence limit nearest to 1.
    erases_estimate, erases_interval : float
        Multiplicative difference of rates between the trials, at equal measured covariates and arm, that moves the estimate (the
        limit) to 1.
    e_value, e_value_interval : float
        Least association, on the ratio scale, that an unmeasured cause would need with both trial and outcome (VanderWeele and
        Ding 2017).
    benchmark : float
        Largest ratio between trials that the data show on an arm they share, given covariates; missing where none is shared.
    """

    ratio: float
    limit: float
    erases_estimate: float
    erases_interval: float
    e_value: float
    e_value_interval: float
    benchmark: float = np.nan

    @property
    def words(self) -> str:
        """The same in a sentence."""
        erased = fixed(self.erases_estimate, 2)
        text = f"an unmeasured trial effect would have to multiply the rate by {erased} to erase the estimate"
        if np.isnan(self.erases_interval):
            text += f"; E-value {fixed(self.e_value, 2)} (none for the interval: model error unknown)"
        else:
            text += (
                f" and by {fixed(self.erases_interval, 2)} to bring the interval to 1; E-value {fixed(self.e_value, 2)} "
                f"({fixed(self.e_value_interval, 2)} for the interval)"
            )
        if np.isfinite(self.benchmark):
            text += (
                f"; the largest difference between trials on an arm they share, given covariates, is {fixed(self.benchmark, 2)}"
            )
        return text


def unmeasured_trial_effect(ratio: float, lower: float, upper: float, benchmark: float = np.nan) -> Sensitivity:
    r"""Sensitivity of a transported rate ratio to an unmeasured difference between trials.

    If patients of one trial have rates :math:`\delta` times those of the other at equal covariates and arm, the transported
    ratio is biased by :math:`\delta`; it is erased at :math:`\delta = \max(RR, 1/RR)`.  The E-value is
    :math:`RR + \sqrt{RR(RR-1)}` for RR > 1.

    References
    ----------
    VanderWeele and Ding (2017) Ann. Intern. Med. 167.

    Examples
    --------
    >>> erased = unmeasured_trial_effect(0.5, 0.4, 0.8)
    >>> erased.erases_estimate, erased.erases_interval, round(erased.e_value, 3)
    (2.0, 1.25, 3.414)
    """
    if np.isnan(lower) or np.isnan(upper):
        strong = max(ratio, 1 / ratio)
        return Sensitivity(ratio, np.nan, strong, np.nan, _e_value(strong), np.nan, benchmark)
    if not 0 < lower <= ratio <= upper:
        raise InputError(
            f"estimate {name_of(ratio)} lies outside its interval {name_of(lower)} to {name_of(upper)}; "
            "give positive numbers in order"
        )
    limit = 1.0 if lower <= 1 <= upper else (upper if upper < 1 else lower)
    strong, weak = max(ratio, 1 / ratio), max(limit, 1 / limit)
    return Sensitivity(ratio, limit, strong, weak, _e_value(strong), _e_value(weak), benchmark)


def trial_effect_benchmark(participants: pd.DataFrame, outcome: str, columns: Sequence[str] = BASELINE) -> pd.DataFrame:
    """Rate ratios between trials on the arms that they share, given covariates: how large trial effects really are here.

    A Poisson regression with arm, covariates and trial, sandwich standard errors, within each shared arm's trials.

    Returns
    -------
    DataFrame
        arm, trial, reference_trial, ratio, lower, upper, n; empty where no arm is shared.
    """
    import statsmodels.api as sm

    rows = []
    for arm, of_arm in participants.dropna(subset=[outcome]).groupby("arm"):
        trials = sorted(str(t) for t in of_arm["trial"].unique())
        used = [c for c in columns if c in of_arm and of_arm[c].notna().all() and of_arm[c].nunique() > 1]
        for trial in trials[1:]:
            two = of_arm[of_arm["trial"].isin([trials[0], trial])]
            second = (two["trial"] == trial).to_numpy(float)
            if min(second.sum(), (1 - second).sum()) < len(used) + 3:
                continue
            X = np.column_stack([np.ones(len(two)), second, _design(two, used)])
            fit = sm.GLM(two[outcome].to_numpy(float), X, family=sm.families.Poisson()).fit(cov_type="HC1")
            b, se = float(fit.params[1]), float(fit.bse[1])
            limits = np.exp([b, b - 1.96 * se, b + 1.96 * se])
            rows.append([str(arm), trial, trials[0], *limits, len(two)])
    return pd.DataFrame(rows, columns=["arm", "trial", "reference_trial", "ratio", "lower", "upper", "n"])


def overlap_weights(participants: pd.DataFrame, arm: str, reference: str, columns: Sequence[str] = BASELINE) -> pd.Series:
    r"""Weights of the population in which both arms could have been given: :math:`w_i = e(x_i)\{1 - e(x_i)\}`.

    Patients whom hardly anybody of the other arm is like count for little, and no weight is extreme.

    Returns
    -------
    Series
        By participant_id, adding up to the number of patients of the two arms; 0 for everybody else.

    References
    ----------
    Li, Morgan and Zaslavsky (2018), Journal of the American Statistical Association 113:390-400.
    """
    rows, used, _, one = _two_arms(participants, arm, reference, columns)
    e = _propensity(_design(rows, used), one)
    weights = pd.Series(0.0, index=participants["participant_id"].to_numpy())
    weights.loc[rows["participant_id"].to_numpy()] = e * (1 - e) / float(np.mean(e * (1 - e)))
    weights.name = f"the overlap population of {arm} and {reference} (weights e(1 - e))"
    return weights


def covariate_benchmarks(
    participants: pd.DataFrame, arm: str, reference: str, outcome: str, columns: Sequence[str] = BASELINE
) -> pd.DataFrame:
    r"""How strongly each measured covariate goes with outcome and with arm, and how far an unmeasured one like it could bias.

    Covariates are split in two (any against none where half or more have none, else at the median).  :math:`RR_{UD}` is the
    rate ratio of the outcome between the halves given arm and the other covariates (Poisson regression), :math:`RR_{EU}` the
    largest ratio of a half's share between the two arms; the bias of a ratio is at most
    :math:`RR_{UD} RR_{EU} / (RR_{UD} + RR_{EU} - 1)`.

    Returns
    -------
    DataFrame
        covariate, split, outcome_ratio, imbalance, bias; the strongest first.

    References
    ----------
    Ding and VanderWeele (2016), Epidemiology 27:368-377.
    """
    import statsmodels.api as sm

    rows, used, _, one = _two_arms(participants.dropna(subset=[outcome]), arm, reference, columns)
    design, found = _design(rows, used), []
    for number, name in enumerate(used):
        values = rows[name].to_numpy(float)
        cut = 0.0 if (values <= 0).mean() >= 0.5 else float(np.median(values))
        high = values > cut
        shares = [np.array([high[group].mean(), 1 - high[group].mean()]) for group in (one, ~one)]
        if high.all() or not high.any() or min(share.min() for share in shares) == 0:
            continue
        others = np.delete(design, number, axis=1)
        fit = sm.GLM(
            rows[outcome].to_numpy(float), np.column_stack([np.ones(len(rows)), one, high, others]), family=sm.families.Poisson()
        ).fit()
        strength, ratio = float(np.exp(abs(fit.params[2]))), shares[0] / shares[1]
        imbalance = float(np.max(np.maximum(ratio, 1 / ratio)))
        split = f"above {name_of(cut)}"
        found.append([name, split, strength, imbalance, strength * imbalance / (strength + imbalance - 1)])
    table = pd.DataFrame(found, columns=["covariate", "split", "outcome_ratio", "imbalance", "bias"])
    return table.sort_values("bias", ascending=False, ignore_index=True)


def refuse_without_support(
    participants: pd.DataFrame, arms: Sequence[str], columns: Sequence[str] = BASELINE, least: float = 0.01
) -> pd.DataFrame:
    """Positivity of registry-style assignment: P(arm | covariates) of every patient, refused where an arm has no support.

    Multinomial logistic regression of the arm on the measured covariates.  Patients below ``least`` are extrapolation.

    Returns
    -------
    DataFrame
        arm, share_supported (patients with P(arm | x) >= least), smallest, n_arm.

    Raises
    ------
    RefusalError
        If an arm has fewer than 10 patients or supports less than half of the patients.
    """
    from sklearn.linear_model import LogisticRegression

    known = participants.dropna(subset=["arm"])
    used = [c for c in columns if c in known and known[c].notna().all() and known[c].nunique() > 1]
    counts = known["arm"].value_counts()
    for arm in arms:
        if counts.get(arm, 0) < 10:
            raise RefusalError(f"arm {arm!r} has {int(counts.get(arm, 0))} patients, too few to adjust for; leave the arm out")
    X = _design(known, used)
    fit = LogisticRegression(C=10.0, max_iter=2000).fit(X, known["arm"])
    probability = pd.DataFrame(fit.predict_proba(X), columns=fit.classes_)
    rows = []
    for arm in arms:
        share = float((probability[arm] >= least).mean())
        rows.append({"arm": arm, "share_supported": share, "smallest": float(probability[arm].min()), "n_arm": int(counts[arm])})
        if share < 0.5:
            raise RefusalError(
                f"arm {arm!r}: only {percentage(share)} of the patients could have been given it by their covariates "
                f"(P >= {name_of(least)}); restrict the population to those like its patients"
            )
    return pd.DataFrame(rows)


def _two_arms(
    participants: pd.DataFrame, arm: str, reference: str, columns: Sequence[str]
) -> tuple[pd.DataFrame, list[str], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    rows = participants[participants["arm"].isin([arm, reference])]
    used = [c for c in columns if c in rows and rows[c].notna().all() and rows[c].nunique() > 1]
    one = (rows["arm"] == arm).to_numpy()
    if min(one.sum(), (~one).sum()) < 2 or not used:
        raise RefusalError(
            f"overlap of {arm!r} and {reference!r} needs patients of both and complete covariates; check the table"
        )
    return rows, used, ~one, one


def _design(rows: pd.DataFrame, used: Sequence[str]) -> npt.NDArray[np.floating[Any]]:
    X = np.column_stack([np.log1p(rows[c].to_numpy(float)) if c in _SKEWED else rows[c].to_numpy(float) for c in used])
    return np.asarray((X - X.mean(0)) / np.where(X.std(0) > 0, X.std(0), 1.0))


def _propensity(X: npt.NDArray[np.floating[Any]], one: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating[Any]]:
    from sklearn.linear_model import LogisticRegression

    e = LogisticRegression(C=10.0, max_iter=2000).fit(X, one).predict_proba(X)[:, 1]
    return np.asarray(np.clip(e, 1e-6, 1 - 1e-6))


def _standardised_difference(x: npt.NDArray[np.floating[Any]], one: npt.NDArray[np.bool_]) -> float:
    spread = np.sqrt((x[one].var(ddof=1) + x[~one].var(ddof=1)) / 2)
    return float((x[one].mean() - x[~one].mean()) / spread) if spread > 0 else 0.0


def _e_value(ratio: float) -> float:
    return float(ratio + np.sqrt(ratio * (ratio - 1)))
