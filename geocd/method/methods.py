"""The methods: what each is called, how it is fitted, and what memory it takes.

To add a method, add its name to :data:`geocd.stages.Method` and an entry to :data:`METHODS`. What a method
needs is imported when it is fitted: torch takes seconds to import, and the classical methods do without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

from geocd.config import RunMethodSettings
from geocd.method.detector import Detector
from geocd.raster.pair import Chip, Pair
from geocd.types import Steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """What a method takes; ``benchmarks/memory.py`` measures whether runs keep to it.

    Attributes
    ----------
    start : int
        Megabytes (2**20 bytes) of a process that has imported what the method needs.
    fitted : int
        Megabytes of a process that has fitted the method to a scene, memory that the C library keeps
        included.
    tile : tuple of int
        Bytes that a tile takes while it is computed: for each pixel, and for each pixel and band.
    fit : tuple of int
        Bytes that the fit takes beside the sample, for each of its pixels: whatever the bands (the statistics
        are taken of two or three at a time), and for each band.
    """

    start: int
    fitted: int
    tile: tuple[int, int]
    fit: tuple[int, int]


class Fit(Protocol):
    """Fits a method to a sample of the scene."""

    def __call__(
        self,
        chips: Sequence[Chip],
        pair: Pair,
        settings: RunMethodSettings,
        jobs: int,
        on_step: Steps | None = None,
    ) -> Detector:
        """Return the fitted method; ``jobs`` chips are computed at a time.

        ``on_step(done, total)`` is called after each step of optimisation.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One method.

    Attributes
    ----------
    name : str
        As in the settings.
    description : str
        For people, as the report shows it.
    fit : Fit
    uses_torch : bool
    memory : Memory
    steps : callable
        ``steps(settings)`` returns in how many steps the fit reports its progress.
    """

    name: str
    description: str
    fit: Fit
    uses_torch: bool
    memory: Memory
    steps: Callable[[RunMethodSettings], int] = lambda settings: 0


def _fit_deep(
    chips: Sequence[Chip],
    pair: Pair,
    settings: RunMethodSettings,
    jobs: int,
    on_step: Steps | None = None,
) -> Detector:
    if settings.preset == "reference":
        from geocd.method.reference import ReferenceDetector

        return ReferenceDetector.fit(chips, settings, on_step)
    from geocd.method.default import DefaultDetector

    return DefaultDetector.fit(chips, pair, settings, jobs, on_step)


def _steps_deep(settings: RunMethodSettings) -> int:
    if settings.preset == "default":
        return 10  # tenths: how many distances there are depends on the pixels
    return 0 if settings.fit == "tile" else settings.iterations


def _fit_classical(
    chips: Sequence[Chip],
    pair: Pair,
    settings: RunMethodSettings,
    jobs: int,
    on_step: Steps | None = None,
) -> Detector:
    from geocd.method.classical import ClassicalDetector

    return ClassicalDetector.fit(settings.method, chips)


#: Every method by its name.
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            name="deep",
            description="geocd's own method, fitted to this pair without labels",
            fit=_fit_deep,
            uses_torch=True,
            memory=Memory(start=410, fitted=430, tile=(330, 50), fit=(60, 6)),
            steps=_steps_deep,
        ),
        Method(
            name="cva",
            description="change vector analysis, a classical method",
            fit=_fit_classical,
            uses_torch=False,
            memory=Memory(start=195, fitted=195, tile=(130, 25), fit=(50, 1)),
        ),
        Method(
            name="irmad",
            description="IR-MAD, a classical method",
            fit=_fit_classical,
            uses_torch=False,
            memory=Memory(start=195, fitted=195, tile=(130, 25), fit=(30, 9)),
        ),
    )
}
