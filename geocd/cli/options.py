"""Click options made from the settings' own declarations."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from geocd.config import STAGES

F = TypeVar("F", bound=Callable[..., Any])


class BandsType(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """``1,2,3`` or ``1..3`` or both, counted from 1."""

    name = "bands"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the band numbers as a tuple of int."""
        if isinstance(value, tuple):
            return value
        numbers: list[int] = []
        try:
            for part in value.split(","):
                first, dots, last = part.partition("..")
                numbers.extend(range(int(first), int(last) + 1) if dots else [int(first)])
        except ValueError:
            self.fail(f"{value!r} is not a list of band numbers; write 1,2,3 or 1..3.", param, ctx)
        if not numbers or min(numbers) < 1:
            self.fail(f"{value!r} names no band; bands are counted from 1.", param, ctx)
        if len(set(numbers)) < len(numbers):
            self.fail(f"{value!r} names a band twice.", param, ctx)
        return tuple(numbers)


class PathType(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A path or a URL, as a text that nothing looks at; shells complete it as a file.

    Whether it is there is asked by what opens it: it may be in a bucket or an archive.
    """

    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type="file")]


class NumberOrWord(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A number, or one word that stands for a value of its own."""

    name = "number"

    def __init__(self, word: str, meaning: float | None) -> None:
        self.word = word
        self.meaning = meaning

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or what the word means."""
        if not isinstance(value, str):
            return value
        if value.lower() == self.word:
            return self.meaning
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor '{self.word}'.", param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class KindsType(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Some of several words, with commas between them."""

    name = "kinds"

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the words as a tuple, in their own order, so that the order they came in is no matter."""
        given = value if isinstance(value, tuple) else [part.strip().lower() for part in value.split(",")]
        if unknown := [part for part in given if part not in self.kinds]:
            known = ", ".join(self.kinds)
            self.fail(f"{unknown[0]!r} is not one of {known}; write some of them with commas.", param, ctx)
        return tuple(kind for kind in self.kinds if kind in given)


def _click_type(name: str, annotation: Any) -> Any:
    if name == "bidx":
        return BandsType()
    if name == "nodata":
        return NumberOrWord("nan", math.nan)
    if name == "threshold":
        return NumberOrWord("auto", None)
    if name == "ignore":
        return KindsType(get_args(get_args(annotation)[0]))
    if get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    if name in ("valid", "weights"):
        return PathType()
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    return annotation


def settings_options(*only: str) -> Callable[[F], F]:
    """Add one option for every setting, or only for some, with its default and help; and ``--config``."""

    def add(command: F) -> F:
        for kind in reversed(list(STAGES.values())):
            hints = typing.get_type_hints(kind)
            for field in reversed(dataclasses.fields(kind)):
                if only and field.name not in only:
                    continue
                name = "--" + field.name.replace("_", "-")
                short = ["-" + field.metadata["short"]] if field.metadata["short"] else []
                flag = hints[field.name] is bool
                command = click.option(
                    *short,
                    f"{name}/--no-{name[2:]}" if flag else name,  # a file may have said yes
                    field.name,
                    type=_click_type(field.name, hints[field.name]),
                    is_flag=flag,
                    default=field.default,
                    show_default=not flag and field.default not in (None, ()),
                    metavar=field.metadata["metavar"],
                    help=field.metadata["help"],
                )(command)
        return click.option(
            "--config",
            type=PathType(),
            metavar="FILE",
            is_eager=True,
            expose_value=False,
            callback=_use_config,
            help="TOML file with settings ('geocd config --show' prints one). Options beside it win.",
        )(command)

    return add


def stage_options(stage: str) -> Callable[[F], F]:
    """Add one option for every setting of a stage, and ``--config``."""
    return settings_options(*(field.name for field in dataclasses.fields(STAGES[stage])))


def _use_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Make the settings of a file the defaults of the command."""
    if value is None or ctx.resilient_parsing:
        return
    from geocd.configfile import read_config

    known = {option.name for option in ctx.command.params}
    given = {name: setting for name, setting in read_config(value).items() if name in known}
    ctx.default_map = {**(ctx.default_map or {}), **given}
