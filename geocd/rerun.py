"""A run made again from its STAC item, and compared with what the item says came out."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geocd.config import Settings
from geocd.errors import ItemError
from geocd.pipeline.run import detect
from geocd.raster.sources import ALLOW, is_remote, may_reach, shown
from geocd.report.fingerprint import Fingerprint, same_content
from geocd.report.links import source_path
from geocd.report.products import Outputs, product
from geocd.report.stac import item_checksum
from geocd.types import Progress


@dataclasses.dataclass(frozen=True)
class Rerun:
    """How a run made again compares with the first one.

    Attributes
    ----------
    same : dict of bool
        By output (``prob``, ``changes``, ...): whether its bytes are those whose checksum the item has.
    inputs : dict of bool
        By input (``before``, ``after``, ...): whether its content is the same. Empty where the item does not
        tell.
    then, now : dict of str
        Versions of software, and the device, that differ.
    files : dict of pathlib.Path
        The new outputs; empty where they were not to be kept.
    """

    same: dict[str, bool]
    inputs: dict[str, bool]
    then: dict[str, str]
    now: dict[str, str]
    files: dict[str, Path]

    @property
    def identical(self) -> bool:
        """Whether every output is the same."""
        return all(self.same.values())


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What an item says of how its run was made."""

    before: str
    after: str
    settings: Settings


def recipe(item: Mapping[str, Any], path: Path) -> Recipe:
    """Return inputs and settings of the run that an item tells of.

    Parameters
    ----------
    item : mapping
    path : pathlib.Path
        Where the item stands: its relative links start there.

    Raises
    ------
    ItemError
        It is no item of a geocd run.
    ConfigError
        A setting does not exist in this version, or has a value that cannot work.
    """
    try:
        flat = dict(item["properties"]["geocd:settings"])
        links = {
            link["title"].partition(":")[0]: source_path(link["href"], path.parent)
            for link in item["links"]
            if link["rel"] == "derived_from"
        }
        before, after = links["before"], links["after"]
        _check_told(item)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ItemError(
            f"{path}: is no STAC item of a geocd run: {error!r} cannot be found in it. Name the STEM.json "
            "that geocd detect has written.",
            path=str(path),
        ) from error
    for name, source in (*links.items(), ("valid", str(flat.get("valid")))):
        if is_remote(source) and not may_reach(""):
            raise ItemError(
                f"{path}: its {name} lies on the network ({shown(source)}), and is not fetched "
                f"because a file says so. If you trust the item, set {ALLOW}=YES in the environment, or "
                "repeat the run with geocd detect.",
                path=str(path),
                source=source,
            )
    for name in ("jobs", "mem_limit"):  # outputs do not depend on them: the tile size is among the settings
        flat.pop(name, None)
    if flat.get("valid") is not None:
        flat["valid"] = links.get("valid", flat["valid"])
    return Recipe(before, after, Settings.from_flat(flat))


def _check_told(item: Mapping[str, Any]) -> None:
    """Raise KeyError unless what is compared after the run has the form that a run writes."""
    properties = item["properties"]
    for name, values in (
        ("assets", item["assets"].values()),
        ("geocd:inputs", [part for files in properties.get("geocd:inputs", {}).values() for part in files]),
    ):
        if not all(isinstance(value, dict) for value in values):
            raise KeyError(name)
    for name, kind in (("processing:software", dict), ("geocd:device", str)):
        if not isinstance(properties.get(name, kind()), kind):
            raise KeyError(name)


def rerun(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Rerun:
    """Make a run again and say whether the same bytes come out.

    Parameters
    ----------
    path : path
        The STAC item of the run.
    output : path, optional
        Stem of the new outputs, which stay. Default: they are written beside the item, because relative paths
        are among what the probability raster says of itself, and deleted when they have been compared.
    overwrite : bool
        Whether existing outputs of that name may be replaced.
    jobs : int, optional
        As for :func:`geocd.pipeline.run.detect`.
    progress : callable, optional
        As for :func:`geocd.pipeline.run.detect`.

    Raises
    ------
    ItemError
        The file is missing, or no item of a geocd run.
    GeocdError
        See :func:`geocd.pipeline.run.detect`.
    """
    path = Path(path)
    try:
        item = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ItemError(
            f"{path}: cannot be read as JSON ({reason}). Name the STEM.json that geocd detect has written.",
            path=str(path),
        ) from error
    made = recipe(item, path)
    with contextlib.ExitStack() as stack:
        if output is None:
            # A name beside the item: a folder below it would make other relative paths.
            stem = path.with_name(f".{path.stem}.rerun-{os.getpid()}")
            stack.callback(_delete, stem)
        else:
            stem = Path(output)
        files, record = detect(
            made.before,
            made.after,
            stem,
            settings=made.settings,
            overwrite=overwrite,
            jobs=jobs,
            progress=progress,
        )
        properties = item["properties"]
        same = {
            key: item_checksum(files[key]) == asset.get("file:checksum")
            for key, asset in item["assets"].items()
            if key in files and not product(key).timed
        }
        known = properties.get("geocd:inputs", {})
        inputs = {
            name: same_content([Fingerprint.from_dict(file) for file in known[name]], fingerprints)
            for name, fingerprints in record.inputs.items()
            if name in known
        }
        then = {**properties.get("processing:software", {}), "device": properties.get("geocd:device", "")}
        now = {**record.versions, "device": record.device}
        differing = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
        return Rerun(
            same,
            inputs,
            {name: then.get(name, "none") for name in differing},
            {name: now.get(name, "none") for name in differing},
            files if output is not None else {},
        )


def _delete(stem: Path) -> None:
    """Delete all outputs of a run."""
    for path in Outputs(stem).paths().values():
        path.unlink(missing_ok=True)


__all__ = ["Recipe", "Rerun", "recipe", "rerun"]
