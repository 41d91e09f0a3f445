"""What one can change about a training run so that it needs less memory, cheapest first, and what each change costs."""

from functools import partial

from memcalc.estimates.suggestions import Changes, Ladder, Lever, Settings, Subject, each, larger_accelerators
from memcalc.estimates.training.activations import shape
from memcalc.estimates.training.estimate import TrainingEstimate
from memcalc.frozen import NamedTuple
from memcalc.specs.parallelism import MAX_GPUS
from memcalc.specs.step_settings import OFFLOADABLE
from memcalc.specs.training import Training
from memcalc.units import counted, format_bytes, format_count

LEAST_SEQUENCE = 256  # tokens: shorter ones are another task
DEGREES = (2, 4, 8, 16, 32, 64)

# The same update rule with less state, by optimizer.
SMALLER_STATES = {
    "adam": "adamw-8bit", "adamw": "adamw-8bit", "adamw-bf16": "adamw-8bit", "paged-adamw": "paged-adamw-8bit",
    "lion": "lion-8bit",
}  # fmt: skip
# Pure 16-bit training in place of what keeps fp32 weights, and mixed precision in place of fp32.
SMALLER_PRECISION = {
    "fp32": ("bf16-mixed", "bf16"), "bf16-mixed": ("bf16",), "bf16-amp": ("bf16-mixed", "bf16"), "fp16-mixed": ("bf16",),
    "fp16-amp": ("fp16-mixed", "bf16"), "fp8-mixed": ("bf16",), "nvfp4-mixed": ("bf16",),
}  # fmt: skip
CHUNKED = ("chunked", "fused", "chunked-head", "tiled-head")  # losses that never hold all logits in fp32


class Habits(NamedTuple):
    """What an engine can be told to do."""

    zero: int = 0  # the highest ZeRO stage; 0: it shards with FSDP
    adapters: bool = True
    losses: bool = True  # chunked or fused
    small_states: bool = True  # 8-bit optimizers


# Engines that were named; torch alone takes either kind of sharding.
HABITS = {
    "deepspeed": Habits(zero=3), "megatron": Habits(1, adapters=False, losses=False, small_states=False),
    "torchtitan": Habits(adapters=False), "accelerate": Habits(), "torchtune": Habits(), "fsdp-qlora": Habits(),
    "litgpt": Habits(),
}  # fmt: skip
EITHER = Habits(zero=3)


# --- what each lever changes ------------------------------------------------------------------------------------------


def _recompute(word: str, s: Subject) -> Settings | None:
    run: Training = s.run
    if word == "selective":
        return {"recompute": word} if run.recompute == "none" else None
    if run.recompute != "full":
        return {"recompute": "full"}
    if (run.recompute_every or 1) > 1:
        return {"recompute_every": 1}
    return None


def _attention(s: Subject) -> Settings | None:
    return {"attention": "flash"} if s.run.attention == "eager" else None


def _loss(word: str, s: Subject) -> Settings | None:
    done = s.run.loss_used in CHUNKED[CHUNKED.index(word) :]
    return None if done or not _habits(s.run).losses else {"loss": word}


