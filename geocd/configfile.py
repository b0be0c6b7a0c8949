"""Settings in a TOML file: what may stand in one, and one with everything in it."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from geocd.config import STAGES, RunSettings, Settings, stage_of, typed
from geocd.errors import ConfigError


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read settings from a TOML file: ``name = value``, by the names of :class:`Settings`.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        Flat, of the settings that the file has; each is right by itself.

    Raises
    ------
    ConfigError
        The file cannot be read or is not TOML, a name is unknown, or a value is of the wrong type or cannot
        work. The message has the file, the name, the value and the remedy.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    path = os.fspath(path)
    try:
        given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{path}: cannot be read ({reason}). Name a TOML file.", path=path) from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep nesting
        raise ConfigError(
            f"{path}: not TOML ({error}). Write lines like tile_size = 512; geocd config --show prints all.",
            path=path,
        ) from error
    found = {}
    for name, value in given.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{path}: [{name}]: settings stand at the top of the file, under no heading. Remove it.",
                path=path,
                name=name,
            )
        try:
            kind = STAGES[stage_of(name)]
            found[name] = typed(name, value)
            kind(**{name: found[name]})
        except ConfigError as error:
            if "remedy" in error.details:
                shown = _toml(value)
                message = f"{path}: {name} = {shown}: {error.details['remedy']}"
            elif name in found:  # at odds with another setting, which may be in the file, or given beside it
                continue
            else:
                message = f"{path}: {error}"
            raise ConfigError(message, path=path, name=name, value=value) from error
    return found


def _toml(value: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def write_config(settings: Settings | RunSettings) -> str:
    """Return settings as TOML, each with its help; one that has no value stands in a comment.

    :func:`read_config` reads it back.
    """
    lines = []
    for stage, kind in STAGES.items():
        for field in dataclasses.fields(kind):
            text = field.metadata["help"]
            lines += textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")
            value = getattr(getattr(settings, stage), field.name)
            none = f"# {field.name} = {field.metadata['metavar']}"
            lines += [none if value is None else f"{field.name} = {_toml(value)}", ""]
    return "\n".join(lines).rstrip() + "\n"


__all__ = ["read_config", "write_config"]
