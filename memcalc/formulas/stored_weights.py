"""Bytes of weights as engines and files keep them: packed values, and what stands beside them."""

from memcalc.formulas.formula import ESTIMATE, ceil_div, formula


@formula("model-config", "shapes as the configuration says, bytes of a value as the number format has them")
def plain_bytes(elements: int, bytes_each: int) -> int:
    """Tensors in a plain number format.

    elements × bytes_each      elements [count], bytes_each [B]. Returns bytes [B].

    >>> plain_bytes(elements=1000, bytes_each=2)
    2000
    """
    return elements * bytes_each


@formula("model-config", "shapes as the configuration says, blocks as the number format has them")
def packed_bytes(elements: int, block: int, bytes_per_block: int) -> int:
    """Tensors in a number format whose values share bytes; the last block is stored whole.

    ceil(elements / block) × bytes_per_block      elements [count], block [values], bytes_per_block [B]. Returns bytes [B].

    >>> packed_bytes(elements=1001, block=2, bytes_per_block=1)
    501
    """
    return ceil_div(elements, block) * bytes_per_block


@formula("vllm-quantization", "parameters of the linear methods: packed values with the scales and zero points of their groups")
def grouped_bytes(blocks: int, bytes_per_block: int) -> int:
    """Quantised matrices whose scales stand in the format: rows are padded to whole groups.

    blocks × bytes_per_block      blocks [count], bytes_per_block [B]. Returns bytes [B].

    >>> grouped_bytes(blocks=32, bytes_per_block=66)
    2112
    """
    return blocks * bytes_per_block


@formula("llama-cpp-quantize", "src/llama-quant.cpp: the type of each tensor; ggml-common.h: its blocks")
def ggml_bytes(blocks: int, bytes_per_block: int) -> int:
    """Tensors of one type in a GGUF file; a row is a whole number of blocks.

    blocks × bytes_per_block      blocks [count], bytes_per_block [B]. Returns bytes [B].
    """
    return blocks * bytes_per_block


@formula("unsloth", "sizes of published files over their parameters", ESTIMATE)
def average_bytes(elements: int, bits: float) -> int:
    """Tensors of a mixture of which an average is all that is known.

    round(elements × bits / 8)      elements [count], bits of each. Returns bytes [B].

    >>> average_bytes(elements=1000, bits=4.98)
    622
    """
    return round(elements * bits / 8)


@formula("dettmers-2023", "section 3; bitsandbytes functional.py: blocks of 64 values run through a whole matrix")
def blockwise_bytes(blocks: int, bytes_per_block: int) -> int:
    """4-bit matrices of bitsandbytes: codes and the absmax of each block, every matrix padded to whole blocks.

    blocks × bytes_per_block      blocks [count], bytes_per_block [B]. Returns bytes [B].
    """
    return blocks * bytes_per_block


@formula("vllm-quantization", "weight_scale: one for a matrix, an output channel or a tile of 128 × 128")
def scale_bytes(scales: int, bytes_each: int) -> int:
    """Scales that stand beside the quantised values.

    scales × bytes_each      scales [count], bytes_each [B]. Returns bytes [B].
    """
    return scales * bytes_each


@formula("auto-gptq", "g_idx: the group of each input channel, int32")
def channel_order_bytes(channels: int, bytes_each: int) -> int:
    """Which group an input channel belongs to, for every matrix.

    channels × bytes_each      channels [count], bytes_each [B]. Returns bytes [B].
    """
    return channels * bytes_each
