"""The SAS program that gives the numbers of an analysis: PROC GENMOD or GLM of a coefficient, PROC IML of means."""

from __future__ import annotations

import re

from causalms.effects import sas_code as sas
from causalms.effects.observed import Analysis
from causalms.effects.programs import FACTOR, ProgramInput, refuse_without_program
from causalms.errors import UsageError
from causalms.tables import name_of

_LAWS = {"poisson": "poisson", "negbin": "negbin", "logistic": "binomial", "linear": "normal"}
_LINKS = {"poisson": "log", "negbin": "log", "logistic": "logit", "linear": "identity"}
#: Variances of means that the program of means knows, and the residuals that each uses.
_RESIDUALS = {"influence": "u", "leave-one-out": "left", "leave-one-out-t": "left", "small-sample": "left"}


def sas_program(analysis: Analysis, source: ProgramInput) -> str:
    """SAS code for the same numbers.

    Coefficients by PROC GENMOD or GLM (observed information, or HC0); standardised and unadjusted means by PROC IML with the
    variances influence, leave-one-out and small-sample.  The steps of the IML program are tested in another matrix language; no
    SAS was at hand to run it.

    Raises
    ------
    UsageError
        Another estimator, variance or test; strata, clusters, products with the arm, rates weighted by exposure.

    Examples
    --------
    >>> import pandas as pd
    >>> from causalms.effects import Method, analyse
    >>> table = pd.DataFrame({"y": [2, 4, 3, 1, 0, 2], "arm": ["p"] * 3 + ["d"] * 3})
    >>> analysis = analyse(table, outcome="y", reference="p", method=Method(estimator="conditional"))
    >>> print(sas_program(analysis, ProgramInput(table="t.csv")).splitlines()[-2])
      model y = arm / dist=poisson link=log alpha=0.05;
    """
    refuse_without_program(analysis, source)
    if analysis.settings.estimator in ("standardized", "unadjusted") and analysis.settings.test == "wald":
        return _means(analysis, source)
    return _coefficient(analysis, source)


def _quoted(name: str) -> str:
    """A name as a string of SAS, in which a quote is doubled."""
    doubled = name.replace("'", "''")
    return f"'{doubled}'"


def _covariates(analysis: Analysis, source: ProgramInput) -> tuple[list[str], list[str], list[str]]:
    """Terms of the covariates in SAS, those that are classes, and the statements that make their columns."""
    terms = list(filter(None, re.split(r"\s*\+\s*", FACTOR.sub(r"\1", source.adjust or "").strip())))
    if any(re.search(r"\w\(", term) for term in terms):
        raise UsageError("`program`: SAS takes transformed covariates from a data step; name a column of each in `adjust`")
    terms = [re.sub(r"\s+", "", term).replace("*", "|").replace(":", "*") for term in terms]
    steps = []
    for name in source.prognostic:
        log = analysis.settings.family != "linear"
        terms.append(f"log_{name}" if log else name)
        steps += [f"  log_{name} = log({name});"] if log else []
    return terms, FACTOR.findall(source.adjust or ""), steps


def _data(analysis: Analysis, source: ProgramInput, steps: list[str]) -> list[str]:
    kind = {"tsv": "tab", "txt": "tab"}.get(source.table.rpartition(".")[2], "csv")
    where = [f"  where trial = {_quoted(source.trial)};"] if source.trial else []
    read = f'proc import datafile="{source.table}" out=d dbms={kind} replace; guessingrows=max; run;'
    return [read, "data d;", "  set d;", *where, "  row_ = _n_;", *steps, "run;"]


