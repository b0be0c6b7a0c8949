"""The open files of a pair: images, valid area and features; each thread has its own."""

from __future__ import annotations

import os
import threading
from typing import NamedTuple

from rasterio.io import DatasetReader

from geocd.raster.files import Source, open_raster


class Sources(NamedTuple):
    """What a pair is read from."""

    before: Source
    after: Source
    valid: Source | None = None
    features_before: Source | None = None
    features_after: Source | None = None


class Datasets(NamedTuple):
    """The open datasets of a pair's sources."""

    before: DatasetReader
    after: DatasetReader
    valid: DatasetReader | None
    features_before: DatasetReader | None
    features_after: DatasetReader | None

    @property
    def features(self) -> tuple[DatasetReader, DatasetReader]:
        """Those of the features of both dates, which there are."""
        assert self.features_before is not None
        assert self.features_after is not None
        return self.features_before, self.features_after


class OpenFiles:
    """The open files of a pair; each thread has its own, because a GDAL dataset must not be shared.

    Parameters
    ----------
    sources : Sources
    """

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._reset()

    def _reset(self) -> None:
        self._local = threading.local()
        self._handles: list[DatasetReader] = []
        self._lock = threading.Lock()

    def datasets(self) -> Datasets:
        """Return this thread's own datasets, opened when they are first asked for."""
        if not hasattr(self._local, "datasets"):
            opened = (None if source is None else self._open(source) for source in self.sources)
            self._local.datasets = Datasets(*opened)
        return self._local.datasets  # type: ignore[no-any-return]

    def _open(self, source: Source) -> DatasetReader:
        dataset = open_raster(os.fspath(source)) if isinstance(source, str | os.PathLike) else source.open()
        with self._lock:
            self._handles.append(dataset)
        return dataset

    def close(self) -> None:
        """Close the datasets of all threads."""
        with self._lock:
            for dataset in self._handles:
                dataset.close()
            self._handles.clear()

    def __getstate__(self) -> Sources:
        """Return the sources alone: a pair may travel to another process."""
        return self.sources

    def __setstate__(self, state: Sources) -> None:
        self.sources = state
        self._reset()


__all__ = ["Datasets", "OpenFiles", "Sources"]
