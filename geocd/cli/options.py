"""Options of the command line, made from the declarations of the settings."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from geocd.coercion import option
from geocd.config import OTHER_DATES, PATHS, STAGES

F = TypeVar("F", bound=Callable[..., Any])


class BandsType(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Band numbers from 1, and names: ``1,2,3``, ``1..3``, ``red,nir`` or all of these."""

    name = "bands"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the bands as a tuple of numbers and names."""
        if isinstance(value, tuple):
            return value
        bands: list[int | str] = []
        try:
            for part in value.split(","):
                first, dots, last = part.partition("..")
                if any(map(str.isalpha, part)) and not dots:
                    bands.append(part.strip())
                else:
                    bands.extend(range(int(first), int(last) + 1) if dots else [int(first)])
        except ValueError:
            self.fail(
                f"{value!r} is not a list of bands; write numbers, 1,2,3 or 1..3, or names, red,green,nir.",
                param,
                ctx,
            )
        if not bands or any(isinstance(band, int) and band < 1 for band in bands):
            self.fail(f"{value!r} names no band; bands are counted from 1.", param, ctx)
        if len({str(band).lower() for band in bands}) < len(bands):
            self.fail(f"{value!r} names a band twice.", param, ctx)
        return tuple(bands)


class PathType(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A path or a URL, taken as it is; shells complete it as a file.

    Whether it exists is checked when it is opened: it may lie in a bucket or an archive.
    """

    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the request that the shell complete file names."""
        return [CompletionItem(incomplete, type="file")]


class NumberOrWord(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A number, or one of some words that stand for a value, such as ``auto``."""

    name = "number"

    def __init__(self, **words: float | str | None) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or the value that a word stands for."""
        if not isinstance(value, str):
            return value
        if value.lower() in self.words:
            return self.words[value.lower()]
        try:
            number = float(value)
        except ValueError:
            words = " nor ".join(f"'{word}'" for word in self.words)
            self.fail(f"{value!r} is neither a number nor {words}.", param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class KindsType(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """Some of several words, separated by commas."""

    name = "kinds"

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.kinds = kinds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the words as a tuple, always in the same order."""
        words = value if isinstance(value, tuple) else [part.strip().lower() for part in value.split(",")]
        if unknown := [word for word in words if word not in self.kinds]:
            kinds = ", ".join(self.kinds)
            self.fail(f"{unknown[0]!r} is not one of {kinds}; separate several by commas.", param, ctx)
        return tuple(kind for kind in self.kinds if kind in words)


class FilesCommand(click.Command):
    """A command whose options of several files take all that follow: ``--baseline a.tif b.tif``.

    Repeating the option is as good. Where no argument of the command stands elsewhere, the last files are
    these arguments.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse with every file after its own option."""
        return super().parse_args(ctx, self._spread(args))

    def _spread(self, args: list[str]) -> list[str]:
        options = {
            name: param
            for param in self.params
            if isinstance(param, click.Option)
            for name in (*param.opts, *param.secondary_opts)
        }
        groups: list[list[str]] = []  # an option with its values, or an argument
        arguments, rest = 0, list(args)
        while rest and rest[0] != "--":
            first = rest.pop(0)
            groups.append([first])
            param = options.get(first)  # None of '--name=value'
            if param is not None and param.multiple:
                while rest and not rest[0].startswith("-"):
                    groups[-1].append(rest.pop(0))
            elif param is not None and not param.is_flag and rest:
                groups[-1].append(rest.pop(0))
            else:
                arguments += not first.startswith("-")
        several = [group for group in groups if len(group) > 2]
        if several and not arguments and len(rest) < 2:
            own = sum(param.nargs for param in self.params if isinstance(param, click.Argument))
            end = max(2, len(several[-1]) - own)
            rest = ["--", *several[-1][end:]]
            del several[-1][end:]
        spread: list[str] = []
        for name, *values in groups:
            spread += [part for value in values for part in (name, value)] or [name]
        return [*spread, *rest]


def _click_type(name: str, annotation: Any) -> Any:
    if name == "bidx":
        return BandsType()
    if name == "nodata":
        return NumberOrWord(nan=math.nan, none="none")
    if name == "threshold":
        return NumberOrWord(auto=None)
    if name in ("ignore", "mask_classes"):
        return KindsType(get_args(get_args(annotation)[0]))
    if get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = next(kind for kind in get_args(annotation) if kind is not type(None))
    if name in PATHS:
        return PathType()
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation))
    return annotation


def settings_options(*only: str) -> Callable[[F], F]:
    """Return a decorator that adds ``--config``, and an option for every setting or only for these."""

    def add(command: F) -> F:
        for kind in reversed(list(STAGES.values())):
            hints = typing.get_type_hints(kind)
            for field in reversed(dataclasses.fields(kind)):
                if only and field.name not in only:
                    continue
                name = option(field.name)
                short = ["-" + field.metadata["short"]] if field.metadata["short"] else []
                flag = hints[field.name] is bool
                command = click.option(
                    *short,
                    f"{name}/--no-{name[2:]}" if flag else name,  # takes back a yes of a file
                    field.name,
                    type=_click_type(field.name, hints[field.name]),
                    is_flag=flag,
                    multiple=field.name in OTHER_DATES,
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
            help="TOML file with settings ('geocd config' prints one). Options override it.",
        )(command)

    return add


#: Key of the TOML file, a list of one path, in the ``meta`` of a command's context.
CONFIG = "geocd.config"


def stage_options(stage: str) -> Callable[[F], F]:
    """Return a decorator that adds ``--config``, and an option for every setting of a stage."""
    return settings_options(*(field.name for field in dataclasses.fields(STAGES[stage])))


def _use_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Make the settings of a TOML file the defaults of the command's options."""
    if value is None or ctx.resilient_parsing:
        return
    from geocd.configfile import read_config

    ctx.meta[CONFIG] = [Path(value)]
    names = {option.name for option in ctx.command.params}
    defaults = {name: setting for name, setting in read_config(value).items() if name in names}
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
