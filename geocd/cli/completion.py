"""``geocd completion``: completion of commands by the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that makes SHELL complete commands, options and their choices.

    \b
    bash:  geocd completion bash > ~/.local/share/bash-completion/completions/geocd
    zsh:   geocd completion zsh > _geocd   (in a folder of $fpath)
    fish:  geocd completion fish > ~/.config/fish/completions/geocd.fish
    """  # noqa: D301  # click's mark for lines that stay as they are
    kind = get_completion_class(shell)
    assert kind is not None
    program = ctx.find_root().command
    click.echo(kind(program, {}, "geocd", "_GEOCD_COMPLETE").source(), nl=False)
