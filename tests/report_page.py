"""Reports of made-up runs, written and taken apart."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import json
import math
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
from conftest import write_raster
from PIL import Image

from geocd.report import page
from geocd.report.record import FinishedRun, RunRecord
from geocd.report.thumbnails import read_dates
from geocd.vectorize.polygons import polygonize

CREATED = "2024-01-02T03:04:05Z"


class Parsed(html.parser.HTMLParser):
    """Every element with its attributes, and the text of styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("style", "script") and self.cdata_elem:
            tag, attrs = self.elements[-1]
            self.raw.append(("data" if attrs.get("type") == "application/json" else tag, data))
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def image(self, name: str) -> Image.Image:
        """Return the picture of a class."""
        (attrs,) = (attrs for attrs in self.all("img") if attrs.get("class") == name)
        return decoded(attrs["src"] or "")

    @property
    def data(self) -> dict[str, Any]:
        """What the scripts read."""
        (text,) = (text for name, text in self.raw if name == "data")
        content: dict[str, Any] = json.loads(text)
        return content

    @property
    def outlines(self) -> list[str]:
        return [d for attrs in self.all("path") if (d := attrs["d"] or "").endswith(("Z", "z"))]


def decoded(uri: str) -> Image.Image:
    kind, data = uri.split(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def write(
    tmp_path: Path,
    run: RunRecord,
    prob: np.ndarray,
    *,
    before: np.ndarray | None = None,
    after: np.ndarray | None = None,
    columns: dict[str, list[str | None]] | None = None,
) -> tuple[Path, Parsed]:
    """Write the page of a made-up run; ``prob`` (height, width) lies on the record's grid.

    ``columns`` are set in the layer, in the order of the ids.
    """
    grid = dataclasses.replace(run.grid, height=prob.shape[0], width=prob.shape[1])
    where = {"crs": grid.crs.to_wkt(), "transform": grid.transform}
    image = np.tile(np.arange(prob.shape[1]) % 200, (prob.shape[0], 1)) if before is None else before
    source = write_raster(tmp_path / "b.tif", image.astype(np.uint8), **where)
    other = source if after is None else write_raster(tmp_path / "a.tif", after, **where)
    raster = write_raster(tmp_path / "x_prob.tif", prob.astype(np.float32), nodata=math.nan, **where)
    changes = tmp_path / "x_changes.gpkg"
    found = polygonize(raster, changes, threshold=run.threshold)
    if columns is not None:
        geopandas.read_file(changes).assign(**columns).to_file(changes, layer="changes")
    run = dataclasses.replace(
        run, grid=grid, summary=dataclasses.replace(run.summary, n_polygons=found.count)
    )
    indexes = range(1, 1 + (len(image) if image.ndim == 3 else 1))
    dates = read_dates(str(source), str(other), indexes=indexes, max_size=1000)
    small = dates.with_prob(raster, run.threshold)
    destination = tmp_path / "x_report.html"
    paths = {"prob": raster, "changes": changes}
    page.write_page(FinishedRun(run, small, paths, CREATED, tmp_path), destination)
    return destination, Parsed(destination.read_text(encoding="utf-8"))


def one_place(height: int = 60, width: int = 80) -> np.ndarray:
    prob = np.zeros((height, width))
    prob[10:30, 40:70] = 0.9
    return prob


HOSTILE = "<script>alert(1)</script> \"'&amp;{{7*7}}{% x %}\n\u202e\x07\udcff.tif"
