"""``causalms validate``: checks on this machine, with a protocol."""

from __future__ import annotations

from pathlib import Path

import click

from causalms.cli.paths import InputPath, OutputPath, Verb
from causalms.errors import RefusalError
from causalms.tables import fixed


@click.command(cls=Verb)
@click.option("--plan", type=InputPath(), help="Your own checks (YAML).")
@click.option(
    "--out",
    type=OutputPath((".html", ".docx"), what="protocols are written"),
    multiple=True,
    help="Protocol (.html or .docx); may be given again.",
)
@click.option("--quick", is_flag=True, help="Installation, R's digits and your plan alone.")
def command(plan: Path | None, out: tuple[Path, ...], quick: bool) -> None:
    """Check this installation: packages, R's digits, the digits of the release, the examples of every function, and your plan.

    Each check has a requirement, a test and a result. Exit code 1 if one fails. A plan is a list of checks with id, requirement,
    arguments (of an analysis, with its table) and expect (columns of the results).

    \b
    Example
      causalms validate --out validation.html --out validation.docx
      causalms validate --plan plan.yaml --quick
    """  # noqa: D301
    from causalms.validation import validate, write_protocol

    parts = ("installation", "R") if quick else ("installation", "R", "release", "examples")
    validation = validate(plan, parts=parts)
    for part, row in validation.counts.iterrows():
        click.echo(f"{part}: {row['passed']} of {row['checks']} passed")
    for check in validation.failed:
        click.echo(f"FAILED {check.id}: {check.requirement}; expected {check.expected}, found {check.found}")
    click.echo(f"{validation.machine}; {fixed(validation.seconds, 0)} seconds")
    for path in out:
        click.echo(f"protocol written to {write_protocol(validation, path)}")
    if validation.failed:
        raise RefusalError(
            f"{len(validation.failed)} of {len(validation.checks)} checks failed; this installation is not validated"
        )
