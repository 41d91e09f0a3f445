"""What one can change about serving so that it needs less memory, cheapest first, and what each change costs."""

from memcalc.estimates.placement import depth_of
from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.estimates.serving.sglang import facts
from memcalc.estimates.suggestions import Changes, Ladder, Lever, Settings, Subject, each, larger_accelerators
from memcalc.formulas.sglang import NO_FACTS, ShareFacts
from memcalc.specs.serving import Serving
from memcalc.units import format_bytes

# What an engine loads, largest first: a row of memcalc.formulas.serving_engines, "" for none.
WEIGHTS: dict[str, tuple[str, ...]] = {
    "": ("bf16", "int8", "int4-g128"),
    "vllm": ("bf16", "fp8", "int4-g128"),
    "sglang": ("bf16", "fp8", "int4-g128"),
    "tensorrt-llm": ("bf16", "fp8", "int4-g128"),
    "llama.cpp": ("bf16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"),
    "transformers": ("bf16", "bnb-int8", "nf4"),
    "mlx": ("bf16", "mlx-8bit", "mlx-6bit", "mlx-5bit", "mlx-4bit", "mlx-3bit"),
    "exllamav3": ("bf16", "exl3-8bpw", "exl3-6bpw", "exl3-5bpw", "exl3-4bpw", "exl3-3bpw", "exl3-2.5bpw"),
}
CACHES: dict[str, tuple[str, ...]] = {
    "": ("bf16", "fp8"),
    "vllm": ("bf16", "fp8", "int8-per-token-head", "int4-per-token-head"),
    "sglang": ("bf16", "fp8"),
    "tensorrt-llm": ("bf16", "fp8"),
    "llama.cpp": ("fp16", "q8_0", "q4_0"),
    "transformers": ("bf16",),
    "mlx": ("bf16", "mlx-8bit", "mlx-4bit"),
    "exllamav3": ("bf16", "int8-g32", "int6-g32", "int4-g32"),
}
EIGHT_BIT_FLOATS = ("sm_89", "sm_90", "sm_100", "sm_103", "sm_120", "sm_121", "gfx942", "gfx950", "gfx1201")  # compute in fp8
SCALED = ("int8-per-token-head", "int4-per-token-head")
PARTS = ((3, 4), (1, 2), (3, 8), (1, 4), (3, 16), (1, 8), (1, 16), (1, 32), (1, 64))  # of what was asked
LEAST_CONTEXT = 512  # tokens
DEGREES = (2, 4, 8, 16)
UTILIZATION = 0.95  # of the GPU: above it little is left for what engines do not count
FEW_TOKENS, FEW_SEQUENCES = 2048, 256  # in one step: vLLM's defaults on small GPUs


# --- what each lever changes ------------------------------------------------------------------------------------------


def _utilization(s: Subject) -> Settings | None:
    run: Serving = s.run
    if s.gpu is None or not run.engine_row.pooled or run.kv_cache_memory is not None:
        return None
    return {"gpu_memory_utilization": UTILIZATION} if run.utilization(s.gpu.allocatable, _facts(s)) < UTILIZATION else None


def _facts(s: Subject) -> ShareFacts:
    return facts(s.architecture, s.gpu.architecture if s.gpu else "") if s.architecture else NO_FACTS


def _step(s: Subject) -> Settings | None:
    """Fewer tokens and sequences in a forward pass, never fewer than are asked for at once."""
    run: Serving = s.run
    memory = s.gpu.allocatable if s.gpu else 0
    row = run.engine_row
    changes: Settings = {}
    if row.name and not row.whole_prompt and row.pooled and run.batched_tokens(memory) > FEW_TOKENS:
        changes["max_batched_tokens"] = FEW_TOKENS
    at_once = run.batch * run.copies
    if row.sequences and row.schedules and run.step_sequences(memory) > FEW_SEQUENCES >= at_once:
        changes["max_sequences"] = FEW_SEQUENCES
    return changes or None


def _weights(place: int, s: Subject) -> Settings | None:
    return _format("weights", WEIGHTS, place, s)


def _cache(place: int, s: Subject) -> Settings | None:
    """What the release takes; int8 with scales where the GPU computes no fp8."""
    found, taken = _format("kv_dtype", CACHES, place, s), s.run.engine_row.caches
    word = found and found["kv_dtype"]
    if word in SCALED and (word not in taken or (word == SCALED[0] and s.gpu and s.gpu.architecture in EIGHT_BIT_FLOATS)):
        return None
    return found


def _adapters(s: Subject) -> Settings | None:
    """Slots divided over the ranks, where the engine can."""
    run: Serving = s.run
    sharded = run.lora_adapters and run.engine_row.shards_adapters and run.tp > 1 and not run.sharded_adapters
    return {"sharded_adapters": True} if sharded else None


def _format(name: str, table: dict[str, tuple[str, ...]], place: int, s: Subject) -> Settings | None:
    words = table[s.run.engine_row.kin]
    if place >= len(words) or words[place] == getattr(s.run, name):
        return None
    if words[place] == "fp8" and s.gpu and s.gpu.architecture not in EIGHT_BIT_FLOATS:
        return None
    return {name: words[place]}


def _eager(s: Subject) -> Settings | None:
    return {"eager": True} if s.run.engine_row.graphs and not s.run.eager else None


def _batch(part: tuple[int, int], s: Subject) -> Settings | None:
    batch = s.run.batch * part[0] // part[1]
    return {"batch": batch} if 0 < batch < s.run.batch else None


def _one_request(s: Subject) -> Settings | None:
    return {"batch": 1} if s.run.batch > 1 else None


