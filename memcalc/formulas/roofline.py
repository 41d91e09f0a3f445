"""The roofline of generation: what computing, reading memory and the links between GPUs each take, and which one binds.

A pass takes at least as long as the slowest of the three. Rates are the data sheet's times a share that real engines
reach; at a share of 1 no measurement can be faster.
"""

from memcalc.formulas.energy import Default
from memcalc.formulas.formula import ASSUMED, ESTIMATE, formula

# What published measurements reach, of the dense peak, the memory bandwidth and the link. The keys are sources.
MFU = Default(0.33, 0.50, 0.67, "prefill reaches 33 to 67 % of the dense peak (TensorRT-LLM: Llama on A100, H100 and L40S)")
MBU = Default(0.27, 0.60, 0.73, "decode reaches 27 to 73 % of the memory bandwidth (gpt-fast on A100; Databricks: 55 to 60 %)")
LINK = Default(0.83, 0.84, 0.84, "links reach 84 % of their bandwidth (NVLink 4: 376 to 380 of 450 GB/s)")


@formula("tensorrt-llm-performance", "first-token latency of 2048 tokens, LLaMA 7B and 70B", ASSUMED)
def compute_utilisation(mfu: float) -> float:
    """MFU, the share of the dense peak that arithmetic reaches. mfu [count]. Returns a share [count]."""
    return mfu


@formula("gpt-fast", "tokens a second × bytes a token, of the data sheet's bandwidth", ASSUMED)
def bandwidth_utilisation(mbu: float) -> float:
    """MBU, the share of the memory bandwidth that a decode step reaches. mbu [count]. Returns a share [count]."""
    return mbu


@formula("nccl-nvlink", "large messages", ASSUMED)
def link_utilisation(efficiency: float) -> float:
    """The share of the link's bandwidth that messages reach. efficiency [count]. Returns a share [count]."""
    return efficiency


@formula("williams-2009", "the horizontal roof, at the share of the peak that engines reach", ASSUMED)
def compute_seconds(flops: float, sequences: float, ranks: int, peak: float, mfu: float) -> float:
    """Time that the arithmetic of one pass takes, divided evenly over tensor-parallel ranks.

    flops × sequences / (ranks × peak × mfu)      flops [FLOP] of one sequence, peak [FLOP/s] dense, of one rank.
    Returns seconds [s].

    >>> compute_seconds(flops=16e9, sequences=8, ranks=1, peak=1e15, mfu=0.5)
    0.000256
    """
    return flops * sequences / (ranks * peak * mfu)


@formula("williams-2009", "the slanted roof, at the share of the bandwidth that engines reach", ASSUMED)
def memory_seconds(bytes_moved: float, bandwidth: float, mbu: float) -> float:
    """Time that reading and writing a rank's own memory takes in one pass.

    bytes_moved / (bandwidth × mbu)      bytes_moved [B], bandwidth [B/s] of one rank. Returns seconds [s].

    >>> memory_seconds(bytes_moved=16e9, bandwidth=2e12, mbu=0.5)
    0.016
    """
    return bytes_moved / (bandwidth * mbu)


@formula("nccl-nvlink", "the bytes alone, without the latency of each message", ASSUMED)
def link_seconds(bytes_sent: float, bandwidth: float, efficiency: float) -> float:
    """Time that one rank's messages take on its link.

    bytes_sent / (bandwidth × efficiency)      bytes_sent [B], bandwidth [B/s] one way. Returns seconds [s].
    """
    return bytes_sent / (bandwidth * efficiency)


@formula("williams-2009", "attainable performance is the lower of the roofs: all overlap in full", ASSUMED)
def bound_seconds(compute: float, memory: float, link: float) -> float:
    """The least time of one pass: the slowest resource, the others hidden behind it.

    compute, memory, link [s]. Returns seconds [s].
    """
    return max(compute, memory, link)


@formula("memcalc", "nothing overlaps", ASSUMED)
def serial_seconds(compute: float, memory: float, link: float) -> float:
    """One pass where each resource waits for the others.

    compute, memory, link [s]. Returns seconds [s].
    """
    return compute + memory + link


@formula("memcalc", "tokens of a pass over its time", ASSUMED)
def tokens_per_second(tokens: float, seconds: float) -> float:
    """Rate of tokens [count] that one pass makes or reads in so many seconds [s]. Returns tokens a second [1/s]."""
    return tokens / seconds


@formula("williams-2009", "operational intensity: operations a byte of memory traffic", ESTIMATE)
def arithmetic_intensity(flops: float, sequences: float, ranks: int, bytes_moved: float) -> float:
    """FLOPs that one rank computes for each byte it moves.

    flops [FLOP] of one sequence, bytes_moved [B] by one rank. Returns intensity [FLOP] a byte [B].
    """
    return flops * sequences / (ranks * bytes_moved)


