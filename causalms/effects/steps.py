"""Steps 1 to 4 on checked data: working model, means, covariance and contrasts, with or without arms that have no event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from causalms.effects.contrasts import Contrast, contrast_with_reference, wald
from causalms.effects.covariance import Covariance
from causalms.effects.data import TrialData
from causalms.effects.design import BOOTSTRAPS, COEFFICIENTS, Settings
from causalms.effects.estimable import refuse_constant_outcome
from causalms.effects.firth import firth_contrasts
from causalms.effects.means import ArmMeans, counterfactual_means, fit_working_model, unadjusted_means
from causalms.effects.no_events import difference_contrast, exact_note, exact_risk_note, profile_contrast, profile_risk_contrast
from causalms.effects.tests import null_fit
from causalms.effects.variance import coefficient_covariance, means_covariance
from causalms.effects.wording import MODEL_NAMES
from causalms.errors import RefusalError
from causalms.stats import Family, Fit

#: Working model, means (of a marginal estimator), covariance, contrasts and notes.
Estimated = tuple[Fit, ArmMeans | None, Covariance, tuple[Contrast, ...], tuple[str, ...]]


def estimated(data: TrialData, settings: Settings, outcome: str) -> Estimated:
    """Working model, means, covariance, contrasts and notes where every arm has events (or needs none)."""
    more: tuple[str, ...] = ()
    if settings.estimator not in ("firth", "unadjusted") and settings.family != "linear":
        _refuse_arms_alike(data, settings, outcome)
    if settings.estimator == "firth":
        fit, covariance, contrasts = firth_contrasts(data, settings)
        means = None
    elif settings.estimator in COEFFICIENTS:
        fit, means = fit_working_model(data, settings.family), None
        refuse_constant_outcome(data.outcome, fit.y - fit.mean, data.arm, data.arms, outcome)
        covariance = coefficient_covariance(fit, settings.variance, data.cluster)
        contrasts = _coefficients(data, fit, covariance, settings)
    else:
        means = _arm_means(data, settings)
        fit = means.fit
        more = refuse_constant_outcome(data.outcome, means.residuals, data.arm, data.arms, outcome)
        variance = "influence" if settings.variance in BOOTSTRAPS else settings.variance
        covariance = means_covariance(means, variance, settings.randomization)
        contrasts = tuple(
            contrast_with_reference(
                means.estimates, covariance, index, scale=settings.measure.scale, level=settings.level, arms=data.arms
            )
            for index in range(1, len(data.arms))
        )
        if settings.variance in BOOTSTRAPS:
            from causalms.effects.bootstrap import bootstrapped_contrasts

            contrasts, covariance, failed = bootstrapped_contrasts(means, covariance, settings)
            more += failed
    return fit, means, covariance, contrasts, more


def estimated_with_silent_arms(data: TrialData, settings: Settings, outcome: str, silent: tuple[int, ...]) -> Estimated:
    """Ratios where an arm has no event: 0 with a profile-likelihood bound; the other arms are analysed without that arm."""
    option = settings.measure.option
    if 0 in silent:
        raise RefusalError(
            f"column {outcome!r}: the reference {data.arms[0]!r} has no event, so no ratio to it can be formed; "
            f"take another arm as `reference`, or ask for `measure={settings.measure.kind}-difference`"
            f"{_or_firth(settings)}"
        )
    if data.cluster is not None:
        raise RefusalError(
            f"column {outcome!r}: arm {data.arms[silent[0]]!r} has no event, so it has no variance between clusters; "
            "leave out `cluster`"
        )
    if option != "rate-ratio" and data.covariate_names:
        raise _adjusted_refusal(data, settings, outcome, silent[0])
    family: Family = "poisson" if settings.estimator == "conditional" and settings.family == "poisson" else "negbin"
    if option == "rate-ratio":
        contrasts = {arm: profile_contrast(data, family, arm, settings.level) for arm in silent}
        notes = tuple(exact_note(data, arm, settings.level) for arm in silent)
    else:
        family = "logistic"
        contrasts = {arm: profile_risk_contrast(data, option, arm, settings.level) for arm in silent}
        notes = tuple(exact_risk_note(data, arm, settings.level) for arm in silent)
    name = f"profile likelihood ({MODEL_NAMES[family]}), likelihood-ratio p"
    loud = [arm for arm in range(len(data.arms)) if arm not in silent]
    fit = null_fit(data, family, silent[0])[1]
    if len(loud) > 1:
        rest = data.take(np.flatnonzero(np.isin(data.arm, loud)))
        rest = replace(rest, arm=np.searchsorted(loud, rest.arm), arms=tuple(data.arms[arm] for arm in loud))
        fit, _, covariance, others, more = estimated(rest, settings, outcome)
        contrasts |= dict(zip(loud[1:], others, strict=True))
        name, notes = f"{covariance.name}; arms without events: {name}", more + notes
    nothing = np.zeros((len(data.arms), len(data.arms)))
    return fit, None, Covariance(nothing, name), tuple(contrasts[arm] for arm in range(1, len(data.arms))), notes


def _refuse_arms_alike(data: TrialData, settings: Settings, outcome: str) -> None:
    """Refuse an arm without events (or, of a logistic model, with an event in every patient), in the words of what was wanted."""
    events = np.bincount(data.arm, weights=data.outcome, minlength=len(data.arms))
    for arm, (total, size) in enumerate(zip(events, data.sizes, strict=True)):
        if total == 0 or (settings.family == "logistic" and total == size):
            raise _adjusted_refusal(data, settings, outcome, arm, "no event" if total == 0 else "an event in every patient")


def _adjusted_refusal(data: TrialData, settings: Settings, outcome: str, arm: int, what: str = "no event") -> RefusalError:
    wanted, firth = settings.measure.name, _or_firth(settings)
    if data.covariate_names:
        given = f"{wanted} adjusted for {', '.join(data.covariate_names)}"
        return RefusalError(
            f"column {outcome!r}: arm {data.arms[arm]!r} has {what}, so there is no {given}; leave out `adjust`{firth}"
        )
    other = f"`measure={settings.measure.kind}-difference` with `estimator=unadjusted`"
    return RefusalError(f"column {outcome!r}: arm {data.arms[arm]!r} has {what}, so there is no {wanted}; ask for {other}{firth}")


def _or_firth(settings: Settings) -> str:
    option = {"rate": "rate-ratio", "risk": "odds-ratio"}.get(settings.measure.kind)
    return "" if option is None else f", or use `estimator=firth` with `measure={option}` (finite without events)"


def differences_without_covariates(data: TrialData, settings: Settings) -> bool:
    """Whether arm means are compared by a difference, which an arm without events leaves with limits."""
    plain = settings.estimator in ("standardized", "unadjusted") and not data.covariate_names and data.cluster is None
    return plain and settings.measure.option in ("rate-difference", "risk-difference") and settings.variance not in BOOTSTRAPS


def differences_with_silent_arms(data: TrialData, settings: Settings, outcome: str, silent: tuple[int, ...]) -> Estimated:
    """Differences of arm means; those with an arm without events have limits made of each arm's own."""
    fit, means, covariance, contrasts, more = estimated(data, replace(settings, estimator="unadjusted"), outcome)
    changed = tuple(
        difference_contrast(data, settings.measure.kind, arm, settings.level) if {0, arm} & {*silent} else contrasts[arm - 1]
        for arm in range(1, len(data.arms))
    )
    p = "likelihood-ratio" if settings.measure.kind == "rate" else "Fisher's exact"
    name = f"{covariance.name}; with an arm without events: limits of each arm combined (MOVER), {p} p"
    said = f"no event in {' and '.join(repr(data.arms[arm]) for arm in silent)}: no standard error of its differences"
    notes = (*(note for note in more if "does not vary" not in note), said)
    return fit, means, replace(covariance, name=name), changed, notes


def _arm_means(data: TrialData, settings: Settings) -> ArmMeans:
    """Steps 1 and 2: working model and bias-corrected means, or the plain arm means."""
    if settings.estimator == "unadjusted":
        return unadjusted_means(data, counts=settings.measure.kind == "rate")
    fit = fit_working_model(data, settings.family, settings.interaction)
    return counterfactual_means(data, fit, settings.interaction, settings.rate)


def _coefficients(data: TrialData, fit: Fit, covariance: Covariance, settings: Settings) -> tuple[Contrast, ...]:
    degrees = np.broadcast_to(np.asarray(covariance.degrees_of_freedom, dtype=float), fit.coefficients.shape)
    return tuple(
        wald(
            float(fit.coefficients[index]),
            float(np.sqrt(max(covariance.matrix[index, index], 0.0))),
            log=settings.measure.is_ratio,
            level=settings.level,
            degrees_of_freedom=float(degrees[index]),
        )
        for index in range(1, len(data.arms))
    )
