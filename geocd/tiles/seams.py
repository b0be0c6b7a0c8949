"""How much of the tiles is seen in the finished map."""

from __future__ import annotations

import itertools
from collections import defaultdict

import numpy as np

from geocd.tiles.tiling import Tiling, borders
from geocd.types import Float32Array, Float64Array, IntArray

#: A jump at a border is compared with those on so many lines on either side of it.
NEAR = 8
#: A jump is the mean over so many pixels along a border.
RUN = 16
#: What the blend spreads over more pixels than this counts in part: it is a slope, no seam.
LONGEST = 16
#: A blend wider than this is no place for a jump; but where it begins and ends is.
WIDE = 64
#: Jumps smaller than this are not weighed against larger ones: nobody would see them.
SEEN = 0.003
#: So much, in units of ``SEEN``, is rounding; and on a flat map 0 / 0 is 1.
ROUNDING = 1e-3

Runs = tuple[Float64Array, IntArray]


class SeamScore:
    """How much of the tiles is seen in the finished map: 1 means nothing.

    The ratio of the jumps of the probability across the borders of tiles to the jumps over as many pixels
    beside them, on the nearest 8 lines on either side. A jump is an absolute difference of means over 16
    pixels along the border, because it is by going on along a line that a jump becomes a seam, and
    texture does not. Jumps at a border are those

    * over the blend, from the last pixel that one tile decides to the first that the next one decides;
      over its middle 16 pixels where it is wider, for such a slope is less of a seam;
    * from both of these to the middle of the blend, where tiles that fade towards their rims would show;
    * from pixel to pixel where a tile begins or ends, where its weight should have come to nothing; and,
      instead of the other two, where a blend of more than 64 pixels does, which is too gentle for a jump,
      or one that is not between two tiles alone.

    With ``a`` at the border and ``b`` beside it, the score is the sum of ``a / (a + b + .003)`` over that
    of ``b / (a + b + .003)``, rows and columns alike. The divisor keeps the few sharp outlines of a map
    from drowning all else. Where there is no seam, a and b could change places, so the score is 1 whatever
    the map, up to chance (standard deviation on maps with few changes: .12 with 4 tiles of 512 pixels, .1
    with 25, .03 with 100). It may be below 1.

    Parameters
    ----------
    tiling : Tiling

    Notes
    -----
    Kept are 16 rows of the map, and means of 16 pixels near two borders, whatever its height.
    """

    def __init__(self, tiling: Tiling) -> None:
        height, width = tiling.tile_shape
        self._down = _jumps(tiling.row_starts, height, tiling.margin)
        self._across = _jumps(tiling.col_starts, width, tiling.margin)
        self._begun: dict[int, dict[int, Runs]] = {}  # of jumps down that are not complete, by jump and pair
        pairs = [pair for jump in self._across for pair in jump]
        self._columns = np.array(pairs, np.int64).reshape(-1, 2).T
        reach = max((second - first for jump in self._down for first, second in jump), default=0)
        self._above = np.zeros((reach, tiling.width), np.float32)  # the last rows that came
        self._next = 0  # the row that comes next
        self._sums = np.zeros(3)  # at borders, beside them, pixels
        #: By its second row: which pairs of which jumps down there are.
        self._due: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, jump in enumerate(self._down):
            for place, (_, second) in enumerate(jump):
                self._due[second].append((number, place))

    def add(self, row: int, values: Float32Array) -> None:
        """Add the next rows of the finished map.

        Parameters
        ----------
        row : int
            The first of them, a multiple of 16; all above it have come.
        values : ndarray, (rows, width), float32
            Probability, NaN where not valid.
        """
        if row != self._next:
            raise ValueError(f"row {row} came out of order, {self._next} was expected")
        self._next = row + len(values)
        for begin in range(0, len(values), RUN):
            self._add_run(row + begin, values[begin : begin + RUN])

    def _add_run(self, row: int, values: Float32Array) -> None:
        """Add as many rows as a run down a column is long."""
        known, above = np.concatenate([self._above, values]), row - len(self._above)
        for second in range(row, row + len(values)):
            for number, place in self._due.pop(second, ()):
                first = self._down[number][place][0]
                came = self._begun.setdefault(number, {})
                came[place] = _runs(known[second - above] - known[first - above])
                if len(came) == len(self._down[number]):
                    del self._begun[number]
                    means, counts = zip(*(came[i] for i in range(len(came))), strict=True)
                    self._compare(np.stack(means), np.stack(counts))
        self._above = known[len(known) - len(self._above) :]

        left, right = self._columns
        mean, count = _runs((values[:, right] - values[:, left]).T)
        at = 0
        for jump in self._across:
            self._compare(mean[at : at + len(jump)], count[at : at + len(jump)])
            at += len(jump)

    def _compare(self, mean: Float64Array, count: IntArray) -> None:
        """Weigh a jump against those beside it: ``(pairs, runs)`` each, the jump at the border first."""
        a, b = mean[0], mean[1:]
        weight = np.minimum(count[0], count[1:]) / len(b)
        scale = weight / (a + b + SEEN)
        self._sums += (a * scale).sum(), (b * scale).sum(), weight.sum()

    def result(self) -> float | None:
        """Return the score; None where there is one tile alone, or nothing to compare."""
        at, beside, count = self._sums
        return float((at / count + ROUNDING) / (beside / count + ROUNDING)) if count else None


def _runs(difference: Float32Array) -> Runs:
    """Return the jumps along the last axis and how many valid pixels each is the mean of, by runs."""
    *others, length = difference.shape
    short = [*((0, 0) for _ in others), (0, -length % RUN)]
    runs = np.pad(difference, short, constant_values=np.nan).reshape(*others, -(-length // RUN), RUN)
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
    found = borders(begin, size, margin)
    length = begin[-1] + size
    ends = {end for b in found for end in (b.begin, b.end, b.blend_begin, b.blend_end)}
    edges = [0, *(edge for b in found for edge in (b.blend_begin, b.blend_end)), length]
    alone = list(zip(edges[::2], edges[1::2], strict=True))  # where one tile alone decides
    jumps: list[list[tuple[int, int]]] = []

    def add(first: int, second: int, left: tuple[int, int], right: tuple[int, int]) -> None:
        """Add a jump, and its likes within the nearest pixels on its left and on its right."""
        lag = second - first
        before, after = range(left[1] - lag - 1, left[0] - 1, -1), range(right[0], right[1] - lag)
        beside = [*before[:NEAR], *after[:NEAR]]
        likes = [(at, at + lag) for at in beside if lag > 1 or at + 1 not in ends]
        if likes:
            jumps.append([(first, second), *likes])

    for border, (left, right) in zip(found, itertools.pairwise(alone), strict=True):
        room = min(left[1] - left[0], right[1] - right[0])
        if room < 2 or right[0] - left[1] > WIDE:  # three tiles meet here, or two so gently
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
