"""The compute buffer of llama.cpp: what a physical batch keeps all along, and the widest moment of its graph.

ggml_backend_sched_reserve allocates a whole graph at start (src/llama-context.cpp, sched_reserve): inputs first, each other
tensor into the smallest hole that is free (ggml/src/ggml-alloc.c). Activations are fp32 whatever the weights are.
"""

from memcalc.formulas.formula import ESTIMATE, formula

COPIES = 4  # of inputs where several GPUs work on batches one after the other: GGML_SCHED_MAX_COPIES


@formula("llama.cpp", "src/llama-graph.cpp, build_attn_inp_kv: fp16 with flash attention (pull 23764), else fp32")
def mask_bytes(cells: int, tokens: int, bytes_each: int, copies: int) -> int:
    """Which cells of the cache each token of a physical batch sees.

    cells × tokens × bytes_each × copies      Returns bytes [B].

    >>> mask_bytes(cells=24576, tokens=2048, bytes_each=2, copies=1) // 2**20  # as logged
    96
    """
    return cells * tokens * bytes_each * copies


@formula("llama.cpp", "src/llama-graph.cpp, build_inp_embd: rows of the token embedding, looked up in host memory")
def embedded_bytes(tokens: int, hidden: int, copies: int) -> int:
    """The tokens of a physical batch as the first layer of a device reads them, in fp32.

    tokens × hidden × 4 × copies      Returns bytes [B].
    """
    return tokens * hidden * 4 * copies


@formula("llama.cpp", "the queries and outputs of a layer of attention, the residual and a norm, all fp32", ESTIMATE)
def attention_bytes(tokens: int, hidden: int, queries: int) -> int:
    """Attention's widest moment without its scores: norm, queries, output; the first layer's residual is its input.

    tokens × 4 × (hidden + 2 × queries)      queries: heads × head_dim. Returns bytes [B].

    >>> attention_bytes(512, 1024, 2048) / 2**20  # Qwen3 0.6B: 32.09 MiB logged, 6 of them inputs, 16 a copy of the cache
    10.0
    """
    return tokens * 4 * (hidden + 2 * queries)


@formula("llama.cpp", "src/llama-graph.cpp, build_attn_mha: kq, fp32, in place through the softmax")
def scores_bytes(cells: int, tokens: int, heads: int) -> int:
    """Attention scores without flash attention.

    cells × tokens × heads × 4      Returns bytes [B].

    >>> scores_bytes(cells=4096, tokens=512, heads=32) // 2**20
    256
    """
    return cells * tokens * heads * 4


@formula("llama.cpp", "ggml/src/ggml-cuda/fattn-common.cuh: K and V in fp16 for the kernel, reserved since pull 23907")
def copied_cache_bytes(cells: int, values: int) -> int:
    """One layer's whole cache once more in fp16, where flash attention finds it quantised.

    cells × values × 2      values: of keys and values of a token that are not fp16. Returns bytes [B].

    >>> copied_cache_bytes(cells=131072, values=2 * 4 * 256) // 2**20  # Qwen3.6 27B at 128k, as logged
    512
    """
    return cells * values * 2


@formula("llama.cpp", "src/llama-graph.cpp, build_ffn: gate, up and their product beside residual and norm", ESTIMATE)
def mlp_bytes(tokens: int, hidden: int, feed_forward: int) -> int:
    """An MLP's widest moment.

    tokens × 4 × (2 × hidden + 3 × feed_forward)      Returns bytes [B].
    """
    return tokens * 4 * (2 * hidden + 3 * feed_forward)


@formula("llama.cpp", "src/llama-graph.cpp, build_moe_ffn: gate, up, their product, down; a hole takes what fits it", ESTIMATE)
def experts_bytes(tokens: int, hidden: int, feed_forward: int, top_k: int, copied: int) -> int:
    """The widest moment of routed experts, each token once for each of its `top_k`: gate, up and product, and behind them the
    outputs where gate's and up's hole is too small for those; `copied`: the largest matrix that a GPU fetches from host
    memory [B].

    tokens × 4 × (2 × hidden + top_k × (3 × feed_forward + (hidden if hidden > 2 × feed_forward else 0))) + copied
    Returns bytes [B].

    >>> experts_bytes(512, 2048, 1024, 8, 0) / 2**20  # OLMoE: 64.09 MiB logged, 8 of them inputs
    56.0
    >>> experts_bytes(512, 1536, 512, 8, 0) / 2**20  # Granite 3.0 3B: 61.04 MiB logged, 7 of them inputs
    54.0
    """
    return tokens * 4 * (2 * hidden + top_k * (3 * feed_forward + (hidden if hidden > 2 * feed_forward else 0))) + copied


