"""Options as other programs spell them → ours where the meaning is the same, else a refusal that says what would be.

Sources: arguments of transformers' Trainer, TRL, LLaMA-Factory, axolotl, torchtune, DeepSpeed and Megatron-LM for `train`; of
vLLM, SGLang, TensorRT-LLM and llama.cpp for `infer`. Underscores, capitals and a second dash do not matter.
"""

from collections.abc import Mapping, Sequence

import click

from memcalc.frozen import NamedTuple


class Set(NamedTuple):
    """A switch of theirs that is one of our options with a value ("" for a switch of ours)."""

    option: str
    value: str = ""


class With(NamedTuple):
    """An option of theirs that is one of ours, which takes its value, together with another setting of ours."""

    option: str
    beside: tuple[str, str]


class Instead(NamedTuple):
    """What to say in place of an option whose meaning is not that of one of ours."""

    text: str


Meaning = str | Set | With | Instead
Spellings = Mapping[str, Meaning]


def _all(names: str, meaning: Meaning) -> dict[str, Meaning]:
    return dict.fromkeys(names.split(), meaning)


COMMON: Spellings = {"json": Set("format", "json"), "o": "output"}

PACKED = Instead("packed or padding-free batches are one row of sequences: --tokens-per-batch N says of how many tokens")
ULYSSES = With("cp", ("cp-kind", "all-to-all"))  # sequence parallelism by all-to-all
AUTOCAST = Instead("say which mixture: --precision bf16-amp (autocast over fp32 weights), bf16-mixed (fp32 master) or bf16")
NO_BYTES = Instead("changes no byte that memcalc counts; leave it out")

