"""One architecture served one way: what the heaviest rank holds, and how much more it could."""

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensors
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.estimates.compute.flops import TEXT_PARTS
from memcalc.estimates.lines import Line, line, totals
from memcalc.estimates.overhead import overhead_lines
from memcalc.estimates.placement import Stage, stages
from memcalc.estimates.serving.assumed import assumptions
from memcalc.estimates.serving.cache import kept
from memcalc.estimates.serving.capacity import COMPONENTS, ServingEstimate
from memcalc.estimates.serving.drafts import draft_lines, freed_tables
from memcalc.estimates.serving.exchanges import exchange_lines
from memcalc.estimates.serving.forward import forward_lines, passes
from memcalc.estimates.serving.llama_cpp import OneGpu, llama_cpp
from memcalc.estimates.serving.ranks import serving_stages
from memcalc.estimates.serving.sglang import facts, graph_lines, request_table
from memcalc.estimates.serving.tiers import tier_lines
from memcalc.estimates.serving.weights import weight_lines
from memcalc.formulas import serving as formulas
from memcalc.formulas import sglang, trtllm
from memcalc.formulas.all_to_all import low_latency_bytes, normal_bytes
from memcalc.formulas.drafts import METHODS
from memcalc.formulas.overhead import communicators_bytes, context_bytes
from memcalc.formulas.sglang import NO_FACTS, ShareFacts
from memcalc.specs.quantization import CHECKPOINT, Mixture, stored_as
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError

# Overhead that comes on top of the share an engine is given.
GRAPHS = (formulas.captured_bytes,)
LATE = (*GRAPHS, sglang.prefill_graphs_bytes, sglang.request_table_bytes)  # taken after the cache
EXCHANGES = (low_latency_bytes, normal_bytes)
BESIDE = (context_bytes, communicators_bytes, *LATE)


def estimate(
    architecture: Architecture,
    run: Serving,
    generation: str = "",
    memory: int = 0,
    draft: Architecture | None = None,
    files: StoredTensors | None = None,
    cards: tuple[OneGpu, ...] = (),
) -> ServingEstimate:
    """The heaviest pipeline stage's rank for one architecture served one way.

    `generation` and `memory` [B] are the GPU's: engines' defaults depend on them. `draft` guesses tokens beside the model.
    `files`: the tensors of the checkpoint, for weights as they are stored there. `cards`: the GPUs, where they differ.
    """
    _check(architecture, run.attention_tp, run.pp, run.ep, run.engine if run.engine_row.pooled else None, run.redundant_experts)
    if architecture.as_stored:
        _check_stored(architecture, run)
    method = METHODS[run.draft_method or "model"]
    if (draft is None) != (run.draft_tokens is None or not method.weights):
        raise SpecError("a draft and the number of tokens that it guesses go together", "draft_tokens")
    if draft and run.pp > 1 and not (run.engine_row.host_embedding or run.engine_row.grouped):
        raise Unsupported(
            f"a draft beside pipeline stages: how {run.engine or 'a library'} places it is not known (vLLM: last)"
        )
    stored = None if run.weights == CHECKPOINT else stored_as(run.weights)
    if run.engine_row.host_embedding:
        return llama_cpp(architecture, run, cards or (OneGpu(generation, memory),) * run.pp, draft, files)
    if len(set(cards)) > 1:
        raise Unsupported(f"GPUs that differ share a model under llama.cpp alone, not {run.engine or 'without an engine'}")
    found = [
        _on_stage(architecture, run, stage, generation, memory, draft, files)
        for stage in serving_stages(architecture, run, files is not None or isinstance(stored, Mixture))
    ]
    return max(found, key=lambda rank: rank.peak)


def _on_stage(
    architecture: Architecture,
    run: Serving,
    stage: Stage,
    generation: str,
    memory: int,
    draft: Architecture | None = None,
    files: StoredTensors | None = None,
) -> ServingEstimate:
    lines = list(weight_lines(architecture, run, stage, files, generation=generation))
    small = None
    if draft and stage.last:  # vllm/v1/worker/gpu_model_runner.py: the last stage's rank has the drafter
        (small,) = stages(draft, run.tp, 1, 1, run.tp)
        lines += draft_lines(draft, run, small, memory, tuple(lines))
    cache = kept(run, stage, memory, small, architecture.model_type, generation)
    lines += cache.lines
    lines += forward_lines(architecture, run, stage, memory, generation)
    known = facts(architecture, generation) if run.engine_row.request_table else NO_FACTS
    lines += _overhead(run, generation, stage, memory, known)
    lines += exchange_lines(run, stage, architecture.hidden, memory)
    lines += tier_lines(run)
    layout = cache.layout
    demand = cache.demand
    if run.engine_row.whole_prompt:
        demand = demand._replace(passes=passes(architecture, run, stage), answer=run.context - run.prompt)
    sums = totals(lines, COMPONENTS)["gpu"]
    host = sum(entry.bytes for entry in lines if entry.place == "host")
    inside = GRAPHS if run.engine_row.graphs_inside else ()
    after = EXCHANGES if run.engine_row.request_table else ()  # SGLang makes buffers with its first pass, vLLM while profiling
    beside, late = (
        sum(entry.bytes for entry in lines if entry.formula in (*some, *after) and entry.formula not in inside)
        for some in (BESIDE, LATE)
    )
    found = ServingEstimate(
        cards=(), run=run, lines=tuple(lines), **sums, host=host, kv_cache_per_token=layout.per_token,
        full_per_token=layout.full_per_token, requests=cache.requests, demand=demand,
        beside=beside if run.engine_row.pooled else 0,
        assumptions=assumptions(architecture, run.engine_row, run.weights, run.eager, layout.windowed),
        stage=stage, facts=known, apart=cache.apart, tables=freed_tables(architecture, run) if small else 0,
        late=late if run.engine_row.pooled else 0,
    )  # fmt: skip
    return _with_table(found, memory) if run.engine_row.request_table else found


