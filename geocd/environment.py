"""What geocd runs on: versions, devices, memory, and problems of the installation."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from pathlib import Path

import pyogrio
import pyproj

from geocd.machine import memory, memory_limit
from geocd.raster.projections import projection_problems
from geocd.report.record import versions

#: Packages of the extras.
OPTIONAL = (
    "xarray",
    "rioxarray",
    "dask",
    "distributed",
    "pystac",
    "pystac-client",
    "boto3",
    "ukis-csmask",
    "onnxruntime",
)
#: Prefixes of the environment variables that GDAL, PROJ, torch, dask and geocd read.
VARIABLES = ("GDAL_", "PROJ_", "CPL_", "VSI_", "OMP_", "CUDA_", "GEOCD_", "DASK_")
#: Parts of the names of variables that may hold a secret, and ends of those that rasterio and geocd set.
SECRET = ("HTTP", "PWD", "PASS", "KEY", "TOKEN", "SECRET", "AUTH", "HEADER")
OWN = ("CURL_CA_BUNDLE", "CPL_LOG")
#: A file that every folder of GDAL's data has.
GDAL_FILE = "gdalvrt.xsd"


@dataclasses.dataclass(frozen=True)
class Environment:
    """The environment that geocd runs in, see :func:`inspect_environment`.

    Attributes
    ----------
    versions : dict of str
        Versions by name. GDAL and PROJ are those of rasterio; pyogrio, which writes the polygons, and pyproj
        may have their own.
    platform : str
        Operating system and machine.
    devices : list of dict
        Compute devices: ``name``, ``what`` (its model) and, for GPUs, ``memory`` (MB of 2**20 bytes).
    processors : int
        Processors that this process may use.
    threads : int or None
        Threads of torch, None where torch cannot be imported. Each tile is computed with one thread.
    memory, free, limit : int or None
        Memory of the machine, how much of it is free, and how much a container (cgroup) allows, in MB of
        2**20 bytes; None where unknown.
    variables : dict of str
        Environment variables that matter; secrets are not shown.
    troubles : list of str
        Problems, each with its remedy.
    """

    versions: dict[str, str]
    platform: str
    devices: list[dict[str, str | int | None]]
    processors: int
    threads: int | None
    memory: int | None
    free: int | None
    limit: int | None
    variables: dict[str, str]
    troubles: list[str]


def inspect_environment() -> Environment:
    """Return versions, devices, memory and variables, and test whether GDAL and PROJ find their data."""
    problems = [*_data_problems(), *projection_problems()]
    devices, threads = _devices(problems)
    total, free = memory()
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
        limit=memory_limit(),
        variables=_variables(),
        troubles=problems,
    )


def _variables() -> dict[str, str]:
    """Return the variables that matter, without credentials: the report goes into bug reports."""
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


def _devices(problems: list[str]) -> tuple[list[dict[str, str | int | None]], int | None]:
    """Return the compute devices and torch's threads; adds a problem where torch cannot be imported."""
    try:
        from geocd.method import devices
    except (ImportError, OSError) as error:  # torch or a library that it needs is missing
        problems.append(f"torch cannot be imported ({error}). Reinstall it; cva and irmad work without it.")
        return [], None
    return devices.available(), devices.threads()


def _data_problems() -> list[str]:
    """Return the problems of variables that name a folder of data."""
    problems = []
    for name, file in (("PROJ_DATA", "proj.db"), ("PROJ_LIB", "proj.db"), ("GDAL_DATA", GDAL_FILE)):
        folders = [Path(part) for part in os.environ.get(name, "").split(os.pathsep) if part]
        if folders and not any((folder / file).is_file() for folder in folders):
            problems.append(
                f"{name} is {os.environ[name]}, where there is no {file}: it was set by, or for, another "
                f"program. Unset it ('unset {name}'), or set it to the right folder."
            )
    return problems


__all__ = ["Environment", "inspect_environment"]
