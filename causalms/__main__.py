"""``python -m causalms``."""

from causalms.cli import run

run()