def _length(part: tuple[int, int], s: Subject) -> Settings | None:
    """A part of the model's maximum, where the engine took all of it and nobody asked for that."""
    return _shorter(part, s) if "context" in s.unsaid and s.run.engine_row.whole_context else None


def _context(part: tuple[int, int], s: Subject) -> Settings | None:
    return None if _length(part, s) else _shorter(part, s)


def _shorter(part: tuple[int, int], s: Subject) -> Settings | None:
    context = s.run.context * part[0] // part[1]
    return {"context": context} if context >= LEAST_CONTEXT else None


def _offloads(s: Subject) -> bool:
    """Whether host memory is another than the GPU's, and the engine may use it."""
    run: Serving = s.run
    return run.engine_row.host_embedding and s.architecture is not None and not (s.gpu and s.gpu.unified)


def _experts(eighths: int, s: Subject) -> Settings | None:
    """The experts of the first layers in host memory, whose other tensors and cache stay on the GPU."""
    run: Serving = s.run
    if not _offloads(s) or s.architecture is None or not any(counted.weight.routed for counted in s.architecture.weights):
        return None
    layers = -(-depth_of(s.architecture) * eighths // 8)
    return {"n_cpu_moe": layers} if layers > (run.n_cpu_moe or 0) and run.gpu_layers is None else None


def _layers(eighths: int, s: Subject) -> Settings | None:
    run: Serving = s.run
    if not _offloads(s) or s.architecture is None:
        return None
    layers = depth_of(s.architecture) * eighths // 8
    return {"gpu_layers": layers} if run.gpu_layers is None or layers < run.gpu_layers else None


def _degree(degree: int, s: Subject) -> Settings | None:
    run: Serving = s.run
    name = "pp" if run.engine_row.host_embedding else "tp"
    return {name: degree} if degree > getattr(run, name) and run.ep == 1 else None


# --- what it costs ----------------------------------------------------------------------------------------------------


def _cost_of_utilization(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"{1 - UTILIZATION:.0%} of the GPU is left for others"


def _cost_of_step(before: ServingEstimate, after: ServingEstimate) -> str:
    return "prompts are read in smaller chunks" if after.run.max_batched_tokens else "smaller steps"


def _cost_of_cache(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"keys and values rounded to {after.run.kv_dtype}"


def _cost_of_weights(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"weights rounded to {after.run.weights}"


def _cost_of_adapters(before: ServingEstimate, after: ServingEstimate) -> str:
    return "a message more in each adapted linear"


def _cost_of_eager(before: ServingEstimate, after: ServingEstimate) -> str:
    return "no CUDA graphs: more time between kernels"


def _cost_of_batch(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"{before.run.batch - after.run.batch} of {before.run.batch} requests wait"


def _cost_of_context(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"no more than {after.run.context:,} tokens a request"


def _cost_of_length(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"no more than {after.run.context:,} tokens a request ({before.run.engine} takes the model's {before.run.context:,})"


def _cost_of_layers(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"the other layers and their cache in host memory ({format_bytes(after.host)}), computed by the CPU"


def _cost_of_experts(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"the experts of {after.run.n_cpu_moe} layers in host memory ({format_bytes(after.host)})"


def _cost_of_degree(before: ServingEstimate, after: ServingEstimate) -> str:
    return f"{after.run.gpus} GPUs in place of {before.run.gpus}"


def _cost_of_gpu(before: ServingEstimate, after: ServingEstimate) -> str:
    return "another accelerator"


# --- the table --------------------------------------------------------------------------------------------------------


UTIL = Lever("utilization", (_utilization,), _cost_of_utilization)
STEP = Lever("step", (_step,), _cost_of_step)
LENGTH = Lever("length", each(_length, *PARTS), _cost_of_length)
CACHE = Lever("cache format", each(_cache, *range(max(map(len, CACHES.values())))), _cost_of_cache)
STORED = Lever("weight format", each(_weights, *range(max(map(len, WEIGHTS.values())))), _cost_of_weights)
ADAPTERS = Lever("adapters", (_adapters,), _cost_of_adapters)
EAGER = Lever("eager", (_eager,), _cost_of_eager)
BATCH = Lever("batch", (*each(_batch, *PARTS, (1, 128), (1, 256)), _one_request), _cost_of_batch)
CONTEXT = Lever("context", each(_context, *PARTS), _cost_of_context)
EXPERTS = Lever("experts", each(_experts, *range(1, 9)), _cost_of_experts)
LAYERS = Lever("layers", each(_layers, *range(7, -1, -1)), _cost_of_layers)
DEGREE = Lever("parallelism", each(_degree, *DEGREES), _cost_of_degree, turn=1, hardware=True)
GPU = Lever("gpu", larger_accelerators(), _cost_of_gpu, turn=0, hardware=True)

# Cheapest first.
LEVERS = (UTIL, STEP, ADAPTERS, LENGTH, CACHE, STORED, EAGER, BATCH, CONTEXT, EXPERTS, LAYERS, DEGREE, GPU)

_SETTINGS = (UTIL, STEP, CACHE, STORED)
LADDERS = (
    Ladder((CACHE, UTIL, STEP, ADAPTERS, EAGER)),
    Ladder((LENGTH, *_SETTINGS)),
    Ladder(_SETTINGS),
    Ladder((UTIL, STEP, BATCH)),
    Ladder((UTIL, STEP, CACHE, CONTEXT)),
    Ladder((*_SETTINGS, EAGER, BATCH, CONTEXT)),
    Ladder((LENGTH, CACHE, EXPERTS)),
    Ladder((LENGTH, CACHE, CONTEXT, LAYERS)),
    Ladder(_SETTINGS, (DEGREE,)),
    Ladder(_SETTINGS, (GPU,)),
)
CHANGES = Changes(LEVERS, LADDERS)