def _with_table(found: ServingEstimate, memory: int) -> ServingEstimate:
    """The same beside a table of as many requests as its cache may run."""
    row = request_table(found.run, found.capacity(memory).kv_tokens if memory else None)
    return found._replace(lines=(*found.lines, row), overhead=found.overhead + row.bytes, beside=found.beside + row.bytes,
                          late=found.late + row.bytes)  # fmt: skip


def _overhead(run: Serving, generation: str, stage: Stage, memory: int, known: ShareFacts) -> tuple[Line, ...]:
    row = run.engine_row
    if not row.sampler:
        return overhead_lines(generation, run.ranks > 1)
    sizes = _graph_sizes(run, memory) if row.graphs and not run.eager else 0
    found = _profiled(generation, run.ranks > 1, run.ranks > run.pp)
    if row.request_table:
        return *found, *graph_lines(run, stage, memory, known)
    return (*found, _captured(stage.layers, sizes)) if sizes else found


def _graph_sizes(run: Serving, memory: int) -> int:
    """Batches that graphs are captured for."""
    if run.engine_row.unpadded_graphs:
        return trtllm.graph_sizes(min(run.max_graph_batch or trtllm.LARGEST, run.step_sequences(memory)))
    return formulas.captured_sizes(run.step_sequences(memory), run.batched_tokens(memory), run.max_graph_batch)


@cached(256)
def _captured(layers: int, sizes: int) -> Line:
    return line("overhead", "CUDA graphs", "always", formulas.captured_bytes, sizes=sizes, layers=layers)


@cached(64)
def _profiled(generation: str, several: bool, sharing_layers: bool) -> tuple[Line, ...]:
    """As the engine's profile divides it: the context was there before, graphs come after."""
    lines = [entry for entry in overhead_lines(generation, several) if entry.formula in BESIDE]
    lines.append(line("overhead", "outside PyTorch's allocator", "forward", formulas.outside_bytes,
                      outside=formulas.outside(generation, sharing_layers)))  # fmt: skip
    return tuple(lines)


def _check_stored(architecture: Architecture, run: Serving) -> None:
    """A model that is known by the tensors of its GGUF file alone is served as llama.cpp does, from that file."""
    if not any(part.name in TEXT_PARTS for part in architecture.parts):
        raise Unsupported(
            "an mmproj file is what stands beside a decoder: give the folder that holds both, or the decoder's file"
        )
    what = f"{architecture.model_type}, which is known by the tensors of its GGUF file alone,"
    if run.engine and not run.engine_row.host_embedding:
        raise Unsupported(f"--engine {run.engine}: what it keeps of {what} is not known (llama.cpp is)")
    if run.weights != CHECKPOINT:
        raise Unsupported(f"--weights {run.weights}: {what} is served as it is stored; leave --weights out, or give that file")
    if max(run.tp, run.ep) > 1:
        raise SpecError(f"how {what} divides over GPUs is not known, but by layers (--pp)", "tp", "ep")


@cached(1024)
def _check(architecture: Architecture, tp: int, pp: int, ep: int, engine: str | None, redundant: int = 0) -> None:
    """Whether these degrees divide the model; engines also want key-value heads and ranks to divide each other."""
    heads = layers = experts = 0
    kv_heads = {0}
    for part in architecture.parts:
        for stack in part.stacks:
            layers = max(layers, stack.depth)
            for layer in stack.layers:
                for _, block in layer.blocks:
                    if part.name in ("language", "encoder", "decoder"):
                        heads = heads or block.traits.heads
                        kv_heads.add(block.traits.kv_heads)
                    experts = experts or block.traits.experts
    if heads and heads % tp:
        raise SpecError(f"tensor parallelism {tp} does not divide {heads} attention heads", "tp")
    uneven = [kv for kv in sorted(kv_heads) if kv and max(kv, tp) % min(kv, tp)]
    if engine and uneven:  # vllm/model_executor/models/llama.py, LlamaAttention; sglang/srt/models/llama.py
        raise SpecError(
            f"{engine} refuses {uneven[0]} key-value heads on {tp} ranks: one must be a multiple of the other", "tp"
        )
    if pp > max(layers, 1):
        raise SpecError(f"{pp} pipeline stages for {layers} layers", "pp")
    if ep > 1 and not experts:
        raise SpecError(f"expert parallelism {ep}, but the model has no routed experts", "ep")
    if ep > 1 and (experts + redundant) % ep:
        more = f" and {redundant} held once more" * bool(redundant)
        hint = f"; --redundant-experts {-experts % ep} does" * bool(engine and not redundant)
        raise SpecError(f"expert parallelism {ep} does not divide {experts} experts{more}{hint}", "ep")