def _coefficient(analysis: Analysis, source: ProgramInput) -> str:
    settings, outcome = analysis.settings, analysis.outcome
    if settings.estimator not in ("negbin", "conditional") or settings.test != "wald":
        raise UsageError("`program=sas`: none for this estimator or test; ask for `program=r`")
    wanted = "model-sas" if settings.family != "linear" else "model-r"
    if settings.variance not in (wanted, "model-sas", "hc0"):
        raise UsageError(f"`program=sas`: none for `variance={settings.variance}`; use {wanted}, hc0, or `program=r`")
    terms, factors, steps = _covariates(analysis, source)
    steps += [f"  log_{source.exposure} = log({source.exposure});"] if source.exposure else []
    if settings.family == "logistic":
        steps.append(f"  any_{outcome} = ({outcome} > 0);")
    left = f"any_{outcome}(event='1')" if settings.family == "logistic" else outcome
    right = " ".join([source.arm, *terms])
    options = [f"dist={_LAWS[settings.family]}", f"link={_LINKS[settings.family]}"]
    if source.exposure:
        options.append(f"offset=log_{source.exposure}")
    options.append(f"alpha={name_of(round(1 - settings.level, 10))}")
    classes = [f"{source.arm}(ref={_quoted(analysis.data.arms[0])})", *factors, *(["row_"] if settings.variance == "hc0" else [])]
    subject = ["  repeated subject=row_;"] if settings.variance == "hc0" else []
    model = [
        "proc genmod data=d;",
        f"  class {' '.join(classes)} / param=ref;",
        f"  model {left} = {right} / {' '.join(options)};",
        *subject,
    ]
    if settings.family == "linear" and settings.variance == "model-r":
        plain_classes = " ".join([f"{source.arm}(ref={_quoted(analysis.data.arms[0])})", *factors])
        model = ["proc glm data=d;", f"  class {plain_classes};", f"  model {left} = {right} / solution clparm {options[-1]};"]
    return "\n".join([*_data(analysis, source, steps), *model, "run;"])


def _means(analysis: Analysis, source: ProgramInput) -> str:
    settings, data, outcome = analysis.settings, analysis.data, analysis.outcome
    plain = settings.estimator == "unadjusted"
    if settings.variance not in _RESIDUALS or settings.randomization != "simple" or data.cluster is not None:
        raise UsageError(
            "`program=sas`: means have influence, leave-one-out and small-sample variances under simple randomisation; "
            "ask for `program=r`"
        )
    if not plain and (settings.interaction or settings.rate != "unit" or settings.family not in sas.FAMILIES):
        raise UsageError("`program=sas`: none with `interaction`, rates weighted by exposure or this model; ask for `program=r`")
    terms, factors, steps = ([], [], []) if plain else _covariates(analysis, source)
    binary = settings.measure.outcome_kind == "binary"
    numbers = all(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in data.arms)  # PROC IMPORT then reads the column as numbers
    arms = ", ".join(name if numbers else _quoted(name) for name in data.arms)
    needed = ", ".join(source.used(outcome))
    steps += [
        f"  if cmiss({needed}) > 0 then delete;",
        f"  y_ = {f'({outcome} > 0)' if binary else outcome}; t_ = {source.exposure or 1};",
        f"  a_ = which{'n' if numbers else 'c'}({source.arm}, {arms}); if a_ = 0 then delete;",
    ]
    lines = _data(analysis, source, steps)
    if terms:
        lines += ["proc glmmod data=d outdesign=x noprint;", *([f"  class {' '.join(factors)};"] if factors else [])]
        lines += [f"  model y_ = {' '.join(terms)};", "run;"]
    lines.append(sas.READ)
    if plain:
        lines.append(sas.PLAIN)
    else:
        mean, slope, begin = sas.FAMILIES[settings.family]
        beside = {"z": " || z", "zeros": " // j(ncol(z),1,0)"} if terms else {"z": "", "zeros": ""}
        lines += [*([sas.COVARIATES] if terms else []), sas.MEANS.format(mean=mean, slope=slope, begin=begin, **beside)]
    lines.append(sas.INFLUENCE.format(residuals=_RESIDUALS[settings.variance]))
    df = "1e9"
    if settings.variance == "small-sample":
        counts = analysis.means is not None and analysis.means.counts
        lines.append(sas.SMALL_SAMPLE if counts else sas.NO_FLOOR)
        df = sas.WELCH
    elif settings.variance == "leave-one-out-t":
        df = "n - p"
    transformed, derivative, back = sas.SCALES[settings.measure.scale]
    tail = name_of((1 + settings.level) / 2)
    lines.append(sas.CONTRASTS.format(transformed=transformed, derivative=derivative, back=back, df=df, tail=tail))
    return "\n".join(lines)
