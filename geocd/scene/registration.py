"""The shift between the contents of the two dates, measured to a tenth of a pixel, and its removal.

A shift of a whole pixel makes a difference at every edge, and detectors find all of them. It cannot be read
from the grids of the files: these say where the pixels should be, not where the ground is in them.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from geocd.config import Align
from geocd.raster.grid import Grid, crs_name
from geocd.raster.pair import Chip, Pair
from geocd.scene.sample import sample_chips
from geocd.tiles.tiling import Tiling
from geocd.types import BoolArray, Float64Array

LOG = logging.getLogger("geocd")

ComplexArray = npt.NDArray[np.complex128]

#: Side of a window in pixels, most windows that are compared, and the side below which nothing is measured.
SIDE, MOST_WINDOWS, LEAST_SIDE = 256, 16, 32
#: Of more bands than this, every second (third ...) is compared, but at least so many. On the labelled pairs,
#: these windows and bands gave what 36 windows and all bands give to within .03 px.
BANDS = 3
#: Largest shift that is searched for, in pixels (and no more than a quarter of a window).
REACH = 24
#: A measurement is reliable where the peak exceeds the rest of the correlation by this many standard
#: deviations, and the windows agree to within this many pixels. Real pairs had 8 to 52, and 0.01 to 0.37 px;
#: pairs of images of different places, 2 to 5, and 10 to 42 px.
LEAST_SHARPNESS, MOST_SPREAD = 6.0, 1.0
#: A smaller shift, in pixels, is not worth the blur of resampling a pair that is on one grid already; it is
#: also the accuracy of the measurement.
LEAST_SHIFT = 0.1
#: Times that the shift is measured and removed: the first measurement of a large shift is a little off, and
#: the second measures what remains.
ROUNDS = 2
#: Standard deviation, in pixels, of the Gaussian filter before the gradient; and the step of the fine search.
SMOOTH, STEP = 0.7, 0.05


@dataclasses.dataclass(frozen=True)
class Shift:
    """A measured shift.

    Attributes
    ----------
    row, col : float
        In pixels: how far down and to the right the content of the after image lies, relative to that of
        the before image.
    sharpness : float
        Height of the peak above the rest of the correlation, in standard deviations of the rest.
    spread : float
        Median distance, in pixels, between the shifts of single windows and this one.
    windows : int
        Number of windows compared.
    """

    row: float
    col: float
    sharpness: float
    spread: float
    windows: int

    @property
    def measurable(self) -> bool:
        """Whether the measurement is reliable: the images share enough structure."""
        return self.sharpness >= LEAST_SHARPNESS and self.spread <= MOST_SPREAD

    @property
    def length(self) -> float:
        """Length of the shift in pixels."""
        return math.hypot(self.row, self.col)

    def as_dict(self) -> dict[str, float | bool]:
        """Return all attributes, ``measurable`` and ``length`` for JSON, to four decimals."""
        values = {name: round(value, 4) for name, value in dataclasses.asdict(self).items()}
        return {**values, "measurable": self.measurable, "length": round(self.length, 4)}


def measure_shift(chips: Sequence[Chip]) -> Shift | None:
    """Measure the shift between the dates of a sample.

    Orientation correlation: Fitch, Kadyrov, Christmas and Kittler, "Orientation Correlation", BMVC 2002.
    Only the direction of the gradient of both images counts, so illumination, season and sensor hardly
    matter. Departure: the angle is doubled, so that an edge whose dark and bright sides have been swapped
    (fields, in another season) is the same edge. The correlations of some bands and windows are summed
    before the peak is searched; it is then refined to a fraction of a pixel by evaluating the Fourier sum
    between the pixels.

    Parameters
    ----------
    chips : sequence of Chip
        A sample of one scene.

    Returns
    -------
    Shift or None
        None where there is nothing to measure it on: no structure, or chips of less than 32 pixels a side.
        Check ``measurable`` before using the numbers.
    """
    side = min(SIDE, *(min(chip.valid.shape) for chip in chips))
    if side < LEAST_SIDE:
        return None
    windows = [
        chip.part(*tile.window.toslices())
        for chip in chips
        for tile in Tiling(chip.valid.shape[0], chip.valid.shape[1], side, 0)
    ]
    windows = [window for window in windows if window.valid.mean() >= 0.5]
    bands = slice(None, None, max(1, len(chips[0].before) // BANDS))
    spectra = []
    for index in range(count := min(len(windows), MOST_WINDOWS)):
        window = windows[index * len(windows) // count]
        spectrum = _cross_spectrum(window.before[bands], window.after[bands], window.valid)
        if spectrum.any():
            spectra.append(spectrum)
    if not spectra:
        return None
    row, col, sharpness = _peak(sum(spectra[1:], spectra[0]))
    distances = [math.hypot(r - row, c - col) for r, c, _ in map(_peak, spectra)]
    return Shift(row, col, sharpness, float(np.median(distances)), len(spectra))


@dataclasses.dataclass(frozen=True)
class Removed:
    """The shift that :func:`remove_shift` removed.

    Attributes
    ----------
    row, col : float
        In pixels: how far down and to the right the content of the after image was; 0 where nothing was
        removed.
    measured : Shift or None
        The first measurement; None where there was no structure to measure it on.
    """

    row: float
    col: float
    measured: Shift | None

    @property
    def note(self) -> str:
        """What was removed, or why nothing was, as a phrase without a final stop."""
        if self.measured is None or not self.measured.measurable:
            return (
                "no shift was removed, because none could be measured: the images share too little structure"
            )
        if not (self.row or self.col):
            return f"no shift was removed: {self.measured.length:.2f} px is less than {LEAST_SHIFT} px"
        down = f"{abs(self.row):.2f} px {'down' if self.row >= 0 else 'up'}"
        right = f"{abs(self.col):.2f} px {'right' if self.col >= 0 else 'left'}"
        return f"the shift of after was removed: {down}, {right}"

    def as_dict(self) -> dict[str, object]:
        """Return the values that JSON gets: ``row``, ``col``, ``note`` and ``measured``."""
        measured = None if self.measured is None else self.measured.as_dict()
        return {"row": self.row, "col": self.col, "note": self.note, "measured": measured}


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How the after image is brought onto the grid of the before image.

    Attributes
    ----------
    after_grid : Grid
        The grid that the after image has itself.
    resampling : str or None
        Resampling method; None where the image is read as it is.
    overlap : float
        Share of the before image's extent that the after image covers, in [0, 1], to four decimals.
    shift : Removed or None
        The shift that was removed; None where none was to be removed.
    """

    after_grid: Grid
    resampling: str | None
    overlap: float
    shift: Removed | None

    @classmethod
    def of(cls, pair: Pair, shift: Removed | None) -> Alignment:
        """Return the alignment of a pair; ``shift`` is what :func:`remove_shift` returned, if called."""
        if pair.warp is None:
            return cls(pair.after_grid, None, 1.0, shift)
        return cls(pair.after_grid, pair.warp.resampling, round(pair.warp.overlap, 4), shift)

    @staticmethod
    def shift_of(values: object) -> tuple[float, float] | None:
        """Return rows and columns of the shift that was removed, from what :meth:`as_dict` wrote; or None."""
        shift = values.get("shift") if isinstance(values, Mapping) else None
        if not isinstance(shift, Mapping) or not (shift["row"] or shift["col"]):
            return None
        return float(shift["row"]), float(shift["col"])

    def as_dict(self) -> dict[str, object]:
        """Return the values that JSON gets, in the STAC item and in the tags of the probability raster."""
        grid = self.after_grid
        values: dict[str, object] = {
            "after_grid": {
                "crs": crs_name(grid.crs),
                "transform": list(grid.transform)[:6],
                "shape": list(grid.shape),
            },
            "resampling": self.resampling,
            "overlap": self.overlap,
        }
        if self.shift is not None:
            values["shift"] = self.shift.as_dict()
        return values


