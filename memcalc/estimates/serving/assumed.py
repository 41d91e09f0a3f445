"""What an estimate of serving takes for granted, in sentences."""

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import AUDIO, UNBUFFERED, VISION
from memcalc.caches import cached
from memcalc.estimates.stored_weights import weight_assumptions
from memcalc.formulas.serving_engines import ServingEngine
from memcalc.specs.quantization import CHECKPOINT

NO_ENGINE = "activations of the engine are not included: name one (--engine), or leave 5 to 10 % of the memory for them"


@cached(1024)
def assumptions(architecture: Architecture, row: ServingEngine, weights: str, eager: bool, windowed: bool) -> tuple[str, ...]:
    out = [f"as {row.note} accounts for memory" if row.name else NO_ENGINE]
    if windowed and row.window == "window":
        out.append("sliding-window layers keep at most their window")
    out += weight_assumptions(architecture, weights, engine=row.kin)
    if row.host_embedding and weights == CHECKPOINT and any(part.name in (VISION, AUDIO) for part in architecture.parts):
        out.append(UNBUFFERED)
    if row.experts_on_host:
        out.append("prompts that are read layer by layer (--kt-gpu-prefill-token-threshold) take one layer's experts more")
    if row.reuses_buffers:
        out.append("buffers that MLX keeps for reuse are not counted: it gives them back at its limit")
    if row.graphs and not eager:
        where = "are estimated inside" if row.graphs_inside else "come on top of"
        out.append(f"CUDA graphs {where} the engine's share of the GPU")
    return tuple(out)
