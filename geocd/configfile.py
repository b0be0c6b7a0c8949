"""Settings in TOML files: read one, and write one with all settings."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import textwrap
from pathlib import Path

from geocd.coercion import refuse
from geocd.config import STAGES, RunSettings, Settings, stage_of, typed
from geocd.errors import ConfigError


def read_config(path: str | os.PathLike[str]) -> dict[str, object]:
    """Read settings from a TOML file: ``name = value``, by the names of :class:`Settings`.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        The settings of the file by name; each of them is valid by itself.

    Raises
    ------
    ConfigError
        The file cannot be read or is not TOML, a name is unknown, or a value is of the wrong type or not
        allowed. The message has the file, the name, the value and the remedy.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    path = os.fspath(path)
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{path}: cannot be read ({reason}). Name a TOML file.", path=path) from error
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep nesting
        raise ConfigError(
            f"{path}: not TOML ({error}). Write lines like tile_size = 512; geocd config prints all.",
            path=path,
        ) from error
    settings: dict[str, object] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{path}: [{name}]: settings belong at the top level of the file. Remove the heading.",
                path=path,
                name=name,
            )
        try:
            kind = STAGES[stage_of(name)]
            settings[name] = typed(name, value)
            if name == "backbone" and str(value).endswith(".py"):
                remedy = "a file of settings does not decide what is run. Say --backbone FILE.py."
                refuse(name, value, remedy)
            kind(**{name: settings[name]})
        except ConfigError as error:
            if "remedy" in error.details:
                shown = _toml(value)
                message = f"{path}: {name} = {shown}: {error.details['remedy']}"
            elif name in settings:  # conflicts with another setting, which the file or an option may change
                continue
            else:
                message = f"{path}: {error}"
            raise ConfigError(message, path=path, name=name, value=value) from error
    return settings


def _toml(value: object) -> str:
    """Return a value in TOML syntax."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value)


def write_config(settings: Settings | RunSettings) -> str:
    """Return settings as TOML, each with its help as a comment; one without a value becomes a comment, too.

    :func:`read_config` reads the result.
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
