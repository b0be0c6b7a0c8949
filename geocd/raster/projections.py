"""Whether the libraries that project coordinates work: another program's data make them fail."""

from __future__ import annotations

import functools
import math
import os

import rasterio.warp
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError

from geocd.errors import ProjectionDataError

#: Environment variables that name the data of PROJ. Other programs set them: QGIS, PostGIS, OSGeo4W, conda.
VARIABLES = ("PROJ_DATA", "PROJ_LIB")
#: A point in degrees (longitude, latitude) that rasterio and pyproj both project, and the largest distance
#: between the results in metres.
POINT, TOLERANCE = (15.0, 45.0), 0.01


def check_projections() -> None:
    """Check, once, that coordinates can be projected with the data that the environment names.

    Raises
    ------
    ProjectionDataError
    """
    named = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if not named or (problem := _first_problem(*named.values())) is None:
        return
    variables = " and ".join(f"{name} ({folder})" for name, folder in named.items())
    names = " ".join(named)
    raise ProjectionDataError(
        f"the environment names the data of another PROJ: {variables}. {problem} Another program has set it, "
        f"such as QGIS, PostGIS or OSGeo4W. Unset it and try again: unset {names} (Windows: "
        f"{' & '.join(f'set {name}=' for name in named)}).",
        variables=named,
    )


@functools.cache
def _first_problem(*folders: str) -> str | None:
    """Return what does not work, without the remedy; None where nothing is wrong."""
    del folders  # the key
    problems = _problems()
    return problems[0] if problems else None


def projection_problems() -> list[str]:
    """Return the problems of the two libraries that project coordinates, with remedies."""
    named = [f"{key}={os.environ[key]}" for key in VARIABLES if os.environ.get(key)]
    remedy = (
        f"{' and '.join(named)} may be the data of another PROJ: unset it."
        if named
        else "Two installations may be mixed (such as conda and pip): make a fresh environment."
    )
    return [f"{problem} {remedy}" for problem in _problems()]


def _problems() -> list[str]:
    """Return what does not work; the results of the two libraries must agree."""
    import pyproj

    points: dict[str, tuple[float, float]] = {}
    problems = []
    try:
        x, y = rasterio.warp.transform(CRS.from_epsg(4326), CRS.from_epsg(32633), [POINT[0]], [POINT[1]])
        points["rasterio"] = (x[0], y[0])
    except (RasterioError, CRSError) as error:
        problems.append(f"rasterio cannot look up EPSG:32633 ({_short(error)}).")
    try:
        transformer = pyproj.Transformer.from_crs(4326, 32633, always_xy=True)
        points["pyproj"] = transformer.transform(*POINT)
    except pyproj.exceptions.ProjError as error:
        problems.append(f"pyproj cannot look up EPSG:32633 ({_short(error)}).")
    if len(points) == 2 and not math.dist(*points.values()) <= TOLERANCE:
        problems.append(
            f"rasterio and pyproj project {POINT} to {points['rasterio']} and {points['pyproj']}."
        )
    return problems


def _short(error: BaseException) -> str:
    """Return the message of an error on one line."""
    return " ".join(str(error).split())


__all__ = ["check_projections", "projection_problems"]
