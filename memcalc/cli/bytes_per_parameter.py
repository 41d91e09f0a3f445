"""`memcalc bytes`."""

import click

from memcalc.cli.options import COUNT, GroupedCommand, GroupedOption, choices_of, output_options, show


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
@output_options("store.bf16")
def bytes_command(
    params: int,
    precision: tuple[str, ...],
    optimizer: tuple[str, ...],
    every: bool,
    format_: str,
    get: str | None,
    output: str | None,
) -> None:
    """Bytes per parameter, precision × optimizer: the rule of thumb.

    \b
    memcalc bytes
    memcalc bytes --params 8B --precision bf16-mixed --optimizer adamw-8bit
    memcalc bytes --params 8B --precision int8
    """
    from memcalc.estimates.rule_of_thumb import rows, stored_only, usual_and_others
    from memcalc.report.rule_of_thumb import report

    if not (precision or optimizer):
        usual, others = usual_and_others()
        show(report(usual, params, others=others), format_, get, output, whole=every)
        return
    train, store = stored_only(precision)
    found = rows(train, optimizer) if train or not store else []
    show(report(found, params, formats=store), format_, get, output, whole=every)
