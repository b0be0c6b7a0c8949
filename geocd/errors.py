"""All errors that geocd raises on purpose.

They have one root, :class:`GeocdError`, so that a caller can catch all of them, and also derive from the
builtin error that plain Python would raise. The message says what is wrong, with the values of both sides,
and then what to do. The library never prints and never exits: only :mod:`geocd.cli` turns errors into exit
codes.
"""

from __future__ import annotations

from typing import Any


class GeocdError(Exception):
    """Root of all errors raised on purpose.

    Attributes
    ----------
    details : dict
        The values in the message by name, for programs that handle the error.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class ConfigError(GeocdError, ValueError):
    """An option has an invalid value, or one that does not go with another option."""


class RasterOpenError(GeocdError, OSError):
    """A file is missing, or is not a raster that GDAL can read."""


class RasterReadError(GeocdError, OSError):
    """A raster opened, but its pixels cannot be read (truncated or damaged file)."""


class GridError(GeocdError, ValueError):
    """Two rasters are not on the same grid, or a raster has no usable grid."""


class BandError(GeocdError, ValueError):
    """A band number is out of range, band counts differ, or a data type cannot be used."""


class NoValidPixelError(GeocdError, ValueError):
    """No pixel is valid in both dates."""


class OutputError(GeocdError, OSError):
    """An output cannot be written: the folder is missing or read-only, or the disk is full."""


class OutputExistsError(OutputError, FileExistsError):
    """An output exists already, and overwriting was not requested."""


class ResumeError(GeocdError, ValueError):
    """The interrupted run had other inputs or settings, so it cannot be resumed."""


class ItemError(GeocdError, ValueError):
    """A file is not a STAC item of a geocd run, or lacks what is needed to repeat the run."""


class WeightsError(GeocdError, ValueError):
    """A weights file is missing, damaged, or does not fit the network."""


class DeviceError(ConfigError):
    """The requested compute device does not exist on this machine."""


class PairsError(GeocdError, ValueError):
    """The pairs of a batch cannot be read, or an id among them cannot be used."""


class SearchError(GeocdError, OSError):
    """A STAC API cannot be reached, fails, or cannot search."""


class UploadError(GeocdError, OSError):
    """A bucket cannot be reached or written to."""


class ClusterError(GeocdError, ConnectionError):
    """A dask scheduler cannot be reached, or the connection to it is lost."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted, and its finished tiles are kept.

    Parameters
    ----------
    folder : str
        Folder that holds the finished tiles.
    kept, total : int
        Number of finished tiles, and of all tiles.
    """

    def __init__(self, folder: str, kept: int, total: int) -> None:
        super().__init__(
            f"{kept} of {total} tiles are kept; run the same command with --resume to go on, "
            f"or delete {folder}"
        )
        self.folder = folder
        self.kept = kept
        self.total = total
