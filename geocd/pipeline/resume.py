"""What the tiles of a run depend on: an interrupted run can be resumed where all of it is unchanged."""

from __future__ import annotations

import json
import platform
import sys
import zlib
from pathlib import Path

from geocd.coercion import option
from geocd.config import OTHER_DATES, RASTERS, RunSettings
from geocd.pipeline.checkpoint import Dependencies
from geocd.pipeline.plan import gpu_build
from geocd.raster.pair import Pair
from geocd.raster.sources import is_file
from geocd.report.links import source_href
from geocd.report.record import versions
from geocd.scene.clouds import load_network


def dependencies(pair: Pair, settings: RunSettings) -> Dependencies:
    """Return everything that a tile depends on, by the names used in messages.

    The folder of the inputs is not included, so that they may be moved if their modification times are
    preserved.
    """
    values = settings.as_dict().items()
    options = {option(name): value for name, value in values if name not in (*RASTERS, *OTHER_DATES)}
    files: dict[str, str | None] = {"before": pair.before_path, "after": pair.after_path}
    files |= {option(name): pair.companions.get(name) for name in RASTERS}
    files |= settings.read.other_dates | settings.read.other_masks
    wanted = "cloud" in settings.read.ignore and settings.read.cloud_detector != "rule"
    network = load_network() if wanted else None
    all_versions = {**versions(), **({} if network is None else network.versions)}
    models = other_files(settings).items()
    files |= {f"the file of {option(name)}": str(file) for name, file in models}
    return {
        **options,
        **{name: None if path is None else _identity(path) for name, path in files.items()},
        "grid": pair.grid.describe(),
        "grid of after": pair.after_grid.describe(),
        "data types": pair.dtypes,
        "tags": [zlib.crc32(json.dumps(tags, sort_keys=True).encode()) for tags in pair.tags],
        "device": device_kind(settings),
        **{f"{name} version": version for name, version in all_versions.items()},
    }


def other_files(settings: RunSettings) -> dict[str, Path]:
    """Return the files that the settings name beside rasters, by the names of the settings."""
    method, read = settings.method, settings.read
    names = {"weights": method.weights, "backbone": method.backbone, "aoi": read.aoi, "refine": read.refine}
    return {name: Path(path) for name, path in names.items() if path is not None and is_file(path)}


def device_kind(settings: RunSettings) -> str:
    """Return the kind of device and processor: identical bytes are only guaranteed on the same kind."""
    device = "cpu"
    if settings.method.method == "deep" and not _only_cpu(settings.method.device):
        from geocd.method.devices import choose_device

        device = str(choose_device(settings.method.device))
    return f"{device} on {platform.machine()}"


def _only_cpu(device: str) -> bool:
    """Return whether a name stands for the CPU, as far as that is known without importing torch."""
    return device == "cpu" or (device == "auto" and sys.platform.startswith("linux") and not gpu_build())


def _identity(path: str) -> str:
    """Return size and modification time of a file, or the URL of a remote one without its query."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return source_href(path, Path())  # remote: a signature is secret, and changes
    return f"{status.st_size} bytes, modified at {status.st_mtime_ns} ns"
