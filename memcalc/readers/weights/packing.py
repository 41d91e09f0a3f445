"""How many weights a stored tensor stands for: packed codes for several each, scales and buffers for none.

Each library names its tensors in its own way; one table says whose scale a name is and how many codes a packed one holds.
Sources: AutoGPTQ qlinear modules (qweight, qzeros, scales, g_idx); AutoAWQ gemm.py; compressed-tensors
pack_quantized (weight_packed, int32 of 32 // bits codes); bitsandbytes functional.py QuantState.as_dict; DeepSeek-V3
README_WEIGHTS.md (weight_scale_inv); gpt-oss model card (blocks, scales); NVIDIA ModelOpt (weight_scale, weight_scale_2).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

from memcalc.blocks.stored import StoredTensor
from memcalc.dtypes import number_format
from memcalc.readers.weights.roles import place

# suffix of a tensor that is no weight ← suffixes of the weights it may belong to; none: it stands by itself
AUXILIARY: Mapping[str, tuple[str, ...]] = {
    ".qzeros": (".qweight",),
    ".scales": (".qweight",),
    ".g_idx": (".qweight",),
    ".weight_scale": (".weight", ".weight_packed"),
    ".weight_scale_2": (".weight",),
    ".weight_scale_inv": (".weight",),
    ".weight_zero_point": (".weight", ".weight_packed"),
    ".weight_g_idx": (".weight", ".weight_packed"),
    ".weight_shape": (".weight_packed",),
    ".weight_global_scale": (".weight_packed", ".weight"),
    ".input_global_scale": (".weight_packed", ".weight"),
    ".input_scale": (".weight", ".weight_packed"),
    ".activation_scale": (".weight",),
    ".weight.absmax": (".weight",),
    ".weight.quant_map": (".weight",),
    ".weight.nested_absmax": (".weight",),
    ".weight.nested_quant_map": (".weight",),
    ".weight.quant_state.bitsandbytes__nf4": (".weight",),
    ".weight.quant_state.bitsandbytes__fp4": (".weight",),
    ".SCB": (".weight",),
    ".weight_format": (".weight",),
    ".scale": (".weight",),  # DeepSeek's own names; nvfp4 in GGUF
    "_scale_inv": ("",),
    "_scales": ("_blocks",),
    ".k_scale": (),
    ".v_scale": (),
    ".q_scale": (),
}
_LONGEST = max(suffix.count(".") for suffix in AUXILIARY)

# buffers: stored, but no parameters
BUFFERS = re.compile(
    r"rope_freqs|rope_factors|inv_freq$|masked_bias$|position_ids$|num_batches_tracked$|exp_probs_b(?:_vl)?\b|tid2eid|std_(?:bias|scale)$|"
    r"layer_scalar$|(?<!moe_statics)\.e_score_correction_bias$"
)
MASK = re.compile(r"\battn\.bias$|\battention\.bias$")  # of GPT-2 and GPT-NeoX, in four dimensions

CODES = {"int32": 32, "uint8": 8, "int8": 8}  # bits of one stored element of packed codes
UNPACKED = ("int64", "int32", "int16", "uint64", "uint32", "uint16", "uint8", "bool")  # formats no plain weight has
BITS = (2, 3, 4, 8)


def described(tensors: Iterable[StoredTensor], quantization: Mapping[str, Any] | None = None) -> Iterator[StoredTensor]:
    """The same tensors with their place in the model and the weights that each stands for.

    `quantization`: the config's `quantization_config`, for packings that do not say their own width.
    """
    listed = list(tensors)
    by_name = {tensor.name: tensor for tensor in listed}
    for tensor in listed:
        yield StoredTensor(*tensor[:5], *place(tensor.name), _weights(tensor, by_name, quantization or {}))


def _weights(tensor: StoredTensor, names: Mapping[str, StoredTensor], quantization: Mapping[str, Any]) -> int | None:
    name, elements = tensor.name, prod(tensor.shape)
    if BUFFERS.search(name) or (len(tensor.shape) == 4 and MASK.search(name)) or _is_auxiliary(name, names):
        return 0
    if name.endswith(".qweight"):
        return _packed(tensor, _grouped_bits(name, names) or _configured_bits(quantization))
    if name.endswith(".weight_packed"):
        return _packed(tensor, 4 if tensor.format == "uint8" else _compressed_bits(quantization), padded=True)
    if name.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in names:
        return _packed(tensor, 4)
    if any(f"{name}.quant_state.bitsandbytes__{kind}" in names for kind in ("nf4", "fp4")):
        return 2 * number_format(tensor.format).bytes_for(
            elements
        )  # two codes to a byte, in whatever format bnb_4bit_quant_storage names
    if tensor.format == "uint8" and (f"{name}.absmax" in names or f"{name}_scale" in names):
        return _packed(tensor, 4)
    return None if tensor.format in UNPACKED else elements


def _is_auxiliary(name: str, names: Mapping[str, StoredTensor]) -> bool:
    """Whether it is the scale or table of a weight that is there too."""
    if name.endswith((".weight", ".bias")):
        return False
    start = len(name)
    for _ in range(_LONGEST):  # the last component, the last two, …
        start = name.rfind(".", 0, start)
        if start < 0:
            break
        owners = AUXILIARY.get(name[start:])
        if owners is not None and (not owners or any(name[:start] + owner in names for owner in owners)):
            return True
    tail = next((tail for tail in ("_scale_inv", "_scales") if name.endswith(tail)), "")
    return bool(tail) and any(name.removesuffix(tail) + owner in names for owner in AUXILIARY[tail])


def _packed(tensor: StoredTensor, bits: int | None, *, padded: bool = False) -> int | None:
    """Codes that a tensor holds; `padded`: whole codes to an element, the rest of its bits unused."""
    width = CODES.get(tensor.format)
    if bits is None or width is None:
        return None
    elements = prod(tensor.shape)
    return elements * (width // bits) if padded else elements * width // bits


def _grouped_bits(name: str, names: Mapping[str, StoredTensor]) -> int | None:
    """Bits of a GPTQ or AWQ code: the zero points are packed like the weights, a row of scales has one for each output."""
    stem = name.removesuffix("qweight")
    zeros, scales = names.get(f"{stem}qzeros"), names.get(f"{stem}scales")
    if not zeros or not scales or not zeros.shape or not scales.shape or not scales.shape[-1]:
        return None
    bits, rest = divmod(CODES.get(zeros.format, 0) * zeros.shape[-1], scales.shape[-1])
    return bits if bits in BITS and not rest else None


def _configured_bits(quantization: Mapping[str, Any]) -> int | None:
    return _width(quantization.get("bits", quantization.get("w_bit")))


def _compressed_bits(quantization: Mapping[str, Any]) -> int | None:
    """Bits of compressed-tensors' packed groups, where all have the same."""
    groups = quantization.get("config_groups")
    found: set[int | None] = set()
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping) and weights.get("type") == "int" and group.get("format") in (None, "pack-quantized"):
            found.add(_width(weights.get("num_bits")))
    return found.pop() if len(found) == 1 else None


def _width(value: Any) -> int | None:
    return value if type(value) is int and value in BITS else None
