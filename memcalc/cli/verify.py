"""`memcalc verify LOG [MODEL]`."""

from typing import Any

import click

from memcalc.cli.options import (
    GroupedCommand,
    ModelArgument,
    details_option,
    gpu_option,
    output_options,
    preset_option,
    show_answer,
)


@click.command("verify", cls=GroupedCommand, no_args_is_help=True)
@click.argument("log")
@click.argument("model", required=False, cls=ModelArgument)
@gpu_option
@click.option(
    "--set",
    "said",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of infer, or of train for a training log, in place of the log's (repeatable): tp=2, context=32k.",
)
@click.option(
    "--save",
    "folder",
    metavar="DIR",
    help="Write the numbers as a row of DIR/measured, for `memcalc validate --presets DIR`.  [default: nothing]",
)
@details_option
@preset_option
@output_options("rows[0].error")
def verify_command(
    log: str, model: str | None, gpu: str | None, said: tuple[str, ...], folder: str | None, details: bool,
    presets: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None,
) -> None:  # fmt: skip
    """An engine's start-up log, or what a training loop writes of memory, beside the prediction.

    Logs of vLLM, SGLang, TensorRT-LLM, llama.cpp and ollama say how they were started; of Megatron-LM, torchtitan,
    torch.cuda.memory_summary() and nvidia-smi give MODEL and settings.

    \b
    memcalc verify examples/logs/vllm.log --gpu h100
    memcalc verify examples/logs/megatron.log llama-3.1-8b --set gpus=8 --set tp=2 --set zero=1
    """
    from memcalc.cli.progress import Progress
    from memcalc.sizing.verifying import verify

    with Progress("lines") as tick:
        found = verify(log, model, gpu, tick=tick, presets=presets, **dict(map(_setting, said)))
    if folder is not None:
        click.echo(f"saved as {found.save(folder)}", err=True)
    show_answer(found, (), format_, get, output, whole=details)


def _setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE, read as the option of infer or train would be."""
    from memcalc.cli.compare import read_vary

    for command in ("infer", "train"):
        try:
            name, values = read_vary(text, command)
        except click.BadParameter as error:
            refused = error
            continue
        return name, values[0]
    raise click.BadParameter(
        refused.message.replace("with values; write zero=1,2,3", "with a value; write tp=2"), param_hint="--set"
    )
