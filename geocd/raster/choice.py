"""Which bands of two rasters are compared: those of the same name, or of the same number."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from geocd.errors import BandError
from geocd.location import Location
from geocd.raster.bands import band_named, match_names
from geocd.raster.reading import read, sample_windows
from geocd.raster.rims import Rim

#: Least share of the maximum among the values above 0 of an alpha band: resampling leaves others at edges.
_OPAQUE = 0.9
_COLOURS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


@dataclasses.dataclass(frozen=True)
class Bands:
    """The bands of two dates that are compared, in the same order.

    Attributes
    ----------
    before, after : tuple of int
        Numbers, from 1.
    alpha_before, alpha_after : tuple of int
        Numbers of the alpha bands, which are masks.
    remarks : tuple of str
        What the user should know about the choice; empty where numbers and names agree.
    names : tuple of str
        "band 1" and so on where neither file names them.
    rims : tuple of Rim or None
        Of before and after: the undeclared rim of one value; (None, None) until it has been looked for.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    alpha_before: tuple[int, ...] = ()
    alpha_after: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rims: tuple[Rim | None, Rim | None] = (None, None)

    @property
    def fills(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The values of the bands that together mean "no data" in before and after; empty without any."""
        before, after = (() if rim is None or not rim.excluded else rim.values for rim in self.rims)
        return before, after

    def rims_of(self, positions: Sequence[int]) -> tuple[Rim | None, Rim | None]:
        """Return the rims as they are in some of the bands."""
        before, after = (None if rim is None else rim.part(positions) for rim in self.rims)
        return before, after


@dataclasses.dataclass(frozen=True)
class _File:
    """One date: its dataset, its path, and the numbers and names of the bands that may be compared."""

    dataset: DatasetReader
    path: str
    numbers: tuple[int, ...]
    names: tuple[str, ...]
    alpha: tuple[int, ...]
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, dataset: DatasetReader, path: str) -> _File:
        tagged = [
            index
            for index, colour in zip(dataset.indexes, dataset.colorinterp, strict=True)
            if colour == ColorInterp.alpha
        ]
        alpha = tuple(index for index in tagged if _is_mask(dataset, path, index))
        remarks = tuple(
            f"band {index} of {Location(path).name} is tagged alpha, but holds other values than 0 and its "
            "maximum: it is taken as a band, not as a mask."
            for index in tagged
            if index not in alpha
        )
        numbers = tuple(index for index in dataset.indexes if index not in alpha)
        names = tuple(band_name(dataset, number) or "" for number in numbers)
        return cls(dataset, path, numbers, names, alpha, remarks)

    @property
    def name(self) -> str:
        """The name of the file: remarks are written down, and its path may not be the reader's."""
        return Location(self.path).name

    @property
    def described(self) -> bool:
        """Whether a band has a name, and not only a colour."""
        return any(self.dataset.descriptions[number - 1] for number in self.numbers)

    def label(self, number: int) -> str:
        """Return the name of a band, else its number in words."""
        return band_name(self.dataset, number) or f"band {number}"

    def listed(self) -> str:
        """Return the names of all bands."""
        return ", ".join(self.label(number) for number in self.numbers)


def choose_bands(
    before: tuple[DatasetReader, str],
    after: tuple[DatasetReader, str],
    chosen: Sequence[int | str] | None,
) -> Bands:
    """Return the bands to compare.

    Parameters
    ----------
    before, after : tuple of dataset and str
        Each with its path.
    chosen : sequence of int or str, optional
        Numbers, from 1, which are those of both files, and names, which are looked up in each file. Default:
        all bands but alpha; those of the same name where both files name all of theirs.

    Raises
    ------
    BandError
        The two have different numbers of bands, or a chosen band does not exist or cannot be compared.
    """
    files = _File.of(*before), _File.of(*after)
    bands = _all_bands(*files) if chosen is None else _chosen_bands(*files, chosen)
    if not bands.before:
        raise BandError(f"{before[1]}: no band to compare. Choose one with --bidx.", indexes=())
    for file, numbers in zip(files, (bands.before, bands.after), strict=True):
        for number in numbers:
            _check_band(file.dataset, file.path, number)
    palettes = tuple(
        remark
        for file, numbers in zip(files, (bands.before, bands.after), strict=True)
        for remark in _palettes(file, numbers)
    )
    pairs = zip(bands.before, bands.after, strict=True)
    return dataclasses.replace(
        bands,
        names=tuple(band_name(before[0], i) or band_name(after[0], j) or f"band {i}" for i, j in pairs),
        alpha_before=files[0].alpha,
        alpha_after=files[1].alpha,
        remarks=(*files[0].remarks, *files[1].remarks, *palettes, *bands.remarks),
    )


def data_bands(dataset: DatasetReader, path: str) -> tuple[int, ...]:
    """Return the numbers of all bands that hold data: all but masks that are tagged alpha.

    Raises
    ------
    BandError
        There is none, or one holds no real numbers.
    """
    numbers = _File.of(dataset, path).numbers
    if not numbers:
        raise BandError(f"{path}: has no band but alpha.", path=path)
    for number in numbers:
        _check_band(dataset, path, number)
    return numbers


def as_ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ``--bidx`` takes them: ``1..3,5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}..{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def band_name(dataset: DatasetReader, index: int) -> str | None:
    """Return the description of a band, else its colour; None where it has neither."""
    colour = dataset.colorinterp[index - 1]
    return dataset.descriptions[index - 1] or (colour.name if colour in _COLOURS else None)


def _all_bands(before: _File, after: _File) -> Bands:
    """Return all bands but alpha: by name where both files name theirs, else by number."""
    # Colours alone are a default of many writers: they say nothing against names.
    comparable = before.described == after.described
    matches = match_names(before.names, after.names) if comparable else None
    same_count = len(before.numbers) == len(after.numbers)
    if not matches:
        if same_count:
            return Bands(before.numbers, after.numbers)
        raise _different_counts(before, after, named=matches is not None)
    if same_count and all(first == second for first, second in matches):
        return _by_number(before, after, len(matches))
    bands = Bands(
        tuple(before.numbers[first] for first, _ in matches),
        tuple(after.numbers[second] for _, second in matches),
    )
    remark = _matched(before, after, bands)
    for file, compared in ((before, bands.before), (after, bands.after)):
        left_out = [file.label(number) for number in file.numbers if number not in compared]
        if left_out:
            remark += f" Not compared, as only {file.name} has them: {', '.join(left_out)}."
    return dataclasses.replace(bands, remarks=(remark,))


def _matched(before: _File, after: _File, bands: Bands) -> str:
    """Return the remark on bands that were matched by name."""
    pairs = zip(bands.before, bands.after, strict=True)
    listed = ", ".join(f"{before.label(first)} ({first} and {second})" for first, second in pairs)
    return f"bands are matched by name, numbers in {before.name} and {after.name}: {listed}."


def _by_number(before: _File, after: _File, matched: int) -> Bands:
    """Return all bands by number: those that have the same name are in the same places."""
    remarks: tuple[str, ...] = ()
    if matched < len(before.numbers):
        pairs = zip(before.names, after.names, strict=True)
        matches = {first for first, _ in match_names(before.names, after.names) or ()}
        odd = [
            f"{first} with {second}"
            for position, (first, second) in enumerate(pairs)
            if position not in matches and first != second
        ]
        if odd:
            remarks = (
                "bands of different names are compared, because they have the same number: "
                f"{', '.join(odd)}. --bidx takes the names of those that should be.",
            )
    return Bands(before.numbers, after.numbers, remarks=remarks)


def _chosen_bands(before: _File, after: _File, chosen: Sequence[int | str]) -> Bands:
    """Return the bands of these numbers and names."""
    numbers: tuple[list[int], list[int]] = ([], [])
    for band in chosen:
        places = [band, band] if isinstance(band, int) else _places(before, after, band)
        for listed, number in zip(numbers, places, strict=True):
            listed.append(number)
    for file, listed in zip((before, after), numbers, strict=True):
        if any(isinstance(band, str) for band in chosen) and len(set(listed)) < len(listed):
            raise BandError(
                f"--bidx {','.join(map(str, chosen))}: names a band of {file.path} twice. It has: "
                f"{file.listed()}. Leave one out.",
                path=file.path,
            )
    bands = Bands(tuple(numbers[0]), tuple(numbers[1]))
    if bands.before != bands.after:
        return dataclasses.replace(bands, remarks=(_matched(before, after, bands),))
    return dataclasses.replace(bands, remarks=_contradictions(before, after, bands))


def _places(before: _File, after: _File, name: str) -> list[int]:
    """Return the numbers of the bands of this name; of both files alike where one has no names at all."""
    places = []
    for file in (before, after):
        position = band_named(file.names, name)
        if position is not None:
            places.append(file.numbers[position])
        elif any(file.names):
            raise BandError(
                f"--bidx {name}: no band of {file.path} has this name. It has: {file.listed()}. Choose among "
                "these, or by number.",
                path=file.path,
                name=name,
                names=file.names,
            )
    if not places:
        raise BandError(
            f"--bidx {name}: neither {before.path} nor {after.path} names its bands. Choose by number, for "
            f"instance --bidx {before.numbers[0] if before.numbers else 1}; or write the name into the file: "
            f"rio edit-info --bidx 1 --description {name} {before.path}",
            path=before.path,
            name=name,
        )
    return places * (2 // len(places))


def _contradictions(before: _File, after: _File, bands: Bands) -> tuple[str, ...]:
    """Return a remark where bands chosen by number have names that belong to other bands."""
    if before.described != after.described:
        return ()
    matches = dict(match_names(before.names, after.names) or ())
    odd = []
    for number in bands.before:
        if number in before.numbers and (position := before.numbers.index(number)) in matches:
            other = after.numbers[matches[position]]
            if other != number and number in after.numbers:
                odd.append(f"{before.label(number)} with {after.label(number)}")
    if not odd:
        return ()
    return (
        f"bands are compared by number, although they have different names in {before.name} and "
        f"{after.name}: {', '.join(odd)}. Names in --bidx, as in --bidx {before.label(bands.before[0])}, are "
        "looked up in each file.",
    )


def _different_counts(before: _File, after: _File, *, named: bool) -> BandError:
    """Return the error for files of different numbers of bands, none of which has the same name."""
    counts = len(before.numbers), len(after.numbers)
    text = f"different band counts: {counts[0]} in {before.path}, {counts[1]} in {after.path}"
    if named:
        text += (
            f", and no band has the same name ({before.listed()}; {after.listed()}). Give the same name to "
            f"bands that show the same: rio edit-info --bidx 1 --description NAME {after.path}"
        )
    else:
        text += f". Choose bands that both have with --bidx, for instance --bidx 1..{min(counts)}"
        if any(before.names) or any(after.names):
            text += f". Check what they show: {before.listed()}; {after.listed()}"
    text = "".join(
        [text, *(f". {remark[0].upper()}{remark[1:-1]}" for remark in (*before.remarks, *after.remarks))]
    )
    return BandError(text, before=counts[0], after=counts[1])


def _palettes(file: _File, numbers: Sequence[int]) -> tuple[str, ...]:
    """Return a remark for each compared band whose values are the numbers of colours."""
    return tuple(
        f"band {number} of {file.name} has a palette: its values are numbers of colours, and their "
        f"differences mean nothing. Make bands of it first: gdal_translate -expand rgb {file.name} rgb.tif"
        for number in numbers
        if file.dataset.colorinterp[number - 1] == ColorInterp.palette
    )


def _is_mask(dataset: DatasetReader, path: str, index: int) -> bool:
    """Return whether a band holds 0 and its maximum, as an alpha band does, in a sample of its pixels."""
    windows = sample_windows(dataset.height, dataset.width)
    values = np.concatenate([read(dataset, path, window, indexes=index).ravel() for window in windows])
    values = values[values > 0]
    return not values.size or bool((values == values.max()).mean() >= _OPAQUE)


def _check_band(dataset: DatasetReader, path: str, index: int) -> None:
    """Raise :class:`BandError` unless a band exists and holds real numbers."""
    if not 1 <= index <= dataset.count:
        raise BandError(
            f"{path}: band {index} does not exist, the raster has bands 1 to "
            f"{dataset.count}. Choose among these with --bidx.",
            path=path,
            index=index,
            count=dataset.count,
        )
    if np.dtype(dataset.dtypes[index - 1]).kind not in "iuf":
        raise BandError(
            f"{path}: band {index} is {dataset.dtypes[index - 1]}, and complex values "
            "cannot be compared. Write amplitude or intensity (real numbers) first.",
            path=path,
            index=index,
            dtype=dataset.dtypes[index - 1],
        )


__all__ = ["Bands", "as_ranges", "band_name", "choose_bands", "data_bands"]
