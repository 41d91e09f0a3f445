"""A server's facts → fields of Serving."""

from memcalc.readers.launch.settings import Making

PLAIN = {"bfloat16": "bf16", "half": "fp16", "float16": "fp16", "float32": "fp32", "float": "fp32"}
# a server's --quantization → how memcalc's --weights calls it, where that is another word; "": the checkpoint's own
QUANTIZED = {"awq": "awq", "awq_marlin": "awq", "gptq": "gptq-int4-g128", "gptq_marlin": "gptq-int4-g128", "fp8": "fp8",
             "bitsandbytes": "nf4-dq", "modelopt_fp4": "nvfp4", "mxfp4": "mxfp4"}  # fmt: skip
CACHES = {
    "fp8_e4m3": "fp8-e4m3",
    "fp8_e5m2": "fp8-e5m2",
    "fp8": "fp8",
    "bfloat16": "bf16",
    "f16": "fp16",
    "bf16": "bf16",
    "float16": "fp16",
}


def serving(making: Making, weights: str = "") -> None:
    """All of them."""
    value = making.value
    engine = str(value("engine") or "")
    making.set("engine", engine, "engine", "script", "engine_version")
    for name in ("tp", "pp", "ep"):
        if isinstance(value(name), int) and value(name) > 1:
            making.copy(name)
    dp = value("dp") if not value("dp_attention") else 1
    if isinstance(dp, int) and dp > 1:
        making.copy("dp")
    if value("dp_attention"):
        making.warn("attention by data-parallel ranks inside one engine is not modelled", "dp_attention")
    if value("expert_parallel"):
        making.set("ep", (value("tp") or 1) * (value("dp") or 1), "expert_parallel", "tp", "dp")
    _memory(making, engine)
    if engine == "llama.cpp":
        _llama(making)
    elif isinstance(value("context"), int) and value("context") > 0:
        making.copy("context")
    _formats(making, weights)
    _beside(making)


def _beside(making: Making) -> None:
    """Drafts, adapters, and what is not modelled."""
    value = making.value
    if value("draft"):
        making.copy("draft")
        making.copy("draft_tokens")
    elif value("speculative"):
        making.warn("speculative decoding without a draft model is not modelled", "speculative")
    if isinstance(value("lora_adapters"), int) and value("lora_adapters") > 0:
        making.copy("lora_adapters", "lora_rank")
    if (value("cpu_offload_gb") or 0) > 0:
        making.warn("weights in host memory are not modelled for this engine", "cpu_offload_gb")
    for name in ("override_tensor", "cpu_moe_layers"):
        if value(name):
            making.warn("experts in host memory are not modelled", name)
    for name in ("max_total_tokens", "cuda_graph_max_bs", "max_graph_size"):
        if value(name):
            making.warn(f"{name.replace('_', ' ')} is not modelled; the engine's own is counted", name)


def _memory(making: Making, engine: str) -> None:
    for name in ("gpu_memory_utilization", "mem_fraction_static", "kv_free_fraction"):  # each engine's share of what it counts
        share = making.value(name)
        if isinstance(share, (int, float)) and 0 < share <= 1:
            making.set("gpu_memory_utilization", float(share), name)
    if engine in ("vllm", "sglang", "tensorrt-llm"):
        if engine != "sglang":
            making.copy("max_sequences")
        elif making.value("max_sequences"):
            making.warn("a bound on running requests is not modelled for SGLang", "max_sequences")
        making.copy("max_batched_tokens", "block_size", "kv_cache_memory")
        if making.value("eager"):
            making.copy("eager")


def _llama(making: Making) -> None:
    value = making.value
    slots = value("sequences") or 1
    if isinstance(value("context"), int) and value("context") > 0:
        making.set("context", value("context") // slots, "context", "sequences")
    if slots > 1:
        making.set("batch", slots, "sequences")
    making.copy("gpu_layers", "ubatch=max_batched_tokens")
    if isinstance(value("gpu_layers"), int) and value("gpu_layers") > 1000:
        making.settings.pop("gpu_layers")


def _formats(making: Making, weights: str) -> None:
    value = making.value
    dtype = PLAIN.get(str(value("dtype") or "").lower(), "")
    named = str(value("quantization") or "").lower()
    if weights:
        making.set("weights", weights, "model", "quantization")
    elif named:
        making.set("weights", QUANTIZED.get(named, named), "quantization")
    elif dtype:
        making.set("weights", dtype, "dtype")
    cache = str(value("kv_dtype") or "").lower()
    if value("kv_dtype_k"):
        cache = str(value("kv_dtype_k")).lower()
        if value("kv_dtype_v") != value("kv_dtype_k"):
            making.warn(
                "keys and values of different formats are not modelled; the keys' is taken for both", "kv_dtype_k", "kv_dtype_v"
            )
    if cache and cache != "auto":
        making.set("kv_dtype", CACHES.get(cache, cache), "kv_dtype", "kv_dtype_k", "kv_dtype_v")
