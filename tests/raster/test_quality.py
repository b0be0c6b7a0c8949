"""Quality masks of products: the specification's own values, other grids, buffers, and masks in doubt."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import rasterio
from conftest import NORTH_UP, MakePair, ground, write_raster
from rasterio.transform import Affine
from rasterio.windows import Window

from geocd.config import Settings
from geocd.errors import ConfigError, MaskError
from geocd.pipeline.run import detect
from geocd.raster.handles import Companions
from geocd.raster.pair import Pair
from geocd.raster.quality import KINDS, Masks, parse_kind

SIZE = 120
#: Where the cloud, its shadow and snow are painted.
CLOUD, SHADOW, SNOW = (
    (slice(20, 50), slice(30, 60)),
    (slice(60, 80), slice(40, 70)),
    (slice(90, 110), slice(5, 25)),
)
AREAS = {"cloud": CLOUD, "shadow": SHADOW, "snow": SNOW}

#: By kind, the values of a pixel, of one band or of all, from the specifications.
SPECIFIED: dict[str, dict[str, list[object]]] = {
    # 0 no data, 1 saturated, 2 dark, 3 shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified, 8 9 cloud,
    # 10 cirrus, 11 snow
    "scl": {"clear": [2, 4, 5, 6, 7], "cloud": [8, 9, 10], "shadow": [3], "snow": [11], "unusable": [0, 1]},
    # values as the product guide lists them, Landsat 8 and 9 and Landsat 4 to 7
    "qa_pixel": {
        "clear": [21824, 21888, 21952, 5440, 5504],
        "cloud": [22280, 22018, 54596, 54852, 55052, 5896],
        "shadow": [23888, 23952, 7440, 7696],
        "snow": [30048, 13664],
        "unusable": [1],
    },
    # aerosol in bits 6 and 7, water in bit 5: neither is a fault
    "fmask": {
        "clear": [0, 64, 128, 192, 32, 224],
        "cloud": [2, 66, 194, 4, 68],
        "shadow": [8, 72, 200],
        "snow": [16, 80],
        "unusable": [255],
    },
    "udm": {"clear": [0], "cloud": [2], "unusable": [1, 4, 128]},
    # clear, snow, shadow, light haze, heavy haze, cloud, confidence, unusable data
    "udm2": {
        "clear": [(1, 0, 0, 0, 0, 0, 90, 0)],
        "cloud": [(0, 0, 0, 0, 0, 1, 90, 0), (0, 0, 0, 1, 0, 0, 60, 0), (0, 0, 0, 0, 1, 0, 60, 0)],
        "shadow": [(0, 0, 1, 0, 0, 0, 80, 0)],
        "snow": [(0, 1, 0, 0, 0, 0, 80, 0)],
        "unusable": [(0, 0, 0, 0, 0, 0, 0, 1)],
    },
    "cloud": {"clear": [0], "cloud": [1]},
    "clear": {"clear": [1], "cloud": [0]},
    "probability": {"clear": [0, 39], "cloud": [40, 100]},
}
DTYPES = {"qa_pixel": np.uint16}


@pytest.mark.parametrize("kind", SPECIFIED)
def test_values_of_the_specification(kind: str) -> None:
    for wanted, values in SPECIFIED[kind].items():
        for value in values:
            bands = np.array(value, DTYPES.get(kind, np.uint8)).reshape(-1, 1, 1)
            chosen = np.stack([bands[band - 1] for band in KINDS[kind].bands])
            classified = KINDS[kind].classify(chosen.astype(np.float32))
            masks = {name for name, mask in classified.items() if mask.any()}
            if wanted == "clear":
                assert not masks, (kind, value)
            else:
                assert wanted in masks, (kind, value)


def painted(kind: str, folder: Path, areas: dict[str, tuple[slice, slice]], stride: int = 1) -> Path:
    """Write a mask of this kind that is clear but for these areas."""
    values = SPECIFIED[kind]
    first = {name: np.atleast_1d(listed[0]) for name, listed in values.items()}
    bands = np.broadcast_to(first["clear"][:, None, None], (len(first["clear"]), SIZE, SIZE)).copy()
    for name, area in areas.items():
        if name in first:
            bands[(slice(None), *area)] = first[name][:, None, None]
    grid = Affine(10 * stride, 0, NORTH_UP.c, 0, -10 * stride, NORTH_UP.f)
    path = folder / f"x_{kind}.tif"
    return write_raster(path, bands[:, ::stride, ::stride].astype(DTYPES.get(kind, np.uint8)), transform=grid)


@pytest.fixture
def clouded(make_pair: MakePair) -> tuple[Path, Path]:
    """A pair with a cloud and its shadow in the after image, and a new building at (95, 80)."""
    before = ground(1, bands=4, size=SIZE) * 5
    after = before + np.random.default_rng(0).normal(0, 5, before.shape)
    after[(slice(None), *CLOUD)] = 3000 + np.random.default_rng(1).normal(0, 60, (4, 30, 30))
    after[(slice(None), *SHADOW)] *= 0.4
    after[:, 88:102, 74:92] = np.random.default_rng(2).normal(1500, 100, (4, 1, 1))
    return make_pair(before.astype(np.float32), after.astype(np.float32))


@pytest.mark.parametrize("kind", SPECIFIED)
def test_nothing_is_called_changed_inside_and_nothing_lost_outside(
    kind: str, clouded: tuple[Path, Path], tmp_path: Path
) -> None:
    areas = {name: AREAS[name] for name in ("cloud", "shadow")}
    if "shadow" not in SPECIFIED[kind]:
        areas["cloud"] = (slice(20, 80), slice(30, 70))  # one class for both
    mask = painted(kind, tmp_path, areas)
    kinds = {"cloud", "clear", "probability"}
    settings = {"mask_after": str(mask), "method": "cva"} | ({"mask_kind": kind} if kind in kinds else {})
    files, record = detect(*clouded, tmp_path / "out", settings=Settings.from_flat(settings))
    with rasterio.open(files["prob"]) as dataset:
        prob = dataset.read(1)
    for area in areas.values():
        assert np.isnan(prob[area]).all()
    masked = np.zeros((SIZE, SIZE), bool)
    for area in areas.values():
        masked[area] = True
    assert np.array_equal(np.isnan(prob), masked)
    assert (prob[90:100, 76:90] >= 0.5).all()
    shares = record.summary.ignored_share
    assert sum(shares.values()) == pytest.approx(masked.mean())
    assert shares["mask:cloud"] == pytest.approx(
        900 / SIZE**2 if "shadow" in SPECIFIED[kind] else 2400 / SIZE**2
    )
    assert any(finding.code == "ignored" and "cloud" in str(finding) for finding in record.findings)


def masks_of(pair: Pair, window: Window | None = None) -> dict[str, np.ndarray]:
    return dict(pair.read(window or pair.grid.window).ignored)


def test_both_dates_are_masked_and_classes_chosen(clouded: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    second.mkdir()
    masks = painted("scl", first, {"snow": SNOW}), painted("scl", second, {"cloud": CLOUD, "shadow": SHADOW})
    with Pair(*clouded, companions=Companions(masks=Masks(*masks))) as pair:
        ignored = masks_of(pair)
    assert {name: int(mask.sum()) for name, mask in ignored.items()} == {
        "mask:cloud": 900, "mask:shadow": 600, "mask:snow": 400, "mask:unusable": 0,
    }  # fmt: skip
    with Pair(*clouded, companions=Companions(masks=Masks(*masks, classes=("cloud",)))) as pair:
        assert {name for name, mask in masks_of(pair).items() if mask.any()} == {"mask:cloud"}
        assert pair.companions == {"mask_before": str(masks[0]), "mask_after": str(masks[1])}


def test_a_coarser_mask_is_read_by_nearest_neighbour(clouded: tuple[Path, Path], tmp_path: Path) -> None:
    mask = painted("scl", tmp_path, {"cloud": CLOUD}, stride=2)
    with Pair(*clouded, companions=Companions(masks=Masks(after=mask))) as pair:
        ignored = masks_of(pair)
    assert set(ignored) == {"mask:cloud", "mask:shadow", "mask:snow", "mask:unusable"}
    assert ignored["mask:cloud"][CLOUD].all()
    assert ignored["mask:cloud"].sum() == 900, "no class between two"
    assert not ignored["mask:shadow"].any()


def test_what_a_mask_does_not_cover_is_not_valid(clouded: tuple[Path, Path], tmp_path: Path) -> None:
    mask = write_raster(tmp_path / "SCL.tif", np.full((SIZE, 60), 4, np.uint8))
    with Pair(*clouded, companions=Companions(masks=Masks(mask))) as pair:
        valid = pair.read(pair.grid.window).valid
    assert valid[:, :60].all()
    assert not valid[:, 60:].any()


def test_a_buffer_is_in_metres_and_the_same_in_every_window(
    clouded: tuple[Path, Path], tmp_path: Path
) -> None:
    mask = painted("scl", tmp_path, {"cloud": CLOUD, "unusable": SNOW})
    with Pair(*clouded, companions=Companions(masks=Masks(after=mask, buffer=52))) as pair:
        whole = masks_of(pair)
        part = masks_of(pair, Window(58, 12, 20, 15))
    size = pair.grid.pixel_size
    assert size is not None
    rows, cols = np.mgrid[:SIZE, :SIZE]
    apart = np.hypot(
        np.maximum(0, np.maximum(20 - rows, rows - 49)), np.maximum(0, np.maximum(30 - cols, cols - 59))
    )
    assert np.array_equal(whole["mask:cloud"], apart <= 52 / size)
    assert whole["mask:unusable"].sum() == 400, "no cloud, no buffer"
    assert np.array_equal(part["mask:cloud"], whole["mask:cloud"][12:27, 58:78])


def test_a_mask_moves_with_its_image(clouded: tuple[Path, Path], tmp_path: Path) -> None:
    mask = painted("scl", tmp_path, {"cloud": CLOUD})
    with Pair(*clouded, companions=Companions(masks=Masks(after=mask))) as pair:
        moved = masks_of(pair.shifted(3, -2))["mask:cloud"]
    expected = np.zeros_like(moved)
    expected[17:47, 32:62] = True
    assert np.array_equal(moved, expected)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("mask", [[0, 1], [1, 0]], r"cannot be told by its name or its values \(1 band of uint8: 0, 1\)"),
        ("mask", [[4, 5], [9, 0]], r"cannot be told .*: 0, 4, 5, 9\)\. Say --mask-kind, one of scl"),
        ("scl_fmask", [[4, 5], [9, 0]], r"\(fmask, scl would fit\)"),
        ("T33UUP_SCL_20m", [[4, 5], [90, 0]], r"values that --mask-kind scl does not have: 90"),
        ("udm2", [[0, 1], [1, 0]], r"has 1 bands, and --mask-kind udm2 needs 8"),
    ],
)
def test_masks_in_doubt_are_refused(
    name: str, values: list[list[int]], message: str, clouded: tuple[Path, Path], tmp_path: Path
) -> None:
    mask = write_raster(
        tmp_path / f"{name}.tif", np.kron(np.array(values, np.uint8), np.ones((60, 60), np.uint8))
    )
    with pytest.raises(MaskError, match=rf"{name}\.tif: .*{message}"):
        Pair(*clouded, companions=Companions(masks=Masks(mask)))


def test_kinds_are_told_by_names_and_by_values_without_doubt(
    clouded: tuple[Path, Path], tmp_path: Path
) -> None:
    names = {
        "T33UUP_20240601T100031_SCL_20m": ("scl", "scl"),
        "LC08_L2SP_190024_20240601_20240610_02_T1_QA_PIXEL": ("qa_pixel", "qa_pixel"),
        "HLS.S30.T33UUP.2024153T100031.v2.0.Fmask": ("fmask", "fmask"),
        "20240601_100031_DN_udm": ("udm", "udm"),
        "20240601_100031_udm2": ("udm2", "udm2"),
        "MSK_CLDPRB_20m": ("probability", "probability"),
        "quality": ("qa_pixel", "qa_pixel"),
        "usable": ("udm2", "udm2"),
    }
    for name, (painted_as, expected) in names.items():
        mask = painted(painted_as, tmp_path, {"cloud": CLOUD}).rename(tmp_path / f"{name}.tif")
        if name == "usable":  # without a confidence, no value but 0 and 1
            with rasterio.open(mask, "r+") as dataset:
                dataset.write((dataset.read() != 0).astype(np.uint8))
        with Pair(*clouded, companions=Companions(masks=Masks(after=mask))) as pair:
            chosen = pair._masks[1]
            assert chosen is not None
            assert chosen.kind.name == expected, name
            assert masks_of(pair)["mask:cloud"].sum() == 900, name


def test_parameters_of_kinds(clouded: tuple[Path, Path], tmp_path: Path) -> None:
    mask = painted("scl", tmp_path, {"cloud": CLOUD, "snow": SNOW})
    with Pair(*clouded, companions=Companions(masks=Masks(after=mask, kind="values:2,11"))) as pair:
        assert masks_of(pair)["mask:unusable"].sum() == 900
    share = np.zeros((SIZE, SIZE), np.float32)
    share[CLOUD] = 0.5
    path = write_raster(tmp_path / "share.tif", share)
    for kind, count in (("probability", 900), ("probability:60", 0), ("probability:50", 900)):
        with Pair(*clouded, companions=Companions(masks=Masks(after=path, kind=kind))) as pair:
            assert masks_of(pair)["mask:cloud"].sum() == count, kind
    for kind in ("clouds", "values:", "values:a", "probability:200", "auto:1"):
        with pytest.raises(ConfigError, match=f"--mask-kind {kind}: must be auto, scl"):
            parse_kind(kind)


def test_a_value_that_the_sample_did_not_have_is_found_where_it_is_read(
    make_pair: MakePair, tmp_path: Path
) -> None:
    large = np.zeros((1, 700, 700), np.uint8)
    paths = make_pair(large + 5, large + 9)
    values = np.full((700, 700), 4, np.uint8)
    values[101, 103] = 77
    mask = write_raster(tmp_path / "SCL.tif", values)
    with (
        Pair(*paths, companions=Companions(masks=Masks(mask))) as pair,
        pytest.raises(MaskError, match="does not have: 77"),
    ):
        pair.read(Window(100, 100, 10, 10))


def test_every_kind_says_what_it_is() -> None:
    assert all(dataclasses.asdict(kind)["description"] for kind in KINDS.values())
    assert set(SPECIFIED) == set(KINDS)
