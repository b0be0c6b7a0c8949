"""A run repeated from its item: the same bytes, or what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from geocd.cli import main
from geocd.config import Settings
from geocd.errors import ConfigError, GeocdWarning, Interrupted, ItemError, OutputError
from geocd.pipeline.run import detect
from geocd.rerun import recipe, rerun

FLAT = {
    "method": "cva",
    "bidx": (1, 3),
    "nodata": 0.0,
    "tile_size": 120,
    "overlap": 96,
    "min_area": 300.0,
    "seed": 3,
}


@pytest.fixture
def done(
    make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., np.ndarray], tmp_path: Path
) -> Path:
    """The item of a run whose inputs and outputs stand in different folders."""
    before = scene(3, 120, 130)
    after = (before * 1.1).astype(np.uint16)
    after[:, 40:80, 50:100] = scene(3, 40, 50, seed=9) + 3000
    (tmp_path / "out").mkdir()
    files, _ = detect(*make_pair(before, after), tmp_path / "out" / "x", settings=Settings.from_flat(FLAT))
    return files["item"]


def edited(item: Path, change: Callable[[Any], object]) -> Path:
    content = json.loads(item.read_text())
    change(content)
    item.write_text(json.dumps(content))
    return item


def test_the_same_bytes_and_nothing_left(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path.name for path in done.parent.iterdir())
    monkeypatch.chdir("/")
    result = rerun(done)
    assert result.identical
    assert set(result.same) == {"prob", "prob_style", "changes", "changes_style", "quicklook"}
    assert result.inputs == {"before": True, "after": True}
    assert result.recorded == result.current == {}
    assert sorted(path.name for path in done.parent.iterdir()) == before


def test_it_takes_every_setting_from_the_item(done: Path) -> None:
    original = recipe(json.loads(done.read_text()), done)
    assert original.settings.resolved() == Settings.from_flat(FLAT).resolved()


def test_a_changed_input_is_reported_and_gives_other_bytes(done: Path, tmp_path: Path) -> None:
    after = Path(recipe(json.loads(done.read_text()), done).after)
    with rasterio.open(after, "r+") as dataset:
        values = dataset.read()
        values[:, :20, :20] += 900
        dataset.write(values)
    result = rerun(done)
    assert not result.identical
    assert result.inputs == {"before": True, "after": False}
    assert not result.same["prob"]
    assert result.same["prob_style"]


def test_a_folder_that_was_moved_with_its_inputs(done: Path, tmp_path: Path) -> None:
    shutil.copytree(tmp_path, tmp_path.with_name("elsewhere"))
    shutil.rmtree(done.parent)
    assert rerun(tmp_path.with_name("elsewhere") / "out" / "x.json").identical


def test_an_interrupt_leaves_nothing_or_can_be_continued(done: Path) -> None:
    def interrupt(stage: str, count: int, total: int) -> None:
        if stage == "tiles" and count:
            raise KeyboardInterrupt

    before = sorted(done.parent.iterdir())
    with pytest.raises(KeyboardInterrupt) as caught:
        rerun(done, progress=interrupt)
    assert not isinstance(caught.value, Interrupted)
    assert sorted(done.parent.iterdir()) == before
    stem = done.parent / "again"
    with pytest.raises(Interrupted, match=r"tiles are kept; run the same command again to continue"):
        rerun(done, stem, progress=interrupt)
    assert rerun(done, stem).identical
    assert not (stem.parent / ".again.geocd").exists()


def test_the_item_is_not_replaced_by_that_of_its_repetition(done: Path) -> None:
    content = done.read_bytes()
    with pytest.raises(OutputError, match=r"x\.json: would replace an input of this run"):
        rerun(done, done.with_suffix(""), overwrite=True)
    assert done.read_bytes() == content


def test_new_outputs_can_be_kept(done: Path) -> None:
    result = rerun(done, done.with_name("again"))
    assert result.identical
    assert result.files["prob"].read_bytes() == done.with_name("x_prob.tif").read_bytes()


@pytest.mark.parametrize("bidx", [None, ("red", "blue")])
def test_bands_matched_by_name_are_matched_again(
    bidx: tuple[str, ...] | None,
    make_pair: Callable[..., tuple[Path, Path]],
    scene: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    values, changed = scene(3, 60, 70), scene(3, 60, 70)
    changed[:, 20:40, 20:40] += 4000
    names = ("blue", "green", "red")
    settings = Settings.from_flat({"method": "cva", "bidx": bidx})
    straight = make_pair(values, changed, names=names)
    expected, _ = detect(*straight, tmp_path / "y", settings=settings)
    pair = make_pair(values, changed[::-1], names=names, after_names=names[::-1])
    files, record = detect(*pair, tmp_path / "x", settings=settings)
    item = json.loads(files["item"].read_text())
    numbers = (
        {"before": [1, 2, 3], "after": [3, 2, 1]} if bidx is None else {"before": [3, 1], "after": [1, 3]}
    )
    assert item["properties"]["geocd:band_numbers"] == numbers
    assert item["properties"]["geocd:settings"]["bidx"] == (None if bidx is None else list(bidx))
    with rasterio.open(files["prob"]) as dataset, rasterio.open(expected["prob"]) as other:
        np.testing.assert_array_equal(dataset.read(), other.read())
        assert json.loads(dataset.tags()["GEOCD_PROVENANCE"])["after_indexes"] == numbers["after"]
    assert list(record.band_names) == [names[number - 1] for number in numbers["before"]]
    assert rerun(files["item"]).identical


def test_an_undeclared_rim_is_recorded_and_taken_out_again(
    make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    before, after = scene(3, 100, 120), scene(3, 100, 120, seed=1)
    after[:, :, :30] = 0
    pair = make_pair(before, after)
    probs = []
    for tile_size in (40, 64):
        settings = Settings.from_flat({"method": "cva", "tile_size": tile_size, "overlap": 8})
        with pytest.warns(GeocdWarning, match="in a rim at the border, are 0 in all bands"):
            files, record = detect(*pair, tmp_path / f"x{tile_size}", settings=settings)
        with rasterio.open(files["prob"]) as dataset:
            probs.append(dataset.read(1))
        assert np.isnan(probs[-1][:, :30]).all()
        assert not np.isnan(probs[-1][:, 30:]).any()
    properties = json.loads(files["item"].read_text())["properties"]
    assert properties["geocd:undeclared_nodata"] == {"after": [0, 0, 0]}
    assert "undeclared_rim" in [finding["code"] for finding in properties["geocd:findings"]]
    assert record.summary.valid_share == 0.75
    with pytest.warns(GeocdWarning, match="in a rim"):
        assert rerun(files["item"]).identical
    settings = Settings.from_flat({"method": "cva", "nodata": "none"})
    with pytest.warns(GeocdWarning, match="are 0 in all bands"):
        files, record = detect(*pair, tmp_path / "refused", settings=settings)
    properties = json.loads(files["item"].read_text())["properties"]
    assert record.summary.valid_share == 1
    assert properties["geocd:settings"]["nodata"] == "none"
    assert "geocd:undeclared_nodata" not in properties
    with pytest.warns(GeocdWarning, match="are 0 in all bands"):
        assert rerun(files["item"]).identical


def test_valid_is_an_input_too(
    make_pair: Callable[..., tuple[Path, Path]], scene: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    pair = make_pair(scene(3, 60, 60), scene(3, 60, 60, seed=1))
    with rasterio.open(pair[0]) as dataset:
        profile = dataset.profile | {"count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "usable.tif", "w", **profile) as dataset:
        dataset.write(np.tri(60, dtype=np.uint8)[None])
    settings = Settings.from_flat({"method": "cva", "valid": str(tmp_path / "usable.tif")})
    files, _ = detect(*pair, tmp_path / "x", settings=settings)
    result = rerun(files["item"])
    assert result.identical
    assert result.inputs == {"before": True, "after": True, "valid": True}


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].pop("geocd:settings"),
        lambda item: item.update(links=[]),
        lambda item: item.update(links=3),
        lambda item: item["properties"].update({"geocd:settings": 7}),
        lambda item: item["properties"]["geocd:settings"].update(tile_size="large"),
    ],
)
def test_an_item_that_is_none_is_refused(done: Path, change: Callable[[Any], object]) -> None:
    with pytest.raises((ItemError, ConfigError), match=r"x\.json|tile"):
        rerun(edited(done, change))


def test_a_setting_of_another_version_is_named(done: Path) -> None:
    with pytest.raises(ConfigError, match="sharpness: no such setting"):
        rerun(edited(done, lambda item: item["properties"]["geocd:settings"].update(sharpness=3)))


def test_on_the_command_line(done: Path) -> None:
    result = CliRunner().invoke(main, ["rerun", str(done)])
    assert result.exit_code == 0
    assert "prob: identical" in result.output
    edited(done, lambda item: item["properties"]["processing:software"].update(geocd="0.0.1"))
    edited(done, lambda item: item["properties"]["geocd:settings"].update(threshold=0.99))
    result = CliRunner().invoke(main, ["rerun", str(done)])
    assert result.exit_code == 1
    assert "geocd: 0.0.1 before, " in result.output
    assert "prob: different bytes" in result.output
    result = CliRunner().invoke(main, ["rerun", str(done.with_name("x_prob.tif"))])
    assert result.exit_code == 1
    assert "cannot be read as JSON" in result.output


def test_a_file_does_not_decide_which_program_is_run(done: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("raise SystemExit('run')")
    edited(
        done,
        lambda content: content["properties"]["geocd:settings"].update(
            method="deep", backbone=str(tmp_path / "own.py")
        ),
    )
    with pytest.raises(ItemError, match=r"its backbone is a Python file .*own\.py.*geocd detect --backbone"):
        rerun(done)


def test_features_of_a_run_are_read_again(
    make_pair: Callable[..., tuple[Path, Path]],
    write_raster: Callable[..., Path],
    scene: Callable[..., np.ndarray],
    tmp_path: Path,
) -> None:
    paths = make_pair(scene(3, 120, 130), scene(3, 120, 130, seed=2))
    rng = np.random.default_rng(0)
    features = {
        f"features_{date}": str(write_raster(f"f_{date}", rng.normal(size=(6, 120, 130)).astype(np.float32)))
        for date in ("before", "after")
    }
    (tmp_path / "out").mkdir()
    settings = Settings.from_flat({**features, "weights": "none"})
    files, record = detect(*paths, tmp_path / "out" / "x", settings=settings)
    assert {"features_before", "features_after"} <= set(record.inputs)
    result = rerun(files["item"])
    assert result.identical
    assert result.inputs["features_before"]
    Path(features["features_after"]).write_bytes(Path(features["features_before"]).read_bytes())
    result = rerun(files["item"])
    assert not result.identical
    assert not result.inputs["features_after"]
