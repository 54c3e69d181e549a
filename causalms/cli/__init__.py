"""The verbs of the command line, one module each: arguments and printing only, the work is in the rooms."""

from __future__ import annotations


def run() -> None:
    """Run the command line on the arguments of the process."""
    from causalms.cli.main import main

    main()
