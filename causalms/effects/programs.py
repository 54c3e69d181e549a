"""The R program that gives the numbers of an analysis."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from causalms.effects import r_code as r
from causalms.effects.observed import Analysis
from causalms.effects.permuted_blocks import SMALL_CELL
from causalms.effects.tests import null_fit
from causalms.errors import UsageError
from causalms.tables import name_of

#: Variance of coefficients -> R; ``fit`` and ``d`` are at hand.
_COEFFICIENTS = {
    "model-r": "vcov(fit)",
    "model-sas": "vcov(fit)",
    "hc0": 'sandwich::vcovHC(fit, type = "HC0")',
    "hc1": 'sandwich::vcovHC(fit, type = "HC1")',
    "hc2": 'sandwich::vcovHC(fit, type = "HC2")',
    "hc3": 'sandwich::vcovHC(fit, type = "HC3")',
    "hc3-t": 'sandwich::vcovHC(fit, type = "HC3")',
}
#: Variance of means -> R; ``q`` holds the means.
_MEANS = {
    "influence": "over(q, q$e)",
    "leave-one-out": "over(q, left)",
    "leave-one-out-t": "over(q, left)",
    "small-sample": "over(q, left) + diag(gain)",
    "hc0": "sandwich_of_means(q, 1)",
    "hc1": "sandwich_of_means(q, sqrt(q$n / (q$n - ncol(q$X))))",
    "hc2": "sandwich_of_means(q, 1 / sqrt(pmax(1 - q$h, 1e-8)))",
    "hc3": "sandwich_of_means(q, 1 / pmax(1 - q$h, 1e-8))",
    "hc3-t": "sandwich_of_means(q, 1 / pmax(1 - q$h, 1e-8))",
    "cr1": "{ s <- rowsum(influence(q) / q$n, d$@); crossprod(s) * nrow(s) / (nrow(s) - 1) }",
    "cr3": "jackknife(d$@)",
}
FACTOR = re.compile(r"\bC\((\w+)\)")
_WITHOUT_PROGRAM = re.compile(r"[\[\]`\"'/~]|\b(bs|cr|cc|poly|center|scale|standardize|lag|hashed)\(|\w\s*\*\*")


@dataclass(frozen=True, kw_only=True)
class ProgramInput:
    """What a program reads: names of columns and the table.

    Attributes
    ----------
    table : str
        File, .csv, .tsv, .txt or .xpt.
    arm : str
    exposure, adjust, strata, cluster : str, optional
    prognostic : sequence of str
    columns : sequence of str
        All columns of the table.
    trial : str, optional
        The only trial whose patients are used.
    """

    table: str
    arm: str = "arm"
    exposure: str | None = None
    adjust: str | None = None
    strata: str | None = None
    cluster: str | None = None
    prognostic: Sequence[str] = ()
    columns: Sequence[str] = ()
    trial: str | None = None

    def used(self, outcome: str) -> list[str]:
        """Columns that a row needs."""
        words = set(re.findall(r"\w+", self.adjust or ""))
        named = [outcome, self.arm, *filter(None, [self.exposure, self.strata, self.cluster]), *self.prognostic]
        return list(dict.fromkeys([*named, *(name for name in self.columns if name in words)]))


def refuse_without_program(analysis: Analysis, source: ProgramInput) -> None:
    """Refuse what no program reproduces: several trials, resampling, fits at a limit, covariates that languages code apart."""
    settings = analysis.settings
    if analysis.others or len(analysis.populations[0].trials) > 1:
        raise UsageError("`program`: written for one trial; name it with `trial`")
    if settings.variance.startswith("bootstrap") or settings.test not in ("wald", "score"):
        what = settings.variance if settings.variance.startswith("bootstrap") else settings.test
        raise UsageError(
            f"`program`: {what} draws or ranks, which another program does in its own way; use another variance or test"
        )
    if analysis.means is None and settings.estimator in ("standardized", "unadjusted"):
        raise UsageError("`program`: none where an arm has no event (profile likelihood); R: confint of MASS::glm.nb")
    if settings.estimator in ("standardized", "unadjusted") and "MOVER" in analysis.covariance.name:
        raise UsageError("`program`: none where an arm has no event; leave out that arm")
    if analysis.fit.limit is not None and len(analysis.fit.limit.directions):
        raise UsageError("`program`: covariates tell events in some patients, so the fit lies at a limit that R does not reach")
    if settings.family == "negbin" and analysis.fit.alpha == 0:
        raise UsageError("`program`: the fit has no dispersion; use `working_model=poisson`")
    if found := _WITHOUT_PROGRAM.search(source.adjust or ""):
        raise UsageError(f"`program`: {found[0]!r} in `adjust` differs between languages; name a column of each covariate")
    if any("the mean stands in" in note for note in analysis.notes):
        raise UsageError("`program`: written for complete baseline covariates; use `missing_covariates=drop`")


def r_program(analysis: Analysis, source: ProgramInput) -> str:
    """R code that prints arm, estimate, standard error (of the log of ratios), limits and p of every contrast with the reference.

    Raises
    ------
    UsageError
        Bootstraps, permutations and rank tests, arms without events, several trials, small strata.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import Method, analyse
    >>> table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2], "arm": ["p"] * 3 + ["d"] * 3})
    >>> method = Method(estimator="conditional", variance="hc0")
    >>> print(r_program(analyse(table, outcome="y", reference="p", method=method), ProgramInput(table="t.csv")).splitlines()[6])
    fit <- glm(y ~ arm, family = poisson, data = d, control = list(epsilon = 1e-14, maxit = 200))
    """
    refuse_without_program(analysis, source)
    settings = analysis.settings
    lines = _read(analysis, source)
    if settings.estimator == "firth":
        return "\n".join([*lines, *_firth(analysis, source)])
    body = _coefficients if analysis.means is None else _of_means
    return "\n".join([*lines, *body(analysis, source)])


def _quoted(name: str) -> str:
    """A name as a string of R, in which quotes and backslashes have a backslash before them."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _read(analysis: Analysis, source: ProgramInput) -> list[str]:
    """Reading, complete rows, arms, outcome and time at risk."""
    outcome, level = analysis.outcome, source.table.rpartition(".")[2]
    more = ', sep = "\\t"' if level in ("tsv", "txt") else ""
    reader = "haven::read_xpt" if level == "xpt" else "read.csv"
    options = "" if level == "xpt" else f', na.strings = c("", "NA", "."){more}'
    needed = ", ".join(f'"{name}"' for name in source.used(outcome))
    arms = ", ".join(_quoted(name) for name in analysis.data.arms)
    binary = analysis.settings.measure.outcome_kind == "binary"
    return [
        f'd <- as.data.frame({reader}("{source.table}"{options}))',
        *([f"d <- d[d$trial == {_quoted(source.trial)}, ]"] if source.trial else []),
        f"d <- d[complete.cases(d[, c({needed})]), ]",
        f"arms <- c({arms}); d${source.arm} <- factor(d${source.arm}, levels = arms)",
        f"outcome <- function(d) {f'as.integer(d${outcome} > 0)' if binary else f'd${outcome}'}",
        f"time <- function(d) {f'd${source.exposure}' if source.exposure else 'rep(1, nrow(d))'}",
        r.ROW,
    ]


