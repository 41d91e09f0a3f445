"""Compute of training and inference: FLOPs, petaFLOP/s-days, accelerator-hours, utilisation.

A multiply-add is 2 FLOP, a backward pass twice a forward. MFU counts what the model needs, HFU what the hardware does, with
recomputation. Attention scores are counted over all pairs unless a formula says causal.
"""

from memcalc.formulas.formula import ESTIMATE, formula


@formula("kaplan-2020", "section 2.1: 2 N forward, 4 N backward", ESTIMATE)
def dense_training_flops(parameters: float, tokens: float) -> float:
    """Training FLOPs by the rule of thumb, C = 6 N D: every parameter once a token, attention scores left out.

    6 × parameters × tokens. parameters [count]: those a token passes through (active). Returns [FLOP].

    >>> dense_training_flops(parameters=175_000_000_000, tokens=300_000_000_000)
    315000000000000000000000
    """
    return 6 * parameters * tokens


@formula("narayanan-2021", "section 5.1, equation 4", ESTIMATE)
def recomputed_training_flops(parameters: float, tokens: float) -> float:
    """The same with full activation recomputation, one more forward: 8 N D. A hardware count.

    8 × parameters × tokens [count]. Returns [FLOP].
    """
    return 8 * parameters * tokens


@formula("brown-2020", "table D.1: a token passes the encoder or the decoder", ESTIMATE)
def encoder_decoder_training_flops(parameters: float, tokens: float) -> float:
    """Training FLOPs of an encoder-decoder, whose tokens each use half of the parameters: 3 N D.

    3 × parameters × tokens [count]. Returns [FLOP].

    >>> encoder_decoder_training_flops(parameters=11_000_000_000, tokens=10**12)  # T5-11B
    33000000000000000000000
    """
    return 3 * parameters * tokens


@formula("chowdhery-2022", "appendix B", ESTIMATE)
def palm_training_flops(parameters: float, tokens: float, layers: int, heads: int, head_dim: int, seq_len: int) -> float:
    """PaLM's model FLOPs: 6 N and attention, (6 N + 12 L H Q T) D; scores of masked pairs count too.

    parameters, tokens, seq_len T [count]. Returns [FLOP].
    """
    return (6 * parameters + 12 * layers * heads * head_dim * seq_len) * tokens


@formula("megatron-lm", "num_floating_point_operations: a causal mask halves the scores", ESTIMATE)
def palm_causal_training_flops(parameters: float, tokens: float, layers: int, heads: int, head_dim: int, seq_len: int) -> float:
    """The same with the causal mask taken into account: (6 N + 6 L H Q T) D.

    parameters, tokens, seq_len T [count]. Returns [FLOP].
    """
    return (6 * parameters + 6 * layers * heads * head_dim * seq_len) * tokens


@formula("narayanan-2021", "section 5.1, equation 2", ESTIMATE)
def gpt_parameters(layers: int, hidden: int, vocabulary: int, seq_len: int) -> float:
    """Parameters of a GPT-2 style model, 12 l h² (1 + 13 / 12h + (V + s) / 12lh).

    layers l, hidden h, vocabulary V, seq_len s [count]. Returns a [count].
    """
    return 12 * layers * hidden**2 * (1 + 13 / (12 * hidden) + (vocabulary + seq_len) / (12 * layers * hidden))


@formula("narayanan-2021", "section 5.1, equation 3", ESTIMATE)
def narayanan_flops(sequences: float, seq_len: int, layers: int, hidden: int, vocabulary: int) -> float:
    """Hardware FLOPs of a GPT-2 style model with full recomputation, 96 B s l h² (1 + s / 6h + V / 16lh).

    sequences B, each of seq_len s [count]. Returns [FLOP].
    """
    return 96 * sequences * seq_len * layers * hidden**2 * (1 + seq_len / (6 * hidden) + vocabulary / (16 * layers * hidden))


