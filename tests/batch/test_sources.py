"""Sources of pairs: one table, and options that only some of them understand."""

from __future__ import annotations

from pathlib import Path

import pytest

from geocd.batch import sources
from geocd.batch.pairs import Item
from geocd.batch.sources import PairSource, SourceOptions, read_pairs
from geocd.errors import ConfigError


def test_another_source_is_one_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a folder, paired by the years in their names."""

    def read(pairs: str, folder: Path, options: SourceOptions) -> list[Item]:
        before, after = sorted(Path(pairs).glob("*.tif"))
        return [Item(f"{before.stem}_{after.stem}", str(before), str(after))]

    entry = PairSource("a folder", accepts=lambda pairs: Path(pairs).is_dir(), read=read, options=["dates"])
    monkeypatch.setattr(sources, "SOURCES", (entry, *sources.SOURCES))
    for year in (2023, 2024):
        (tmp_path / f"{year}.tif").touch()
    pairs = str(tmp_path)
    expected = [Item("2023_2024", f"{tmp_path}/2023.tif", f"{tmp_path}/2024.tif")]
    assert read_pairs(pairs, tmp_path / "out", SourceOptions()) == expected
    with pytest.raises(
        ConfigError,
        match=rf"--max-cloud: only for a STAC API .* or a file of STAC items; {tmp_path} is read as a folder",
    ):
        read_pairs(pairs, tmp_path / "out", SourceOptions(max_cloud=3.0))
    (tmp_path / "pairs.csv").write_text("id,before,after\na,b.tif,c.tif\n")
    expected = [Item("a", f"{tmp_path}/b.tif", f"{tmp_path}/c.tif")]
    assert read_pairs(f"{tmp_path}/pairs.csv", tmp_path / "out", SourceOptions()) == expected


@pytest.mark.parametrize(
    ("pairs", "options", "message"),
    [
        ("pairs.csv", SourceOptions(assets=("red",)), "--assets: .*pairs.csv is read as a list in CSV"),
        (
            "pairs.gpkg",
            SourceOptions(interval="2023/2024"),
            "--datetime: only for a STAC API .*vector file",
        ),
        ("https://x/stac", SourceOptions(collection="c"), "needs --collection, an area .* and a time"),
    ],
)
def test_options_that_a_source_does_not_understand(
    pairs: str, options: SourceOptions, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_pairs(pairs, tmp_path, options)


def test_every_option_belongs_to_a_source() -> None:
    every = {name for source in sources.SOURCES for name in source.options}
    assert every == set(SourceOptions.__dataclass_fields__)
