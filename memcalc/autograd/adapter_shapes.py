"""What adapters beside a matrix [outputs, inputs] learn: the shapes of their tensors, as PEFT makes them."""

from math import isqrt

from memcalc.caches import cached

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
FEED_FORWARD = ("down",)  # what IA3 scales the input of (peft/utils/constants.py, IA3_FEEDFORWARD_MODULES)
OFT_BLOCK = 32  # peft/tuners/oft/config.py, oft_block_size


@cached(4096)
def shapes(kind: str, inputs: int, outputs: int, rank: int, feed_forward: bool = False) -> Shapes:
    """Names and shapes of one matrix's adapter. `feed_forward`: IA3 scales that matrix's input.

    >>> shapes("lora", 1024, 4096, 16)
    (('lora_A', (16, 1024)), ('lora_B', (4096, 16)))
    >>> shapes("lokr", 1024, 4096, 16)
    (('lokr_w1', (64, 32)), ('lokr_w2_a', (64, 16)), ('lokr_w2_b', (16, 32)))
    """
    match kind:
        case "vera":  # Kopiczko et al. 2023; peft/tuners/vera/layer.py
            return ("vera_lambda_d", (rank,)), ("vera_lambda_b", (outputs,))
        case "loha":  # Hyeon-Woo et al. 2021; peft/tuners/loha/layer.py
            pairs = (("a", (outputs, rank)), ("b", (rank, inputs)))
            return tuple((f"hada_w{i}_{end}", shape) for i in (1, 2) for end, shape in pairs)
        case "lokr":
            return _kronecker(inputs, outputs, rank)
        case "ia3":  # Liu et al. 2022; peft/tuners/ia3/layer.py
            return (("ia3_l", (1, inputs) if feed_forward else (outputs, 1)),)
        case "oft":  # Qiu et al. 2023; peft/tuners/oft/layer.py: a skew-symmetric matrix of each block
            block = oft_block(inputs)
            return (("oft_R", (inputs // block, block * (block - 1) // 2)),)
    return ("lora_A", (rank, inputs)), ("lora_B", (outputs, rank))


def _kronecker(inputs: int, outputs: int, rank: int) -> Shapes:
    """LoKr (Yeh et al. 2023; peft/tuners/lokr/layer.py, update_layer): W1 ⊗ W2, W2 as a product where the rank is small."""
    (out_l, out_k), (in_m, in_n) = _nearest_factors(outputs), _nearest_factors(inputs)
    first = ("lokr_w1", (out_l, in_m))
    if rank < max(out_k, in_n) / 2:
        return first, ("lokr_w2_a", (out_k, rank)), ("lokr_w2_b", (rank, in_n))
    return first, ("lokr_w2", (out_k, in_n))


def _nearest_factors(size: int) -> tuple[int, int]:
    """The two factors nearest to each other, the smaller one first."""
    low = next(low for low in range(isqrt(size), 0, -1) if size % low == 0)
    return low, size // low


@cached(1024)
def oft_block(inputs: int) -> int:
    """The size of a block: 32, or the nearest divisor of the width (peft/tuners/oft/layer.py, adjust_oft_parameters).

    >>> oft_block(4096), oft_block(100)
    (32, 25)
    """
    if inputs <= OFT_BLOCK:
        return inputs
    higher = next(size for size in range(OFT_BLOCK, inputs + 1) if inputs % size == 0)
    lower = next(size for size in range(OFT_BLOCK, 0, -1) if inputs % size == 0)
    return lower if OFT_BLOCK - lower <= higher - OFT_BLOCK else higher
