"""`memcalc infer MODEL`."""

from typing import Any

import click

from memcalc.cli.options import COUNT, output_options, preset_option, show


@click.command("infer", no_args_is_help=True)
@click.argument("model")
@click.option("--gpu", metavar="NAME", help="Accelerator, as in `memcalc gpus`.")
@click.option("--weights", metavar="FORMAT", help="Number format of the weights, as in `memcalc formats`.  [default: bf16]")
@click.option("--precision", metavar="FORMAT", help="The same as --weights, for 16- and 32-bit serving.")
@click.option("--kv-dtype", metavar="FORMAT", help="Number format of the cache.  [default: bf16]")
@click.option("--context", type=COUNT, help="Tokens a sequence may reach.  [default: 4096]")
@click.option("--batch", type=COUNT, help="Sequences at once.  [default: 1]")
@click.option("--tp", type=COUNT, help="Tensor parallel degree.")
@click.option("--pp", type=COUNT, help="Pipeline parallel degree.")
@click.option("--ep", type=COUNT, help="Expert parallel degree.")
@click.option("--gpu-memory-utilization", type=float, help="Share of the GPU that the engine may take.  [default: 0.9]")
@click.option("--require-fit", is_flag=True, help="Exit with 1 when it does not fit.")
@preset_option
@output_options
@click.pass_context
def infer_command(
    ctx: click.Context, /, model: str, gpu: str | None, precision: str | None, require_fit: bool,
    presets: tuple[str, ...], format_: str, get: str | None, output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Memory per GPU of serving, and how many sequences fit.

    \b
    memcalc infer llama-3.1-8b --context 32k --batch 8 --gpu h100
    memcalc infer llama-3.1-70b --weights int4-g128 --tp 2 --gpu l40s
    """
    from memcalc.errors import InputError, Unsupported
    from memcalc.estimates.serving import estimate
    from memcalc.readers.models import read_model
    from memcalc.report.serving import report
    from memcalc.specs.serving import Serving

    given = {name: value for name, value in settings.items() if value is not None}
    if precision is not None:
        if given.setdefault("weights", precision) != precision:
            raise InputError(f"say two formats ({precision} and {given['weights']}); give one", place="--precision, --weights")
        if precision not in ("fp32", "fp16", "bf16"):
            raise InputError(f"{precision!r:.40} is not fp32, fp16 or bf16 (other formats: --weights)", place="--precision")
        given.setdefault("kv_dtype", precision)
    found = read_model(model, presets)
    if found.architecture is None:
        raise Unsupported(f"MODEL: {model} says nothing about keys and values; give a preset or a config.json")
    run = Serving(**given)
    accelerator = None
    if gpu:
        from memcalc.readers.catalogue import accelerator as read_accelerator

        accelerator = read_accelerator(gpu, presets)
    if require_fit and accelerator is None:
        raise InputError("needs a --gpu to fit into", place="--require-fit")
    result = estimate(found.architecture, run, accelerator.architecture if accelerator else "")
    show(report(found, run, result, accelerator), format_, get, output)
    if require_fit and accelerator and result.device > accelerator.usable * run.gpu_memory_utilization:
        ctx.exit(1)
