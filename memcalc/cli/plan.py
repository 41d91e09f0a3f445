"""`memcalc plan train MODEL` and `memcalc plan infer [MODEL]`."""

from collections.abc import Callable
from typing import Any

import click

from memcalc.cli.options import (
    HARDWARE,
    F,
    GroupedCommand,
    GroupedOption,
    ModelArgument,
    check_model,
    from_option,
    output_options,
    preset_option,
    show_answer,
    spec_options,
)


def _places(tried: str) -> Callable[[F], F]:
    """--gpu, --gpus and --vary; `tried`: what is varied unless it is given."""
    options = (
        click.option(
            "--gpu", "gpu", metavar="NAME", cls=GroupedOption, group=HARDWARE, multiple=True,
            help="Accelerator, as in `memcalc gpus`; given again, they are compared.  [required, unless --from names it]",
        ),
        click.option(
            "--gpus", metavar="N|A-B", cls=GroupedOption, group=HARDWARE,
            help="How many: 64, 8-64 or 8,16,24.  [default: as few as do it]",
        ),
        click.option(
            "--vary", multiple=True, metavar="KEY=A,B",
            help=f"Values of a setting to try (repeatable). {tried} are tried unless given.",
        ),
    )  # fmt: skip

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _begun(
    command: str, launch: tuple[str, ...], model: str | None, gpu: tuple[str, ...], gpus: str | None, settings: dict[str, Any],
    vary: dict[str, Any],
) -> tuple[Any, Any, tuple[str, ...], str | int | None, dict[str, Any]]:  # fmt: skip
    """Launch files (None without), MODEL, accelerators, their number and settings: what the files say under what was typed."""
    if not launch:
        if command == "train":
            check_model("plan train", model)
        return None, model, gpu, gpus, settings
    from memcalc.sizing.planning_launch import planned_from

    asked = planned_from(command, launch, model, gpu[0] if gpu else None, {**settings, "gpus": gpus}, tuple(vary))
    own = dict(asked.settings)
    named = gpu or ((asked.gpu,) if asked.gpu else ())
    return asked.found, asked.model, named, own.pop("gpus", None), own


@click.group("plan", no_args_is_help=True)
def plan_command() -> None:
    """Which layout to run: all of them, those that fit, the fastest or cheapest first."""


@plan_command.command("train", cls=GroupedCommand, no_args_is_help=True)
@click.argument("model", required=False, cls=ModelArgument)
@from_option
@_places("Degrees, sharding, micro-batch and recomputation")
@spec_options("Device", "PlanGoals")
@spec_options("Parallelism", "Training", without=("gpus", "grad_accum", "engine", "method"))
@click.option(
    "--engine",
    metavar="NAME|any",
    cls=GroupedOption,
    group="Activations",
    help="Whose layouts, as in `memcalc engines`; any: those that train this way.  [default: torch, or ZeRO's deepspeed]",
)
@click.option(
    "--method",
    metavar="WORD|any",
    cls=GroupedOption,
    group="Model states",
    help="Which weights are trained, as in `memcalc train`; any: full, lora and qlora.  [default: full]",
)
@click.option("--require-sure-fit", is_flag=True, help="Only layouts that surely fit, with all of their range.")
@preset_option
@output_options("plan[0].command")
@click.pass_context
def plan_train_command(
    ctx: click.Context, /, model: str | None, launch: tuple[str, ...], gpu: tuple[str, ...], gpus: str | None,
    vary: tuple[str, ...], require_sure_fit: bool, presets: tuple[str, ...], format_: str, get: tuple[str, ...],
    output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Every layout of a training run that the engine accepts, those that fit, the best first.

    What is given stays; tensor, pipeline, context and expert parallelism, sharding, micro-batch and recomputation are tried.
    Exit code 1 where nothing fits.

    \b
    memcalc plan train llama-3.1-8b --gpu h100 --gpus 8 --seq-len 8192
    memcalc plan train llama-3.1-70b --gpu h100 --gpus 64-256 --engine megatron --tokens 1T --deadline 60
    memcalc plan train qwen3-32b --gpu h100 --gpu a100 --method any
    """
    from memcalc.cli.compare import read_vary
    from memcalc.cli.progress import Progress
    from memcalc.sizing.planning import plan_training

    asked = dict(read_vary(text, "train") for text in vary)
    files, model, gpu, count, settings = _begun("train", launch, model, gpu, gpus, settings, asked)
    with Progress("layouts (Ctrl-C: with what was found)") as tick:
        found = plan_training(
            model, gpu, count, vary=asked, sure=require_sure_fit, presets=presets, tick=tick, **settings
        )  # fmt: skip
    show_answer(found, (), format_, get, output, found=files)
    ctx.exit(0 if found.best else 1)


@plan_command.command("infer", cls=GroupedCommand, no_args_is_help=True)
@click.argument("model", required=False, cls=ModelArgument)
@from_option
@_places("Tensor and pipeline parallelism and weights")
@spec_options("ServingGoals", "Device", "Serving", "ServingQuestion")
@preset_option
@output_options("plan[0].command")
@click.pass_context
def plan_infer_command(
    ctx: click.Context, /, model: str | None, launch: tuple[str, ...], gpu: tuple[str, ...], gpus: str | None,
    vary: tuple[str, ...], presets: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None,
    **settings: Any,
) -> None:  # fmt: skip
    """Where to serve MODEL and in which format, the cheapest or fastest first; without MODEL, what one GPU can run.

    Exit code 1 where nothing fits and keeps the goals.

    \b
    memcalc plan infer llama-3.1-70b --gpu h100 --gpus 1-8 --engine vllm --concurrency 64 --input-len 2000 --output-len 500
    memcalc plan infer qwen3-32b --gpu l40s --gpu h100 --engine vllm --context 16k --tpot 0.05
    memcalc plan infer --gpu rtx-4090 --ram 64GiB --context 16k
    """
    from memcalc.cli.compare import read_vary
    from memcalc.cli.progress import Progress
    from memcalc.sizing.planning_serving import plan_serving

    asked = dict(read_vary(text, "infer") for text in vary)
    files, model, gpu, count, settings = _begun("infer", launch, model, gpu, gpus, settings, asked)
    given = {name: value for name, value in settings.items() if value is not None}
    with Progress("deployments (Ctrl-C: with what was found)") as tick:
        found = plan_serving(model, gpu, count, vary=asked, presets=presets, tick=tick, **given)
    show_answer(found, (), format_, get, output, found=files)
    ctx.exit(0 if found.best else 1)
