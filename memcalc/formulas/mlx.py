"""What mlx-lm allocates of a chunk of a prompt. MLX frees an array as soon as nothing needs it, and writes results over inputs
of their size where it can; what it keeps for reuse is given back at its limit, so it is not counted.

Source: mlx-lm generate.py (generate_step), models/base.py, models/switch_layers.py; mlx fast.cpp (the unfused attention),
mlx/backend/metal/scaled_dot_product_attention.cpp (use_fallback).
"""

from memcalc.formulas.formula import ESTIMATE, formula

# Widths of heads whose attention over a prompt is one kernel; all other scores are in memory.
FUSED = (64, 72, 80, 96, 128)


@formula(
    "mlx", "fast.cpp, scaled_dot_product_attention: scores in the model's format, written over by mask and softmax", ESTIMATE
)
def mlx_scores_bytes(tokens: int, cells: int, heads: int, hidden: int, queries: int, bytes_each: int) -> int:
    """Attention scores of a chunk where no kernel fuses them, with their mask, the queries, outputs and the residual.

    tokens × (cells × (heads × bytes_each + 1) + (2 × hidden + 2 × queries) × bytes_each)      Returns bytes [B].

    >>> grown = mlx_scores_bytes(2048, 2, 16, 0, 0, 2) - mlx_scores_bytes(2048, 1, 16, 0, 0, 2)
    >>> grown + 10 * 2 * 2 * 256 * 2  # Qwen3.5 35B-A3B: bytes a token of context, with the cache; about 86 KB were logged
    88064
    """
    return tokens * (cells * (heads * bytes_each + 1) + (2 * hidden + 2 * queries) * bytes_each)


@formula("mlx", "models/llama.py: the residual, its norm, queries, keys, values and outputs", ESTIMATE)
def mlx_attention_bytes(tokens: int, hidden: int, queries: int, grown: int, bytes_each: int) -> int:
    """Attention in one kernel; a layer's keys or values once more while they grow.

    tokens × (2 × hidden + 4 × queries) × bytes_each + grown      grown [B]. Returns bytes [B].
    """
    return tokens * (2 * hidden + 4 * queries) * bytes_each + grown


@formula("mlx", "models/llama.py, MLP: gate, up and their product beside the residual and its norm", ESTIMATE)
def mlx_mlp_bytes(tokens: int, hidden: int, feed_forward: int, bytes_each: int) -> int:
    """An MLP's widest moment.

    tokens × (2 × hidden + 3 × feed_forward) × bytes_each      Returns bytes [B].
    """
    return tokens * (2 * hidden + 3 * feed_forward) * bytes_each


@formula("mlx", "models/switch_layers.py, SwitchGLU: tokens sorted by expert, each once for each of its experts", ESTIMATE)
def mlx_experts_bytes(tokens: int, hidden: int, feed_forward: int, top_k: int, shared: int, bytes_each: int) -> int:
    """The widest moment of routed experts: gate, up and product, or the sorted tokens beside gate and up, or outputs twice.

    tokens × (2 × hidden + shared + top_k × max(3 × feed_forward, 2 × feed_forward + hidden, 2 × hidden)) × bytes_each
    shared: the shared expert's width. Returns bytes [B].
    """
    return tokens * (2 * hidden + shared + top_k * max(3 * feed_forward, 2 * feed_forward + hidden, 2 * hidden)) * bytes_each


@formula("mlx", "models/gated_delta.py, ssm.py: the convolution's inputs and outputs, queries, keys, values, gates", ESTIMATE)
def mlx_recurrent_bytes(tokens: int, hidden: int, convolved: int, inner: int, bytes_each: int) -> int:
    """The widest moment of a recurrent layer.

    tokens × (2 × hidden + 3 × convolved + 5 × inner) × bytes_each      convolved: channels of its convolution; inner: of its
    outputs. Returns bytes [B].
    """
    return tokens * (2 * hidden + 3 * convolved + 5 * inner) * bytes_each


@formula("mlx", "generate.py, _step: logits of the last token and their logarithms", ESTIMATE)
def mlx_logits_bytes(rows: int, vocabulary: int, bytes_each: int) -> int:
    """Logits of one step.

    3 × rows × vocabulary × bytes_each      Returns bytes [B].
    """
    return 3 * rows * vocabulary * bytes_each
