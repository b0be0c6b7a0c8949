"""How far a batch is, from the records of its pairs and what workers report of their tiles."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection

from geocd.batch.work import TilesDone


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a batch is.

    Attributes
    ----------
    total : int
        Pairs of the list.
    done, failed : int
        Pairs that are done and that failed, in this run or before.
    running : int
        Pairs that are with the cluster.
    workers : int
        Workers of the cluster.
    tiles, of_tiles : int
        Finished tiles and all tiles of the running pairs, as far as they are reported.
    pixels : int
        Pixels done in this run, those of finished tiles included.
    seconds : float
        Time since this run began.
    left : float or None
        Expected time to the end, in seconds; None before anything has finished.
    steps, of_steps : int
        Finished steps and all steps of the fit, of running pairs that have no tiles yet.
    """

    total: int
    done: int
    failed: int
    running: int
    workers: int
    tiles: int
    of_tiles: int
    pixels: int
    seconds: float
    left: float | None
    steps: int = 0
    of_steps: int = 0


class Meter:
    """Measures the progress of one run.

    Parameters
    ----------
    to_do : int
        Pairs of this run; those that were finished before are not among them.
    """

    def __init__(self, to_do: int) -> None:
        self._to_do = to_do
        self._begin = time.monotonic()
        self._ended = self._pixels = 0
        #: The last report of running pairs, by part of the pair.
        self._tiles: dict[str, dict[int, TilesDone]] = {}

    def report(self, event: tuple[float, TilesDone]) -> None:
        """Take the report of a worker, as dask delivers it (in a thread of its own): time and content."""
        content = event[1]
        self._tiles.setdefault(content["id"], {})[content["part"]] = content

    def forget_tiles(self, name: str) -> None:
        """Drop the reports of a pair whose parts are finished."""
        self._tiles.pop(name, None)

    def end_pair(self, pixels: int) -> None:
        """Count a pair that has ended, done (with its pixels) or failed (with none)."""
        self._ended += 1
        self._pixels += pixels

    def progress(
        self, running: Collection[str], *, total: int, done: int, failed: int, workers: int
    ) -> Progress:
        """Return the progress, from the ids of the running pairs and the counts of :class:`Progress`."""
        seconds = time.monotonic() - self._begin
        tiles = of_tiles = steps = of_steps = 0
        ended, pixels = float(self._ended), float(self._pixels)
        for reports in [list(self._tiles[name].values()) for name in running if name in self._tiles]:
            parts = [report for report in reports if report.get("stage") != "fit"]
            if not parts:
                steps += sum(report["done"] for report in reports)
                of_steps += sum(report["total"] for report in reports)
                continue
            finished, all_tiles = sum(part["done"] for part in parts), parts[0]["total"]
            tiles, of_tiles = tiles + finished, of_tiles + all_tiles
            ended, pixels = ended + finished / all_tiles, pixels + parts[0]["pixels"] * finished / all_tiles
        return Progress(
            total=total,
            done=done,
            failed=failed,
            running=len(running),
            workers=workers,
            tiles=tiles,
            of_tiles=of_tiles,
            pixels=round(pixels),
            seconds=seconds,
            left=seconds / ended * (self._to_do - ended) if ended else None,
            steps=steps,
            of_steps=of_steps,
        )


__all__ = ["Meter", "Progress"]
