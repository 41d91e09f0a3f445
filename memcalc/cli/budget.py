"""`memcalc budget [MODEL]`."""

from typing import Any

import click

from memcalc.cli.options import (
    GroupedCommand,
    GroupedOption,
    ModelArgument,
    details_option,
    explain_option,
    gpu_option,
    output_options,
    preset_option,
    show_answer,
    spec_options,
)


@click.command("budget", cls=GroupedCommand, no_args_is_help=True)
@click.argument("model", required=False, cls=ModelArgument)
@gpu_option
@spec_options("Budget")
@click.option(
    "--like",
    metavar="RUN",
    cls=GroupedOption,
    group="What is known",
    help="Start from a published run (`memcalc runs`); options replace its own.",
)
@details_option
@preset_option
@explain_option
@output_options("compute.days")
def budget_command(
    model: str | None, gpu: str | None, like: str | None, details: bool, presets: tuple[str, ...],
    explain: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """FLOPs, petaFLOP/s-days, GPU-hours, days, cost, energy: whatever is not given is solved.

    MODEL is a preset (`memcalc models`), a config.json, safetensors or GGUF file or its folder, or a count such as 7B.

    \b
    memcalc budget llama-3.1-8b --tokens 15T --gpu h100 --gpus 1024
    memcalc budget --params 175B --tokens 300B --gpu v100 --gpus 10k --mfu 0.2
    memcalc budget --params 7B --gpu a100 --cost 200k
    memcalc budget --like gpt-3 --gpu h100 --gpus 1024
    """
    from memcalc.sizing.budget import size_budget

    found = size_budget(model, gpu, like=like, presets=presets, **settings)
    show_answer(found, explain, format_, get, output, whole=details)
