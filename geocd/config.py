"""All settings of a run: as the user gave them, and as a run computes with them, all decided.

:mod:`geocd.stages` has each setting, once; the command line makes its options from them. :class:`Settings`
are what the user gave and may leave things open; :class:`RunSettings` are what a run computes with, and go
into the outputs. This is also the only codec of settings: :meth:`Settings.from_flat` and ``as_dict``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import typing
from collections.abc import Mapping
from typing import Any

from geocd.coercion import coerced, parsed, require
from geocd.errors import ConfigError
from geocd.location import Location
from geocd.presets import CLASSICAL_OVERLAP, PRESETS
from geocd.stages import (
    DECISION,
    NO_MASK,
    OTHER_DATES,
    PATHS,
    RASTERS,
    STAGES,
    Align,
    CloudChoice,
    Focus,
    Ignorable,
    Kind,
    Method,
    MethodSettings,
    Nodata,
    PolygonSettings,
    ReadSettings,
    RunMethodSettings,
    RunTilingSettings,
    TilingSettings,
    check_masks,
    check_tile_size,
    numbered,
)

if typing.TYPE_CHECKING:
    from _typeshed import DataclassInstance


class _Flat:
    """The codec of settings: one flat mapping of JSON values."""

    def as_dict(self) -> dict[str, Any]:
        """Return all settings as one flat dict of JSON values, which :meth:`Settings.from_flat` reads.

        A path has no secrets, see :attr:`geocd.location.Location.public`.
        """
        flat: dict[str, Any] = {}
        for stage, kind in STAGES.items():
            values = _values(getattr(self, stage))
            flat.update({field.name: values[field.name] for field in dataclasses.fields(kind)})
        for name, value in flat.items():
            if isinstance(value, float) and math.isnan(value):
                flat[name] = "nan"
            elif isinstance(value, tuple):
                flat[name] = [Location(part).public if name in PATHS else part for part in value]
            elif name in PATHS and isinstance(value, str):
                flat[name] = Location(value).public
        return flat


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(_Flat):
    """All settings as the user gave them; what is None is left to the preset or to the run."""

    read: ReadSettings = dataclasses.field(default_factory=ReadSettings)
    tiling: TilingSettings = dataclasses.field(default_factory=TilingSettings)
    method: MethodSettings = dataclasses.field(default_factory=MethodSettings)
    polygons: PolygonSettings = dataclasses.field(default_factory=PolygonSettings)

    @classmethod
    def from_flat(cls, values: Mapping[str, object]) -> Settings:
        """Make settings from one flat mapping; names are unique across the stages.

        Parameters
        ----------
        values : mapping
            By name; JSON and TOML values are taken too (lists for tuples, ``"nan"``), so this reads back
            what :meth:`as_dict` wrote.

        Raises
        ------
        ConfigError
            A name is unknown, or a value is of the wrong type or cannot work.
        """
        stages: dict[str, dict[str, object]] = {stage: {} for stage in STAGES}
        for name, value in values.items():
            stage = stage_of(name)
            stages[stage][name] = typed(name, value)
        return cls(**{stage: STAGES[stage](**flat) for stage, flat in stages.items()})

    def replaced(self, values: Mapping[str, object]) -> Settings:
        """Return these settings with other values, by name and of the right types.

        Raises
        ------
        ConfigError
            A value cannot work, alone or beside the others.
        """
        stages: dict[str, dict[str, object]] = {}
        for name, value in values.items():
            stages.setdefault(stage_of(name), {})[name] = value
        changed = {stage: dataclasses.replace(getattr(self, stage), **flat) for stage, flat in stages.items()}
        return dataclasses.replace(self, **changed)

    def resolved(self) -> RunSettings:
        """Return the settings of a run: what these leave open is filled in from the preset.

        Raises
        ------
        ConfigError
            A value does not go with one that the preset brings.
        """
        if self.read.features_before is not None and (chosen := self.method.only_one_distance):
            raise ConfigError(
                f"--features-before: features are one more distance of the default method and preset, and "
                f"{chosen} has only one. Leave one of the two out.",
                name="features_before",
            )
        preset, method, tiling = PRESETS[self.method.preset], _values(self.method), _values(self.tiling)
        if tiling["overlap"] is None and self.method.method != "deep":
            tiling["overlap"] = CLASSICAL_OVERLAP
        for name, default in _values(preset).items():
            stage = tiling if name in tiling else method
            if name in ("iterations", "learning_rate", "fit") and preset is PRESETS["default"]:
                remedy = "the default preset learns in closed form, without steps. Choose --preset reference."
                require(stage[name] in (None, default), name, stage[name], remedy)
            if stage[name] is None:
                stage[name] = default
        return RunSettings(
            read=self.read,
            tiling=RunTilingSettings(**tiling, adjustable=self.tiling.tile_size is None),
            method=RunMethodSettings(**method),
            polygons=self.polygons,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunSettings(_Flat):
    """All settings of a run, decided; made by :meth:`Settings.resolved`."""

    read: ReadSettings
    tiling: RunTilingSettings
    method: RunMethodSettings
    polygons: PolygonSettings

    def with_tile_size(self, tile_size: int) -> RunSettings:
        """Return these settings with another tile size."""
        return dataclasses.replace(self, tiling=dataclasses.replace(self.tiling, tile_size=tile_size))

    def with_cloud_detector(self, choice: CloudChoice) -> RunSettings:
        """Return these settings with what decided which pixels are cloud."""
        return dataclasses.replace(self, read=dataclasses.replace(self.read, cloud_detector=choice))


def _values(stage: DataclassInstance) -> dict[str, Any]:
    """Return the values of a stage by name, as they are."""
    return {field.name: getattr(stage, field.name) for field in dataclasses.fields(stage)}


@functools.cache
def _hints() -> dict[str, Any]:
    """The type of every setting, by name."""
    return {name: hint for kind in STAGES.values() for name, hint in typing.get_type_hints(kind).items()}


def stage_of(name: str) -> str:
    """Return the stage that a setting belongs to.

    Raises
    ------
    ConfigError
        There is no such setting.
    """
    for stage, kind in STAGES.items():
        if name in {field.name for field in dataclasses.fields(kind)}:
            return stage
    similar = difflib.get_close_matches(name.lower().replace("-", "_"), _hints(), 1)
    suggestion = f" Did you mean {similar[0]}?" if similar else ""
    raise ConfigError(
        f"{name}: no such setting.{suggestion} The settings are: {', '.join(sorted(_hints()))}.", name=name
    )


def typed(name: str, value: object) -> Any:
    """Return the value of a setting in its own type: a list as a tuple, a whole number as a float.

    Raises
    ------
    ConfigError
        The value is of another type.
    """
    return coerced(name, _hints()[name], value)


def typed_text(name: str, text: str) -> Any:
    """Return the value of a setting that is written as text: a cell of a table.

    Raises
    ------
    ConfigError
        It is not of the setting's type.
    """
    return coerced(name, _hints()[name], parsed(_hints()[name], text))


__all__ = [
    "DECISION",
    "NO_MASK",
    "OTHER_DATES",
    "PATHS",
    "PRESETS",
    "RASTERS",
    "STAGES",
    "Align",
    "CloudChoice",
    "Focus",
    "Ignorable",
    "Kind",
    "Method",
    "MethodSettings",
    "Nodata",
    "PolygonSettings",
    "ReadSettings",
    "RunMethodSettings",
    "RunSettings",
    "RunTilingSettings",
    "Settings",
    "TilingSettings",
    "check_masks",
    "check_tile_size",
    "numbered",
    "stage_of",
    "typed",
    "typed_text",
]
