"""`memcalc bytes`."""

import click

from memcalc.cli.amounts import COUNT
from memcalc.cli.options import GroupedCommand, GroupedOption, choices_of, explain_option, output_options, show_answer


@click.command("bytes", cls=GroupedCommand)
@click.option("--params", type=COUNT, default="1B", show_default=True, help="Parameters to multiply with.")
@click.option(
    "--precision",
    multiple=True,
    metavar="WORD",
    cls=GroupedOption,
    choices=choices_of("Training", "precision"),
    help="Only these precisions (repeatable); a number format, as in `memcalc formats`, is for storing.  "
    "[default: fp32 and bf16-mixed]",
)
@click.option(
    "--optimizer",
    multiple=True,
    metavar="NAME",
    help="Only these optimizers (repeatable), as in `memcalc optimizers`.  [default: adamw, adamw-8bit, adafactor, sgd]",
)
@click.option("--all", "every", is_flag=True, help="Every precision with every common optimizer.  [default: eight rows]")
@explain_option
@output_options("store.bf16")
def bytes_command(
    params: int,
    precision: tuple[str, ...],
    optimizer: tuple[str, ...],
    every: bool,
    explain: tuple[str, ...],
    format_: str,
    get: tuple[str, ...],
    output: str | None,
) -> None:
    """Bytes per parameter, precision × optimizer: the rule of thumb.

    \b
    memcalc bytes
    memcalc bytes --params 8B --precision bf16-mixed --optimizer adamw-8bit
    memcalc bytes --params 8B --precision int8
    """
    from memcalc.sizing.rule_of_thumb import bytes_per_parameter

    show_answer(bytes_per_parameter(params, precision, optimizer), explain, format_, get, output, whole=every)
