"""Values of settings: brought into their types, and refused with the option, the value and a remedy."""

from __future__ import annotations

import contextlib
import math
import numbers
import os
import re
import types
import typing
from typing import Any, Literal, NoReturn, get_args, get_origin

from geocd.errors import ConfigError


def option(name: str) -> str:
    """Return how the command line spells a setting."""
    return "--" + name.replace("_", "-")


def require(condition: bool, name: str, value: object, remedy: str) -> None:
    """Raise :class:`ConfigError` for a value of a setting unless a condition holds."""
    if not condition:
        refuse(name, value, remedy)


def refuse(name: str, value: object, remedy: str) -> NoReturn:
    """Raise :class:`ConfigError` for a value of a setting, with what to do about it."""
    raise ConfigError(f"{option(name)} {value}: {remedy}", name=name, value=value, remedy=remedy)


def require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise :class:`ConfigError` unless the value of a setting is one of its choices."""
    require(value in choices, name, value, f"must be one of {', '.join(choices)}.")


def coerced(name: str, hint: Any, value: object) -> Any:
    """Return the value of a setting in its own type: a list as a tuple, a whole number as a float.

    Parameters
    ----------
    name : str
        Of the setting, for the message.
    hint : type
        Its type: bool, int, float, str, a Literal, a tuple of these, or one of these and None.
    value : object
        A JSON or TOML value.

    Raises
    ------
    ConfigError
        The value is of another type.
    """
    if get_origin(hint) in (types.UnionType, typing.Union):
        if value is None:
            return None
        options = [kind for kind in get_args(hint) if kind is not type(None)]
        choices = next((get_args(kind) for kind in options[1:] if get_origin(kind) is Literal), ())
        if isinstance(value, str) and value.lower() in choices:
            return value.lower()
        hint = options[0]
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        kinds = get_args(item) if get_origin(item) is types.UnionType else (item,)
        if not (
            isinstance(value, list | tuple | range)
            and all(any(_is(kind, element) for kind in kinds) for element in value)
        ):
            words = " or ".join(_WORDS[_plain(kind)] for kind in kinds)
            refuse(name, repr(value), f"must be a list, and each in it {words}.")
        return tuple(next(_plain(kind) for kind in kinds if _is(kind, element))(element) for element in value)
    if hint is float and isinstance(value, str) and value.lower() == "nan":  # as as_dict has it
        return math.nan
    require(_is(hint, value), name, repr(value), f"must be {_WORDS[_plain(hint)]}.")
    if hint is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    try:
        return _plain(hint)(value)
    except OverflowError:  # a whole number of hundreds of digits
        refuse(name, f"{str(value)[:20]}...", "must be a smaller number.")


def parsed(hint: object, text: str) -> object:
    """Return the JSON value of a setting that is written as text, which :func:`coerced` checks.

    ``auto`` is what an open number is without a value; elements of lists stand between commas, semicolons or
    blanks. Text that is no value of the type is returned as it is.
    """
    if get_origin(hint) in (types.UnionType, typing.Union):
        hint, *others = (kind for kind in get_args(hint) if kind is not type(None))
        if hint in (int, float) and text.lower() == "auto" and not others:
            return None
    if get_origin(hint) is tuple:
        return [int(part) if part.isdecimal() else part for part in re.split(r"[\s,;]+", text) if part]
    if hint is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(
            text.lower(), text
        )
    if hint in (int, float):
        with contextlib.suppress(ValueError):
            return int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    return text


#: What a type is called in a message.
_WORDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _plain(hint: Any) -> type[Any]:
    plain: type[Any] = str if get_origin(hint) is Literal else hint
    return plain


def _is(hint: Any, value: object) -> bool:
    if _plain(hint) is str:
        return isinstance(value, str) or (hint is str and isinstance(value, os.PathLike))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, {int: numbers.Integral, float: numbers.Real, bool: bool}[hint])


__all__ = ["coerced", "option", "parsed", "refuse", "require", "require_choice"]
