"""`memcalc train MODEL`."""

from typing import Any

import click

from memcalc.cli.options import (
    GroupedCommand,
    ModelArgument,
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


@click.command("train", cls=GroupedCommand, no_args_is_help=True)
@click.argument("model", required=False, cls=ModelArgument)
@from_option
@gpu_option
@spec_options("Device", "Parallelism", "Training", "Horizon")
@fit_options
@click.option("--moments", is_flag=True, help="Show every moment of the step, and all assumptions.")
@preset_option
@explain_option
@output_options("per_gpu.peak", "perfetto")
@click.pass_context
def train_command(
    ctx: click.Context, /, model: str | None, launch: tuple[str, ...], gpu: str | None,
    require_fit: bool, require_sure_fit: bool, moments: bool,
    presets: tuple[str, ...],
    explain: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Memory per GPU of a training step and, with a --gpu, its time.

    MODEL is a preset (`memcalc models`), a config.json, safetensors or GGUF file or its folder, or a count such as 7B.

    \b
    memcalc train llama-3.1-8b --gpus 8 --zero 3 --gpu h100
    memcalc train llama-3.1-8b --method lora --lora-rank 32 --recompute full --gpu 4090
    memcalc train llama-3.1-8b --gpus 8 --fsdp full --gpu h100 --get gpu.fits
    memcalc train llama-3.1-8b --gpus 64 --fsdp full --gpu h100 --tokens 1T --get time.days
    memcalc train ./config.json --gpus 64 --tp 8 --fsdp full --recompute full
    """
    from memcalc.sizing.training import size_training

    found, model, gpu, settings = from_files("train", launch, model, gpu, settings)
    step = size_training(model, gpu, sure=require_sure_fit, presets=presets, **settings)
    code = fit_code(step, require_fit, require_sure_fit)
    show_answer(step, explain, format_, get, output, whole=moments, found=found)
    ctx.exit(code)
