"""``causalms check``: every problem of a trial folder at once."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.inputs import scan_options
from causalms.cli.main import as_options, say_note
from causalms.cli.paths import InputPath, Verb


@click.command(cls=Verb)
@click.argument("trial", metavar="DIR", type=InputPath())
@scan_options
def command(trial: Path, baseline: str | None, lesions: str | None) -> None:
    """List every problem of the BIDS folder DIR, one line each with its mend: errors first (exit code 1), then warnings.

    Without an error the trial is summed up (exit code 0).

    \b
    Example:
      causalms check my_trial
    """  # noqa: D301
    from causalms.errors import InputError
    from causalms.trials import check_trial, load_trial, summary_table

    problems = check_trial(trial, baseline, lesions)
    for problem in problems:
        click.echo(as_options(str(problem), click.get_current_context().command))
    errors = sum(problem.rank == "error" for problem in problems)
    warned = f"{len(problems) - errors} warning{'s' * (len(problems) - errors != 1)}"
    if errors:
        raise InputError(
            f"{trial}: {errors} error{'s' * (errors > 1)} and {warned}, listed above; mend the errors and check again"
        )
    loaded = load_trial(trial, baseline=baseline, lesions=lesions)
    for note in loaded.notes:
        say_note(note)
    click.echo(summary_table(loaded).to_string(index=False))
    click.echo(f"{trial}: no error, {warned}, listed above" if problems else f"{trial}: no problem found")