def remove_shift(pair: Pair) -> tuple[Pair, Removed]:
    """Measure the shift of a pair on a bounded sample, and return the pair without it.

    Nothing is removed where the measurement is not reliable, or where the pair is on one grid and the shift
    is too small to be worth resampling.

    Returns
    -------
    pair : Pair
    removed : Removed

    Raises
    ------
    NoValidPixelError, RasterReadError
    """
    first, row, col = None, 0.0, 0.0
    for iteration in range(ROUNDS):
        shift = measure_shift(sample_chips(pair))
        first = first if iteration else shift
        if shift is None or not shift.measurable:
            break
        if pair.warp is None and shift.length < LEAST_SHIFT:
            break
        # rounded, so that the recorded shift is exactly the one that was removed
        row, col = round(row + shift.row, 4), round(col + shift.col, 4)
        pair = pair.shifted(row, col)
    removed = Removed(row, col, first)
    reliable = first is not None and first.measurable
    LOG.log(logging.DEBUG if reliable else logging.WARNING, "--align shift: %s", removed.note)
    return pair, removed


def align(pair: Pair, mode: Align) -> tuple[Pair, Alignment | None]:
    """Return a pair aligned as ``--align`` says, and how.

    Parameters
    ----------
    pair : Pair
    mode : {"none", "grid", "shift"}

    Returns
    -------
    pair : Pair
    alignment : Alignment or None
        None where no alignment was requested.

    Raises
    ------
    NoValidPixelError, RasterReadError
    """
    if mode == "none":
        return pair, None
    removed = None
    if mode == "shift":
        pair, removed = remove_shift(pair)
    return pair, Alignment.of(pair, removed)


