"""A server's facts → fields of Serving."""

from memcalc.errors import InputError
from memcalc.formulas.all_to_all import CONFIGURED
from memcalc.formulas.serving_engines import SERVING_ENGINES, release
from memcalc.readers.launch.settings import Making
from memcalc.specs.quantization import check_weights

PLAIN = {"bfloat16": "bf16", "half": "fp16", "float16": "fp16", "float32": "fp32", "float": "fp32"}
# a server's --quantization → how memcalc's --weights calls it, where that is another word; "": the checkpoint's own
QUANTIZED = {"awq": "awq", "awq_marlin": "awq", "gptq": "gptq-int4-g128", "gptq_marlin": "gptq-int4-g128", "fp8": "fp8",
             "bitsandbytes": "nf4-dq", "modelopt_fp4": "nvfp4", "mxfp4": "mxfp4", "w8a8_fp8": "fp8-channel",
             "w8a8_int8": "w8a8", "ptpc_fp8": "fp8-channel", "fbgemm_fp8": "fp8-channel", "deepseek_v4_fp8": "checkpoint",
             "gpt_oss_mxfp4": "mxfp4", "nvfp4": "nvfp4", "mxfp8": "mxfp8"}  # fmt: skip
# SGLang's fp4_e2m1 has a byte of scale for 16 values, as NVFP4 has (srt/mem_cache/memory_pool.py, MHATokenToKVPoolFP4)
CACHES = {
    "fp4_e2m1": "nvfp4",
    "fp8_e4m3": "fp8-e4m3",
    "fp8_e5m2": "fp8-e5m2",
    "fp8": "fp8",
    "bfloat16": "bf16",
    "f16": "fp16",
    "bf16": "bf16",
    "float16": "fp16",
}


GB, GIB = 10**9, 2**30
VLLM_BLOCK = 16  # tokens
ALL_LAYERS = 99  # what people write for all of them


def serving(making: Making, weights: str = "") -> None:
    """All of them."""
    value = making.value
    engine = str(value("engine") or "")
    if engine:
        making.set("engine", engine, "engine", "script")
    version = str(value("engine_version") or "")
    if version and release(engine, version):
        making.copy("engine_version")
    elif version:
        making.warn(f"{engine} {version} is older than what is described; the newest is taken", "engine_version")
    for name in ("tp", "pp", "ep"):
        if isinstance(value(name), int) and value(name) != 1:  # what is no degree is left out, and said so
            making.copy(name)
    _groups(making, engine)
    _memory(making, engine)
    if engine in SERVING_ENGINES and SERVING_ENGINES[engine].host_embedding:
        _llama(making, "slots" if engine == "llama.cpp" else "batch")  # ollama gives each of them the whole context
    else:
        _context(making)
    _formats(making, weights)
    _beside(making)


def _beside(making: Making) -> None:
    """Drafts, adapters, and what is not modelled."""
    value = making.value
    _draft(making)
    if isinstance(value("lora_adapters"), int) and value("lora_adapters") > 0:
        making.copy("lora_adapters", "lora_rank")
    if (value("cpu_offload_gb") or 0) > 0:
        making.warn("weights in host memory are not modelled for this engine", "cpu_offload_gb")
    making.copy("max_total_tokens=cache_tokens", "cuda_graph_max_bs=max_graph_batch", "max_graph_size=max_graph_batch")
    if isinstance(value("cache_blocks"), int):
        making.set("cache_tokens", value("cache_blocks") * (value("block_size") or VLLM_BLOCK), "cache_blocks", "block_size")
    making.copy("images=images_per_prompt")
    if (value("videos") or 0) > 0:  # qwen2_vl.py, get_num_frames_with_most_features: up to 14 frames, fewer of many videos
        making.warn(
            "videos of the profile are not counted: of few a prompt, one may be larger than the largest image", "videos"
        )
    if value("sharded_adapters"):
        making.copy("sharded_adapters")
    if value("language_model_only"):
        making.copy("language_model_only")


def _draft(making: Making) -> None:
    """A model, or a method: heads are taken as published ones are, since their files are not here."""
    value = making.value
    method, named = value("draft_method"), value("draft")
    if method and method != "model":
        making.set("draft", method, "draft_method", "speculative")
        making.copy("draft_tokens")
        if named:
            making.warn(
                f"the head {named!s:.60} is taken as published heads of {method} are; --draft CONFIG.JSON reads it", "draft"
            )
    elif named:
        making.copy("draft", "draft_tokens")
    elif value("speculative"):
        making.warn("speculative decoding of that kind is not modelled", "speculative")


def _groups(making: Making, engine: str) -> None:
    """Data parallelism: replicas, groups of ranks with requests of their own, or ranks that share experts."""
    value = making.value
    tp, dp = value("tp") or 1, value("dp") or 1
    inside = value("dp_attention")
    if inside:  # SGLang names the groups; TensorRT-LLM makes one of each rank
        making.set("attention_dp", tp if engine == "tensorrt-llm" else dp, "dp_attention", "dp", "tp")
    elif value("expert_parallel"):
        making.set("ep", tp * dp, "expert_parallel", "tp", "dp")
    elif isinstance(dp, int) and value("dp") not in (None, 1):
        making.copy("dp")
    making.copy("redundant_experts")
    _exchange(making, tp)
    if value("role"):
        making.copy("role")
    making.copy("transfer_buffer")
    if value("pp_layers"):
        numbers = str(value("pp_layers")).split(",")
        making.set("pp_layers", tuple(int(one) for one in numbers if one.strip().isdigit()), "pp_layers")
    ranks = tp * (value("pp") or 1)
    for name, each in (("cache_offload_gb", GIB / ranks), ("cache_offload_rank_gb", GB), ("cache_offload_bytes", 1)):
        if size := value(name):
            making.set("cache_offload", int(size * each), name)


