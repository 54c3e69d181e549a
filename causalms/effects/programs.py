"""The R and the SAS program that give the numbers of an analysis of a coefficient."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from causalms.effects.observed import Analysis
from causalms.errors import UsageError
from causalms.tables import name_of

#: Variance -> type of sandwich::vcovHC; "" is vcov of the fit.
_R_VARIANCES = {"model-r": "", "hc0": "HC0", "hc1": "HC1", "hc2": "HC2", "hc3": "HC3"}
_R_CONTROL = "epsilon = 1e-14, maxit = 200"
_R_FITS = {
    "poisson": f"glm({{}}, family = poisson, data = d, control = list({_R_CONTROL}))",
    "negbin": f"MASS::glm.nb({{}}, data = d, control = glm.control({_R_CONTROL}))",
    "logistic": f"glm({{}}, family = binomial, data = d, control = list({_R_CONTROL}))",
}
_SAS_LAWS = {"poisson": "poisson", "negbin": "negbin", "logistic": "binomial"}
_FACTOR = re.compile(r"\bC\((\w+)\)")


@dataclass(frozen=True, kw_only=True)
class ProgramInput:
    """What a program reads: names of columns and the table.

    Attributes
    ----------
    table : str
        File, .csv.
    arm : str
    exposure, adjust : str, optional
    columns : sequence of str
        All columns of the table.
    """

    table: str
    arm: str = "arm"
    exposure: str | None = None
    adjust: str | None = None
    columns: Sequence[str] = ()

    def used(self, outcome: str) -> list[str]:
        """Columns that a row needs."""
        words = set(re.findall(r"\w+", self.adjust or ""))
        return [outcome, self.arm, *filter(None, [self.exposure]), *(name for name in self.columns if name in words)]


def _checked(analysis: Analysis, variances: Sequence[str]) -> None:
    settings = analysis.settings
    if settings.estimator not in ("negbin", "conditional") or settings.family not in _R_FITS:
        raise UsageError("`program`: written for coefficients of the negative-binomial, Poisson and logistic model; "
                         "use `estimator=negbin` or conditional")  # fmt: skip
    if settings.variance not in variances:
        raise UsageError(f"`program`: none for `variance={settings.variance}`; use {', '.join(variances)}")
    if any("the mean stands in" in note for note in analysis.notes):
        raise UsageError("`program`: written for complete baseline covariates; use `missing_covariates=drop`")
    if analysis.others or settings.test != "wald":
        raise UsageError("`program`: written for one trial and Wald tests; name the trial and leave out `test`")


def r_program(analysis: Analysis, source: ProgramInput) -> str:
    """R code that prints arm, estimate, standard error (of the log), limits and p of every contrast.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import Method, analyse
    >>> table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2], "arm": ["p"] * 3 + ["d"] * 3})
    >>> method = Method(estimator="conditional", variance="hc0")
    >>> print(r_program(analyse(table, outcome="y", reference="p", method=method), ProgramInput(table="t.csv")).splitlines()[3])
    fit <- glm(y ~ arm, family = poisson, data = d, control = list(epsilon = 1e-14, maxit = 200))
    """
    _checked(analysis, tuple(_R_VARIANCES))
    settings, outcome = analysis.settings, analysis.outcome
    right = [source.arm]
    if source.adjust:
        right.append(_FACTOR.sub(r"factor(\1)", source.adjust).replace("**", "^"))
    if source.exposure:
        right.append(f"offset(log({source.exposure}))")
    left = f"as.integer({outcome} > 0)" if settings.family == "logistic" else outcome
    kind = _R_VARIANCES[settings.variance]
    needed = ", ".join(f'"{name}"' for name in source.used(outcome))
    arms = ", ".join(f'"{name}"' for name in analysis.data.arms[1:])
    return "\n".join(
        [
            f'd <- read.csv("{source.table}", na.strings = c("", "NA", "."))',
            f"d <- d[complete.cases(d[, c({needed})]), ]",
            f'd${source.arm} <- relevel(factor(d${source.arm}), ref = "{analysis.data.arms[0]}")',
            "fit <- " + _R_FITS[settings.family].format(f"{left} ~ {' + '.join(right)}"),
            "V <- " + (f"sandwich::vcovHC(fit, type = '{kind}')" if kind else "vcov(fit)"),
            f"z <- qnorm({name_of((1 + settings.level) / 2)})",
            f"for (arm in c({arms})) {{",
            f'  name <- paste0("{source.arm}", arm); b <- coef(fit)[[name]]; se <- sqrt(V[name, name])',
            "  p <- 2 * pnorm(-abs(b / se)); ends <- exp(b + c(-1, 1) * z * se)",
            '  cat(sprintf("%s,%.12g,%.12g,%.12g,%.12g,%.12g\\n", arm, exp(b), se, ends[1], ends[2], p))',
            "}",
        ]
    )


def sas_program(analysis: Analysis, source: ProgramInput) -> str:
    """SAS code (PROC GENMOD) for the same coefficient, by the observed information or the empirical variance (HC0).

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import Method, analyse
    >>> table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2], "arm": ["p"] * 3 + ["d"] * 3})
    >>> analysis = analyse(table, outcome="y", reference="p", method=Method(estimator="conditional"))
    >>> print(sas_program(analysis, ProgramInput(table="t.csv")).splitlines()[-2])
      model y = arm / dist=poisson link=log alpha=0.05;
    """
    _checked(analysis, ("model-sas", "hc0"))
    settings, outcome = analysis.settings, analysis.outcome
    adjust = source.adjust or ""
    factors = _FACTOR.findall(adjust)
    plain = _FACTOR.sub(r"\1", adjust)
    if re.search(r"\w\(", plain):
        raise UsageError("`program`: SAS takes transformed covariates from a data step; name a column of each in `adjust`")
    steps = [f"  log_{source.exposure} = log({source.exposure});"] if source.exposure else []
    if settings.family == "logistic":
        steps.append(f"  any_{outcome} = ({outcome} > 0);")
    left = f"any_{outcome}(event='1')" if settings.family == "logistic" else outcome
    right = " ".join([source.arm, *filter(None, re.split(r"[\s+]+", plain))])
    options = [f"dist={_SAS_LAWS[settings.family]}", f"link={'logit' if settings.family == 'logistic' else 'log'}"]
    if source.exposure:
        options.append(f"offset=log_{source.exposure}")
    options.append(f"alpha={name_of(round(1 - settings.level, 10))}")
    classes = [f"{source.arm}(ref='{analysis.data.arms[0]}')", *factors, *(["row_"] if settings.variance == "hc0" else [])]
    subject = ["  repeated subject=row_;"] if settings.variance == "hc0" else []
    return "\n".join(
        [
            f'proc import datafile="{source.table}" out=d dbms=csv replace; guessingrows=max; run;',
            "data d;",
            "  set d;",
            "  row_ = _n_;",
            *steps,
            "run;",
            "proc genmod data=d;",
            f"  class {' '.join(classes)} / param=ref;",
            f"  model {left} = {right} / {' '.join(options)};",
            *subject,
            "run;",
        ]
    )
