"""Formats of weights and cache where none is named: the checkpoint's, the engine's."""

from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensors
from memcalc.errors import Unsupported
from memcalc.formulas.serving_engines import ServingEngine
from memcalc.specs.quantization import CHECKPOINT
from memcalc.specs.serving import PLAIN_FORMATS
from memcalc.specs.spec import SpecError
from memcalc.specs.words import meant

NO_GGUF = ("fp8",)  # checkpoints of which no GGUF type is like: dequantised first (convert_hf_to_gguf.py, dequant_model)
AUTO = "auto"  # of the cache: as where nothing is said
BLACKWELL = ("sm_100", "sm_103")

# What engines make of a float32 checkpoint where no format is named: vllm/config/model.py, _resolve_auto_dtype; sglang/srt/
# configs/model_config.py, _get_and_verify_dtype; transformers/modeling_utils.py, _get_dtype ("auto", which 5.0 defaults to).
FLOAT32 = {"vllm": "bf16", "sglang": "fp16", "transformers": "fp32"}


def with_formats(
    said: dict[str, Any], row: ServingEngine, architecture: Architecture, files: StoredTensors | None, generation: str
) -> None:
    """Adds them to what was said; `precision` names both. `generation`: of the GPU."""
    quantization = architecture.quantization
    if str(said.get("kv_dtype")).strip().lower() == AUTO:
        del said["kv_dtype"]
    if (precision := said.pop("precision", None)) is not None:
        _both(said, meant("precision", precision, PLAIN_FORMATS))
    elif architecture.dtype == "float32" and not quantization.method and said.get("engine") in FLOAT32:
        said.setdefault("weights", FLOAT32[said["engine"]])
        if said["weights"] in PLAIN_FORMATS:
            said.setdefault("kv_dtype", said["weights"])
    elif catalogued(row, architecture, files):
        said.setdefault("weights", row.weights)
    elif files or quantization.method:
        if "weights" not in said and quantization.problem and not files:
            raise Unsupported(quantization.problem)
        said.setdefault("weights", CHECKPOINT)
    if quantization.kv_format:
        said.setdefault("kv_dtype", quantization.kv_format)
    if row.host_embedding:
        said.setdefault("kv_dtype", "fp16")  # common/common.h: cache_type_k and cache_type_v
    if sparse_default(row, architecture, generation):
        said.setdefault("kv_dtype", "fp8")


def catalogued(row: ServingEngine, architecture: Architecture, files: StoredTensors | None) -> bool:
    """Whether an engine's own catalogue says how weights are stored, where nobody else does: of decoders. Files are
    loaded as they are, and encoders (nomic-embed-text, bge-m3) have 16 bits there."""
    method = architecture.quantization.method
    if not row.weights or files or (method and method not in NO_GGUF):
        return False
    stacks = [stack for part in architecture.parts for stack in part.stacks]
    traits = [block.traits for stack in stacks for layer in stack.layers for _, block in layer.blocks if block.traits.heads]
    return not traits or any(each.causal for each in traits)


def _both(said: dict[str, Any], precision: object) -> None:
    """One format for weights and cache."""
    if said.setdefault("weights", precision) != precision:
        raise SpecError(f"say two formats ({precision} and {said['weights']}); give one", "precision", "weights")
    if precision not in PLAIN_FORMATS:
        raise SpecError(f"{precision!r:.40} is not {', '.join(PLAIN_FORMATS)} (other formats: --weights)", "precision")
    said.setdefault("kv_dtype", precision)


def sparse_default(row: ServingEngine, architecture: Architecture, generation: str) -> bool:
    """Whether the cache of sparse latent attention is fp8 where nothing is said: SGLang's on Blackwell (srt/arg_groups/
    overrides.py), vLLM's of GLM there (vllm/model_executor/models/config.py, GlmMoeDsaForCausalLM), and that of compressed
    entries everywhere (vllm/models/deepseek_v4/attention.py, _resolve_dsv4_kv_cache_dtype; SGLang's fp8_e4m3)."""
    traits = [b.traits for part in architecture.parts for s in part.stacks for layer in s.layers for _, b in layer.blocks]
    if row.sparse_fp8 and any(one.compressed for one in traits):
        return True
    if not row.sparse_fp8 or generation not in BLACKWELL:
        return False
    sparse = any(one.kv_lora_rank and one.selected_tokens for one in traits)
    return sparse and (row.blackwell_fp8 is None or architecture.model_type in row.blackwell_fp8)