TRAIN: Spellings = {
    **COMMON,
    **_all("max-seq-len max-seq-length max-length cutoff-len sequence-len sequence-length seq-length model-max-length context",
           "seq-len"),
    **_all("per-device-train-batch-size micro-batch-size train-micro-batch-size-per-gpu device-batch-size", "micro-batch"),
    **_all("global-batch-size train-batch-size gbs", "global-batch"),  # DeepSpeed's train_batch_size is that too
    **_all("max-tokens-per-batch max-token-len-per-gpu ppo-max-token-len-per-gpu max-tokens-per-gpu batch-max-tokens",
           "tokens-per-batch"),
    **_all("batch-size batch",
           Instead("--micro-batch is sequences per GPU and pass, --grad-accum passes per optimizer step")),
    **_all("gradient-accumulation-steps accumulate-grad-batches gradient-accumulation", "grad-accum"),
    **_all("tensor-model-parallel-size tensor-parallel-size tensor-parallel-degree tp-size", "tp"),
    **_all("pipeline-model-parallel-size pipeline-parallel-size pipeline-parallel-degree pp-size", "pp"),
    **_all("context-parallel-size context-parallel-degree cp-size", "cp"),
    **_all("expert-model-parallel-size expert-parallel-size expert-parallel-degree ep-size", "ep"),
    **_all("expert-tensor-parallel-size expert-tensor-parallel-degree", "etp"),
    **_all("cp-comm-type", "cp-kind"),
    **_all("sequence-parallel-size sequence-parallel-degree ulysses-sequence-parallel-size ulysses-degree ulysses "
           "ulysses-parallel-size sp-size", ULYSSES),
    **_all("tiled-mlp-compute use-tiled-mlp", Set("tiled-mlp")),
    **_all("tiled-mlp-num-shards num-mlp-tiles", "mlp-tiles"),
    **_all("grad-accum-type grad-accumulation-dtype accumulation-dtype", "grad-accum-dtype"),
    **_all("accumulate-allreduce-grads-in-fp32", Set("main-grads-dtype", "fp32")),
    **_all("per-device-eval-batch-size eval-batch-size", "eval-batch"),
    "eval-accumulation-steps": "eval-accumulation",
    **_all("num-labels num-classes", "labels"),
    **_all("train-group-size num-passages", "passages"),
    **_all("passage-max-len passage-max-length", "passage-len"),
    **_all("query-max-len query-max-length", "seq-len"),
    **_all("sub-batch-size mini-batch-size gc-q-chunk-size gc-p-chunk-size", "cached-batch"),
    **_all("freeze-vit freeze-vision-tower", Set("freeze", "vision")),
    **_all("keep-output-alive keep-logits", Set("keep-output")),
    **_all("zero-stage deepspeed-stage", "zero"),
    **_all("num-processes world-size num-gpus n-gpus ngpus", "gpus"),
    **_all("nproc-per-node num-nodes nnodes",
           Instead("--gpus is the number of all GPUs, --gpus-per-node those of one host")),
    **_all("optim optimizer-type", "optimizer"),
    **_all("gradient-checkpointing activation-checkpointing enable-activation-checkpointing", Set("recompute", "full")),
    "recompute-activations": Set("recompute", "selective"),
    "recompute-granularity": "recompute",
    "optimizer-offload-fraction": "offload-fraction",
    "use-precision-aware-optimizer": Instead("--main-params-dtype, --exp-avg-dtype and --exp-avg-sq-dtype name its formats"),
    "grad-reduce-in-bf16": Set("main-grads-dtype", "bf16"),
    **_all("bf16 fp16 mixed-precision dtype torch-dtype", AUTOCAST),
    **_all("attn-implementation flash-attn attn-impl", "attention"),
    **_all("use-flash-attn flash-attention use-flash-attention-2", Set("attention", "flash")),
    **_all("use-liger-kernel enable-liger-kernel use-liger", Set("kernels", "liger")),
    **_all("lora-r lora-rank-r rank", "lora-rank"),
    **_all("lora-target lora-target-modules target-modules lora-modules", "lora-targets"),
    **_all("finetuning-type adapter peft-method", "method"),
    "load-in-8bit": Instead("--method qlora --base-format int8 keeps frozen matrices in 8 bits (LLM.int8)"),
    **_all("load-in-4bit quantization-bit", Instead("--method qlora keeps frozen matrices in 4 bits, --base-format says how")),
    **_all("lora-alpha learning-rate lr weight-decay warmup-steps num-train-epochs max-steps save-steps seed",
           NO_BYTES),
    **_all("cpu-offload offload-optimizer offload-param optimizer-cpu-offload fsdp-offload-params optimizer-offload",
           Instead("--offload optimizer, parameters or activations (with commas), --offload-to cpu or nvme")),
    **_all("activation-offloading enable-activation-offload", Set("offload", "activations")),
    "use-distributed-optimizer": Instead("Megatron's distributed optimizer shards states as --zero 1 --engine megatron does"),
    **_all("packing padding-free sample-packing neat-packing", PACKED),
    **_all("num-virtual-stages-per-pipeline-rank virtual-pipeline-model-parallel-size virtual-pipeline", "virtual-stages"),
    "num-layers-per-virtual-pipeline-stage": Instead("--virtual-stages N: layers of a stage over those of a chunk"),
    **_all("decoder-first-pipeline-num-layers num-layers-in-first-pipeline-stage", "first-stage-layers"),
    **_all("decoder-last-pipeline-num-layers num-layers-in-last-pipeline-stage", "last-stage-layers"),
    "account-for-embedding-in-pipeline-split": Set("count-embedding"),
    "account-for-loss-in-pipeline-split": Set("count-loss"),
    "pipeline-model-parallel-layout": "pipeline-layout",
    **_all("optimizer-in-bwd fused-backward gradient-release", Set("optimizer-in-backward")),
    **_all("gradient-clipping clip-grad clip-grad-norm gradient-clip-val grad-clip", "max-grad-norm"),
    **_all("use-ema ema-weights", Set("ema", "weights")),
    **_all("fsdp-sharding-strategy sharding-strategy", "fsdp"),
    "fsdp-backward-prefetch": "backward-prefetch",
    "fsdp-activation-checkpointing": Set("recompute", "full"),
    "fsdp-reshard-after-forward": Instead("--fsdp full reshards after the forward, --fsdp grad-op does not"),
    **_all("fsdp-forward-prefetch forward-prefetch",
           Instead("gathers one layer more during the forward, which is not where the peak is; leave it out")),
    **_all("fsdp-limit-all-gathers limit-all-gathers",
           Instead("limited all-gathers are what is modelled: without the limit the host gathers as far ahead as it runs")),
    **_all("fsdp-use-orig-params use-orig-params",
           Instead("frozen and trained parameters in units of their own are modelled (PEFT's wrapping policy), shared ones for "
                   "--engine litgpt")),
    **_all("fsdp-auto-wrap-policy fsdp-transformer-layer-cls-to-wrap fsdp-state-dict-type fsdp-sync-module-states "
           "fsdp-cpu-ram-efficient-loading fsdp-version",
           Instead("layers are FSDP's units here, and this changes no byte of a step; leave it out")),
    "mics-shard-size": "shard-size",
    "zero-hpz-partition-size": "hpz-partition-size",
    **_all("allgather-bucket-size allgather-partitions reduce-scatter round-robin-gradients",
           Instead("gathers in place: changes no byte that memcalc counts; leave it out")),
    **_all("stage3-max-live-parameters stage3-max-reuse-distance stage3-prefetch-bucket-size "
           "stage3-param-persistence-threshold",
           Instead("two layers and what is outside layers are counted as gathered; other limits are not modelled")),
    "contiguous-gradients": Instead("DeepSpeed's default, contiguous gradients, is what is modelled; leave it out"),
    "zero-quantized-nontrainable-weights": Set("quantized-frozen"),
    **_all("zero-quantized-weights zero-quantized-gradients",
           Instead("what travels quantised stays in 16 bits, and the traffic's own buffers are not modelled; "
                   "--hpz-partition-size and --quantized-frozen are")),
    "deepspeed": Instead("name what the file says: --zero STAGE, --offload, --engine deepspeed"),
}  # fmt: skip

