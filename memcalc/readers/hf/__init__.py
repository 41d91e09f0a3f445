"""Hugging Face `config.json` → Architecture.

One table says which module reads which `model_type`; a family's own module is imported only when it is asked for.
Structures and default values follow the model classes of transformers 5.18 (src/transformers/models/<family>/).
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.errors import InputError, nearest
from memcalc.readers.hf.config import Config, Family

# model_type → the module in this package whose FAMILIES table holds it
MODULES: dict[str, str] = {
    name: module
    for module, names in {
        "dense": (
            "llama mistral ministral ministral3 qwen2 qwen3 gemma phi3 granite glm smollm3 seed_oss ernie4_5 "
            "hunyuan_v1_dense apertus arcee helium"
        ),
        "post_norm": "gemma2 gemma3_text olmo2 olmo3 glm4 exaone4",
        "layer_norm": "olmo cohere cohere2 nemotron stablelm starcoder2",
        "gpt": "gpt2 gpt_bigcode gpt_neo opt bloom mpt",
        "gpt_rotary": "gptj codegen gpt_neox phi persimmon falcon",
        "mixture": (
            "mixtral qwen2_moe qwen3_moe olmoe flex_olmo minimax_m2 phimoe granitemoe granitemoeshared dbrx gpt_oss "
            "ernie4_5_moe hunyuan_v1_moe glm4_moe dots1"
        ),
        "interleaved": "llama4_text mimo_v2_flash minimax",
        "latent": ("deepseek_v2 deepseek_v3 deepseek_v32 kimi_k2 glm4_moe_lite glm_moe_dsa longcat_flash minicpm3"),
        "compressed": "deepseek_v4",
        "hybrid": "qwen3_next qwen3_5_text qwen3_5_moe_text recurrent_gemma lfm2",
        "kimi_linear": "kimi_linear",
        "mamba": "mamba mamba2 falcon_mamba jamba",
        "bamba": "bamba granitemoehybrid falcon_h1 zamba2",
        "nemotron_h": "nemotron_h",
        "qwen_vl": "qwen2_vl qwen2_5_vl qwen3_vl qwen3_vl_moe qwen3_5 qwen3_5_moe",
        "gemma": "gemma3 gemma4 gemma4_text",
        "gemma3n": "gemma3n gemma3n_text",
        "multimodal": "llama4 mistral3 pixtral llava kimi_k25 kimi_vl",
        "minimax_m3": "minimax_m3_vl minimax_m3_vl_text",
        "mllama": "mllama",
        "encoders": "bert roberta xlm-roberta distilbert vit clip",
        "seq2seq": "t5 mt5 whisper bart",
    }.items()
    for name in names.split()
}

QUANTIZATION_KEYS = ("quantization_config", "compression_config")
LLAMA_KEYS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")


def family(model_type: str) -> Family:
    """The reader of one model type."""
    module = import_module(f"memcalc.readers.hf.{MODULES[model_type]}")
    found: Family = module.FAMILIES[model_type]
    return found


def read_config(values: Mapping[str, Any], place: str = "config.json") -> Architecture:
    """The architecture that a config.json describes; an InputError names the key when it cannot be read."""
    architecture = _read(values, place)
    nested = values.get("text_config")
    if not any(key in v for v in (values, nested) if isinstance(v, Mapping) for key in QUANTIZATION_KEYS):
        return architecture
    from memcalc.readers.hf.quantization import read_quantization

    return replace(architecture, quantization=read_quantization(values, architecture, place))


def _read(values: Mapping[str, Any], place: str) -> Architecture:
    model_type = values.get("model_type")
    if model_type is not None and not isinstance(model_type, str):
        raise InputError(f"model_type must be a string, not {model_type!r:.60}", place=place)
    if model_type in MODULES:
        reader = family(model_type)
        return reader.read(Config(values, place, reader.defaults))
    return _read_as_llama(values, model_type, place)


def _read_as_llama(values: Mapping[str, Any], model_type: str | None, place: str) -> Architecture:
    """An unknown model type whose keys are those of a llama, read as one and said so."""
    config = Config(values, place, {})
    missing = [key for key in LLAMA_KEYS if not config.has(key)]
    what = f"unknown model_type {model_type!r}" if model_type else "no model_type"
    if missing:
        hint = nearest(model_type, MODULES) if model_type else ""
        raise InputError(f"{what}, and it cannot be read as a llama: {', '.join(missing)} missing{hint}", place=place)
    warning = f"{what}: read as a llama (gated MLP, RMSNorm, grouped attention); counts may differ from the real model"
    reader = family("llama")
    return replace(reader.read(Config(values, place, reader.defaults)), warnings=(warning,), model_type=model_type or "")
