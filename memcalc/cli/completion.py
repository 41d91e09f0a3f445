"""`memcalc completion SHELL`."""

import click

from memcalc.cli.options import GroupedCommand


@click.command("completion", cls=GroupedCommand, no_args_is_help=True)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion_command(shell: str) -> None:
    """Print the script with which SHELL completes memcalc's commands, options and values.

    It belongs into ~/.local/share/bash-completion/completions/memcalc (bash), _memcalc in a folder of $fpath (zsh), or
    ~/.config/fish/completions/memcalc.fish (fish).

    \b
    memcalc completion bash
    memcalc completion zsh
    memcalc completion fish
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from memcalc.cli import cli
    from memcalc.report.output import write

    kind = get_completion_class(shell)
    assert kind is not None  # one of the three
    script = ShellComplete.source(kind(cli, {}, "memcalc", "_MEMCALC_COMPLETE"))  # not bash's own, which starts a bash
    write(script.strip("\n"), None, people=False)
