"""Names that polygons cannot be written under are refused before anything is computed, and write nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import geopandas
import pytest
import shapely
from commands import run

from geocd.errors import OutputError
from geocd.pipeline.prepared import OpenRun
from geocd.vectorize.files import write
from geocd.vectorize.formats import FORMATS
from geocd.vectorize.names import refuse_unusable_name

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows allows other names")

#: Names that some format cannot have, and what of it the message says.
LONG = "n" * 245
UNUSABLE = {
    "a;b": "';'",
    "a!b": "'!'",
    "a\tb": r"'\t'",
    "a\nb": r"'\n'",
    "a\\b": r"'\\'",
    "a\udcff": r"'\udcff'",
    LONG: "file name too long. Of at most 255 bytes",
}
REFUSED = {".gpkg": UNUSABLE.keys() - {"a\\b"}, ".shp": UNUSABLE.keys() - {LONG}, ".parquet": {"a\udcff"}}
USABLE = ["a b", "~a", "a'b", 'a"b', "a?b#c%20d", "a:b", "file:a", "[a]{b}", "a&b=c", "é😀", "-a", "n" * 220]


@pytest.mark.parametrize("suffix", REFUSED)
def test_a_name_works_or_is_refused(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    frame = geopandas.GeoDataFrame({"id": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:4326")
    for name in (*UNUSABLE, *USABLE):
        path = tmp_path / "out" / f"{name}{suffix}"
        if name in REFUSED[suffix]:
            with pytest.raises(OutputError, match=re.escape(UNUSABLE[name])):
                refuse_unusable_name(path)
        else:
            refuse_unusable_name(path)
            write(frame, path, "1970-01-01T00:00:00.000Z")
            assert FORMATS[suffix].count(path) == 1
    assert list(Path().iterdir()) == [], "what was written under a part of a name"
    assert list((tmp_path / "out").glob(".*")) == []


@pytest.mark.parametrize("name", ["a;b", "n" * 240, "a!b/x"])
def test_a_run_and_a_batch_say_so_before_they_begin(
    name: str,
    make_pair: Callable[..., tuple[Path, Path]],
    write_pairs: Callable[..., Path],
    scene: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fit(*_: object, **__: object) -> None:
        raise AssertionError("begun")

    monkeypatch.setattr(OpenRun, "fit", fit)
    (tmp_path / "out").mkdir()
    stem = tmp_path / "out" / name
    stem.parent.mkdir(exist_ok=True)
    result = run("detect", *make_pair(scene(), scene(seed=1)), "-o", stem, "--method", "cva")
    assert result.exit_code == 1
    assert "too long" in result.stderr if len(name) == 240 else "GDAL cannot open a file" in result.stderr
    assert "disk" not in result.stderr
    assert list(stem.parent.iterdir()) == []
    if "/" in name:
        command = ["batch", write_pairs(1), stem.parent, "--scheduler", "tcp://127.0.0.1:9", "--merge"]
        result = run(*command)
        assert result.exit_code == 1
        assert "GDAL cannot open a file in a folder" in result.stderr
