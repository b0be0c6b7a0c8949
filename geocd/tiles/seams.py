"""How visible the tiles are in the finished map."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from geocd.tiles.tiling import Tiling, borders
from geocd.types import Float32Array, Float64Array, IntArray

#: A jump at a border is compared with those on this many lines on either side of it.
NEAR = 8
#: A jump is the mean over this many pixels along a border.
RUN = 16
#: Rows of the map, and jumps across columns, that are compared at once.
AT_ONCE, JUMPS = 8 * RUN, 256
#: A blend over more pixels than this counts in part: it is a slope, not a seam.
LONGEST = 16
#: A blend wider than this has no jump inside; only where it begins and ends.
WIDE = 64
#: Jumps smaller than this weigh less: they cannot be seen.
VISIBLE = 0.003
#: Added to both sums, in units of ``VISIBLE``: rounding, and on a flat map 0 / 0 becomes 1.
ROUNDING = 1e-3

Runs = tuple[Float64Array, IntArray]


class SeamScore:
    """How visible the tiles are in the finished map: 1 means not at all.

    The ratio of the jumps of the probability across the borders of tiles to the jumps over as many pixels
    beside them, on the nearest 8 lines on either side. A jump is an absolute difference of means over 16
    pixels along the border: a seam goes on along a line, texture does not. Jumps at a border are those

    * across the blend, from the last pixel of one tile alone to the first of the next one alone; across its
      middle 16 pixels where it is wider, because such a slope is less of a seam;
    * from both of these to the middle of the blend, where tiles that fade towards their rims would show;
    * from pixel to pixel where a tile begins or ends, where its weight should have fallen to nothing. Where a
      blend is wider than 64 pixels, too gentle for a jump, or is not between two tiles alone, these are taken
      instead of the other two, also where the blend begins and ends.

    With ``a`` at the border and ``b`` beside it, the score is the sum of ``a / (a + b + .003)`` over that
    of ``b / (a + b + .003)``, over rows and columns. The divisor keeps the few sharp outlines of a map from
    dominating. Without a seam, a and b are interchangeable, so the score is 1 whatever the map, up to chance
    (standard deviation on maps with few changes: .12 with 4 tiles of 512 pixels, .1
    with 25, .03 with 100). It may be below 1.

    Parameters
    ----------
    tiling : Tiling

    Notes
    -----
    In memory are 128 rows of the map and means of 16 pixels near two borders, whatever its height.
    """

    def __init__(self, tiling: Tiling) -> None:
        height, width = tiling.tile_shape
        self._down = _jumps(tiling.row_starts, height, tiling.margin)
        across = _jumps(tiling.col_starts, width, tiling.margin)
        self._across = [len(jump) for jump in across]  # pairs of each
        self._incomplete: dict[int, dict[int, Runs]] = {}  # jumps down, by jump and pair
        columns = itertools.chain.from_iterable(pair for jump in across for pair in jump)
        self._columns = np.fromiter(columns, np.int64).reshape(-1, 2).T
        reach = max((second - first for jump in self._down for first, second in jump), default=0)
        self._above = np.zeros((reach, tiling.width), np.float32)  # the last rows added
        self._next = 0  # the row to be added next
        self._sums = np.zeros(3)  # at borders, beside them, pixels
        #: Jumps down and their pairs, by the second row of the pair.
        self._due: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, jump in enumerate(self._down):
            for index, (_, second) in enumerate(jump):
                self._due[second].append((number, index))

    def add(self, row: int, values: Float32Array) -> None:
        """Add the next rows of the finished map.

        Parameters
        ----------
        row : int
            The first of them, a multiple of 16; all rows above it were added before.
        values : ndarray, (rows, width), float32
            Probability, NaN where not valid.

        Raises
        ------
        ValueError
            The row is not the next one.
        """
        if row != self._next:
            raise ValueError(f"row {row} came out of order, {self._next} was expected")
        self._next = row + len(values)
        for begin in range(0, len(values), AT_ONCE):
            self._add_runs(row + begin, values[begin : begin + AT_ONCE])

    def _add_runs(self, row: int, values: Float32Array) -> None:
        """Add as many rows as some runs down a column are long."""
        rows, above = np.concatenate([self._above, values]), row - len(self._above)
        for second in range(row, row + len(values)):
            for number, index in self._due.pop(second, ()):
                first = self._down[number][index][0]
                runs = self._incomplete.setdefault(number, {})
                runs[index] = _runs(rows[second - above] - rows[first - above])
                if len(runs) == len(self._down[number]):
                    del self._incomplete[number]
                    means, counts = zip(*(runs[i] for i in range(len(runs))), strict=True)
                    self._compare(np.stack(means), np.stack(counts))
        self._above = rows[len(rows) - len(self._above) :]

        start = 0
        for first in range(0, len(self._across), JUMPS):
            lengths = self._across[first : first + JUMPS]
            left, right = self._columns[:, start : (start := start + sum(lengths))]
            mean, count = _runs((values[:, right] - values[:, left]).T)
            begin = 0
            for length in lengths:
                self._compare(mean[begin : begin + length], count[begin : begin + length])
                begin += length

    def _compare(self, mean: Float64Array, count: IntArray) -> None:
        """Add a jump and those beside it to the sums: ``(pairs, runs)`` each, the one at the border first."""
        a, b = mean[0], mean[1:]
        weight = np.minimum(count[0], count[1:]) / len(b)
        scale = weight / (a + b + VISIBLE)
        self._sums += (a * scale).sum(), (b * scale).sum(), weight.sum()

    def result(self) -> float | None:
        """Return the score; None where there is only one tile, or nothing to compare."""
        border, beside, count = self._sums
        return float((border / count + ROUNDING) / (beside / count + ROUNDING)) if count else None


def _runs(difference: Float32Array) -> Runs:
    """Return the jump of each run along the last axis, and how many valid pixels it is the mean of."""
    *others, length = difference.shape
    padding = [*((0, 0) for _ in others), (0, -length % RUN)]
    runs = np.pad(difference, padding, constant_values=np.nan).reshape(*others, -(-length // RUN), RUN)
    count = np.isfinite(runs).sum(axis=-1)
    return np.abs(np.nansum(runs, axis=-1, dtype=np.float64)) / np.maximum(count, 1), count


def _jumps(begin: list[int], size: int, margin: int) -> list[list[tuple[int, int]]]:
    """Choose the lines of pixels to compare along one axis.

    Returns
    -------
    list of list of tuple
        One list per jump at a border: pairs of lines, the first of them at the border and the others as
        far apart beside it.
    """
    all_borders = borders(begin, size, margin)
    length = begin[-1] + size
    ends = {end for b in all_borders for end in (b.begin, b.end, b.blend_begin, b.blend_end)}
    edges = [0, *(edge for b in all_borders for edge in (b.blend_begin, b.blend_end)), length]
    single = list(zip(edges[::2], edges[1::2], strict=True))  # where one tile counts alone
    jumps: list[list[tuple[int, int]]] = []

    def add(first: int, second: int, left: tuple[int, int], right: tuple[int, int]) -> None:
        """Add a jump, and those over as many pixels on the nearest lines on its left and on its right."""
        lag = second - first
        before, after = range(left[1] - lag - 1, left[0] - 1, -1), range(right[0], right[1] - lag)
        beside = [*before[:NEAR], *after[:NEAR]]
        pairs = [(line, line + lag) for line in beside if lag > 1 or line + 1 not in ends]
        if pairs:
            jumps.append([(first, second), *pairs])

    for border, (left, right) in zip(all_borders, itertools.pairwise(single), strict=True):
        room = min(left[1] - left[0], right[1] - right[0])
        if room < 2 or right[0] - left[1] > WIDE:  # three tiles meet, or the blend is too gentle
            for end in sorted({border.begin, border.end, border.blend_begin, border.blend_end}):
                add(end - 1, end, (0, end), (end, length))
            continue
        lag = min(right[0] - left[1] + 1, LONGEST, room // 2)
        first = (left[1] + right[0] - lag) // 2
        middle = first + lag // 2
        add(first, first + lag, left, right)
        if lag > 1:
            add(first, middle, left, right)
            add(middle, first + lag, left, right)
        for end, (low, high) in ((border.begin, left), (border.end, right)):
            if low < end < high:
                add(end - 1, end, (low, end), (end, high))
    return jumps
