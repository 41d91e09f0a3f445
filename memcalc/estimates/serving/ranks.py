"""What a rank of a served model holds: stages as the engine divides layers, attention by groups, redundant experts."""

from dataclasses import replace

from memcalc.blocks.architecture import Architecture
from memcalc.caches import cached
from memcalc.estimates.placement import Held, Stage, Tensors, all_stages, depth_of, stages
from memcalc.formulas.pipeline_layers import layers_of_stages
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

# Roles that attention's groups divide: vllm and sglang keep embeddings beside them, and divide all else by every rank
# (sglang/srt/layers/dp_attention.py, srt/models/deepseek_v2.py; tensorrt_llm/_torch/modules, enable_attention_dp).
OF_ATTENTION = ("embedding", "position", "attention", "linear-attention", "state-space")


def serving_stages(architecture: Architecture, run: Serving, apart: bool) -> tuple[Stage, ...]:
    """The stages that can differ: `apart`, also those whose layers differ only in what a file stores."""
    layers = run.pp_layers or _divided(architecture, run.engine or "", run.pp)
    if layers and sum(layers) != depth_of(architecture):
        raise SpecError(f"are {sum(layers)} layers, the model has {depth_of(architecture)}", "pp_layers")
    return _stages(architecture, run.tp, run.pp, run.ep, layers, run.attention_dp, run.redundant_experts, apart)


def _divided(architecture: Architecture, engine: str, pp: int) -> tuple[int, ...]:
    depth = depth_of(architecture)
    return () if depth < pp else layers_of_stages(engine, depth, pp)


@cached(1024)
def _stages(
    architecture: Architecture, tp: int, pp: int, ep: int, layers: tuple[int, ...], attention_dp: int, redundant: int,
    apart: bool,
) -> tuple[Stage, ...]:  # fmt: skip
    etp = max(1, tp // ep)  # experts are cut by tensor parallelism only as far as expert parallelism does not
    made = all_stages if apart else stages
    found = tuple(made(architecture, tp, pp, ep, etp, layers))
    if attention_dp > 1:
        groups = made(architecture, tp // attention_dp, pp, ep, etp, layers)
        found = tuple(_joined(stage, group) for stage, group in zip(found, groups, strict=True))
    return tuple(_with_redundant(stage, ep, redundant) for stage in found) if redundant else found


def _joined(stage: Stage, group: Stage) -> Stage:
    """Attention and embeddings as a group of ranks divides them, the rest as all ranks do."""
    held = tuple(b if a.role in OF_ATTENTION else a for a, b in zip(stage.dense.held, group.dense.held, strict=True))
    return replace(stage, dense=Tensors(held))


def _with_redundant(stage: Stage, ep: int, redundant: int) -> Stage:
    return replace(stage, routed=Tensors(tuple(_more(held, ep, redundant) for held in stage.routed.held)))


def _more(held: Held, ep: int, redundant: int) -> Held:
    """A rank's experts and its part of those that are held once more."""
    if held.weight is None or not held.shape:
        return held
    experts = -(-(held.weight.shape[0] + redundant) // ep)
    return held._replace(shape=(experts, *held.shape[1:]))