@formula("llama.cpp", "src/models/delta-net-base.cpp: convolution's inputs and outputs, queries, keys, values, gates", ESTIMATE)
def recurrent_bytes(tokens: int, hidden: int, convolved: int, inner: int) -> int:
    """The widest moment of a recurrent layer.

    tokens × 4 × (2 × hidden + 3 × convolved + 5 × inner)      convolved: channels of its convolution; inner: of its outputs.
    Returns bytes [B].
    """
    return tokens * 4 * (2 * hidden + 3 * convolved + 5 * inner)


@formula("llama.cpp", "src/llama-graph.cpp: logits of the tokens that have one, fp32")
def head_bytes(rows: int, hidden: int, vocabulary: int) -> int:
    """The head's logits and the hidden states that it reads; inputs are free by then.

    rows × 4 × (vocabulary + hidden)      rows: tokens with logits: one a sequence under llama-server since pull 23861, before
    that all. Returns bytes [B].

    >>> head_bytes(rows=512, hidden=2048, vocabulary=151936) / 2**20  # Qwen2.5 3B in 2025: 300.75 MiB logged
    300.75
    """
    return rows * 4 * (vocabulary + hidden)


@formula("llama.cpp", "src/llama-context.cpp, output_reserve: logits of one token a sequence, in host memory")
def output_bytes(rows: int, vocabulary: int) -> int:
    """Where logits end.

    rows × vocabulary × 4      Returns bytes [B].
    """
    return rows * vocabulary * 4


@formula("llama.cpp", "tools/mtmd/clip.cpp, warmup: an image's pixels and where its patches are, inputs of the graph")
def image_bytes(side: int, patches: int, position: int) -> int:
    """An image that an image tower reads, in fp32, on the GPU and in host memory.

    12 × side × side + patches × position      side [pixels]; position: bytes of a patch's place. Returns bytes [B].

    >>> round(image_bytes(1472, 8464, 16) / 2**20, 2)  # Qwen3.6: 24.93 MiB logged on the CPU
    24.93
    """
    return 12 * side * side + patches * position


@formula("llama.cpp", "tools/mtmd/clip.cpp, build_vit: queries, keys and values, or an MLP; scores without a kernel", ESTIMATE)
def tower_bytes(patches: int, hidden: int, feed_forward: int, branches: int, scored: int) -> int:
    """The widest moment of an image tower's layer.

    patches × 4 × (max(6 × hidden, 2 × hidden + branches × feed_forward) + patches × scored)      branches: 3 where the MLP is
    gated, else 1; scored: heads without flash attention, else 0. Returns bytes [B].

    >>> round((image_bytes(1472, 8464, 16) + tower_bytes(8464, 1024, 4096, 1, 0)) / 2**20, 2)  # Qwen3.5 4B: 223.30 MiB logged
    223.3
    >>> round((image_bytes(1472, 8464, 16) + tower_bytes(8464, 1152, 4304, 1, 0)) / 2**20, 2)  # Qwen3.6 27B: 248.10 MiB logged
    248.1
    >>> round((image_bytes(896, 4096, 4) + tower_bytes(4096, 1152, 4304, 1, 0)) / 2**20, 1)  # Gemma 3 12B: 121.3 MiB logged
    117.2
    >>> round((image_bytes(896, 4096, 4) + tower_bytes(4096, 1152, 4304, 1, 16)) / 2**20)  # without the kernel: 1132 MiB
    1141
    """
    return patches * 4 * (max(6 * hidden, 2 * hidden + branches * feed_forward) + patches * scored)


@formula("llama.cpp", "ggml/src/ggml-cuda/ggml-cuda.cu, get_row_split: rows of a matrix by the GPUs' parts", ESTIMATE)
def rows_bytes(matrices: int, share: float) -> int:
    """A GPU's rows of all matrices that are split.

    matrices × share      matrices [B]. Returns bytes [B].
    """
    return round(matrices * share)
