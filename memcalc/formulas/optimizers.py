"""What an optimizer keeps for every parameter tensor: a table of states.

A state is a tensor with a shape rule and a number format, so its bytes are rule(shape) × bytes of the format. Most
states have the parameter's shape; factored, blockwise, low-rank and matrix-preconditioned ones do not, and some
optimizers hand embeddings, heads, norms and vectors to AdamW. An optimizer is one row of OPTIMIZERS, a shape rule one
entry of RULES, a choice of tensors one entry of SCOPES.

Where a row names a library, its states are the tensors which that library allocates, read from its source. The format
"parameter" is the dtype of the tensor being optimised: under mixed precision, that of the master weight.
"""

from collections.abc import Callable
from math import prod
from typing import Literal, NamedTuple

from memcalc.errors import InputError, nearest

Shape = tuple[int, ...]


class State(NamedTuple):
    """One tensor that an optimizer keeps beside a parameter tensor."""

    name: str
    rule: str = "full"  # a key of RULES
    format: str = "parameter"  # a key of FORMAT_BYTES, or "parameter": the dtype of the weight
    size: int = 0  # the number the rule needs: block length, rank, count, or largest preconditioned dimension
    place: Literal["device", "host", "host-unless-fused"] = "device"


class Optimizer(NamedTuple):
    """An optimizer: the states of the tensors in its scope, and those of all other tensors."""

    name: str
    title: str
    states: tuple[State, ...]
    source: str
    note: str = ""
    scope: str = "all tensors"  # a key of SCOPES
    otherwise: tuple[State, ...] = ()
    elementwise: bool = True  # a value's update needs no other value (but its block's scale): flat shards are enough
    paged: bool = False  # large states live in unified memory: see paged_bytes
    in_backward: bool = False  # steps inside the backward whether asked to or not


# Bytes of one element; "parameter" is not here, it follows the weight.
FORMAT_BYTES = {"fp32": 4, "bf16": 2, "fp8-e4m3": 1, "uint8": 1}

MINIMUM_8BIT = 4096  # values; smaller tensors are not quantised (bitsandbytes `min_8bit_size`, followed by torchao)
PAGED_MINIMUM = 100_000  # values; smaller tensors are not paged (bitsandbytes, Optimizer8bit.get_state_buffer)

# Muon, GaLore and APOLLO are for hidden matrices; tensors of these roles are left to AdamW (README of each).
ADAMW_ROLES = frozenset({"embedding", "position", "head", "norm"})


def squashed(word: str) -> str:
    """A name without capitals, hyphens, underscores, dots and blanks.

    >>> squashed("Paged_AdamW-8bit")
    'pagedadamw8bit'
    """
    return word.lower().translate(_NOTHING)


_NOTHING = str.maketrans("", "", "-_. ")


