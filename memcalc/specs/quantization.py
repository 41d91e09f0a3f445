"""How weights are stored: what the words of `--weights` mean. Schemes and mixtures are tables; formats are memcalc.dtypes.

A scheme is one number format for the matrices that a library quantises, with what it keeps beside them. A mixture is a
file of llama.cpp that gives each kind of tensor its own format (memcalc.estimates.gguf_mixtures has the rules).
"""

import re
from typing import Literal

from memcalc.caches import cached
from memcalc.dtypes import FORMATS, NumberFormat, number_format
from memcalc.errors import InputError, nearest
from memcalc.frozen import NamedTuple
from memcalc.specs.unsloth import PUBLISHED

CHECKPOINT = "checkpoint"  # the word for: as the model's own quantization_config says


class Scheme(NamedTuple):
    """One way to quantise a model's matrices; everything else stays in 16 bits."""

    name: str
    format: str  # a row of memcalc.dtypes
    group: int = 1  # values in a row that share a scale: rows are padded to whole groups; 0: blocks run through rows
    # beside the format's own: one a matrix, output channel, 128 × 128, 128 inputs of an output, or one for each input and for
    # each output
    scales: Literal["", "tensor", "channel", "tile", "strip", "ends"] = ""
    scale_bytes: int = 4
    ordered: bool = False  # GPTQ's g_idx: an int32 for each input channel
    hidden_multiple: int = 1  # kernels that pad the experts' matrices: the model's width to a multiple of this,
    width_multiple: int = 1  # and the experts' own width
    swizzled: int = 0  # a second copy of the scales, for outputs padded to a multiple of this; biases in fp32
    # linears: of the language model's layers · experts: the same, but only the routed experts where there are any · mlp: those
    # of feed-forwards, experts too · routed: experts alone · everywhere: those of every part, and the projectors · modules:
    # the linears, token tables and the head
    reach: Literal["linears", "experts", "mlp", "routed", "everywhere", "modules"] = "linears"
    attention: str = ""  # the scheme of the layers' other linears, but for recurrent layers' gates; "": they stay in 16 bits
    head: str = ""  # the scheme of the head, of a tied table's copy too; "": it stays in 16 bits
    source: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def stored(self) -> NumberFormat:
        return number_format(self.format)

    @property
    def plain(self) -> bool:
        """Whether it quantises nothing: every tensor is kept in its format."""
        return self.stored.kind != "block" and self.stored.bits_per_value >= 16


