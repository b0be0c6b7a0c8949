"""Options in messages: each surface spells them as its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import load_plugin

import geocd
from geocd import pipeline
from geocd.check import check_pair
from geocd.cli.program import main
from geocd.errors import GeocdError
from geocd.spelling import as_arguments, command_line

MakePair = Callable[..., tuple[Path, Path]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--align shift removes the shift.", "align='shift' removes the shift."),
        ("--align grid warps the second.", "align='grid' warps the second."),
        ("for instance --bidx 1..3", "for instance bidx=(1, 2, 3)"),
        ("Leave them out: --bidx 1,3..4.", "Leave them out: bidx=(1, 3, 4)."),
        ("--bidx red,nir,x: no band", "bidx=('red', 'nir', 'x'): no band"),
        ("--bidx swir: no band of a.tif", "bidx=('swir',): no band of a.tif"),
        ("Choose among these with --bidx.", "Choose among these with bidx=."),
        ("(--nodata overrides them)", "(nodata= overrides them)"),
        ("pass --nodata 0. Otherwise", "pass nodata=0. Otherwise"),
        ("Pass --overwrite to replace it", "Pass overwrite=True to replace it"),
        (
            "--mem-limit 100: too small; a smaller --tile-size",
            "mem_limit=100: too small; a smaller tile_size=",
        ),
        ("--weights random to start, --weights FILE", "weights='random' to start, weights='FILE'"),
        # of other programs, and of what Python has no argument for
        ("rio edit-info --bidx 1 a.tif; or --valid.", "rio edit-info --bidx 1 a.tif; or valid=."),
        ("rio warp a.tif --like b.tif. Then --align grid", "rio warp a.tif --like b.tif. Then align='grid'"),
        ("--retry-failed tries them again, a--bidx", "--retry-failed tries them again, a--bidx"),
    ],
)
def test_arguments_of_python(text: str, expected: str) -> None:
    assert as_arguments(text) == expected
    with command_line():
        assert as_arguments(text) == text


def test_every_surface_has_its_own_spelling(make_pair: MakePair, tmp_path: Path) -> None:
    """Two grids: the remedy is the same, and its words are those of the surface."""
    before, after = make_pair(np.ones((3, 20, 20), "u1"), np.ones((3, 20, 21), "u1"))
    for call in (
        lambda: geocd.detect(before, after),
        lambda: pipeline.detect(before, after, tmp_path / "run"),
    ):
        with pytest.raises(GeocdError, match="align='grid' warps the second") as caught:
            call()
        assert "--align" not in str(caught.value)
    report = check_pair(before, after)
    assert report.problem is not None
    assert "align='grid' warps" in report.problem
    assert "align='grid' warps" in str(report.findings[-1])
    assert "indexes=" in str(check_pair(before, after, indexes=("x",), align="grid").problem)
    for command in ("detect", "check"):
        done = CliRunner().invoke(main, [command, str(before), str(after)])
        assert "--align grid warps the second" in " ".join(done.output.split())
    labelled = load_plugin("options").labelled
    text = "error: x. --align grid warps; rio stack --bidx 1 a.tif; --co A=B"
    assert labelled(text) == 'error: x. "Align" grid warps; rio stack --bidx 1 a.tif; --co A=B'
