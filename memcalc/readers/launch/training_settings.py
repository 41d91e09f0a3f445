"""A training run's facts → fields of Training and Parallelism."""

from memcalc.formulas.objectives import REFERRED
from memcalc.readers.launch.activation_settings import activations
from memcalc.readers.launch.activation_settings import megatron as of_megatron
from memcalc.readers.launch.settings import Making
from memcalc.specs.parallelism import CP_KINDS
from memcalc.specs.words import meant

OBJECTIVES = {
    "ipo": "dpo",
    "rm": "reward",
    "reward": "reward",
    "gae": "ppo",
    "seq_cls": "classify",
    "embedding": "embed",
}  # theirs → ours, where the words differ
PLAIN = ("sft", "pt", "none", "")  # the next token's cross-entropy
TARGETS = {"q_proj": ["q"], "k_proj": ["k"], "v_proj": ["v"], "o_proj": ["output"], "output_proj": ["output"],
    "gate_proj": ["gate"],
           "up_proj": ["up"], "down_proj": ["down"], "mlp": ["gate", "up", "down"], "all": ["all-linear"],
           "all-linear": ["all-linear"], "w1": ["gate"], "w2": ["down"], "w3": ["up"], "dense": ["output"],
    "q_a_proj": ["q_down"], "q_b_proj": ["q_up"], "kv_a_proj_with_mqa": ["kv_down"], "kv_b_proj": ["kv_up"]}  # fmt: skip
SIXTEEN = ("bf16", "fp16")
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32", "bf16": "bf16",
    "fp16": "fp16",
          "fp32": "fp32"}  # fmt: skip
MEGATRON = ("megatron-args", "slime", "megatron-bridge-yaml")


def training(making: Making, weights: str = "") -> None:
    """All of them; what decides memory and no file says is asked for."""
    facts, kind = making.facts, making.job.kind.name
    _objective(making)
    _sharding(making)
    _precision(making)
    _method(making, weights)
    _batch(making)
    _optimizer(making)
    _offloading(making)
    activations(making)
    megatron = (
        kind in MEGATRON or str(making.value("command") or "").startswith("megatron") or making.value("strategy") == "megatron"
    )
    zero = str(making.value("strategy") or "").startswith("zero-")
    if megatron:
        making.set("engine", "megatron", "script", "command", "strategy")
    elif kind in ("torchtitan-toml", "torchtune-yaml"):
        making.set("engine", making.job.kind.title, "recipe", "model_component")
    elif making.value("strategy") == "fsdp1":
        making.set("engine", "accelerate", "strategy")
    elif zero:
        making.set("engine", "deepspeed", "strategy")
        making.set("grad_accum_dtype", DTYPES.get(str(making.value("grad_accum_dtype"))), "grad_accum_dtype")
    if megatron:
        of_megatron(making)
    for name, asked in (("gpus", "gpus"), ("micro_batch", "micro_batch"), ("seq_len", "seq_len")):
        if asked not in making.settings and not (name in ("micro_batch", "seq_len") and "tokens_per_batch" in making.settings):
            making.ask(name)
    if making.facts.get("precision") is None or (facts["precision"].value == "auto" and "precision" not in making.settings):
        making.ask("precision")
    if "optimizer" not in facts:
        making.ask("optimizer")


def _objective(making: Making) -> None:
    said = str(making.value("algorithm") or "").lower()
    if said in PLAIN:  # of sft with another head
        said = str(making.value("head_task") or "")
    if said not in PLAIN:
        objective = OBJECTIVES.get(said, said)
        if objective == "classify":
            making.copy("labels")
        making.set("objective", objective, "algorithm", "advantage_estimator", "head_task")
        if objective in REFERRED and making.value("reference") == "precomputed":
            making.set("reference", "precomputed", "reference")
        if making.value("reference_model"):
            making.warn("a reference of another model is counted as large as the model itself", "reference_model")


