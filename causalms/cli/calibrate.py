"""``causalms calibrate``: predicted counts judged by the counts of the arm each patient was randomised to."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from causalms.cli.inputs import Adam, adam_options, grouped, read_draws, table_at, text_options
from causalms.cli.paths import RESULTS, InputPath, OutputFolder, OutputPath, Verb
from causalms.errors import UsageError
from causalms.files import whole_file, whole_folder
from causalms.tables import TALLY, fixed, name_of, percent_in_full, write_table

if TYPE_CHECKING:
    import pandas as pd

    from causalms.calibration import Assessment, Pairs, Recalibration


@dataclass(frozen=True)
class _Options(Adam):
    """What is judged, and how."""

    by: tuple[str, ...]
    least: int
    week: float | None
    outcome: str
    level: float
    bins: int
    repetitions: int
    conformal_level: float
    fit_share: float
    seed: int


_SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


@click.command(cls=Verb)
@click.argument("draws", type=InputPath(str, beside=(".queries.json",)))
@click.option("--observed", required=True, type=InputPath(str), help="BIDS folder or participants table with observed counts.")
@click.option("--by", multiple=True, help='Column, condition ("age >= 40") or "quantiles(age, 3)"; may be given again.')
@click.option(
    "--least", default=5, show_default=True, type=click.IntRange(min=1), help="Fewest patients of a group to be judged."
)
@click.option("--week", type=float, help="Visit week; needed when the draws hold several.")
@click.option("--outcome", default="net2_lesions", show_default=True, help="Count that is judged, also by region.")
@click.option("--level", default=0.95, show_default=True, help="Level of intervals and bands.")
@click.option("--bins", default=10, show_default=True, help="Bins of the PIT histogram.")
@click.option("--repetitions", default=999, show_default=True, help="Simulated trials for bands and p-values.")
@click.option(
    "--recalibrate",
    type=OutputPath(beside=(".queries.json",)),
    help="Write the draws recalibrated by arm (.csv, .tsv, .parquet).",
)
@click.option("--conformal", type=OutputPath(), help="Write conformal sets of everyone under every arm.")
@click.option("--conformal-level", default=0.9, type=_SHARE, show_default=True, help="Least coverage of the sets in every arm.")
@click.option("--fit-share", default=0.5, type=_SHARE, show_default=True, help="Share of every trial and arm they are fitted on.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of simulated trials and of the split.")
@click.option(
    "--recompute",
    type=OutputPath((".json",), what="patients for a report are written"),
    help="Write what `causalms report --recompute` needs to compute coverage and PIT again in its page: no identifiers.",
)
@click.option("--out", type=OutputPath(RESULTS), help="Results table (.csv, .tsv, .parquet, .json: Dataset-JSON).")
@click.option("--tables", type=OutputFolder(), help="New folder for pit, reliability, rootogram, coverage (.csv).")
@adam_options
@text_options
@grouped(options=_Options)
def command(
    draws: str,
    observed: str,
    options: _Options,
    recalibrate: Path | None,
    conformal: Path | None,
    out: Path | None,
    recompute: Path | None,
    tables: Path | None,
) -> None:
    """Judge predicted lesion counts by the counts observed in the arm as randomised.

    DRAWS is a draws table, sampled or expected.  Prints one line a group; --out writes every statistic.  With --recalibrate
    or --conformal the patients are split: one part is fitted on, the other judges before and after.

    \b
    Example:
      causalms calibrate draws.parquet --observed trial/ --by arm --by "gd_lesions > 0" --out calibration.csv
      causalms calibrate draws.parquet --observed trial/ --recalibrate recalibrated.parquet --conformal sets.csv
      causalms effects recalibrated.parquet --reference placebo
    """  # noqa: D301
    if recalibrate and options.outcome != "net2_lesions":
        raise UsageError(f"--recalibrate is for net2_lesions, not for {options.outcome}; leave out --outcome or --recalibrate")
    seen = options.beside_draws(table_at(observed), draws, options.week, options.outcome)
    judgement = _Judgement(read_draws(draws, seen, options.week), draws, options)
    pairs = judgement.pair(seen, observed)
    if TALLY in judgement.table:
        if recalibrate or conformal or recompute or tables:
            raise UsageError(
                "--recalibrate, --conformal, --recompute and --tables need draws in memory; give a table of some of them"
            )
        from causalms.calibration import assess_tallied

        results = assess_tallied(pairs, options.by, options.level, options.bins, options.least)
        if out:
            write_table(results, out)
        click.echo(_tallied_page(pairs, results))
        return
    if recalibrate or conformal:
        assessment, page, written = judgement.split(pairs, recalibrate, conformal)
    else:
        assessment = judgement.assess(pairs)
        page, written = [repr(assessment)], {}
    for path, content in written.items():
        write_table(content, path)
        page.append(f"wrote {path}")
    if recalibrate:
        _write_record(draws, recalibrate, options.fit_share, options.seed)
    if recompute:
        page.append(_carried(pairs, assessment, recompute))
    if tables:
        _write_figure_tables(assessment, tables)
    if out:
        write_table(assessment.results, out)
    click.echo("\n".join(page))


def _tallied_page(pairs: Pairs, results: pd.DataFrame) -> str:
    """One line a group, of what needs no simulated trial."""
    from causalms.calibration import heading

    shown = ("observed / predicted mean count", "CRPS", "coverage of 90% prediction intervals")
    table = results[results["measure"].isin(shown)].pivot(index="subgroup", columns="measure", values="estimate")
    table = table.loc[results["subgroup"].unique(), list(shown)]
    note = "from tallies of all draws; bands and p-values of simulated trials need draws in memory"
    return "\n".join(
        [heading(pairs.n, pairs.week, pairs.left_out), table.map(lambda value: fixed(value, 3)).to_string(), note, *pairs.notes]
    )


def _carried(pairs: Pairs, assessment: Assessment, path: Path) -> str:
    """Write the forecasts for a report, and say so."""
    from causalms.calibration import forecasts_again

    if assessment.patients != pairs.n:
        raise UsageError("--recompute is for all patients; leave out --recalibrate and --conformal, which split them")
    with whole_file(path) as beside:
        beside.write_text(json.dumps(forecasts_again(pairs, assessment)), encoding="utf-8")
    return f"wrote {path} for `causalms report --recompute`"


@dataclass(frozen=True)
class _Judgement:
    """A draws table, read once, and how it is judged."""

    table: pd.DataFrame
    source: str
    options: _Options

    def pair(self, seen: pd.DataFrame, observed: str) -> Pairs:
        """Forecasts beside observations; messages name the files."""
        from causalms.calibration import Sources, pair

        sources = Sources(self.source, str(table_at(observed)))
        return pair(self.table, seen, self.options.week, self.options.outcome, sources)

    def assess(self, pairs: Pairs) -> Assessment:
        """The whole judgement of some patients."""
        from causalms.calibration import assess

        how, bar = self.options, sys.stderr.isatty()
        return assess(pairs, how.by, how.level, how.bins, how.repetitions, how.seed, progress=bar, least=how.least)

    def split(
        self, pairs: Pairs, recalibrated: Path | None, conformal_to: Path | None
    ) -> tuple[Assessment, list[str], dict[Path, pd.DataFrame]]:
        """Fit on one part of the patients, judge on the other: the judgement, what is printed, and tables by path."""
        import pandas as pd

        from causalms.calibration import conformal, heading, recalibrate, split

        how = self.options
        fitted_on, judged_on = split(pairs, how.fit_share, how.seed)
        assessment = self.assess(judged_on)
        written: dict[Path, pd.DataFrame] = {}
        page = [
            heading(pairs.n, pairs.week, pairs.left_out),
            f"{fitted_on.n} fitted on (share {name_of(how.fit_share)} of every trial and arm, seed {how.seed}), "
            f"{judged_on.n} judge",
            "forecasts as they are",
            assessment.glance,
        ]
        if recalibrated:
            fit = recalibrate(fitted_on)
            written[recalibrated] = self._recalibrated(fit, pairs.week)
            after = self.assess(fit.apply(judged_on))
            page += ["recalibrated by arm: mean exp(intercept + slope log m)", _numbers(fit.table), after.glance]
            renamed = after.results.assign(analysis="calibration after recalibration")
            assessment = replace(after, results=pd.concat([assessment.results, renamed], ignore_index=True))
        if conformal_to:
            sets = conformal(fitted_on, how.conformal_level)
            table = sets.table(self.table, pairs.week, how.outcome, self.source)
            known = set(fitted_on.frame["participant_id"].astype(str))
            written[conformal_to] = table.assign(fitted_on=table["participant_id"].astype(str).isin(known))
            coverage = _numbers(sets.judge(judged_on, how.level))
            page += [f"conformal sets, at least {percent_in_full(how.conformal_level)} in every arm", coverage]
        return assessment, [*page, *assessment.notes], written

    def _recalibrated(self, fit: Recalibration, week: float) -> pd.DataFrame:
        """The draws of the judged visit under the recalibrated law, as a draws table of a query of its own."""
        rows = self.table[(self.table["query"] == "interventional") & (self.table["visit_week"] == week)].reset_index(drop=True)
        moved = fit.sampled(rows, self.options.seed) if "draw" in rows else fit.expected(rows, self.source)
        return moved.assign(query_id=moved["query_id"].astype(str) + _SUFFIX)


_SUFFIX = "-recalibrated"


def _write_record(draws: str, recalibrated: Path, share: float, seed: int) -> None:
    """The record of the recalibrated table's query: that of the draws, and what was done to them."""
    beside = Path(draws).with_suffix(".queries.json")
    records = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    step = {"recalibration": {"of": Path(draws).name, "by": "arm", "law": "negative binomial", "fit_share": share, "seed": seed}}
    with whole_file(recalibrated.with_suffix(".queries.json")) as file:
        moved = {f"{name}{_SUFFIX}": {**record, **step} for name, record in records.items()}
        file.write_text(json.dumps(moved or step, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_figure_tables(assessment: Assessment, folder: Path) -> None:
    with whole_folder(folder) as beside:
        for name in ("pit", "reliability", "rootogram", "coverage"):
            write_table(getattr(assessment, name), beside / f"{name}.csv")


def _numbers(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda value: fixed(value, 3))
