"""A hundred analyses at random, each run again by the R program that ``causalms effects --program r`` prints for it.

python -m studies.reproduced_in_r --out results [--analyses 100] [--seed 1]
"""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
import pandas as pd

from causalms.effects import Method, ProgramInput, analyse, r_program
from causalms.errors import CausalmsError
from causalms.tables import write_table
from studies.common import out_option, seed_option

ROOT = Path(__file__).parents[1]
#: Table -> outcome, arm, exposure, covariates that a formula is drawn from.
TABLES = {
    "tests/oracles/polyps.csv": ("number", "treat", "placebo", None, ("age", "log(age)")),
    "tests/oracles/epil_totals.csv": ("y", "trt", "placebo", None, ("log(base)", "age", "base", "log(age)")),
    "docs/examples/trial.csv": ("lesions", "arm", "placebo", "years", ("gd_lesions", "age", "edss", "C(sex)", "log(age)")),
}
NUMBERS = ("estimate", "se", "lower", "upper", "p_value")


def drawn(rng: random.Random) -> tuple[str, dict, Method]:
    """One analysis at random."""
    file = rng.choice(list(TABLES))
    outcome, arm, reference, exposure, covariates = TABLES[file]
    adjust = " + ".join(rng.sample(covariates, rng.randint(0, min(3, len(covariates))))) or None
    model = rng.choice(("poisson", "negbin", "logistic"))
    variance = rng.choice(("model-r", "hc0", "hc1", "hc2", "hc3"))
    measure = "odds-ratio" if model == "logistic" else "rate-ratio"
    if model == "logistic":
        exposure = None
    options = {"outcome": outcome, "arm": arm, "reference": reference, "exposure": exposure, "adjust": adjust, "measure": measure}
    method = Method(estimator="conditional", working_model=model, variance=variance, level=rng.choice((0.9, 0.95, 0.99)))
    return file, options, method


@click.command()
@out_option
@click.option("--analyses", default=100, show_default=True)
@seed_option(1)
def main(out: Path, analyses: int, seed: int) -> None:
    rng, rows, programs = random.Random(seed), [], []
    while len(rows) < analyses:
        file, options, method = drawn(rng)
        table = pd.read_csv(ROOT / file)
        try:
            analysis = analyse(table, **options, method=method)
        except CausalmsError:
            continue  # separated, constant or collinear: there is nothing to reproduce
        names = {name: options[name] for name in ("arm", "exposure", "adjust")}
        source = ProgramInput(table=Path(file).name, columns=tuple(table.columns), **names)
        programs.append(f"local({{\n{r_program(analysis, source)}\n}})")
        result = analysis.results.iloc[0]
        described = {"table": source.table, "model": method.working_model, "variance": method.variance, "level": method.level}
        rows.append(described | {"adjust": options["adjust"] or ""} | {name: result[name] for name in NUMBERS})
    with tempfile.TemporaryDirectory() as folder:
        for file in TABLES:
            shutil.copy(ROOT / file, folder)
        Path(folder, "all.R").write_text("\n".join(programs))
        said = subprocess.run(["Rscript", "all.R"], cwd=folder, capture_output=True, text=True, check=True).stdout
    of_r = pd.DataFrame([line.split(",")[1:] for line in said.splitlines()], columns=[f"{name}_r" for name in NUMBERS]).astype(
        float
    )
    result = pd.concat([pd.DataFrame(rows), of_r], axis=1)
    apart = [(result[name] / result[f"{name}_r"] - 1).abs() for name in ("estimate", "se", "lower", "upper")]
    result["largest_relative_difference"] = pd.concat(apart, axis=1).max(axis=1)
    out.mkdir(parents=True, exist_ok=True)
    write_table(result, out / "reproduced_in_r.csv")
    equal = (result["largest_relative_difference"] < 1e-6).sum()
    click.echo(f"{equal} of {len(result)} equal to 1e-6; largest difference {result['largest_relative_difference'].max():.2g}")


if __name__ == "__main__":
    main()
