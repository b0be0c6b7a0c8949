"""Options in messages: written as on the command line, and spelled as arguments where Python calls.

Errors and findings name options as the command line has them, ``--align shift``. What a user of Python gets
to see is rewritten at the edge, in :func:`geocd.detect` and the like: ``align='shift'``. The QGIS plugin puts
the labels of its dialogs there.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

from geocd.config import STAGES
from geocd.errors import GeocdError
from geocd.findings import Finding

#: Arguments of the functions beside the settings.
_ARGUMENTS = ("output", "overwrite", "resume", "jobs", "mem_limit")
_NAMES = {field.name for stage in STAGES.values() for field in dataclasses.fields(stage)} | set(_ARGUMENTS)
_FLAGS = {"overwrite", "resume", "uncertainty", "lasting_band"}
#: Words that are values after an option, and not the next word of the sentence.
_WORDS = (
    "none|grid|shift|default|reference|tile|scene|random|imagenet|embedded|auto|cpu|cuda|deep|cva|irmad|nan|"
    "water|cloud|vegetation|embedding|built|scl|qa_pixel|fmask|udm2?|clear|probability|[A-Z]{3,}"
)
_NUMBER = r"-?\d+(?:\.\d+)?"
_RANGES = r"\d+(?:\.\.\d+)?(?:,\d+(?:\.\.\d+)?)+|\d+\.\.\d+"
_VALUE = rf"(?:{_RANGES}|\w+(?:,\w+)+|cuda:\d+|{_NUMBER}|(?:{_WORDS})\b|\w+(?=:))"
#: Commands of other programs have options of their own.
_COMMAND = r"\b(?:rio|gdal\w+|dask|pip) [a-z].*?(?=[;,)](?:\s|$)|\.(?:\s|$)|$)"
_OPTION = re.compile(rf"(?P<command>{_COMMAND})|(?<![\w-])--(?P<name>[a-z][a-z-]*)(?: (?P<value>{_VALUE}))?")

_command_line = contextvars.ContextVar("geocd_command_line", default=False)


@contextlib.contextmanager
def command_line() -> Iterator[None]:
    """Leave options inside this context as the command line has them."""
    token = _command_line.set(True)
    try:
        yield
    finally:
        _command_line.reset(token)


def as_arguments(text: str, renamed: Mapping[str, str] | None = None) -> str:
    """Return a message with options spelled as arguments of Python; as it is on the command line.

    Parameters
    ----------
    text : str
    renamed : mapping of str, optional
        Arguments that have another name than the option.
    """
    if _command_line.get():
        return text

    def argument(match: re.Match[str]) -> str:
        name = (match["name"] or "").replace("-", "_")
        if match["command"] or name not in _NAMES:
            return match[0]
        spelled = (renamed or {}).get(name, name)
        if name in _FLAGS:
            return f"{spelled}=True" + (f" {match['value']}" if match["value"] else "")
        return f"{spelled}={'' if match['value'] is None else _literal(name, match['value'])}"

    return _OPTION.sub(argument, text)


def _literal(name: str, value: str) -> str:
    """Return the value of an option as Python writes it."""
    if name not in ("bidx", "ignore"):
        return value if re.fullmatch(_NUMBER, value) else repr(value)
    parts: list[int | str] = []
    for part in value.split(","):
        first, dots, last = part.partition("..")
        if dots:
            parts += range(int(first), int(last) + 1)
        else:
            parts.append(int(part) if part.isdecimal() else part)
    return repr(tuple(parts))


@contextlib.contextmanager
def python_errors(**renamed: str) -> Iterator[None]:
    """Spell options in the errors of this context as arguments of Python.

    Parameters
    ----------
    **renamed : str
        Arguments that have another name than the option.
    """
    try:
        yield
    except GeocdError as error:
        error.message = as_arguments(error.message, renamed)
        error.args = (error.message, *error.args[1:])
        raise


def python_findings(findings: Sequence[Finding], renamed: Mapping[str, str] | None = None) -> list[Finding]:
    """Return findings with options spelled as arguments of Python."""
    return [
        dataclasses.replace(
            finding, text=as_arguments(finding.text, renamed), remedy=as_arguments(finding.remedy, renamed)
        )
        for finding in findings
    ]


__all__ = ["as_arguments", "command_line", "python_errors", "python_findings"]
