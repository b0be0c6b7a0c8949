"""``python -m geocd``."""

from geocd.cli import main

main(prog_name="geocd")
