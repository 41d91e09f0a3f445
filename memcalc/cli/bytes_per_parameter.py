"""`memcalc bytes`."""

import click

from memcalc.cli.options import COUNT, explain_option, output_options, show_answer


@click.command("bytes")
@click.option("--params", type=COUNT, default="1B", show_default=True, help="Parameters to multiply with.")
@click.option("--precision", multiple=True, help="Only these precisions (repeatable).  [default: all]")
@click.option("--optimizer", multiple=True, help="Only these optimizers (repeatable).  [default: the common ones]")
@explain_option
@output_options
def bytes_command(
    params: int,
    precision: tuple[str, ...],
    optimizer: tuple[str, ...],
    explain: tuple[str, ...],
    format_: str,
    get: str | None,
    output: str | None,
) -> None:
    """Bytes per parameter, precision × optimizer: the rule of thumb.

    \b
    memcalc bytes
    memcalc bytes --params 8B --precision bf16-mixed --optimizer adamw-8bit
    """
    from memcalc.sizing.rule_of_thumb import bytes_per_parameter

    show_answer(bytes_per_parameter(params, precision, optimizer), explain, format_, get, output)