@formula("hoffmann-2022", "appendix F, as written: embedding and logits as matrix products, softmax too", ESTIMATE)
def hoffmann_flops(
    sequences: float, seq_len: int, layers: int, hidden: int, heads: int, head_dim: int, feed_forward: int, vocabulary: int
) -> float:
    """Chinchilla's count, three times its forward: embeddings, projections, scores, softmax, mixing, MLP and logits.

    3 B (2sVd + L (6 s d HQ + 4 s² HQ + 3 H s² + 2 s HQ d + 4 s d F) + 2sdV). All [count]. Returns [FLOP].
    """
    return (
        3
        * sequences
        * (
            4 * seq_len * vocabulary * hidden
            + layers
            * (
                8 * seq_len * hidden * heads * head_dim
                + 4 * seq_len**2 * heads * head_dim
                + 3 * heads * seq_len**2
                + 4 * seq_len * hidden * feed_forward
            )
        )
    )


@formula("memcalc", "the tape: every matrix product of the block, 2 FLOP a multiply-add")
def block_flops(per_token: float, tokens: float, per_pair: float, pairs: float, layers: float) -> float:
    """FLOPs of one block in all layers that have it.

    (per_token × tokens + per_pair × pairs) × layers

    per_token, per_pair [FLOP]; tokens, pairs of queries and keys [count]. Returns [FLOP].
    """
    return (per_token * tokens + per_pair * pairs) * layers


@formula("amodei-2018", "a petaFLOP/s-day is 1e15 FLOP/s for a day")
def petaflop_days(flops: float) -> float:
    """PetaFLOP/s-days: 1 = 1e15 × 86 400 = 8.64e19 FLOP.

    flops [FLOP]. Returns petaFLOP/s-days [count].

    >>> petaflop_days(flops=8.64e19)
    1.0
    """
    return flops / 8.64e19


@formula("chowdhery-2022", "appendix B: model FLOPs over peak FLOPs")
def accelerator_hours(flops: float, peak: float, utilisation: float) -> float:
    """Accelerator-hours that model FLOPs take at a utilisation of the dense peak.

    flops [FLOP], peak [FLOP/s]. Returns hours [count].

    >>> round(accelerator_hours(flops=3.14e23, peak=125e12, utilisation=0.1968))  # GPT-3 at 24.6 TFLOP/s of a V100
    3545619
    """
    return flops / (3600 * peak * utilisation)


@formula("chowdhery-2022", "appendix B")
def model_flops_utilisation(flops_per_token: float, tokens_per_second: float, accelerators: float, peak: float) -> float:
    """MFU: model FLOPs a second over the dense peak of all accelerators.

    flops_per_token [FLOP], peak [FLOP/s of one]. Returns a share [count].
    """
    return flops_per_token * tokens_per_second / (accelerators * peak)


@formula("chowdhery-2022", "section 4.1: HFU counts rematerialisation")
def hardware_flops_utilisation(mfu: float, hardware_flops: float, model_flops: float) -> float:
    """HFU: what the hardware executes, recomputation included, over its dense peak.

    hardware_flops, model_flops [FLOP]. Returns a share [count].
    """
    return mfu * hardware_flops / model_flops


@formula("narayanan-2021", "section 5.1, equation 4", ESTIMATE)
def narayanan_training_days(parameters: float, tokens: float, accelerators: float, achieved: float) -> float:
    """End-to-end days with full recomputation, 8 T P / (n X).

    parameters, tokens [count], achieved = hardware [FLOP/s] of one accelerator. Returns days [count].
    """
    return 8 * tokens * parameters / (accelerators * achieved) / 86400


@formula("memcalc", "hours of all accelerators, spread over them")
def wall_clock_days(accelerator_hours: float, accelerators: float) -> float:
    """Days that a job takes on so many accelerators [count]. Returns days [count]."""
    return accelerator_hours / (24 * accelerators)
