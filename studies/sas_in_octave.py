"""Do the SAS/IML programs give our numbers?  Their matrix part, put into Octave word by word, run on made trials.

No SAS is at hand.  What is tested is every formula of the program of means; what is not is PROC IMPORT, PROC GLMMOD and the
spelling of SAS/IML itself, which the translation below takes as its manual has it.

    python -m studies.sas_in_octave --out studies/results        # needs octave-cli
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalms.effects import Analysis, ProgramInput, analyse, grouped_arguments, sas_program

ANALYSES: list[dict[str, Any]] = [
    {"outcome": "y"},
    {"outcome": "y", "exposure": "years"},
    {"outcome": "y", "exposure": "years", "adjust": "age + C(site)"},
    {"outcome": "y", "exposure": "years", "adjust": "age", "variance": "influence"},
    {"outcome": "y", "exposure": "years", "estimator": "unadjusted"},
    {"outcome": "y", "adjust": "age*C(site)", "variance": "leave-one-out-t"},
    {"outcome": "y", "measure": "rate-difference", "adjust": "age", "variance": "leave-one-out"},
    {"outcome": "any", "measure": "odds-ratio", "adjust": "age"},
    {"outcome": "any", "measure": "risk-ratio", "variance": "small-sample", "adjust": "age"},
    {"outcome": "size", "measure": "mean-difference", "adjust": "age"},
    {"outcome": "size", "measure": "mean-difference", "estimator": "unadjusted", "variance": "leave-one-out-t"},
]
#: Functions of SAS/IML that Octave lacks or calls otherwise.
LIBRARY = """1;
function r_ = beside(a, b) r_ = [a, b]; end
function r_ = below(a, b) r_ = [a; b]; end
function r_ = j(a, b, c) r_ = c * ones(a, b); end
function r_ = nrow(a) r_ = rows(a); end
function r_ = ncol(a) r_ = columns(a); end
function r_ = sum_down(a) r_ = sum(a, 1); end
function r_ = sum_across(a) r_ = sum(a, 2); end
function r_ = sum_all(a) r_ = sum(a(:)); end
function r_ = design(a) r_ = double(a == 1:max(a)); end
function r_ = ginv(a) r_ = pinv(a); end
function r_ = choose(c, a, b) a = a + 0 * c; b = b + 0 * c; r_ = b; r_(c != 0) = a(c != 0); end
function r_ = t_below(t, v) p = betainc(v / (v + t^2), v / 2, 0.5) / 2; if t > 0 r_ = 1 - p; else r_ = p; end; end
function r_ = normal_below(z) r_ = erfc(-z / sqrt(2)) / 2; end
function r_ = normal_quantile(p) r_ = -sqrt(2) * erfcinv(2 * p); end
function r_ = t_quantile(p, v) a = 0; b = 1e4; for i = 1:300 m = (a + b) / 2; if t_below(m, v) < p a = m; else b = m; end; end
r_ = (a + b) / 2; end
"""
_WORDS = [
    ("o || pred[rows,]", "beside(o, pred[rows,])"),
    ("arms || z", "beside(arms, z)"),
    ("xa || z", "beside(xa, z)"),
    ("1 || g", "[1, g]"),
    ("theta[1] // theta[g]", "below(theta[1], theta[g])"),
    ("{-1, 1}", "below(-1, 1)"),
    ("##", ".^"),
    ("#", ".*"),
    ("loc(a = g)", "find(a == g)"),
    ("quantile('NORMAL', ", "normal_quantile("),
    ("quantile('T', ", "t_quantile("),
    ("cdf('NORMAL', ", "normal_below("),
    ("cdf('T', ", "t_below("),
]
_RULES = [
    (r"proc iml;|quit;", ""),
    (r"use (\w);.*?close \w;", lambda found: {"d": "v", "x": "z"}[found[1]] + f" = {found[1]}_read;"),
    (r"b = (.*?) // j\(ncol\(z\),1,0\);", r"b = below(\1, zeros(ncol(z), 1));"),
    (r"mm <> \((.*)\);", r"max(mm, \1);"),
    (r"do while \((.*?)\);", r"while \1;"),
    (r"if (.*?) then do;", r"if \1;"),
    (r"if (.*?) then (.*?); else (.*?);", r"if \1; \2; else \3; end;"),
    (r"do (\w+) = (.*?) to (.*?);", r"for \1 = (\2):(\3);"),
    (r"return\((.*)\);", r"r_ = \1;"),
    (r"start (\w+)\((.*?)\);", r"function r_ = \1(\2)"),
    (r"finish;", "end"),
    (r"([\w)\]`])\s*/\s*(?=[\w(])", r"\1 ./ "),
    (r"print (.*?);", r'printf("%d %.15g %.15g %.15g %.15g %.15g\\n", g, estimate, se, lower, upper, p_value);'),
]


def trial(seed: int = 0, patients: int = 150) -> pd.DataFrame:
    """Three arms; counts whose exposure goes with age, a yes or no, and a measurement."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"arm": rng.permutation(np.repeat(["placebo", "drug", "other"], patients // 3))})
    frame["age"], frame["site"] = rng.normal(40, 9, patients).round(1), rng.choice(list("abc"), patients)
    frame["years"] = (rng.uniform(0.5, 2, patients) * (1 + 0.3 * (frame["age"] > 40))).round(2)
    mean = frame["years"] * np.where(frame["arm"] == "drug", 2, 4) * np.exp(0.02 * (frame["age"] - 40))
    frame["y"] = rng.negative_binomial(0.7, 0.7 / (0.7 + mean))
    return frame.assign(any=(frame["y"] > 2) * 1, size=rng.normal(2, 1, patients) + (frame["arm"] == "drug"))


