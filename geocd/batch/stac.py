"""Pairs made of the items of a STAC ItemCollection or catalogue."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geocd.batch.acquisitions import Acquisition, OnDemand, Places, clean_name, paired
from geocd.batch.columns import located
from geocd.batch.pairing import Day, Pairing
from geocd.batch.pairs import Item
from geocd.batch.stack import Stack
from geocd.errors import GeocdError, PairsError
from geocd.location import local_path
from geocd.raster.sources import ALLOW, is_file, is_remote, may_reach, shown

if TYPE_CHECKING:
    import pystac

#: Keys under which collections have their quality masks: Sentinel-2 (Earth Search, Planetary Computer),
#: Landsat, HLS, Planet.
MASK_ASSETS = ("scl", "SCL", "qa_pixel", "QA_PIXEL", "Fmask", "udm2", "ortho_udm2")
#: Folder of the VRTs and of found items, in that of the batch.
SOURCES_FOLDER = "sources"
#: Properties with the per cent of a tile that an item has no data for, and those that tell processings apart.
_NODATA = ("s2:nodata_pixel_percentage", "sentinel:nodata_pixel_percentage")
_BASELINES = ("s2:processing_baseline", "sentinel:processing_baseline", "processing:version", "s2:sequence")
#: Properties that tell which offset the values have.
_PROCESSING = (
    "s2:processing_baseline",
    "sentinel:processing_baseline",
    "s2:product_uri",
    "landsat:product_id",
    "earthsearch:boa_offset_applied",
    "sentinel:boa_offset_applied",
)
#: Items of one tile and day that cover this much less, in per cent of the tile, are not used.
_COVER = 10.0
#: Items without a tile that have this share of their areas in common are of one place: aerial images (NAIP)
#: of one quadrangle differ by some pixels from year to year, and neighbours overlap by some per cent.
_OVERLAP = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """Which items make a pair.

    Items are grouped by tile: ``grid:code``, else the tile of Sentinel-2 or the path and row of Landsat, else
    by extents that overlap (projection extension). Of each tile and day, the item with the least cloud is
    used among those that cover most; of one acquisition, the newest processing.

    Parameters
    ----------
    assets : sequence of str
        Keys of the assets whose bands are stacked, in this order. Default: the only asset with the role
        ``data``.
    features : sequence of str
        Keys of the assets with features that were made elsewhere, stacked likewise. Default: none.
    mask : str, optional
        Key of the asset with the quality mask; "none" for none. Default: the one of :data:`MASK_ASSETS` that
        an item has.
    pairing : Pairing
        Which days are paired.
    max_cloud : float, optional
        Items with more cloud than this (``eo:cloud_cover``, per cent) are left out; items without the
        property are kept.
    """

    assets: Sequence[str] = ()
    features: Sequence[str] = ()
    mask: str | None = None
    pairing: Pairing = dataclasses.field(default_factory=Pairing)
    max_cloud: float | None = None


def is_stac(path: str | os.PathLike[str]) -> bool:
    """Return whether a file holds STAC items or links to them, and not a list of pairs."""
    if Path(path).suffix.lower() not in (".json", ".geojson") or not is_file(path):
        return False
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    if not isinstance(content, dict):
        return False
    features = content.get("features")
    first = features[0] if isinstance(features, list) and features else None
    return "stac_version" in content or (isinstance(first, dict) and "stac_version" in first)


def stac_pairs(path: str | os.PathLike[str], folder: Path, rule: Rule) -> list[Item]:
    """Return the pairs that a rule makes of a file of STAC items.

    Parameters
    ----------
    path : path
        An ItemCollection, or a catalogue or collection, whose links to items are followed. Relative links
        start from this file.
    folder : pathlib.Path
        Folder of the batch; the VRTs will be written into its ``sources``.
    rule : Rule

    Returns
    -------
    list of Item

    Raises
    ------
    PairsError
        The file cannot be read, an item has no tile, date or asset to go by, or there is no pair.
    """
    pairs = paired(stac_places(path, folder, rule), rule.pairing)
    if not pairs:
        raise PairsError(f"{path}: no two items of the same tile make a pair.", path=str(path))
    return pairs


def stac_places(path: str | os.PathLike[str], folder: Path, rule: Rule) -> Places:
    """Return what a file of STAC items has of each tile and day, see :func:`stac_pairs`."""
    path = Path(path).absolute()
    with _types_checked(path):
        return _places(path, folder, rule)


@contextlib.contextmanager
def _types_checked(path: Path) -> Iterator[None]:
    """Turn what wrong types of properties raise into PairsError: pystac does not check them."""
    try:
        yield
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, GeocdError):
            raise
        raise PairsError(
            f"{path}: an item has a value of the wrong type ({error!r}). Check the file with stac-validator.",
            path=str(path),
        ) from error


def _places(path: Path, folder: Path, rule: Rule) -> Places:
    tiles: dict[str, dict[Day, list[pystac.Item]]] = {}
    areas: list[_Area] = []
    for item in sorted(_items(path), key=lambda item: (_date(item), item.id)):
        cloud = item.properties.get("eo:cloud_cover")
        if rule.max_cloud is not None and cloud is not None and cloud > rule.max_cloud:
            continue
        tile = _tile(item) or _area_name(item, areas)
        tiles.setdefault(tile, {}).setdefault(_date(item).date(), []).append(item)
    by_path: dict[str, Stack] = {}

    def acquisition(by_day: Mapping[Day, Sequence[pystac.Item]], day: Day) -> Acquisition:
        with _types_checked(path):
            acquired = _acquisition_of(_best(by_day[day]), path.parent, folder, rule)
        for stack in acquired.stacks:
            if by_path.setdefault(stack.path, stack) != stack:
                raise PairsError(
                    f"{path}: two items have the id of {stack.path}. The ids of items must differ."
                )
        return acquired

    return {
        tile: OnDemand(sorted(by_day), functools.partial(acquisition, by_day))
        for tile, by_day in sorted(tiles.items())
    }


def _acquisition_of(item: pystac.Item, base: Path, folder: Path, rule: Rule) -> Acquisition:
    """Return what an item has of its tile and day; its links start from the folder ``base``."""
    image = _stack(item, _keys(item, rule), base, folder)
    features = _stack(item, rule.features, base, folder, "_features") if rule.features else None
    keys = _mask_keys(item, rule)
    mask = _stack(item, keys, base, folder, "_mask") if keys else None
    stacks = [stack for stack in (image, features, mask) if stack is not None]
    return Acquisition(
        image.path,
        None if mask is None else mask.path,
        None if features is None else features.path,
        tuple(stacks),
    )


def _items(path: Path) -> Iterable[pystac.Item]:
    import pystac

    try:
        kind = _local_io().read_json(str(path)).get("type")
        if kind == "Feature":
            raise PairsError(
                f"{path}: is one STAC item, and a pair needs two. Put both into the features of one "
                "FeatureCollection, or list their files in a CSV.",
                path=str(path),
            )
        if kind == "FeatureCollection":
            return list(pystac.ItemCollection.from_file(str(path), _local_io()))
        return list(pystac.Catalog.from_file(str(path), _local_io()).get_items(recursive=True))
    except RecursionError as error:
        raise PairsError(
            f"{path}: cannot be read as STAC (catalogues that link to each other, or nesting too deep).",
            path=str(path),
        ) from error
    except Exception as error:  # pystac checks no types, so a wrong one may raise anything
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, GeocdError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise PairsError(f"{path}: cannot be read as STAC ({error}).", path=str(path)) from error


def _local_io() -> pystac.StacIO:
    """Return a reader of catalogues that follows links on this machine alone."""
    from pystac.stac_io import DefaultStacIO

    class LocalIO(DefaultStacIO):
        def read_text_from_href(self, href: str) -> str:
            if is_remote(href) and not may_reach(""):
                raise PairsError(
                    f"{shown(href)}: a catalogue links to it, and the link is not followed: a file must not "
                    f"decide what is fetched. If you trust the file, set {ALLOW}=YES in the environment, or "
                    "save the items."
                )
            return super().read_text_from_href(href).removeprefix("\ufeff")  # byte-order mark

    return LocalIO()


def _best(items: Sequence[pystac.Item]) -> pystac.Item:
    """Return the item of a tile and day to use: cover before cloud, and of twins the newest processing."""
    covers = [_cover(item) for item in items]
    full = [item for item, cover in zip(items, covers, strict=True) if cover >= max(covers) - _COVER]
    newest: dict[tuple[object, str], tuple[int, ...]] = {}
    for item in full:
        newest[_acquisition(item)] = max(newest.get(_acquisition(item), ()), _processing(item))
    return min((item for item in full if _processing(item) == newest[_acquisition(item)]), key=_clarity)


def _acquisition(item: pystac.Item) -> tuple[object, str]:
    """Return what the processings of one acquisition have in common: satellite and minute."""
    return item.properties.get("platform"), f"{_date(item):%H:%M}"


def _cover(item: pystac.Item) -> float:
    """Return the per cent of the tile that an item has data for; 100 where it does not say."""
    for name in _NODATA:
        if (missing := item.properties.get(name)) is not None:
            return 100.0 - float(missing)
    return 100.0


def _processing(item: pystac.Item) -> tuple[int, ...]:
    """Return the numbers of the version of an item's processing; none where it does not say."""
    versions = [str(item.properties[name]) for name in _BASELINES if item.properties.get(name) is not None]
    return tuple(int(digits) for version in versions for digits in re.findall(r"\d+", version))


