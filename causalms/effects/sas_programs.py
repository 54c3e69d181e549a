"""The SAS program that gives the numbers of an analysis: PROC GENMOD or GLM of a coefficient, PROC IML of means."""

from __future__ import annotations

import re

from causalms.effects.observed import Analysis
from causalms.effects.programs import FACTOR, ProgramInput, refuse_without_program
from causalms.errors import UsageError
from causalms.tables import name_of

#: Mean for unit time at linear predictor eta, derivative by eta at mean m, and start of the arms' coefficients at mean m.
FAMILIES = {
    "poisson": ("exp(eta)", "m", "log(m)"),
    "logistic": ("1 / (1 + exp(-eta))", "m # (1 - m)", "log(m / (1 - m))"),
    "linear": ("eta", "j(nrow(m), ncol(m), 1)", "m"),
}
#: Scale of inference of means m: transformation, derivative, and back from a value x.
SCALES = {
    "log": ("log(m)", "1 / m", "exp(x)"),
    "logit": ("log(m / (1 - m))", "1 / (m # (1 - m))", "exp(x)"),
    "identity": ("m", "j(nrow(m), ncol(m), 1)", "x"),
}
#: Outcome, time at risk, arm (1 is the reference) and covariates as matrices.
READ = """\
proc iml;
use d; read all var {y_ t_ a_} into v; close d;
y = v[,1]; t = v[,2]; a = v[,3]; n = nrow(y); k = max(a); arms = design(a);
sizes = (arms[+,])`; share = sizes / n; meantime = ((t`*arms)`) / sizes;"""
#: Columns of the covariates: the outcome and the intercept stand before them.
COVARIATES = """\
use x; read all var _num_ into z; close x; z = z[,3:ncol(z)];"""
#: Arm means without a model.
PLAIN = """\
theta = ((y`*arms)`) / ((t`*arms)`); pred = j(n,1,1) * theta`; h = arms * (1 / sizes); p = k; drift = j(n,k,0);"""
#: Working model by Fisher scoring, means of all patients under every arm, and what exposure that goes with covariates adds.
MEANS = """\
start mean_of(eta); return({mean}); finish;
start slope_of(m); return({slope}); finish;
xx_ = arms{z}; m = ((y`*arms)`) / ((t`*arms)`); b = {begin}{zeros};
do i = 1 to 200;
  fitted = t # mean_of(xx_*b); w = slope_of(fitted);
  step = ginv(xx_`*(xx_ # w)) * (xx_`*(y - fitted)); b = b + step / max(1, max(abs(step)) / 2);
end;
inv_ = ginv(xx_`*(xx_ # w)); h = w # ((xx_*inv_) # xx_)[,+]; p = round(h[+]);
theta = j(k,1,0); pred = j(n,k,0); drift = j(n,k,0);
do g = 1 to k;
  xa = j(n,k,0); xa[,g] = j(n,1,1); xa = xa{z}; r = mean_of(xa*b); own = arms[,g];
  c = (own # (y - t # r))[+] / (own # t)[+];
  theta[g] = r[+] / n + c; pred[,g] = r + j(n,1,c);
  da = xa # slope_of(r); gone = da[+,] / n - (t`*da) / t[+];
  drift[,g] = n * ((xx_ # (y - fitted)) * inv_ * gone`);
end;"""
#: Influence function: res are the residuals that its variance uses, u the plain ones. SAS knows no case: names differ by more.
INFLUENCE = """\
at = (pred # arms)[,+]; u = (y - t # at) / (arms * meantime); left = u / (1 - h);
res = {residuals};
spread = cov(pred); cross = j(k,k,0); own_part = j(k,1,0);
do g = 1 to k;
  rows = loc(a = g); o = res[rows] + pred[rows,g]; joint = cov(o || pred[rows,]);
  cross[g,] = joint[1,2:(k+1)]; own_part[g] = (joint[1,1] + spread[g,g] - 2*cross[g,g]) / share[g];
end;
full = pred - j(n,1,1)*theta` + arms # ((u / (arms*share)) * j(1,k,1)) + drift; without = full - drift;
vc = (diag(own_part) + cross + cross` - spread + (full`*full - without`*without) / n) / n;"""
#: Adds to an arm's variance what the law of its counts asks for; dispersion by Cox and Reid's adjusted profile likelihood.
SMALL_SAMPLE = """\
start slope_alpha(la, yy, mm);
  al = exp(la); x = al * mm; small = (x < 0.001); xx = choose(small, 1, x);
  rem = choose(small, 0.5 - x # (2/3 - x # (0.75 - x # (0.8 - x * 5/6))), (log(1 + xx) - xx / (1 + xx)) / (xx # xx));
  s = 0; do jj = 0 to max(yy) - 1; s = s + (yy > jj)[+] * jj / (1 + al * jj); end;
  sh = mm / (1 + x);
  return(s + (mm # mm # rem - yy # sh)[+] + (sh # sh)[+] / sh[+] / 2);
finish;
own = j(k,1,0);
do g = 1 to k;
  rows = loc(a = g); yy = y[rows]; mm = yy - u[rows] * meantime[g];
  mm = mm <> (1e-8 * max(mm[+] / sizes[g], 1e-8));
  al = 0; low = -7; high = 5;
  if slope_alpha(low, yy, mm) > 0 then do;
    do while (slope_alpha(high, yy, mm) > 0); high = high + 2; end;
    do i = 1 to 200; mid = (low + high) / 2; if slope_alpha(mid, yy, mm) > 0 then low = mid; else high = mid; end;
    al = exp((low + high) / 2);
  end;
  var_left = cov(left[rows]); law = (mm + al * mm # mm)[+] / (sizes[g] - 1) / meantime[g]##2;
  gain = min(1, sqrt(50 / sizes[g])) * max(law - var_left, 0) / sizes[g];
  vc[g,g] = vc[g,g] + gain; own[g] = var_left / sizes[g] + gain;
end;"""
#: Without counts there is no floor, but Welch's degrees of freedom remain.
NO_FLOOR = """\
own = j(k,1,0);
do g = 1 to k; rows = loc(a = g); own[g] = cov(left[rows]) / sizes[g]; end;"""
#: Every arm against the reference, on the scale of inference and back.
CONTRASTS = """\
do g = 2 to k;
  m = theta[1] // theta[g]; f = {transformed}; q = ({derivative}) # {{-1, 1}}; two = 1 || g;
  b = f[2] - f[1]; se = sqrt(q` * vc[two,two] * q); df = {df};
  if df > 1e8 then crit = quantile('NORMAL', {tail}); else crit = quantile('T', {tail}, df);
  if df > 1e8 then p_value = 2 * cdf('NORMAL', -abs(b / se)); else p_value = 2 * cdf('T', -abs(b / se), df);
  x = b; estimate = {back}; x = b - crit * se; lower = {back}; x = b + crit * se; upper = {back};
  print g estimate se lower upper p_value;
end;
quit;"""
#: Welch and Satterthwaite.
WELCH = "((q##2) # own[two])[+]##2 / (((q##2) # own[two])##2 / (sizes[two] - 1))[+]"


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
    if not plain and (settings.interaction or settings.rate != "unit" or settings.family not in FAMILIES):
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
    lines.append(READ)
    if plain:
        lines.append(PLAIN)
    else:
        mean, slope, begin = FAMILIES[settings.family]
        beside = {"z": " || z", "zeros": " // j(ncol(z),1,0)"} if terms else {"z": "", "zeros": ""}
        lines += [*([COVARIATES] if terms else []), MEANS.format(mean=mean, slope=slope, begin=begin, **beside)]
    lines.append(INFLUENCE.format(residuals=_RESIDUALS[settings.variance]))
    df = "1e9"
    if settings.variance == "small-sample":
        counts = analysis.means is not None and analysis.means.counts
        lines.append(SMALL_SAMPLE if counts else NO_FLOOR)
        df = WELCH
    elif settings.variance == "leave-one-out-t":
        df = "n - p"
    transformed, derivative, back = SCALES[settings.measure.scale]
    tail = name_of((1 + settings.level) / 2)
    lines.append(CONTRASTS.format(transformed=transformed, derivative=derivative, back=back, df=df, tail=tail))
    return "\n".join(lines)