def _sharding(making: Making) -> None:
    value = making.value
    for name in ("tp", "pp", "cp", "ep", "etp"):
        if isinstance(value(name), int) and value(name) > 1:
            making.copy(name)
    sp = value("sp")
    if isinstance(sp, str) and sp.isdigit() and int(sp) > 1:
        making.set("cp", int(sp), "sp")
        making.set("cp_kind", "all-to-all", "sp")
    exchange = str(value("cp_kind") or "")
    if exchange and (making.value("cp") or 1) > 1:
        if (kind := str(meant("cp_kind", exchange, CP_KINDS))) in CP_KINDS:
            making.set("cp_kind", kind, "cp_kind")
        else:
            making.warn(f"keys and values exchanged by {exchange:.40} are not modelled; ring is taken", "cp_kind")
    if value("sequence_parallel") and (value("tp") or 1) > 1:
        making.copy("sequence_parallel")
        if making.job.kind.name == "megatron-args":  # its own default is off, recipes of Megatron-Bridge say what they have
            making.set("tp_overlap", "on" if value("tp_overlap") else "off", "tp_overlap")
        elif value("tp_overlap") and value("compile"):  # torchtitan's, which torch.compile does
            making.set("tp_overlap", "on", "tp_overlap", "compile")
        elif value("tp_overlap"):
            making.warn("async tensor parallelism is torch.compile's: without it there is none", "tp_overlap")
    gpus = value("gpus") or (_product(making) if making.job.kind.name == "torchtitan-toml" else None)
    making.set("gpus", gpus, "gpus", "processes", "nodes", "gpus_per_node", "visible_gpus", "shard_size")
    per_node = value("gpus_per_node")
    if gpus and isinstance(per_node, int) and 0 < per_node <= gpus:
        making.set("gpus_per_node", per_node, "gpus_per_node", "processes", "nodes")
    _strategy(making, gpus)


def _strategy(making: Making, gpus: int | None) -> None:
    value = making.value
    strategy = str(value("strategy") or "")
    if strategy.startswith("zero-") and strategy[5:].isdigit():
        making.set("zero", int(strategy[5:]), "strategy", "zero_stage", "distributed_optimizer", "deepspeed_file")
    elif strategy.startswith("fsdp") and gpus != 1:
        making.set("fsdp", value("fsdp") or "full", "strategy", "fsdp", "sharding", "reshard_after_forward")
        shards, copies = value("shard_size"), value("replicas") or 1
        if isinstance(shards, int) and shards > 0 and copies > 1:
            making.set("shard_size", shards * (value("cp") or 1), "shard_size", "replicas")
        if strategy == "fsdp1" and value("fsdp") != "grad-op":  # which gathers nothing in the backward
            making.copy("backward_prefetch")
    elif strategy == "ddp" and gpus and gpus > 1:
        making.set("ddp", True, "strategy")
    if strategy.startswith("zero-") and strategy != "zero-0":
        _buckets(making, strategy)


def _buckets(making: Making, strategy: str) -> None:
    """Sizes that DeepSpeed's JSON says."""
    value = making.value
    bucket = making.facts.get("reduce_bucket")
    if bucket and bucket.value == "auto":
        making.set("auto_buckets", True, "reduce_bucket")
    elif isinstance(value("reduce_bucket"), int) and value("reduce_bucket") > 0:
        making.copy("reduce_bucket=reduce_bucket_size")
    if strategy == "zero-3":
        if isinstance(value("sub_group_size"), int) and value("sub_group_size") > 0:
            making.copy("sub_group_size")
        if isinstance(value("max_live_parameters"), int) and value("max_live_parameters") >= 0:
            making.copy("max_live_parameters")
        if isinstance(value("hpz_partition"), int) and value("hpz_partition") > 1:
            making.copy("hpz_partition=hpz_partition_size")
    elif value("overlap_comm"):
        making.copy("overlap_comm")


def _product(making: Making) -> int | None:
    """torchtitan: all degrees together are the devices, where none of them is "the rest"."""
    sizes = [making.value(name) or 1 for name in ("shard_size", "replicas", "tp", "pp", "cp")]
    total = 1
    for size in sizes:
        if not isinstance(size, int) or size < 1:
            return None
        total *= size
    return total if (making.value("shard_size") or -1) > 0 else None


