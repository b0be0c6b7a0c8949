"""Every error geocd raises on purpose.

One root, :class:`GeocdError`, so that a caller can catch all of them, mixed with the builtin that the
situation would raise in plain Python, so that a caller who never heard of geocd catches them too. The
message says what is wrong, with the values of both sides, and then what to do. The library never prints
and never exits: only :mod:`geocd.cli` turns these into exit codes.
"""

from __future__ import annotations

from typing import Any


class GeocdError(Exception):
    """Root of all errors raised on purpose.

    Attributes
    ----------
    details : dict
        The values the message speaks of, by name, for programs that handle the error.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class ConfigError(GeocdError, ValueError):
    """An option has a value that cannot work, alone or beside another option."""


class RasterOpenError(GeocdError, OSError):
    """A file is missing, or is no raster that GDAL can read."""


class RasterReadError(GeocdError, OSError):
    """A raster opened, but its pixels cannot be read (truncated or damaged file)."""


class GridError(GeocdError, ValueError):
    """Two rasters are not on one grid, or a raster has no usable grid."""


class BandError(GeocdError, ValueError):
    """A band number is out of range, band counts differ, or a data type cannot be used."""


class NoValidPixelError(GeocdError, ValueError):
    """No pixel is valid in both dates."""


class OutputError(GeocdError, OSError):
    """An output cannot be written: folder missing or read-only, disk full."""


class OutputExistsError(OutputError, FileExistsError):
    """An output exists already and overwriting was not asked for."""


class ResumeError(GeocdError, ValueError):
    """The interrupted run that is to be gone on with was another one: nothing of it can be used."""


class ItemError(GeocdError, ValueError):
    """A file is no STAC item of a geocd run, or lacks what is needed to repeat the run."""


class WeightsError(GeocdError, ValueError):
    """A weights file is missing, damaged, or does not fit the network."""


class DeviceError(ConfigError):
    """The compute device that was asked for does not exist here."""


class PairsError(GeocdError, ValueError):
    """A list of pairs for a batch cannot be read, or an id in it cannot be used."""


class SearchError(GeocdError, OSError):
    """A STAC API cannot be reached, fails, or cannot search."""


class UploadError(GeocdError, OSError):
    """A bucket cannot be reached or written to."""


class ClusterError(GeocdError, ConnectionError):
    """A dask scheduler cannot be reached, or has gone."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted, and what it had finished is kept.

    Parameters
    ----------
    folder : str
        Where it is kept.
    kept, total : int
        Finished tiles, and all tiles.
    """

    def __init__(self, folder: str, kept: int, total: int) -> None:
        super().__init__(
            f"{kept} of {total} tiles are kept; run the same command with --resume to go on, "
            f"or delete {folder}"
        )
        self.folder = folder
        self.kept = kept
        self.total = total
