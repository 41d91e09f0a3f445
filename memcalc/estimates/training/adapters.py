"""What fine-tuning methods train and what they freeze: full with frozen embeddings, LoRA, QLoRA."""

from memcalc.autograd.adapter_shapes import FEED_FORWARD, shapes
from memcalc.blocks.architecture import Architecture, Layer
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.ledger import Shape
from memcalc.caches import cached
from memcalc.errors import nearest
from memcalc.estimates.placement import Held, Tensors
from memcalc.specs.spec import SpecError

# PEFT's names and everyday spellings → the ledger's
TARGET_NAMES = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "output", "o": "output", "out_proj": "output",
    "qkv_proj": "qkv", "c_attn": "qkv", "query_key_value": "qkv", "gate_proj": "gate", "up_proj": "up",
    "all": "all-linear", "all_linear": "all-linear", "down_proj": "down", "gate_up_proj": "gate_up", "fc1": "up", "fc2": "down",
    "q_a_proj": "q_down", "q_b_proj": "q_up", "kv_a_proj_with_mqa": "kv_down", "kv_b_proj": "kv_up",
}  # fmt: skip
# Lists that are written for many models name matrices that one of them may lack: PEFT passes them over where it finds others
# (peft/tuners/tuners_utils.py, inject_adapter)
USUAL = {"q", "k", "v", "output", "qkv", "gate", "up", "down", "gate_up"}
LINEAR_ROLES = ("attention", "linear-attention", "state-space", "mlp")
QUANTISED_ROLES = (*LINEAR_ROLES, "experts")
TABLE_ROLES = ("embedding", "position")
GROUPED = ("gate_up", "up", "down")  # routed experts' products, as blocks.experts.kernels names them
NOT_LINEAR = frozenset({"A_log", "relative_bias", "positions"})  # parameters and embeddings that have two dimensions


@cached(256)
def linear_names(architecture: Architecture) -> frozenset[str]:
    """The names of all linear layers that adapters can stand on."""
    return frozenset(
        _name(counted.path)
        for counted in architecture.weights
        if counted.layered and not counted.weight.routed
        if _is_linear(counted.path, counted.weight.role, counted.weight.shape)
    )


@cached(256)
def adapter_names(architecture: Architecture, targets: tuple[str, ...]) -> tuple[str, ...]:
    """The linear layers that the targets mean in this architecture."""
    names = linear_names(architecture)
    wanted = {TARGET_NAMES.get(target, target) for target in targets}
    return tuple(sorted(names if "all-linear" in wanted else names & wanted))


@cached(256)
def adapters(base: Tensors, targets: tuple[str, ...], rank: int, magnitude: bool = False, kind: str = "lora") -> Tensors:
    """What PEFT adds beside each targeted matrix of this rank: of LoRA A [rank, inputs] and B [outputs, rank].

    "all-linear" targets every linear layer inside the layers but the routed experts, which transformers keeps as stacked
    parameters, and the router (peft/tuners/tuners_utils.py). `magnitude`: DoRA's vector [outputs] beside each pair.
    """
    wanted = {TARGET_NAMES.get(target, target) for target in targets}
    pairs = (
        Held(f"{entry.path}/{part}", "adapter", shape, entry.copies, False, True)
        for entry in base.held
        if entry.layered and not entry.routed and _is_linear(entry.path, entry.role, entry.shape)
        if "all-linear" in wanted or _name(entry.path) in wanted
        for part, shape in (
            *shapes(kind, entry.shape[1], entry.shape[0], rank, _name(entry.path) in FEED_FORWARD),
            *((("lora_magnitude", (entry.shape[0],)),) if magnitude else ()),
        )
    )
    return Tensors(tuple(pairs))


@cached(256)
def expert_names(architecture: Architecture, targets: tuple[str, ...]) -> tuple[str, ...]:
    """The grouped products of routed experts that the targets mean: those of gate and up are one."""
    names = {_name(counted.path) for counted in architecture.weights if counted.weight.routed}
    return tuple(sorted(names & _of_experts(targets)))


def _of_experts(targets: tuple[str, ...]) -> set[str]:
    wanted = {TARGET_NAMES.get(target, target) for target in targets}
    return set(GROUPED) if "all-linear" in wanted else wanted | ({"gate_up"} if wanted & {"gate", "up"} else set())


@cached(256)
def expert_adapters(base: Tensors, targets: tuple[str, ...], rank: int, own: bool) -> Tensors | None:
    """LoRA's pairs beside stacked matrices [experts, outputs, inputs]: as many as there are experts on this rank
    (modelscope/mcore-bridge tuners/lora.py, TEGroupedLinear) or one (Megatron-Bridge peft/utils.py, ParallelLinearAdapter)."""
    stacks = [entry for entry in base.held if _name(entry.path) in _of_experts(targets) and len(entry.shape) == 3]
    pairs = tuple(
        Held(f"{entry.path}/{part}", "adapter", (entry.shape[0], *shape) if own else shape, entry.copies, True, True)
        for entry in stacks
        for part, shape in shapes("lora", entry.shape[2], entry.shape[1], rank)
    )
    return Tensors(pairs) if pairs else None


@cached(256)
def absent_targets(architecture: Architecture, targets: tuple[str, ...], experts: bool = False) -> tuple[str, ...]:
    """Targets that no layer of the model has (a pipeline stage may well lack one). `experts`: routed ones can have adapters."""
    names = {"all-linear", *_names(architecture, experts)}
    return tuple(target for target in targets if TARGET_NAMES.get(target, target) not in names)


