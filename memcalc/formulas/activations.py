"""The textbook activation formulas (Korthikanti et al. 2022), for 16-bit training of a GPT block with dropout.

They are an approximation for today's models: no gated MLP, no grouped heads, no fp32 norms, no logits of other sizes.
"""

from memcalc.formulas.formula import ESTIMATE, formula


@formula("korthikanti-2022", "equations 1, 2 and 4", ESTIMATE)
def layer_activation_bytes(
    tokens: int, hidden: int, heads: int, seq_len: int, tp: int, split: int, scores: int, bytes_each: int
) -> int:
    """Activations one layer keeps for its backward pass.

    tokens × hidden × (10 / split + 24 / tp + 5 × scores × heads × seq_len / (hidden × tp)) × bytes_each / 2

    tokens = micro-batch × sequence [count]; split = tp with sequence parallelism, else 1 (the parts that tensor parallelism
    leaves whole); scores = 1 when attention scores are kept, 0 under flash attention or selective recomputation;
    bytes_each [B] of the compute format: the paper's constants are for 2. Returns bytes [B].

    >>> layer_activation_bytes(tokens=2048, hidden=4096, heads=32, seq_len=2048, tp=1, split=1, scores=0, bytes_each=2)
    285212672
    """
    return round(tokens * hidden * (10 / split + 24 / tp + 5 * scores * heads * seq_len / (hidden * tp)) * bytes_each / 2)


@formula("korthikanti-2022", "section 5: only each layer's input is kept", ESTIMATE)
def recomputed_layer_bytes(tokens: int, hidden: int, split: int, bytes_each: int) -> int:
    """Bytes kept a layer under full recomputation.

    tokens × hidden × bytes_each / split. Returns bytes [B].
    """
    return tokens * hidden * bytes_each // split


@formula("pytorch-autograd", "tensors of each block, recorded operation by operation")
def tensor_bytes(size: float, layers: float) -> int:
    """Tensors of one block, in all layers that hold them.

    size × layers      size [B] of the tensors that are listed with the line; layers [count], times micro-batches in flight.
    Returns bytes [B].

    >>> tensor_bytes(size=2048 * 4096 * 2, layers=32)
    536870912
    """
    return int(size * layers)


@formula("pytorch-autograd", "tensors of each block, recorded operation by operation; fractions of a byte on average")
def rounded_tensor_bytes(size: float, layers: float, rounding: int) -> int:
    """The same where parallelism leaves fractions of a byte on average, rounded so that lines add up to their moment's bytes.

    size × layers + rounding      size [B], layers [count]; rounding [B], −1 to 1. Returns bytes [B].
    """
    return int(size * layers) + rounding


@formula("coursera-2023", "about 8 bytes of activations and temporaries a parameter", ESTIMATE)
def rule_of_thumb_activation_bytes(parameters: int, bytes_per_parameter: int) -> int:
    """Activations and temporary memory when nothing but the parameter count is known.

    parameters × bytes_per_parameter. Returns bytes [B].

    >>> rule_of_thumb_activation_bytes(parameters=1_000_000_000, bytes_per_parameter=8)
    8000000000
    """
    return parameters * bytes_per_parameter


@formula("korthikanti-2022", "equations 1, 2 and 4, times the layers held", ESTIMATE)
def textbook_activation_bytes(per_layer: int, layers: int, per_input: int, recomputed: int) -> int:
    """The textbook's activations of all layers and micro-batches that a rank holds.

    per_layer × layers + per_input × recomputed      per_input [B]: all that a recomputed layer keeps. Returns bytes [B].
    """
    return per_layer * layers + per_input * recomputed


@formula("korthikanti-2022", "section 4.3: log-softmax, its gradient and the logits' in fp32", ESTIMATE)
def textbook_logit_bytes(tokens: int, vocabulary: int, tp: int) -> int:
    """What the loss holds at its backward.

    12 × tokens × vocabulary / tp      tokens, vocabulary [count]. Returns bytes [B].
    """
    return 12 * tokens * vocabulary // tp
