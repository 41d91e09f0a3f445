"""What a serving engine allocates beside weights and cache: tables, buffers of a forward pass, of sampling, adapters."""

from memcalc.formulas.formula import ASSUMED, ESTIMATE, formula

GIB = 2**30
SAMPLER_ROWS = 132  # rows of the top-k, top-p kernel's buffer: one a streaming multiprocessor, an H100's


@formula("vllm", "model_executor/layers/rotary_embedding: cos_sin_cache [positions, rotary_dim]")
def rotary_table_bytes(positions: int, rotary_dim: int, bytes_per_value: int) -> int:
    """Cosines and sines of every position, kept whole by every rank.

    positions × rotary_dim × bytes_per_value      Returns bytes [B].

    >>> rotary_table_bytes(131072, 128, 2) // 2**20  # Llama 3.1: the 0.03 GiB between 14.96 of weights and 14.99 logged
    32
    """
    return positions * rotary_dim * bytes_per_value


@formula("vllm", "v1/worker/gpu_model_runner.py, profile_run: the last hidden states, all and those that logits are made of")
def hidden_states_bytes(tokens: int, rows: int, hidden: int, bytes_per_value: int) -> int:
    """The forward pass's result, [tokens, hidden], and the rows of it that the head reads, [rows, hidden].

    (tokens + rows) × hidden × bytes_per_value      Returns bytes [B].
    """
    return (tokens + rows) * hidden * bytes_per_value


@formula(
    "vllm", "v1/sample/sampler.py: logits, their fp32 copy, probabilities, exponential noise, top-k top-p buffer", ESTIMATE
)
def sampling_bytes(rows: int, vocabulary: int, bytes_per_value: int, kernel_rows: int) -> int:
    """Logits of one step in the model's format and three fp32 tensors of their shape; a buffer of the filtering kernel.

    rows × vocabulary × (bytes_per_value + 12) + kernel_rows × vocabulary × 4      Returns bytes [B].

    >>> sampling_bytes(1024, 128256, 2, 132) / 2**30 < 1.89  # Llama 3.1 8B, vLLM 0.19: with the hidden states, 1.89 GiB
    True
    """
    return rows * vocabulary * (bytes_per_value + 12) + kernel_rows * vocabulary * 4


@formula(
    "transformers", "generation/logits_process.py, TopPLogitsWarper: fp32 logits, sorted values and indices, sums", ESTIMATE
)
def sorted_sampling_bytes(rows: int, vocabulary: int, bytes_per_value: int) -> int:
    """Logits of the last token of each sequence, in the model's format and as sampling with top-p sorts them.

    rows × vocabulary × (bytes_per_value + 4 + 4 + 8 + 4 + 4)      Returns bytes [B].
    """
    return rows * vocabulary * (bytes_per_value + 4 + 4 + 8 + 4 + 4)


@formula("sglang", "layers/sampler.py: logits and their probabilities in fp32", ESTIMATE)
def logits_bytes(rows: int, vocabulary: int, bytes_per_value: int) -> int:
    """Logits of one step in the model's format, and probabilities in fp32.

    rows × vocabulary × (bytes_per_value + 4)      Returns bytes [B].
    """
    return rows * vocabulary * (bytes_per_value + 4)


@formula("measured-serving", "growth of a prefill's peak with the prompt: 3 × ff + 4 × h values a token", ESTIMATE)
def forward_bytes(tokens: int, feed_forward: int, hidden: int, bytes_per_value: int) -> int:
    """The widest moment of a layer: gate, up and their product, with the residual stream and its norms.

    tokens × (3 × feed_forward + 4 × hidden) × bytes_per_value      feed_forward: on this rank, of the experts that a token
    passes through all together. Returns bytes [B].
    """
    return tokens * (3 * feed_forward + 4 * hidden) * bytes_per_value


@formula("vllm", "model_executor/layers/fused_moe, TritonExperts.workspace_shapes; v1/worker/workspace.py keeps them", ESTIMATE)
def experts_workspace_bytes(tokens: int, feed_forward: int, hidden: int, top_k: int, bytes_per_value: int) -> int:
    """Two workspaces of fused experts with a row for each token and expert, one for what goes in and out, one for gate and up.

    tokens × top_k × (max(feed_forward, hidden) + max(2 × feed_forward, hidden)) × bytes_per_value      feed_forward: of an
    expert on this rank. They are kept from one pass to the next, so sampling stands beside them. Returns bytes [B].

    >>> experts_workspace_bytes(8192, 1408, 2048, 6, 2) / 2**30  # DeepSeek-V2-Lite
    0.4453125
    """
    return tokens * top_k * (max(feed_forward, hidden) + max(2 * feed_forward, hidden)) * bytes_per_value


