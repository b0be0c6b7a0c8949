"""Other dates of a pair's place: `--baseline` and `--confirm`, each read on the grid of the pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from geocd.config import ReadSettings
from geocd.errors import BandError, SameImageError
from geocd.location import Location
from geocd.raster.files import Source, check_two_files
from geocd.raster.handles import Companions
from geocd.raster.pair import Chip, Pair
from geocd.raster.quality import Masks
from geocd.scene.ignore import ignoring
from geocd.scene.prediction import DateScale
from geocd.scene.registration import align
from geocd.scene.sample import crops
from geocd.types import BoolArray, Float32Array, PixelArray

#: Pixels of the sample that other dates are read on.
READ_AREA = 524_288
#: Pixels that are drawn of them, and values of all dates together that these may have.
FIT_PIXELS, FIT_VALUES = 60_000, 2_000_000


@dataclasses.dataclass(frozen=True)
class OtherDate:
    """An image of another date, with the before image as a pair: it is aligned and masked like one.

    Attributes
    ----------
    name : str
        ``baseline 1``, ``confirm 2``: what it is called in records.
    pair : Pair
        The before image of the run, and this one as after.
    """

    name: str
    pair: Pair

    @property
    def path(self) -> str:
        """Its path or URL."""
        return self.pair.after_path

    def read(self, chip: Chip) -> tuple[PixelArray, BoolArray]:
        """Return its pixels on the window of a chip, ``(bands, height, width)``, and where both are valid.

        Raises
        ------
        RasterReadError
        """
        return self.pair.read_after(chip)


@dataclasses.dataclass(frozen=True)
class OtherDates:
    """The other dates of a run, in the order in which they were named.

    Attributes
    ----------
    baseline, confirm : tuple of OtherDate
        Earlier and later ones.
    """

    baseline: tuple[OtherDate, ...] = ()
    confirm: tuple[OtherDate, ...] = ()

    def __iter__(self) -> Iterator[OtherDate]:
        yield from (*self.baseline, *self.confirm)

    @classmethod
    def open(cls, before: Source, after: Source, pair: Pair, read: ReadSettings) -> OtherDates:
        """Open what the settings name.

        Parameters
        ----------
        before, after : Source
            Of the pair.
        pair : Pair
        read : ReadSettings

        Raises
        ------
        RasterOpenError, GridError, MaskError
        BandError
            An image has other bands than the pair.
        SameImageError
            One file is named twice.
        """
        opened: list[OtherDate] = []
        sources: dict[str, Source] = {"before": before, "after": after}
        try:
            for name, path in read.other_dates.items():
                _check_other(name, path, sources)
                sources[name] = path
                opened.append(
                    OtherDate(name, _pair(before, path, read, read.other_masks.get(f"mask_{name}")))
                )
                _check_bands(opened[-1], pair)
        except BaseException:
            for date in opened:
                date.pair.close()
            raise
        count = len(read.baseline)
        return cls(tuple(opened[:count]), tuple(opened[count:]))

    def aligned(self, read: ReadSettings) -> OtherDates:
        """Return these aligned with the before image, and without what the rules of ``--ignore`` mask."""

        def ready(date: OtherDate) -> OtherDate:
            pair, _ = align(date.pair, read.align)
            return dataclasses.replace(date, pair=ignoring(pair, read.ignore, read.cloud_detector))

        return OtherDates(tuple(map(ready, self.baseline)), tuple(map(ready, self.confirm)))

    def close(self) -> None:
        """Close all files."""
        for date in self:
            date.pair.close()


#: Those of a run of two dates.
NO_OTHER_DATES = OtherDates()


def _pair(before: Source, path: str, read: ReadSettings, mask: str | None) -> Pair:
    masks = Masks(None, mask, read.mask_kind, tuple(read.mask_classes), read.mask_buffer)
    return Pair(
        before,
        path,
        indexes=read.bidx,
        nodata=read.nodata,
        companions=Companions(masks=masks),
        area=read.aoi,
        align=read.align != "none",
    )


def _check_other(name: str, path: str, sources: dict[str, Source]) -> None:
    """Raise :class:`SameImageError` where an image is one that was named already."""
    for other, source in sources.items():
        try:
            check_two_files(source, path)
        except SameImageError as error:
            shown = Location(path).public
            raise SameImageError(
                f"--{name.split()[0]} {shown}: is the same file as {other} ({error.details['before']}). Name "
                "an image of another date, each once.",
                before=error.details["before"],
                after=shown,
            ) from error


def _check_bands(date: OtherDate, pair: Pair) -> None:
    """Raise :class:`BandError` where an image has no counterpart of every band that is compared."""
    if date.pair.bands.before != pair.bands.before:
        own, compared = (", ".join(names) for names in (date.pair.band_names, pair.band_names))
        raise BandError(
            f"--{date.name.split()[0]} {date.path}: has other bands in common with {pair.before_path} "
            f"({own}) than the after image ({compared}). Choose bands that all of them have with --bidx.",
            path=date.path,
        )


@dataclasses.dataclass(frozen=True)
class DrawnPixels:
    """Pixels drawn from the sample of a scene, of the pair and of other dates.

    Attributes
    ----------
    before, after : ndarray, (n, bands), float64
    others : tuple of ndarray, (n, bands), float64
        Of each other date; 0 where it is not valid.
    valid : tuple of ndarray, (n,), bool
    dates : tuple of OtherDate
    """

    before: PixelArray
    after: PixelArray
    others: tuple[PixelArray, ...]
    valid: tuple[BoolArray, ...]
    dates: tuple[OtherDate, ...]

    @property
    def valid_shares(self) -> dict[str, float]:
        """By the name of each other date, the share of the pixels on which it is valid, in [0, 1]."""
        return {date.name: float(valid.mean()) for date, valid in zip(self.dates, self.valid, strict=True)}

    def scaled(self) -> Iterator[tuple[OtherDate, DateScale, Float32Array, BoolArray]]:
        """Yield the other dates that are valid somewhere: scale, z-scores ``(bands, n)``, where valid."""
        for date, values, valid in zip(self.dates, self.others, self.valid, strict=True):
            if valid.any():
                scale = DateScale.fit(values[valid])
                yield date, scale, scale.apply(values.T), valid

    @classmethod
    def draw(cls, chips: Sequence[Chip], dates: Sequence[OtherDate]) -> DrawnPixels:
        """Draw valid pixels of the pair, evenly over the sample; the same on every run.

        Raises
        ------
        RasterReadError
        """
        squares = crops(chips, READ_AREA)
        total = sum(int(chip.valid.sum()) for chip in squares)
        bands = len(squares[0].before)
        share = min(1.0, min(FIT_PIXELS, FIT_VALUES // (bands * (len(dates) + 1))) / max(total, 1))
        random = np.random.default_rng(0)
        rows: list[list[PixelArray]] = [[] for _ in range(2 + 2 * len(dates))]
        for chip in squares:
            indexes = np.flatnonzero(chip.valid)
            pick = np.sort(random.choice(indexes, int(np.ceil(share * len(indexes))), replace=False))
            parts = [chip.before, chip.after]
            for date in dates:
                values, valid = date.read(chip)
                parts += [values, valid[None]]
            for target, values in zip(rows, parts, strict=True):
                target.append(values.reshape(len(values), -1)[:, pick].T)
        before, after, *others = (np.concatenate(part) for part in rows)
        return cls(
            before.astype(np.float64),
            after.astype(np.float64),
            tuple(values.astype(np.float64) for values in others[::2]),
            tuple(values[:, 0].astype(bool) for values in others[1::2]),
            tuple(dates),
        )


__all__ = ["NO_OTHER_DATES", "DrawnPixels", "OtherDate", "OtherDates"]
