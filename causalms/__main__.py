"""``python -m causalms``."""

from causalms.cli import main

main()
