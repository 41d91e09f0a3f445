"""`memcalc check FILE…`."""

import click

from memcalc.cli.options import GroupedCommand, output_options, preset_option, show

DEFAULT_FILE = "memcalc.toml"


@click.command("check", cls=GroupedCommand)
@click.argument("files", nargs=-1)
@click.option("--filter", "wanted", metavar="TEXT", default="", help="Only scenarios whose name holds TEXT.  [default: all]")
@preset_option
@output_options("ok")
@click.pass_context
def check_command(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    wanted: str,
    presets: tuple[str, ...],
    format_: str,
    get: tuple[str, ...],
    output: str | None,
) -> None:
    """Check sizing files against their limits: exit code 0 when all hold, 1 when one is exceeded, 2 when a file is wrong.

    Without FILE, memcalc.toml of the current folder. `memcalc schema` prints what such a file may hold.
    """
    from memcalc.report.checking import report
    from memcalc.sizing.checking import check

    outcomes = check(*(files or (DEFAULT_FILE,)), presets=presets, wanted=wanted)
    show(report(outcomes), format_, get, output)
    if not all(outcome.holds for outcome in outcomes):
        ctx.exit(1)