def optimizer(name: str) -> Optimizer:
    """The row of OPTIMIZERS of that name, or as a launcher spells it; underscores and capitals do not matter.

    >>> optimizer("paged_adamw_8bit").paged, optimizer("adamw_torch_fused").name, optimizer("bnb.optim.AdamW8bit").name
    (True, 'adamw', 'adamw-8bit')
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    plain = squashed(name)
    found = OPTIMIZERS.get(_BY_SQUASHED.get(plain) or SPELLINGS.get(plain, ""))
    if found is None:
        close = nearest(name, OPTIMIZERS)
        raise InputError(f"no optimizer is named {name!r}{close} (`memcalc optimizers` lists all)")
    return found


def states_of(opt: Optimizer, shape: Shape, role: str = "attention") -> tuple[State, ...]:
    """The states that `opt` keeps for one tensor of that shape and role.

    >>> [state.name for state in states_of(optimizer("muon"), (4096, 4096), "mlp")]
    ['momentum']
    """
    return opt.states if SCOPES[opt.scope](shape, role) else opt.otherwise


def bytes_of(state: State, shape: Shape, *, parameter_bytes: int, rank: int | None = None) -> int:
    """Bytes of one state of one tensor, wherever it lives.

    rule(shape) × bytes of the format

    shape [elements], parameter_bytes [B per element of the optimised weight], rank replaces a low-rank state's own.
    Returns bytes [B].

    >>> bytes_of(State("scales", "blocks", "fp32", 256), (4096, 4096), parameter_bytes=2)
    262144
    """
    size = rank if rank is not None and state.rule in RANKED else state.size
    return RULES[state.rule](shape, size, parameter_bytes) * FORMAT_BYTES.get(state.format, parameter_bytes)


def state_bytes(
    opt: Optimizer,
    shape: Shape,
    *,
    parameter_bytes: int,
    role: str = "attention",
    rank: int | None = None,
    fused: bool = False,
) -> int:
    """Bytes of all states of one tensor, exactly, but for those that stay on the host; paged_bytes is a part of them.

    sum over states of rule(shape) × bytes of the format

    shape [elements] of the tensor or of its shard, parameter_bytes [B per element of the optimised weight], role as in
    the ledger of weights, rank of GaLore and APOLLO (default: the row's own), fused: the fused or capturable
    implementation of torch.optim, which keeps its 4-byte step counters on the device.
    Returns bytes [B], before the allocator rounds each tensor up.

    >>> state_bytes(optimizer("adamw"), (4096, 4096), parameter_bytes=4)
    134217728
    >>> state_bytes(optimizer("adafactor"), (4096, 1024), parameter_bytes=4) == 4 * (4096 + 1024)
    True
    """
    total = 0
    for state in states_of(opt, shape, role):
        if state.place == "device" or (fused and state.place == "host-unless-fused"):
            total += bytes_of(state, shape, parameter_bytes=parameter_bytes, rank=rank)
    return total


def elementwise_bytes_per_parameter(opt: Optimizer, parameter_bytes: int) -> float | None:
    """Bytes per parameter on the device when they depend on neither shape nor role, else None.

    sum over states of elements per parameter × bytes of the format

    parameter_bytes [B]. Returns B per parameter: exact where all states are full; where they are quantised, that of a
    large tensor (small ones keep unquantised states), without what every tensor has once (counters, lookup tables).

    >>> elementwise_bytes_per_parameter(optimizer("adamw-8bit"), 2)
    2.03125
    >>> elementwise_bytes_per_parameter(optimizer("adafactor"), 4) is None
    True
    """
    if opt.scope not in SHAPELESS_SCOPES:
        return None
    total = 0.0
    for state in opt.states:
        if state.place == "host":
            continue
        density = DENSITIES.get(state.rule)
        if density is None:
            return None
        total += density(state.size) * FORMAT_BYTES.get(state.format, parameter_bytes)
    return total


def host_bytes(opt: Optimizer, shape: Shape, *, parameter_bytes: int, role: str = "attention") -> int:
    """What the library itself keeps of one tensor in host memory, but for its step counters.

    sum over states on the host of rule(shape) × bytes of the format      Returns bytes [B].

    >>> host_bytes(optimizer("grokadamw"), (1024, 1024), parameter_bytes=2) == 6 * 1024**2
    True
    """
    kept = (state for state in states_of(opt, shape, role) if state.place == "host" and state.rule != "scalar")
    return sum(bytes_of(state, shape, parameter_bytes=parameter_bytes) for state in kept)


def paged_bytes(opt: Optimizer, shape: Shape, *, parameter_bytes: int) -> int:
    """The part of state_bytes in CUDA unified memory, which the driver moves between host and device as needed.

    The states themselves if the tensor has 100 000 values or more; their blockwise scales stay on the device.
    PyTorch's allocator does not count it; nvidia-smi shows the pages that are on the device.
    Returns bytes [B]. Source: bitsandbytes 0.50 optim/optimizer.py, get_state_buffer.

    >>> paged_bytes(optimizer("paged-adamw-8bit"), (4096, 4096), parameter_bytes=2) == 2 * 4096 * 4096
    True
    """
    if not opt.paged or prod(shape) < PAGED_MINIMUM:
        return 0
    paged = (state for state in states_of(opt, shape) if state.rule == "full")
    return sum(bytes_of(state, shape, parameter_bytes=parameter_bytes) for state in paged)


# --- shape rules: (shape, the state's size, bytes of a parameter) -> elements -----------------------------------------


def _rows(shape: Shape, _size: int, _bytes: int) -> int:
    """One value per row of each matrix: n / last dimension.

    >>> _rows((8, 4096, 1024), 0, 4)
    32768
    """
    return prod(shape[:-1])


def _columns(shape: Shape, _size: int, _bytes: int) -> int:
    """One value per column of each matrix: n / second-last dimension.

    >>> _columns((8, 4096, 1024), 0, 4)
    8192
    """
    return prod(shape[:-2]) * shape[-1]


def _blocks(shape: Shape, size: int, _bytes: int) -> int:
    """One scale per block: ceil(n / size).

    >>> _blocks((5000,), 256, 4)
    20
    """
    return -(-prod(shape) // size)


def _svd_projector(shape: Shape, size: int, parameter_bytes: int) -> int:
    """The singular vectors GaLore keeps: shorter × min(rank, shorter); in fp32 shorter × shorter.

    They are a slice of the square factor which the SVD returns in fp32. Casting to a half-precision gradient copies the
    slice; in fp32 nothing is cast, and the slice keeps the whole factor alive.

    >>> _svd_projector((4096, 1024), 128, 2), _svd_projector((4096, 1024), 128, 4)
    (131072, 1048576)
    """
    shorter = min(shape)
    return shorter * (shorter if parameter_bytes == 4 else min(size, shorter))


def _svd_rank(shape: Shape, size: int, _bytes: int) -> int:
    """Row and column means of a gradient projected to a low rank: longer + min(rank, shorter).

    >>> _svd_rank((4096, 1024), 128, 4)
    4224
    """
    return max(shape) + min(size, *shape)


def _compensation(shape: Shape, _size: int, parameter_bytes: int) -> int:
    """What Kahan's summation keeps of a 16-bit parameter: one value each; nothing of an fp32 one.

    >>> _compensation((8, 8), 0, 2), _compensation((8, 8), 0, 4)
    (64, 0)
    """
    return prod(shape) if parameter_bytes == 2 else 0


def _squares(shape: Shape, size: int, _bytes: int) -> int:
    """One square matrix for each dimension of at most `size`: sum of d².

    >>> _squares((14336, 4096), 10_000, 4) == 4096**2
    True
    """
    return sum(dim * dim for dim in shape if dim <= size)


def _block_squares(shape: Shape, size: int, _bytes: int) -> int:
    """Square matrices of every block, once each dimension is cut in pieces of at most `size`.

    sum over dimensions of (sum over its pieces of piece²) × (product of the other dimensions' numbers of pieces)

    >>> _block_squares((4096, 4096), 1024, 4) == 2 * 4096 * 4096
    True
    """
    dims = _merged(shape, size)
    pieces = [-(-dim // size) for dim in dims]
    blocks = prod(pieces)
    return sum(blocks // count * (dim // size * size**2 + (dim % size) ** 2) for dim, count in zip(dims, pieces, strict=True))


def _merged(shape: Shape, size: int) -> Shape:
    """The shape without dimensions of 1, neighbours merged (from the last) while their product is at most `size`.

    >>> _merged((512, 1, 4, 8), 1024), _merged((16, 32), 1024)
    ((512, 32), (512,))
    """
    merged: Shape = ()
    for dim in reversed([dim for dim in shape if dim != 1]):
        if merged and merged[0] * dim <= size:
            merged = (merged[0] * dim, *merged[1:])
        elif dim > 1:
            merged = (dim, *merged)
    return merged or (1,)


RULES: dict[str, Callable[[Shape, int, int], int]] = {
    "full": lambda shape, size, _: prod(shape),
    "rows": _rows,
    "columns": _columns,
    "blocks": _blocks,
    "pairs": lambda shape, size, _: prod(shape) // 2,  # two 4-bit values in a byte
    "scalar": lambda shape, size, _: 1,
    "table": lambda shape, size, _: size,  # a lookup table of `size` values beside every tensor
    "low-rank": lambda shape, size, _: max(shape) * size,  # a gradient projected along its shorter side
    "projector": lambda shape, size, _: min(shape) * size,  # the matrix that projects it
    "svd-low-rank": lambda shape, size, _: max(shape) * min(size, *shape),  # an SVD has no more than min(m, n) vectors
    "svd-projector": _svd_projector,
    "svd-square": lambda shape, size, _: min(shape) ** 2,  # the whole factor, where the gradient is projected in fp32
    "svd-factors": _svd_rank,
    "compensation": _compensation,
    "low-rank-blocks": lambda shape, size, _: -(-max(shape) * size // 256),  # scales of a low-rank state's blocks
    "projector-groups": lambda shape, size, _: 2 * -(-min(shape) * size // 256),  # a scale and a zero each
    "squares": _squares,
    "block-squares": _block_squares,
}

RANKED = frozenset(
    {
        "low-rank",
        "projector",
        "svd-low-rank",
        "svd-projector",
        "svd-factors",
        "low-rank-blocks",
        "projector-groups",
    }
)  # rules whose size is a rank

# Elements per parameter of the rules that do not look at the shape.
DENSITIES: dict[str, Callable[[int], float]] = {
    "full": lambda size: 1.0,
    "blocks": lambda size: 1 / size,
    "pairs": lambda size: 0.5,
    "scalar": lambda size: 0.0,
    "table": lambda size: 0.0,
}


# --- scopes: the tensors that get `states`; all others get `otherwise` ------------------------------------------------


def _whole_blocks(shape: Shape, size: int) -> bool:
    """torchao quantises a tensor (or shard) only if it is large enough and blocks divide it."""
    values = prod(shape)
    return values >= MINIMUM_8BIT and values % size == 0


SCOPES: dict[str, Callable[[Shape, str], bool]] = {
    "all tensors": lambda shape, role: True,
    "matrices": lambda shape, role: len(shape) >= 2,
    "hidden matrices": lambda shape, role: len(shape) >= 2 and role not in ADAMW_ROLES,
    "hidden linear layers": lambda shape, role: len(shape) == 2 and role not in ADAMW_ROLES,
    "4096 values or more": lambda shape, role: prod(shape) >= MINIMUM_8BIT,
    "4096 values or more, whole blocks of 128": lambda shape, role: _whole_blocks(shape, 128),
    "4096 values or more, whole blocks of 256": lambda shape, role: _whole_blocks(shape, 256),
}

SHAPELESS_SCOPES = frozenset(scope for scope in SCOPES if scope.startswith(("all", "4096")))


# --- the table --------------------------------------------------------------------------------------------------------

MOMENTUM, VARIANCE = ADAM = (State("momentum"), State("variance"))
MOMENTUM_FP32, VARIANCE_FP32 = ADAM_FP32 = (State("momentum", format="fp32"), State("variance", format="fp32"))

# torch.optim keeps one fp32 0-d `step` per tensor: on the host, or on the device when fused or capturable.
STEP = State("step", "scalar", "fp32", place="host-unless-fused")
HOST_STEP = State("step", "scalar", "fp32", place="host")


def _factored(name: str, form: str = "parameter") -> tuple[State, State]:
    """A matrix kept as its row and column means."""
    return State(f"row {name}", "rows", form), State(f"column {name}", "columns", form)


def _quantised(names: tuple[str, ...], *, codes: str = "full", form: str = "uint8", block: int = 256) -> tuple[State, ...]:
    """Codes of each state, and the fp32 scales of their blocks."""
    scales = State("scales", "blocks", "fp32", block)
    return tuple(state for name in names for state in (State(name, codes, form), scales._replace(name=f"{name} scales")))


def _low_rank_adam(projector: str, moments: str, rank: int) -> tuple[State, State, State]:
    """A projector to the low rank, and Adam's moments there."""
    return (
        State("projector", projector, size=rank),
        State("momentum", moments, size=rank),
        State("variance", moments, size=rank),
    )


QUANTISED_ADAM = _quantised(("momentum", "variance"))
QUANTISED_ADEMAMIX = _quantised(("fast momentum", "slow momentum", "variance"))
ADEMAMIX_FP32 = (State("fast momentum", format="fp32"), State("slow momentum", format="fp32"), VARIANCE_FP32)


def _low_rank_8bit(rank: int) -> tuple[State, ...]:
    """Both of Adam's moments at a low rank, in blockwise 8 bit."""
    codes, scales = State("", "low-rank", "uint8", rank), State("", "low-rank-blocks", "fp32", rank)
    names = ("momentum", "variance")
    return tuple(state for name in names for state in (codes._replace(name=name), scales._replace(name=f"{name} scales")))


_ROWS = (
    Optimizer("sgd", "SGD without momentum", (), "torch.optim.SGD (momentum=0, its default)"),
    Optimizer("sgd-momentum", "SGD with momentum", (MOMENTUM,), "torch.optim.SGD (momentum>0)"),
    Optimizer("adam", "Adam", (*ADAM, STEP), "Kingma and Ba 2015, Algorithm 1; torch.optim.Adam"),
    Optimizer("adamw", "AdamW", (*ADAM, STEP), "Loshchilov and Hutter 2019, Algorithm 2; torch.optim.AdamW"),
    Optimizer(
        "adamw-bf16",
        "AdamW, both moments in bf16",
        (State("momentum", format="bf16"), State("variance", format="bf16")),
        "DeepSeek-AI 2024 (DeepSeek-V3), section 3.3; Megatron-Core --use-precision-aware-optimizer",
    ),
    Optimizer(
        "adamw-8bit",
        "AdamW, blockwise 8-bit states (bitsandbytes)",
        QUANTISED_ADAM,
        "Dettmers et al. 2022, section 2; bitsandbytes 0.50 optim/optimizer.py, Optimizer2State.init_state",
        "below 4096 values states stay fp32; the transformers Trainer keeps those of embeddings fp32 too",
        scope="4096 values or more",
        otherwise=ADAM_FP32,
    ),
    Optimizer(
        "paged-adamw",
        "AdamW, fp32 states in paged memory (bitsandbytes)",
        ADAM_FP32,
        "Dettmers et al. 2023 (QLoRA), section 3; bitsandbytes 0.50 optim/adamw.py, PagedAdamW",
        paged=True,
    ),
    Optimizer(
        "paged-adamw-8bit",
        "AdamW, blockwise 8-bit states in paged memory (bitsandbytes)",
        QUANTISED_ADAM,
        "Dettmers et al. 2023 (QLoRA), section 3; bitsandbytes 0.50 optim/adamw.py, PagedAdamW8bit",
        "as adamw-8bit; scales are not paged",
        scope="4096 values or more",
        otherwise=ADAM_FP32,
        paged=True,
    ),
    Optimizer(
        "adamw-8bit-torchao",
        "AdamW, blockwise 8-bit states (torchao)",
        (*QUANTISED_ADAM, State("lookup tables", "table", "fp32", 2 * 256)),
        "torchao 0.18 optim/subclass_8bit.py, OptimState8bit.zeros; optim/adam.py, _AdamBase._new_buffer",
        "other tensors keep states in the parameter's dtype; each quantised state carries its own lookup table",
        scope="4096 values or more, whole blocks of 256",
        otherwise=ADAM,
    ),
    Optimizer(
        "adamw-4bit",
        "AdamW, blockwise 4-bit states (torchao)",
        (
            *_quantised(("momentum", "variance"), codes="pairs", block=128),
            State("lookup tables", "table", "fp32", 2 * 16),
        ),
        "Li et al. 2023; torchao 0.18 optim/subclass_4bit.py, OptimState4bit.zeros",
        "other tensors keep states in the parameter's dtype; each quantised state carries its own lookup table",
        scope="4096 values or more, whole blocks of 128",
        otherwise=ADAM,
    ),
    Optimizer(
        "adamw-fp8",
        "AdamW, blockwise fp8 states (torchao)",
        _quantised(("momentum", "variance"), form="fp8-e4m3"),
        "torchao 0.18 optim/subclass_fp8.py, OptimStateFp8.zeros",
        "other tensors keep states in the parameter's dtype",
        scope="4096 values or more, whole blocks of 256",
        otherwise=ADAM,
    ),
    Optimizer(
        "ademamix",
        "AdEMAMix: a fast and a slow momentum (bitsandbytes)",
        ADEMAMIX_FP32,
        "Pagliardini et al. 2025; bitsandbytes 0.50 optim/ademamix.py, AdEMAMix.init_state",
    ),
    Optimizer(
        "ademamix-8bit",
        "AdEMAMix, blockwise 8-bit states (bitsandbytes)",
        QUANTISED_ADEMAMIX,
        "bitsandbytes 0.50 optim/ademamix.py, AdEMAMix8bit.init_state",
        "below 4096 values states stay fp32",
        scope="4096 values or more",
        otherwise=ADEMAMIX_FP32,
    ),
    Optimizer(
        "paged-ademamix",
        "AdEMAMix, fp32 states in paged memory (bitsandbytes)",
        ADEMAMIX_FP32,
        "bitsandbytes 0.50 optim/ademamix.py, PagedAdEMAMix32bit",
        paged=True,
    ),
    Optimizer(
        "paged-ademamix-8bit",
        "AdEMAMix, blockwise 8-bit states in paged memory (bitsandbytes)",
        QUANTISED_ADEMAMIX,
        "bitsandbytes 0.50 optim/ademamix.py, PagedAdEMAMix8bit",
        "as ademamix-8bit; scales are not paged",
        scope="4096 values or more",
        otherwise=ADEMAMIX_FP32,
        paged=True,
    ),
    Optimizer(
        "adamw-anyprecision",
        "AdamW, fp32 moments beside 16-bit weights",
        ADAM_FP32,
        "torchdistx optimizers/anyprecision_optimizer.py; formats as transformers 5 trainer_optimizer.py sets them",
        "no Kahan summation, its default there",
    ),
    Optimizer(
        "stable-adamw",
        "StableAdamW, with Kahan summation of 16-bit weights",
        (*ADAM, State("Kahan compensation", "compensation"), State("ε²", "scalar"), State("mean square", "scalar", "fp32")),
        "Wortsman et al. 2023; torch-optimi 0.3 stableadamw.py, _init_state (kahan_sum=None: where weights are 16 bit)",
        "its update is divided by a root mean square over the whole tensor",
        elementwise=False,
    ),
    Optimizer(
        "grokadamw",
        "GrokAdamW: Adam over gradients with an amplified slow part",
        tuple(State(name, place="host") for name in ("momentum", "variance", "gradient average")),
        "grokadamw 0.1.2 grokadamw.py, _update_group",
        "the library keeps its states in host memory and brings those of one tensor at a time to the GPU",
    ),
    Optimizer(
        "prodigy",
        "Prodigy: Adam that estimates its step size",
        (*ADAM, State("first weights"), State("accumulated gradients")),
        "Mishchenko and Defazio 2024; prodigyopt 1.1 prodigy.py (slice_p=1, its default)",
        "its step size is one number for all tensors",
        elementwise=False,
    ),
    Optimizer(
        "lomo",
        "LOMO: SGD inside the backward, without states",
        (),
        "Lv et al. 2023; lomo-optim 0.1 lomo.py, fuse_update",
        in_backward=True,
    ),
    Optimizer(
        "adalomo",
        "AdaLOMO: factored variance, inside the backward",
        _factored("variance", "fp32"),
        "Lv et al. 2024; lomo-optim 0.1 adalomo.py",
        scope="matrices",
        otherwise=(VARIANCE_FP32,),
        elementwise=False,
        in_backward=True,
    ),
    Optimizer(
        "schedule-free-adamw",
        "Schedule-free AdamW",
        (State("base iterate"), VARIANCE),
        "Defazio et al. 2024; schedulefree 1.4 adamw_schedulefree.py",
    ),
    Optimizer(
        "schedule-free-radam",
        "Schedule-free RAdam",
        (State("base iterate"), VARIANCE),
        "Defazio et al. 2024; schedulefree 1.4 radam_schedulefree.py",
    ),
    Optimizer("schedule-free-sgd", "Schedule-free SGD", (State("base iterate"),), "schedulefree 1.4 sgd_schedulefree.py"),
    Optimizer("lion", "Lion", (MOMENTUM,), "Chen et al. 2023, Algorithm 2; lion-pytorch 0.2 lion_pytorch.py"),
    Optimizer(
        "lion-8bit",
        "Lion, blockwise 8-bit state (bitsandbytes)",
        _quantised(("momentum",)),
        "bitsandbytes 0.50 optim/optimizer.py, Optimizer1State.init_state",
        "below 4096 values the state stays fp32; the transformers Trainer keeps that of embeddings fp32 too",
        scope="4096 values or more",
        otherwise=(MOMENTUM_FP32,),
    ),
    Optimizer(
        "paged-lion-8bit",
        "Lion, blockwise 8-bit state in paged memory (bitsandbytes)",
        _quantised(("momentum",)),
        "bitsandbytes 0.50 optim/lion.py, PagedLion8bit",
        "as lion-8bit; scales are not paged",
        scope="4096 values or more",
        otherwise=(MOMENTUM_FP32,),
        paged=True,
    ),
    Optimizer(
        "paged-lion",
        "Lion, fp32 state in paged memory (bitsandbytes)",
        (MOMENTUM_FP32,),
        "bitsandbytes 0.50 optim/lion.py, PagedLion32bit",
        paged=True,
    ),
    Optimizer(
        "lion-32bit",
        "Lion, fp32 state (bitsandbytes)",
        (MOMENTUM_FP32,),
        "bitsandbytes 0.50 optim/lion.py, Lion32bit",
    ),
    Optimizer(
        "adagrad",
        "Adagrad",
        (State("sum of squares"), STEP),
        "Duchi et al. 2011; torch.optim.Adagrad",
        "allocated when constructed, not at the first step",
    ),
    Optimizer(
        "rmsprop",
        "RMSprop",
        (VARIANCE, STEP),
        "Hinton 2012, lecture 6e; torch.optim.RMSprop (momentum=0 and centered=False, its defaults)",
    ),
    Optimizer(
        "rmsprop-32bit",
        "RMSprop, fp32 state (bitsandbytes)",
        (VARIANCE_FP32,),
        "bitsandbytes 0.50 optim/rmsprop.py, RMSprop32bit",
    ),
    Optimizer(
        "rmsprop-8bit",
        "RMSprop, blockwise 8-bit state (bitsandbytes)",
        _quantised(("variance",)),
        "bitsandbytes 0.50 optim/rmsprop.py, RMSprop8bit; optimizer.py, Optimizer1State.init_state",
        "below 4096 values the state stays fp32",
        scope="4096 values or more",
        otherwise=(VARIANCE_FP32,),
    ),
    Optimizer(
        "sophia",
        "Sophia-G",
        (MOMENTUM, State("hessian diagonal"), STEP),
        "Liu et al. 2024; github.com/Liuhong99/Sophia sophia.py, SophiaG",
    ),
    Optimizer(
        "lamb",
        "LAMB",
        ADAM,
        "You et al. 2020, Algorithm 2; NVIDIA Apex optimizers/fused_lamb.py",
        "its trust ratio is a norm over the whole tensor",
        elementwise=False,
    ),
    Optimizer(
        "adafactor",
        "Adafactor without momentum",
        (*_factored("variance"), HOST_STEP),
        "Shazeer and Stern 2018, Algorithms 4 and 5; torch.optim.Adafactor (has no beta1)",
        scope="matrices",
        otherwise=(VARIANCE, HOST_STEP),
        elementwise=False,
    ),
    Optimizer(
        "adafactor-momentum",
        "Adafactor with momentum, fp32 states (transformers)",
        (MOMENTUM_FP32, *_factored("variance", "fp32"), State("weight RMS", "scalar", "fp32")),
        "Shazeer and Stern 2018; transformers 5 optimization.py, Adafactor (beta1 set; it is None by default)",
        scope="matrices",
        otherwise=(*ADAM_FP32, State("weight RMS", "scalar", "fp32")),
        elementwise=False,
    ),
    Optimizer(
        "came",
        "CAME: confidence-guided Adafactor, fp32 states",
        (
            MOMENTUM_FP32,
            *_factored("variance", "fp32"),
            *_factored("instability", "fp32"),
            State("weight RMS", "scalar"),
        ),
        "Luo et al. 2023; came-pytorch 0.1.3 CAME.py",
        scope="matrices",
        otherwise=(*ADAM_FP32, State("weight RMS", "scalar")),
        elementwise=False,
    ),
    Optimizer(
        "muon",
        "Muon for hidden matrices, AdamW for the rest",
        (MOMENTUM,),
        "Jordan et al. 2024; torch.optim.Muon and torch.optim.AdamW",
        "torch.optim.Muon refuses all but 2-D; stacked experts count as matrices, as in Keller Jordan's muon.py",
        scope="hidden matrices",
        otherwise=(*ADAM, STEP),
        elementwise=False,
    ),
    Optimizer(
        "adam-mini",
        "Adam-mini: one variance per output row",
        (MOMENTUM, State("variance", "rows")),
        "Zhang et al. 2025; adam-mini 1.1.1 adam_mini.py",
        "an upper bound: queries and keys have one per head. Norms have one. Biases are counted as norms",
        scope="matrices",
        otherwise=(MOMENTUM, State("variance", "scalar")),
        elementwise=False,
    ),
    Optimizer(
        "galore",
        "GaLore AdamW for hidden linear layers, AdamW for the rest",
        _low_rank_adam("svd-projector", "svd-low-rank", 128),
        "Zhao et al. 2024, Algorithm 2; galore-torch 1.0 adamw.py, galore_projector.py; rank: transformers 5 Trainer",
        "in fp32 the projector keeps the whole square SVD factor alive",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "galore-8bit",
        "GaLore AdamW for hidden linear layers, blockwise 8-bit states (bitsandbytes)",
        (State("projector", "svd-projector", size=128), *_low_rank_8bit(128)),
        "Zhao et al. 2024; galore-torch 1.0 adamw8bit.py; rank: transformers 5 Trainer",
        "other tensors have 8-bit states of their own shape; the few below 4096 values are counted so too",
        scope="hidden linear layers",
        otherwise=QUANTISED_ADAM,
        elementwise=False,
    ),
    Optimizer(
        "galore-adafactor",
        "GaLore Adafactor for hidden linear layers, Adafactor for the rest, fp32 states",
        (State("projector", "svd-square", "fp32"), State("row and column variance", "svd-factors", "fp32", 128)),
        "galore-torch 1.0 adafactor.py, galore_projector.py; rank: transformers 5 Trainer",
        "the gradient is projected in fp32, so that the projector keeps the whole square SVD factor alive",
        scope="hidden linear layers",
        otherwise=_factored("variance", "fp32"),
        elementwise=False,
    ),
    Optimizer(
        "q-galore",
        "Q-GaLore for hidden linear layers: 4-bit projectors in bytes, blockwise 8-bit states",
        (
            State("projector", "projector", "uint8", 256),
            State("projector scales and zeros", "projector-groups", size=256),
            *_low_rank_8bit(256),
        ),
        "Zhang et al. 2024; q-galore-torch 1.0 q_galore_projector.py, q_galore_adamw8bit.py (rank 256, groups of 256)",
        "its INT8 weights are a model of their own, which is not modelled here: weights keep the precision's format",
        scope="hidden linear layers",
        otherwise=QUANTISED_ADAM,
        elementwise=False,
    ),
    Optimizer(
        "dion",
        "Dion for hidden matrices, AdamW for the rest",
        (MOMENTUM, State("right factor", "svd-square")),
        "Ahn et al. 2025; github.com/microsoft/dion dion/dion.py (rank_fraction=1, its default)",
        "the factor is n × r of an m × n matrix that is transposed where m < n; r = min(m, n)",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "apollo",
        "APOLLO for hidden linear layers, AdamW for the rest",
        (*_low_rank_adam("projector", "low-rank", 128), State("update norm", "scalar")),
        "Zhu et al. 2025; apollo-torch 1.0.3 apollo.py, random_projector.py; rank: transformers 5 Trainer",
        "the paper redraws the projection from its seed; the library keeps the matrix",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "apollo-mini",
        "APOLLO-Mini (rank 1) for hidden linear layers, AdamW for the rest",
        (*_low_rank_adam("projector", "low-rank", 1), State("update norm", "scalar")),
        "Zhu et al. 2025; apollo-torch 1.0.3 apollo.py (rank=1, scale_type='tensor')",
        scope="hidden linear layers",
        otherwise=ADAM,
        elementwise=False,
    ),
    Optimizer(
        "shampoo",
        "Distributed Shampoo with Adam grafting",
        (
            MOMENTUM,
            State("grafting variance"),
            State("Kronecker factors", "block-squares", "fp32", 1024),
            State("inverse roots", "block-squares", "fp32", 1024),
        ),
        "Shi et al. 2023; github.com/facebookresearch/optimizers distributed_shampoo.py (max_preconditioner_dim=1024)",
        "preconditions vectors too; grafting is what its README advises to AdamW users, its default is none",
        elementwise=False,
    ),
    Optimizer(
        "soap",
        "SOAP: Adam in Shampoo's eigenbasis",
        (
            *ADAM,
            State("Kronecker factors", "squares", "fp32", 10_000),
            State("eigenvectors", "squares", "fp32", 10_000),
        ),
        "Vyas et al. 2025; github.com/nikhilvyas/SOAP soap.py (max_precond_dim=10000, precondition_1d=False)",
        "dimensions above 10 000 and vectors have no preconditioner",
        scope="matrices",
        otherwise=ADAM,
        elementwise=False,
    ),
)

OPTIMIZERS: dict[str, Optimizer] = {row.name: row for row in _ROWS}
_BY_SQUASHED = {squashed(name): name for name in OPTIMIZERS}

# As launchers and libraries spell them, where the states are the same: transformers 5 OptimizerNames, axolotl, classes of
# torch, bitsandbytes, torchao, apex and DeepSpeed.
SPELLINGS: dict[str, str] = {
    squashed(spelling): name
    for name, spellings in (
        ("adamw", "adamw_torch adamw_torch_fused adamw_apex_fused adamw_torch_xla adamw_torch_npu_fused adamw_hf "
                  "torch.optim.AdamW FusedAdam DeepSpeedCPUAdam"),
        ("adam", "torch.optim.Adam"),
        ("adamw-8bit", "adamw_bnb_8bit bnb.optim.AdamW8bit bitsandbytes.optim.AdamW8bit"),
        ("paged-adamw", "paged_adamw_32bit bnb.optim.PagedAdamW bitsandbytes.optim.PagedAdamW PagedAdamW32bit"),
        ("paged-adamw-8bit", "bnb.optim.PagedAdamW8bit bitsandbytes.optim.PagedAdamW8bit"),
        ("adamw-8bit-torchao", "adamw_torch_8bit torchao.optim.AdamW8bit"),
        ("adamw-4bit", "adamw_torch_4bit torchao.optim.AdamW4bit"),
        ("adamw-fp8", "torchao.optim.AdamWFp8"),
        ("lion-8bit", "lion_bnb_8bit bnb.optim.Lion8bit bitsandbytes.optim.Lion8bit"),
        ("paged-lion-8bit", "bnb.optim.PagedLion8bit bitsandbytes.optim.PagedLion8bit"),
        ("ademamix", "ademamix_bnb_32bit bnb.optim.AdEMAMix bitsandbytes.optim.AdEMAMix"),
        ("ademamix-8bit", "bnb.optim.AdEMAMix8bit bitsandbytes.optim.AdEMAMix8bit"),
        ("paged-ademamix", "paged_ademamix_32bit bnb.optim.PagedAdEMAMix"),
        ("paged-ademamix-8bit", "bnb.optim.PagedAdEMAMix8bit"),
        ("paged-lion", "paged_lion_32bit bnb.optim.PagedLion"),
        ("lion-32bit", "bnb.optim.Lion bitsandbytes.optim.Lion"),
        ("rmsprop-32bit", "rmsprop_bnb rmsprop_bnb_32bit bnb.optim.RMSprop"),
        ("rmsprop-8bit", "rmsprop_bnb_8bit bnb.optim.RMSprop8bit"),
        ("adamw-anyprecision", "AnyPrecisionAdamW"),
        ("stable-adamw", "optimi.StableAdamW"),
        ("prodigy", "prodigyopt.Prodigy"),
        ("schedule-free-radam", "RAdamScheduleFree"),
        ("schedule-free-sgd", "SGDScheduleFree"),
        ("galore-8bit", "galore_adamw_8bit galore_adamw_8bit_layerwise GaLoreAdamW8bit"),
        ("galore-adafactor", "galore_adafactor_layerwise GaLoreAdafactor"),
        ("q-galore", "q_galore_adamw8bit QGaLoreAdamW8bit q_galore_adamw_8bit"),
        ("schedule-free-adamw", "AdamWScheduleFree schedulefree.AdamWScheduleFree"),
        ("galore", "galore_adamw galore_adamw_layerwise GaLoreAdamW"),
        ("apollo", "apollo_adamw apollo_adamw_layerwise APOLLOAdamW"),
        ("came", "came_pytorch"),
        ("sophia", "sophiag"),
        ("sgd", "torch.optim.SGD"),
        ("adagrad", "torch.optim.Adagrad"),
        ("rmsprop", "torch.optim.RMSprop"),
    )
    for spelling in spellings.split()
}  # fmt: skip
