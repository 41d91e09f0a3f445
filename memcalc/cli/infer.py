"""`memcalc infer MODEL`."""

from typing import Any

import click

from memcalc.cli.options import (
    SHARE,
    GroupedCommand,
    explain_option,
    fit_code,
    fit_options,
    output_options,
    preset_option,
    show_answer,
    spec_options,
)


@click.command("infer", cls=GroupedCommand, no_args_is_help=True)
@click.argument("model")
@click.option("--gpu", metavar="NAME", help="Accelerator, as in `memcalc gpus`.")
@spec_options("Device", "Serving")
@click.option("--precision", metavar="FORMAT", help="The same as --weights, for 16- and 32-bit serving.")
@click.option("--draft", metavar="MODEL", help="Draft model of speculative decoding.")
@click.option("--mfu", type=SHARE, help="Share of the peak FLOP/s that prefill reaches.  [default: a published one]")
@click.option("--mbu", type=SHARE, help="Share of the memory bandwidth that decode reaches.  [default: a published one]")
@click.option("--link-efficiency", type=SHARE, help="Share of the link's bandwidth.  [default: a published one]")
@fit_options
@preset_option
@explain_option
@output_options
@click.pass_context
def infer_command(
    ctx: click.Context, /, model: str, gpu: str | None, require_fit: bool, require_sure_fit: bool, presets: tuple[str, ...],
    explain: tuple[str, ...], format_: str, get: str | None, output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Memory per GPU of serving, and how many sequences fit.

    \b
    memcalc infer llama-3.1-8b --context 32k --batch 8 --gpu h100 --engine vllm
    memcalc infer llama-3.1-70b --weights int4-g128 --tp 2 --gpu l40s
    """
    from memcalc.sizing.serving import size_serving

    served = size_serving(model, gpu, sure=require_sure_fit, presets=presets, **settings)
    code = fit_code(served.verdict, require_fit, require_sure_fit)
    show_answer(served, explain, format_, get, output)
    ctx.exit(code)
