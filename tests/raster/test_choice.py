"""Which bands of two dates are compared."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import rasterio
from conftest import MakePair, WriteRaster, whole
from rasterio.enums import ColorInterp

from geocd.errors import BandError
from geocd.raster.pair import Pair

PLANET_8 = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


def numbered(count: int) -> Any:
    """Return bands whose values are their numbers."""
    return np.stack([np.full((4, 5), number, np.uint16) for number in range(1, count + 1)])


def named_pair(make_pair: MakePair, before: tuple[str, ...], after: tuple[str, ...]) -> Any:
    """Write a pair whose bands have these names, empty for none, and whose values are their numbers."""
    return make_pair(numbered(len(before)), numbered(len(after)), names=before, after_names=after)


@pytest.mark.parametrize(
    ("before", "after", "first", "second"),
    [
        # the same bands in another order
        ("blue green red nir", "red green blue nir", "1 2 3 4", "3 2 1 4"),
        ("red green blue nir", "nir red green blue", "1 2 3 4", "2 3 4 1"),
        ("B02 B03 B04 B08", "B08 B04 B03 B02", "1 2 3 4", "4 3 2 1"),
        ("VV VH", "VH VV", "1 2", "2 1"),
        ("Red Green Blue", "BLUE green red", "1 2 3", "3 2 1"),
        # other words for the same
        ("B02 B03 B04 B08", "red green blue nir", "1 2 3 4", "3 2 1 4"),
        ("red green blue nir08", "blue green red nir", "1 2 3 4", "3 2 1 4"),
        ("SR_B2 SR_B3 SR_B4 SR_B5", "B04 B03 B02 B8A", "1 2 3 4", "3 2 1 4"),
        # another number of bands
        ("blue green red nir", " ".join(PLANET_8), "1 2 3 4", "2 4 6 8"),
        (" ".join(PLANET_8), "blue green red nir", "2 4 6 8", "1 2 3 4"),
        ("red green blue", "red green blue nir", "1 2 3", "1 2 3"),
        # in both some that the other one does not have; B5 of Landsat is no B05 of Sentinel-2
        ("B02 B03 B04 B05 B08", "B2 B3 B4 B5", "1 2 3 5", "1 2 3 4"),
        ("red green blue nir", "nir red green swir", "1 2 4", "2 3 1"),
        # equal names, and names that say nothing about each other
        ("red green blue", "red green blue", "1 2 3", "1 2 3"),
        ("red green blue nir", "red green blue rededge", "1 2 3 4", "1 2 3 4"),
        ("a2019 b2019", "b2020 a2020", "1 2", "1 2"),
        # no name, half a name, one twice
        ("- - -", "blue green red", "1 2 3", "1 2 3"),
        ("red green -", "green red blue", "1 2 3", "1 2 3"),
        ("red red green", "green red blue", "1 2 3", "1 2 3"),
    ],
)
def test_bands_are_matched_by_name(
    before: str, after: str, first: str, second: str, make_pair: MakePair
) -> None:
    names = [tuple(name.strip("-") for name in listed.split()) for listed in (before, after)]
    with Pair(*named_pair(make_pair, *names)) as pair:
        chip = whole(pair)
    assert chip.before[:, 0, 0].tolist() == [int(number) for number in first.split()]
    assert chip.after[:, 0, 0].tolist() == [int(number) for number in second.split()]
    same = first == second == " ".join(str(number + 1) for number in range(len(names[0])))
    if not same or len(names[0]) != len(names[1]):
        (remark,) = pair.bands.remarks
        assert "matched by name" in remark


def test_the_remark_names_what_was_left_out(make_pair: MakePair) -> None:
    with Pair(*named_pair(make_pair, ("blue", "green", "red", "nir"), PLANET_8)) as pair:
        assert pair.band_names == ("blue", "green", "red", "nir")
    (remark,) = pair.bands.remarks
    assert "blue (1 and 2), green (2 and 4), red (3 and 6), nir (4 and 8)" in remark
    assert "after.tif has them: coastal_blue, green_i, yellow, rededge." in remark


def test_bands_of_other_names_and_the_same_number_are_said(make_pair: MakePair) -> None:
    with Pair(*named_pair(make_pair, ("red", "green", "nir"), ("red", "green", "rededge"))) as pair:
        (remark,) = pair.bands.remarks
    assert "nir with rededge" in remark


def test_colours_are_matched_where_neither_file_has_names(make_pair: MakePair) -> None:
    bgr: dict[str, Any] = {"after_colorinterp": RGB[::-1]}
    with Pair(*make_pair(numbered(3), numbered(3), colorinterp=RGB, **bgr)) as pair:
        assert whole(pair).after[:, 0, 0].tolist() == [3, 2, 1]
    # of a file with names the colours may be those that its writer gives to any three bands
    named: dict[str, Any] = {"names": ("nir", "red", "green"), "after_names": ()}
    with Pair(*make_pair(numbered(3), numbered(3), colorinterp=RGB, **named)) as pair:
        assert pair.bands.after == (1, 2, 3)


@pytest.mark.parametrize(
    ("chosen", "first", "second"),
    [
        (("red", "nir"), [3, 4], [6, 8]),
        (("NIR", "Green"), [4, 2], [8, 4]),
        (("B",), None, "no band of .*before.tif has this name.*blue, green, red, nir"),
        (("yellow",), None, "no band of .*before.tif has this name"),
        (("red", "RED "), None, "names a band of .*before.tif twice"),
        (("red", 3), None, "names a band of .*before.tif twice"),
        ((1, 2), [1, 2], [1, 2]),
    ],
)
def test_chosen_bands(
    chosen: tuple[int | str, ...], first: list[int] | None, second: Any, make_pair: MakePair
) -> None:
    paths = named_pair(make_pair, ("blue", "green", "red", "nir"), PLANET_8)
    if first is None:
        with pytest.raises(BandError, match=second):
            Pair(*paths, indexes=chosen)
        return
    with Pair(*paths, indexes=chosen) as pair:
        assert pair.bands.before == tuple(first)
        assert pair.bands.after == tuple(second)
        (remark,) = pair.bands.remarks
    # numbers are taken as they are, but not without a word
    assert ("blue with coastal_blue" if isinstance(chosen[0], int) else "matched by name") in remark


def test_names_of_one_file_count_in_both(make_pair: MakePair) -> None:
    with Pair(*make_pair(numbered(3), numbered(3)), indexes=[2]) as pair:
        assert pair.bands.after == (2,)
    paths = make_pair(numbered(3), numbered(3), after_names=("red", "green", "blue"))
    with Pair(*paths, indexes=["blue"]) as pair:
        assert pair.bands.before == pair.bands.after == (3,)
    with pytest.raises(BandError, match=r"names its bands\. Choose by number.*rio edit-info --bidx 1"):
        Pair(*make_pair(numbered(3), numbered(3)), indexes=["red"])


def test_names_are_those_of_the_file_or_what_they_show(make_pair: MakePair) -> None:
    names = ("B02", "B03", "B04", "B8A")
    with Pair(*named_pair(make_pair, names, names[::-1]), indexes=["nir", "b4", "B02"]) as pair:
        assert pair.bands.before == (4, 3, 1)
        assert pair.bands.after == (1, 2, 4)


def test_different_counts_offer_no_wrong_bands(make_pair: MakePair) -> None:
    with pytest.raises(BandError, match=r"no band has the same name.*VV, VH; red, green, blue") as error:
        Pair(*named_pair(make_pair, ("VV", "VH"), ("red", "green", "blue")))
    assert "1..2" not in str(error.value)


@pytest.mark.parametrize("side", [40, 600])
@pytest.mark.parametrize("kind", ["nir", "mask", "feathered", "ones"])
def test_an_alpha_band_holds_0_and_its_maximum(kind: str, side: int, make_pair: MakePair) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(30, 200, (4, side, side)).astype(np.uint8)
    if kind != "nir":
        values[3] = 1 if kind == "ones" else 255
    values[3, :20] = 0
    if kind == "feathered":
        values[3, 20] = 128
    colours = (*RGB, ColorInterp.alpha)
    paths = make_pair(values, values, colorinterp=colours, photometric="rgb", alpha="yes")
    with Pair(*paths) as pair, Pair(*paths, indexes=[1, 2]) as fewer:
        remarks = pair.bands.remarks
        assert len(pair.indexes) == (4 if kind == "nir" else 3)
        for chip in (whole(pair), whole(fewer)):
            assert not chip.valid[:20].any() if kind != "nir" else chip.valid.all()
            assert chip.valid[20:].all()
    assert len(remarks) == (2 if kind == "nir" else 0)
    if remarks:
        assert re.search(r"band 4 of .*before\.tif is tagged alpha", remarks[0])


def test_alpha_may_stand_anywhere(make_pair: MakePair) -> None:
    before, after = numbered(4), numbered(4)
    before[3], after[0] = 255, 255
    options = {"colorinterp": (*RGB, ColorInterp.alpha), "after_colorinterp": (ColorInterp.alpha, *RGB)}
    with Pair(*make_pair(before, after, **options)) as pair:
        assert (pair.bands.before, pair.bands.after) == ((1, 2, 3), (2, 3, 4))


def test_three_bands_against_four_name_the_alpha_that_is_none(make_pair: MakePair) -> None:
    values = np.random.default_rng(0).integers(30, 200, (4, 20, 20)).astype(np.uint8)
    options: dict[str, Any] = {"colorinterp": RGB, "after_colorinterp": (*RGB, ColorInterp.alpha)}
    with pytest.raises(BandError, match=r"--bidx 1\.\.3.*Band 4 of .*after\.tif is tagged alpha"):
        Pair(*make_pair(values[:3], values, photometric="rgb", after_alpha="yes", **options))


def test_a_palette_is_said_with_its_remedy(write_raster: WriteRaster) -> None:
    values = np.random.default_rng(0).integers(0, 9, (1, 20, 20)).astype(np.uint8)
    paths = [write_raster(name, values) for name in ("before", "after")]
    with rasterio.open(paths[1], "r+") as dataset:
        dataset.write_colormap(1, {0: (255, 0, 0, 255), 1: (0, 0, 255, 255)})
    with Pair(*paths) as pair:
        (remark,) = pair.bands.remarks
    assert re.search(r"band 1 of .*after\.tif has a palette.*gdal_translate -expand rgb .*after\.tif", remark)
