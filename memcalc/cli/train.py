"""`memcalc train MODEL`."""

from typing import Any

import click

from memcalc.cli.options import COUNT, NUMBER, WORDS, output_options, preset_option, show


@click.command("train", no_args_is_help=True)
@click.argument("model")
@click.option("--gpu", metavar="NAME", help="Accelerator, as in `memcalc gpus`.")
@click.option("--gpus", type=COUNT, help="Number of GPUs.  [default: 1]")
@click.option("--gpus-per-node", type=COUNT, help="GPUs of one host.  [default: 8]")
@click.option("--precision", help="fp32, fp16, bf16, fp16-amp, bf16-amp, fp16-mixed, bf16-mixed, fp8-mixed.")
@click.option("--optimizer", metavar="NAME", help="As in `memcalc optimizers`.  [default: adamw]")
@click.option("--ddp", is_flag=True, default=None, help="Replicate (the default with several GPUs).")
@click.option("--zero", type=int, metavar="0|1|2|3", help="DeepSpeed ZeRO stage.")
@click.option("--fsdp", metavar="full|grad-op|hybrid|none", help="PyTorch FSDP2 strategy.")
@click.option("--shard-size", type=COUNT, help="FSDP sharding factor: 1 replicates, N shards over all.")
@click.option("--tp", type=COUNT, help="Tensor parallel degree.")
@click.option("--pp", type=COUNT, help="Pipeline parallel degree.")
@click.option("--cp", type=COUNT, help="Context parallel degree.")
@click.option("--cp-kind", metavar="ring|all-gather|all-to-all", help="How --cp exchanges keys and values.  [default: ring]")
@click.option("--ep", type=COUNT, help="Expert parallel degree.")
@click.option("--etp", type=COUNT, help="Tensor parallel degree inside experts.")
@click.option(
    "--expert-imbalance", type=NUMBER, metavar="F", help="Rows on the busiest rank of --ep over the mean.  [default: 1]"
)
@click.option(
    "--capacity-factor", type=NUMBER, metavar="F", help="Experts take F × an even share of rows; the rest is dropped."
)
@click.option("--pad-to-capacity", is_flag=True, default=None, help="Pad every expert's rows to its capacity.")
@click.option("--sequence-parallel", is_flag=True, default=None, help="Divide norms and dropouts over tensor-parallel ranks.")
@click.option("--pipeline-schedule", metavar="gpipe|1f1b|interleaved|zero-bubble")
@click.option("--micro-batch", type=COUNT, help="Sequences per GPU and step.  [default: 1]")
@click.option("--grad-accum", type=COUNT, help="Micro-batches per optimizer step.  [default: 1]")
@click.option("--seq-len", type=COUNT, help="Tokens per sequence.  [default: 4096, or the model's context]")
@click.option("--recompute", metavar="none|selective|full", help="Activation recomputation.")
@click.option("--recompute-every", type=COUNT, metavar="N", help="full: each N-th layer alone (torchtitan's selective N).")
@click.option("--recompute-layers", type=COUNT, metavar="N", help="full: a stage's first N layers alone (Megatron's block).")
@click.option(
    "--kernels", metavar="eager|compiled|liger|te|unsloth|litgpt", help="Whose kernels run the blocks.  [default: the engine's]"
)
@click.option("--attention", metavar="eager|sdpa|flash", help="Attention kernel.  [default: sdpa]")
@click.option(
    "--loss", metavar="full|chunked|fused|compiled|…", help="How the cross-entropy is computed.  [default: the engine's]"
)
@click.option("--optimizer-impl", metavar="fused|foreach|for-loop", help="[default: the engine's]")
@click.option(
    "--engine", metavar="torch|accelerate|deepspeed|megatron|torchtitan|…", help="[default: torch, or ZeRO's deepspeed]"
)
@click.option("--method", metavar="full|lora|qlora|dora|qat")
@click.option("--freeze", type=WORDS, metavar="WORDS", help="embeddings: they, and a tied head, are not trained.")
@click.option("--lora-rank", type=COUNT)
@click.option("--lora-targets", type=WORDS, metavar="WORDS", help="all-linear, or q,k,v,output,gate,up,down …")
@click.option("--lora-dropout", type=NUMBER, help="On the adapters' input.  [default: 0]")
@click.option("--base-format", metavar="nf4-dq|nf4", help="Frozen matrices under qlora.  [default: nf4-dq]")
@click.option("--offload", type=WORDS, metavar="WORDS", help="optimizer,parameters,activations: keep them off the GPU.")
@click.option("--offload-to", metavar="cpu|nvme")
@click.option("--require-fit", is_flag=True, help="Exit with 1 when it does not fit.")
@preset_option
@output_options
@click.pass_context
def train_command(
    ctx: click.Context, /, model: str, gpu: str | None, require_fit: bool, presets: tuple[str, ...],
    format_: str, get: str | None, output: str | None, **settings: Any,
) -> None:  # fmt: skip
    """Memory per GPU of a training step.

    MODEL is a preset (`memcalc models`), a config.json, safetensors or GGUF file or its folder, or a count such as 7B.

    \b
    memcalc train llama-3.1-8b --gpus 8 --zero 3 --gpu h100
    memcalc train ./config.json --gpus 64 --tp 8 --fsdp full --recompute full
    memcalc train 7B --precision fp32
    """
    from memcalc.sizing.training import size_training

    if require_fit and gpu is None:
        raise click.UsageError("--require-fit: needs a --gpu to fit into")
    step = size_training(model, gpu, presets=presets, **settings)
    show(step.report(), format_, get, output)
    if require_fit and not step.fits:
        ctx.exit(1)
