"""``python -m geocd``."""

from geocd.cli.program import main

main(prog_name="geocd")
