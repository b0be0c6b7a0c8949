"""The files of a run in one table: names, entries in the STAC item, and functions that write them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from geocd.errors import OutputError
from geocd.location import Location
from geocd.raster.files import output_errors
from geocd.report.page import write_page
from geocd.report.quicklook import quicklook
from geocd.report.record import FinishedRun
from geocd.report.styles import style
from geocd.vectorize.formats import FORMATS, LAYER

#: Longest side, in pixels, of the pictures in the quick-look.
QUICKLOOK = 640


@dataclasses.dataclass(frozen=True)
class Product:
    """A file that every run writes.

    Attributes
    ----------
    key : str
        Its name in Python, and the key of its asset in the STAC item.
    suffix : str
        Its file name after the stem.
    title : str
        Title of the asset.
    media_type : str
    roles : tuple of str
        STAC roles of the asset; empty for the item itself, which is not an asset.
    description : str
        One line for the documentation.
    timed : bool
        Whether it contains times, so that its bytes differ from run to run.
    stage : str or None
        The stage of the run that the time for writing it is added to; None where that time is negligible.
    write : callable or None
        ``write(run, path)`` writes it; None for files that the pipeline writes itself: the probability, the
        polygons and, at the end, the item.
    """

    key: str
    suffix: str
    title: str
    media_type: str
    _: dataclasses.KW_ONLY
    description: str
    roles: tuple[Literal["data", "metadata", "thumbnail", "overview"], ...] = ()
    timed: bool = False
    stage: str | None = None
    write: Callable[[FinishedRun, Path], None] | None = None

    @property
    def is_asset(self) -> bool:
        """Whether it is an asset of the STAC item."""
        return bool(self.roles)


def _write_style(name: Literal["prob", "changes"]) -> Callable[[FinishedRun, Path], None]:
    """Return a function that writes the QGIS style of a product."""
    return lambda run, path: _write_bytes(path, style(name))


def _write_bytes(path: Path, content: bytes) -> None:
    with output_errors(path):
        path.write_bytes(content)


def _write_quicklook(run: FinishedRun, path: Path) -> None:
    record = run.record
    quicklook(
        run.thumbnails.reduced(QUICKLOOK),
        path,
        names=(record.before, record.after),
        threshold=record.threshold,
        dates=(record.date_before, record.date_after),
        changed_share=record.summary.changed_share,
    )


#: Every file of a run, in the order in which they are moved into place: the item last. A new product needs
#: one entry here. Looked up when it is used.
PRODUCTS: tuple[Product, ...] = (
    Product(
        "prob",
        "_prob.tif",
        "Change probability",
        "image/tiff; application=geotiff; profile=cloud-optimized",
        description="change probability",
        roles=("data",),
    ),
    Product(
        "prob_style",
        "_prob.qml",
        "QGIS style of the change probability",
        "application/xml",
        description="style of the raster; QGIS finds it by itself",
        roles=("metadata",),
        write=_write_style("prob"),
    ),
    Product(
        "changes",
        "_changes.gpkg",
        "Polygons of the changes",
        FORMATS[".gpkg"].media_type,
        description=f"polygons, layer `{LAYER}`",
        roles=("data",),
    ),
    Product(
        "changes_style",
        "_changes.qml",
        "QGIS style of the polygons",
        "application/xml",
        description="style of the polygons; QGIS finds it by itself",
        roles=("metadata",),
        write=_write_style("changes"),
    ),
    Product(
        "quicklook",
        "_quicklook.png",
        "Before, after, probability and changes",
        "image/png",
        description="both images, the probability and the changes on one page; both images on one scale, "
        'unless one of them would be nearly black or white on it: then each is marked "stretched by itself"',
        roles=("overview",),
        stage="quicklook",
        write=_write_quicklook,
    ),
    Product(
        "report",
        "_report.html",
        "Report to read in a browser",
        "text/html",
        description="one page to read and to send on, in any browser and without a network: the result in "
        "plain words, what to beware of, a map of before and after, a list of the places to sort, filter, "
        "judge and export, the largest of them at full resolution, the histogram of the probability, the "
        "measured shift, how it was made",
        roles=("overview",),
        timed=True,
        stage="report",
        write=write_page,
    ),
    Product(
        "item",
        ".json",
        "STAC item of the run",
        "application/geo+json",
        description="STAC item: how it was made",
        timed=True,
    ),
)


def product(key: str) -> Product:
    """Return the product of a key."""
    return next(entry for entry in PRODUCTS if entry.key == key)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Names of the files that one run writes beside each other.

    Parameters
    ----------
    stem : pathlib.Path
        Folder and the beginning of every file name.

    Raises
    ------
    OutputError
        The stem names a folder and no file in it.
    """

    stem: Path

    def __post_init__(self) -> None:
        if self.stem.name in ("", ".."):
            raise OutputError(
                f"{self.stem}: there is no name for the outputs, only a folder. Give --output the beginning "
                f"of their names too, for instance {self.stem / 'result'}",
                path=str(self.stem),
            )

    @property
    def folder(self) -> Path:
        """The hidden folder of a run; its name is fixed, so that the next run finds it."""
        return self.stem.with_name(f".{self.stem.name}.geocd")

    def path(self, key: str) -> Path:
        """Return the final path of one product."""
        return self.stem.with_name(self.stem.name + product(key).suffix)

    def paths(self) -> dict[str, Path]:
        """Return all final paths by key."""
        return {entry.key: self.path(entry.key) for entry in PRODUCTS}


def default_stem(before: str, after: str) -> Path:
    """Return ``<before>_<after>`` in the current folder, from the file names without extension."""
    return Path(f"{Location(before).stem}_{Location(after).stem}")


def named_stem(output: str, before: str, after: str) -> Path:
    """Return the stem that a user means by ``--output``.

    In a folder (one that exists, or a name that ends in a slash) it is the default stem. The ending of an
    output, such as ``_prob.tif``, is left off, and so is the suffix of its format alone.
    """
    folder = output.endswith(("/", os.sep))
    if folder or Path(output).is_dir():
        return Path(output) / default_stem(before, after)
    suffixes = {Path(entry.suffix).suffix or entry.suffix for entry in PRODUCTS}
    return stem_of(output, {*suffixes, ".tif", ".tiff"})


def stem_of(path: str, further: Iterable[str] = ()) -> Path:
    """Return the stem of finished results that a user names: by the stem itself, or by one of the files.

    Parameters
    ----------
    path : str
    further : iterable of str, optional
        Endings that are left off too, where that of no file is.
    """
    name = Path(path).name
    for ending in (*sorted((entry.suffix for entry in PRODUCTS), key=len, reverse=True), *further):
        if len(name) > len(ending) and name.lower().endswith(ending):
            return Path(path).with_name(name[: -len(ending)])
    return Path(path)


__all__ = ["PRODUCTS", "Outputs", "Product", "default_stem", "named_stem", "product", "stem_of"]
