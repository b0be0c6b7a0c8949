"""``geocd config``: settings as TOML."""

from __future__ import annotations

from typing import Any

import click

from geocd.cli.console import echo
from geocd.cli.options import settings_options


@click.command(short_help="Print the settings of a run as TOML.")
@click.option("--show", is_flag=True, help="Print the settings (the default).")
@settings_options()
def config(show: bool, **settings: Any) -> None:
    """Print the settings of a run as TOML, each with its help, as a file for --config.

    Values come from the options, the environment (GEOCD_CONFIG_<SETTING>) and --config; all others are the
    defaults, those of the preset included.
    """
    from geocd.config import Settings
    from geocd.configfile import write_config

    echo(write_config(Settings.from_flat(settings).resolved()), nl=False)
