"""Design and method: the choices of an analysis, with defaults filled in and contradictions refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

from causalms.effects.clusters import CLUSTER_VARIANCES
from causalms.effects.data import Design
from causalms.effects.estimands import Measure, measure_named
from causalms.effects.means import RATES
from causalms.effects.tests import TESTS
from causalms.effects.variance import MODEL_BASED, OF_COEFFICIENTS, SMALL_ARM, VARIANCES
from causalms.errors import UsageError
from causalms.stats import FAMILIES, LOG_LINK, Family
from causalms.tables import name_of

if TYPE_CHECKING:
    import pandas as pd

ESTIMATORS = ("standardized", "negbin", "conditional", "firth", "unadjusted")
#: Estimators whose effect is a coefficient.
COEFFICIENTS = ("negbin", "conditional", "firth")
BOOTSTRAPS = ("bootstrap", "bootstrap-percentile")
RANDOMIZATIONS = ("simple", "permuted-block")
#: What each argument of a design or a method may be: refusals and the options of the command line read it here.
CHOICES: dict[str, tuple[str, ...]] = {
    "estimator": ESTIMATORS,
    "working_model": FAMILIES,
    "variance": (*VARIANCES, *BOOTSTRAPS, *CLUSTER_VARIANCES),
    "rate": RATES,
    "randomization": RANDOMIZATIONS,
    "test": TESTS,
}
_DEFAULT_MODEL: dict[str, Family] = {"rate": "poisson", "risk": "logistic", "mean": "linear"}
_MODELS: dict[str, tuple[Family, ...]] = {
    "rate": LOG_LINK,
    "risk": ("logistic", "linear", "poisson"),
    "mean": ("linear", "poisson"),
}
_CONDITIONAL = {"poisson": "rate-ratio", "negbin": "rate-ratio", "logistic": "odds-ratio", "linear": "mean-difference"}


@dataclass(frozen=True, kw_only=True)
class MissingOutcomes:
    """A named strategy for missing outcomes.

    Attributes
    ----------
    strategy : {"complete-case", "ipw", "multiple-imputation", "jump-to-reference"}
        ``complete-case`` needs outcomes missing completely at random within arms and covariates; ``ipw`` needs them
        missing at random given ``missing_given``; ``multiple-imputation`` needs the generator's law to hold for those who left;
        ``jump-to-reference`` imputes with draws under the reference.
    missing_given : str, optional
        Of ``ipw``: covariates of the missingness, such as ``"age + edss"``.
    draws : DataFrame, optional
        Of ``multiple-imputation``: a draws table with the patient's own arm (arm equal to arm_randomised) at ``week`` for every
        patient who lacks an outcome.
    week : float, optional
    draw_column : str
        Column of ``draws`` with the outcome.
    """

    strategy: str = "complete-case"
    missing_given: str | None = None
    draws: pd.DataFrame | None = None
    week: float | None = None
    draw_column: str = "net2_lesions"


@dataclass(frozen=True, kw_only=True)
class Method:
    """Estimator, variance and test.

    Attributes
    ----------
    estimator : {"standardized", "negbin", "conditional", "firth", "unadjusted"}
        ``negbin`` is the arm coefficient of the negative-binomial model; ``conditional`` that of ``working_model``; ``firth``
        that of the logistic or Poisson model by Firth's penalised likelihood, finite where events are few or none.
    working_model : {"poisson", "negbin", "logistic", "linear"}, optional
        Default: Poisson for rates, logistic for risks, linear for means.
    variance : str, optional
        Default: ``influence`` for means, ``small-sample`` for counts where an arm has fewer than ``SMALL_ARM`` patients,
        ``model-sas`` for conditional coefficients (``model-r``, with t, of a linear model); with clusters ``cr3`` and ``cr2``.
    rate : {"unit", "exposure-weighted"}
    interaction : bool
        Let every covariate's coefficient differ by arm.
    prognostic : sequence of str
        Columns of prognostic expected outcomes.
    test : {"wald", "score", "permutation", "permutation-plain", "permutation-prognostic", "wilcoxon"}
        Where the p-value comes from; intervals stay those of ``variance``.  Permutation is studentised unless plain; ``wilcoxon``
        is van Elteren's test with strata.
    level : float
    replicates, seed : int
        Of the bootstrap and of the permutations.
    missing : MissingOutcomes, optional
        Of :func:`effects_with_missing_outcomes`.

    Examples
    --------
    >>> Method(estimator="negbin", variance="model-r").level
    0.95
    """

    estimator: str = "standardized"
    working_model: str | None = None
    variance: str | None = None
    rate: str = "unit"
    interaction: bool = False
    prognostic: Sequence[str] = ()
    test: str = "wald"
    level: float = 0.95
    replicates: int = 10_000
    seed: int = 0
    missing: MissingOutcomes | None = None


def grouped_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`analyse` from options named one by one, as on the command line.

    Examples
    --------
    >>> grouped_arguments({"reference": "placebo", "cluster": "site"})["design"].cluster
    'site'
    """
    groups = Design, Method, *([MissingOutcomes] if "strategy" in options else [])
    names = [{field.name for field in fields(group)} for group in groups]
    arguments = {name: value for name, value in options.items() if not any(name in known for known in names)}
    design, method, *missing = (
        group(**{name: value for name, value in options.items() if name in known})
        for group, known in zip(groups, names, strict=True)
    )
    return arguments | {"design": design, "method": replace(method, missing=missing[0]) if missing else method}


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
    variance_named: bool = True


