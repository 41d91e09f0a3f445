"""trtllm-serve's options and the YAML beside them (tensorrt_llm/commands/serve.py), which wins."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.vllm import IDLE, largest, method_of
from memcalc.readers.launch.meanings import By, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read


def _decoding(value: Value) -> dict[str, Read]:
    """Eagle3, Eagle (which is EAGLE 3 on the PyTorch backend), MTP, NGram, Draft_Target."""
    word = str(value).strip().lower()
    method = {"eagle": "eagle3", "draft_target": "model"}.get(word) or method_of(word)
    return {"speculative": True, "draft_method": method} if method else {"speculative": True}


KEYS: KeyTable = {
    "model": "model", "backend": "backend",
    **alike("tp_size tensor_parallel_size", "tp"), **alike("pp_size pipeline_parallel_size", "pp"),
    **alike("ep_size moe_expert_parallel_size", "ep"), **alike("cp_size context_parallel_size", "cp"),
    "max_batch_size": "max_batch", "max_num_tokens": "max_batched_tokens", "max_seq_len": "context",
    **alike("kv_cache_free_gpu_memory_fraction kv_cache_free_gpu_mem_fraction free_gpu_memory_fraction "
            "kv_cache_config.free_gpu_memory_fraction", "kv_free_fraction"),
    **alike("kv_cache_dtype kv_cache_config.dtype", "kv_dtype"), "kv_cache_config.max_tokens": "max_total_tokens",
    "kv_cache_config.tokens_per_block": "block_size", "kv_cache_config.host_cache_size": "cache_offload_bytes",
    "kv_cache_config.*": IDLE,
    **alike("enable_attention_dp", "dp_attention"),
    "cuda_graph_config.max_batch_size": "cuda_graph_max_bs", "cuda_graph_config.batch_sizes": By(largest("cuda_graph_max_bs")),
    "cuda_graph_config*": IDLE,
    **alike("max_beam_width", Unmodelled("beam search", ("1", ""))),
    **alike("speculative_config.speculative_model_dir speculative_config.speculative_model", "draft"),
    **alike("speculative_config.max_draft_len speculative_config.num_nextn_predict_layers", "draft_tokens"),
    "speculative_config.decoding_type": By(_decoding, "draft_method"),
    "moe_config.load_balancer.num_slots": Unmodelled("redundant experts by slots"),
    "speculative_config.*": IDLE, "gpus_per_node": "gpus_per_node",
    "moe_config.use_low_precision_moe_combine": IDLE, "moe_config.*": IDLE,
    **alike("extra_llm_api_options config", "config_file"),
    **alike("host port log_level trust_remote_code tokenizer reasoning_parser tool_parser num_postprocess_workers "
            "metadata* cluster_size "
            "torch_compile_config.* "
            "moe_cluster* print_iter_log stream_interval enable_* disable_* scheduler_config* batching_wait* custom_* "
            "attention_dp_config* use_* torch_compile* sparse_attention_config* dtype server_role fail_fast* revision "
            "served_model_name chat_template perf_metrics* cache_transceiver_config* peft_cache_config* load_format "
            "num_fabric* "
            "allreduce_strategy nvfp4_gemm_config* return_perf* guided_decoding* build_config* max_input_len stream*", IDLE),
}  # fmt: skip


def finish(out: Reading) -> None:
    out.default("what it is", engine="tensorrt-llm")
    if "max_batch" in out.facts:
        out.follow("max_sequences", out.facts["max_batch"].value, "max_batch")


TRTLLM = Kind("trtllm", "trtllm-serve", (KEYS,), has(any_=("kv_cache_config.", "max_num_tokens", "tp_size")), finish, "infer")
