"""``causalms sample-size``: patients for a rate ratio, with and without the generator's prognosis; schedules of scans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from causalms.cli.inputs import grouped
from causalms.cli.paths import Verb
from causalms.effects import NULL_VARIANCES, Planning, Schedule, prospective_power, sample_size, scan_schedules, text_columns
from causalms.errors import UsageError
from causalms.tables import fixed, name_of, percentage


@dataclass(frozen=True)
class _Counts:
    """What is assumed of the counts, and how the trial is laid out."""

    rate: float
    ratio: float
    dispersion: float
    level: float
    allocation: float


@dataclass(frozen=True)
class _Money:
    """What there is to spend, and what scans cost."""

    budget: float | None
    cost_patient: float | None
    cost_scan: float | None
    weeks: tuple[str, ...]

    def schedule(self) -> Schedule | None:
        """Candidate schedules, where a budget is named."""
        if self.budget is None:
            if self.cost_patient is not None or self.cost_scan is not None or self.weeks:
                raise UsageError("--cost-patient, --cost-scan and --weeks go with --budget; name it or leave them out")
            return None
        if self.cost_patient is None or self.cost_scan is None:
            raise UsageError("--budget needs what it buys: --cost-patient and --cost-scan")
        costs: dict[str, Any] = {"budget": self.budget, "cost_patient": self.cost_patient, "cost_scan": self.cost_scan}
        if not self.weeks:
            return Schedule(**costs)
        try:
            weeks = tuple(tuple(float(week) for week in text.split(",")) for text in self.weeks)
        except ValueError as error:
            raise UsageError(f"--weeks: found {' '.join(self.weeks)!r}, expected weeks such as 24,48") from error
        return Schedule(weeks=weeks, **costs)


@click.command(cls=Verb)
@click.option("--rate", type=float, required=True, help="Events a year in the reference arm.")
@click.option("--ratio", type=float, required=True, help="True rate ratio.")
@click.option("--dispersion", type=float, required=True, help="Negative-binomial alpha: variance = mean + alpha mean^2.")
@click.option("--years", type=float, default=1.0, show_default=True, help="Planned time of a patient.")
@click.option("--power", type=float, default=0.9, show_default=True)
@click.option("--level", type=float, default=0.95, show_default=True, help="The claim is one-sided at half of what is left.")
@click.option(
    "--allocation", type=float, default=1.0, show_default=True, help="Patients in the other arm for one in the reference."
)
@click.option(
    "--twin", type=float, multiple=True, help="Variance that a prognosis leaves (1 - rho^2), such as 0.7; may be given again."
)
@click.option("--margin", type=float, default=1.0, show_default=True, help="Claim a ratio below this; above 1: non-inferiority.")
@click.option(
    "--dropout", type=float, default=0.0, show_default=True, help="Share that leaves before the end (--budget: in a year)."
)
@click.option("--small-sample", is_flag=True, help="t laws in place of the normal.")
@click.option(
    "--null-variance", type=click.Choice(NULL_VARIANCES), default="true", show_default=True, help="Rates under the null."
)
@click.option("--patients", type=int, help="Print the power of so many patients in the reference arm instead.")
@click.option("--budget", type=float, help="Compare schedules of scans that so much money pays for.")
@click.option("--cost-patient", type=float, help="With --budget: one patient without scans.")
@click.option("--cost-scan", type=float, help="With --budget: one scan.")
@click.option("--weeks", multiple=True, help="With --budget: a schedule such as 24,48; may be given again.")
@grouped(counts=_Counts, planning=Planning, money=_Money)
def command(
    counts: _Counts, years: float, power: float, twin: tuple[float, ...], planning: Planning, patients: int | None, money: _Money
) -> None:
    """Patients for a rate ratio of counts, by the formula of Zhu and Lakkis (2014), with and without a prognosis.

    --twin is the variance ratio that `causalms effects --prognostic` prints for an earlier trial; shrink it towards 1.

    \b
    Example
      causalms sample-size --rate 3 --ratio 0.5 --dispersion 2 --twin 0.7
      causalms sample-size --rate 3 --ratio 1 --dispersion 2 --margin 1.25 --dropout 0.1 --small-sample
      causalms sample-size --rate 3 --ratio 0.6 --dispersion 2 --dropout 0.15 --budget 1e6 --cost-patient 4000 --cost-scan 800
    """  # noqa: D301
    schedule = money.schedule()
    claim = "superiority" if planning.margin == 1 else "non-inferiority" if planning.margin > 1 else "superiority by a margin"
    lines = [
        f"claim      {claim}: rate ratio below {name_of(planning.margin)}, one-sided at {percentage((1 - counts.level) / 2, 2)}, "
        f"when it is {name_of(counts.ratio)}",
        f"counts     {name_of(counts.rate)} a year in the reference arm, dispersion {name_of(counts.dispersion)}",
    ]
    if schedule is None:
        lines += _sizes(counts, years, power, twin, planning, patients)
    else:
        if patients is not None:
            raise UsageError("--patients and --budget both say how many patients there are; give one of them")
        lines += _schedules(counts, twin, planning, schedule)
    click.echo("\n".join(lines))


def _prognoses(twin: tuple[float, ...]) -> list[tuple[str, float]]:
    return [("no prognosis", 1.0), *((f"prognosis that leaves {name_of(left)}", left) for left in twin)]


def _sizes(
    counts: _Counts, years: float, power: float, twin: tuple[float, ...], planning: Planning, patients: int | None
) -> list[str]:
    rows = [["", "reference", "other", "together", "saved", "power"]]
    together = 0
    for name, left in _prognoses(twin):
        common = vars(counts) | {"exposure_years": years, "variance_ratio": left, "planning": planning}
        given = None if patients is None else (patients, int(-(-patients * counts.allocation // 1)))
        size = given or sample_size(power=power, **common)
        had = prospective_power(size[0], **common)
        together = together or sum(size)
        saved = "-" if patients is not None or left == 1 else percentage(1 - sum(size) / together, 1)
        rows.append([name, str(size[0]), str(size[1]), str(sum(size)), saved, percentage(had, 1)])
    lost = f", {percentage(planning.dropout)} leave before the end" if planning.dropout else ""
    law = "t" if planning.small_sample else "normal"
    return [
        f"time       {name_of(years)} years{lost}",
        f"variance   null: {planning.null_variance} rates; {law} laws",
        "",
        *text_columns(rows),
    ]


def _schedules(counts: _Counts, twin: tuple[float, ...], planning: Planning, schedule: Schedule) -> list[str]:
    lines = [f"budget     {name_of(schedule.budget)}; {percentage(planning.dropout)} of the patients leave in a year"]
    for name, left in _prognoses(twin):
        table = scan_schedules(schedule, variance_ratio=left, planning=planning, **vars(counts))
        rows = [[f"weeks of scans, {name}", "patients", "years observed", "scans a patient", "power"]]
        for row in table.to_dict("records"):
            numbers = fixed(row["observed_years"], 2), fixed(row["scans"], 1), percentage(row["power"], 1)
            rows.append([row["weeks"], str(row["patients"]), *numbers])
        lines += ["", *text_columns(rows)]
    return lines
