"""How long the tables of cosines and sines are that serving engines keep beside the weights."""

from collections.abc import Mapping
from typing import Any

from memcalc.readers.hf.config import MAX_SIZE, Config

# A table has a row for each position of the context, or is stretched by the scaling's factor
# (vLLM, model_executor/layers/rotary_embedding: one file for each of these).
STRETCHED = ("linear", "dynamic")
FROM_ORIGINAL = ("yarn", "deepseek_yarn")  # the original context times the factor
BOTH = ("longrope", "su")  # a short and a long table, one after the other
SECTIONED = 4.0  # multimodal rotary embedding keeps four times the context (Qwen2-VL)


def rotary_stretch(c: Config) -> tuple[float, ...]:
    """Rows, in contexts, of the table for full attention, and of the one for sliding layers that rotate by their own base.

    transformers 5 nests `rope_parameters` by kind of layer; before, `rope_scaling` holds the full layers' scaling and
    `rope_local_base_freq` marks the other table.
    """
    parameters = c.raw("rope_parameters") or c.raw("rope_scaling")
    if not isinstance(parameters, Mapping):
        parameters = {}
    context = c.raw("max_position_embeddings")
    context = context if isinstance(context, int) and 0 < context <= MAX_SIZE else 0
    by_kind = {kind: value for kind, value in parameters.items() if isinstance(value, Mapping)}
    if by_kind:
        full, sliding = by_kind.get("full_attention", {}), by_kind.get("sliding_attention")
        return (_stretch(context, full), *(() if sliding is None else (_stretch(context, sliding),)))
    own = c.raw("rope_local_base_freq") is not None
    return (_stretch(context, parameters), *((1.0,) if own else ()))


def _stretch(context: int, scaling: Mapping[str, Any]) -> float:
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    factor, original = scaling.get("factor"), scaling.get("original_max_position_embeddings")
    stretch = float(factor) if isinstance(factor, (int, float)) and 1 <= factor <= 1024 else 1.0
    start = original / context if context and isinstance(original, int) and 0 < original <= MAX_SIZE else 1.0
    if scaling.get("mrope_section") or kind == "mrope":
        return SECTIONED
    if kind in STRETCHED:
        return stretch
    if kind in FROM_ORIGINAL:
        return start * stretch
    return start + 1 if kind in BOTH else 1.0