@formula("vllm", "model_executor/layers/attention/mla_attention.py: the profile's kv_b_proj of a chunk of contexts")
def latent_context_bytes(tokens: int, heads: int, widths: int, bytes_per_value: int) -> int:
    """Keys and values that latent attention makes of a chunk of earlier tokens while it reads a prompt.

    tokens × heads × widths × bytes_per_value      heads: on this rank; widths: of a key without its rotated part and of a
    value. Returns bytes [B].

    >>> latent_context_bytes(65536, 128, 256, 2) // 2**30  # DeepSeek-V3 on one rank
    4
    """
    return tokens * heads * widths * bytes_per_value


def latent_chunk(context: int, sequences: int, block: int) -> int:
    """Tokens of that chunk: eight contexts or four pages of each sequence, 64 Ki at most, a page of each sequence at least.

    min(max(8 × context, 4 × sequences × block), 65536), sequences × block at least      Returns a number [tokens].

    >>> latent_chunk(8192, 1024, 16), latent_chunk(1024, 16, 16)
    (65536, 8192)
    """
    return max(min(max(8 * context, 4 * sequences * block), 2**16), sequences * block)


@formula(
    "vllm", "v1/worker/gpu_model_runner.py: intermediate_tensors, hidden states and residual of the stage before", ESTIMATE
)
def stage_input_bytes(tokens: int, hidden: int, bytes_per_value: int) -> int:
    """What a pipeline stage receives, two tensors of [tokens, hidden].

    2 × tokens × hidden × bytes_per_value      Returns bytes [B].
    """
    return 2 * tokens * hidden * bytes_per_value


@formula("vllm", "v1/attention/backends/mla/common.py, process_weights_after_loading: W_UK_T and W_UV of a quantised kv_b_proj")
def absorbed_bytes(elements: int, bytes_per_value: int) -> int:
    """Latent attention's up-projection once more, in the compute format: queries and outputs absorb it, and a quantised
    matrix cannot be cut into heads.

    elements × bytes_per_value      Returns bytes [B].
    """
    return elements * bytes_per_value


