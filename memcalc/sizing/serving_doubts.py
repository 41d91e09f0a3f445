"""What goes with an answer about serving in words; apart from training, which does not import how weights are served."""

from memcalc.blocks.architecture import Architecture
from memcalc.sizing.doubts import Doubt, Doubts, beyond_positions, taken_length
from memcalc.specs.quantization import CHECKPOINT, Mixture, stored_as
from memcalc.specs.serving import Serving

SERVING = (
    Doubt(lambda run: run.engine == "tensorrt-llm" and _gguf(run), "TensorRT-LLM does not load GGUF files"),
    Doubt(lambda run: run.engine == "transformers" and _gguf(run),
          "transformers dequantises GGUF files when it loads them: memory will be that of --weights bf16 or fp32"),
    Doubt(lambda run: run.engine in ("vllm", "sglang") and _gguf(run),
          "GGUF files are experimental in this engine: it loads a few families of models, from a single file"),
    Doubt(lambda run: run.engine == "mlx" and not _loads(run, "mlx-", "mx", "nvfp4"),
          "mlx-lm loads 16 bits and formats of its own alone: name one (mlx-4bit, mlx-8bit)"),
    Doubt(lambda run: run.engine == "exllamav3" and not _loads(run, "exl3-"),
          "ExLlamaV3 loads 16 bits and EXL3 alone: name its bits (exl3-4.0bpw)"),
    Doubt(lambda run: run.engine_row.host_embedding and run.weights != CHECKPOINT and not _gguf(run),
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


# What published start-up logs contradict, and why is not known: by engine, model type and generation, weights as in the file.
UNEXPLAINED: dict[tuple[str, str, str], str] = {
    ("sglang", "deepseek_v4", "sm_90"): "a published log of DeepSeek V4 Pro has a quarter more weights than are counted here "
    "(125.65 GiB a GPU of 8 H200, github.com/SemiAnalysisAI/InferenceX/issues/2128), why is not known: leave room for it",
}  # fmt: skip


def _loads(run: Serving, *names: str) -> bool:
    """Whether weights are in 16 bits, in a format of one of these names, or as the checkpoint has them."""
    return run.weights in (CHECKPOINT, "bf16", "fp16") or stored_as(run.weights).name.startswith(names)


def _gguf(run: Serving) -> bool:
    return run.weights != CHECKPOINT and isinstance(stored_as(run.weights, run.engine_row.kin), Mixture)


def of_serving(
    architecture: Architecture, run: Serving, *, length_given: bool, vendor: str | None, reach: int | None,
    weights_given: bool = True, generation: str = "",
) -> Doubts:  # fmt: skip
    """What to say of serving. `vendor` and `generation`: of the accelerator, if one is named; `reach`: tokens of cache that a
    sequence could have."""
    warnings = [doubt.sentence for doubt in SERVING if doubt.of(run)]
    warnings += beyond_positions(architecture, run.context, "a context")
    if why := ELSEWHERE.get((run.engine or "", vendor or "")):
        warnings.append(f"{run.engine} on accelerators of {vendor} {why}: the answer is as on NVIDIA's")
    if run.weights == CHECKPOINT and (why := UNEXPLAINED.get((run.engine or "", architecture.model_type, generation))):
        warnings.append(why)
    if run.gpu_memory_utilization is not None and vendor is None:
        warnings.append("gpu_memory_utilization is a share of a GPU; name one (--gpu)")
    assumptions = []
    if architecture.dtype == "float32" and not weights_given and run.weights not in (CHECKPOINT, run.engine_row.weights):
        whose = f"as {run.engine} does by default" if run.engine in ("vllm", "sglang", "transformers") else "memcalc's default"
        assumptions.append(f"the checkpoint is float32 and served in {run.weights}, {whose}: --weights names another")
    if (row := run.engine_row).weights and not weights_given and run.weights == row.weights:
        assumptions.append(f"weights are not given: {run.weights}, as {row.catalogue}; --weights names another")
    if not length_given:
        assumptions.append(
            f"context is not given: {run.context:,} tokens, as {run.engine} takes them on such GPUs"
            if run.engine_row.tiers and run.context != architecture.context
            else taken_length(
                "context", run.context, architecture.context, run.engine if run.engine_row.whole_context else None
            )
        )
    if architecture.context and reach and reach > max(architecture.context, run.context):
        assumptions.append(
            f"the cache has room for sequences of {reach:,} tokens, the model has {architecture.context:,} positions: "
            f"beyond them it needs RoPE scaling"
        )
    return Doubts(tuple(warnings), tuple(assumptions))