def _fit(analysis: Analysis, source: ProgramInput, *, arm: bool = True, offset: bool = True) -> str:
    """The working model as a call of R."""
    settings = analysis.settings
    log = settings.family != "linear"
    terms = [FACTOR.sub(r"factor(\1)", source.adjust).replace("**", "^")] if source.adjust else []
    terms += [f"log({name})" if log else name for name in source.prognostic]
    right = " + ".join(terms)
    if arm and settings.interaction and right:
        right = f"{source.arm} * ({right})"
    elif arm:
        right = " + ".join([source.arm, *terms])
    right = right or "1"
    if source.exposure and offset:
        right += f" + offset(log({source.exposure}))"
    binary = settings.measure.outcome_kind == "binary"
    left = f"as.integer({analysis.outcome} > 0)" if binary else analysis.outcome
    return r.FITS[settings.family].format(f"{left} ~ {right}")


def _words(analysis: Analysis, source: ProgramInput) -> dict[str, str]:
    family = analysis.settings.family
    words = {"arm": source.arm, "inverse": r.INVERSE[family], "law": r.LAWS[family], "slope": r.SLOPES[family]}
    return words | {"weight": "t" if analysis.settings.rate == "exposure-weighted" else "rep(1, n)"}


def _tail(analysis: Analysis) -> dict[str, str]:
    """Quantile, p-value and back-transformation of a contrast."""
    p = "score_p(a)" if analysis.settings.test == "score" else "2 * pt(-abs(b / se), k)"
    return {"tail": name_of((1 + analysis.settings.level) / 2), "p": p}


def _score(analysis: Analysis, source: ProgramInput) -> list[str]:
    if analysis.settings.test != "score":
        return []
    fits = [null_fit(analysis.data, analysis.settings.family, arm)[1] for arm in range(1, len(analysis.data.arms))]
    if (analysis.settings.family == "linear" and source.exposure) or any(
        fit.limit is not None and len(fit.limit.directions) for fit in fits
    ):
        raise UsageError(
            "`program`: none for the score test of this model, whose fit without the arm lies at a limit; leave out `test`"
        )
    null = r.PARTS.format(fit=_fit(analysis, source, arm=False), **_words(analysis, source)).replace("parts <-", "parts_of <-", 1)
    return [null, r.SCORE.format(arm=source.arm)]