DTYPE = Instead(
    "--weights says how weights are stored, --precision a plain format of weights and cache, --kv-dtype the cache's"
)
GPUS = Instead("--tp, --pp, --ep and --dp say how GPUs share the work; together they are max(tp, ep) × pp × dp GPUs")

INFER: Spellings = {
    **COMMON,
    **_all("max-model-len ctx-size n-ctx num-ctx context-length context-len max-seq-len seq-len max-context c", "context"),
    **_all("tensor-parallel-size tp-size", "tp"),
    **_all("pipeline-parallel-size pp-size", "pp"),
    **_all("data-parallel-size dp-size replicas", "dp"),
    **_all("expert-parallel-size ep-size", "ep"),
    "enable-expert-parallel": Instead("--ep N with N = tp × dp of that launch"),
    **_all("max-num-seqs max-running-requests max-batch-size", "max-sequences"),
    **_all("max-num-batched-tokens max-num-tokens chunked-prefill-size prefill-step-size ubatch-size ub", "max-batched-tokens"),
    **_all("kt-num-gpu-experts num-gpu-experts", "gpu-experts"),
    "kv-bits": Instead("--kv-dtype mlx-8bit (mlx-lm) or int8-g32 (ExLlamaV3) is a cache of 8 bits"),
    **_all("cache-quant cq", Instead("--kv-dtype int6-g32 is ExLlamaV3's cache of 6 bits")),
    "cache-size": Instead("--context times --batch are the tokens of ExLlamaV3's cache"),
    "kt-method": Instead("--host-experts says how the experts in host memory are stored: int4-channel, fp8-block128"),
    **_all("batch-size b", Instead("--batch is requests at once, --max-batched-tokens the tokens of one forward pass "
                                     "(llama.cpp's -ub; its -b changes no byte)")),
    **_all("parallel np", "slots"),
    **_all("kv-unified kvu", Set("unified")),
    **_all("mem-fraction-static free-gpu-memory-fraction kv-cache-free-gpu-mem-fraction kv-cache-free-gpu-memory-fraction",
           "gpu-memory-utilization"),
    **_all("kv-cache-dtype kv-cache-type cache-type", "kv-dtype"),
    "ctk": "cache-type-k",
    "ctv": "cache-type-v",
    **_all("flash-attn fa", "flash-attention"),
    **_all("cpu-moe cmoe", Set("n-cpu-moe", "100000")),
    "ncmoe": "n-cpu-moe",
    "ot": "override-tensor",
    "ts": "tensor-split",
    "sm": "split-mode",
    **_all("no-kv-offload nkvo", Set("cache-on-host")),
    "kv-cache-memory-bytes": "kv-cache-memory",
    **_all("quantization quantize q", "weights"),
    **_all("dtype torch-dtype load-format", DTYPE),
    **_all("n-gpu-layers ngl", "gpu-layers"),
    **_all("enforce-eager disable-cuda-graph", Set("eager")),
    "page-size": "block-size",
    **_all("speculative-model speculative-draft-model-path draft-model model-draft md", "draft"),
    **_all("num-speculative-tokens speculative-num-draft-tokens draft-max", "draft-tokens"),
    "speculative-algorithm": "draft-method",
    "speculative-config": Instead("--draft eagle3 and --draft-tokens 3 say it; --from 'vllm serve …' reads the JSON"),
    **_all("max-loras max-loras-per-batch", "lora-adapters"),
    "fully-sharded-loras": Set("sharded-adapters"),
    "max-total-tokens": "cache-tokens",
    "num-gpu-blocks-override": Instead("--cache-tokens N with N = blocks × --block-size"),
    **_all("cuda-graph-max-bs max-cudagraph-capture-size cuda-graph-max-bs-decode", "max-graph-batch"),
    "enable-dp-attention": Instead("--attention-dp N says how many groups of --tp ranks have requests of their own"),
    **_all("num-redundant-experts ep-num-redundant-experts", "redundant-experts"),
    "all2all-backend": Instead("--all-to-all deepep-low-latency, deepep-normal or one-sided"),
    **_all("moe-a2a-backend deepep-mode", Instead("--all-to-all deepep, deepep-low-latency or deepep-normal")),
    "disaggregation-mode": "role",
    "kv-offloading-size": Instead("--cache-offload 32GiB is of each GPU: vLLM's GiB / (tp × pp)"),
    **_all("hicache-size host-cache-size", "cache-offload"),
    "limit-mm-per-prompt": Instead("--images-per-prompt N; 0 leaves the profile without images"),
    "skip-mm-profiling": Set("images-per-prompt", "0"),
    "language-only": Set("language-model-only"),
    **_all("max-lora-rank lora-r", "lora-rank"),
    **_all("max-tokens n-predict max-output-len n", "max-new-tokens"),
    **_all("num-beams beam-width", "beams"),
    **_all("num-return-sequences best-of", "samples"),
    **_all("gpus num-gpus n-gpus", GPUS),
    "cpu-offload-gb": Instead("layers in host memory are modelled for llama.cpp: --gpu-layers N, --n-cpu-moe N"),
    **_all("enable-prefix-caching", Instead("--prefix-hit-rate SHARE says how much of each prompt is found, --shared-prefix N "
                                            "how many tokens all have in common")),
    **_all("trust-remote-code swap-space enable-chunked-prefill disable-log-requests port host served-model-name seed",
           NO_BYTES),
    "model-len": "context",
    "micro-batch": "batch",
}  # fmt: skip

