"""The files around the code agree with each other."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import layers
import pytest
import yaml

import geocd
from geocd.report.products import PRODUCTS

ROOT = Path(__file__).resolve().parents[1]

#: Where conda-forge has another name than PyPI.
CONDA_NAMES = {"torch": "pytorch"}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(comment_prefixes=("#",))
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text: str) -> dict[str, str]:
    """Split lines of ``name>=version`` into a dict; conda knows no ``; python_version < ...``."""
    found = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, version = re.fullmatch(r"([a-z0-9-]+)(>=[\d.]+)(?:; .*)?", line).groups()  # type: ignore[union-attr]
        found[name] = version
    return found


def test_environment_is_in_step_with_setup_cfg() -> None:
    config = setup_cfg()
    wanted = requirements(config["options"]["install_requires"])
    wanted |= requirements(config["options.extras_require"]["test"])
    wanted = {CONDA_NAMES.get(name, name): version for name, version in wanted.items()}
    wanted["python"] = config["options"]["python_requires"]

    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    entries = [entry for entry in environment["dependencies"] if isinstance(entry, str) and entry != "pip"]
    assert requirements("\n".join(entries)) == wanted
    assert environment["channels"] == ["conda-forge"], "mixing channels breaks GDAL"
    assert {"pip": ["-e ."]} in environment["dependencies"]


def test_constraints_fit_the_requirements() -> None:
    wanted = requirements(setup_cfg()["options"]["install_requires"])
    for line in (ROOT / "constraints.txt").read_text().split():
        name, version = line.split("==")
        least = wanted[name].removeprefix(">=")
        assert [int(n) for n in version.split(".")] >= [int(n) for n in least.split(".")], line


def test_every_dependency_has_its_licence_in_the_documents() -> None:
    config = setup_cfg()
    wanted = requirements(config["options"]["install_requires"])
    for extra in config["options.extras_require"].values():
        wanted |= requirements(extra)
    table = (ROOT / "docs" / "dependencies.md").read_text()
    named = re.findall(r"^\| ([a-z0-9-]+) \| [^|]+ \| [^|]+ \|$", table, flags=re.MULTILINE)
    assert named.pop(0) == "package"
    assert sorted(named) == sorted(wanted), "each once, and nothing else"


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


DOCUMENTS = ["README.md", "CONTRIBUTING.md", ".ci/run"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_in_the_documents_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"^\s*(?:\$ )?make ([a-z-]+)|`make ([a-z-]+)`", text, re.MULTILINE))
    names = {one or other for one, other in named}
    assert names, "the document no longer says how to run anything"
    assert names <= targets()


def test_readme_tells_both_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text


def code_blocks(text: str, language: str) -> list[str]:
    fences = re.findall(r"^```(\S*)[^\n]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for name, block in fences if re.fullmatch(language, name)]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_the_documents_exist(page: Path) -> None:
    """Every `geocd <command> --option` of README and manual is one that the program knows."""
    from geocd.cli import main

    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(
        r"^(?:\$ )?geocd ([a-z]+)(.*)$", "\n".join(code_blocks(text, "(?:sh|bash)?")), re.MULTILINE
    )
    if page.stem in {"README", "quickstart"}:
        assert {name for name, _ in commands} >= {"check", "detect", "polygonize", "evaluate"}
    for name, rest in commands:
        command = main.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        # A dash that begins a word is an option, up to a comment.
        used = set(re.findall(r"(?<=\s)(--?[a-z][a-z-]*)", rest.partition("#")[0]))
        assert used <= known | {"--help"}, f"geocd {name}"


def test_options_in_the_readme_s_table_exist() -> None:
    from geocd.cli import main

    text = (ROOT / "README.md").read_text()
    known = {
        option
        for command in main.commands.values()
        for parameter in command.params
        for option in parameter.opts
    }
    used = set(re.findall(r"`(--[a-z][a-z-]*)", text))
    assert used, "the README shows some options"
    assert used <= known


def test_the_readme_lists_every_product_in_its_table() -> None:
    """docs/outputs.md includes the table that is made from ``PRODUCTS``; the README is read unbuilt."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What comes out")[2]
    rows = re.findall(r"^\| (`valley.*?) \| .+ \|$", section.partition("\n## ")[0], re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(.+?)`", row)]
    assert sorted(names) == sorted(f"valley{entry.suffix}" for entry in PRODUCTS)


def test_python_of_the_readme_compiles() -> None:
    blocks = code_blocks((ROOT / "README.md").read_text(), "python")
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


def test_the_map_of_the_code_is_that_of_the_code() -> None:
    text = layers.DOCUMENT.read_text(encoding="utf-8")
    assert text == layers.updated(text), "the map in CONTRIBUTING.md is outdated: run python tests/layers.py"


def test_links_of_the_documents_lead_somewhere() -> None:
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            if target.startswith("docs/images/"):
                continue  # pictures come from a machine with QGIS
            assert (ROOT / target).exists(), f"{document.name}: {target}"


DOCUMENTED_PATHS = re.compile(
    r"\b((?:geocd|tests|benchmarks|training|examples)/[\w./]*\w\.(?:py|toml|ipynb))\b"
)


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "setup.cfg"], ids=lambda page: page.stem
)
def test_files_that_the_documents_name_exist(page: Path) -> None:
    for path in DOCUMENTED_PATHS.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / path).is_file(), path


def test_the_weights_are_shipped_with_their_notice_and_licence() -> None:
    patterns = setup_cfg()["options.package_data"]["geocd"].split()
    data = ROOT / "geocd" / "data"
    assert {path.name for pattern in patterns for path in (ROOT / "geocd").glob(pattern)} >= {
        path.name for path in data.iterdir()
    }
    notice = (data / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for named in ("lite0.safetensors", "Copyright (c) 2020, ML Illustrated", "LICENSE-APACHE-2.0"):
        assert named in notice
    assert "Apache License" in (data / "LICENSE-APACHE-2.0").read_text(encoding="utf-8")


def test_files_that_mutmut_is_told_of_exist() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    with (ROOT / "pyproject.toml").open("rb") as file:
        mutmut = tomllib.load(file)["tool"]["mutmut"]
    for pattern in (*mutmut["only_mutate"], *mutmut["pytest_add_cli_args_test_selection"]):
        assert list(ROOT.glob(pattern)), pattern


def test_version_is_in_the_changes() -> None:
    assert f"## {geocd.__version__}" in (ROOT / "CHANGES.md").read_text()


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_ci_runs_the_makefile() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    lines = script.read_text().splitlines()
    assert [line for line in lines if line.startswith("make ")][-1] == "make test"


def test_demo_pair(tmp_path: Path) -> None:
    """The example makes what the README promises, and the same for one seed."""
    import numpy as np
    import rasterio

    from geocd.raster.pair import Pair

    script = ROOT / "examples" / "make_demo_pair.py"
    subprocess.run([sys.executable, "-W", "error", str(script), str(tmp_path)], check=True, timeout=300)
    with Pair(tmp_path / "before.tif", tmp_path / "after.tif") as pair:
        assert pair.band_names == ("B02", "B03", "B04", "B08", "B11", "B12")
        assert pair.grid.shape == (600, 700)
        chip = pair.read(pair.grid.window)
    with rasterio.open(tmp_path / "truth.tif") as dataset:
        truth = dataset.read(1)
    assert set(np.unique(truth)) == {0, 1, 255}
    assert 0.02 < (truth == 1).sum() / (truth != 255).sum() < 0.06
    assert (truth[~chip.valid] == 255).all()
    assert 0.9 < chip.valid.mean() < 0.99, "a corner is nodata"
    # What changed differs more than what did not, and yet light and season differ everywhere.
    difference = np.abs(np.log(chip.after + 1) - np.log(chip.before + 1)).mean(axis=0)
    changed, same = difference[truth == 1], difference[(truth == 0) & chip.valid]
    assert np.median(changed) > 2 * np.median(same)
    assert np.median(same) > 0.05
    assert np.quantile(same, 0.999) > np.quantile(changed, 0.05)
