"""Signatures of functions that take settings as ``**settings``: every one spelled out, with its help.

Editors, ``help()`` and notebooks complete from them. ``python tests/stub.py`` writes the same into
``geocd/__init__.pyi``, which type checkers read.
"""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable
from typing import TypeVar

from geocd.spelling import as_arguments
from geocd.stages import STAGES

Function = TypeVar("Function", bound=Callable[..., object])
#: Stands in a docstring where the settings are to be explained.
PLACE = "{settings}"


def spelled(
    *stages: str, more: tuple[inspect.Parameter, ...] = (), only: tuple[str, ...] = ()
) -> Callable[[Function], Function]:
    """Return a decorator that spells ``**`` of a function out as the settings of some stages.

    Parameters
    ----------
    *stages : str
        Stages of the settings, in order. Settings that the function takes by itself stay as it has them.
    more : tuple of inspect.Parameter
        Further arguments that the function takes by ``**``.
    only : tuple of str
        Settings that it takes; default: all of the stages.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        fields = [
            field
            for stage in stages
            for field in dataclasses.fields(STAGES[stage])
            if field.name not in signature.parameters and (not only or field.name in only)
        ]
        settings = [keyword(field.name, field.default, str(field.type)) for field in fields]
        function.__signature__ = signature.replace(parameters=[*own, *more, *settings])  # type: ignore[attr-defined]
        help_texts = "\n".join(map(_entry, fields))
        document = inspect.cleandoc(function.__doc__ or "")
        function.__doc__ = document.replace(PLACE, help_texts)
        return function

    return decorate


def keyword(name: str, default: object, annotation: str) -> inspect.Parameter:
    """Return an argument that is passed by name."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _entry(field: dataclasses.Field[object]) -> str:
    """Return a setting in the form of numpydoc."""
    text = textwrap.fill(as_arguments(field.metadata["help"]), 100)
    return f"{field.name} : {field.type}, optional\n{textwrap.indent(text, '    ')}"


__all__ = ["keyword", "spelled"]
