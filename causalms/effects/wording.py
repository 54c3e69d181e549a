"""The words that travel with an estimate: estimand, estimator, notes."""

from __future__ import annotations

import numpy as np

from causalms.effects.data import TrialData
from causalms.effects.design import COEFFICIENTS, Settings
from causalms.effects.estimands import Estimand
from causalms.effects.variance import MODEL_BASED, SMALL_ARM
from causalms.stats import Fit, pearson_chi_square
from causalms.tables import significant

TEST_NAMES = {
    "score": "robust score test",
    "permutation": "studentised permutation test",
    "permutation-plain": "permutation test of the difference of mean residuals",
    "permutation-prognostic": "studentised permutation test of the outcome less its prognostic expectation",
}
MODEL_NAMES = {"poisson": "Poisson", "negbin": "negative-binomial", "logistic": "logistic", "linear": "linear"}


#: P-value of Pearson's chi-square below which a Poisson model is called overdispersed.
OVERDISPERSION_P = 0.05
#: Clusters below which intervals lean on corrections.
FEW_CLUSTERS = 30


def estimand_of(
    data: TrialData, settings: Settings, outcome: str, arm: str, population: str, intercurrent_events: str
) -> Estimand:
    """The ICH E9(R1) record of one contrast."""
    variable = outcome
    summary = settings.measure.name
    if settings.measure.kind == "risk":
        variable = f"any {outcome}" if any("read as any" in note for note in data.notes) else outcome
    elif settings.measure.kind == "rate":
        variable = f"{outcome} per unit of exposure" if data.has_exposure else outcome
    if settings.estimator in COEFFICIENTS:
        summary = f"conditional {summary} given covariates" if data.covariate_names else f"model-based {summary}"
    elif data.has_exposure:
        per = (
            "every patient counted for one unit of exposure" if settings.rate == "unit" else "every unit of exposure counted once"
        )
        summary = f"marginal {summary} ({per})"
    else:
        summary = f"marginal {summary}"
    return Estimand(population, f"{arm} against {data.arms[0]}", variable, intercurrent_events, summary)


def estimator_name(data: TrialData, settings: Settings) -> str:
    """The estimator as it is printed, with its covariates."""
    model = MODEL_NAMES[settings.family]
    covariates = f"adjusted for {', '.join(data.covariate_names)}" if data.covariate_names else "no covariate"
    if settings.estimator == "unadjusted":
        return "unadjusted (arm means)"
    if settings.estimator == "firth":
        return f"conditional ({model} regression coefficient by Firth's penalised likelihood, {covariates})"
    if settings.estimator in COEFFICIENTS:
        return f"conditional ({model} regression coefficient, {covariates})"
    each = ", each by arm" if settings.interaction and data.covariate_names else ""
    return f"standardized ({model} working model, {covariates}{each})"


def notes_of(data: TrialData, settings: Settings, fit: Fit) -> tuple[str, ...]:
    """What a reader must know beside the numbers."""
    notes: list[str] = list(no_event_notes(data, fit))
    if fit.at_poisson_boundary:
        notes.append("no overdispersion: the negative-binomial fit is at its Poisson boundary (alpha = 0)")
    if fit.X.shape[1] > data.n / 5 and settings.estimator != "unadjusted":
        notes.append(f"{fit.X.shape[1]} coefficients for {data.n} patients: too many covariates to trust the interval")
    if fit.limit is not None and fit.rank < fit.X.shape[1]:
        lost = fit.X.shape[1] - fit.rank
        notes.append(
            f"an arm lacks levels of a covariate: {lost} interactions of arm and covariate cannot be estimated and are 0"
        )
    if settings.randomization == "simple" and data.strata is not None:
        notes.append("strata are not used under simple randomisation; `randomization=permuted-block` uses them")
    if settings.variance == "small-sample" and not settings.variance_named:
        notes.append(
            f"the smallest arm has {data.sizes.min()} patients: small-sample variance, the default for counts below {SMALL_ARM}"
        )
    if (
        data.sizes.min() < 50
        and settings.estimator not in ("negbin", "firth")
        and settings.variance in ("influence", "hc0", "hc1", "model-r", "model-sas")
        and not (settings.family == "linear" and settings.variance == "model-r")  # that one has its t
    ):
        notes.append(f"the smallest arm has {data.sizes.min()} patients: intervals may be short; see `variance=small-sample`")
    notes += overdispersion_notes(settings, fit)
    if data.cluster is not None and (groups := len(np.unique(data.cluster))) < FEW_CLUSTERS:
        notes.append(f"{groups} clusters: below {FEW_CLUSTERS} an interval leans on its small-sample correction (see `variance`)")
    if data.has_exposure and _exposure_differs(data):
        notes.append(
            "mean exposure differs between arms: it may be shortened by the treatment itself; "
            "a rate then mixes efficacy with drop-out (compare `rate=exposure-weighted` and a missing-data strategy)"
        )
    return tuple(notes)


