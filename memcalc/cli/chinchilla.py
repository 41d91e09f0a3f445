"""`memcalc chinchilla`, also called `memcalc optimal`."""

from typing import Any

import click

from memcalc.cli.options import COUNT, FLOPS, NUMBER, SHARE, output_options, preset_option, show


@click.command("chinchilla", no_args_is_help=True)
@click.option("--flops", type=FLOPS, help="Budget: 5.76e23, 576 ZFLOP or '3640 PF-days'.")
@click.option("--pf-days", type=NUMBER, help="Budget in petaFLOP/s-days.")
@click.option("--gpu-hours", type=NUMBER, help="Budget in GPU-hours of a --gpu at an --mfu.")
@click.option("--gpu", metavar="NAME", help="Accelerator of those hours, as in `memcalc gpus`.")
@click.option("--mfu", type=SHARE, help="Share of its dense peak that training uses.  [default: 0.4]")
@click.option("--params", type=COUNT, help="Parameters: asks for the tokens. With --tokens: how far is this from optimal?")
@click.option("--model", metavar="MODEL", help="The same, of a preset or config.json (active parameters).")
@click.option("--tokens", type=COUNT, help="Training tokens: asks for the parameters.")
@click.option("--law", multiple=True, metavar="NAME", help="Only this law (repeatable); the first answers.  [default: all]")
@click.option("--inference-tokens", type=COUNT, help="Tokens it will serve: the least compute over its life.")
@click.option("--unique-tokens", type=COUNT, help="Unique tokens there are: what repeating them is worth.")
@preset_option
@output_options
def chinchilla_command(
    presets: tuple[str, ...], format_: str, get: str | None, output: str | None, **settings: Any
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

    show(chinchilla(presets=presets, **settings).report(), format_, get, output)


optimal_command = chinchilla_command
