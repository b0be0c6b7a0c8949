"""What reaches the console: every text on its way there, without control characters and credentials."""

from __future__ import annotations

import logging
import re

import click

from geocd.location import public_text

#: Characters that move the cursor of a terminal, change its colour or the direction of its text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return a text with control and undecodable characters escaped, as in odd names of files."""
    text = _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)
    return text.encode("utf-8", "backslashreplace").decode()


def shown(text: str) -> str:
    """Return a text as a terminal and a log may have it: printable, URLs without credentials."""
    return printable(public_text(text))


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text to stdout, or to stderr; the only way by which commands print."""
    click.echo(shown(str(text)), err=err, nl=nl)


class Formatter(logging.Formatter):
    """Formats records of the log, of all libraries, as :func:`echo` prints texts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record, with its traceback."""
        return shown(super().format(record))


__all__ = ["Formatter", "echo", "printable", "shown"]