def checked_settings(measure: str, exposure: str | None, adjust: str | None, design: Design, method: Method) -> Settings:
    """Fill in defaults and refuse choices that contradict each other."""
    estimator, rate, test, level = method.estimator, method.rate, method.test, method.level
    strata, cluster, interaction = design.strata, design.cluster, method.interaction
    chosen = measure_named(measure)
    _known("estimator", estimator)
    _known("rate", rate)
    randomization = design.randomization or ("permuted-block" if strata else "simple")
    _known("randomization", randomization)
    conditional = estimator in COEFFICIENTS
    family = method.working_model or ("negbin" if estimator == "negbin" else _DEFAULT_MODEL[chosen.kind])
    _known("working_model", family)
    variance = method.variance or _default_variance(conditional, cluster, family)
    _known("variance", variance)
    _known("test", test)
    if not 0 < level < 1:
        raise UsageError(f"`level`: found {name_of(level)}, expected a number between 0 and 1 such as 0.95")
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
    _refuse_mixed_clusters(variance, cluster, conditional)
    if conditional and not cluster and variance not in OF_COEFFICIENTS:
        raise UsageError(f"`variance={variance}` is for means; with `estimator={estimator}` use {', '.join(OF_COEFFICIENTS)}")
    if estimator == "firth":
        _refuse_beside_firth(family, method, cluster)
    _refuse_tests_without_data(test, exposure, adjust, method)
    if cluster and test != "wald":
        raise UsageError("`cluster`: score, permutation and rank tests take patients as independent; leave out `test`")
    if estimator == "unadjusted" and (adjust or method.prognostic or interaction):
        raise UsageError("`estimator` unadjusted takes no `adjust`, `prognostic` or `interaction`; use `estimator=standardized`")
    if estimator == "unadjusted" and variance in MODEL_BASED:
        raise UsageError("`estimator` unadjusted has no model behind it; use `variance=influence`, leave-one-out or hc0 to hc3")
    if exposure and chosen.kind != "rate":
        raise UsageError(f"`exposure` has no meaning for a {chosen.name}; leave it out or ask for a rate-ratio")
    if cluster and strata:
        raise UsageError("`cluster` and `strata` contradict each other; name one of them")
    return Settings(
        chosen,
        estimator,
        cast(Family, family),
        variance,
        rate,
        randomization,
        interaction,
        level,
        test,
        method.replicates,
        method.seed,
        method.variance is not None,
    )


def of_small_arms(settings: Settings, smallest_arm: int) -> Settings:
    """The same settings, with the small-sample variance where counts are compared in small arms and no variance was named."""
    small = settings.variance == "influence" and settings.measure.kind == "rate" and smallest_arm < SMALL_ARM
    return replace(settings, variance="small-sample") if small and not settings.variance_named else settings


def _refuse_tests_without_data(test: str, exposure: str | None, adjust: str | None, method: Method) -> None:
    """Ranks take neither exposure nor covariates; residuals from a prognostic column need one column, in the outcome's units."""
    if test == "wilcoxon" and (exposure or adjust or method.prognostic):
        raise UsageError("`test=wilcoxon` ranks the outcome itself; leave out `exposure`, `adjust` and `prognostic`")
    if test == "permutation-prognostic" and len(method.prognostic) != 1:
        raise UsageError("`test=permutation-prognostic` needs one column of expected outcomes; name it with `prognostic`")
    if test == "permutation-prognostic" and adjust:
        raise UsageError("`test=permutation-prognostic` fits no model; leave out `adjust`, or use `test=permutation`")


def _refuse_beside_firth(family: str, method: Method, cluster: str | None) -> None:
    """Firth's penalised likelihood brings its own interval and p-value."""
    if family not in ("logistic", "poisson"):
        raise UsageError("`estimator=firth` is for `measure=odds-ratio` (logistic) and `measure=rate-ratio` (Poisson)")
    named = {"variance": method.variance, "cluster": cluster, "test": method.test != "wald"}
    for name, value in named.items():
        if value:
            raise UsageError(f"`estimator=firth` has the interval and p-value of its penalised likelihood; leave out `{name}`")


def _default_variance(conditional: bool, cluster: str | None, family: str) -> str:
    if cluster:
        return "cr2" if conditional else "cr3"
    if conditional:
        return "model-r" if family == "linear" else "model-sas"
    return "influence"


def _refuse_mixed_clusters(variance: str, cluster: str | None, conditional: bool) -> None:
    """A variance between clusters needs clusters, and clusters such a variance."""
    if cluster and variance not in CLUSTER_VARIANCES:
        raise UsageError(f"`variance={variance}` takes patients as independent; with `cluster` use cr1, cr2 or cr3")
    if not cluster and variance in CLUSTER_VARIANCES:
        raise UsageError(f"`variance={variance}` is a variance between clusters; name their column with `cluster`")
    if variance == "cr2" and not conditional:
        raise UsageError("`variance=cr2` is for coefficients; for standardised or unadjusted means use cr3 or cr1")


def _known(name: str, value: str) -> None:
    if value not in CHOICES[name]:
        raise UsageError(f"`{name}`: found {value!r}, expected one of {', '.join(CHOICES[name])}")
