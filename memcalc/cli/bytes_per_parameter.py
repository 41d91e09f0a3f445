"""`memcalc bytes`."""

import click

from memcalc.cli.options import COUNT, GroupedCommand, output_options, show


@click.command("bytes", cls=GroupedCommand)
@click.option("--params", type=COUNT, default="1B", show_default=True, help="Parameters to multiply with.")
@click.option("--precision", multiple=True, help="Only these precisions (repeatable).  [default: all]")
@click.option("--optimizer", multiple=True, help="Only these optimizers (repeatable).  [default: the common ones]")
@output_options("store.bf16")
def bytes_command(
    params: int,
    precision: tuple[str, ...],
    optimizer: tuple[str, ...],
    format_: str,
    get: str | None,
    output: str | None,
) -> None:
    """Bytes per parameter, precision × optimizer: the rule of thumb.

    \b
    memcalc bytes
    memcalc bytes --params 8B --precision bf16-mixed --optimizer adamw-8bit
    """
    from memcalc.estimates.rule_of_thumb import rows
    from memcalc.report.rule_of_thumb import report

    show(report(rows(precision, optimizer), params), format_, get, output)
