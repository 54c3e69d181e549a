"""``causalms controls``: questions whose answer is known to be no effect, put to a model and to a trial's analysis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.cohort import resample_option
from causalms.cli.inputs import ScanOptions, grouped, scan_options, text_options, trial_of
from causalms.cli.paths import InputPath, OutputPath, Verb
from causalms.tables import fixed, p_value_text, write_table

if TYPE_CHECKING:
    from causalms.causal import CausalModel


@dataclass(frozen=True)
class _Options:
    """What is asked, and of which model."""

    reference: str
    week: float
    model: str
    scrambles: int
    scanned: int
    seed: int
    workers: int
    device: str

    def model_and_trial(self, trial: Any, resample: bool) -> tuple[CausalModel, Any]:
        """The model, and the trial on its grid."""
        from causalms.causal import CausalModel

        if self.model == "counts":
            return CausalModel.fit_counts(trial, int(self.week)), trial
        model = CausalModel.load(self.model, self.device)
        if resample:
            from causalms.trials import resample_trial

            trial = resample_trial(trial, model.mechanism.generator.space)  # type: ignore[attr-defined]
        return model, trial


@click.command(cls=Verb)
@click.argument("source", metavar="DIR", type=InputPath())
@click.option("--reference", required=True, metavar="ARM", help="The arm to compare with.")
@click.option("--week", default=48.0, show_default=True, help="Visit of the observed counts.")
@click.option(
    "--model",
    default="reference",
    type=InputPath(str, or_name=True),
    show_default=True,
    help="A checkpoint, 'reference', or 'counts' (a regression on the table of DIR, without images).",
)
@click.option("--scrambles", default=40, show_default=True, type=click.IntRange(min=1), help="How often arms are dealt out anew.")
@click.option(
    "--scanned", default=120, show_default=True, type=click.IntRange(min=20), help="Patients of whom scans are read again."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Key of all that is dealt and drawn.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Processes; the numbers stay the same.")
@click.option(
    "--device", default="cpu", show_default=True, type=click.Choice(["auto", "cpu", "cuda"]), help="Where the model runs."
)
@click.option("--out", type=OutputPath(), help="Results table (.csv, .tsv or .parquet), which `causalms report` shows.")
@resample_option
@scan_options
@text_options
@grouped(asked=_Options, scans=ScanOptions)
def command(source: Path, out: Path | None, asked: _Options, scans: ScanOptions, resample: bool) -> None:
    """Negative controls of a model and of the analysis of the trial DIR: all must come out null.

    Scans of other patients must add nothing to the forecast (the patient's own must). Arms dealt out anew may show an effect in
    5% of tests, and change no simulated number. Enhancing lesions at baseline, and the forecast under one arm, must not differ
    between the arms that were given afterwards. Half of an arm's patients under another name, and the arm itself under another
    name, have no effect. Where the other trials gave both arms, a regression on them must predict the trial's rate ratio
    (refutation).

    \b
    Example:
      causalms controls trial --reference placebo --week 96 --out controls.csv
      causalms controls trial/participants.tsv --model counts --reference placebo
      causalms report report.html controls.csv
    """  # noqa: D301
    from causalms.causal import Running, negative_controls

    model, trial = asked.model_and_trial(trial_of(source, scans), resample)
    running = Running(asked.workers, progress=True)
    results = negative_controls(model, trial, asked.reference, asked.week, asked.scrambles, asked.seed, running, asked.scanned)
    for name, rows in results.groupby("analysis", sort=False):
        click.echo(f"{name}")
        for row in rows.to_dict("records"):
            who = " ".join(str(row[part]) for part in ("arm", "population") if isinstance(row[part], str))
            known = row["lower"] == row["lower"]
            interval = f" ({fixed(row['lower'], 2)} to {fixed(row['upper'], 2)})" if known else ""
            p = f", p {p_value_text(row['p_value'])}" if row["p_value"] == row["p_value"] else ""
            click.echo(
                f"  {who + ': ' if who else ''}{row['measure']} {fixed(row['estimate'], 3)}{interval}{p}; {row['estimand']}"
            )
    failed = int(results["estimand"].str.contains("NOT NULL").sum())
    tested = int(results["estimand"].str.contains(": null|NOT NULL").sum())
    click.echo(f"{tested - failed} of {tested} negative controls are null" + (f": {failed} NOT NULL" if failed else ""))
    if out is not None:
        write_table(results, out)
        click.echo(f"results written to {out}")
