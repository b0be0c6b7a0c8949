"""Settings in a file: read back as they were written, and what is wrong is said with its place."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from geocd.cli import main
from geocd.config import Settings
from geocd.configfile import read_config, write_config
from geocd.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def file(text: str) -> Path:
        path = tmp_path / "geocd.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return file


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "bidx": st.lists(st.integers(1, 99) | st.sampled_from(["red", "B8A", 'a "b"']), min_size=1).map(
                tuple
            ),
            "nodata": st.floats(allow_nan=False),
            "valid": st.text(st.characters(exclude_categories=["Cs"])),
            "weights": st.text(st.characters(exclude_categories=["Cs"])),
            "ignore": st.sampled_from([(), ("water",), ("water", "cloud")]),
            "method": st.sampled_from(["cva", "irmad"]),
            "align": st.sampled_from(["grid", "shift"]),
            "tile_size": st.integers(129, 5000),
            "threshold": st.floats(0, 1),
            "simplify": st.floats(0, 1e300),
            "seed": st.integers(0, 2**63 - 1),
            "min_area": st.floats(0, 1e300),
        },
    )
)
def test_what_is_written_is_read_back(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = Settings.from_flat(values).resolved()
    path = tmp_path_factory.getbasetemp() / "c.toml"
    path.write_bytes(write_config(settings).encode())
    assert Settings.from_flat(read_config(path)).resolved() == settings


def test_nan_and_every_help_survive(write: Any) -> None:
    text = write_config(Settings.from_flat({"nodata": math.nan, "uncertainty": True}))
    read = read_config(write(text))
    assert math.isnan(read["nodata"])
    assert read_config(write(write_config(Settings.from_flat({"nodata": "none"}))))["nodata"] == "none"
    assert read["uncertainty"] is True
    assert "# threshold = FLOAT|auto\n" in text
    assert "Default: 128 (cva and irmad: 32).\n# overlap = PX\n" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tile-size = 9", r"toml: tile-size: no such setting. Did you mean tile_size\? The settings are: al"),
        ("colour = 9", r"geocd.toml: colour: no such setting. The settings are"),
        ("tile_size = 'big'", r"geocd.toml: tile_size = \"big\": must be a whole number\."),
        ("tile_size = 1.5", r"tile_size = 1.5: must be a whole number"),
        ("tile_size = true", r"tile_size = true: must be a whole number"),
        ("tile_size = 0", r"geocd.toml: tile_size = 0: must be 1 or more"),
        ("min_area = '9'", r"min_area = \"9\": must be a number"),
        ("min_area = -1", r"min_area = -1: must be 0 or more"),
        ("uncertainty = 1", r"uncertainty = 1: must be true or false"),
        ("backbone = 'own.py'", r"backbone = \"own.py\": a file of settings does not decide what is run"),
        ("valid = 1", r"valid = 1: must be a text"),
        ("valid = 2024-01-01", r"valid = 2024-01-01: must be a text"),
        ("bidx = 1", r"bidx = 1: must be a list, and each in it a whole number"),
        ("bidx = [1, '2']", r"bidx = \[1, \"2\"\]: must be a list"),
        ("bidx = [0]", r"bidx = \[0\]: bands are counted from 1"),
        ("ignore = ['fog']", r"ignore = \[\"fog\"\]: must be some of water, cloud, vegetation"),
        ("preset = 'best'", r"preset = \"best\": must be one of default, reference"),
        ("threshold = 2", r"threshold = 2: a probability lies between 0 and 1"),
        ("[method]\npreset = 'default'", r"geocd.toml: \[method\]: .*at the top.*Remove the heading"),
        ("tile_size: 9", r"geocd.toml: not TOML .*line 1.*geocd config prints all"),
        ("a = 1\na = 2", r"geocd.toml: not TOML "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text: str, message: str, write: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(write(text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.toml: cannot be read \(No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"x.toml: cannot be read \(not UTF-8"):
        read_config(tmp_path / "x.toml")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("seed = 1\nthreshold = 0.7\nuncertainty = true\nbidx = [2]\nignore = ['cloud', 'water']\n")
    shown = run("config", "--show", "--config", file).output
    for line in (
        "seed = 1",
        "threshold = 0.7",
        "uncertainty = true",
        "bidx = [2]",
        'ignore = ["water", "cloud"]',
    ):
        assert f"\n{line}\n" in f"\n{shown}", line
    monkeypatch.setenv("GEOCD_CONFIG_SEED", "2")
    assert "\nseed = 2\n" in run("config", "--config", file).output
    shown = run(
        "config", "--config", file, "--seed", 3, "--threshold", "auto", "--no-uncertainty", "--bidx", "1..2"
    ).output
    for line in ("seed = 3", "# threshold = FLOAT|auto", "uncertainty = false", "bidx = [1, 2]"):
        assert f"\n{line}\n" in f"\n{shown}", line


def test_what_fits_together_only_with_an_option_is_allowed(write: Any) -> None:
    """64 px tiles are too small for the default overlap, not for a smaller one."""
    file = write("tile_size = 64\n")
    refused = run("config", "--config", file)
    assert refused.exit_code == 2
    assert "overlap (128 px)" in refused.output
    assert "tile_size = 64\n" in run("config", "--config", file, "--overlap", "8").output


def test_the_preset_is_resolved() -> None:
    shown = run("config", "--preset", "reference").output
    assert 'weights = "imagenet"\n' in shown
    assert "tile_size = 256\n" in shown


def test_detect_check_and_batch_take_a_file(make_pair: Any, write: Any, tmp_path: Path, scene: Any) -> None:
    pair = make_pair(scene(), scene(seed=1))
    file = write('bidx = [2]\nmethod = "cva"\nthreshold = 0.9\n')
    assert run("-q", "detect", *pair, "-o", tmp_path / "run", "--config", file).exit_code == 0
    made = json.loads((tmp_path / "run.json").read_text())["properties"]
    assert made["geocd:method"] == "cva"
    assert made["geocd:threshold"] == 0.9
    checked = run("check", *pair, "--config", write("bidx = [9]\n"))
    assert "band 9 does not exist" in checked.output
    wrong = run("batch", "pairs.csv", tmp_path, "--config", write("seed = -1\n"))
    assert wrong.exit_code == 2
    assert "geocd.toml: seed = -1: must be 0 or more" in wrong.output


def test_a_byte_order_mark_is_no_part_of_a_file(write: Any) -> None:
    assert read_config(write("\ufefftile_size = 512\n")) == {"tile_size": 512}
