"""GGUF metadata → the config.json values that the Hugging Face readers know: one table of keys, one row a family.

A GGUF file says sizes in its metadata and the rest by which tensors it holds: an `output.weight` means an untied head,
an `attn_q.bias` biased projections. Keys: ggml docs/gguf.md; what each family writes: llama.cpp convert_hf_to_gguf.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

from memcalc.blocks.stored import StoredTensors
from memcalc.errors import InputError, Unsupported, nearest
from memcalc.frozen import NamedTuple
from memcalc.readers.weights import gguf_recurrent
from memcalc.readers.weights.gguf_facts import Facts

# key below the architecture's name → key of config.json
KEYS: Mapping[str, str] = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_count": "n_shared_experts",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "leading_dense_block_count": "first_k_dense_replace",
    "interleave_moe_layer_step": "interleave_moe_layer_step",
    "nextn_predict_layers": "num_nextn_predict_layers",
}


Adjust = Callable[[Facts], Mapping[str, Any]]  # what a family's config says beyond KEYS


class GgufFamily(NamedTuple):
    """How one GGUF architecture reads: as which model type, with which further values."""

    model_type: str
    adjust: Adjust = lambda facts: {}


def _llama(facts: Facts) -> Mapping[str, Any]:
    if facts.values.get("num_experts"):
        return {"model_type": "mixtral", "sliding_window": None}
    if facts.biased and "attn_output.bias" not in facts.layered:  # Qwen's models, converted as llamas
        return {"model_type": "qwen2"}
    return {"attention_bias": facts.biased, "mlp_bias": "ffn_up.bias" in facts.layered}


def _attention_bias(facts: Facts) -> Mapping[str, Any]:
    return {"attention_bias": facts.biased}


def _full_window(facts: Facts) -> Mapping[str, Any]:
    """Sliding windows where the file says them, none where it does not, whatever the library's default."""
    return {"sliding_window": facts.values.get("sliding_window")}


def _exaone(facts: Facts) -> Mapping[str, Any]:
    """llama.cpp goes by the window in the model of 64 layers alone (src/models/exaone4.cpp)."""
    return {"sliding_window": facts.values.get("sliding_window") if facts.values.get("num_hidden_layers") == 64 else None}


def _latent(facts: Facts) -> Mapping[str, Any]:
    """Multi-head latent attention; newer files give the head sizes of the compressed cache under the plain keys."""
    rope = facts.keys.get("rope.dimension_count")
    key = facts.keys.get("attention.key_length_mla", facts.keys.get("attention.key_length"))
    value = facts.keys.get("attention.value_length_mla", facts.keys.get("attention.value_length"))
    if not all(type(size) is int for size in (rope, key, value)):
        raise InputError("rope.dimension_count, attention.key_length and attention.value_length must be whole numbers")
    return {
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope,
        "v_head_dim": value,
        "head_dim": None,
        "q_lora_rank": facts.values.get("q_lora_rank"),
        "n_shared_experts": facts.values.get("n_shared_experts", 0),
        "first_k_dense_replace": facts.values.get("first_k_dense_replace", 0),
    }


def _deepseek(facts: Facts) -> Mapping[str, Any]:
    corrected = not facts.layered.isdisjoint(("exp_probs_b", "exp_probs_b.bias"))
    return {**_latent(facts), "model_type": "deepseek_v3" if corrected else "deepseek_v2"}