def _exchange(making: Making, tp: int) -> None:
    """Whose buffers experts' tokens pass; SGLang divides experts by all --tp ranks where DeepEP carries them."""
    library, mode = making.value("all_to_all"), making.value("deepep_mode")
    if not library:
        return
    if "ep" not in making.settings and making.value("engine") == "sglang" and tp > 1:
        making.set("ep", tp, "all_to_all", "tp")
    word = f"{library}-{mode}" if mode else str(library)
    ranks = making.settings["ep"].value if "ep" in making.settings else 1
    if word in ("deepep", "deepep-normal") and ranks not in CONFIGURED:
        making.warn(f"DeepEP's normal mode has no configuration of {ranks} ranks: its buffers are left out", "all_to_all")
    elif ranks != 1:
        making.set("all_to_all", word, "all_to_all", "deepep_mode")


def _context(making: Making) -> None:
    """Tokens of a sequence; 0 leaves them to the model (llama.cpp's -c 0)."""
    tokens = making.value("context")
    if isinstance(tokens, int) and tokens > 0:
        making.copy("context")
    elif tokens:
        making.warn(f"{tokens!s:.40} is no number of tokens; the model's own context is taken", "context")


def _memory(making: Making, engine: str) -> None:
    for name in ("gpu_memory_utilization", "mem_fraction_static", "kv_free_fraction"):  # each engine's share of what it counts
        share = making.value(name)
        if isinstance(share, (int, float)) and 0 < share <= 1:
            making.set("gpu_memory_utilization", float(share), name)
        elif share is not None:
            making.warn(
                f"{share!s:.40} is no share of the device's memory, above 0 and at most 1; the engine's own is taken", name
            )
    if engine in ("vllm", "sglang", "tensorrt-llm"):
        making.copy("max_sequences", "max_batched_tokens", "kv_cache_memory")
        if engine != "sglang":
            making.copy("block_size")
        elif isinstance(making.value("block_size"), int) and making.value("block_size") > 1:
            making.warn(
                f"pages of {making.value('block_size')} tokens: a request's last page is counted to the token", "block_size"
            )
        if making.value("eager"):
            making.copy("eager")


def _llama(making: Making, sequences: str) -> None:
    value = making.value
    _context(making)
    if (value("sequences") or 1) > 1:
        making.copy(f"sequences={sequences}")  # llama-server's slots share the context
        if value("unified"):
            making.copy("unified")
    making.copy("ubatch=max_batched_tokens", "cpu_moe_layers=n_cpu_moe", "kv_dtype_k=cache_type_k", "kv_dtype_v=cache_type_v")
    layers = value("gpu_layers")
    if isinstance(layers, int) and layers < ALL_LAYERS:
        making.copy("gpu_layers")
    if value("override_tensor"):
        making.set("override_tensor", tuple(str(value("override_tensor")).replace(" ", ",").split(",")), "override_tensor")
    _cards(making)
    if value("cache_on_host"):
        making.copy("cache_on_host")
    if value("flash") is not None:
        making.set("flash_attention", "on" if value("flash") else "off", "flash")


def _cards(making: Making) -> None:
    """llama.cpp puts a model on all devices that it sees, in parts by their free memory: equal ones where the cards are equal
    (src/llama-model.cpp, load_tensors)."""
    value = making.value
    if value("split_mode") == "none":
        return
    if value("tensor_split"):
        parts = str(value("tensor_split")).replace("/", ",").split(",")
        making.set("tensor_split", tuple(float(part) for part in parts if part.replace(".", "", 1).isdigit()), "tensor_split")
        making.set("pp", len(parts), "tensor_split")
    for seen in ("visible_gpus", "gpus", "gpus_in_pod"):
        if "pp" not in making.settings and isinstance(value(seen), int) and value(seen) > 1:
            making.set("pp", value(seen), seen)
    if value("split_mode") in ("row", "tensor"):
        making.copy("split_mode")
        if "pp" not in making.settings:
            making.ask("pp")


def _quantized(making: Making, named: str) -> None:
    """--quantization: a format, or the library that wrote the checkpoint, whose own config says in which format."""
    try:
        check_weights(word := QUANTIZED.get(named, named))
    except InputError:
        making.warn(
            f"{named:.40} says who quantised the checkpoint, not how: its own config does, or --weights", "quantization"
        )
    else:
        making.set("weights", word, "quantization")


def _formats(making: Making, weights: str) -> None:
    value = making.value
    dtype = PLAIN.get(str(value("dtype") or "").lower(), "")
    named = str(value("quantization") or "").lower()
    if weights:
        making.set("weights", weights, "model", "quantization")
    elif named:
        _quantized(making, named)
    elif dtype:
        making.set("weights", dtype, "dtype")
    cache = str(value("kv_dtype") or "").lower()
    if cache and cache != "auto":
        making.set("kv_dtype", CACHES.get(cache, cache), "kv_dtype")
