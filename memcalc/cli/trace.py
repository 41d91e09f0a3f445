"""`memcalc trace MODEL`."""

from typing import Any

import click

from memcalc.cli.amounts import COUNT, WORDS
from memcalc.cli.options import GroupedCommand, ModelArgument, output_options, preset_option, show

LAYERS = 2  # two layers show everything that depth repeats


@click.command("trace", cls=GroupedCommand, no_args_is_help=True)
@click.argument("model", cls=ModelArgument)
@click.option("--layers", type=click.IntRange(min=1), default=LAYERS, show_default=True, help="Trace the first N layers.")
@click.option("--precision", type=click.Choice(("fp32", "bf16", "bf16-amp")), default="bf16", show_default=True,
              help="Number formats of the step, as in `memcalc train`.")  # fmt: skip
@click.option("--micro-batch", type=COUNT, help="Sequences per step.  [default: 1]")
@click.option("--grad-accum", type=COUNT, help="Micro-batches per optimizer step.  [default: 1]")
@click.option("--seq-len", type=COUNT, help="Tokens per sequence.  [default: 4096, or the model's context]")
@click.option("--recompute", type=click.Choice(("none", "full")), help="Activation recomputation.  [default: none]")
@click.option("--recompute-every", type=COUNT, metavar="N", help="full: each N-th layer alone.  [default: every layer]")
@click.option("--recompute-layers", type=COUNT, metavar="N", help="full: the first N layers alone.  [default: all]")
@click.option(
    "--freeze", type=WORDS, metavar="WORDS", help="embeddings: they, and a tied head, are not trained.  [default: none]"
)
@click.option("--attention", type=click.Choice(("sdpa", "eager")), help="Attention kernel.  [default: sdpa]")
@click.option(
    "--optimizer-impl", type=click.Choice(("fused", "foreach", "for-loop")), help="How AdamW's step is run.  [default: fused]"
)
@click.option("--optimizer-in-backward", is_flag=True, default=None, help="Step each tensor as its gradient is made.")
@preset_option
@output_options("errors.after_forward")
def trace_command(
    model: str, layers: int, presets: tuple[str, ...], format_: str, get: tuple[str, ...], output: str | None, **settings: Any
) -> None:
    """memcalc's figures beside PyTorch's own, for one training step.

    MODEL is a preset, a config.json or its folder. The step runs under fake tensors on the CPU: no GPU, no weights, nothing is
    computed. Needs the optional extra: python3 -m pip install 'memcalc[torch]'.

    \b
    memcalc trace llama-3.2-1b --layers 2 --seq-len 512
    memcalc trace ./config.json --precision bf16-amp --recompute full
    """
    from memcalc.trace.libraries import libraries

    libraries()  # the first thing to know is whether there is anything to trace with
    from memcalc.errors import InputError, Unsupported
    from memcalc.estimates.training.estimate import estimate
    from memcalc.readers.hf import read_config
    from memcalc.readers.hf.depth import at_depth
    from memcalc.readers.models import read_config_values, read_model
    from memcalc.report.trace import report
    from memcalc.sizing.training import training_run
    from memcalc.trace.step import trace

    found = read_model(model, presets)
    if found.architecture is None:
        raise InputError(f"{model!r:.40} is a parameter count; there is nothing to trace in it", place="MODEL")
    if len(found.architecture.parts) > 1:
        parts = ", ".join(part.name for part in found.architecture.parts)
        raise Unsupported(f"trace steps through language models only, and {found.name} has several parts: {parts}")
    values = at_depth(read_config_values(model, presets), layers)
    run = training_run(found.architecture, **settings)
    architecture = read_config(values, model)
    predicted = estimate(architecture, run)
    show(report(found, run, predicted, trace(values, run)), format_, get, output)