def _falcon(facts: Facts) -> Mapping[str, Any]:
    """Key-value heads by the rows of the fused matrix: converters of the 7B model write 1 or 71 under the key."""
    heads, rows = facts.whole("attention.head_count"), facts.inner.get("attn_qkv.weight", (0,))[0]
    width = facts.whole("embedding_length") // heads
    kv_heads = (rows // width - heads) // 2 if width else 0
    return {
        "num_key_value_heads": kv_heads,
        "new_decoder_architecture": kv_heads > 1,
        "num_ln_in_parallel_attn": 2 if "attn_norm_2.weight" in facts.layered else 1,
        "multi_query": kv_heads == 1,
        "bias": facts.biased,
    }


def _positions(facts: Facts) -> Mapping[str, Any]:
    table = facts.shapes.get("position_embd.weight")
    return {"max_position_embeddings": table[0]} if table else {}


def _stablelm(facts: Facts) -> Mapping[str, Any]:
    return {
        "use_qkv_bias": facts.biased,
        "qk_layernorm": "attn_q_norm.weight" in facts.layered,
        "use_parallel_residual": "ffn_norm.weight" not in facts.layered,
    }


def _wide_experts(facts: Facts) -> Mapping[str, Any]:
    """Families whose config has one size, the experts'."""
    return {"intermediate_size": facts.values.get("moe_intermediate_size", facts.values.get("intermediate_size"))}


def _phimoe(facts: Facts) -> Mapping[str, Any]:
    return {"attention_bias": facts.biased, "lm_head_bias": "output.bias" in facts.shapes, "sliding_window": None}


def _ernie_moe(facts: Facts) -> Mapping[str, Any]:
    return {
        "use_bias": facts.biased,
        "moe_num_shared_experts": facts.values.get("n_shared_experts", 0),
        "moe_layer_start_index": facts.values.get("first_k_dense_replace", 0),
        "moe_layer_interval": facts.values.get("interleave_moe_layer_step", 1),
    }


def _glm4_moe(facts: Facts) -> Mapping[str, Any]:
    """Its layers include the prediction layers at the end, which generation does not run."""
    ahead = facts.values.get("num_nextn_predict_layers", 0)
    layers = facts.values.get("num_hidden_layers", 0)
    return {
        "attention_bias": facts.biased,
        "use_qk_norm": "attn_q_norm.weight" in facts.layered,
        "num_hidden_layers": layers - ahead if type(ahead) is int and type(layers) is int else layers,
    }


ROWS: Mapping[str, GgufFamily] = {
    "llama": GgufFamily("llama", _llama),
    "mistral3": GgufFamily("ministral3", _full_window),
    "llama4": GgufFamily("llama4_text", lambda facts: {
        "intermediate_size_mlp": facts.values.get("intermediate_size"),
        "intermediate_size": facts.values.get("moe_intermediate_size"),
        "use_qk_norm": facts.values.get("num_experts") != 128,  # as llama.cpp tells Maverick from Scout
    }),
    "qwen2": GgufFamily("qwen2"),
    "qwen2vl": GgufFamily("qwen2"),
    "qwen2moe": GgufFamily("qwen2_moe"),
    "qwen3": GgufFamily("qwen3", _attention_bias),
    "qwen3vl": GgufFamily("qwen3", _attention_bias),
    "qwen3moe": GgufFamily("qwen3_moe", _attention_bias),
    "qwen3vlmoe": GgufFamily("qwen3_moe", _attention_bias),
    "gemma": GgufFamily("gemma"),
    "gemma2": GgufFamily("gemma2"),
    "gemma3": GgufFamily("gemma3_text", _full_window),
    "phi2": GgufFamily("phi", lambda facts: {"qk_layernorm": False}),
    "phi3": GgufFamily("phi3", lambda facts: {"sliding_window": None}),  # llama.cpp keeps every token (src/models/phi3.cpp)
    "deepseek2": GgufFamily("deepseek_v2", _deepseek),
    "minicpm3": GgufFamily("minicpm3", _latent),
    "falcon": GgufFamily("falcon", _falcon),
    "gpt2": GgufFamily("gpt2", _positions),
    "gptneox": GgufFamily("gpt_neox"),
    "bloom": GgufFamily("bloom"),
    "starcoder": GgufFamily("gpt_bigcode", _positions),
    "starcoder2": GgufFamily("starcoder2", lambda facts: {"use_bias": facts.biased, **_full_window(facts)}),
    "gpt-oss": GgufFamily("gpt_oss", lambda facts: {
        "intermediate_size": facts.values.get("moe_intermediate_size", facts.values.get("intermediate_size")),
    }),
    "olmo": GgufFamily("olmo"),
    "olmo2": GgufFamily("olmo2", lambda facts: {"model_type": "olmo3"} if facts.values.get("sliding_window") else {}),
    "olmoe": GgufFamily("olmoe"),
    "granite": GgufFamily("granite", _attention_bias),
    "granitemoe": GgufFamily("granitemoe", lambda facts: {
        "shared_intermediate_size": facts.values.get("shared_expert_intermediate_size", 0),
    }),
    "command-r": GgufFamily("cohere", lambda facts: {"use_qk_norm": "attn_q_norm.weight" in facts.layered}),
    "cohere2": GgufFamily("cohere2"),
    "stablelm": GgufFamily("stablelm", _stablelm),
    "glm4": GgufFamily("glm4", _attention_bias),
    "chatglm": GgufFamily("glm", _attention_bias),
    "glm4moe": GgufFamily("glm4_moe", _glm4_moe),
    "exaone4": GgufFamily("exaone4", _exaone),
    "smollm3": GgufFamily("smollm3"),
    "seed_oss": GgufFamily("seed_oss", lambda facts: {
        "attention_bias": facts.biased, "attention_out_bias": "attn_output.bias" in facts.layered,
    }),
    "ernie4_5": GgufFamily("ernie4_5", lambda facts: {"use_bias": facts.biased}),
    "arcee": GgufFamily("arcee"),
    "nemotron": GgufFamily("nemotron", lambda facts: {
        "attention_bias": facts.biased, "mlp_bias": "ffn_up.bias" in facts.layered,
    }),
    "dots1": GgufFamily("dots1"),
    "hunyuan-dense": GgufFamily("hunyuan_v1_dense"),
    "apertus": GgufFamily("apertus"),
    "phimoe": GgufFamily("phimoe", _phimoe),
    "gptj": GgufFamily("gptj", lambda facts: (
        {"rotary_dim": facts.whole("rope.dimension_count")} if "rope.dimension_count" in facts.keys else {}
    )),
    "mpt": GgufFamily("mpt"),
    "ernie4_5-moe": GgufFamily("ernie4_5_moe", _ernie_moe),
    "hunyuan-moe": GgufFamily("hunyuan_v1_moe", _wide_experts),
    "minimax-m2": GgufFamily("minimax_m2", lambda facts: {
        **_wide_experts(facts), "rotary_dim": facts.whole("rope.dimension_count"),
    }),
    "mamba": GgufFamily("mamba", gguf_recurrent.mamba),
    "mamba2": GgufFamily("mamba2", gguf_recurrent.mamba2),
    "qwen3next": GgufFamily("qwen3_next", gguf_recurrent.delta_net),
    "qwen35": GgufFamily("qwen3_5_text", gguf_recurrent.delta_net),
    "qwen35moe": GgufFamily("qwen3_5_moe_text", gguf_recurrent.delta_net),
    "granitehybrid": GgufFamily("granitemoehybrid", gguf_recurrent.granite_hybrid),
    "lfm2": GgufFamily("lfm2", gguf_recurrent.lfm2),
}  # fmt: skip


def config_values(stored: StoredTensors, place: str) -> dict[str, Any]:
    """The config.json that a GGUF file amounts to; Unsupported where its architecture has no row here."""
    name = stored.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise InputError("general.architecture is missing or no text", place=place)
    row = ROWS.get(name)
    if row is None:
        raise Unsupported(
            f"{place}: the GGUF architecture {name[:40]!r} is not read as a model yet{nearest(name[:40], ROWS)} "
            "(`memcalc inspect` lists its tensors; a config.json of the same model gives its memory)"
        )
    prefix = f"{name}."
    keys = {key.removeprefix(prefix): value for key, value in stored.metadata.items() if key.startswith(prefix)}
    values = {ours: _one(keys[theirs], f"{prefix}{theirs}", place) for theirs, ours in KEYS.items() if theirs in keys}
    shapes = {tensor.name: tensor.shape for tensor in stored.tensors if tensor.layer is None}
    inner, places = _layered(stored)
    embedding = shapes.get("token_embd.weight", ())
    if len(embedding) != 2:
        raise InputError("has no token_embd.weight of two dimensions, so no vocabulary", place=place)
    values |= {"model_type": row.model_type, "vocab_size": embedding[0], "tie_word_embeddings": "output.weight" not in shapes}
    # what is absent follows from the heads, whatever the library's default for the family
    values.setdefault("num_key_value_heads", values.get("num_attention_heads"))
    values.setdefault("head_dim", None)
    try:
        return {**values, **_rotary(values, keys), **row.adjust(Facts(values, keys, shapes, frozenset(inner), inner, places))}
    except InputError as error:
        raise InputError(str(error), place=place) from None


def _layered(stored: StoredTensors) -> tuple[dict[str, tuple[int, ...]], dict[str, frozenset[int]]]:
    """Tensors of the layers by their names within one: a shape, and the layers that have them."""
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, set[int]] = {}
    for tensor in stored.tensors:
        if tensor.name.startswith("blk.") and tensor.layer is not None:
            name = tensor.name.split(".", 2)[2]
            shapes.setdefault(name, tensor.shape)
            places.setdefault(name, set()).add(tensor.layer)
    return shapes, {name: frozenset(found) for name, found in places.items()}


def _rotary(values: Mapping[str, Any], keys: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rotated share of a head, where it is not all of it."""
    rotated, size = keys.get("rope.dimension_count"), values.get("head_dim")
    if size is None:
        hidden, heads = values.get("hidden_size"), values.get("num_attention_heads")
        size = hidden // heads if type(hidden) is int and type(heads) is int and heads else None
    if type(rotated) is int and type(size) is int and 0 < rotated <= size:
        return {"partial_rotary_factor": rotated / size}
    return {}


def _one(value: Any, key: str, place: str) -> Any:
    """A value for all layers; an array of one a layer is read where all that have one (not 0) agree."""
    if not isinstance(value, list):
        return value
    distinct = {each for each in value if not isinstance(each, list) and each != 0}
    if len(distinct) != 1:
        raise Unsupported(f"{place}: {key} differs from layer to layer, which is not modelled for GGUF files yet")
    return distinct.pop()
