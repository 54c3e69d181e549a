"""``causalms query``: what every patient would have had under other arms, as a draws table with its record."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.errors import CausalmsError, UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from causalms.causal import CausalModel
    from causalms.causal.query import Query


@click.command()
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--do", "arms", multiple=True, metavar="ARM", help="Set the arm to this; repeat for several worlds.")
@click.option("--policy", type=click.Path(path_type=Path), help="A treatment policy (YAML: name, rules, otherwise).")
@click.option("--reference", metavar="ARM", help="Also write contrasts with this arm, which must be one of --do (see below).")
@click.option("--given-factual", is_flag=True, help="Rung 3: condition on the outcome each patient was seen to have.")
@click.option("--coupling", default="monotone", show_default=True, help="monotone, ancestral, independent or rho.")
@click.option("--rho", type=float, help="Correlation of the two worlds' noise, with --coupling rho.")
@click.option("--abduction", default="stochastic", show_default=True, help="stochastic or deterministic.")
@click.option("--skip-missing", is_flag=True, help="With --given-factual: leave out patients whose visit was missed.")
@click.option("--checked-patients", default=40, show_default=True, help="Patients that the rung-3 diagnostics look at.")
@click.option("--bounds-over-rho", is_flag=True, help="With --reference: benefit and harm over every coupling, in their bounds.")
@click.option("--expected", is_flag=True, help="Expected outcomes by one evaluation a patient and arm, no sampling.")
@click.option("--recalibrate", "members", metavar="N", type=click.IntRange(min=2),
              help="With --expected: N posterior draws recalibrated on the observed arms (column generator).")  # fmt: skip
@click.option("--registry", is_flag=True, help="Arms of DIR were chosen by measured covariates, not randomised; needs overlap.")
@click.option("--draws", default=64, show_default=True, help="Draws (particles) a patient.")
@click.option("--week", "weeks", multiple=True, type=float, help="Visit week; repeat for several.  [default: 48]")
@click.option("--model", default="reference", show_default=True, help="A checkpoint, 'reference', or 'counts' (see below).")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes; the numbers stay the same.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Key of the exogenous noise.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Table to write (.parquet, .csv or .tsv).")
def command(source: Path, model: str, out: Path, workers: int, **asked: Any) -> None:
    """Ask what each patient of the trial DIR would have had under another arm.

    Writes the draws table and, beside it, its record (OUT with the suffix .queries.json). A killed run that is asked again
    goes on where it stopped (finished patients are kept in OUT.parts until the end).

    --reference also writes OUT.results.csv: the ratio of means of every world to that arm. A contrast that no trial randomises
    says so, with its assumption, the overlap of covariates and how strong an unmeasured trial effect must be to erase it.

    --given-factual also writes OUT.results.csv (probabilities of benefit and harm with the sharp bounds that hold under every
    coupling, and the diagnostics of the run), OUT.diagnostics.csv and their figure, OUT.diagnostics.pdf, one page a world.

    --bounds-over-rho also writes OUT.bounds.csv and OUT.bounds.pdf: the probabilities while the coupling runs from mirrored
    (-1) over unrelated (0) to shared noise (1).

    --recalibrate makes the model's own error a number: `causalms effects` on its table gives se_generator.

    --model counts fits a negative-binomial regression to the participants table of DIR itself (a folder, or the table as
    .csv, .tsv or .parquet): no images are read.

    \b
    Example:
      causalms query trial --do placebo --do ocrelizumab --reference placebo --draws 64 --seed 0 --out draws.parquet
      causalms query trial --do placebo --do ocrelizumab --expected --recalibrate 100 --out expected.parquet
      causalms query trial --do ocrelizumab --given-factual --coupling monotone --out twins.parquet
    """  # noqa: D301 - the backspace is the character that click looks for
    _refuse_misuse(out, asked)
    query = _query(asked)
    trial = _trial(source)
    causal_model = _model(model, trial, query)
    parts = out.with_name(out.name + ".parts")
    running: dict[str, Any] = {"workers": workers, "progress": True}
    try:
        table, beside = (_rung_three if asked["given_factual"] else _rung_two)(causal_model, trial, asked, running, parts)
        if asked["bounds_over_rho"]:
            beside |= _bounds_over_rho(causal_model, trial, asked, running)
        _deliver(table, beside, out, parts)
    except CausalmsError:
        shutil.rmtree(parts, ignore_errors=True)
        raise
    shutil.rmtree(parts, ignore_errors=True)
    _say(table, out, beside)


def _refuse_misuse(out: Path, asked: dict[str, Any]) -> None:
    """What contradicts itself, before anything is read."""
    if out.suffix not in (".parquet", ".csv", ".tsv"):
        raise UsageError(f"--out {out}: tables are written as .parquet, .csv or .tsv; choose one of these suffixes")
    factual, expected = asked["given_factual"], asked["expected"]
    if factual and expected:
        raise UsageError("--expected is rung 2 and --given-factual rung 3; choose one")
    if not factual and (asked["rho"] is not None or asked["skip_missing"]):
        raise UsageError("--rho and --skip-missing go with --given-factual; add it or leave them out")
    if factual and asked["registry"]:
        raise UsageError("--registry is about effects in a population; leave out --given-factual")
    if asked["members"] and not expected:
        raise UsageError("--recalibrate works on expected counts; add --expected")
    if asked["members"] and asked["reference"]:
        raise UsageError("--recalibrate and --reference: run 'causalms effects OUT --reference ARM' on the recalibrated table")
    if asked["bounds_over_rho"] and not asked["reference"]:
        raise UsageError("--bounds-over-rho compares every --do arm with a reference; add --reference ARM")
    if asked["reference"] and not factual and asked["reference"] not in asked["arms"]:
        raise UsageError(f"--reference {asked['reference']}: contrasts need that world too; add --do {asked['reference']}")
    if asked["reference"] and factual and not asked["bounds_over_rho"]:
        raise UsageError("--reference with --given-factual goes with --bounds-over-rho; add it or leave --reference out")
    others = set(asked["arms"]) - {asked["reference"]}
    if asked["reference"] and not others and (asked["bounds_over_rho"] or asked["policy"] is None):
        raise UsageError(f"--reference {asked['reference']}: no world to compare with it; add --do ARM")


def _query(asked: dict[str, Any]) -> Query:
    """The query without its mechanism: a bad coupling, week or policy file is said before a model is loaded or fitted."""
    from causalms.causal.interventions import read_policy, value
    from causalms.causal.query import Query, couple, refuse_nonsense

    policies = [] if asked["policy"] is None else [read_policy(asked["policy"])]
    weeks = asked["weeks"] or (48.0,)
    query = Query(
        (*(value(arm) for arm in asked["arms"]), *policies),
        weeks,
        1 if asked["expected"] else asked["draws"],
        asked["seed"],
        asked["expected"],
        asked["coupling"],
        couple(asked["coupling"], asked["rho"]),
        max(weeks) if asked["given_factual"] else None,
        asked["abduction"],
    )
    refuse_nonsense(query)
    return query


def _trial(source: Path) -> Any:
    from causalms.causal.tables_in import as_trial
    from causalms.tables import read_table

    if source.is_file():
        return as_trial(read_table(source))
    from causalms.trials import load_trial

    return load_trial(source)


def _model(model: str, trial: Any, query: Query) -> CausalModel:
    """Load a model, or fit one of counts once it is known that it can answer."""
    from causalms.causal import CausalModel, NegativeBinomialMechanism
    from causalms.causal.query import refuse_if_unanswerable, refuse_unknown_columns

    refuse_unknown_columns(query, trial.participants)
    if model == "counts":
        arms = tuple(sorted(str(arm) for arm in trial.participants["arm"].dropna().unique()))
        refuse_if_unanswerable(query, NegativeBinomialMechanism(arms, (0.0,) * len(arms)))
        return CausalModel.fit_counts(trial)
    found = CausalModel.load(model)
    refuse_if_unanswerable(query, found.mechanism)
    return found


def _shared(asked: dict[str, Any]) -> dict[str, Any]:
    same = {"arm": list(asked["arms"]), "week": list(asked["weeks"]) or 48, "seed": asked["seed"], "policy": asked["policy"]}
    return {**same, "coupling": asked["coupling"]}


def _rung_two(
    model: CausalModel, trial: Any, asked: dict[str, Any], running: dict[str, Any], parts: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    from causalms.causal import contrasts_with_reference
    from causalms.causal.recalibration import recalibrated

    assignment = "registry" if asked["registry"] else "randomised"
    how = {"draws": asked["draws"], "expected": asked["expected"], "assignment": assignment}
    table = model.do(trial, **_shared(asked), **how, **running, parts=parts)
    if asked["members"]:
        return recalibrated(model, trial, table, asked["members"], asked["seed"], **running), {}
    if asked["reference"] is None:
        return table, {}
    found = contrasts_with_reference(table, trial.participants, asked["reference"], assignment=assignment)
    return table, {".results.csv": found}


def _rung_three(
    model: CausalModel, trial: Any, asked: dict[str, Any], running: dict[str, Any], parts: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    from causalms.causal import diagnostics_table, rung_three_results
    from causalms.report.figures.counterfactual import diagnostics_page

    missing = "skip" if asked["skip_missing"] else "refuse"
    how = {"particles": asked["draws"], "rho": asked["rho"], "abduction": asked["abduction"], "missing": missing}
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", UserWarning)
        table = model.counterfactual(
            trial, **_shared(asked), **how, **running, parts=parts, checked_patients=asked["checked_patients"]
        )
    for doubt in doubts:
        click.echo(f"warning: {doubt.message}", err=True)
    beside: dict[str, Any] = {".results.csv": rung_three_results(model, trial, table, **running)}
    if asked["checked_patients"] > 0:
        checked = diagnostics_table(table)
        pages = [diagnostics_page(checked, str(arm)) for arm in checked["arm"].unique()]
        beside |= {".diagnostics.csv": checked, ".diagnostics.pdf": pages}
    return table, beside


def _bounds_over_rho(model: CausalModel, trial: Any, asked: dict[str, Any], running: dict[str, Any]) -> dict[str, Any]:
    import pandas as pd

    from causalms.causal import rho_sweep
    from causalms.report.figures.counterfactual import bounds_page

    week, others = max(asked["weeks"] or (48.0,)), [arm for arm in asked["arms"] if arm != asked["reference"]]
    how = {"draws": asked["draws"], "seed": asked["seed"], **running}
    tables = [rho_sweep(model, trial, arm, asked["reference"], week, **how) for arm in others]
    return {".bounds.csv": pd.concat(tables, ignore_index=True), ".bounds.pdf": [bounds_page(table) for table in tables]}


def _deliver(table: pd.DataFrame, beside: dict[str, Any], out: Path, parts: Path) -> None:
    """Write every file beside, then move them into place, the draws table last: nothing half-written even after a kill."""
    from causalms.causal.model import write_draws
    from causalms.tables import write_table

    finished = parts / "finished"
    shutil.rmtree(finished, ignore_errors=True)
    write_draws(table, finished / out.name)
    for suffix, content in beside.items():
        place = finished / out.with_suffix(suffix).name
        if suffix.endswith(".pdf"):
            _write_pages(content, place)
        else:
            write_table(content, place)
    for file in sorted(finished.iterdir(), key=lambda f: f.name == out.name):
        os.replace(file, out.parent / file.name)


def _write_pages(pages: list[Figure], place: Path) -> None:
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(place, metadata={"CreationDate": None}) as pdf:
        for page in pages:
            pdf.savefig(page)


def _say(table: pd.DataFrame, out: Path, beside: dict[str, Any]) -> None:
    (query_id, record), *_ = table.attrs["queries"].items()
    outcome = "expected_net2_lesions" if record["expected"] else "net2_lesions"
    click.echo(f"query {query_id}: rung {record['rung']} ({record['query']}), {record['participants_answered']} patients")
    click.echo(f"model {record['mechanism']} {record['model_checksum']}, coupling {record['coupling']}, seed {record['seed']}")
    for inputs, count in record.get("participants_with_missing_inputs", {}).items():
        click.echo(f"  {count} patients lack {inputs}: masked in the model, and said in column missing_inputs")
    means = table[table["query"] != "observed"].groupby(["arm", "visit_week"], sort=False)[outcome].mean()
    for arm, week, mean in means.reset_index().itertuples(index=False):
        click.echo(f"  {arm:<28} week {week:g}: mean NET2 lesions {mean:.2f}")
    for row in beside.get(".results.csv", table.head(0)).to_dict("records"):
        if row.get("measure") == "mean ratio":
            kind = "randomised" if row["randomised"] else "transported"
            limits = f"{row['estimate']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"
            click.echo(f"  {row['arm']} / {row['reference']}: ratio of means {limits}, {kind}")
    names = [out.with_suffix(suffix).name for suffix in (".queries.json", *beside)]
    click.echo(f"wrote {out} and {', '.join(names)}")
