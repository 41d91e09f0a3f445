"""`memcalc help [COMMAND]`."""

import click


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_command(ctx: click.Context, /, command: str | None) -> None:
    """What a command does, and its options; without COMMAND, all commands.

    \b
    memcalc help train
    """
    root = ctx.parent
    assert root is not None  # it is a command of the group
    group = root.command
    assert isinstance(group, click.Group)
    if command is None:
        click.echo(root.get_help())
        return
    name, found, _ = group.resolve_command(root, [command])
    assert found is not None
    with click.Context(found, info_name=name, parent=root) as inner:
        click.echo(inner.get_help())
