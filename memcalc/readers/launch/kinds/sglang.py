"""SGLang's options (sglang 0.5.23, srt/server_args.py)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.vllm import IDLE, ON, largest, method_of
from memcalc.readers.launch.meanings import By, Coded, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read


def _algorithm(value: Value) -> dict[str, Read]:
    """EAGLE without a draft's path is the model's own prediction layers (`finish`)."""
    method = method_of(value if isinstance(value, str) else "")
    return {"speculative": True, "draft_method": method} if method else {"speculative": True}


KEYS: KeyTable = {
    **alike("model_path model", "model"), **alike("tp tp_size tensor_parallel_size", "tp"),
    **alike("pp pp_size pipeline_parallel_size", "pp"), **alike("dp dp_size data_parallel_size", "dp"),
    **alike("ep ep_size expert_parallel_size", "ep"),
    "context_length": "context", "mem_fraction_static": "mem_fraction_static", "max_running_requests": "max_sequences",
    "chunked_prefill_size": "chunked_prefill", "max_total_tokens": "max_total_tokens", "kv_cache_dtype": "kv_dtype",
    "quantization": "quantization", "dtype": "dtype", "page_size": "block_size", "cuda_graph_max_bs": "cuda_graph_max_bs",
    "cuda_graph_max_bs_decode": "cuda_graph_max_bs",
    **alike("cuda_graph_bs cuda_graph_bs_decode", By(largest("cuda_graph_max_bs"))),
    "disable_cuda_graph": Coded("eager", ON), "enable_dp_attention": Coded("dp_attention", ON),
    **alike("speculative_draft_model_path speculative_draft_model", "draft"), "speculative_num_draft_tokens": "draft_tokens",
    **alike("speculative_algorithm speculative_algo", By(_algorithm, "speculative")), "speculative_*": IDLE,
    "cpu_offload_gb": "cpu_offload_gb", "nnodes": "nodes",
    "hicache_size": "cache_offload_rank_gb",
    **alike("enable_hierarchical_cache hicache_ratio", Unmodelled("a cache in host memory of a size by the GPU's")),
    "hicache_*": IDLE,
    **alike("swa_full_tokens_ratio max_mamba_cache_size mamba_*", Unmodelled("how the cache is divided among kinds of layers")),
    "mamba_ssm_dtype": Unmodelled("the format of recurrent states", ("", "float32")),
    "enable_memory_saver": IDLE, "max_loras_per_batch": "lora_adapters", "max_lora_rank": "lora_rank", "lora_paths": IDLE,
    "ep_num_redundant_experts": "redundant_experts", "enable_eplb": Unmodelled("which experts are held more than once"),
    "moe_a2a_backend": Coded("all_to_all", {"deepep": "deepep", "*": ""}), "enable_deepep_moe": Coded("all_to_all", {
        "true": "deepep", "": "deepep", "1": "deepep"}),
    "deepep_mode": Coded("deepep_mode", {"auto": "", "normal": "normal", "low_latency": "low-latency"}),
    "disaggregation_mode": Coded("role", {"prefill": "prefill", "decode": "decode", "null": ""}), "disaggregation_*": IDLE,
    **alike("language_only language_model_only", Coded("language_model_only", ON)),
    "json_model_override_args": Unmodelled("settings of the model other than its own"),
    "enable_prefix_caching": IDLE,
    "moe_dense_tp_size": Unmodelled("dense layers divided otherwise"),
    **alike("cuda_graph_* enable_piecewise* piecewise* num_continuous* max_prefill_tokens max_queued* "
            "disable_radix_cache "
            "host port api_key served_model_name tool_call_parser reasoning_parser trust_remote_code dist_init_addr "
            "nccl_* node_rank "
            "schedule_* scheduler_* log_* enable_metrics* tokenizer* chat_template stream_interval attention_backend "
            "prefill_attention_backend decode_attention_backend nsa_* moe_* deepep* enable_flashinfer* flashinfer* "
            "enable_deepep* "
            "enable_torch* torch_compile* disable_* enable_* mm_* load_* random_seed watchdog* warmups model_loader* sampling* "
            "download_dir revision device decode_log* base_gpu_id gpu_id_step data_parallel_* load_balance* fp8_* fp4_* "
            "kt_* crash_dump* skip_* show_* dist_timeout constrained* grammar* preferred* hooks weight_* "
            "tbo* router_* allow_* is_embedding dllm* file_storage* triton* prefill_* decode_* bf16_* keep_mm* limit_mm*",
            IDLE),
}  # fmt: skip


def finish(out: Reading) -> None:
    facts = out.facts
    out.default("what it is", engine="sglang")
    if "chunked_prefill" in facts:
        out.follow("max_batched_tokens", facts["chunked_prefill"].value, "chunked_prefill")
    if "draft_method" in facts and facts["draft_method"].value == "eagle" and "draft" not in facts:
        out.facts["draft_method"] = facts["draft_method"]._replace(value="mtp")
    tp, pp, dp = (facts[name].value if name in facts else 1 for name in ("tp", "pp", "dp"))
    if all(isinstance(size, int) for size in (tp, pp, dp)) and "tp" in facts:
        replicas = 1 if out.says("dp_attention", True) else dp
        out.follow("gpus", tp * pp * replicas, "tp", "pp", "dp", "dp_attention")  # type: ignore[operator]


SGLANG = Kind(
    "sglang", "SGLang", (KEYS,), has(any_=("mem_fraction_static", "model_path", "chunked_prefill_size")), finish, "infer"
)
