"""``causalms calibrate``: predicted counts judged by the counts of the arm each patient was randomised to."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from causalms.calibration import Assessment, Pairs

_TABLES = (".csv", ".tsv", ".parquet")


@click.command()
@click.argument("draws", type=click.Path(dir_okay=False))
@click.option("--observed", required=True, type=click.Path(), help="BIDS folder or participants table with observed counts.")
@click.option("--by", multiple=True, help='Column, condition ("age >= 40") or "quantiles(age, 3)"; may be given again.')
@click.option(
    "--least", default=5, show_default=True, type=click.IntRange(min=1), help="Fewest patients of a group to be judged."
)
@click.option("--week", type=float, help="Visit week; needed when the draws hold several.")
@click.option("--outcome", default="net2_lesions", show_default=True, help="Count that is judged, also by region.")
@click.option("--level", default=0.95, show_default=True, help="Level of intervals and bands.")
@click.option("--bins", default=10, show_default=True, help="Bins of the PIT histogram.")
@click.option("--repetitions", default=999, show_default=True, help="Simulated trials for bands and p-values.")
@click.option("--recalibrate", type=click.Path(), help="Write the draws recalibrated by arm.")
@click.option("--conformal", type=click.Path(), help="Write conformal sets of everyone under every arm.")
@click.option("--conformal-level", default=0.9, show_default=True, help="Least coverage of the sets in every arm.")
@click.option("--fit-share", default=0.5, show_default=True, help="Share of every trial and arm that these two are fitted on.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of simulated trials and of the split.")
@click.option("--out", type=click.Path(), help="Results table (.csv, .tsv or .parquet).")
@click.option("--tables", type=click.Path(file_okay=False), help="New folder for pit, reliability, rootogram, coverage (.csv).")
def command(
    draws: str,
    observed: str,
    by: tuple[str, ...],
    least: int,
    week: float | None,
    outcome: str,
    level: float,
    bins: int,
    repetitions: int,
    recalibrate: str | None,
    conformal: str | None,
    conformal_level: float,
    fit_share: float,
    seed: int,
    out: str | None,
    tables: str | None,
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
    from causalms.cli.inputs import read_draws, read_observed
    from causalms.tables import write_table

    for option, path in (("--out", out), ("--recalibrate", recalibrate), ("--conformal", conformal)):
        if path and Path(path).suffix not in _TABLES:
            raise UsageError(f"{option} {path}: tables are written as .csv, .tsv or .parquet; choose one of these suffixes")
    if recalibrate and outcome != "net2_lesions":
        raise UsageError(f"--recalibrate is for net2_lesions, not for {outcome}; leave out --outcome or --recalibrate")
    table, seen = read_draws(draws), read_observed(observed)
    judging = _Judging(table, draws, by, level, bins, repetitions, seed, least)
    pairs = judging.pair(seen, observed, week, outcome)
    missing = f"; {pairs.left_out} left out, their count at week {pairs.week:g} is missing" if pairs.left_out else ""
    lines = [f"{pairs.n} patients at week {pairs.week:g}{missing}"]
    written: dict[str, pd.DataFrame] = {}
    if recalibrate or conformal:
        found = judging.split(pairs, fit_share, recalibrate, conformal, conformal_level, outcome, lines, written)
    else:
        found = judging.assess(pairs)
        lines.append(_summary(found.results))
    if found.too_small:
        shown = ", ".join(found.too_small[:3]) + (", ..." if len(found.too_small) > 3 else "")
        lines.append(f"{len(found.too_small)} groups of fewer than {least} patients were not judged apart: {shown}")
    for path, content in written.items():
        write_table(content, path)
        lines.append(f"wrote {path}")
    if recalibrate:
        _write_record(draws, recalibrate, fit_share, seed)
    if tables:
        _write_figure_tables(found, tables)
    if out:
        write_table(found.results, out)
    click.echo("\n".join(lines))


@dataclass(frozen=True)
class _Judging:
    """What was asked of the judgement."""

    table: pd.DataFrame
    source: str
    by: tuple[str, ...]
    level: float
    bins: int
    repetitions: int
    seed: int
    least: int

    def pair(self, seen: pd.DataFrame, observed: str, week: float | None, outcome: str) -> Pairs:
        """Forecasts beside observations; messages name the files."""
        from causalms.calibration import Sources, pair

        place = Path(observed) / "participants.tsv" if Path(observed).is_dir() else observed
        return pair(self.table, seen, week, outcome, Sources(self.source, str(place)))

    def assess(self, pairs: Pairs) -> Assessment:
        """The whole judgement of some patients."""
        from causalms.calibration import assess

        bar = sys.stderr.isatty()
        return assess(pairs, self.by, self.level, self.bins, self.repetitions, self.seed, progress=bar, least=self.least)

    def split(
        self,
        pairs: Pairs,
        share: float,
        recalibrated: str | None,
        conformal_to: str | None,
        conformal_level: float,
        outcome: str,
        lines: list[str],
        written: dict[str, pd.DataFrame],
    ) -> Assessment:
        """Fit on one part of the patients, judge on the other."""
        import pandas as pd

        from causalms.calibration import conformal, recalibrate, split

        fitted_on, judged_on = split(pairs, share, self.seed)
        lines.append(f"{fitted_on.n} fitted on (share {share:g} of every trial and arm, seed {self.seed}), {judged_on.n} judge")
        found = self.assess(judged_on)
        lines += ["forecasts as they are", _summary(found.results)]
        if recalibrated:
            fit = recalibrate(fitted_on)
            written[recalibrated] = self._recalibrated(fit, pairs.week)
            after = self.assess(fit.apply(judged_on))
            lines += ["recalibrated by arm: mean exp(intercept + slope log m)", _numbers(fit.table), _summary(after.results)]
            renamed = after.results.assign(analysis="calibration after recalibration")
            found = replace(after, results=pd.concat([found.results, renamed], ignore_index=True))
        if conformal_to:
            sets = conformal(fitted_on, conformal_level)
            table = sets.table(self.table, pairs.week, outcome, self.source)
            known = fitted_on.frame["participant_id"].astype(str)
            written[conformal_to] = table.assign(fitted_on=table["participant_id"].astype(str).isin(set(known)))
            lines += [f"conformal sets, at least {conformal_level:.0%} in every arm", _numbers(sets.judge(judged_on, self.level))]
        return found

    def _recalibrated(self, fit: Any, week: float) -> pd.DataFrame:
        """The draws of the judged visit under the recalibrated law, as a draws table of a query of its own."""
        rows = self.table[(self.table["query"] == "interventional") & (self.table["visit_week"] == week)].reset_index(drop=True)
        moved = fit.sampled(rows, self.seed) if "draw" in rows else fit.expected(rows, self.source)
        return moved.assign(query_id=moved["query_id"].astype(str) + _SUFFIX)


_SUFFIX = "-recalibrated"


def _write_record(draws: str, recalibrated: str, share: float, seed: int) -> None:
    """The record of the recalibrated table's query: that of the draws, and what was done to them."""
    from causalms.files import whole_file

    beside = Path(draws).with_suffix(".queries.json")
    records = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
    step = {"recalibration": {"of": Path(draws).name, "by": "arm", "law": "negative binomial", "fit_share": share, "seed": seed}}
    with whole_file(Path(recalibrated).with_suffix(".queries.json")) as file:
        moved = {f"{name}{_SUFFIX}": {**record, **step} for name, record in records.items()}
        file.write_text(json.dumps(moved or step, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_figure_tables(found: Assessment, folder: str) -> None:
    from causalms.files import whole_folder
    from causalms.tables import write_table

    with whole_folder(folder) as beside:
        for name in ("pit", "reliability", "rootogram", "coverage"):
            write_table(getattr(found, name), beside / f"{name}.csv")


def _numbers(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format=lambda value: f"{value:.3f}")


def _summary(results: pd.DataFrame) -> str:
    """One line a group: means, calibration p-values, parts of the CRPS, coverage."""
    from causalms.calibration import summary

    shown = summary(results).drop(columns=["analysis", "lower", "upper", "log score", "p 90%"])
    shown = shown.rename(columns={"patients": "n", "observed / predicted": "obs/pred"})
    width = max(16, *(len(group) for group in shown["group"])) if len(shown) else 16
    lines = [f"{'group':{width}s}" + "".join(f"{name:>11s}" for name in shown.columns[1:])]
    for row in shown.itertuples(index=False):
        n, *numbers = row[1:]
        cells = [f"{n:.0f}", *(f"{value:.3f}" for value in numbers[:-1]), f"{numbers[-1]:.1%}"]
        lines.append(f"{row[0]:{width}s}" + "".join(f"{cell:>11s}" for cell in cells))
    return "\n".join([*lines, "CRPS = MCB (miscalibration) - DSC (discrimination) + UNC (uncertainty)"])
