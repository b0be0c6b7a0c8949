"""What the dialogs offer is what geocd has."""

from __future__ import annotations

from typing import Any

import click
import pytest
from conftest import PLUGIN, load_file, load_plugin

from geocd.cli import main
from geocd.cli.options import KindsType

options = load_plugin("options")
make_choices = load_file(PLUGIN.parent / "make_choices.py")
COMMANDS = {
    "detect": options.DETECT,
    "check": options.CHECK,
    "polygonize": options.POLYGONIZE,
    "sample": options.SAMPLE,
    "estimate": options.ESTIMATE,
    "refine": options.REFINE,
    "series": options.SERIES,
}


def test_choices_are_those_of_geocd() -> None:
    committed = (PLUGIN / "choices.json").read_text(encoding="utf-8")
    assert committed == make_choices.content(), "geocd has changed: run make plugin, and commit choices.json"


@pytest.mark.parametrize(
    ("name", "option"),
    [(name, option) for name, those in COMMANDS.items() for option in those],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_options_are_those_of_geocd(name: str, option: Any) -> None:
    known = {flag: p for p in main.commands[name].params for flag in p.opts}
    assert option.flag in known, f"geocd {name} has no {option.flag}"
    parameter = known[option.flag]
    assert isinstance(parameter, click.Option)
    assert parameter.is_flag == (option.kind == "flag")
    files = ["before.tif", "after.tif"] if name in ("detect", "check", "series") else ["prob.tif"]
    assert (
        main.commands[name].make_context(name, files).params[{"next": "count"}.get(option.name, option.name)]
        == option.default
    )
    if isinstance(parameter.type, click.Choice):
        assert (option.kind, tuple(parameter.type.choices)) == ("choice", option.choices)
    elif isinstance(parameter.type, KindsType):
        assert (option.kind, parameter.type.kinds) == ("choices", option.choices)
    else:
        assert option.kind not in ("choice", "choices")