@formula("weight-file", "the header's byte ranges")
def file_bytes(stored: int, held: int, whole: int) -> int:
    """Bytes of a file's tensors, of which a rank holds held / whole.

    ceil(stored × held / whole)      Returns bytes [B].

    >>> file_bytes(1000, 1, 1), file_bytes(1001, 1, 2)
    (1000, 501)
    """
    return -(-stored * held // whole)


@formula("hu-2021", "section 4.1: A [rank, inputs] and B [outputs, rank] beside every linear")
def adapter_bytes(adapters: int, rank: int, widths: int, bytes_per_value: int) -> int:
    """Slots for adapters served beside the model.

    adapters × rank × widths × bytes_per_value      widths: inputs + outputs summed over all adapted linears of this rank.
    Returns bytes [B].
    """
    return adapters * rank * widths * bytes_per_value


@formula("vllm", "v1/core/kv_cache_utils.py: groups of equal size share pages of equal size", ESTIMATE)
def page_padding_bytes(blocks: int, block_bytes: int, used: int) -> int:
    """What pages hold beyond the tokens' own bytes: layers that fill up a group, states smaller than a page.

    max(0, blocks × block_bytes − used)      Returns bytes [B].
    """
    return max(0, blocks * block_bytes - used)


@formula("measured-serving", "memory outside PyTorch's allocator that a forward pass adds, by GPU generation", ASSUMED)
def outside_bytes(outside: int) -> int:
    """Libraries' workspaces, kernels loaded late and, on several GPUs, communicators, as the engine's profile counts them.

    outside [B]. Returns bytes [B].
    """
    return outside


@formula("measured-serving", "CUDA graphs of vLLM 0.19 on an H100: 26 logs, 8 to 80 layers, 51 sizes captured", ESTIMATE)
def captured_bytes(sizes: int, layers: int) -> int:
    """CUDA graphs of every captured size: a part for each, and one for each of its layers.

    sizes × (8 + 0.3 × layers) MiB      Returns bytes [B].

    >>> round(captured_bytes(51, 32) / 2**30, 2)  # Llama 3.1 8B: 0.84 GiB estimated, 0.91 taken
    0.88
    """
    return round(sizes * (8 + 0.3 * layers) * 2**20)


def captured_sizes(sequences: int, tokens: int, largest: int | None = None) -> int:
    """Batches for which vLLM captures graphs by default: vllm/config/vllm.py, _set_cudagraph_sizes.

    1, 2, 4, then by 8 below 256 and by 16 above, up to the largest, min(2 × sequences, 512) where none is said, and the tokens
    of a pass. Returns a number [count].

    >>> captured_sizes(1024, 8192), captured_sizes(1, 2048)
    (51, 2)
    """
    most = min(largest or min(2 * sequences, 512), tokens)
    small = sum(size <= most for size in (1, 2, 4))
    return small + len(range(8, min(most + 1, 256), 8)) + len(range(256, most + 1, 16))


@formula("vllm", "v1/worker/gpu_model_runner.py, profile_run: batched_dummy_mm_inputs, alive until its end")
def pixels_bytes(patches: int, values: int, bytes_per_value: int) -> int:
    """Images of a profile as their tower takes them.

    patches × values × bytes_per_value      values: of a patch in all colours. Returns bytes [B].

    >>> pixels_bytes(32 * 4096, 3 * 14 * 14, 2) // 2**20  # Gemma 3: 32 images of 896 × 896
    147
    """
    return patches * values * bytes_per_value


@formula("vllm", "v1/worker/gpu_model_runner.py, profile_run: encoder_cache, cleared at its end")
def embeddings_bytes(tokens: int, hidden: int, bytes_per_value: int) -> int:
    """What the language model reads of a profile's images.

    tokens × hidden × bytes_per_value      Returns bytes [B].
    """
    return tokens * hidden * bytes_per_value


@formula("measured-serving", "as of the language model's layers: gate, up and product, or what enters and leaves one", ESTIMATE)
def tower_bytes(patches: int, feed_forward: int, hidden: int, kept: int, bytes_per_value: int) -> int:
    """The widest moment of a tower's layer over all images of a profile.

    patches × (kept × feed_forward + 4 × hidden) × bytes_per_value      kept: 3 of a gated feed-forward, else 2; feed_forward:
    on this rank. Returns bytes [B].
    """
    return patches * (kept * feed_forward + 4 * hidden) * bytes_per_value


@formula("vllm", "config/kv_transfer.py, kv_buffer_size; tensorrt_llm/llmapi/llm_args.py, CacheTransceiverConfig")
def transfer_bytes(buffer: int) -> int:
    """Buffers through which a cache is handed from a server that reads prompts to one that answers.

    buffer [B]. Returns bytes [B].
    """
    return buffer


@formula("vllm", "config/cache.py, kv_offloading_size; sglang hicache_size; lmcache max_local_cpu_size")
def offloaded_bytes(tier: int) -> int:
    """Host memory that is set apart for blocks of the cache which leave the GPU.

    tier [B]. Returns bytes [B].
    """
    return tier


def outside(generation: str, several: bool) -> int:
    """Bytes that vLLM's profile finds outside PyTorch's allocator, of one GPU or of one of several that share layers.

    >>> outside("sm_90", False) / 2**30, outside("sm_89", True) / 2**30
    (0.25, 0.25)
    """
    return OUTSIDE.get(generation, OUTSIDE["sm_90" if generation.startswith("sm_1") else "sm_80"])[several]


# Readings of "non-torch memory" in logs: one GPU, one of several. sm_90: vLLM 0.19; the others: earlier versions.
OUTSIDE: dict[str, tuple[int, int]] = {
    "sm_75": (GIB // 100, GIB // 5),  # T4
    "sm_80": (GIB * 12 // 100, GIB // 2),
    "sm_86": (GIB // 20, GIB // 5),  # A10, RTX 3090
    "sm_89": (GIB // 10, GIB // 4),  # RTX 4090
    "sm_90": (GIB // 4, GIB * 21 // 10),  # H100
}
