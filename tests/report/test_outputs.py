"""Names of the files of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from geocd.errors import OutputError
from geocd.report.products import Outputs, default_stem


@pytest.mark.parametrize(
    ("before", "after", "stem"),
    [
        ("a.tif", "b.tif", "a_b"),
        ("/data/2019/a.tif", "../b.TIFF", "a_b"),
        ("s3://bucket/2019/a.tif", "https://host/b.tif", "a_b"),
        ("/vsizip/pack.zip/a.tif", "zip://pack.zip!b.tif", "a_b"),
        ("a.b.tif", "c", "a.b_c"),
        ("folder/", "b.tif", "folder_b"),
        ("https://host/a.tif?sig=x%2Fy&n=1", "b.tif", "a_b"),
        ("NETCDF:scene.nc:B04", "b.tif", "B04_b"),
    ],
)
def test_default_stem(before: str, after: str, stem: str) -> None:
    assert default_stem(before, after) == Path(stem)


def test_names(tmp_path: Path) -> None:
    outputs = Outputs(tmp_path / "pair.v1")
    assert outputs.path("prob") == tmp_path / "pair.v1_prob.tif"
    assert outputs.path("item") == tmp_path / "pair.v1.json"
    names = [path.name for path in outputs.paths().values()]
    assert len(set(names)) == len(names)
    # QGIS looks for <stem>.qml: a style must belong to exactly one layer.
    for style, layer in (("prob_style", "prob"), ("changes_style", "changes")):
        assert outputs.path(style).stem == outputs.path(layer).stem


@pytest.mark.parametrize("stem", ["", ".", "..", "/", "folder/.."])
def test_a_stem_needs_a_name(stem: str) -> None:
    with pytest.raises(OutputError, match=r"no name for the outputs.*--output"):
        Outputs(Path(stem))