def _clarity(item: pystac.Item) -> tuple[float, str]:
    """Return a key that sorts the item with the least cloud first; the id decides between equals."""
    cloud = item.properties.get("eo:cloud_cover")
    return 101.0 if cloud is None else cloud, item.id


def _date(item: pystac.Item) -> datetime.datetime:
    date = item.datetime or item.common_metadata.start_datetime
    if date is None:
        raise PairsError(f"item {item.id}: has no datetime.", id=item.id)
    return date.astimezone(datetime.timezone.utc)


def _tile(item: pystac.Item) -> str | None:
    """Return the name of the tile that an item itself gives, None where it gives none."""
    properties = item.properties
    for name in ("grid:code", "s2:mgrs_tile"):
        if name in properties:
            return str(properties[name])
    for names in (
        ("mgrs:utm_zone", "mgrs:latitude_band", "mgrs:grid_square"),
        ("landsat:wrs_path", "landsat:wrs_row"),
    ):
        if all(name in properties for name in names):
            return "-".join(str(properties[name]) for name in names)
    return None


@dataclasses.dataclass(frozen=True)
class _Area:
    """The extent of an item in its CRS, and the name of the items that cover about the same."""

    name: str
    code: str
    box: tuple[float, float, float, float]

    def overlaps(self, other: _Area) -> bool:
        """Return whether most of the two areas is common."""
        (left, bottom, right, top), (west, south, east, north) = self.box, other.box
        width, height = min(right, east) - max(left, west), min(top, north) - max(bottom, south)
        common = max(width, 0.0) * max(height, 0.0)
        union = (right - left) * (top - bottom) + (east - west) * (north - south) - common
        return self.code == other.code and common >= _OVERLAP * union


