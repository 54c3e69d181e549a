"""A hundred analyses at random over all options, each run again by the R program that ``causalms effects --program r`` prints.

python -m studies.reproduced_in_r --out results [--analyses 100] [--seed 1]
"""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
import numpy as np
import pandas as pd

from causalms.effects import CHOICES, MEASURES, Design, Method, ProgramInput, analyse, r_program
from causalms.errors import CausalmsError, UsageError
from causalms.tables import write_table
from studies.common import out_option, seed_option

ROOT = Path(__file__).parents[1]
#: Table -> outcome, arm, reference, exposure, strata, clusters, prognostic column, covariates that a formula is drawn from.
TABLES = {
    "tests/oracles/polyps.csv": ("number", "treat", "placebo", None, None, None, "age", ("age", "log(age)")),
    "tests/oracles/epil_totals.csv": (
        "y",
        "trt",
        "placebo",
        None,
        None,
        "base",
        "base",
        ("log(base)", "age", "base", "log(age)"),
    ),
    "tests/oracles/quine.csv": ("Days", "Age", "F0", None, "Sex", None, None, ("C(Eth)", "C(Lrn)", "C(Sex)")),
    "docs/examples/trial.csv": (
        "lesions",
        "arm",
        "placebo",
        "years",
        "sex",
        "site",
        None,
        ("gd_lesions", "age", "edss", "C(sex)", "log(age)"),
    ),
}
NUMBERS = ("estimate", "se", "lower", "upper", "p_value")
SHOWN = ("estimator", "working_model", "measure", "variance", "rate", "interaction", "test", "level")
VARIANCES = tuple(name for name in CHOICES["variance"] if not name.startswith("bootstrap"))


def drawn(rng: random.Random) -> tuple[str, dict, Design, Method]:
    """One analysis at random; many contradict themselves and are refused."""
    file = rng.choice(list(TABLES))
    outcome, arm, reference, exposure, strata, cluster, prognostic, covariates = TABLES[file]
    adjust = " + ".join(rng.sample(covariates, rng.randint(0, min(3, len(covariates))))) or None
    measure = rng.choice(list(MEASURES))
    if exposure is not None and (not measure.startswith("rate") or rng.random() < 0.3):
        exposure = None
    options = {"outcome": outcome, "arm": arm, "reference": reference, "exposure": exposure, "adjust": adjust, "measure": measure}
    design = Design(
        strata=strata if rng.random() < 0.3 else None,
        cluster=cluster if rng.random() < 0.3 else None,
    )
    between = [name for name in VARIANCES if name.startswith("cr")]
    kinds = between if design.cluster else [name for name in VARIANCES if name not in between]
    method = Method(
        estimator=rng.choice(CHOICES["estimator"]),
        working_model=rng.choice((None, *CHOICES["working_model"])),
        variance=rng.choice((None, *kinds)),
        rate=rng.choice(CHOICES["rate"]),
        interaction=rng.random() < 0.3,
        prognostic=[prognostic] if prognostic and rng.random() < 0.2 else [],
        test=rng.choice(("wald", "wald", "wald", "score")),
        level=rng.choice((0.9, 0.95, 0.99)),
    )
    return file, options, design, method


def compared(ours: np.ndarray, of_r: np.ndarray) -> dict[str, float]:
    """Numbers of the first contrast, and the largest difference over all: relative, of p-values absolute."""
    apart = np.ones(1)
    if of_r.shape == ours.shape:
        apart = np.abs(np.where(np.arange(5) < 4, of_r / ours - 1, of_r - ours)).ravel()
    first = of_r[0] if len(of_r) else np.full(5, np.nan)
    numbers = dict(zip(NUMBERS, ours[0], strict=True)) | {f"{name}_r": value for name, value in zip(NUMBERS, first, strict=True)}
    return numbers | {"contrasts": len(ours), "largest_difference": float(np.nan_to_num(apart, nan=1.0).max())}


@click.command()
@out_option
@click.option("--analyses", default=100, show_default=True)
@seed_option(1)
def main(out: Path, analyses: int, seed: int) -> None:
    rng, rows, programs = random.Random(seed), [], []
    refused = 0
    while len(rows) < analyses:
        file, options, design, method = drawn(rng)
        table = pd.read_csv(ROOT / file)
        names = {name: options[name] for name in ("arm", "exposure", "adjust")}
        named = {"strata": design.strata, "cluster": design.cluster, "prognostic": method.prognostic}
        source = ProgramInput(table=Path(file).name, columns=tuple(table.columns), **names, **named)
        try:
            analysis = analyse(table, **options, design=design, method=method)
        except CausalmsError:
            continue  # options that contradict each other; separated, constant or collinear data
        try:
            program = r_program(analysis, source)
        except UsageError:
            refused += 1
            continue
        programs.append(f"local({{\n{program}\n}})")
        settings = analysis.settings
        described = {name: getattr(settings, name) for name in SHOWN if name not in ("measure", "working_model")}
        described |= {"table": source.table, "measure": settings.measure.option, "working_model": settings.family}
        described |= {
            "adjust": options["adjust"] or "",
            "prognostic": " ".join(method.prognostic),
            "exposure": options["exposure"] or "",
        }
        rows.append(
            described
            | {"strata": design.strata or "", "cluster": design.cluster or ""}
            | {"contrasts": analysis.results[list(NUMBERS)].to_numpy(float)}
        )
    with tempfile.TemporaryDirectory() as folder:
        for file in TABLES:
            shutil.copy(ROOT / file, folder)
        Path(folder, "all.R").write_text("\n".join(programs))
        for place, program in enumerate(programs):
            Path(folder, "one.R").write_text(program)
            said = subprocess.run(["Rscript", "one.R"], cwd=folder, capture_output=True, text=True, check=False)
            if not said.stdout:
                click.echo(f"row {place + 1}: {said.stderr.strip()[-300:]}")
            of_r = [[float(cell) for cell in line.split(",")[1:]] for line in said.stdout.splitlines()]
            rows[place] |= compared(rows[place].pop("contrasts"), np.array(of_r))
    result = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    write_table(result, out / "reproduced_in_r.csv")
    equal = (result["largest_difference"] < 1e-6).sum()
    passed_over = f"{refused} more that R could not reproduce were passed over"
    largest = result["largest_difference"].max()
    click.echo(f"{equal} of {len(result)} equal to 1e-6 ({passed_over}); largest difference {largest:.2g}")


if __name__ == "__main__":
    main()
