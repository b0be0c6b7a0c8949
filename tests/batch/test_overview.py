"""The page of a batch."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from batch_folder import invoke

from geocd.batch.overview import GENERATOR, LEAST_SIDE, WIDTH, Entry, boxes

Pairs = Callable[..., tuple[Path, Path]]


@pytest.fixture
def archive(make_pair: Pairs, scene: Callable[..., np.ndarray], tmp_path: Path) -> Path:
    """A batch with two pairs, the second with changes, and one that failed."""
    before = scene(3, 60, 70)
    after = (before * 1.02).astype(before.dtype)
    after[:, 20:40, 20:45] += 4000
    listed = tmp_path / "pairs.csv"
    rows = ["id,before,after"]
    for name, other in (("a b", scene(3, 60, 70, seed=3)), ("c", after)):
        folder = tmp_path / name
        folder.mkdir()
        paths = [path.rename(folder / path.name) for path in make_pair(before, other)]
        rows.append(f"{name},{paths[0]},{paths[1]}")
    rows.append(f"gone,{paths[0]},{tmp_path / '<none>.tif'}")
    listed.write_text("\n".join(rows))
    assert invoke("batch", listed, tmp_path / "out", "--method", "cva", "--workers", 1).exit_code == 3
    return tmp_path / "out"


def test_the_page_shows_every_pair_and_what_failed(archive: Path) -> None:
    page = (archive / "index.html").read_text(encoding="utf-8")
    assert GENERATOR in page
    assert "2 of 3 pairs compared" in page
    assert page.count("<rect ") == 2
    links = re.findall(r'(?:href|src)="([^"#]*)"', page)
    for link in links:
        if link != "data:,":
            assert (archive / link.replace("%20", " ")).is_file(), link
    assert "gone" in page
    assert "&lt;none&gt;.tif" in page, "what comes from names is escaped"
    assert "<none>" not in page
    assert "http" not in page.replace("http-equiv", ""), "it opens without a network"


def test_a_page_of_somebody_else_is_kept(archive: Path, tmp_path: Path) -> None:
    command = ["batch", tmp_path / "pairs.csv", archive, "--method", "cva"]
    (archive / "index.html").write_text("mine")
    assert invoke(*command).exit_code == 3
    kept = [path for path in archive.iterdir() if path.is_file() and path.read_bytes() == b"mine"]
    assert len(kept) == 1
    assert GENERATOR in (archive / "index.html").read_text(encoding="utf-8")
    before = sorted(path.name for path in archive.iterdir())
    assert invoke(*command).exit_code == 3
    assert sorted(path.name for path in archive.iterdir()) == before, "its own page is replaced"


@pytest.mark.parametrize(
    "areas",
    [
        [(10.0, 50.0, 10.2, 50.1), (11.0, 51.0, 11.2, 51.1)],
        [(10.0, 50.0, 10.0001, 50.0001)],
        [(-180.0, -90.0, 180.0, 90.0), (0.0, 0.0, 0.001, 0.001)],
        [(10.0, -60.0, 10.1, 60.0)],
    ],
)
def test_boxes_lie_on_the_map(areas: list[tuple[float, float, float, float]]) -> None:
    entries = [Entry(str(i), "", 0.0, "", "", [], area) for i, area in enumerate(areas)]
    placed, height = boxes(entries)
    for box in placed:
        assert box.width >= LEAST_SIDE
        assert box.height >= LEAST_SIDE
        assert 0 <= box.x <= box.x + box.width <= WIDTH + LEAST_SIDE
        assert 0 <= box.y <= box.y + box.height <= height + LEAST_SIDE
    if len(placed) == 2:
        assert (placed[0].x < placed[1].x) == (areas[0][0] < areas[1][0])
        assert (placed[0].y > placed[1].y) == (areas[0][3] < areas[1][3]), "north is up"
