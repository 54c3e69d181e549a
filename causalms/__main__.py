"""``python -m causalms``."""

from causalms.cli.main import main

main()
