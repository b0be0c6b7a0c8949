"""Make the pictures and the text of the gallery from a folder of real pairs.

    python docs/make_gallery.py FOLDER

The folder has ``labelled/<pair>`` and ``unlabelled/<pair>`` with ``before.tif`` and ``after.tif``. Every
picture shows the part of a pair with most changes, before and after, with the polygons in the colours of
their kinds. No reference map is read.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import NamedTuple

import geopandas
import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import uniform_filter

import geocd
from geocd.config import Settings
from geocd.pipeline.prepared import open_pair
from geocd.report.styles.polygons import COLOURS
from geocd.report.thumbnails import read_pair
from geocd.vectorize.kinds import LABELS

HERE = Path(__file__).resolve().parent
COPERNICUS = "Contains modified Copernicus Sentinel data {}."
#: Side of a picture in pixels of the image, gap between the two, and most bytes of the file.
SIDE, GAP, BYTES = 360, 8, 80_000


class Pair(NamedTuple):
    """A pair of the gallery: its folder, title, credit, and settings beside the defaults."""

    folder: str
    title: str
    credit: str
    bands: tuple[int, ...] | None = None
    align: str = "none"


PAIRS = (
    Pair("labelled/oscd_lasvegas", "Las Vegas: suburbs in the desert", COPERNICUS.format("2015-2018")),
    Pair("labelled/oscd_mumbai", "Mumbai: the edge of the city", COPERNICUS.format("2015-2018")),
    Pair("labelled/oscd_rennes", "Rennes: building sites in the city", COPERNICUS.format("2015-2017")),
    Pair("labelled/oscd_hongkong", "Hong Kong: a bay, once in haze", COPERNICUS.format("2016-2018")),
    Pair("labelled/oscd_aguasclaras", "Águas Claras: a city that fills up", COPERNICUS.format("2015-2017")),
    Pair("labelled/oscd_bordeaux", "Bordeaux: a turbid river", COPERNICUS.format("2015-2018")),
    Pair("unlabelled/landsat_ucayali_1985_2020", "Ucayali, Peru: a river that moved", "Landsat, USGS."),
    Pair(
        "unlabelled/naip_nd_2009_2020", "North Dakota: ponds and fields", "NAIP, USDA.", (1, 2, 3, 4), "grid"
    ),
)


def main() -> None:
    """Make the page and its pictures."""
    parser = argparse.ArgumentParser(description="Make the gallery.")
    parser.add_argument("data", type=Path, help="folder of the pairs")
    data = parser.parse_args().data
    entries = [entry(data / pair.folder, pair) for pair in PAIRS]
    head = (HERE / "gallery.md").read_text(encoding="utf-8").partition("<!-- pairs -->")[0]
    (HERE / "gallery.md").write_text(f"{head}<!-- pairs -->\n\n" + "\n".join(entries), encoding="utf-8")


def entry(folder: Path, pair: Pair) -> str:
    """Write the picture of a pair, and return its part of the page."""
    before, after = folder / "before.tif", folder / "after.tif"
    changes = geocd.detect(before, after, bidx=pair.bands, align=pair.align)  # type: ignore[arg-type]
    polygons = geocd.polygonize(changes)
    name = f"{folder.name}.webp"
    image = picture(folder, pair, changes.change_probability.to_numpy(), changes.rio.transform(), polygons)
    write(image, name)
    share = float((changes.changed == 1).sum() / (changes.changed != 255).sum())
    areas = polygons.groupby("kind").area_m2.sum().sort_values(ascending=False) / 1e4
    kinds = ", ".join(f"{LABELS[kind]} {area:.0f} ha" for kind, area in areas.items() if area >= 0.5)
    return (
        f"## {pair.title}\n\n![{pair.title.partition(':')[0]}](images/gallery/{name})\n\n"
        f"{share:.1%} changed, {len(polygons)} polygons: {kinds}. *{pair.credit}*\n"
    )


def write(image: Image.Image, name: str) -> None:
    """Write a picture of the gallery as WebP, as good as the limit allows."""
    target = HERE / "images" / "gallery" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    for quality in range(85, 10, -5):
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= BYTES:
            break
    target.write_bytes(buffer.getvalue())


def picture(
    folder: Path,
    pair: Pair,
    prob: np.ndarray[tuple[int, int], np.dtype[np.float32]],
    transform: object,
    polygons: geopandas.GeoDataFrame,
) -> Image.Image:
    """Return the part of a pair with most changes, before beside after with the outlines of the polygons."""
    settings = Settings.from_flat({"bidx": pair.bands, "align": pair.align})
    with open_pair(str(folder / "before.tif"), str(folder / "after.tif"), settings.read) as opened:
        dates = read_pair(opened, 10_000)
    height, width = min(SIDE, prob.shape[0]), min(SIDE, prob.shape[1])
    amount = uniform_filter((np.nan_to_num(prob) >= 0.5).astype(float), (height, width), mode="constant")
    inside = amount[
        height // 2 : prob.shape[0] - (height - 1) // 2, width // 2 : prob.shape[1] - (width - 1) // 2
    ]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    scale = 2 if max(height, width) < 250 else 1
    parts = [
        Image.fromarray(date[top : top + height, left : left + width]).resize((width * scale, height * scale))
        for date in (dates.before, dates.after)
    ]
    draw = ImageDraw.Draw(parts[1])
    inverse = ~transform  # type: ignore[operator]
    for kind, shape in zip(polygons.kind, polygons.geometry, strict=True):
        colour = tuple(map(int, COLOURS[kind].split(",")))
        for ring in (shape.exterior, *shape.interiors):
            line = [((c - left) * scale, (r - top) * scale) for c, r in (inverse @ xy for xy in ring.coords)]
            draw.line(line, fill=colour, width=2)
    row = Image.new("RGB", (2 * width * scale + GAP, height * scale), "white")
    row.paste(parts[0], (0, 0))
    row.paste(parts[1], (width * scale + GAP, 0))
    return row


if __name__ == "__main__":
    main()
