"""The local files that a run reads, none of which an output may replace."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from geocd.config import ReadSettings, RunSettings
from geocd.errors import OutputError
from geocd.pipeline.resume import other_files
from geocd.raster.files import local_files
from geocd.raster.pair import Pair

if TYPE_CHECKING:
    from geocd.review.learning import Judged


def model_of(read: ReadSettings) -> Judged | None:
    """Return the verdicts of ``--refine``; None without it.

    Raises
    ------
    VerdictError
        The file is missing, or is no model.
    """
    if read.refine is None:
        return None
    from geocd.review.learning import Judged

    return Judged.load(Path(read.refine))


def input_files(pair: Pair, settings: RunSettings) -> list[Path]:
    """Return the local files of a run's inputs: rasters and models, with all they consist of."""
    others = settings.read.other_dates | settings.read.other_masks
    paths = pair.before_path, pair.after_path, *pair.companions.values(), *others.values()
    return [file for path in paths for file in local_files(path)] + list(other_files(settings).values())


def refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise :class:`OutputError` where an output is one of the inputs, under whatever name or link.

    Parameters
    ----------
    outputs : iterable of pathlib.Path
        Files that are to be written; they need not exist.
    inputs : iterable of pathlib.Path
        Files that are read.
    """
    by_identity = {identity: path for path in inputs if (identity := _identity(path)) is not None}
    for output in outputs:
        identity = _identity(output)
        if identity is not None and identity in by_identity:
            raise OutputError(
                f"{output}: would replace an input of this run ({by_identity[identity]}). Choose another "
                "--output.",
                path=str(output),
                input=str(by_identity[identity]),
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what is the same for all names of a file; None where there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


__all__ = ["input_files", "model_of", "refuse_inputs"]