class Mixture(NamedTuple):
    """A file type of llama-quantize: most tensors are in `format`. Of a mixture whose rules nobody publishes `published` has
    the bits per parameter of files, by model: any other is taken for their median."""

    name: str
    format: str
    published: tuple[tuple[str, float], ...] = ()

    @property
    def bits(self) -> float:
        """Bits per parameter, where that is all that is known; else 0."""
        found = sorted(bits for _, bits in self.published)
        return (found[(len(found) - 1) // 2] + found[len(found) // 2]) / 2 if found else 0.0

    @property
    def stored(self) -> NumberFormat:
        return number_format(self.format)


_ONLINE = "vLLM quantization/fp8.py: Fp8LinearMethod, an fp32 weight_scale for each matrix"
_CHANNEL = "vLLM compressed_tensors_w8a8_fp8.py and _int8.py: ChannelQuantScaleParameter, float32 [outputs, 1]"
_CHANNEL4 = "vLLM compressed_tensors_wNa16.py: group_size -1, a 16-bit weight_scale for each output"
_TILE = "DeepSeek-V3 README_WEIGHTS.md: weight_scale_inv float32 for 128 × 128"
_BNB = "transformers integrations/bitsandbytes.py: every nn.Linear but the head"
_BNB8 = "bitsandbytes nn/modules.py, Int8Params: SCB, an fp32 for each row"
_MX = "vLLM quantization/mxfp4.py: the experts' matrices; gpt-oss model card"
_TRITON = "vLLM quantization/mxfp4.py: _swizzle_mxfp4 beside the loaded weight_scale; triton_kernels HopperMXScaleLayout"
_MARLIN = "vLLM quantization/mxfp4.py, create_weights: the Marlin backend rounds hidden up to 256, intermediate to 128"
_MARLIN8 = "vLLM quantization/utils/marlin_utils_fp8.py, prepare_fp8_layer_for_marlin: block-wise → group-wise scales, 16 bits"
_NV_PARTS = "NVIDIA Model-Optimizer modelopt/torch/quantization/config.py: NVFP4_MLP_ONLY_CFG, NVFP4_EXPERTS_ONLY_CFG"
_NV_MIXED = "NVIDIA Model-Optimizer modelopt_recipes/model_type/qwen3_5/ptq/w4a16_nvfp4-fp8_attn-kv_fp8_cast.quant_cfg.yaml"
_NV = "vLLM quantization/modelopt.py: weight_scale e4m3 for 16, weight_scale_2 float32 for each matrix"
_GPTQ = "AutoGPTQ qlinear_cuda.py: qweight, qzeros, scales and g_idx, an int32 for each input"
_MLX_LM = "mlx-lm utils.py, quantize_model: every module with to_quantized whose rows are whole groups"
_EXL3_BESIDE = "exllamav3 conversion/convert_model.py: --head_bits 6; modules/quant/exl3.py: suh, svh"
HEAD_BITS = "exl3-6bpw"
_EETQ = "transformers integrations/eetq.py: int8 weight, weight_scales float16 for each output"

SCHEMES: tuple[Scheme, ...] = (
    Scheme("fp8", "fp8-e4m3", scales="tensor", source=_ONLINE, aliases=("fp8-tensor", "w8a8-fp8")),
    Scheme("fp8-channel", "fp8-channel", scales="channel", source=_CHANNEL, aliases=("fp8-dynamic", "fp8-per-channel")),
    Scheme("fp8-block128", "fp8-e4m3", scales="tile", source=_TILE, aliases=("fp8-block", "fp8-128x128")),
    Scheme("fp8-block128-marlin", "fp8-e4m3", scales="strip", scale_bytes=2, source=_MARLIN8),
    Scheme("w8a8", "int8-channel", scales="channel", source=_CHANNEL, aliases=("int8-channel", "w8a8-int8", "w8a16")),
    Scheme("bnb-int8", "int8-channel", scales="channel", reach="everywhere", source=_BNB8, aliases=("llm.int8", "llm-int8")),
    Scheme("eetq", "int8-channel", scales="channel", scale_bytes=2, source=_EETQ, aliases=("eetq-int8",)),
    Scheme("int4-channel", "int4", scales="channel", scale_bytes=2, source=_CHANNEL4, aliases=("w4a16-channel",)),
    *(Scheme(name, name, 0, reach="everywhere", source=_BNB) for name in ("nf4", "nf4-dq", "bnb-fp4", "bnb-fp4-dq")),
    Scheme("mxfp4", "mxfp4", 32, reach="experts", source=_MX),
    Scheme("mxfp4-triton", "mxfp4", 32, swizzled=256, reach="experts", source=_TRITON),
    Scheme("mxfp4-marlin", "mxfp4", 32, hidden_multiple=256, width_multiple=128, reach="experts", source=_MARLIN),
    *(Scheme(f"mlx-{bits}bit", f"mlx-int{bits}-g64", 64, reach="modules", source=_MLX_LM, aliases=(f"mlx-int{bits}-g64",))
      for bits in (2, 3, 4, 5, 6, 8)),
    Scheme("nvfp4", "nvfp4", 16, scales="tensor", source=_NV, aliases=("w4a4", "nvfp4a16")),
    Scheme("nvfp4-mlp-only", "nvfp4", 16, scales="tensor", reach="mlp", source=_NV_PARTS),
    Scheme("nvfp4-experts-only", "nvfp4", 16, scales="tensor", reach="routed", source=_NV_PARTS),
    Scheme("nvfp4-mlp-fp8-attn", "nvfp4", 16, scales="tensor", reach="mlp", attention="fp8", head="nvfp4", source=_NV_MIXED,
           aliases=("w4a16-nvfp4-fp8-attn",)),
)  # fmt: skip


class Repacked(NamedTuple):
    """What an engine makes of a scheme when it loads it on NVIDIA's GPUs of some compute capabilities (`sm_86`: 86)."""

    engine: str
    scheme: str
    becomes: str
    since: int = 0
    before: int = 1000


# The first that fits; where no GPU is named, the one of all.
REPACKED = (
    # vllm/model_executor/layers/fused_moe/oracle/mxfp4.py: triton_kernels from 9.0 to 10.x, Marlin elsewhere
    Repacked("vllm", "mxfp4", "mxfp4-marlin", 75, 90), Repacked("vllm", "mxfp4", "mxfp4-marlin", 110),
    Repacked("vllm", "mxfp4", "mxfp4-triton"),
    # without tensor cores for fp8: vllm/model_executor/layers/quantization/fp8.py, sglang/srt/layers/quantization/fp8.py
    Repacked("vllm", "fp8-block128", "fp8-block128-marlin", 75, 89),
    Repacked("sglang", "fp8-block128", "fp8-block128-marlin", 75, 89),
)  # fmt: skip


def loader(engine: str, generation: str) -> str:
    """Who loads weights, as `stored_as` takes it: an engine, on a GPU of an architecture.

    >>> loader("vllm", "sm_86"), loader("llama.cpp", "")
    ('vllm:86', 'llama.cpp')
    """
    found = re.fullmatch(r"sm_(\d+)[a-z]?", generation)
    return f"{engine}:{found[1]}" if found else engine


# File types of llama-quantize (tools/quantize/quantize.cpp) and the format that most of a file's tensors are in
# (src/llama-quant.cpp, llama_ftype_get_default_type).
MIXTURES: dict[str, Mixture] = {
    name: Mixture(name, stored)
    for name, stored in (
        ("Q4_0", "q4_0"), ("Q4_1", "q4_1"), ("Q5_0", "q5_0"), ("Q5_1", "q5_1"), ("Q8_0", "q8_0"), ("Q1_0", "q1_0"),
        ("Q2_0", "q2_0"), ("Q2_K", "q2_k"), ("Q2_K_S", "q2_k"), ("Q3_K_S", "q3_k"), ("Q3_K_M", "q3_k"),
        ("Q3_K_L", "q3_k"), ("Q4_K_S", "q4_k"), ("Q4_K_M", "q4_k"), ("Q5_K_S", "q5_k"), ("Q5_K_M", "q5_k"),
        ("Q6_K", "q6_k"), ("TQ1_0", "tq1_0"), ("TQ2_0", "tq2_0"), ("IQ1_S", "iq1_s"), ("IQ1_M", "iq1_m"),
        ("IQ2_XXS", "iq2_xxs"), ("IQ2_XS", "iq2_xs"), ("IQ2_S", "iq2_xs"), ("IQ2_M", "iq2_s"),
        ("IQ3_XXS", "iq3_xxs"), ("IQ3_XS", "iq3_s"), ("IQ3_S", "iq3_s"), ("IQ3_M", "iq3_s"), ("IQ4_NL", "iq4_nl"),
        ("IQ4_XS", "iq4_xs"), ("MXFP4_MOE", "mxfp4"),
    )
}  # fmt: skip
_FILE_ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # llama-quantize: "alias for Q4_K_M"
_UNQUANTISED = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}  # file types whose names are number formats too


# Words that leave open how weights are stored, and what people mean by them.
_FOUR_BITS = "Q4_K_M (a GGUF file), nf4 (bitsandbytes) or int4-g128 (GPTQ, AWQ)"
_EIGHT_BITS = "Q8_0 (a GGUF file), bnb-int8 (bitsandbytes), w8a8 or fp8"
LOOSE: dict[str, str] = {
    **dict.fromkeys(("4bit", "4-bit", "bnb-4bit"), _FOUR_BITS),
    **dict.fromkeys(("8bit", "8-bit", "bnb-8bit"), _EIGHT_BITS),
    "q2": "Q2_K", "q3": "Q3_K_M", "q4": "Q4_K_M", "q5": "Q5_K_M", "q6": "Q6_K", "q8": "Q8_0",
    **dict.fromkeys(("exl3", "exl2"), "the bits per weight of an EXL3 model, such as exl3-4.0bpw"), "mlx": "mlx-4bit",
    "gguf": "the file's type, such as Q4_K_M", "awq": "awq-int4-g128", "gptq": "gptq-int4-g128",
    **dict.fromkeys(("bnb", "bitsandbytes"), "nf4 (4 bits) or bnb-int8"),
    "auto": f"{CHECKPOINT} (as the model's own config says) or bf16",
}  # fmt: skip


def dynamic(name: str, word: str) -> Mixture:
    """One of Unsloth's dynamic mixtures, whose types are chosen tensor by tensor for each model anew."""
    if name not in PUBLISHED:
        raise InputError(
            f"{word[:40]!r}: no sizes of this mixture of Unsloth's were read{nearest(name, PUBLISHED)}; "
            "give the file as MODEL: its header says them (memcalc infer FILE.gguf, or hf://org/name/FILE.gguf)"
        )
    return Mixture(name, PUBLISHED[name].format, PUBLISHED[name].bits)


@cached(512)
def stored_as(word: str, engine: str = "") -> Scheme | Mixture:
    """What a word of `--weights` stands for, for an engine or its `loader`. Under llama.cpp F16, BF16 and F32 are GGUF
    files, whose vectors stay fp32.

    A file type of llama.cpp goes before a number format of the same name. Raises InputError with the nearest matches.

    >>> stored_as("q4_k_m").name, stored_as("int4-g32").group, stored_as("FP8").scales, stored_as("bf16").plain
    ('Q4_K_M', 32, 'tensor', True)
    """
    upper = word.strip().upper().replace("-", "_")
    if upper.startswith("UD_"):
        return dynamic(upper.replace("UD_", "UD-"), word)
    if found := MIXTURES.get(_FILE_ALIASES.get(upper, upper)):
        return found
    if scheme := _BY_NAME.get(word.strip().lower().replace("_", "-")):
        return _repacked(scheme, engine)
    try:
        row = number_format(word)
    except InputError as error:
        if "is no number format" not in str(error):
            raise
        if hint := LOOSE.get(word.strip().lower().replace("_", "-")):
            raise InputError(f"{word[:40]!r} says too little of how weights are stored; write {hint}") from None
        raise InputError(
            f"{word[:40]!r} is no way to store weights: a number format (`memcalc formats`), a scheme such as fp8, w8a8 or "
            f"gptq-int4-g128, a GGUF file type such as Q4_K_M, or {CHECKPOINT}{nearest(word[:40], weight_words())}"
        ) from None
    if engine.partition(":")[0] == "llama.cpp" and row.name in _UNQUANTISED:
        return Mixture(_UNQUANTISED[row.name], row.name)
    return _repacked(_of_format(row), engine)


def spread(word: str) -> tuple[float, float]:
    """How far a file may lie from what a word stands for: shares of the weights, low and high.

    >>> spread("Q4_K_M"), spread("UD-Q4_K_XL")[0] < -0.09
    ((0.0, 0.0), True)
    """
    if word.strip().lower() == CHECKPOINT:
        return 0.0, 0.0
    stored = stored_as(word)
    if not isinstance(stored, Mixture) or not stored.bits:
        return 0.0, 0.0
    found = [bits for _, bits in stored.published]
    return min(found) / stored.bits - 1, max(found) / stored.bits - 1


def _repacked(scheme: Scheme, engine: str) -> Scheme:
    name, _, capability = engine.partition(":")
    rows = [row for row in REPACKED if (row.engine, row.scheme) == (name, scheme.name)]
    if capability:
        rows = [row for row in rows if row.since <= int(capability) < row.before]
    else:
        rows = [row for row in rows if not row.since]
    return _BY_NAME[rows[0].becomes] if rows else scheme


def check_weights(word: str) -> None:
    """Refuse a word that `--weights` does not know, with an InputError that names the nearest ones."""
    if word.strip().lower() != CHECKPOINT:
        stored_as(word)


def weight_words() -> list[str]:
    """Every word that `--weights` accepts, except group sizes that no table lists."""
    schemes = [name for row in SCHEMES for name in (row.name, *row.aliases)]
    return [
        CHECKPOINT,
        *schemes,
        *MIXTURES,
        *_FILE_ALIASES,
        *PUBLISHED,
        *(name for row in FORMATS for name in (row.name, *row.aliases)),
    ]


def _of_format(row: NumberFormat) -> Scheme:
    """A number format as a scheme: GPTQ's keep the order of their channels, the rest pad rows to whole blocks."""
    if named := _BY_NAME.get(row.name):
        return named
    match = re.search(r"-g(\d+)$", row.name)
    group = int(match[1]) if match else row.block_size
    if row.name.startswith("mlx"):
        return Scheme(row.name, row.name, group, reach="modules", source=row.source)
    if row.name.startswith("exl3"):
        head = "" if row.name == HEAD_BITS else HEAD_BITS
        return Scheme(row.name, row.name, scales="ends", scale_bytes=2, head=head, source=_EXL3_BESIDE)
    return Scheme(row.name, row.name, group, ordered=row.name.startswith("gptq"), source=row.source)


_BY_NAME = {name: row for row in SCHEMES for name in (row.name, *row.aliases)}
