"""``causalms benchmark``: a model scored on the frozen phantom, beside those that were scored before."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from causalms.cli.paths import InputPath, OutputPath, Verb
from causalms.errors import InputError, UsageError

if TYPE_CHECKING:
    import pandas as pd

BUILT_IN = ("arm-means", "regression", "reference")


@click.command(cls=Verb)
@click.argument("entrant", metavar="ENTRANT", required=False)
@click.option("--checkpoint", type=InputPath(str), help="Score this generator in place of ENTRANT.")
@click.option("--training", type=click.IntRange(min=60), help="Only the first patients of the training trial: a rehearsal.")
@click.option("--held-out", type=click.IntRange(min=10), help="Only the first patients of the test trial.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of sampled masks and the bootstrap.")
@click.option("--out", type=OutputPath(), help="The entrant's scores (.csv, .tsv or .parquet).")
def command(
    entrant: str | None, checkpoint: str | None, training: int | None, held_out: int | None, seed: int, out: Path | None
) -> None:
    """Score ENTRANT on the frozen phantom and print it beside the committed leaderboard.

    ENTRANT is a Python file that defines a class Model with the methods fit, counts and, if it can, expected_map and masks (see
    causalms.benchmark.Entrant), or one of arm-means, regression, reference. Without one the leaderboard is printed.
    600 patients are simulated to learn from and 200 to be scored on; their tables, masks and true rates are verified by SHA-256.

    \b
    Example:
      causalms benchmark
      causalms benchmark my_model.py --held-out 40
      causalms benchmark regression --out regression.csv
    """  # noqa: D301
    import pandas as pd

    from causalms.benchmark import frozen_trials, leaderboard, score_entrant, version
    from causalms.tables import write_table

    board = leaderboard()
    click.echo(version())
    if entrant is None and checkpoint is None:
        click.echo(_side_by_side(board))
        return
    if entrant is not None and checkpoint is not None:
        raise UsageError("ENTRANT and --checkpoint are two models; give one")
    model = _model(entrant, checkpoint)
    trials = frozen_trials(training, held_out)
    scores = score_entrant(model, trials, seed, lambda step: click.echo(f"{model.name}: {step}", err=True))
    if out is not None:
        write_table(scores, out)
    click.echo(_side_by_side(pd.concat([scores, board[board["entrant"] != model.name]], ignore_index=True)))


def _model(entrant: str | None, checkpoint: str | None) -> Any:
    """The model that is named."""
    from causalms.benchmark import ArmMeans, Checkpoint, ColumnRegression

    if checkpoint is not None:
        return Checkpoint(checkpoint, Path(checkpoint).stem)
    if entrant in BUILT_IN:
        return {"arm-means": ArmMeans, "regression": ColumnRegression, "reference": Checkpoint}[str(entrant)]()
    file = Path(str(entrant))
    if not file.is_file():
        raise UsageError(f"{entrant}: no such file, and none of {', '.join(BUILT_IN)}")
    spec = importlib.util.spec_from_file_location("entrant", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file}: not a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lacking = [name for name in ("name", "fit", "counts") if not hasattr(getattr(module, "Model", None), name)]
    if lacking:
        raise InputError(f"{file}: no class Model with {', '.join(lacking)}; see `causalms benchmark --help`")
    return module.Model()


def _side_by_side(scores: pd.DataFrame) -> str:
    """One block an entrant's measure: measures down, entrants across."""
    from causalms.tables import significant

    def text(row: pd.Series) -> str:
        value, lower, upper = (significant(row[name] + 0.0, 3) for name in ("estimate", "lower", "upper"))  # -0 is 0
        return value if row.isna()["lower"] else f"{value} ({lower} to {upper})"

    names, lines = list(dict.fromkeys(scores["entrant"])), []
    for measure, rows in scores.groupby("measure", sort=False):
        lines.append(str(measure))
        own = rows.dropna(subset="estimate").set_index("entrant")
        lines += [f"  {name:<34} {text(own.loc[name])}  n {own.loc[name, 'patients']:.0f}" for name in names if name in own.index]
    return "\n".join(lines)