def _names(architecture: Architecture, experts: bool) -> frozenset[str]:
    routed = expert_names(architecture, ("all-linear",)) if experts else ()
    return linear_names(architecture).union(routed, ("gate", "up") if "gate_up" in routed else ())


@cached(256)
def check_targets(architecture: Architecture, targets: tuple[str, ...], experts: bool = False) -> None:
    """Raises SpecError for targets that the model lacks, but for usual ones beside some that it has."""
    absent = absent_targets(architecture, targets, experts)
    strange = [target for target in absent if len(absent) == len(targets) or TARGET_NAMES.get(target, target) not in USUAL]
    for target in strange:
        names = _names(architecture, experts)
        raise SpecError(
            f"the model has no linear layer named {target!r:.40} (all-linear, {', '.join(sorted(names))})"
            f"{nearest(TARGET_NAMES.get(target, target), names)}",
            "lora_targets",
        )


@cached(256)
def prompt(base: Tensors, tokens: int) -> Tensors:
    """The embeddings of so many virtual tokens (peft/tuners/prompt_tuning/model.py), as wide as the table of tokens."""
    width = next((entry.shape[-1] for entry in base.held if entry.role == "embedding"), 0)
    return Tensors((Held("prompt", "adapter", (tokens, width), 1, False, False),) if width else ())


@cached(256)
def prefix(kinds: tuple[Layer, ...], counts: tuple[int, ...], tokens: int) -> Tensors:
    """Keys and values of so many virtual tokens in every layer, one table (peft/tuners/prefix_tuning/model.py)."""
    width = sum(
        (block.shape.key_size + block.shape.value_size) * count
        for layer, count in zip(kinds, counts, strict=True)
        for _, block in layer.blocks
        if isinstance(block, Attention)
    )
    return Tensors((Held("prefix", "adapter", (tokens, width), 1, False, False),))


@cached(256)
def shared_elements(base: Tensors, targets: tuple[str, ...], rank: int) -> int:
    """Elements of the two frozen projections that all of VeRA's matrices share, as wide as the widest of them
    (peft/tuners/vera/model.py, _find_dim)."""
    wanted = {TARGET_NAMES.get(target, target) for target in targets}
    shapes_of = [
        entry.shape for entry in base.held
        if entry.layered and not entry.routed and _is_linear(entry.path, entry.role, entry.shape)
        if "all-linear" in wanted or _name(entry.path) in wanted
    ]  # fmt: skip
    return rank * (max(shape[0] for shape in shapes_of) + max(shape[1] for shape in shapes_of)) if shapes_of else 0


def _is_linear(path: str, role: str, shape: Shape) -> bool:
    name = _name(path)
    return role in LINEAR_ROLES and len(shape) == 2 and name not in NOT_LINEAR and not name.endswith(".bias")


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def part_of(entry: Held) -> str:
    """The part of the model that a tensor belongs to."""
    return entry.path.partition("/")[0]


@cached(256)
def without(base: Tensors, parts: frozenset[str]) -> Tensors:
    """The tensors of other parts."""
    return Tensors(tuple(entry for entry in base.held if part_of(entry) not in parts)) if parts else base


@cached(256)
def quantised(base: Tensors, head: bool = False) -> tuple[Tensors, Tensors]:
    """The frozen weights of QLoRA: (quantised matrices inside the layers, the rest, kept in 16 bit). `head`: the output head is
    quantised too."""
    low = tuple(
        e for e in base.held if len(e.shape) >= 2 and ((e.layered and e.role in QUANTISED_ROLES) or (head and e.role == "head"))
    )
    chosen = set(low)
    return Tensors(low), Tensors(tuple(e for e in base.held if e not in chosen))


@cached(256)
def trained_copies(base: Tensors, also: tuple[str, ...], last: bool) -> tuple[Tensors | None, Tensors | None]:
    """(Norms, tables) of which PEFT trains copies beside the originals (peft/utils/other.py, ModulesToSaveWrapper). A tied
    head's copy is a matrix of its own. `last`: this rank has the head."""
    tables = tuple(e for e in base.held if "embeddings" in also and e.role == "embedding" and not e.tied_copy)
    heads = tuple(e for e in base.held if "head" in also and e.role == "head")
    if "head" in also and last and all(len(e.shape) < 2 for e in heads):  # tied
        heads += tuple(e._replace(path=f"{e.path}/head") for e in base.held if e.role == "embedding")[-1:]
    norms = tuple(e for e in base.held if "norms" in also and e.role == "norm")
    return tuple(Tensors(held) if held else None for held in (norms, (*tables, *heads)))  # type: ignore[return-value]


@cached(256)
def upcast(frozen: Tensors, which: str) -> tuple[Tensors | None, Tensors | None]:
    """(What k-bit preparation casts to fp32: "all" that is not quantised, "norms" or nothing, the rest)."""
    wide = tuple(e for e in frozen.held if which == "all" or (which == "norms" and e.role == "norm"))
    chosen = set(wide)
    rest = tuple(e for e in frozen.held if e not in chosen)
    return Tensors(wide) if wide else None, Tensors(rest) if rest else None


@cached(256)
def embeddings(base: Tensors) -> tuple[Tensors | None, Tensors | None]:
    """(What is looked up by token, position or segment, the rest): a tied head is the embedding's matrix."""
    tables = tuple(e for e in base.held if not e.layered and (e.role in TABLE_ROLES or _name(e.path) == "segments"))
    chosen = set(tables)
    rest = tuple(e for e in base.held if e not in chosen)
    return Tensors(tables) if tables else None, Tensors(rest) if rest else None
