"""``causalms query``: what every patient would have had under other arms, as a draws table with its record."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.errors import CausalmsError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from causalms.scm import CausalModel


@click.command()
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--do", "arms", multiple=True, metavar="ARM", help="Set the arm to this; repeat for several worlds.")
@click.option("--policy", type=click.Path(path_type=Path), help="A treatment policy (YAML: name, rules, otherwise).")
@click.option("--given-factual", is_flag=True, help="Rung 3: condition on the outcome each patient was seen to have.")
@click.option("--coupling", default="monotone", show_default=True, help="monotone, ancestral, independent or rho.")
@click.option("--rho", type=float, help="Correlation of the two worlds' noise, with --coupling rho.")
@click.option("--abduction", default="stochastic", show_default=True, help="stochastic or deterministic.")
@click.option("--skip-missing", is_flag=True, help="With --given-factual: leave out patients whose visit was missed.")
@click.option("--checked-patients", default=40, show_default=True, help="Patients that the rung-3 diagnostics look at.")
@click.option("--expected", is_flag=True, help="Expected outcomes by one evaluation a patient and arm, no sampling.")
@click.option("--draws", default=64, show_default=True, help="Draws (particles) a patient.")
@click.option("--week", "weeks", multiple=True, type=float, help="Visit week; repeat for several.  [default: 48]")
@click.option("--model", default="reference", show_default=True, help="A checkpoint, 'reference', or 'counts' (see below).")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes; the numbers stay the same.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Key of the exogenous noise.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Table to write (.parquet, .csv or .tsv).")
def command(
    source: Path,
    arms: tuple[str, ...],
    policy: Path | None,
    given_factual: bool,
    coupling: str,
    rho: float | None,
    abduction: str,
    skip_missing: bool,
    checked_patients: int,
    expected: bool,
    draws: int,
    weeks: tuple[float, ...],
    model: str,
    workers: int,
    seed: int,
    out: Path,
) -> None:
    """Ask what each patient of the trial DIR would have had under another arm.

    Writes the draws table and, beside it, its record (OUT with the suffix .queries.json). With --given-factual also a results
    table (.results.csv): probabilities of benefit and harm with the sharp bounds that hold under every coupling, and the
    diagnostics of the run. A killed run that is asked again goes on where it stopped (finished patients are kept in OUT.parts
    until the end).

    --model counts fits a negative-binomial regression to the participants table of DIR itself (a folder, or the table as
    .csv, .tsv or .parquet): no images are read.

    \b
    Example:
      causalms query trial --do placebo --do ocrelizumab --draws 64 --seed 0 --out draws.parquet
      causalms query trial --do ocrelizumab --given-factual --coupling monotone --out twins.parquet
    """  # noqa: D301 - the backspace is the character that click looks for
    from causalms.scm.individual import rung_three_results
    from causalms.scm.model import write_draws
    from causalms.tables import write_table

    if out.suffix not in (".parquet", ".csv", ".tsv"):
        raise UsageError(f"--out {out}: tables are written as .parquet, .csv or .tsv; choose one of these suffixes")
    if not given_factual and (rho is not None or skip_missing):
        raise UsageError("--rho and --skip-missing go with --given-factual; add it or leave them out")
    trial = _trial(source)
    causal_model = _model(model, trial, weeks)
    shared: dict[str, Any] = {"arm": list(arms), "week": list(weeks) or 48, "seed": seed, "policy": policy}
    parts = out.with_name(out.name + ".parts")
    running: dict[str, Any] = {"workers": workers, "parts": parts, "progress": True}
    try:
        if given_factual:
            if expected:
                raise UsageError("--expected is rung 2 and --given-factual rung 3; choose one")
            missing = "skip" if skip_missing else "refuse"
            ties: dict[str, Any] = {"coupling": coupling, "rho": rho, "abduction": abduction, "missing": missing}
            ties["checked_patients"] = checked_patients
            with warnings.catch_warnings(record=True) as doubts:
                warnings.simplefilter("always", UserWarning)
                table = causal_model.counterfactual(trial, particles=draws, **ties, **shared, **running)
            for doubt in doubts:
                click.echo(f"warning: {doubt.message}", err=True)
            results = rung_three_results(causal_model, trial, table, workers)
            write_table(results, out.with_suffix(".results.csv"))
        else:
            table = causal_model.do(trial, draws=draws, expected=expected, coupling=coupling, **shared, **running)
        write_draws(table, out)
    except CausalmsError:
        shutil.rmtree(parts, ignore_errors=True)
        raise
    shutil.rmtree(parts, ignore_errors=True)
    _say(table, out)


def _trial(source: Path) -> Any:
    from causalms.scm.tables_in import as_trial
    from causalms.tables import read_table

    if source.is_file():
        return as_trial(read_table(source))
    from causalms.trials import load_trial

    return load_trial(source)


def _model(model: str, trial: Any, weeks: tuple[float, ...]) -> CausalModel:
    from causalms.scm import CausalModel

    return CausalModel.fit_counts(trial) if model == "counts" else CausalModel.load(model)


def _say(table: pd.DataFrame, out: Path) -> None:
    (query_id, record), *_ = table.attrs["queries"].items()
    outcome = "expected_net2_lesions" if record["expected"] else "net2_lesions"
    click.echo(f"query {query_id}: rung {record['rung']} ({record['query']}), {record['participants_answered']} patients")
    click.echo(f"model {record['mechanism']} {record['model_checksum']}, coupling {record['coupling']}, seed {record['seed']}")
    means = table[table["query"] != "observed"].groupby(["arm", "visit_week"], sort=False)[outcome].mean()
    for arm, week, mean in means.reset_index().itertuples(index=False):
        click.echo(f"  {arm:<28} week {week:g}: mean NET2 lesions {mean:.2f}")
    click.echo(f"wrote {out} and {out.with_suffix('.queries.json').name}")
