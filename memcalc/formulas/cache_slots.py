"""Formats of an engine's cache whose bytes depend on the width of a head: one slot for keys and values of a token and head.

vllm/v1/attention/backends/triton_attn.py, customize_spec (scales of each token and head); layers/quantization/turboquant/
config.py; attention/backends/mla/flashmla_sparse.py (the layouts of DeepSeek's sparse attention).
"""

from collections.abc import Callable
from math import ceil

ROPE = 64  # values with a position of those that DeepSeek's sparse layouts hold
SCALE = 4  # bytes of an fp32 scale

Slot = Callable[[int, int], int]  # widths of a key and of a value; of a latent: its width and 0 → bytes


def scaled(bits: int) -> Slot:
    """Codes of so many bits, and an fp32 scale of the keys and one of the values.

    >>> scaled(8)(128, 128), scaled(4)(128, 128), scaled(8)(576, 0)
    (264, 136, 584)
    """
    return lambda key, value: (key * bits // 8) + (value * bits // 8) + 2 * SCALE


def turbo(key_bits: int, value_bits: int) -> Slot:
    """TurboQuant: keys as fp8, or codes with a 16-bit norm; values as codes with a 16-bit scale and zero; an even number.

    >>> turbo(8, 4)(128, 128), turbo(4, 4)(128, 128), turbo(3, 3)(128, 128)
    (196, 134, 102)
    """

    def slot(key: int, value: int) -> int:
        keys = key if key_bits == 8 else ceil(key * key_bits / 8) + 2
        return (keys + ceil(value * value_bits / 8) + 4 + 1) // 2 * 2

    return slot


def sparse_fp8(latent: int, _value: int) -> int:
    """A latent in fp8 with an fp32 scale for 128 values, and its rotated part in 16 bits.

    >>> sparse_fp8(576, 0)
    656
    """
    nope = latent - ROPE
    return nope + nope // 128 * SCALE + 2 * ROPE


def sparse_nvfp4(latent: int, _value: int) -> int:
    """A latent in fp4 with an fp8 scale for 16 values, and its rotated part in fp8.

    >>> sparse_nvfp4(576, 0)
    352
    """
    nope = latent - ROPE
    return nope // 2 + nope // 16 + ROPE


TURBO = {"turboquant-k8v4": (8, 4), "turboquant-4bit-nc": (4, 4), "turboquant-k3v4-nc": (3, 4), "turboquant-3bit-nc": (3, 3)}
LATENT = {"fp8-ds-mla": sparse_fp8, "nvfp4-ds-mla": sparse_nvfp4}  # of latent caches alone
SLOTS: dict[str, Slot] = {
    "int8-per-token-head": scaled(8), "fp8-per-token-head": scaled(8), "int4-per-token-head": scaled(4),
    **{name: turbo(*bits) for name, bits in TURBO.items()}, **LATENT,
}  # fmt: skip
BOUNDARY = 2  # first and last layers of a model without recurrent layers that TurboQuant leaves in 16 bits
