"""Polygons of a finished run made again: its threshold and dates, and what an output may not replace."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from geocd.config import Settings
from geocd.errors import ConfigError, OutputExistsError
from geocd.location import Location
from geocd.pipeline.inputs import refuse_inputs
from geocd.raster.pair import Pair
from geocd.report.acquired import acquisition_dates
from geocd.report.links import source_paths
from geocd.scene.lasting import Lasting
from geocd.scene.otherdates import OtherDates
from geocd.scene.sample import sample_chips
from geocd.vectorize.formats import format_of
from geocd.vectorize.lastingmeans import LastingMeans


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


def lasting_means(pair: Pair, lasting: Lasting | None, date_after: str | None) -> LastingMeans | None:
    """Return what measures the columns of later dates, in the order of their days; None without any."""
    if lasting is None:
        return None
    by_date = [(later, acquisition_dates(later.date.pair)[1]) for later in lasting.later]
    if all(date for _, date in by_date):
        by_date.sort(key=lambda item: item[1] or "")
    names = [date_after or Location(pair.after_path).name]
    names += [date or Location(later.date.path).name for later, date in by_date]
    in_order = tuple(later for later, _ in by_date)
    return LastingMeans(pair, dataclasses.replace(lasting, later=in_order), names)


@contextlib.contextmanager
def later_dates(pair: Pair, record: Mapping[str, object], folder: Path) -> Iterator[LastingMeans | None]:
    """Open the later dates of a run, ``--confirm``, for the columns of its polygons.

    Parameters
    ----------
    pair : Pair
        The images of the run, see :func:`geocd.pipeline.prepared.open_sources`.
    record : mapping
        Of the run, see :func:`geocd.raster.files.provenance`.
    folder : pathlib.Path
        Where the paths in the record start.

    Yields
    ------
    LastingMeans or None
        None where the run had no later dates.

    Raises
    ------
    GeocdError
        One cannot be opened, or is no longer on the grid of the pair.
    """
    confirm = record.get("confirm")
    if not isinstance(confirm, list) or not confirm:
        yield None
        return
    names = ("bidx", "nodata", "aoi", "align", "ignore", "mask_kind", "mask_classes", "mask_buffer")
    values = {name: record[name] for name in names if name in record}
    values["cloud_detector"] = record.get("cloud_detector", "rule")  # which tags leave out
    for name in ("confirm", "mask_confirm"):
        hrefs = record.get(name)
        values[name] = source_paths(map(str, hrefs if isinstance(hrefs, list) else ()), folder)
    read = Settings.from_flat(values).resolved().read
    with contextlib.closing(OtherDates.open(pair.before_path, pair.after_path, pair, read)) as others:
        aligned = others.aligned(read)
        lasting = Lasting.fit(sample_chips(pair), aligned.confirm)
        yield lasting_means(pair, lasting, dates_of(record)[1])


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


__all__ = ["check_output", "dates_of", "lasting_means", "later_dates", "threshold_of"]
