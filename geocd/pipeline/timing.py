"""Seconds by stage of a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Sums the seconds that the stages of a run take."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str | None) -> Iterator[None]:
        """Add the time spent in the context to a stage; with None, do not count it."""
        start = time.perf_counter()
        yield
        if name is not None:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """Return the seconds by stage, rounded to milliseconds, in the order of the stages."""
        return {name: round(seconds, 3) for name, seconds in self._seconds.copy().items()}