def _precision(making: Making) -> None:
    """What is stored in which format: the tool's word, the dtype of loading, and the strategy together."""
    said, dtype = (
        str(making.value("precision") or ""),
        DTYPES.get(str(making.value("model_dtype") or "").removeprefix("torch."), ""),
    )
    kind, strategy = making.job.kind.name, str(making.value("strategy") or "")
    if str(making.value("command") or "").startswith("megatron"):
        strategy = "megatron"
    word = DTYPES.get(said.lower(), said.lower())
    stated = making.facts.get("precision")
    if kind == "axolotl-yaml" and stated is not None and stated.value == "auto":
        word, dtype = "bf16", "bf16"
        making.warn("bf16: auto is taken as bf16, as on every GPU since Ampere", "precision")
    elif stated is None or stated.value == "auto":
        return
    if making.value("fp8"):
        word = "fp8"
    if making.value("fp4"):
        word = "nvfp4"
    found = _stored(word, dtype, kind, strategy, str(making.value("method") or "full"))
    if found:
        making.set("precision", found, "precision", "model_dtype", "fp8", "fp4", "converters")
    else:
        making.warn(f"precision {said!r:.40} is not known; --precision says it", "precision")
        making.ask("precision")


def _stored(word: str, dtype: str, kind: str, strategy: str, method: str) -> str:
    if word.startswith("pure-") or kind == "torchtune-yaml":
        return word.removeprefix("pure-")
    if word.endswith("-mixed"):
        return "bf16" if word == "bf16-mixed" and dtype == "bf16" else word
    if word in ("fp8", "nvfp4"):
        return f"{word}-mixed"
    if word == "no":
        return dtype or "fp32"
    if word == "fp32":
        return dtype if dtype in SIXTEEN and method == "full" else "fp32"
    if word not in SIXTEEN:
        return ""
    if (
        strategy.startswith(("zero-", "fsdp"))
        or kind in (*MEGATRON, "nanotron-yaml", "verl", "openrlhf")
        or strategy == "megatron"
    ):
        return f"{word}-mixed"
    if method in ("lora", "qlora", "dora"):
        return f"{word}-amp" if dtype == "fp32" and method != "qlora" else f"{word}-mixed"
    return word if dtype == word or kind == "axolotl-yaml" else f"{word}-amp"


def _method(making: Making, weights: str) -> None:
    value = making.value
    method, bits = str(value("method") or "full"), value("quantization_bit")
    if method in ("lora", "dora") and bits == 8:
        making.set("base_format", "int8", "quantization_bit")
        method = "qlora"
    elif bits not in (None, 4, 8):
        making.warn(f"a frozen base of {bits} bits is not modelled", "quantization_bit")
    named = str(value("base_format") or "").lower()
    stored = next((base for base in ("gptq", "awq") if base in weights), weights)
    if method == "lora" and (stored in ("nf4-dq", "nf4", "gptq", "awq") or named in ("gptq", "awq", "hqq")):
        method = "qlora"
        making.set("base_format", named or stored, "base_format", "model")
    if method == "freeze":
        method = "full"
        if isinstance(value("train_layers"), int) and value("train_layers") > 0:
            making.copy("train_layers")
        else:
            making.warn("training of the first layers alone is not modelled", "train_layers")
    if value("fake_quantised") and method != "qat":
        making.warn("fake quantisation beside adapters is not modelled", "fake_quantised")
    making.set("method", method, "method", "quantization_bit", "dora", "lora_rank", "lora_targets")
    if method == "qlora" and "base_format" not in making.settings:
        double = making.value("double_quant")
        double = making.job.kind.name in ("axolotl-yaml", "torchtune-yaml") if double is None else double
        base = named if named in ("nf4", "fp4") else "nf4"
        making.set("base_format", f"{base}-dq" if double else base, "base_format", "double_quant", "quantization_bit")
    if method in ("lora", "qlora", "dora"):
        making.copy("lora_rank", "lora_dropout", "expert_adapters")
        _targets(making)
        _also(making)
        if value("upcast_norms"):
            making.set("kbit_prepare", "norms", "upcast_norms")
    if value("freeze"):
        frozen = value("freeze")
        if method in ("full", "qat"):
            making.set("freeze", tuple(frozen if isinstance(frozen, list) else [frozen]), "freeze", "freeze_vit")


ALSO = {"embed_tokens": "embeddings", "lm_head": "head", "norm": "norms", "norms": "norms"}


def _also(making: Making) -> None:
    """PEFT's modules_to_save."""
    named = making.value("modules_to_save")
    listed = named if isinstance(named, list) else [named] if named else []
    strange = [str(each) for each in listed if str(each) not in ALSO]
    if strange:
        making.warn(f"{', '.join(strange)[:80]} beside adapters is not modelled", "modules_to_save")
    if known := [ALSO[str(each)] for each in listed if str(each) in ALSO]:
        making.set("train_also", tuple(dict.fromkeys(known)), "modules_to_save")