def _cross_spectrum(
    before: npt.NDArray[np.generic], after: npt.NDArray[np.generic], valid: BoolArray
) -> ComplexArray:
    """Return the summed cross spectrum of the orientations of all bands, ``(side, side)``."""
    # invalid pixels have no gradient, and their outline must not count as an edge
    inner = ndimage.binary_erosion(valid, iterations=3, border_value=1)
    taper = np.hanning(len(valid) + 2)[1:-1]
    weight = np.outer(taper, taper) * inner
    spectrum = np.zeros(valid.shape, np.complex128)
    for band_before, band_after in zip(before, after, strict=True):
        spectra = [fft.fft2(_orientation(band) * weight) for band in (band_before, band_after)]
        spectrum += spectra[1] * spectra[0].conj()
    return spectrum


def _orientation(band: npt.NDArray[np.generic]) -> ComplexArray:
    """Return the direction of the gradient, its angle doubled: length 1, less where the gradient is weak."""
    smooth = ndimage.gaussian_filter(band.astype(np.float64), SMOOTH)
    gradient = ndimage.sobel(smooth, 1) + 1j * ndimage.sobel(smooth, 0)
    length = np.abs(gradient)
    typical = np.median(length[length > 0]) if length.any() else 1.0
    result: ComplexArray = (gradient / (length + typical)) ** 2
    return result


def _peak(spectrum: ComplexArray) -> tuple[float, float, float]:
    """Return the shift in rows and columns, to a fraction of a pixel, and the sharpness of its peak."""
    side = len(spectrum)
    reach = min(REACH, side // 4)
    shifts = np.arange(-reach, reach + 1)
    near = fft.ifft2(spectrum).real[np.ix_(shifts, shifts)]
    maximum = np.unravel_index(int(near.argmax()), near.shape)
    row, col = (int(shifts[i]) for i in maximum)
    away = (np.abs(shifts - row) > 2)[:, None] | (np.abs(shifts - col) > 2)[None, :]
    rest = near[away]
    sharpness = float((near.max() - rest.mean()) / max(rest.std(), 1e-30))

    around = np.arange(-1.5, 1.5 + STEP / 2, STEP)
    frequency = 2j * np.pi * fft.fftfreq(side)
    fine = (
        np.exp(np.outer(row + around, frequency)) @ spectrum @ np.exp(np.outer(frequency, col + around))
    ).real
    i, j = np.unravel_index(int(fine.argmax()), fine.shape)
    return (
        row + float(around[i]) + STEP * _vertex(fine[:, j], int(i)),
        col + float(around[j]) + STEP * _vertex(fine[i], int(j)),
        sharpness,
    )


def _vertex(values: Float64Array, index: int) -> float:
    """Return where the parabola through a maximum and its neighbours peaks, in steps from ``index``."""
    if not 0 < index < len(values) - 1:
        return 0.0
    left, middle, right = (float(v) for v in values[index - 1 : index + 2])
    curvature = left - 2 * middle + right
    return (left - right) / (2 * curvature) if curvature else 0.0


__all__ = [
    "Alignment",
    "Removed",
    "Shift",
    "align",
    "measure_shift",
    "remove_shift",
]
