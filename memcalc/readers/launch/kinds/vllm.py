"""vLLM's options and its YAML (vllm 0.33, engine/arg_utils.py)."""

import json
from collections.abc import Callable

from memcalc.formulas.drafts import draft_method
from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.meanings import By, Coded, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, Unreadable, number, words

WHY = "vLLM's default"
IDLE = Ignored("of the server, not of memory or speed that memcalc counts")
ON = {"true": True, "": True, "1": True, "false": False}


def _context(value: Value) -> dict[str, Read]:
    text = (value if isinstance(value, str) else "").strip()
    return {} if text.lower() in ("auto", "-1", "") else {"context": int(number(text))}


def _speculative(value: Value) -> dict[str, Read]:
    """A JSON object in quotes; of a draft model its name and how far it guesses."""
    try:
        found = json.loads(value if isinstance(value, str) else "")
    except (ValueError, RecursionError):
        raise Unreadable("is no JSON object") from None
    if not isinstance(found, dict):
        raise Unreadable("is no JSON object")
    out: dict[str, Read] = {"speculative": True}
    method = method_of(str(found.get("method") or ""))
    if method and method != "model":
        out["draft_method"] = method
    elif isinstance(found.get("model"), str):
        out["draft"] = found["model"]
    if isinstance(found.get("num_speculative_tokens"), int):
        out["draft_tokens"] = found["num_speculative_tokens"]
    return out


def method_of(word: str) -> str:
    """A method as memcalc calls it: each model's own MTP is mtp, ngram_gpu is ngram; "": none that is known."""
    word = word.strip().lower()
    if word in ("draft_model", "draft", "standalone"):
        return "model"
    found = draft_method("mtp" if word.endswith("mtp") else word.removesuffix("_gpu"))
    return found.name if found else ""


def _transfer(value: Value) -> dict[str, Read]:
    """A JSON object: which side of disaggregated serving this is, and how large its buffer."""
    try:
        found = json.loads(value if isinstance(value, str) else "")
    except (ValueError, RecursionError):
        raise Unreadable("is no JSON object") from None
    if not isinstance(found, dict):
        raise Unreadable("is no JSON object")
    out: dict[str, Read] = {}
    if (side := SIDES.get(str(found.get("kv_role")))) is not None:
        out["role"] = side
    size = found.get("kv_buffer_size")
    staged = str(found.get("kv_connector", "")).startswith("P2pNccl")  # NIXL and Mooncake read the cache where it stands
    if staged and isinstance(size, (int, float)) and not isinstance(size, bool) and 0 < size < 10**15:
        out["transfer_buffer"] = int(size)
    return out


SIDES = {"kv_producer": "prefill", "kv_consumer": "decode"}


LIMITED = {"image": "images", "video": "videos"}


def _images(value: Value) -> dict[str, Read]:
    """A JSON object (or image=N,video=N): images and videos that a prompt may have."""
    text = value if isinstance(value, str) else ""
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if all(number.strip().isdigit() for _, _, number in pairs):
        return {LIMITED[name]: int(number) for name, _, number in pairs if name in LIMITED}
    if text.strip().isdigit():
        return {"images": int(text)}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("is no JSON object") from None
    counts = {fact: found.get(name) if isinstance(found, dict) else None for name, fact in LIMITED.items()}
    counts = {fact: each.get("count") if isinstance(each, dict) else each for fact, each in counts.items()}
    return {fact: count for fact, count in counts.items() if type(count) is int}


def _redundant(value: Value) -> dict[str, Read]:
    """A JSON object: how many experts are held once more."""
    try:
        found = json.loads(value if isinstance(value, str) else "")
    except (ValueError, RecursionError):
        raise Unreadable("is no JSON object") from None
    more = found.get("num_redundant_experts") if isinstance(found, dict) else None
    return {"redundant_experts": more} if type(more) is int else {}


def largest(fact: str) -> Callable[[Value], dict[str, Read]]:
    """Of a list of sizes that are captured: the largest, as graphs' memory goes (config/vllm.py, _set_cudagraph_sizes)."""

    def read(value: Value) -> dict[str, Read]:
        found = words(value)
        sizes = [int(each) for each in ([found] if isinstance(found, str) else found) if each.isdigit()]
        return {fact: max(sizes)} if sizes else {}

    return read


def off(name: str) -> Coded:
    """--no-x and --disable-x."""
    return Coded(name, {"true": False, "": False, "1": False, "false": True})


