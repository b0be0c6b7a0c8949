"""The open files of a pair: images, valid area and features; lent to one thread at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rasterio.io import DatasetReader

from geocd.raster.files import Source, open_raster
from geocd.raster.quality import Masks
from geocd.raster.sources import is_file

#: Seconds that a thread waits for the datasets of another: where they are read from a disk, and otherwise.
#: A busy machine reads slowly, too.
PATIENCE, REMOTE_PATIENCE = 3.0, 0.2
#: Where more threads than these wait already, reading is what holds them up.
QUEUE = 2


@dataclasses.dataclass(frozen=True)
class Companions:
    """What comes with the two images of a pair.

    Parameters
    ----------
    features : tuple of str or Openable
        Rasters of features of both dates that were made elsewhere; None where there are none.
    masks : Masks
    """

    features: tuple[Source | None, Source | None] = (None, None)
    masks: Masks = dataclasses.field(default_factory=Masks)


class Sources(NamedTuple):
    """What a pair is read from."""

    before: Source
    after: Source
    valid: Source | None = None
    features_before: Source | None = None
    features_after: Source | None = None
    mask_before: Source | None = None
    mask_after: Source | None = None


class Datasets(NamedTuple):
    """The open datasets of a pair's sources."""

    before: DatasetReader
    after: DatasetReader
    valid: DatasetReader | None
    features_before: DatasetReader | None
    features_after: DatasetReader | None
    mask_before: DatasetReader | None
    mask_after: DatasetReader | None

    @property
    def features(self) -> tuple[DatasetReader, DatasetReader]:
        """Those of the features of both dates, which there are."""
        assert self.features_before is not None
        assert self.features_after is not None
        return self.features_before, self.features_after

    @property
    def masks(self) -> tuple[DatasetReader | None, DatasetReader | None]:
        """Those of the quality masks of both dates; None where there is none."""
        return self.mask_before, self.mask_after


class OpenFiles:
    """The open files of a pair, lent to one thread at a time, because a GDAL dataset must not be shared.

    GDAL caches the blocks of each dataset apart. So that what was decoded for one thread serves the next, a
    thread waits for the datasets that another one reads from, before it opens its own: for a file on a disk,
    which is mostly read sooner, longer than for those over a network, which are read at the same time.

    Parameters
    ----------
    sources : Sources
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._reset()

    @functools.cached_property
    def _patience(self) -> float:
        paths = [source for source in self.sources if source is not None]
        on_disk = all(
            isinstance(path, str | os.PathLike) and is_file(path) and Path(path).suffix.lower() != ".vrt"
            for path in paths
        )
        return PATIENCE if on_disk else REMOTE_PATIENCE

    def _reset(self) -> None:
        self._local = threading.local()
        self._free: list[Datasets] = []
        self._handles: list[DatasetReader] = []
        self._reading = self._waiting = 0
        self._lock = threading.Condition()

    @contextlib.contextmanager
    def lent(self) -> Iterator[Datasets]:
        """Lend datasets to this thread; inside another such context, those that it has."""
        if (datasets := getattr(self._local, "datasets", None)) is not None:
            yield datasets
            return
        with self._lock:
            if self._waiting < QUEUE:
                self._waiting += 1
                self._lock.wait_for(lambda: self._free or not self._reading, self._patience)
                self._waiting -= 1
            datasets = self._free.pop() if self._free else None
            self._reading += 1
        try:
            datasets = self._local.datasets = datasets or self._opened()
            yield datasets
        finally:
            self._local.datasets = None
            with self._lock:
                self._reading -= 1
                if datasets is not None:
                    self._free.append(datasets)
                self._lock.notify()

    def _opened(self) -> Datasets:
        return Datasets(*(None if source is None else self._open(source) for source in self.sources))

    def _open(self, source: Source) -> DatasetReader:
        dataset = open_raster(os.fspath(source)) if isinstance(source, str | os.PathLike) else source.open()
        with self._lock:
            self._handles.append(dataset)
        return dataset

    def close(self) -> None:
        """Close all datasets."""
        with self._lock:
            for dataset in self._handles:
                dataset.close()
            self._handles.clear()
            self._free.clear()

    def __getstate__(self) -> Sources:
        """Return the sources alone: a pair may travel to another process."""
        return self.sources

    def __setstate__(self, state: Sources) -> None:
        self.sources = state
        self._reset()


__all__ = ["Companions", "Datasets", "OpenFiles", "Sources"]