def _area_name(item: pystac.Item, areas: list[_Area]) -> str:
    """Return the name of the area of an item: that of the first item which covers about the same."""
    properties = item.properties
    code = properties.get("proj:code", properties.get("proj:epsg"))
    if code is not None and "proj:transform" in properties and "proj:shape" in properties:
        a, _, left, _, e, top = properties["proj:transform"][:6]
        height, width = properties["proj:shape"]
        name = "-".join(map(str, [code, round(left), round(top), height, width]))
        sides = (left, left + a * width), (top, top + e * height)
        area = _Area(name, str(code), (min(sides[0]), min(sides[1]), max(sides[0]), max(sides[1])))
        for other in areas:
            if other.overlaps(area):
                return other.name
        areas.append(area)
        return name
    raise PairsError(
        f"item {item.id}: has no property that names its tile (grid:code, s2:mgrs_tile, landsat:wrs_path and "
        "row, or proj:code with proj:transform and proj:shape). List the pairs in a CSV.",
        id=item.id,
    )


def _keys(item: pystac.Item, rule: Rule) -> Sequence[str]:
    """Return the keys of the assets of an item that are compared."""
    if rule.assets:
        return rule.assets
    keys = [key for key, asset in item.assets.items() if "data" in (asset.roles or ())]
    if len(keys) != 1:
        raise _other_assets(item, [], "--assets")
    return keys


def _mask_keys(item: pystac.Item, rule: Rule) -> Sequence[str]:
    """Return the key of the asset with the quality mask of an item; none where it is not masked."""
    if rule.mask is not None:
        return [] if rule.mask == "none" else [rule.mask]
    compared = set(_keys(item, rule))
    return [key for key in MASK_ASSETS if key in item.assets and key not in compared][:1]


def _other_assets(item: pystac.Item, missing: Sequence[str], option: str) -> PairsError:
    """Return the error for an item without these assets."""
    return PairsError(
        f"item {item.id}: has the assets {', '.join(item.assets)}"
        + (f", not {', '.join(missing)}" if missing else "")
        + f". Pass {option} to choose those to compare.",
        id=item.id,
    )


def _stack(item: pystac.Item, keys: Sequence[str], base: Path, folder: Path, suffix: str = "") -> Stack:
    """Return the stack of some assets of an item; ``suffix`` tells its file from that of others."""
    if missing := [key for key in keys if key not in item.assets]:
        options = {"": "--assets", "_features": "--features-assets", "_mask": "--mask-asset"}
        raise _other_assets(item, missing, options[suffix])
    sources = tuple(
        (key, local_path(asset.get_absolute_href() or located(asset.href, base)))
        for key, asset in ((key, item.assets[key]) for key in keys)
    )
    name = (clean_name(item.id) or "item") + suffix
    date = f"{_date(item):%Y-%m-%dT%H:%M:%SZ}"
    return Stack(
        str(folder.absolute() / SOURCES_FOLDER / f"{name}.vrt"),
        sources,
        date,
        tuple(_declared(item.assets[key]) for key in keys),
        tuple(
            (name, str(item.properties[name]))
            for name in _PROCESSING
            if item.properties.get(name) is not None
        ),
    )


def _declared(asset: pystac.Asset) -> tuple[tuple[float | None, float | None], ...]:
    """Return scale and offset of the bands of an asset, as ``raster:bands`` or STAC 1.1 declare them."""
    fields = asset.extra_fields
    bands = fields.get("raster:bands") or fields.get("bands") or [{}]
    pairs = []
    for band in bands:
        merged = {**fields, **band}
        scale, offset = (merged.get(name, merged.get(f"raster:{name}")) for name in ("scale", "offset"))
        scale = float(scale) if isinstance(scale, int | float) and scale > 0 else None
        pairs.append((scale, float(offset) if isinstance(offset, int | float) else None))
    return tuple(pairs)


__all__ = ["SOURCES_FOLDER", "Rule", "is_stac", "stac_pairs", "stac_places"]