@formula("williams-2009", "the ridge point, where the two roofs meet")
def ridge_point(peak: float, bandwidth: float) -> float:
    """Intensity from which an accelerator at its data sheet's rates is bound by compute.

    peak [FLOP/s], bandwidth [B/s]. Returns intensity [FLOP] a byte [B].

    >>> round(ridge_point(peak=989.4e12, bandwidth=3.35e12))  # H100 SXM, bf16
    295
    """
    return peak / bandwidth


@formula("memcalc", "expected distinct experts, every choice of top_k of n equally likely and independent", ESTIMATE)
def expert_bytes_read(held: float, experts: int, top_k: int, tokens: float) -> float:
    """Bytes of the routed experts that at least one of the tokens chose.

    held × (1 − (1 − top_k / experts)^tokens)      held [B] by one rank, top_k of experts [count] a token. Returns bytes [B].

    >>> expert_bytes_read(held=256.0, experts=8, top_k=2, tokens=1), expert_bytes_read(256.0, 8, 2, tokens=2)
    (64.0, 112.0)
    """
    return held * (1 - (1 - top_k / experts) ** tokens)  # type: ignore[no-any-return]  # float ** float, to mypy


@formula("pope-2022", "section 2: weights are loaded once a step, each sequence's cache too", ESTIMATE)
def decode_bytes(weights: float, sequences: float, cache: float, state: float) -> float:
    """Memory traffic of one rank in a decode step: weights and caches read, recurrent states read and written.

    weights + sequences × (cache + 2 × state)      weights [B], cache and state [B] of one sequence. Returns bytes [B].
    """
    return weights + sequences * (cache + 2 * state)


@formula("memcalc", "weights read once, keys, values and states written once", ESTIMATE)
def prefill_bytes(weights: float, cache: float, state: float) -> float:
    """The least memory traffic of one rank that reads a prompt, its activations left out.

    weights, cache, state [B]. Returns bytes [B].
    """
    return weights + cache + state


@formula("narayanan-2021", "section 3.2: 8 b s h (t − 1) / t elements a layer, half of them forward", ESTIMATE)
def all_reduce_bytes(ranks: int, operations: int, tokens: float, hidden: int, bytes_each: int) -> float:
    """What each tensor-parallel rank sends for the all-reduces of one pass: two in a layer, of all hidden states.

    2 (ranks − 1) / ranks × operations × tokens × hidden × bytes_each. Returns bytes [B].

    >>> all_reduce_bytes(ranks=8, operations=160, tokens=1, hidden=8192, bytes_each=2)  # Llama 2 70B, one token
    4587520.0
    """
    return 2 * (ranks - 1) / ranks * operations * tokens * hidden * bytes_each


@formula("memcalc", "each token goes to its experts and comes back; a share of 1 / ranks stays at home", ESTIMATE)
def all_to_all_bytes(ranks: int, copies: int, tokens: float, hidden: int, bytes_each: int) -> float:
    """What each rank sends to the experts of the other expert-parallel ranks, and gets back as much.

    2 (ranks − 1) / ranks × copies × tokens × hidden × bytes_each      copies: experts a token, summed over layers [count];
    tokens that one rank sends [count]. Returns bytes [B].
    """
    return 2 * (ranks - 1) / ranks * copies * tokens * hidden * bytes_each


@formula("narayanan-2021", "section 3.2: b s h elements between stages", ESTIMATE)
def pipeline_bytes(stages: int, tokens: float, hidden: int, bytes_each: int) -> float:
    """Hidden states handed from stage to stage, one after the other.

    (stages − 1) × tokens × hidden × bytes_each. Returns bytes [B].
    """
    return (stages - 1) * tokens * hidden * bytes_each


@formula("pope-2022", "section 2: where memory time equals compute time", ASSUMED)
def compute_bound_sequences(
    weights: float, flops: float, per_sequence: float, ranks: int, stages: int, peak: float, mfu: float, bandwidth: float,
    mbu: float,
) -> float:  # fmt: skip
    """Sequences from which the arithmetic of a decode step takes longer than its memory traffic.

    stages × weights / (flops × (bandwidth × mbu) / (ranks × peak × mfu) − per_sequence)

    weights [B] read by that many sequences, flops [FLOP] and per_sequence [B] of one sequence; each of the pipeline's
    stages holds its own share of the sequences. Where the cache of a sequence takes longer than its arithmetic, never:
    the result is not above 0. Returns sequences [count].
    """
    return stages * weights / (flops * (bandwidth * mbu) / (ranks * peak * mfu) - per_sequence)
