"""The choices of an analysis, with defaults filled in and contradictions refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from causalms.effects.estimands import Measure, measure_named
from causalms.effects.means import RATES
from causalms.effects.tests import TESTS
from causalms.effects.variance import MODEL_BASED, OF_COEFFICIENTS, VARIANCES
from causalms.errors import UsageError
from causalms.stats import FAMILIES, LOG_LINK, Family

ESTIMATORS = ("standardized", "negbin", "conditional", "unadjusted")
BOOTSTRAPS = ("bootstrap", "bootstrap-percentile")
RANDOMIZATIONS = ("simple", "permuted-block")
_DEFAULT_MODEL: dict[str, Family] = {"rate": "poisson", "risk": "logistic", "mean": "linear"}
_MODELS: dict[str, tuple[Family, ...]] = {
    "rate": LOG_LINK,
    "risk": ("logistic", "linear", "poisson"),
    "mean": ("linear", "poisson"),
}
_CONDITIONAL = {"poisson": "rate-ratio", "negbin": "rate-ratio", "logistic": "odds-ratio", "linear": "mean-difference"}


@dataclass(frozen=True)
class Settings:
    """The choices of an analysis, each with its default filled in and checked against the others."""

    measure: Measure
    estimator: str
    family: Family
    variance: str
    rate: str
    randomization: str
    interaction: bool
    level: float
    test: str = "wald"
    replicates: int = 10_000
    seed: int = 0


def checked_settings(
    measure: str,
    estimator: str,
    working_model: str | None,
    variance: str | None,
    rate: str,
    randomization: str | None,
    interaction: bool,
    level: float,
    exposure: str | None,
    adjust: str | None,
    strata: str | None,
    cluster: str | None,
    prognostic: Sequence[str],
    test: str = "wald",
    replicates: int = 10_000,
    seed: int = 0,
) -> Settings:
    """Fill in defaults and refuse choices that contradict each other."""
    chosen = measure_named(measure)
    _known("estimator", estimator, ESTIMATORS)
    _known("rate", rate, RATES)
    randomization = randomization or ("permuted-block" if strata else "simple")
    _known("randomization", randomization, RANDOMIZATIONS)
    conditional = estimator in ("negbin", "conditional")
    family = working_model or ("negbin" if estimator == "negbin" else _DEFAULT_MODEL[chosen.kind])
    _known("working_model", family, FAMILIES)
    variance = variance or ("model-sas" if conditional else "influence")
    _known("variance", variance, (*VARIANCES, *BOOTSTRAPS))
    _known("test", test, TESTS)
    if not 0 < level < 1:
        raise UsageError(f"`level`: found {level:g}, expected a number between 0 and 1 such as 0.95")
    if estimator == "negbin" and family != "negbin":
        raise UsageError(
            f"`estimator=negbin` is the negative-binomial coefficient; for the {family} one use `estimator=conditional`"
        )
    if estimator != "unadjusted" and family not in _MODELS[chosen.kind]:
        raise UsageError(f"`working_model={family}` cannot give a {chosen.name}; use {' or '.join(_MODELS[chosen.kind])}")
    if conditional and _CONDITIONAL[family] != chosen.option:
        raise UsageError(f"`estimator={estimator}` with the {family} model gives a {_CONDITIONAL[family]}, not a {chosen.option}")
    if conditional and interaction:
        raise UsageError("`interaction` leaves no single arm coefficient; use `estimator=standardized`")
    if conditional and variance not in OF_COEFFICIENTS:
        raise UsageError(f"`variance={variance}` is for means; with `estimator={estimator}` use {', '.join(OF_COEFFICIENTS)}")
    if cluster and (variance in BOOTSTRAPS or test != "wald"):
        raise UsageError("`cluster` has its own variance; leave out `variance=bootstrap` and `test`")
    if estimator == "unadjusted" and (adjust or prognostic or interaction):
        raise UsageError("`estimator` unadjusted takes no `adjust`, `prognostic` or `interaction`; use `estimator=standardized`")
    if estimator == "unadjusted" and variance in MODEL_BASED:
        raise UsageError("`estimator` unadjusted has no model behind it; use `variance=influence`, leave-one-out or hc0 to hc3")
    if exposure and chosen.kind != "rate":
        raise UsageError(f"`exposure` has no meaning for a {chosen.name}; leave it out or ask for a rate-ratio")
    if cluster and strata:
        raise UsageError("`cluster` and `strata` contradict each other; name one of them")
    return Settings(
        chosen, estimator, cast(Family, family), variance, rate, randomization, interaction, level, test, replicates, seed
    )


def _known(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"`{name}`: found {value!r}, expected one of {', '.join(choices)}")