KEYS: KeyTable = {
    **alike("model model_tag model_id", "model"), "model_name": IDLE,
    **alike("tensor_parallel_size tp", "tp"), **alike("pipeline_parallel_size pp", "pp"),
    **alike("data_parallel_size dp", "dp"),
    **alike("enable_expert_parallel ep", Coded("expert_parallel", ON)),
    "max_model_len": By(_context, "context"), "gpu_memory_utilization": "gpu_memory_utilization",
    "max_num_seqs": "max_sequences",
    "max_num_batched_tokens": "max_batched_tokens", "kv_cache_dtype": "kv_dtype", "dtype": "dtype",
    "quantization": "quantization",
    "q": "quantization", "load_format": Coded("load_format", {"auto": "", "*": ""}), "kv_cache_memory_bytes": "kv_cache_memory",
    "block_size": "block_size", "enforce_eager": Coded("eager", ON), "enable_lora": Ignored("--max-loras says how many"),
    "max_loras": "lora_adapters", "max_lora_rank": "lora_rank", "max_cpu_loras": Ignored("in host memory", True),
    **alike("lora_modules lora_extra_vocab_size lora_dtype", IDLE),
    "speculative_config": By(_speculative), "speculative_model": "draft", "num_speculative_tokens": "draft_tokens",
    "speculative_config.method": By(lambda value: {"draft_method": method_of(str(value))}, "draft_method"),
    "speculative_config.model": "draft", "speculative_config.num_speculative_tokens": "draft_tokens",
    "speculative_config.*": IDLE,
    "spec_*": Unmodelled("speculative decoding without a draft model"),
    "cpu_offload_gb": "cpu_offload_gb",
    "max_cudagraph_capture_size": "max_graph_size", "cuda_graph_sizes": "max_graph_size",
    **alike("cudagraph_capture_sizes compilation_config.cudagraph_capture_sizes", By(largest("max_graph_size"))),
    "max_seq_len_to_capture": IDLE,
    "enable_prefix_caching": Coded("prefix_caching", ON), "no_enable_prefix_caching": off("prefix_caching"),
    "rope_scaling*": Unmodelled("a stretched context"),
    "hf_overrides*": Unmodelled("settings of the model other than its own"),
    "kv_offloading_size": "cache_offload_gb", "kv_offloading_backend": Ignored("--kv-offloading-size says how much"),
    "kv_transfer_config": By(_transfer, "role"),
    **alike("decode_context_parallel_size prefill_context_parallel_size dcp", Unmodelled("a cache divided by "
            "tokens", ("1", ""))),
    **alike("num_redundant_experts eplb_config.num_redundant_experts", "redundant_experts"),
    "enable_eplb": Unmodelled("which experts are held more than once"), "eplb_config.*": IDLE,
    "eplb_config": By(_redundant, "redundant_experts"),
    **alike("compilation_config* O", Unmodelled("which CUDA graphs are captured", ())),
    "limit_mm_per_prompt": By(_images, "images"), "limit_mm_per_prompt.image": "images",
    "limit_mm_per_prompt.video": "videos",
    "skip_mm_profiling": Coded("images", {"true": 0, "": 0, "1": 0}),
    **alike("limit_mm_per_prompt* mm_encoder* mm_processor*", Unmodelled("how images are encoded, and other modalities")),
    **alike("mamba_* ssm_cache_dtype", Unmodelled("formats and blocks of recurrent states")),
    "num_gpu_blocks_override": "cache_blocks",
    "async_scheduling": IDLE, "no_async_scheduling": IDLE, "enable_sleep_mode": IDLE,
    "swap_space": Ignored("in host memory", True),
    "language_model_only": Coded("language_model_only", ON), "fully_sharded_loras": Coded("sharded_adapters", ON),

    "data_parallel_size_local": IDLE, "nnodes": "nodes",
    "all2all_backend": Coded("all_to_all", {"deepep_low_latency": "deepep-low-latency", "*": "",
                                            "deepep_high_throughput": "deepep-normal",
                                            "flashinfer_nvlink_one_sided": "one-sided"}),
    **alike("enable_dbo dbo_* moe_backend enable_flashinfer* attention_backend attention_config* "
            "kernel_config* "
            "pass_config* linear_backend", IDLE),
    **alike("host port api_key served_model_name tool_call_parser reasoning_parser* enable_auto_tool_choice trust_remote_code "
            "download_dir uvicorn_* disable_log_* enable_log_* tokenizer* chat_template* seed revision code_revision "
            "enable_chunked_prefill no_enable_chunked_prefill no_* max_log_len response_role disable_uvicorn* allowed_* ssl_* "
            "middleware root_path disable_frontend* enable_request_id* enable_server_load* return_tokens* lora_modules "
            "distributed_executor_backend ray_* worker_cls worker_extension_cls data_parallel_* stream_interval "
            "scheduling_policy "
            "generation_config override_* guided_decoding* structured_outputs* logits_processor* max_logprobs logprobs_mode "
            "disable_custom_all_reduce enable_prompt* otlp* collect_detailed* show_hidden_metrics* kv_events* "
            "config safetensors_load_strategy model_loader_* ignore_patterns use_tqdm* device hf_token hf_config_path "
            "skip_tokenizer_init allow_deprecated* additional_config cudagraph_metrics headless node_rank master_* task "
            "runner convert "
            "pooler_config* model_impl num_scheduler_steps multi_step* preemption_mode use_v2* long_prefill* max_long* "
            "max_num_partial* "
            "disable_sliding_window disable_cascade_attn disable_hybrid* enable_reasoning backend num_prompts profiler* "
            "prefix_caching_hash_algo request_* io_processor* api_server_count disable_mm* enable_mm* media_io* interleave* "
            "fail_on* optimization_level performance_mode benchmark* calculate_kv_scales kv_sharing* tool_* "
            "enable_layerwise*", IDLE),
}  # fmt: skip


def finish(out: Reading) -> None:
    out.default("what it is", engine="vllm")
    if any(row.entry.key.replace("-", "_") == "enable_lora" for row in out.imported):
        out.default(WHY, lora_adapters=1, lora_rank=16)
    elif out.says("lora_rank") and not out.says("lora_adapters"):
        out.facts.pop("lora_rank")


MARKS = ("tensor_parallel_size", "max_model_len", "gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens",
    "kv_cache_dtype",
         "enforce_eager", "enable_prefix_caching", "no_enable_prefix_caching", "enable_expert_parallel")  # fmt: skip
VLLM = Kind("vllm", "vLLM", (KEYS,), has(any_=MARKS), finish, "infer")
