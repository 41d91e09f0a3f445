"""`memcalc schema`."""

import click

from memcalc.cli.options import GroupedCommand, output_options, show


@click.command("schema", cls=GroupedCommand)
@click.argument("what", type=click.Choice(("sizing", "output")), default="sizing")
@output_options("title")
def schema_command(what: str, format_: str, get: tuple[str, ...], output: str | None) -> None:
    """JSON Schema of the sizing file (`memcalc check`), or of the JSON output."""
    from memcalc.report.schema import report

    show(report(what), "json" if format_ == "table" else format_, get, output)
