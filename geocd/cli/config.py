"""``geocd config``."""

from __future__ import annotations

from typing import Any

import click

from geocd.cli.options import settings_options


@click.command()
@click.option("--show", is_flag=True, help="Print them (which is all there is to do, so it may be left out).")
@settings_options()
def config(show: bool, **settings: Any) -> None:
    """Print the settings of a run as TOML, each with its help: what --config takes.

    Those that options, GEOCD_CONFIG_<SETTING> or a file say, and else the defaults, also those of the preset.
    """
    from geocd.config import Settings
    from geocd.configfile import write_config

    click.echo(write_config(Settings.from_flat(settings).resolved()), nl=False)
