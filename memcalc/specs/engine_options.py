"""What of a server's settings only some engines have, and what they accept."""

from collections.abc import Callable

from memcalc.formulas.serving_engines import ServingEngine
from memcalc.specs.offloading import Offloading

# Options that only some engines have: name, default, what such an engine does, which engines do.
ENGINE_OPTIONS: tuple[tuple[str, object, str, Callable[[ServingEngine], bool]], ...] = (
    ("shared_prefix", 0, "keeps a common prefix once", lambda row: row.shares),
    ("kv_cache_memory", None, "takes a pool of memory for its cache", lambda row: row.pooled),
    ("block_size", None, "lets one choose the size of its blocks", lambda row: row.pooled and row.block > 1),
    ("eager", False, "captures CUDA graphs", lambda row: row.graphs),
    *(
        (name, getattr(Offloading, name).default, "puts layers where one says", lambda row: row.host_embedding)
        for name in Offloading.__annotations__
    ),
    ("gpu_experts", 0, "keeps experts in host memory", lambda row: row.experts_on_host),
    ("host_experts", None, "keeps experts in host memory", lambda row: row.experts_on_host),
    ("pp_layers", (), "takes stages of any number of layers", lambda row: row.pooled),
    ("attention_dp", 1, "divides requests among groups of ranks", lambda row: row.request_groups),
    ("all_to_all", None, "exchanges tokens of experts", lambda row: bool(row.exchanges)),
    ("redundant_experts", 0, "holds experts more than once", lambda row: row.pooled),
    ("role", None, "reads prompts and answers on servers apart", lambda row: row.pooled),
    ("transfer_buffer", 0, "hands its cache on", lambda row: row.pooled),
    ("cache_tokens", None, "takes a pool of memory for its cache", lambda row: row.pooled),
    ("cache_offload", None, "keeps blocks of its cache in host memory too", lambda row: row.pooled),
    ("prefix_hit_rate", 0.0, "keeps a common prefix once", lambda row: row.shares),
    ("max_graph_batch", None, "captures CUDA graphs", lambda row: row.graphs),
    ("images_per_prompt", None, "profiles images", lambda row: row.profiles_inputs),
    ("sharded_adapters", False, "divides its slots of adapters", lambda row: row.shards_adapters),
    ("max_batched_tokens", None, "bounds the tokens of a forward pass", lambda row: bool(row.name) and not row.whole_prompt),
    ("max_sequences", None, "bounds the sequences of a step", lambda row: row.sequences is not None),
)


# What a block of the cache may be: vllm/v1/attention/backends/flash_attn.py, get_supported_kernel_block_sizes; TensorRT-LLM's
# KvCacheManager asserts a power of two.
BLOCKS: dict[str, Callable[[int], str]] = {
    "vllm": lambda size: "blocks of a multiple of 16 tokens" if size % 16 else "",
    "tensorrt-llm": lambda size: "blocks of a power of two of tokens" if size & (size - 1) else "",
}
