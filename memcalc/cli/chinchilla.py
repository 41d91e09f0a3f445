"""`memcalc chinchilla`, also called `memcalc optimal`."""

from typing import Any

import click

from memcalc.cli.options import (
    GroupedCommand,
    details_option,
    explain_option,
    output_options,
    preset_option,
    show_answer,
    spec_options,
)


@click.command("chinchilla", cls=GroupedCommand, no_args_is_help=True)
@spec_options("ScalingQuestion")
@details_option
@preset_option
@explain_option
@output_options("optimal.tokens")
def chinchilla_command(
    details: bool, presets: tuple[str, ...], explain: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None,
    **settings: Any,
) -> None:  # fmt: skip
    """Compute-optimal parameters and tokens, under every published law.

    \b
    memcalc chinchilla --flops 5.76e23
    memcalc chinchilla --params 175B --tokens 300B
    memcalc chinchilla --gpu-hours 1M --gpu h100 --mfu 0.4 --law besiroglu --inference-tokens 2T

    Laws: besiroglu (the default answer), hoffmann-1, hoffmann-2, hoffmann-3, hoffmann-3-unrounded, kaplan, deepseek,
    llama3, krajewski (mixture of experts), muennighoff (repeated data), rule-of-thumb (20 tokens per parameter).
    """
    from memcalc.sizing.scaling import chinchilla

    show_answer(chinchilla(presets=presets, **settings), explain, format_, get, output, whole=details)


optimal_command = chinchilla_command