def _targets(making: Making) -> None:
    named = making.value("lora_targets")
    if named is None:
        making.set("lora_targets", ("q", "v"), "method")
        making.warn("no lora targets are named; PEFT's own for most architectures, q and v, are taken", "method", "lora_rank")
        return
    found: list[str] = []
    for each in named if isinstance(named, list) else [named]:
        ours = TARGETS.get(str(each).rpartition(".")[2].lower())
        if ours is None:
            making.warn(f"lora target {each!r:.80} is no matrix that is known; --lora-targets says it", "lora_targets")
        else:
            found += ours
    if found:
        making.set("lora_targets", tuple(dict.fromkeys(found)), "lora_targets")


def _batch(making: Making) -> None:
    value = making.value
    if value("dynamic_batch") and isinstance(value("max_tokens_per_gpu"), int):
        making.copy("max_tokens_per_gpu=tokens_per_batch")
    elif isinstance(value("micro_batch"), int) and not value("batch_search"):
        making.copy("micro_batch")
    if isinstance(value("seq_len"), int) and value("seq_len") > 0:
        making.copy("seq_len")
    elif isinstance(value("prompt_len"), int) and isinstance(value("response_len"), int):
        making.set("seq_len", value("prompt_len") + value("response_len"), "prompt_len", "response_len")
    if "tokens_per_batch" in making.settings:
        tokens = making.settings["tokens_per_batch"].value
        if "seq_len" in making.settings and making.settings["seq_len"].value > tokens:
            making.settings.pop("seq_len")
        return
    accum, batch, gpus = value("grad_accum"), value("global_batch"), value("gpus")
    if isinstance(accum, int):
        making.copy("grad_accum")
        ranks = (gpus or 0) // ((value("tp") or 1) * (value("pp") or 1) * (value("cp") or 1))
        micro = value("micro_batch")
        if isinstance(batch, int) and gpus and isinstance(micro, int) and micro * accum * ranks != batch:
            making.warn(
                f"batch of {batch}, but micro-batch {micro} × accumulation {accum} × {ranks} data-parallel ranks = "
                f"{micro * accum * ranks}; the three are taken", "global_batch", "micro_batch", "grad_accum",
            )  # fmt: skip
    elif isinstance(batch, int):
        making.copy("global_batch")
    if value("passes_on_way"):
        making.copy("passes_on_way=grad_accum")


def _optimizer(making: Making) -> None:
    from memcalc.specs.step_settings import OPTIMIZER_NAMES

    name = making.value("optimizer")
    if name:
        ours = meant("optimizer", str(name), OPTIMIZER_NAMES)
        making.set("optimizer", ours, "optimizer")
        if making.value("optimizer_impl") and ours in ("adam", "adamw", "sgd"):
            making.copy("optimizer_impl")
    if making.value("optimizer_in_backward"):
        making.copy("optimizer_in_backward")
        making.settings.pop("grad_accum", None) if making.value("grad_accum") == 1 else None
    norm = making.value("max_grad_norm")
    if isinstance(norm, (int, float)) and norm > 0 and not making.value("optimizer_in_backward"):
        making.copy("max_grad_norm")


def _offloading(making: Making) -> None:
    named = making.value("offload")
    listed = [str(each) for each in named] if isinstance(named, list) else []
    if "parameters" in listed and str(making.value("strategy") or "").startswith("fsdp"):
        listed.append("optimizer")  # torch.distributed.fsdp: CPUOffload moves gradients, and the step runs on the host
    if making.value("activation_offloading"):
        listed.append("activations")
    if listed and making.value("recompute") == "full" and "activations" in listed and making.job.kind.name == "axolotl-yaml":
        making.warn("inputs of recomputed layers are kept in host memory", "offload")
    if listed:
        making.set("offload", tuple(dict.fromkeys(listed)), "offload", "activation_offloading", "optimizer_cpu_offload")
        if making.value("offload_to") == "nvme":
            making.copy("offload_to")
        fraction = making.value("offload_fraction")
        if isinstance(fraction, (int, float)) and fraction < 1 and "optimizer" in listed:
            making.copy("offload_fraction")
