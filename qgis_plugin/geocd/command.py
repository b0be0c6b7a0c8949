"""From layers and values to a command line, and from geocd's files to the outputs of the dialog.

Knows nothing of QGIS.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .options import VECTORS, Option
from .process import PluginError


def gdal_name(name: str, provider: str, source: str) -> str:
    """Return the name under which GDAL, and so geocd, can open a layer.

    Parameters
    ----------
    name : str
        Of the layer, for the message.
    provider : str
        QGIS's data provider of the layer; must be ``gdal``.
    source : str
        Data source of the layer: a file, a URL, ``/vsizip/...`` or a subdataset such as
        ``NETCDF:"file.nc":B04``, with what QGIS appends after ``|``.

    Raises
    ------
    PluginError
        Only QGIS can open the layer.
    """
    remedy = "Save it as a GeoTIFF first (Layer > Save As), and use that."
    if provider != "gdal":
        raise PluginError(f"{name}: comes from the provider '{provider}', not from a file. {remedy}")
    path, *rest = source.split("|")
    for part in rest:
        if part.startswith("option:"):
            raise PluginError(
                f"{name}: is opened with the option {part[len('option:') :]}, which would be lost. {remedy}"
            )
        if part.startswith("authcfg="):
            raise PluginError(f"{name}: needs a login that only QGIS has ({part}). {remedy}")
    if "/vsimem/" in path:
        raise PluginError(f"{name}: exists only in the memory of QGIS ({path}). {remedy}")
    return path


def refuse_same(sources: Mapping[str, str | None]) -> None:
    """Raise PluginError where before and after are one layer or file."""
    before, after = sources.get("BEFORE"), sources.get("AFTER")
    if before is None or after is None:
        return
    same = before == after
    with contextlib.suppress(OSError, ValueError):  # not local files
        same = same or Path(before).samefile(after)
    if same:
        raise PluginError(f"Before and After are the same image ({before}). Choose another date for one.")


def arguments(options: Sequence[Option], values: Mapping[str, Any]) -> list[str]:
    """Return the options for the command line, without those that have their defaults.

    Parameters
    ----------
    options : sequence of Option
    values : mapping
        By the options' names; missing values and None are left out.
    """
    words = []
    for option in options:
        value = values.get(option.name)
        if value in (None, "", (), []) or value == option.default:
            continue
        if option.kind == "flag":
            words.append(option.flag)
        elif option.kind == "choices":
            words.append(f"{option.flag}={','.join(value)}")
        elif option.kind == "number":
            words.append(f"{option.flag}={value:.15g}")
        else:
            words.append(f"{option.flag}={value}")
    return words


def extra(text: str) -> list[str]:
    """Split further options as a shell would.

    Raises
    ------
    PluginError
        A quotation mark is not closed.
    """
    try:
        return shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise PluginError(f"Further options {text}: {error}. Close the quotation mark.") from error


def work_stem(output: Path) -> Path:
    """Return the stem that ``geocd detect`` is given: beside the output, with a name that nothing else has.

    Always the same for an output, so that a cancelled run can be resumed.
    """
    return output.with_name(output.name + ".qgis")


#: Suffix of the polygons that a run writes; other formats are made from its raster.
RUN_VECTOR = ".gpkg"


def refuse_names(raster: Path, vector: Path | None) -> None:
    """Raise PluginError where the outputs of a run cannot have these names."""
    if raster.suffix.lower() not in (".tif", ".tiff"):
        raise PluginError(
            f"{raster}: the change probability is written as .tif only. Choose a name with this suffix."
        )
    if vector is None:
        return
    if vector.suffix.lower() in VECTORS and vector.suffix.lower() != RUN_VECTOR:
        raise PluginError(
            f"{vector}: a run writes its polygons as {RUN_VECTOR}. Choose a name with this suffix, and make "
            "the other format from the change probability, by the algorithm for its polygons."
        )
    refuse_vector(vector)
    if raster.with_suffix("") == vector.with_suffix(""):
        raise PluginError(
            f"{raster} and {vector} would share one style file, {raster.with_suffix('.qml').name}. Give them "
            f"different names, such as {raster.stem}_prob.tif and {vector.stem}_changes.gpkg."
        )


def refuse_vector(vector: Path) -> None:
    """Raise PluginError where the suffix is no vector format, or the file is open and must stay."""
    if vector.suffix.lower() not in VECTORS:
        raise PluginError(
            f"{vector}: polygons are written as {', '.join(VECTORS)}. Use one of these suffixes."
        )
    for log in (vector.with_name(vector.name + "-wal"), vector.with_name(vector.name + "-journal")):
        if log.exists():
            raise PluginError(
                f"{vector}: is open ({log.name} lies beside it). Remove its layer from the project, or "
                "choose another name."
            )


def move(source: Path, target: Path) -> None:
    """Move a file to its name and replace an older one; completely or not at all, on any file system.

    An older file leaves its permissions.

    Raises
    ------
    PluginError
        The target cannot be written.
    """
    part: Path | None = None
    try:
        if target.is_file():
            shutil.copymode(target, source)
        try:
            source.replace(target)
        except OSError:  # another file system
            name = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
            with source.open("rb") as content, name.open("xb") as copy:  # a link of that name is not followed
                part = name
                shutil.copyfileobj(content, copy)
            shutil.copymode(source, part)
            part.replace(target)
            source.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            if part is not None:
                part.unlink()
        raise PluginError(
            f"{target}: cannot be written ({error.strerror}). If it is open, remove its layer from the "
            "project; or choose another name."
        ) from error


def move_outputs(stem: Path, raster: Path, vector: Path | None) -> None:
    """Move the layers of a run and their styles to the outputs of the dialog, and remove its other files.

    Raises
    ------
    PluginError
        One of them cannot be moved; the message says where the results are.
    """
    try:
        for name, suffix, target in (("_changes", RUN_VECTOR, vector), ("_prob", ".tif", raster)):
            if target is not None:
                move(stem.with_name(stem.name + name + suffix), target)
                move(stem.with_name(stem.name + name + ".qml"), target.with_suffix(".qml"))
    except PluginError as problem:
        raise PluginError(f"{problem} The results are kept as {stem}_*.") from problem
    with contextlib.suppress(OSError):  # statistics of a raster that was replaced
        raster.with_name(raster.name + ".aux.xml").unlink()
    for path in stem.parent.iterdir():
        if path.name.startswith((stem.name + "_", stem.name + ".")) and path.is_file():
            with contextlib.suppress(OSError):
                path.unlink()