def _coefficients(analysis: Analysis, source: ProgramInput) -> list[str]:
    settings = analysis.settings
    lines = [f"fit <- {_fit(analysis, source)}"]
    if settings.variance in ("cr1", "cr2", "cr3"):
        kind = settings.variance.upper()
        lines += [f'V <- as.matrix(clubSandwich::vcovCR(fit, d${source.cluster}, type = "{kind}"))']
        df = 'clubSandwich::coef_test(fit, vcov = V0, test = "Satterthwaite")$df_Satt' if kind != "CR1" else "G - 1"
        lines += [
            f'V0 <- clubSandwich::vcovCR(fit, d${source.cluster}, type = "{kind}"); G <- length(unique(d${source.cluster}))'
        ]
    else:
        df = (
            "fit$df.residual"
            if settings.variance == "hc3-t" or (settings.family, settings.variance) == ("linear", "model-r")
            else "Inf"
        )
        lines.append(f"V <- {_COEFFICIENTS[settings.variance]}")
    if settings.variance == "model-sas" and settings.family in r.SAS:
        parts = r.PARTS.format(fit=_fit(analysis, source), **_words(analysis, source))
        lines[-1:] = [parts, r.SAS[settings.family], "V <- observed(parts(d), outcome(d))"]
    back = "exp" if settings.measure.is_ratio else "identity"
    return [*lines, *_score(analysis, source), f"df <- {df}", r.COEFFICIENTS.format(back=back, **_tail(analysis))]


def _of_means(analysis: Analysis, source: ProgramInput) -> list[str]:
    settings, words = analysis.settings, _words(analysis, source)
    plain = settings.estimator == "unadjusted"
    lines = [r.PLAIN.format(**words)] if plain else [r.PARTS.format(fit=_fit(analysis, source), **words), r.MEANS.format(**words)]
    if settings.variance.startswith("model"):
        if settings.variance == "model-sas" and settings.family in r.SAS:
            lines.append(r.SAS[settings.family])
        scale = "1"
        if settings.family == "linear":
            scale = "sum((q$y - q$m)^2) / (q$n - ncol(q$X))" if settings.variance == "model-r" else "sum((q$y - q$m)^2) / q$n"
        own = "observed(q, q$y)" if settings.variance == "model-sas" and settings.family in r.SAS else "q$M * scale"
        lines += [r.FIXED, r.MODEL, "q <- means(d)", f"scale <- {scale}", f"V <- model_of_means(q, {own}, scale)"]
    else:
        lines += _sampled(analysis, source)
    t_law = settings.variance in ("leave-one-out-t", "hc3-t") or (settings.family, settings.variance) == ("linear", "model-r")
    df = "q$n - ncol(q$X)" if t_law else "Inf"
    if settings.variance in ("cr1", "cr3"):
        df = f"length(unique(d${source.cluster})) - 1"
    if settings.variance == "cr3":
        if settings.interaction and not plain and analysis.data.covariate_names:
            raise UsageError("`program`: none for cr3 with `interaction`; use `variance=cr1`")
        model = f"lm(outcome(d) ~ {source.arm}, data = d)" if plain else "q$fit"
        lines.append(r.SATTERTHWAITE.format(model=model, cluster=source.cluster))
        df = f"min(tested$df_Satt[2:q$K], {df})"
    df = r.WELCH if settings.variance == "small-sample" else df
    transformed, derivative, back = r.SCALES[settings.measure.scale]
    contrasts = r.CONTRASTS.format(transformed=transformed, derivative=derivative, back=back, df=df, **_tail(analysis))
    return [*lines, *_score(analysis, source), contrasts]


def _sampled(analysis: Analysis, source: ProgramInput) -> list[str]:
    """Variances of means by influence values, sandwiches and clusters."""
    settings = analysis.settings
    lines = []
    if settings.variance in ("influence", "leave-one-out", "leave-one-out-t", "small-sample", "cr1"):
        block = settings.randomization == "permuted-block"
        if block and source.strata is None:
            raise UsageError("`program`: permuted blocks without strata take nothing away; leave out `randomization`")
        lines.append(r.BLOCKS.format(strata=source.strata, small=SMALL_CELL) if block else "blocks <- function(q) 0")
        lines.append(r.INFLUENCE)
        if "small strata" in analysis.covariance.name:
            raise UsageError(
                "`program`: none for strata with few patients in an arm; merge strata, or use `randomization=simple`"
            )
    elif settings.variance.startswith("hc"):
        lines.append(r.FIXED)
    elif settings.variance == "cr3":
        lines.append(r.JACKKNIFE)
    lines.append("q <- means(d)")
    if settings.variance.startswith("leave") or settings.variance == "small-sample":
        lines.append("left <- ifelse(1 - q$h < 1e-7, 0, q$e / (1 - q$h))")
    if settings.variance == "small-sample":
        counts = analysis.means is not None and analysis.means.counts
        lines += [r.SMALL_SAMPLE, f"gain <- {'floored(q, left)' if counts else 'rep(0, q$K)'}"]
        lines.append("own <- tapply(left, q$A, var) / q$sizes + gain")
    return [*lines, "V <- " + _MEANS[settings.variance].replace("@", source.cluster or "")]


def _firth(analysis: Analysis, source: ProgramInput) -> list[str]:
    settings, words = analysis.settings, _words(analysis, source)
    formula = _fit(analysis, source, offset=False).replace("MASS::glm.nb", "glm")
    fit = formula.split("(", 1)[1].split(", family")[0]
    firth = r.FIRTH.format(**words, **r.FIRTH_OF[settings.family])
    return [f"fit0 <- lm({fit}, data = d)", firth, r.FIRTH_ROWS.format(level=name_of(settings.level))]
