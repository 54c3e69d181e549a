"""``causalms check``: every problem of a trial folder at once."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("trial", metavar="DIR", type=click.Path(path_type=Path))
def command(trial: Path) -> None:
    """List every problem of the BIDS folder DIR, one line each with its mend (exit code 1), or sum it up (exit code 0).

    \b
    Example:
      causalms check my_trial
    """  # noqa: D301
    from causalms.errors import InputError
    from causalms.trials import check_trial, summary_table

    problems = check_trial(trial)
    for problem in problems:
        click.echo(problem)
    if problems:
        raise InputError(f"{trial}: {len(problems)} problem{'s' * (len(problems) > 1)}, listed above; mend them and check again")
    click.echo(summary_table(trial).to_string(index=False))
    click.echo(f"{trial}: no problem found")
