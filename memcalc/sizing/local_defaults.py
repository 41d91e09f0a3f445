"""Defaults of engines that people run at home, which depend on the model and on the GPUs: contexts, slots, tokens of a pass."""

from collections.abc import Sequence
from typing import Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensors
from memcalc.estimates.placement import stages
from memcalc.estimates.serving.weights import weight_lines
from memcalc.formulas.ollama import batched_tokens, default_context, predicted_bytes
from memcalc.formulas.serving_engines import ServingEngine
from memcalc.specs.hardware import Accelerator
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

CUDA = "sm_"


def with_local_defaults(
    said: dict[str, Any], row: ServingEngine, architecture: Architecture, files: StoredTensors | None,
    gpus: Sequence[Accelerator], reserved: int = 0,
) -> None:  # fmt: skip
    """Adds to what was said. `gpus`: one of each kind; `reserved` [B]: what others hold on each. Refuses GPUs that the engine
    does not run on."""
    if row.makers and (wrong := [gpu for gpu in gpus if gpu.vendor not in row.makers]):
        raise SpecError(
            f"{row.name} runs on accelerators of {' and '.join(row.makers)} alone, not on {wrong[0].name}", "engine"
        )
    if len(gpus) == 1 and isinstance(said.get("pp"), int):
        gpus = (*gpus,) * min(max(1, said["pp"]), 65536)
    if row.slots and not {"slots", "batch", "samples", "beams"} & said.keys():
        said |= {"slots": row.slots, "unified": True}
    if row.tiers and "context" not in said:
        memory = sum(gpu.limit if gpu.unified else gpu.allocatable for gpu in gpus)
        tokens = default_context(row.tiers, memory)
        said["context"] = min(tokens, architecture.context or tokens)
    if row.sized_steps and "max_batched_tokens" not in said and "context" in said:
        said["max_batched_tokens"] = _step(Serving(**said), architecture, files, gpus, reserved)


def _step(
    run: Serving, architecture: Architecture, files: StoredTensors | None, gpus: Sequence[Accelerator], reserved: int
) -> int:
    """Tokens of a pass, as ollama chooses them from what it takes the model for."""
    (stage,) = stages(architecture, 1, 1, 1, 1)
    stored = sum(entry.bytes for entry in weight_lines(architecture, run, stage, files, whole=True))
    traits = [block.traits for layer in stage.sequence.kinds for _, block in layer.blocks if block.traits.kv_heads]
    fewest = min((each.kv_heads for each in traits), default=0)
    heads = max((each.heads for each in traits), default=0)
    context = run.context * run.batch * run.copies
    predicted = predicted_bytes(stored, stage.layers, fewest, architecture.hidden, heads, context)
    free = sum(max(0, gpu.limit - reserved) for gpu in gpus)
    cuda = any(gpu.architecture.startswith(CUDA) for gpu in gpus)
    return batched_tokens(context, predicted, free, run.flash, cuda)
