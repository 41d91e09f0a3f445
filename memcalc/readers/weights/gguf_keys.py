"""The hyperparameters of a GGUF file: its keys, and what gives way to its tensors."""

from collections.abc import Callable, Mapping

from memcalc.blocks.stored import StoredTensors
from memcalc.errors import InputError, Unsupported, nearest, one_line
from memcalc.readers.weights.hyperparameters import Hyperparameters
from memcalc.readers.weights.llama_cpp import KEEPING


def hyperparameters(stored: StoredTensors, place: str) -> Hyperparameters:
    """The keys of a file's own architecture."""
    name = stored.metadata.get("general.architecture")
    if not isinstance(name, str):
        raise InputError("general.architecture is missing or no text", place=place)
    if name not in KEEPING:
        known = nearest(name[:40], KEEPING)
        raise Unsupported(f"{place}: the GGUF architecture {one_line(name, 40)} is none of llama.cpp's text models{known}")
    kind = stored.metadata.get("general.type", "model")
    if kind != "model":  # gguf-py/gguf/constants.py, GGUFType
        raise Unsupported(
            f"{place}: is no model but of general.type {one_line(str(kind), 40)}, for one of {name}: name the model"
        )
    prefix = f"{name}."
    keys = {key.removeprefix(prefix): value for key, value in stored.metadata.items() if key.startswith(prefix)}
    h = Hyperparameters(name, keys, place)
    amend = AMENDED.get(name)
    return Hyperparameters(name, {**keys, **amend(h, stored)}, place) if amend else h


def _shared_heads(h: Hyperparameters, stored: StoredTensors) -> dict[str, int]:
    """Falcon 7B's file says 71 key-value heads (its config.json's num_kv_heads); the fused matrix has rows for one."""
    fused = next((t for t in stored.tensors if t.name == "blk.0.attn_qkv.weight"), None)
    width = h.key_length
    return {"attention.head_count_kv": (fused.shape[0] // width - h.heads[0]) // 2} if fused and width else {}


def _predicts_none(h: Hyperparameters, stored: StoredTensors) -> dict[str, int]:
    """DeepSeek V4's file may say prediction layers that it does not hold (src/models/deepseek4.cpp, mtp_probe)."""
    probe = f"blk.{h.layers}.nextn.eh_proj.weight"
    return {} if any(tensor.name == probe for tensor in stored.tensors) else {"nextn_predict_layers": 0}


# architectures whose keys give way to what the file holds
AMENDED: Mapping[str, Callable[[Hyperparameters, StoredTensors], dict[str, int]]] = {
    "falcon": _shared_heads,
    "deepseek4": _predicts_none,
}