def _micro_batch(parts: int, s: Subject) -> Settings | None:
    run: Training = s.run
    if run.micro_batch % parts:
        return None
    return {"micro_batch": run.micro_batch // parts, "grad_accum": run.grad_accum * parts}


def _one_sequence(s: Subject) -> Settings | None:
    return _micro_batch(s.run.micro_batch, s) if s.run.micro_batch > 1 else None


def _evaluation(parts: int, s: Subject) -> Settings | None:
    """Fewer logits of an evaluation at a time: those of one pass, then those of fewer sequences."""
    run: Training = s.run
    if parts == 1:
        return {"eval_accumulation": 1} if run.eval_accumulation > 1 else None
    return {"eval_batch": run.eval_batch // parts} if run.eval_batch and run.eval_batch % parts == 0 else None


def _states(s: Subject) -> Settings | None:
    smaller = SMALLER_STATES.get(s.run.optimizer)
    return {"optimizer": smaller} if smaller and not s.run.adapts and _habits(s.run).small_states else None


def _sharding(level: int, s: Subject) -> Settings | None:
    """Level 1 to 3 as ZeRO counts them; with FSDP, 2 is grad-op and 3 full."""
    run: Training = s.run
    p = run.parallelism
    if p.shard_ranks == 1:
        return None
    if _with_fsdp(run) or (level == 3 and p.zero is None and run.engine in (None, "torch")):
        word = {1: "", 2: "grad-op", 3: "full"}[level]
        whole = p.fsdp == "full" and p.fsdp_shards == p.shard_ranks
        if not word or whole or (word == "grad-op" and p.fsdp not in (None, "none")):
            return None
        return _strategy(run, fsdp=word)
    return _strategy(run, zero=level) if (p.zero or 0) < level <= _habits(run).zero else None


def _offload(what: tuple[str, ...], s: Subject) -> Settings | None:
    run: Training = s.run
    p = run.parallelism
    if run.adapts and what == ("optimizer",):
        return None  # adapters' states are small
    sharded = p.fsdp not in (None, "none")
    wanted = tuple(name for name in OFFLOADABLE if name in what or name in run.offload)
    if wanted == run.offload or (s.gpu and s.gpu.unified):  # host memory is the GPU's there
        return None
    needs = 3 if "parameters" in wanted else (2 if p.pp == 1 else 1) if "optimizer" in wanted else 0
    if _with_fsdp(run) and needs:
        if what == ("optimizer",):
            return None  # FSDP offloads parameters and their states together
        return {"offload": wanted, **({} if sharded else _strategy(run, fsdp="full"))}
    least = min(needs, _habits(run).zero)
    if "parameters" in wanted and least < 3:
        return None
    return {"offload": wanted, **(_strategy(run, zero=least) if (p.zero or 0) < least else {})}


def _habits(run: Training) -> Habits:
    return HABITS.get(run.engine or "", EITHER)


def _with_fsdp(run: Training) -> bool:
    return run.parallelism.fsdp is not None or not _habits(run).zero


def _strategy(run: Training, **strategy: object) -> Settings:
    """A way of sharding in place of the one that was named."""
    p = run.parallelism
    factor = {"shard_size": p.shard_ranks} if p.shard_size is not None else {}
    return {**strategy, **factor, **({"ddp": False} if p.ddp else {})}


def _degree(name: str, degree: int, s: Subject) -> Settings | None:
    """A model-parallel degree on the same GPUs; the global batch stays by accumulating more."""
    p = s.run.parallelism
    old = getattr(p, name)
    if s.architecture is None or degree <= old or p.gpus % degree or (name == "tp" and degree > p.gpus_per_node):
        return None
    if name == "ep":
        return {"ep": degree} if shape(s.architecture).experts else None
    if p.data_parallel * old % degree:
        return None
    changes: Settings = {name: degree}
    copies = p.data_parallel * old // degree
    if copies < p.data_parallel:
        if p.data_parallel % copies:
            return None
        changes["grad_accum"] = s.run.grad_accum * (p.data_parallel // copies)
    if name == "tp" and not p.sequence_parallel:
        changes["sequence_parallel"] = True
    if p.shard_size is not None and p.shard_size > 1:
        changes["shard_size"] = min(p.shard_size, copies * (degree if name == "cp" else p.cp))
    return changes


def _precision(step: int, s: Subject) -> Settings | None:
    words = SMALLER_PRECISION.get(s.run.precision, ())
    return {"precision": words[step]} if step < len(words) else None


def _method(word: str, s: Subject) -> Settings | None:
    run: Training = s.run
    done = run.method_row.quantised or (word == "lora" and run.adapts)
    if s.architecture is None or done or not _habits(run).adapters:
        return None
    return {"method": word}


def _shorter(parts: int, s: Subject) -> Settings | None:
    run: Training = s.run
    if s.architecture is None or run.seq_len % parts or run.seq_len // parts < LEAST_SEQUENCE:
        return None
    return {"seq_len": run.seq_len // parts}


def _gpus(times: int, s: Subject) -> Settings | None:
    gpus = s.run.parallelism.gpus * times
    return {"gpus": gpus} if gpus <= MAX_GPUS else None


# --- what it costs ----------------------------------------------------------------------------------------------------


def flops_of(found: TrainingEstimate) -> tuple[float, float]:
    """FLOPs of a token's forward and backward, and of what is computed again for it. Behind frozen weights half the backward
    is left out."""
    from memcalc.estimates.compute.flops import step_flops

    run = found.run
    assert found.architecture is not None
    flops = step_flops(found.architecture, 1, run.seq_len, recompute=run.recompute)
    layers = max(1, shape(found.architecture).layers // run.parallelism.pp)
    often = min(1.0, (run.first_layers or layers) / layers) / (run.recompute_every or 1)
    again = flops.recomputation * often if run.recompute != "none" else 0.0
    return (flops.forward + flops.backward * run.method_row.backward_share) / run.seq_len, again / run.seq_len


def more_flops(before: TrainingEstimate, after: TrainingEstimate) -> float:
    """FLOPs that are computed again beyond what the run as it was asked for does, as a share of all that it does."""
    if before.architecture is None or after.architecture is None:
        return 0.0
    asked, again = flops_of(before)
    return (flops_of(after)[1] - again) / (asked + again)


def _cost_of_recomputation(before: TrainingEstimate, after: TrainingEstimate) -> str:
    more = more_flops(before, after)
    return f"{more:.1%} more FLOPs" if more > 0 else "activations are computed again"


def _cost_of_loss(before: TrainingEstimate, after: TrainingEstimate) -> str:
    return "a fused loss such as Liger's" if after.run.loss == "fused" else "a loss over chunks of tokens, as in torchtune"


def _cost_of_batch(before: TrainingEstimate, after: TrainingEstimate) -> str:
    return f"{before.run.micro_batch // after.run.micro_batch} times as many passes, each over fewer sequences"


def _cost_of_evaluation(before: TrainingEstimate, after: TrainingEstimate) -> str:
    if after.run.eval_batch == before.run.eval_batch:
        return "the evaluation moves its logits to the host after each pass"
    return f"the evaluation takes {counted(after.run.eval_batch or 0, 'sequence')} at a time"


def _cost_of_states(before: TrainingEstimate, after: TrainingEstimate) -> str:
    return "optimizer states rounded to 8 bits"


def _cost_of_sharding(before: TrainingEstimate, after: TrainingEstimate) -> str:
    p = after.run.parallelism
    return "1.5 times DDP's traffic" if p.zero == 3 or p.fsdp == "full" else "no more traffic than DDP"


def _cost_of_offload(before: TrainingEstimate, after: TrainingEstimate) -> str:
    what = " and ".join(name for name in after.run.offload if name not in ("activations", *before.run.offload))
    size = "" if "activations" in after.run.offload else f" ({format_bytes(after.host_per_node + after.nvme_per_node)} a node)"
    return f"{what} in host memory{size}, over PCIe every step"


def _cost_of_activations(before: TrainingEstimate, after: TrainingEstimate) -> str:
    return f"activations in host memory ({format_bytes(after.host_per_node)} a node in all), over PCIe in every pass"


def _cost_of_degree(name: str, what: str, before: TrainingEstimate, after: TrainingEstimate) -> str:
    return f"{what} over {getattr(after.run.parallelism, name)} GPUs"


def _cost_of_precision(before: TrainingEstimate, after: TrainingEstimate) -> str:
    if after.run.precision == "bf16":
        return "no fp32 weights: updates below 1/256 of a weight are lost"
    return f"matrix products in {after.run.precision.partition('-')[0]}"


def _cost_of_method(before: TrainingEstimate, after: TrainingEstimate) -> str:
    p = after.run.parallelism
    count = f"{format_count(after.trainable)} parameters " if p.tp * p.pp * p.ep == 1 else ""
    frozen = "4-bit frozen weights" if after.run.method_row.quantised else ""
    return ", ".join(
        filter(None, (frozen, "" if before.run.adapts else f"only adapters {count and f'({count.strip()}) '}are trained"))
    )


def _cost_of_sequence(before: TrainingEstimate, after: TrainingEstimate) -> str:
    return f"sequences above {after.run.seq_len:,} tokens are cut or split"


def _cost_of_gpus(before: TrainingEstimate, after: TrainingEstimate) -> str:
    old, new = before.run.parallelism.gpus, after.run.parallelism.gpus
    return f"{new} GPUs in place of {old}, a global batch {new // old} times as large"


def _cost_of_gpu(before: TrainingEstimate, after: TrainingEstimate) -> str:
    return "another accelerator"


# --- the table --------------------------------------------------------------------------------------------------------


RECOMPUTE = Lever("recomputation", each(_recompute, "selective", "full"), _cost_of_recomputation)
EVALUATION = Lever("evaluation", each(_evaluation, 1, *DEGREES), _cost_of_evaluation)
ATTENTION = Lever("attention", (_attention,), lambda before, after: "")
LOSS = Lever("loss", each(_loss, *CHUNKED), _cost_of_loss)
BATCH = Lever("micro-batch", (*each(_micro_batch, *DEGREES), _one_sequence), _cost_of_batch)
STATES = Lever("optimizer states", (_states,), _cost_of_states, turn=3)
SHARDING = Lever("sharding", each(_sharding, 1, 2, 3), _cost_of_sharding, turn=3)
OFFLOAD = Lever("offload", each(_offload, ("optimizer",), ("optimizer", "parameters")), _cost_of_offload, turn=4)
ACTIVATIONS = Lever("activations", each(_offload, ("activations",)), _cost_of_activations, turn=6)
CONTEXT = Lever("context parallelism", each(partial(_degree, "cp"), *DEGREES),
                partial(_cost_of_degree, "cp", "keys and values are exchanged"), turn=2)  # fmt: skip
TENSOR = Lever("tensor parallelism", each(partial(_degree, "tp"), *DEGREES),
               partial(_cost_of_degree, "tp", "activations of every layer are exchanged"), turn=2)  # fmt: skip
EXPERTS = Lever("expert parallelism", each(partial(_degree, "ep"), *DEGREES),
                partial(_cost_of_degree, "ep", "tokens are exchanged"), turn=2)  # fmt: skip
PRECISION = Lever("precision", each(_precision, 0, 1), _cost_of_precision, turn=3)
LORA = Lever("adapters", each(_method, "lora"), _cost_of_method, turn=0)
QLORA = Lever("4-bit adapters", each(_method, "qlora"), _cost_of_method, turn=0)
SEQUENCE = Lever("sequence", each(_shorter, *DEGREES), _cost_of_sequence, turn=1)
GPUS = Lever("gpus", each(_gpus, *(2**power for power in range(1, 11))), _cost_of_gpus, turn=1, hardware=True)
GPU = Lever("gpu", larger_accelerators(), _cost_of_gpu, turn=0, hardware=True)

# Cheapest first.
LEVERS = (
    EVALUATION, ATTENTION, RECOMPUTE, LOSS, BATCH, STATES, SHARDING, OFFLOAD, ACTIVATIONS, CONTEXT, TENSOR, EXPERTS, PRECISION,
    LORA, QLORA, SEQUENCE, GPUS, GPU,
)  # fmt: skip

_SETTINGS = (EVALUATION, ATTENTION, RECOMPUTE, LOSS, BATCH, SHARDING, STATES)
_PARALLEL = (CONTEXT, TENSOR, EXPERTS)
LADDERS = (
    Ladder(_SETTINGS),
    Ladder((*_SETTINGS, OFFLOAD, ACTIVATIONS)),
    Ladder((*_SETTINGS, PRECISION)),
    Ladder((*_SETTINGS, *_PARALLEL)),
    Ladder((*_SETTINGS, *_PARALLEL, OFFLOAD, ACTIVATIONS), (LORA,)),
    Ladder((*_SETTINGS, *_PARALLEL, OFFLOAD, ACTIVATIONS), (QLORA,)),
    Ladder((*_SETTINGS, *_PARALLEL, OFFLOAD, ACTIVATIONS, PRECISION)),
    Ladder((*_SETTINGS, *_PARALLEL, OFFLOAD, ACTIVATIONS), (SEQUENCE,)),
    Ladder((*_SETTINGS, *_PARALLEL, OFFLOAD, ACTIVATIONS, QLORA), (SEQUENCE,)),
    Ladder((*_SETTINGS, *_PARALLEL), (GPUS,)),
    Ladder(_SETTINGS, (GPU,)),
)
CHANGES = Changes(LEVERS, LADDERS)
