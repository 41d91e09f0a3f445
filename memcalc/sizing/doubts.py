"""What goes with an answer in words: settings that contradict each other or the model, and lengths that nobody gave.

What cannot be answered is refused elsewhere; here stands what is answered, but perhaps was not meant.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from memcalc.blocks.architecture import Architecture
from memcalc.specs.quantization import CHECKPOINT, Mixture, stored_as
from memcalc.specs.serving import Serving
from memcalc.specs.training import Training


class Doubts(NamedTuple):
    """Sentences for `warnings[]` and for `assumptions[]`."""

    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


class Doubt(NamedTuple):
    """A sentence, and when it is true of a run."""

    of: Callable[..., bool]
    sentence: str


TRAINING = (
    Doubt(lambda run: (run.parallelism.zero or 0) >= 2 and run.engine == "megatron",
          "ZeRO stages 2 and 3 are DeepSpeed's: Megatron-LM shards states alone (--zero 1) or by FSDP (--fsdp)"),
    Doubt(lambda run: bool(run.parallelism.zero) and run.engine in ("torchtitan", "torchtune", "fsdp-qlora"),
          "ZeRO is DeepSpeed's: this engine shards by FSDP (--fsdp); buffers are counted as DeepSpeed's"),
    Doubt(lambda run: run.parallelism.fsdp not in (None, "none") and run.engine == "deepspeed",
          "FSDP is PyTorch's: DeepSpeed shards by ZeRO (--zero)"),
    Doubt(lambda run: run.parallelism.zero is not None and run.parallelism.gpus == 1,
          "ZeRO on one GPU shards nothing; its buffers are counted"),
    Doubt(lambda run: run.allocator_settings.expandable_segments and run.allocator_settings.max_split_size_mb > 0,
          "max_split_size keeps free blocks of that size from smaller requests in expandable segments too, where free blocks "
          "grow together: much is reserved and cannot be used; give one of the two"),
)  # fmt: skip

SERVING = (
    Doubt(lambda run: run.engine == "tensorrt-llm" and _gguf(run), "TensorRT-LLM does not load GGUF files"),
    Doubt(lambda run: run.engine == "transformers" and _gguf(run),
          "transformers dequantises GGUF files when it loads them: memory will be that of --weights bf16 or fp32"),
    Doubt(lambda run: run.engine in ("vllm", "sglang") and _gguf(run),
          "GGUF files are experimental in this engine: it loads a few families of models, from a single file"),
    Doubt(lambda run: run.engine == "llama.cpp" and run.weights != CHECKPOINT and not _gguf(run),
          "llama.cpp loads GGUF files alone: name their type (Q4_K_M, Q8_0, BF16)"),
)  # fmt: skip


# Engines whose accounting as modelled does not hold on a maker's accelerators, and why (docs.vllm.ai and docs.sglang.io,
# installation; TensorRT-LLM is NVIDIA's alone).
PLUGIN = "runs there by a backend of its own (vLLM-Metal, on MLX)"
METAL = "runs there in newer releases alone, by a backend of its own (Metal)"
ELSEWHERE: dict[tuple[str, str], str] = {
    ("vllm", "Apple"): PLUGIN, ("sglang", "Apple"): METAL,
    **{("tensorrt-llm", maker): "does not run there" for maker in ("AMD", "Apple", "AWS", "Google", "Huawei", "Intel")},
}  # fmt: skip


def _gguf(run: Serving) -> bool:
    return run.weights != CHECKPOINT and isinstance(stored_as(run.weights, run.engine or ""), Mixture)


def of_training(architecture: Architecture | None, run: Training, *, length_given: bool) -> Doubts:
    """What to say of a training run. Of a bare parameter count nothing depends on lengths."""
    warnings = [doubt.sentence for doubt in TRAINING if doubt.of(run)]
    if architecture is None:
        return Doubts(tuple(warnings))
    warnings += _beyond(architecture, run.seq_len_max or run.seq_len, "sequences")
    return Doubts(tuple(warnings), () if length_given else (_taken("seq_len", run.seq_len, architecture.context),))


def of_serving(
    architecture: Architecture, run: Serving, *, length_given: bool, vendor: str | None, reach: int | None,
    weights_given: bool = True,
) -> Doubts:  # fmt: skip
    """What to say of serving. `vendor`: of the accelerator, if one is named; `reach`: tokens of cache a sequence could have."""
    warnings = [doubt.sentence for doubt in SERVING if doubt.of(run)]
    warnings += _beyond(architecture, run.context, "a context")
    if why := ELSEWHERE.get((run.engine or "", vendor or "")):
        warnings.append(f"{run.engine} on accelerators of {vendor} {why}: the answer is as on NVIDIA's")
    if run.gpu_memory_utilization is not None and vendor is None:
        warnings.append("gpu_memory_utilization is a share of a GPU; name one (--gpu)")
    assumptions = []
    if architecture.dtype == "float32" and not weights_given and run.weights != CHECKPOINT:
        whose = f"as {run.engine} does by default" if run.engine in ("vllm", "sglang", "transformers") else "memcalc's default"
        assumptions.append(f"the checkpoint is float32 and served in {run.weights}, {whose}: --weights names another")
    if not length_given:
        assumptions.append(
            _taken("context", run.context, architecture.context, run.engine if run.engine_row.whole_context else None)
        )
    if architecture.context and reach and reach > max(architecture.context, run.context):
        assumptions.append(
            f"the cache has room for sequences of {reach:,} tokens, the model has {architecture.context:,} positions: "
            f"beyond them it needs RoPE scaling"
        )
    return Doubts(tuple(warnings), tuple(assumptions))


def not_replayed(names: Iterable[str]) -> str:
    """What to say of the allocator's settings where the step is not replayed on it."""
    return f"{', '.join(names)}: without effect here, as the order of this run's allocations is not known"


def _taken(name: str, length: int, context: int | None, engine: str | None = None) -> str:
    reason = "memcalc's default"
    if context and length == context:
        reason = f"the model's maximum, as {engine} takes it" if engine else "the model's maximum"
    elif context:
        reason += f"; the model has {context:,} positions"
    return f"{name} is not given: {length:,} tokens, {reason}"


def _beyond(architecture: Architecture, length: int, what: str) -> list[str]:
    context = architecture.context
    if not context or length <= context:
        return []
    table = any(counted.weight.role == "position" for counted in architecture.weights if counted.part != "vision")
    way = "its table of positions ends there" if table else "it needs RoPE scaling"
    return [f"{what} of {length:,} tokens: the model has {context:,} positions, {way}"]


def unsaid(name: str, run: Training | Serving | None, settings: Mapping[str, object]) -> bool:
    """Whether nobody gave a setting."""
    return settings.get(name) is None and (run is None or name not in run.model_fields_set)
