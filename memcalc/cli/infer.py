"""`memcalc infer MODEL`."""

from typing import Any

import click

from memcalc.cli.options import (
    GroupedCommand,
    ModelArgument,
    details_option,
    explain_option,
    fit_code,
    fit_options,
    from_files,
    from_option,
    gpu_option,
    output_options,
    preset_option,
    show_answer,
    spec_options,
)


@click.command("infer", cls=GroupedCommand, no_args_is_help=True)
@click.argument("model", required=False, cls=ModelArgument)
@from_option
@gpu_option
@spec_options("Device", "Serving", "ServingQuestion")
@fit_options
@details_option
@preset_option
@explain_option
@output_options("capacity.max_context")
@click.pass_context
def infer_command(
    ctx: click.Context, /, model: str | None, launch: tuple[str, ...], gpu: str | None,
    require_fit: bool, require_sure_fit: bool, details: bool,
    presets: tuple[str, ...],
    explain: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Memory per GPU of serving, and how many sequences fit.

    \b
    memcalc infer llama-3.1-8b --context 32k --batch 8 --gpu h100 --engine vllm
    memcalc infer llama-3.1-70b --weights int4-g128 --tp 2 --gpu l40s
    """
    from memcalc.sizing.serving import size_serving

    found, model, gpu, settings = from_files("infer", launch, model, gpu, settings)
    served = size_serving(model, gpu, sure=require_sure_fit, presets=presets, **settings)
    code = fit_code(served, require_fit, require_sure_fit)
    show_answer(served, explain, format_, get, output, whole=details, found=found)
    ctx.exit(code)
