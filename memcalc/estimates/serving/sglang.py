"""What SGLang keeps beside weights, cache and activations: its graphs, and the table of its requests."""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture, Part
from memcalc.blocks.stored import VISION
from memcalc.caches import cached
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.formulas import sglang as formulas
from memcalc.formulas.serving import captured_bytes
from memcalc.formulas.sglang import ShareFacts
from memcalc.specs.serving import Serving

TOWER = (24, 1024)  # ViT-L/14, whose layers and width SGLang takes where a vision config does not name them so
# Vision configs that call them depth and embed_dim: srt/arg_groups/memory_hook.py, adjust_mem_fraction_for_vlm.
UNNAMED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe", "kimi_k25")


@cached(256)
def facts(architecture: Architecture, generation: str = "") -> ShareFacts:
    """What SGLang's share of the GPU depends on."""
    traits = [b.traits for p in architecture.parts for s in p.stacks for layer in s.layers for _, b in layer.blocks]
    latent = any(one.kv_lora_rank for one in traits)
    tower = next((part for part in architecture.parts if part.name == VISION), None)
    return ShareFacts(latent, _tower(tower, architecture.model_type) if tower else None, generation)


def _tower(part: Part, model_type: str) -> tuple[int, int]:
    """Layers and width of a vision tower."""
    norms = [w.shape[0] for s in part.stacks for layer in s.layers for w in layer.weights if len(w.shape) == 1]
    layers = sum(stack.depth for stack in part.stacks)
    return TOWER[0] if model_type in UNNAMED else layers or TOWER[0], min(norms, default=TOWER[1])


def graph_lines(run: Serving, stage: Stage, memory: int, found: ShareFacts) -> Iterator[Line]:
    """Decode graphs, a part for each batch and layer as vLLM's take, and prefill graphs."""
    if largest := run.largest_graph(memory):
        sizes = formulas.decode_graphs(largest, bool(run.draft_tokens))
        yield line("overhead", "CUDA graphs", "always", captured_bytes, sizes=sizes, layers=stage.layers)
    if mebibytes := run.prefill_graphs(memory, found):
        yield line("overhead", "CUDA graphs of prefill", "always", formulas.prefill_graphs_bytes, mebibytes=mebibytes)


def request_table(run: Serving, cache_tokens: int | None) -> Line:
    """`cache_tokens`: of the whole cache, where its memory is known."""
    rows = formulas.request_rows(cache_tokens, run.context, run.max_sequences)
    return line("overhead", "table of requests", "always", formulas.request_table_bytes, rows=rows, context=run.context,
                guesses=run.draft_tokens or 0)  # fmt: skip
