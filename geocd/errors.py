"""The errors that geocd raises on purpose.

All derive from :class:`GeocdError`, so that a caller can catch all of them, and from the builtin exception
that plain Python would raise, so that code that does not know geocd catches them too. The message says what
is wrong, with the values of both sides, and then what to do. The library never prints and never exits: only
:mod:`geocd.cli` turns errors into exit codes.
"""

from __future__ import annotations

from geocd.location import public_text


class GeocdError(Exception):
    """Base class of the errors that geocd raises on purpose.

    Attributes
    ----------
    details : dict
        The values in the message, by name, for programs that handle the error.
    """

    def __init__(self, message: str, **details: object) -> None:
        message = public_text(message)  # before it is shown, logged or written into a manifest
        super().__init__(message)
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


class GeocdWarning(UserWarning):
    """What is odd about a pair or a run: a finding (:mod:`geocd.findings`), as a Python warning."""


class ConfigError(GeocdError, ValueError):
    """An option has a value that cannot work, alone or beside another option."""


class RasterOpenError(GeocdError, OSError):
    """A file is missing, or is not a raster that GDAL can read."""


class RasterReadError(GeocdError, OSError):
    """A raster opened, but its pixels cannot be read (truncated or damaged file)."""


class GridError(GeocdError, ValueError):
    """Two rasters are not on one grid, or a raster has no usable grid."""


class BandError(GeocdError, ValueError):
    """A band number is out of range, band counts differ, or a data type cannot be used."""


class AreaError(GeocdError, ValueError):
    """The area of ``--aoi`` cannot be read, or has no pixel of the pair."""


class MaskError(GeocdError, ValueError):
    """A mask has other values than its kind has, or cannot be told to be of any kind."""


class SameImageError(GeocdError, ValueError):
    """Before and after are one image: the same file, or files with the same pixels."""


class NoValidPixelError(GeocdError, ValueError):
    """No pixel is valid in both dates."""


class VerdictError(GeocdError, ValueError):
    """Verdicts, or what was to be judged, cannot be read, have other values, or are too few."""


class OutputError(GeocdError, OSError):
    """An output cannot be written: folder missing or read-only, disk full."""


class OutputExistsError(OutputError, FileExistsError):
    """An output already exists, and overwriting was not requested."""


class ResumeError(GeocdError, ValueError):
    """The interrupted run cannot be resumed: its inputs, settings or software versions were different."""


class ItemError(GeocdError, ValueError):
    """A file is not the STAC item of a geocd run, or lacks information needed to repeat the run."""


class WeightsError(GeocdError, ValueError):
    """A weights file is missing, damaged, or does not fit the network."""


class ProjectionDataError(GeocdError, OSError):
    """The environment names the data of another PROJ, so coordinates cannot be projected."""


class DeviceError(ConfigError):
    """The requested compute device does not exist on this machine."""


class PairsError(GeocdError, ValueError):
    """A list of pairs for a batch cannot be read, or an id in it cannot be used."""


class SearchError(GeocdError, OSError):
    """A STAC API cannot be reached, fails, or cannot search."""


class UploadError(GeocdError, OSError):
    """A bucket cannot be reached or written to."""


class ClusterError(GeocdError, ConnectionError):
    """A dask scheduler cannot be reached, or the connection to it was lost."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted, and its finished tiles are kept.

    Parameters
    ----------
    folder : str
        Folder of the finished tiles.
    finished : int
        Number of finished tiles.
    total : int or None
        Number of all tiles of the run; None where they are those of an earlier run.
    again : str
        How to continue.

    Attributes
    ----------
    folder : str
    kept, total : int
        As ``finished`` and ``total``.
    """

    def __init__(
        self,
        folder: str,
        finished: int,
        total: int | None,
        again: str = "run the same command with --resume to continue",
    ) -> None:
        of = "finished" if total is None else f"of {total}"
        super().__init__(f"{finished} {of} tiles are kept; {again}, or delete {folder}")
        self.folder = folder
        self.kept = finished
        self.total = total


class BatchInterrupted(Interrupted):
    """A batch was interrupted, and its finished pairs are kept.

    Parameters
    ----------
    folder : str
        Folder of the batch.
    finished, total : int
        Number of finished pairs of the list, also those of earlier runs, and of all pairs of the list.
    """

    def __init__(self, folder: str, finished: int, total: int) -> None:
        super().__init__(folder, finished, total)
        self.args = (
            f"{finished} of {total} pairs are finished and kept in {folder}; run the same command again to "
            "continue",
        )
