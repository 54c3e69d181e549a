"""What the studies share: the arms of the pooled designs, and options of the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from causalms.phantom import load_design

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

#: Arms of the pooled designs, in order of rising efficacy.
ARMS = load_design("pooled").arms

out_option = click.option("--out", type=click.Path(path_type=Path), required=True)


def seed_option(default: int) -> Option:
    """``--seed``, with the default that the committed results were made with."""
    return click.option("--seed", default=default, show_default=True)


def workers_option(default: int = 1) -> Option:
    """``--workers``: processes; numbers stay the same."""
    return click.option("--workers", default=default, show_default=True)


def model_option(default: str = "reference") -> Option:
    """``--model``: a checkpoint, ``reference``, or ``counts`` where a study takes it."""
    return click.option("--model", default=default, show_default=True, help="counts, reference or a checkpoint.")
