"""What is ignored: rules on made spectra, refusals, and what the outputs say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from geocd.config import Settings
from geocd.errors import ConfigError, NoValidPixelError
from geocd.pipeline.run import detect
from geocd.pipeline.tiles import first_seen
from geocd.raster.pair import Chip, Pair
from geocd.scene.ignore import (
    CloudRule,
    Rules,
    Tally,
    colour_spread,
    filled,
    ignored_counts,
    normalized_difference,
)
from geocd.tiles.tiling import Tiling

MakePair = Callable[..., tuple[Path, Path]]
NAMES = ("red", "green", "blue", "nir")
#: Reflectances of red, green, blue and near infrared.
SOIL, WOOD, LAKE, CLOUD = (
    (0.2, 0.15, 0.1, 0.25),
    (0.03, 0.06, 0.03, 0.4),
    (0.03, 0.06, 0.07, 0.01),
    (0.6,) * 4,
)


def paint(shape: tuple[int, int], *areas: tuple[slice, slice, tuple[float, ...]]) -> np.ndarray:
    """Return soil with areas of other spectra and some texture, ``(4, height, width)``."""
    image = np.broadcast_to(np.array(SOIL)[:, None, None], (4, *shape)).copy()
    for rows, cols, spectrum in areas:
        image[:, rows, cols] = np.array(spectrum)[:, None, None]
    return image * np.random.default_rng(0).normal(1, 0.03, image.shape)


def chip(before: np.ndarray, after: np.ndarray, valid: np.ndarray | None = None) -> Chip:
    height, width = before.shape[1:]
    valid = np.ones((height, width), bool) if valid is None else valid
    return Chip(before, after, valid, Window(0, 0, width, height))


# --- the rules ------------------------------------------------------------------------------------


def test_an_index_is_defined_wherever_there_is_light() -> None:
    one = np.array([3, 0, 0, -1, -1, 2, np.nan, 1e-30])
    two = np.array([1, 0, 5, -3, 2, -1, 1, 1e-30])
    expected = [0.5, np.nan, -1, np.nan, -1, 1, np.nan, 0]
    np.testing.assert_array_equal(normalized_difference(one, two), expected)


def test_an_index_of_unsigned_integers_does_not_wrap() -> None:
    assert normalized_difference(np.array([1], np.uint8), np.array([255], np.uint8)) == pytest.approx(
        -254 / 256
    )


def test_the_spread_of_colours() -> None:
    colours = np.array([[5, 3, 0, -1], [5, 0, 0, -1], [5, 0, 0, -2]])
    np.testing.assert_array_equal(colour_spread(colours), [0, 3, np.inf, np.inf])


@pytest.mark.parametrize("scale", [1, 255, 10_000])
def test_water_and_vegetation_must_be_there_in_both_dates(scale: float) -> None:
    rows = slice(0, 20)
    before = paint((20, 40), (rows, slice(0, 10), LAKE), (rows, slice(20, 30), WOOD))
    after = paint((20, 40), (rows, slice(0, 5), LAKE), (rows, slice(25, 40), WOOD))
    found = Rules.of(("water", "vegetation"), NAMES).masks(chip(before * scale, after * scale))
    columns = np.arange(40)
    assert (found["water"] == (columns < 5)).all()
    assert (found["vegetation"] == ((columns >= 25) & (columns < 30))).all()


@pytest.mark.parametrize("scale", [1, 255, 10_000])
def test_cloud_in_either_date_is_bright_and_white(scale: float) -> None:
    cloud, wide = slice(5, 20), slice(30, 45)
    before = paint((60, 60), (cloud, cloud, CLOUD), (slice(50, 54), slice(50, 54), CLOUD))
    after = paint((60, 60), (wide, wide, CLOUD), (wide, cloud, (0.9, 0.5, 0.3, 0.9)))
    rules = Rules.of(("cloud",), NAMES)
    one = chip(before * scale, after * scale)
    found = rules.fit([one]).masks(one)["cloud"]
    expected = np.zeros((60, 60), bool)
    expected[cloud, cloud] = expected[wide, wide] = True  # not the small one, a roof; not red desert
    assert (found == expected).all()


def test_scenes_without_a_measure_of_cloud_have_none() -> None:
    grey = np.random.default_rng(0).uniform(0, 255, (1, 30, 30)).repeat(3, axis=0)  # no spread of colours
    flat = np.full((3, 30, 30), 7.0)
    decibels = -np.random.default_rng(0).uniform(1, 20, (3, 30, 30))
    zero = np.zeros((3, 30, 30))
    for scene in (grey, flat, decibels, zero):
        assert not CloudRule.fit(scene.reshape(3, -1)).mask(scene).any()


def test_what_is_small_does_not_count_but_edges_do() -> None:
    found, valid = np.zeros((12, 12), bool), np.ones((12, 12), bool)
    found[0:2, 0:5] = True  # two rows of a lake that the scene cuts off
    found[6:8, 6:8] = True
    found[9:12, 3:6] = True
    valid[10, 4] = False  # a dead pixel
    kept = filled(found, valid, 3)
    expected = found & valid
    expected[6:8, 6:8] = False
    assert (kept == expected).all()


def test_what_is_not_valid_is_not_ignored_either() -> None:
    lake = paint((9, 9), (slice(0, 9), slice(0, 9), LAKE))
    valid = np.arange(81).reshape(9, 9) % 7 > 0
    kept = Rules.of(("water",), NAMES).apply(chip(lake, lake, valid))
    assert (kept.ignored["water"] == valid).all()
    assert not kept.valid.any()
    assert not kept.before.any()


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "kind", "missing"),
    [
        (("band 1", "band 2", "band 3"), "water", "green, nir"),
        (("red", "green", "blue"), "vegetation", "nir"),
        (("B03", "B08"), "water", "green, nir"),  # a number alone does not tell the sensor
        (("green", "nir"), "cloud", "red, blue"),
    ],
)
def test_names_that_do_not_tell_are_refused(names: tuple[str, ...], kind: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"--ignore {kind}.*{missing} cannot.*{', '.join(names)}.*--valid"):
        Rules.of((kind,), names)


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (("green", "nir"), (0, 1)),
        (("B02", "B03", "B04", "B08"), (1, 3)),
        (("B02", "B03", "B04", "B05", "B8A", "B11"), (1, 4)),
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5"), (1, 3)),
        (("SR_B1", "SR_B2", "SR_B3", "SR_B4", "SR_B5", "SR_B7"), (1, 3)),
    ],
)
def test_names_that_tell(names: tuple[str, ...], places: tuple[int, ...]) -> None:
    assert Rules.of(("water",), names).positions["water"] == places


# --- pairs ----------------------------------------------------------------------------------------


@pytest.fixture
def lakes(make_pair: MakePair) -> tuple[Path, Path]:
    """Return a pair: a lake with foam on it in the second date, and a new hall."""
    lake = (slice(40, 120), slice(60, 140), LAKE)
    before, after = paint((150, 170), lake), paint((150, 170), lake)
    after[:3, 70:90, 80:110] *= 6  # foam: still water by its index
    after[:, 10:30, 10:40] = 0.5
    before, after = ((10_000 * image).astype(np.uint16) for image in (before, after))
    return make_pair(before, after, names=NAMES)


def test_every_window_gets_the_same_verdict(lakes: tuple[Path, Path]) -> None:
    with Pair(*lakes) as opened:
        pair = opened.ignoring(Rules.of(("water", "cloud"), opened.band_names).fitted_to(opened))
        whole = pair.read(pair.grid.window)
        for tile in Tiling(150, 170, 37, 4):
            rows, cols = tile.window.toslices()
            part = pair.read(tile.window)
            assert part.window == tile.window
            assert (part.valid == whole.valid[rows, cols]).all()
            assert (part.before == whole.before[:, rows, cols]).all()
            assert (part.after == whole.after[:, rows, cols]).all()


@pytest.mark.parametrize("declaration", ["tag", "bands"])
def test_a_declared_offset_changes_nothing(
    make_pair: MakePair, tmp_path: Path, lakes: tuple[Path, Path], declaration: str
) -> None:
    """Sentinel-2 of processing baseline 03.01 against the same surface of 04.00, with 1000 added."""
    with rasterio.open(lakes[0]) as dataset:
        old = dataset.read()
    new = old.copy()
    new[:, 5:9, 100:104] += 1500  # what changes
    shifted = {"after_tags": {"PROCESSING_BASELINE": "04.00"}} if declaration == "tag" else {}
    items = {}
    for name, after, more in (("old", new, {}), ("new", new + 1000, shifted)):
        pair = make_pair(old, after, names=NAMES, folder=name, tags={"PROCESSING_BASELINE": "03.01"}, **more)
        if name == "new" and declaration == "bands":
            with rasterio.open(pair[1], "r+") as dataset:
                dataset.scales, dataset.offsets = (1e-4,) * 4, (-0.1,) * 4
        settings = Settings.from_flat({"ignore": ("water", "cloud"), "method": "cva"})
        files, _ = detect(*pair, tmp_path / f"{name}_run", settings=settings)
        items[name] = json.loads(files["item"].read_text())["properties"]
        with Pair(*pair) as opened:
            rules = Rules.of(("water", "cloud", "vegetation"), NAMES, opened.scalings).fitted_to(opened)
            items[name]["masks"] = rules.masks(opened.read(opened.grid.window))
        items[name]["layer"] = geopandas.read_file(files["changes"])
    assert items["old"]["masks"]["water"].sum() > 5000
    for kind, mask in items["old"]["masks"].items():
        assert (mask == items["new"]["masks"][kind]).all(), kind
    indices = [column for column in items["old"]["layer"].columns if column.endswith(("_ndvi", "_ndwi"))]
    assert len(indices) == 6
    assert items["old"]["layer"][indices].equals(items["new"]["layer"][indices])
    ignored = [items[name]["geocd:summary"]["ignored_share"] for name in ("old", "new")]
    assert ignored[0] == ignored[1]
    assert "geocd:scaling" not in items["old"]
    source = "Sentinel-2 processing baseline 04.00" if declaration == "tag" else "band metadata"
    after = {"scale": [1e-4] * 4, "offset": [-0.1] * 4, "source": source}
    assert items["new"]["geocd:scaling"] == {"before": None, "after": after}


@pytest.mark.parametrize(("size", "overlap"), [(400, 96), (64, 0), (50, 13), (70, 60)])
def test_every_pixel_is_counted_once(size: int, overlap: int) -> None:
    tiling = Tiling(150, 170, size, overlap)
    count = np.zeros((150, 170), int)
    for tile in tiling:
        rows, cols = tile.window.toslices()
        count[rows, cols][first_seen(tiling, tile)] += 1
    assert (count == 1).all()


def test_a_plain_chip_counts_nothing() -> None:
    tally = Tally()
    tally.add(ignored_counts(chip(np.ones((1, 4, 4)), np.ones((1, 4, 4))), (slice(4), slice(4))))
    assert tally.shares() == {}


@pytest.mark.parametrize("method", ["deep", "cva", "irmad"])
def test_an_ignored_object_gives_no_polygon(method: str, lakes: tuple[Path, Path], tmp_path: Path) -> None:
    tiles = {"tile_size": 100, "overlap": 40, "method": method}
    plain, _ = detect(*lakes, tmp_path / "plain", settings=Settings.from_flat(tiles))
    files, record = detect(
        *lakes, tmp_path / "ignored", settings=Settings.from_flat(tiles | {"ignore": ("water",)})
    )
    lake = np.zeros((150, 170), bool)
    lake[40:120, 60:140] = True
    with rasterio.open(plain["prob"]) as dataset:
        assert (dataset.read(1)[70:90, 80:110] >= 0.5).mean() > 0.9
    with rasterio.open(files["prob"]) as dataset:
        prob = dataset.read(1)
        provenance = json.loads(dataset.tags()["GEOCD_PROVENANCE"])
    assert (np.isnan(prob) == lake).all()
    assert (prob[10:30, 10:40] >= 0.5).mean() > 0.9
    changed = geopandas.read_file(files["changes"])
    assert changed.n_pixels.sum() == (prob >= 0.5).sum()

    share = {"water": pytest.approx(lake.mean())}
    properties = json.loads(files["item"].read_text())["properties"]
    assert record.summary.ignored_share == share
    assert properties["geocd:summary"]["ignored_share"] == share
    assert properties["geocd:settings"]["ignore"] == provenance["ignore"] == ["water"]
    assert record.summary.valid_share == pytest.approx(1 - lake.mean())


def test_what_is_ignored_has_no_say_in_the_statistics(
    make_pair: MakePair, lakes: tuple[Path, Path], tmp_path: Path
) -> None:
    """A lake of any colour, and the lake as nodata, give the same map byte for byte."""
    with rasterio.open(lakes[0]) as one, rasterio.open(lakes[1]) as two:
        before, after = one.read(), two.read()
    other = [before.copy(), after.copy()]
    for image in other:
        image[:3, 40:120, 60:140] //= 2
        image[3, 40:120, 60:140] = 3
    hole = [before.copy(), after.copy()]
    for image in hole:
        image[:, 40:120, 60:140] = 0
    settings = {"tile_size": 100, "overlap": 40}
    maps = []
    for name, files, more in (
        ("lake", lakes, {"ignore": ("water",)}),
        ("other", make_pair(*other, folder="other", names=NAMES), {"ignore": ("water",)}),
        ("hole", make_pair(*hole, folder="hole", names=NAMES, nodata=0), {}),
    ):
        found, _ = detect(*files, tmp_path / f"{name}_run", settings=Settings.from_flat(settings | more))
        with rasterio.open(found["prob"]) as dataset:
            maps.append(dataset.read(1).tobytes())
    assert maps[0] == maps[1] == maps[2]


def test_nothing_left_says_so(make_pair: MakePair, tmp_path: Path) -> None:
    lake = (10_000 * paint((60, 60), (slice(0, 60), slice(0, 60), LAKE))).astype(np.uint16)
    files = make_pair(lake, lake, names=NAMES)
    with pytest.raises(NoValidPixelError, match=r"ignore=.*'cloud'\): no pixel .* left: .*NDWI above 0.05"):
        detect(*files, tmp_path / "run", settings=Settings.from_flat({"ignore": ("water", "cloud")}))
    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize("kind", ["water", "cloud"])
def test_a_pair_that_was_empty_before_is_not_blamed_on_the_rules(
    kind: str, make_pair: MakePair, tmp_path: Path
) -> None:
    zero = np.zeros((4, 20, 20), np.uint16)
    files = make_pair(zero, zero, names=NAMES, nodata=0)
    with pytest.raises(NoValidPixelError, match="no pixel is valid in both"):
        detect(*files, tmp_path / "run", settings=Settings.from_flat({"ignore": (kind,)}))
