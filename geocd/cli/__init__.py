"""The command line: options in, exit codes out."""

from __future__ import annotations

from geocd.cli.program import main

__all__ = ["main"]
