"""`memcalc infer MODEL`."""

from typing import Any

import click

from memcalc.cli.options import BYTES, COUNT, SHARE, output_options, preset_option, show


@click.command("infer", no_args_is_help=True)
@click.argument("model")
@click.option("--gpu", metavar="NAME", help="Accelerator, as in `memcalc gpus`.")
@click.option(
    "--engine",
    metavar="vllm|sglang|llama.cpp|transformers|tensorrt-llm",
    help="Whose accounting to follow.  [default: none, only what the tensors take]",
)
@click.option(
    "--weights",
    metavar="FORMAT",
    help="How weights are stored: a number format, w8a8, Q4_K_M, …  [default: as the checkpoint, bf16]",
)
@click.option("--precision", metavar="FORMAT", help="The same as --weights, for 16- and 32-bit serving.")
@click.option("--kv-dtype", metavar="FORMAT", help="Number format of the cache.  [default: bf16]")
@click.option("--context", type=COUNT, help="Tokens a sequence may reach, prompt and answer.  [default: 4096]")
@click.option("--max-new-tokens", type=COUNT, help="Of the context, the tokens of the answer.")
@click.option("--batch", type=COUNT, help="Requests at once.  [default: 1]")
@click.option("--samples", type=COUNT, help="Answers to each prompt.  [default: 1]")
@click.option("--beams", type=COUNT, help="Beam search: candidates of each answer.  [default: 1]")
@click.option("--shared-prefix", type=COUNT, help="Tokens with which all prompts begin, cached once.  [default: 0]")
@click.option("--tp", type=COUNT, help="Tensor parallel degree.")
@click.option("--pp", type=COUNT, help="Pipeline parallel degree.")
@click.option("--ep", type=COUNT, help="Expert parallel degree.")
@click.option("--dp", type=COUNT, help="Replicas, each with --batch requests of its own.")
@click.option(
    "--gpu-memory-utilization", type=SHARE, help="Share of the GPU that the engine may take.  [default: the engine's]"
)
@click.option("--kv-cache-memory", type=BYTES, help="Memory of the cache on each GPU, in place of that share: 58.11GiB.")
@click.option("--max-batched-tokens", type=COUNT, help="Tokens in one forward pass.  [default: the engine's]")
@click.option("--max-sequences", type=COUNT, help="Sequences in one step.  [default: the engine's]")
@click.option("--block-size", type=COUNT, help="Tokens in a block of the cache.  [default: the engine's]")
@click.option("--eager", is_flag=True, default=None, help="No CUDA graphs.")
@click.option("--gpu-layers", type=COUNT, help="llama.cpp: layers on the GPU, the rest in host memory.  [default: all]")
@click.option("--lora-adapters", type=COUNT, help="LoRA adapters served beside the model.")
@click.option("--lora-rank", type=COUNT, help="Their rank.  [default: 16]")
@click.option("--draft", metavar="MODEL", help="Draft model of speculative decoding.")
@click.option("--draft-tokens", type=COUNT, help="Tokens that it guesses in a step.  [default: 4]")
@click.option("--mfu", type=SHARE, help="Share of the peak FLOP/s that prefill reaches.  [default: a published one]")
@click.option("--mbu", type=SHARE, help="Share of the memory bandwidth that decode reaches.  [default: a published one]")
@click.option("--link-efficiency", type=SHARE, help="Share of the link's bandwidth.  [default: a published one]")
@click.option("--require-fit", is_flag=True, help="Exit with 1 when it does not fit.")
@preset_option
@output_options
@click.pass_context
def infer_command(
    ctx: click.Context, /, model: str, gpu: str | None, require_fit: bool, presets: tuple[str, ...],
    format_: str, get: str | None, output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Memory per GPU of serving, and how many sequences fit.

    \b
    memcalc infer llama-3.1-8b --context 32k --batch 8 --gpu h100 --engine vllm
    memcalc infer llama-3.1-70b --weights int4-g128 --tp 2 --gpu l40s
    """
    from memcalc.sizing.serving import size_serving

    if require_fit and gpu is None:
        raise click.UsageError("--require-fit: needs a --gpu to fit into")
    served = size_serving(model, gpu, presets=presets, **settings)
    show(served.report(), format_, get, output)
    if require_fit and not served.fits:
        ctx.exit(1)