CHINCHILLA: Spellings = {**COMMON, **_all("compute compute-budget budget flop", "flops"), "model-size": "params"}

SPELLINGS: Mapping[str, Spellings] = {"train": TRAIN, "infer": INFER, "chinchilla": CHINCHILLA, "optimal": CHINCHILLA}
# Commands that take no MODEL → what says the same.
WITHOUT_MODEL = {
    "bytes": "--params 7B says how many parameters, `memcalc inspect MODEL` how many a model has",
    "chinchilla": "--params 7B, --tokens 1T or --flops 1e24 says what is given",
    "optimal": "--params 7B, --tokens 1T or --flops 1e24 says what is given",
}
BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


def translated(name: str, command: click.Command, args: Sequence[str]) -> list[str]:
    """A command's words with the options of other programs as ours. Raises UsageError where one means something else."""
    spellings = SPELLINGS.get(name, COMMON)
    known: dict[str, click.Option | None] = {
        word: param for param in command.params if isinstance(param, click.Option) for word in param.opts
    }
    known |= {"--help": None, "-h": None}
    out: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*out, word, *words]
        if name in WITHOUT_MODEL and not word.startswith("-"):
            raise click.UsageError(f"{word!r:.60}: memcalc {name} takes no MODEL: {WITHOUT_MODEL[name]}")
        given, equals, value = word.partition("=")
        option = _ours(given, known, spellings)
        if isinstance(option, Instead):
            raise click.UsageError(f"{given} is no option of memcalc {name}: {option.text}")
        if isinstance(option, With):
            out += [f"--{name}" if index == 0 else name for index, name in enumerate(option.beside)]
            option = f"--{option.option}"
        if isinstance(option, Set):
            said = value if equals else words.pop(0) if words and words[0].lower() in BOOLEANS else "true"
            if BOOLEANS.get(said.lower(), True):
                out += [f"--{option.option}", *([option.value] if option.value else [])]
            continue
        out.append(f"{option}{equals}{value}")
        param = known.get(option)
        if param and not equals and not param.is_flag and words:
            out.append(words.pop(0))
    return out


def _ours(given: str, known: Mapping[str, click.Option | None], spellings: Spellings) -> Meaning:
    """What an option is here; what is no option at all, or nobody's, stays as it is."""
    if given in known or not given.startswith("-") or given == "-":
        return given
    folded = given.lstrip("-").lower().replace("_", "-")
    if given.startswith("--") and f"--{folded}" in known:
        return f"--{folded}"
    found = spellings.get(folded, given) if given.startswith("--") or len(folded) <= SHORT else given
    return f"--{found}" if isinstance(found, str) and found != given else found


SHORT = 5  # letters of an option with one dash: -ngl, -nkvo, -ncmoe
