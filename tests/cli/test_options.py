from __future__ import annotations

import re

import click
import pytest

from geocd.cli.batch import batch
from geocd.cli.detect import detect
from geocd.cli.series import series


@pytest.mark.parametrize(
    ("arguments", "baseline", "positional"),
    [
        ("b a --baseline 1 2 3", ("1", "2", "3"), ("b", "a")),
        ("b a --baseline 1 --baseline 2", ("1", "2"), ("b", "a")),
        ("--baseline 1 2 3 b a", ("1", "2", "3"), ("b", "a")),
        ("b --baseline 1 2 -o out -- a", ("1", "2"), ("b", "a")),
        ("--baseline=1 b a", ("1",), ("b", "a")),
        ("b a --baseline 1 2 --overwrite --confirm 3", ("1", "2"), ("b", "a")),
        ("b a", (), ("b", "a")),
    ],
)
def test_options_of_files_take_all_that_follow(
    arguments: str, baseline: tuple[str, ...], positional: tuple[str, str]
) -> None:
    params = detect.make_context("detect", arguments.split()).params
    assert params["baseline"] == baseline
    assert (params["before"], params["after"]) == positional


def test_a_list_of_files_without_a_file_is_wrong_usage() -> None:
    with pytest.raises(click.UsageError, match="--baseline"):
        detect.make_context("detect", ["b", "a", "--baseline"])


def test_a_batch_keeps_its_own_arguments() -> None:
    params = batch.make_context(
        "batch", ["pairs.csv", "out", "--baseline", "1", "2", "--status", "--json"]
    ).params
    assert (params["pairs"], params["outdir"], params["baseline"]) == ("pairs.csv", "out", ("1", "2"))


@pytest.mark.parametrize("command", [batch, series])
def test_helps_name_options_that_the_command_has(command: click.Command) -> None:
    options = [param for param in command.params if isinstance(param, click.Option)]
    names = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    named = {name for option in options for name in re.findall(r"--[a-z][a-z-]*", option.help or "")}
    assert named <= names
