"""Polygons of a finished run made again: its threshold and dates, and what an output may not replace."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from geocd.errors import ConfigError, OutputExistsError
from geocd.pipeline.inputs import refuse_inputs
from geocd.vectorize.formats import format_of


def threshold_of(prob: str, record: Mapping[str, object], threshold: float | None) -> float:
    """Return the threshold that was passed, else that of the run.

    Parameters
    ----------
    prob : str
        Name of the raster, for the message.
    record : mapping
        See :func:`geocd.raster.files.provenance`.
    threshold : float or None

    Raises
    ------
    ConfigError
        There is neither.
    """
    value = record.get("threshold") if threshold is None else threshold
    if not isinstance(value, int | float):
        raise ConfigError(
            f"{prob}: does not record the threshold of its run. Pass --threshold, for instance "
            "--threshold 0.5.",
            path=prob,
        )
    return value


def dates_of(record: Mapping[str, object]) -> tuple[str | None, str | None]:
    """Return the acquisition dates of a run, where they are known."""
    dates = record.get("dates")
    return (dates[0], dates[1]) if isinstance(dates, list) and len(dates) == 2 else (None, None)


def check_output(target: Path, inputs: Sequence[Path], style: bytes, *, overwrite: bool) -> None:
    """Check that polygons may be written, with all that lies beside them.

    Parameters
    ----------
    target : pathlib.Path
    inputs : sequence of pathlib.Path
        Files that are read, which are never replaced.
    style : bytes
        QML that is written beside the target; a file that is the same may be there, as it fits several
        formats.
    overwrite : bool
        Whether existing files may be replaced.

    Raises
    ------
    ConfigError
        The suffix of the target names no format that can be written.
    OutputError
        A file is an input.
    OutputExistsError
        A file exists: the target, its style, a part of a shapefile, or what is stale beside a new one.
    """
    refuse_inputs([target], inputs)  # whatever its suffix
    fmt = format_of(target)
    beside = [target.with_suffix(suffix) for suffix in (".qml", *fmt.companions, *fmt.stale)]
    refuse_inputs(beside, inputs)
    existing = [path for path in (target, *beside) if os.path.lexists(path) and not _is_style(path, style)]
    if existing and not overwrite:
        raise OutputExistsError(
            f"{existing[0]}: exists already. Pass --overwrite to replace it, or choose another --output.",
            paths=[str(path) for path in existing],
        )


def _is_style(path: Path, content: bytes) -> bool:
    """Return whether a file is the style as geocd writes it."""
    return path.suffix == ".qml" and path.is_file() and path.read_bytes() == content


__all__ = ["check_output", "dates_of", "threshold_of"]
