"""``causalms calibrate``: predicted counts judged by the counts of the arm each patient was randomised to."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.cohort import Cohort, cohort_options
from causalms.cli.inputs import Adam, adam_options, grouped, read_draws, table_at, text_options
from causalms.cli.main import say_note
from causalms.cli.paths import RESULTS, InputPath, OutputFolder, OutputPath, Verb
from causalms.errors import UsageError
from causalms.files import whole_file, whole_folder
from causalms.tables import TALLY, fixed, name_of, net2_column, one_week, percent_in_full, write_table

if TYPE_CHECKING:
    import pandas as pd

    from causalms.calibration import Assessment, Pairs, Recalibration, Sources
    from causalms.shards import Shard

#: What stands beside a part that is judged later.
OF_A_PART = (".calibration.json", ".observed.parquet")


@dataclass(frozen=True)
class Options(Adam):
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
    resample: bool

    def settings(self) -> dict[str, Any]:
        """What decides the numbers of a judgement."""
        names = ("by", "least", "outcome", "level", "bins", "repetitions", "seed", "resample")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of_part(cls, record: Mapping[str, Any]) -> Options:
        """What a part was written with."""
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**{field.name: known.get(field.name) for field in fields(cls)})  # type: ignore[arg-type]


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
@click.option(
    "--out", type=OutputPath(RESULTS, OF_A_PART), help="Results table (.csv, .tsv, .parquet, .json: Dataset-JSON), or a part."
)
@click.option("--tables", type=OutputFolder(), help="New folder for pit, reliability, rootogram, coverage (.csv).")
@cohort_options(scans=False)
@click.option(
    "--resample", is_flag=True, help="Count the NET2 masks of the folder on the grid of the draws' model, as train does."
)
@adam_options
@text_options
@grouped(options=Options, cohort=Cohort)
def command(
    draws: str,
    observed: str,
    options: Options,
    cohort: Cohort,
    recalibrate: Path | None,
    conformal: Path | None,
    out: Path | None,
    recompute: Path | None,
    tables: Path | None,
) -> None:
    """Judge predicted lesion counts by the counts observed in the arm as randomised.

    DRAWS is a draws table, sampled or expected.  Prints one line a group; --out writes every statistic.  With --recalibrate
    or --conformal the patients are split: one part is fitted on, the other judges before and after.

    With --shard 3/8 nothing is judged: OUT.parquet holds the forecasts of that part, and what was observed stands beside it;
    `causalms merge` judges all parts together, to the digits of one run. DRAWS may be the same shard of a query.

    \b
    Example:
      causalms calibrate draws.parquet --observed trial/ --by arm --by "gd_lesions > 0" --out calibration.csv
      causalms calibrate draws.parquet --observed trial/ --recalibrate recalibrated.parquet --conformal sets.csv
      causalms effects recalibrated.parquet --reference placebo
    """  # noqa: D301
    if recalibrate and options.outcome != "net2_lesions":
        raise UsageError(f"--recalibrate is for net2_lesions, not for {options.outcome}; leave out --outcome or --recalibrate")
    if cohort.shard and (recalibrate or conformal or recompute or tables or out is None or out.suffix != ".parquet"):
        raise UsageError(
            "--shard writes what 'causalms merge' judges: give it --out PART.parquet alone; the rest is of all patients"
        )
    from causalms.calibration import Sources

    with cohort.cluster():
        everyone = options.beside_draws(table_at(observed), draws, options.week, options.outcome)
        table = read_draws(draws, everyone, options.week)
        seen = _observed(everyone, Path(observed), table, options, cohort, draws)
        if cohort.participants or cohort.shard:
            table = table[table["participant_id"].astype(str).isin(set(seen["participant_id"].astype(str)))]
        judgement = Judgement(table, Sources(draws, str(table_at(observed))), options, cohort.workers)
        if cohort.shard and out:
            click.echo(_write_part(judgement, seen, everyone, cohort.shard, out))
            return
        pairs = judgement.pair(seen)
        if TALLY in judgement.table:
            click.echo(_judged_by_tallies(pairs, options, out, recalibrate, conformal, recompute, tables))
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


def _observed(
    everyone: pd.DataFrame, place: Path, draws: pd.DataFrame, options: Options, cohort: Cohort, source: str
) -> pd.DataFrame:
    """The participants that are judged with their counts: of masks where that is asked for or the table has none."""
    names = [str(name) for name in everyone["participant_id"]]
    chosen = cohort.chosen(names) if cohort.participants or cohort.shard else names
    seen = everyone.iloc[[names.index(name) for name in chosen]].reset_index(drop=True) if chosen != names else everyone
    counted = any(str(column).startswith(f"{options.outcome}_week") for column in everyone)
    if options.resample and not place.is_dir():
        raise UsageError("--resample counts masks, and a table has none; give --observed the folder, or leave it out")
    if not options.resample and (counted or not (place / "derivatives" / "lesions").is_dir()):
        return seen
    from causalms.trials import load_trial, net2_counts

    week = one_week(draws, options.week, source)
    grid = _grid_of(source) if options.resample else None
    counts = net2_counts(load_trial(place, chosen), int(week), grid, cohort.workers)
    if options.outcome not in counts or counts[options.outcome].isna().all():
        return seen
    where = "the grid of the model" if options.resample else "their own grid"
    known = int(counts[options.outcome].notna().sum())
    say_note(f"{options.outcome} at week {name_of(week)} of {known} of {len(seen)} patients counted from NET2 masks on {where}")
    return seen.assign(**{net2_column(int(week), options.outcome): counts[options.outcome].to_numpy()})


def _grid_of(draws: str) -> list[int]:
    """Shape of the grid of the model that made the draws, from their record."""
    beside = Path(draws).with_suffix(".queries.json")
    records = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    grids = [record.get("model", {}).get("grid") for record in records.values()]
    if not grids or grids[0] is None:
        raise UsageError(f"--resample takes the model's grid from the record of the draws, and {beside} names none; leave it out")
    return list(grids[0])


def _write_part(judgement: Judgement, seen: pd.DataFrame, everyone: pd.DataFrame, shard: Shard, out: Path) -> str:
    """Keep the forecasts of a shard under the arms as randomised, and what was observed, for ``causalms merge``."""
    import pandas as pd

    table = judgement.table
    if TALLY in table:
        raise UsageError("--shard is for a table of draws; a folder of draws is judged at once, in a fixed memory: leave it out")
    rows = table[(table["query"] == "interventional") & (table["arm"] == table["arm_randomised"])]
    if rows.empty:
        source = judgement.sources.draws
        raise UsageError(f"{source}: no patient of shard {shard} under the arm as randomised; give the draws of that shard")
    rows = rows[rows["visit_week"] == one_week(rows, judgement.options.week, judgement.sources.draws)]
    whole = pd.util.hash_pandas_object(everyone.astype(str), index=False).to_numpy().tobytes()
    record = {
        **vars(judgement.sources),
        "shard": str(shard),
        "patients": len(seen),
        "rows": len(rows),
        "queries": sorted(rows["query_id"].astype(str).unique()),
        "week": float(rows["visit_week"].iloc[0]),
        "participants": hashlib.sha256(whole).hexdigest()[:16],
        **judgement.options.settings(),
    }
    write_table(seen, out.with_suffix(".observed.parquet"))
    with whole_file(out.with_suffix(".calibration.json")) as beside:
        beside.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_table(rows.reset_index(drop=True), out)
    people = rows["participant_id"].nunique()
    return f"{out}: forecasts of {people} of the {len(seen)} patients of shard {shard}; 'causalms merge' judges all"


def _judged_by_tallies(pairs: Pairs, options: Options, out: Path | None, *others: Path | None) -> str:
    """Write what needs no simulated trial; one line a group."""
    from causalms.calibration import assess_tallied, heading

    if any(others):
        raise UsageError(
            "--recalibrate, --conformal, --recompute and --tables need draws in memory; give a table of some of them"
        )
    results = assess_tallied(pairs, options.by, options.level, options.bins, options.least)
    if out:
        write_table(results, out)
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
class Judgement:
    """A draws table, read once, and how it is judged."""

    table: pd.DataFrame
    sources: Sources
    options: Options
    workers: int = 1

    def pair(self, seen: pd.DataFrame) -> Pairs:
        """Forecasts beside observations; messages name the files."""
        from causalms.calibration import pair

        return pair(self.table, seen, self.options.week, self.options.outcome, self.sources)

    def assess(self, pairs: Pairs) -> Assessment:
        """The whole judgement of some patients."""
        from causalms.calibration import assess

        how, bar = self.options, sys.stderr.isatty()
        return assess(pairs, how.by, how.level, how.bins, how.repetitions, how.seed, bar, how.least, self.workers)

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
            table = sets.table(self.table, pairs.week, how.outcome, self.sources.draws)
            known = set(fitted_on.frame["participant_id"].astype(str))
            written[conformal_to] = table.assign(fitted_on=table["participant_id"].astype(str).isin(known))
            coverage = _numbers(sets.judge(judged_on, how.level))
            page += [f"conformal sets, at least {percent_in_full(how.conformal_level)} in every arm", coverage]
        return assessment, [*page, *assessment.notes], written

    def _recalibrated(self, fit: Recalibration, week: float) -> pd.DataFrame:
        """The draws of the judged visit under the recalibrated law, as a draws table of a query of its own."""
        rows = self.table[(self.table["query"] == "interventional") & (self.table["visit_week"] == week)].reset_index(drop=True)
        moved = fit.sampled(rows, self.options.seed) if "draw" in rows else fit.expected(rows, self.sources.draws)
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
