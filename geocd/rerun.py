"""A run repeated from its STAC item, and compared with the original one."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from geocd.config import OTHER_DATES, RASTERS, Settings, numbered
from geocd.errors import Interrupted, ItemError, ResumeError
from geocd.pipeline.inputs import refuse_inputs
from geocd.pipeline.run import detect
from geocd.raster.sources import ALLOW, is_remote, may_reach, shown
from geocd.report.fingerprint import Fingerprint, same_content
from geocd.report.links import source_path
from geocd.report.products import Outputs, product
from geocd.report.record import RunRecord
from geocd.report.stac import item_checksum
from geocd.types import Progress

#: What ``detect`` returns.
_Result: TypeAlias = tuple[dict[str, Path], RunRecord]


@dataclasses.dataclass(frozen=True)
class Rerun:
    """Comparison of a repeated run with the original one.

    Attributes
    ----------
    same : dict of bool
        By output (``prob``, ``changes``, ...): whether its checksum equals the one in the item.
    inputs : dict of bool
        By input (``before``, ``after``, ...): whether its content is unchanged. Empty where the item has no
        fingerprints.
    recorded, current : dict of str
        Versions of software, and the device, that differ: those in the item, and those of this run.
    files : dict of pathlib.Path
        Paths of the new outputs; empty where they were not to be kept.
    """

    same: dict[str, bool]
    inputs: dict[str, bool]
    recorded: dict[str, str]
    current: dict[str, str]
    files: dict[str, Path]

    @property
    def identical(self) -> bool:
        """Whether every output is the same byte for byte."""
        return all(self.same.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an item says about its run: how to repeat it, and what to compare the result with.

    Attributes
    ----------
    before, after : str
        Paths or URLs of the rasters.
    settings : Settings
    checksums : mapping of str
        Checksum of each output, by the key of its asset; None where the item has none.
    inputs : mapping of list of Fingerprint
        Fingerprints of the inputs, by their names.
    versions : mapping of str
        Versions of software, and the kind of device as ``device``.
    """

    before: str
    after: str
    settings: Settings
    checksums: Mapping[str, str | None]
    inputs: Mapping[str, list[Fingerprint]]
    versions: Mapping[str, str]


