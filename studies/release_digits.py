"""The digits that ``causalms validate`` holds a machine to, written anew: run it when a number moves on purpose.

python -m studies.release_digits
"""

from __future__ import annotations

from pathlib import Path

import click
import pandas as pd

import causalms
from causalms.tables import read_table, write_table
from causalms.validation import release_numbers

PLACE = Path(causalms.__file__).parent / "validation" / "data" / "release_digits.csv"


@click.command()
def main() -> None:
    """Write release_digits.csv and name the rows that moved by more than 1e-9."""
    before = read_table(PLACE).set_index("id")
    rows = [(name, *digits) for name, digits in release_numbers()]
    table = pd.DataFrame(rows, columns=["id", "first", "second", "numbers"])
    for name, first, *_ in rows:
        old = before["first"].get(name)
        if old is None or abs(first - old) > 1e-9 * max(1.0, abs(old)):
            click.echo(f"{name}: {old} -> {first}")
    write_table(table, PLACE)
    click.echo(f"{len(rows)} rows in {PLACE.name}")


if __name__ == "__main__":
    main()