def in_octave(program: str) -> str:
    """The matrix part of a SAS/IML program in Octave's words."""
    body = program[program.index("proc iml;") :]
    for pattern, new in _RULES[:4]:
        body = re.sub(pattern, new, body, flags=re.DOTALL if "use" in pattern else 0)
    for old, new in _WORDS:
        body = body.replace(old, new)
    body = _sums(body)
    for _ in range(3):  # subscripts inside subscripts
        body = re.sub(r"\b([A-Za-z]\w*)\[([^\[\]]+)\]", lambda found: f"{found[1]}({_whole(found[2])})", body)
    for pattern, new in _RULES[4:]:
        body = re.sub(pattern, new, body)
    return LIBRARY + body.replace("`", "'").replace("d_read", 'dlmread("v.csv")').replace("x_read", 'dlmread("z.csv")')


def _whole(subscript: str) -> str:
    return (":" if subscript.startswith(",") else "") + subscript + (":" if subscript.endswith(",") else "")


def _sums(body: str) -> str:
    """``x[+,]``, ``x[,+]`` and ``x[+]`` as functions of what stands before them."""
    for mark, name in (("[+,]", "sum_down"), ("[,+]", "sum_across"), ("[+]", "sum_all")):
        while (end := body.find(mark)) >= 0:
            begin, depth = end, 0
            if body[end - 1] == ")":
                while True:
                    begin -= 1
                    depth += (body[begin] == ")") - (body[begin] == "(")
                    if depth == 0:
                        break
            while re.match(r"\w", body[begin - 1]):
                begin -= 1
            body = f"{body[:begin]}{name}({body[begin:end]}){body[end + len(mark) :]}"
    return body


def difference(analysis: Analysis, table: pd.DataFrame, options: dict[str, Any]) -> float:
    """Largest relative difference of estimates, standard errors, limits and p-values between the program and ours."""
    used = ProgramInput(table="trial.csv", exposure=options.get("exposure"), adjust=options.get("adjust"), columns=tuple(table))
    data, rows = analysis.data, table.iloc[analysis.data.rows]
    sites = pd.get_dummies(rows["site"]).to_numpy(float)
    adjust = options.get("adjust", "")
    columns = [data.outcome, np.ones(data.n), *([rows["age"].to_numpy()] if "age" in adjust else [])]
    columns += [*sites.T] if "site" in adjust else []
    columns += [rows["age"].to_numpy() * one for one in sites.T] if "*" in adjust else []
    with tempfile.TemporaryDirectory() as folder:
        np.savetxt(Path(folder, "v.csv"), np.column_stack([data.outcome, data.exposure, data.arm + 1]), "%.17g", ",")
        np.savetxt(Path(folder, "z.csv"), np.column_stack(columns), "%.17g", ",")
        Path(folder, "p.m").write_text(in_octave(sas_program(analysis, used)))
        done = subprocess.run(["octave-cli", "-q", "p.m"], cwd=folder, capture_output=True, text=True, check=False)
    lines = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    if len(lines) != len(analysis.contrasts):
        raise RuntimeError(done.stderr)
    worst = 0.0
    for line, contrast in zip(lines, analysis.contrasts, strict=True):
        own = contrast.estimate, contrast.se, contrast.lower, contrast.upper, contrast.p_value
        worst = max(worst, *(abs(found / number - 1) for found, number in zip(line[1:], own, strict=True)))
    return worst


def main() -> None:
    """Run every analysis and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="Folder for sas_in_octave.csv.")
    folder, table, rows = parser.parse_args().out, trial(), []
    for options in ANALYSES:
        analysis = analyse(table, **grouped_arguments({"reference": "placebo", **options}))
        words = ", ".join(f"{name}={value}" for name, value in options.items())
        rows.append(
            {
                "analysis": words,
                "variance": analysis.settings.variance,
                "largest_difference": difference(analysis, table, options),
            }
        )
        print(f"{rows[-1]['largest_difference']:.1e}  {words}")
    pd.DataFrame(rows).to_csv(folder / "sas_in_octave.csv", index=False, float_format="%.1e")


if __name__ == "__main__":
    main()
