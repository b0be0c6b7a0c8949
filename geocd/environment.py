"""What geocd runs on: versions, devices, memory, and the troubles that are known to come from elsewhere."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import platform
from pathlib import Path
from typing import Any

import pyogrio
import pyproj
import rasterio
import rasterio.warp
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError

from geocd.report.record import versions

#: What the extras bring.
OPTIONAL = ("xarray", "rioxarray", "dask", "distributed", "pystac", "pystac-client", "boto3")
#: Variables that decide what GDAL, PROJ, torch and geocd do.
VARIABLES = ("GDAL_", "PROJ_", "CPL_", "VSI_", "OMP_", "CUDA_", "GEOCD_", "DASK_")
#: Parts of the names of those that may hold a secret, and ends of those that rasterio and geocd set.
SECRET = ("HTTP", "PWD", "PASS", "KEY", "TOKEN", "SECRET", "AUTH", "HEADER")
OWN = ("CURL_CA_BUNDLE", "CPL_LOG")
#: A file that is in every folder of GDAL's data.
GDAL_FILE = "gdalvrt.xsd"
#: A place whose coordinates are compared, in degrees, and how far apart they may be, in metres.
PLACE, APART = (15.0, 45.0), 0.01


@dataclasses.dataclass(frozen=True)
class Environment:
    """What :func:`look_around` found.

    Attributes
    ----------
    versions : dict
        By name. GDAL and PROJ are those of rasterio; pyogrio, which writes the polygons, and pyproj may bring
        their own.
    platform : str
    devices : list of dict
        ``name``, ``what`` and, of graphics cards, ``memory`` (MB of 2**20 bytes).
    processors : int
        That this process may use.
    threads : int or None
        Of torch; tiles are computed with one thread each.
    memory, free, limit : int or None
        Megabytes of the machine, those free of them, and what a container (cgroup) allows.
    variables : dict
        Of the surroundings, as far as they matter; without secrets.
    troubles : list of str
        Each with what to do.
    """

    versions: dict[str, str]
    platform: str
    devices: list[dict[str, Any]]
    processors: int
    threads: int | None
    memory: int | None
    free: int | None
    limit: int | None
    variables: dict[str, str]
    troubles: list[str]


def look_around() -> Environment:
    """Look at versions, devices, memory and variables, and try whether GDAL and PROJ find their data."""
    troubles = [*_data_troubles(), *_projection_troubles()]
    devices, threads = _devices(troubles)
    total, free = _memory()
    return Environment(
        versions={
            **versions(),
            "pyogrio": pyogrio.__version__,
            "GDAL of pyogrio": ".".join(map(str, pyogrio.__gdal_version__)),
            "pyproj": pyproj.__version__,
            "PROJ of pyproj": pyproj.proj_version_str,
            **{name: version for name in OPTIONAL if (version := _version(name))},
        },
        platform=f"{platform.platform()}, {platform.machine()}",
        devices=devices,
        processors=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=threads,
        memory=total,
        free=free,
        limit=_limit(),
        variables=_variables(),
        troubles=troubles,
    )


def _variables() -> dict[str, str]:
    """Return the variables that matter, without what lets somebody in: this goes into bug reports."""
    return {
        key: "(not shown)" if any(word in key for word in SECRET) else value
        for key, value in sorted(os.environ.items())
        if key.startswith(VARIABLES) and not key.endswith(OWN)
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices(troubles: list[str]) -> tuple[list[dict[str, Any]], int | None]:
    try:
        from geocd.method import devices
    except (ImportError, OSError) as error:  # a library that it needs is missing
        troubles.append(f"torch cannot be imported ({error}). Install it again; cva and irmad work without.")
        return [], None
    return devices.available(), devices.threads()


def _data_troubles() -> list[str]:
    """Return what is wrong with variables that name a folder of data."""
    found = []
    for name, file in (("PROJ_DATA", "proj.db"), ("PROJ_LIB", "proj.db"), ("GDAL_DATA", GDAL_FILE)):
        folders = [Path(part) for part in os.environ.get(name, "").split(os.pathsep) if part]
        if folders and not any((folder / file).is_file() for folder in folders):
            found.append(
                f"{name} is {os.environ[name]}, where there is no {file}: it was set by, or for, another "
                f"program. Unset it ('unset {name}'), or let it name the right folder."
            )
    return found


def _projection_troubles() -> list[str]:
    """Try both libraries that project coordinates, and whether they agree."""
    named = [f"{key}={os.environ[key]}" for key in ("PROJ_DATA", "PROJ_LIB") if os.environ.get(key)]
    remedy = (
        f"{' and '.join(named)} may lead to the data of another PROJ: unset it."
        if named
        else "Two installations may be mixed (conda with pip, say): make a fresh environment."
    )
    places: dict[str, tuple[float, float]] = {}
    found = []
    try:
        x, y = rasterio.warp.transform(CRS.from_epsg(4326), CRS.from_epsg(32633), [PLACE[0]], [PLACE[1]])
        places["rasterio"] = (x[0], y[0])
    except (RasterioError, CRSError) as error:
        found.append(f"rasterio cannot look up EPSG:32633 ({_short(error)}). {remedy}")
    try:
        transformer = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
        places["pyproj"] = transformer.transform(*PLACE)
    except pyproj.exceptions.ProjError as error:
        found.append(f"pyproj cannot look up EPSG:32633 ({_short(error)}). {remedy}")
    if len(places) == 2 and not math.dist(*places.values()) <= APART:
        found.append(
            f"rasterio and pyproj project {PLACE} to {places['rasterio']} and {places['pyproj']}. {remedy}"
        )
    return found


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())


def _memory() -> tuple[int | None, int | None]:
    """Return the megabytes of the machine, and those that are free."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {name: int(rest.split()[0]) // 1024 for name, rest in (line.split(":") for line in lines)}
        return values["MemTotal"], values["MemAvailable"]
    except (OSError, ValueError, KeyError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20, None
    except (AttributeError, ValueError, OSError):  # Windows
        return None, None


def _limit() -> int | None:
    """Return the megabytes that the innermost container or job allows."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = int(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such file, or "max"
            continue
        if limit < 2**60:
            return limit // 2**20
    return None


__all__ = ["Environment", "look_around"]