def overdispersion_notes(settings: Settings, fit: Fit) -> tuple[str, ...]:
    """A warning where Pearson's chi-square contradicts the Poisson law that a model-based standard error rests on."""
    if settings.estimator not in ("conditional", "firth") or fit.family != "poisson" or settings.variance not in MODEL_BASED:
        return ()
    from scipy.special import chdtrc

    chi_square, degrees = pearson_chi_square(fit)
    if chdtrc(degrees, chi_square) >= OVERDISPERSION_P:
        return ()
    ratio = chi_square / degrees
    return (
        f"overdispersed: chi-square / df = {significant(chi_square, 4)} / {degrees} = {significant(ratio, 3)}; the Poisson "
        f"model's standard errors are about {significant(float(np.sqrt(ratio)), 2)} times too small; use `estimator=negbin`"
        + ("" if settings.estimator == "firth" else ", or `variance=hc3`"),
    )


def no_event_notes(data: TrialData, fit: Fit) -> tuple[str, ...]:
    """Levels of covariates (or patients) that the working model predicts at the end of its scale, by name."""
    if fit.limit is None:
        return ()
    side, named, notes = fit.limit.side(fit.X), np.zeros(data.n, dtype=bool), []
    every = [(np.ones(data.n, dtype=bool), ""), *((data.arm == index, f" in arm {arm}") for index, arm in enumerate(data.arms))]
    for name, levels in data.factors:
        for level in sorted(set(levels)):
            for among, words in every:
                rows = (levels == level) & among & ~named
                if rows.any() and abs(side[rows].sum()) == rows.sum() and (rows == ((levels == level) & among)).all():
                    notes.append(f"covariate {name}: level {level}{words} {_at_the_end(side[rows][0])} ({rows.sum()} patients)")
                    named |= rows
    rest = (side != 0) & ~named
    if rest.any():
        shown = ", ".join(str(row + 1) for row in data.rows[rest][:10]) + (", ..." if rest.sum() > 10 else "")
        notes.append(f"covariates single out {rest.sum()} patients alike in outcome, predicted 0 or 1: row {shown}")
    return tuple(notes)


def _at_the_end(side: float) -> str:
    return "has no event; its prediction is 0" if side < 0 else "has an event in every patient; its prediction is 1"


def _exposure_differs(data: TrialData) -> bool:
    """Whether mean exposure differs between arms beyond chance (Welch's z above 2.58) and by more than 2%."""
    means, errors = np.empty(len(data.arms)), np.empty(len(data.arms))
    for index in range(len(data.arms)):
        time = data.exposure[data.arm == index]
        means[index], errors[index] = time.mean(), time.var(ddof=1) / len(time)
    gap = np.abs(means[1:] - means[0])
    return bool(np.any((gap > 0.02 * means[0]) & (gap > 2.58 * np.sqrt(errors[1:] + errors[0]))))
