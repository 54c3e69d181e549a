"""``causalms-bids BIDS OUT participant|group``: forecasts called as BIDS apps are."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from causalms import __version__
from causalms.cli.inputs import grouped
from causalms.cli.main import main
from causalms.errors import UsageError


@dataclass(frozen=True)
class _Forecast:
    """What is forecast, and by which model."""

    arms: tuple[str, ...]
    week: float
    draws: int
    model: str
    seed: int

    def options(self) -> list[str]:
        """As options of ``causalms forecast``."""
        single = {"--week": self.week, "--draws": self.draws, "--model": self.model, "--seed": self.seed}
        return [str(part) for pair in [*single.items(), *(("--arm", arm) for arm in self.arms)] for part in pair]


@dataclass(frozen=True)
class _Patients:
    """Whose scans are read, and which."""

    labels: tuple[str, ...]
    session: str | None
    lesions: str | None

    def options(self) -> list[str]:
        """As options of ``causalms forecast``."""
        names = [label if label.startswith("sub-") else f"sub-{label}" for label in self.labels]
        pairs = [("--baseline", self.session), ("--lesions", self.lesions), *(("--participant", name) for name in names)]
        return [part for option, value in pairs if value is not None for part in (option, value)]


_LABELS, _POSITIONAL = ("--participant-label", "--participant_label"), 3


class _BidsApp(click.Command):
    """A command whose ``--participant-label 01 02 03`` takes several words, once its three arguments stand before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write the option before each of its words, as click wants it."""
        words: list[str] = []
        option, alone = "", 0
        for number, word in enumerate(args):
            if word.startswith("-"):
                option = word
            elif not option or (alone < _POSITIONAL and args[number - 1] != option):
                alone += 1
            elif option in _LABELS and args[number - 1] != option:
                words.append(option)
            words.append(word)
        return super().parse_args(ctx, words)


@click.command(cls=_BidsApp, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("bids_dir", type=click.Path(path_type=Path))
@click.argument("output_dir", type=click.Path(path_type=Path))
@click.argument("analysis_level", type=click.Choice(["participant", "group"]))
@click.option("--participant-label", "--participant_label", "labels", multiple=True, help="One or several, with or without sub-.")
@click.option("--session", "--session-label", "session", help="Session of the baseline scans, with or without ses-.")
@click.option(
    "--n-cpus",
    "--n_cpus",
    "--nprocs",
    "--nthreads",
    "cpus",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Processes.",
)
@click.option(
    "-w",
    "--work",
    "--work-dir",
    "work",
    type=click.Path(path_type=Path),
    help="Folder of each participant's forecasts until `group`.",
)
@click.option("--arm", "arms", multiple=True, help="Repeat for several.  [default: every arm of the model]")
@click.option("--week", default=48.0, show_default=True, help="Follow-up week.")
@click.option("--draws", default=0, show_default=True, type=click.IntRange(min=0), help="Sampled masks an arm.")
@click.option("--model", default="reference", show_default=True, help="A checkpoint, or the one that ships.")
@click.option("--lesions", metavar="DIR|PATTERN", help="Baseline lesion masks that lie elsewhere.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0))
@click.version_option(__version__, prog_name="causalms-bids")
@grouped(forecast=_Forecast, patients=_Patients)
def app(
    bids_dir: Path, output_dir: Path, analysis_level: str, forecast: _Forecast, patients: _Patients, cpus: int, work: Path | None
) -> None:
    """Forecast new and enlarging T2 lesions of the participants of BIDS_DIR into OUTPUT_DIR. Not for clinical use.

    Level participant forecasts each participant, wherever the scheduler runs it; level group writes OUTPUT_DIR, a BIDS
    derivative of everybody, from what is finished, and forecasts who is left.

    \b
    Example:
      causalms-bids study forecasts participant --participant-label 01 02 --work work
      causalms-bids study forecasts group --work work
    """  # noqa: D301
    kept = work if work is not None else output_dir.with_name(f"{output_dir.name}.parts")
    options = [*forecast.options(), *patients.options(), "--workers", str(cpus)]
    options += ["--parts", str(kept), *(["--keep-only"] if analysis_level == "participant" else [])]
    main(["forecast", str(bids_dir), "--out", str(output_dir), *options])


def run() -> None:
    """Entry point; an error of usage is one line and exit code 2, as of the other command."""
    try:
        app.main(prog_name="causalms-bids", standalone_mode=False)
    except (click.UsageError, UsageError) as error:
        what = error.format_message() if isinstance(error, click.UsageError) else str(error)
        sys.stderr.write(f"error: {what}; see 'causalms-bids --help'\n")
        sys.exit(2)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