def recipe(item: Mapping[str, Any], path: Path) -> Recipe:
    """Read the STAC item of a run.

    Parameters
    ----------
    item : mapping
        The item, as parsed from JSON.
    path : pathlib.Path
        File of the item, which its relative links refer to.

    Raises
    ------
    ItemError
        It is not the item of a geocd run, or names an input on the network.
    ConfigError
        A setting does not exist in this version, or has an invalid value.
    """
    try:
        properties = item["properties"]
        flat = dict(properties["geocd:settings"])
        links = {
            link["title"].partition(":")[0]: source_path(link["href"], path.parent)
            for link in item["links"]
            if link["rel"] == "derived_from"
        }
        before, after = links["before"], links["after"]
        checksums = {key: asset.get("file:checksum") for key, asset in item["assets"].items()}
        inputs = {
            name: [Fingerprint.from_dict(file) for file in files]
            for name, files in properties.get("geocd:inputs", {}).items()
        }
        software, device = properties.get("processing:software", {}), properties.get("geocd:device", "")
        versions = {name: str(version) for name, version in {**software, "device": device}.items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ItemError(
            f"{path}: not the STAC item of a geocd run ({error!r}). Pass the STEM.json that geocd detect "
            "wrote.",
            path=str(path),
        ) from error
    others = numbered(**{name: flat.get(name) or () for name in OTHER_DATES})
    named = {name: str(flat.get(name)) for name in RASTERS} | others
    for name, source in (*links.items(), *named.items()):
        if is_remote(source) and not may_reach(""):
            raise ItemError(
                f"{path}: its {name} is on the network ({shown(source)}), and is not fetched just because a "
                f"file names it. If you trust the item, set {ALLOW}=YES in the environment, or repeat the "
                "run with geocd detect.",
                path=str(path),
                source=source,
            )
    if str(flat.get("backbone")).endswith(".py"):
        raise ItemError(
            f"{path}: its backbone is a Python file ({shown(str(flat['backbone']))}), which is not run just "
            "because a file names it. If you trust it, repeat the run with geocd detect --backbone FILE.",
            path=str(path),
        )
    if flat.get("preset") == "default":  # which took steps in version 0.1
        for name in ("iterations", "learning_rate", "fit"):
            flat.pop(name, None)
    flat.setdefault("cloud_detector", "rule")  # the only one there was
    for name in ("jobs", "mem_limit"):  # outputs do not depend on them: the tile size is among the settings
        flat.pop(name, None)
    flat |= {name: links.get(name, flat[name]) for name in RASTERS if flat.get(name) is not None}
    for name in OTHER_DATES:
        flat[name] = [links.get(f"{name} {n}", path) for n, path in enumerate(flat.get(name) or (), 1)]
    return Recipe(
        before=before,
        after=after,
        settings=Settings.from_flat(flat),
        checksums=checksums,
        inputs=inputs,
        versions=versions,
    )


def rerun(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Rerun:
    """Repeat a run and compare its outputs byte for byte.

    Parameters
    ----------
    path : path
        The STAC item of the run.
    output : path, optional
        Stem of the new outputs, which are kept. Default: write them beside the item (their tags have paths
        relative to their folder), and delete them after the comparison.
    overwrite : bool
        Whether existing outputs of that name may be replaced.
    jobs : int, optional
        As for :func:`geocd.pipeline.run.detect`.
    progress : callable, optional
        As for :func:`geocd.pipeline.run.detect`.

    Returns
    -------
    Rerun

    Raises
    ------
    ItemError
        The file is missing, or is not the item of a geocd run.
    GeocdError
        See :func:`geocd.pipeline.run.detect`.
    """
    path = Path(path)
    try:
        item = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ItemError(
            f"{path}: cannot be read as JSON ({reason}). Pass the STEM.json that geocd detect wrote.",
            path=str(path),
        ) from error
    original = recipe(item, path)
    with contextlib.ExitStack() as stack:
        if output is None:
            # Beside the item: in another folder, relative paths would differ.
            stem = _free_stem(path)
            stack.callback(_delete, stem)
        else:
            stem = Path(output)
            refuse_inputs(Outputs(stem).paths().values(), [path])
        run = functools.partial(
            detect,
            original.before,
            original.after,
            stem,
            settings=original.settings,
            overwrite=overwrite,
            jobs=jobs,
            progress=progress,
        )
        files, record = _unresumed(run) if output is None else _resumed(run, stem)
        same = {
            key: item_checksum(files[key]) == checksum
            for key, checksum in original.checksums.items()
            if key in files and not product(key).timed
        }
        inputs = {
            name: same_content(original.inputs[name], fingerprints)
            for name, fingerprints in record.inputs.items()
            if name in original.inputs
        }
        recorded, current = original.versions, {**record.versions, "device": record.device}
        differing = sorted(
            name for name in recorded.keys() | current.keys() if recorded.get(name) != current.get(name)
        )
        return Rerun(
            same,
            inputs,
            {name: recorded.get(name, "none") for name in differing},
            {name: current.get(name, "none") for name in differing},
            files if output is not None else {},
        )


def _free_stem(path: Path) -> Path:
    """Return a stem beside an item of whose outputs none exists."""
    for number in itertools.count():
        outputs = Outputs(path.with_name(f".{path.stem}.rerun-{os.getpid()}{f'-{number}' * (number > 0)}"))
        if not any(map(os.path.lexists, [outputs.folder, *outputs.paths().values()])):
            break
    return outputs.stem


def _unresumed(run: Callable[..., _Result]) -> _Result:
    """Call ``detect``; after an interrupt nothing is kept."""
    try:
        return run()
    except Interrupted as interrupt:
        raise KeyboardInterrupt from interrupt


def _resumed(run: Callable[..., _Result], stem: Path) -> _Result:
    """Call ``detect``, with ``resume`` where an earlier one of the same outputs was interrupted."""
    try:
        if not Outputs(stem).folder.is_dir():
            return run()
        try:
            return run(resume=True)
        except ResumeError:  # the interrupted run was that of another item
            return run()
    except Interrupted as interrupt:
        again = "run the same command again to continue"
        raise Interrupted(interrupt.folder, interrupt.kept, interrupt.total, again) from interrupt


def _delete(stem: Path) -> None:
    """Delete all outputs of a run, or the tiles of one that was interrupted."""
    outputs = Outputs(stem)
    for path in outputs.paths().values():
        path.unlink(missing_ok=True)
    shutil.rmtree(outputs.folder, ignore_errors=True)


__all__ = ["Recipe", "Rerun", "recipe", "rerun"]
