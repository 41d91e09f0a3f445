"""What an optimizer keeps for every parameter tensor: a table of states.

A state is a tensor with a shape rule and a number format, so its bytes are rule(shape) × bytes of the format. Most
states have the parameter's shape; factored, blockwise, low-rank and matrix-preconditioned ones do not, and some
optimizers hand embeddings, heads, norms and vectors to AdamW. An optimizer is one row of OPTIMIZERS, a shape rule one
entry of RULES, a choice of tensors one entry of SCOPES.

Where a row names a library, its states are the tensors which that library allocates, read from its source. The format
"parameter" is the dtype of the tensor being optimised: under mixed precision, that of the master weight.
"""

from math import prod

from memcalc.errors import InputError, nearest
from memcalc.formulas.optimizer_states import (
    DENSITIES,
    FORMAT_BYTES,
    LARGE,
    LARGE_BUT_TABLES,
    RANKED,
    RULES,
    SCOPES,
    SHAPELESS_SCOPES,
    Optimizer,
    Shape,
    State,
)
from memcalc.formulas.optimizer_table import OPTIMIZERS

PAGED_MINIMUM = 100_000  # values; smaller tensors are not paged (bitsandbytes, Optimizer8bit.get_state_buffer)


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


def beside_tables(opt: Optimizer) -> Optimizer:
    """The optimizer as transformers' Trainer makes it: 8-bit ones of bitsandbytes keep fp32 states of embeddings, tied or not.

    >>> state_bytes(beside_tables(optimizer("adamw-8bit")), (1000, 512), parameter_bytes=2, role="embedding") == 8 * 512_000
    True
    """
    return opt._replace(scope=LARGE_BUT_TABLES) if opt.scope == LARGE else opt


def paged_bytes(opt: Optimizer, shape: Shape, *, parameter_bytes: int, role: str = "attention") -> int:
    """The part of state_bytes in CUDA unified memory, which the driver moves between host and device as needed.

    The states themselves if the tensor has 100 000 values or more; their blockwise scales stay on the device.
    PyTorch's allocator does not count it; nvidia-smi shows the pages that are on the device.
    Returns bytes [B]. Source: bitsandbytes 0.50 optim/optimizer.py, get_state_buffer.

    >>> paged_bytes(optimizer("paged-adamw-8bit"), (4096, 4096), parameter_bytes=2) == 2 * 4096 * 4096
    True
    """
    if not opt.paged or prod(shape) < PAGED_MINIMUM:
        return 0
    paged = (state for state in states_of(opt, shape, role) if state.rule == "full")
    return sum(bytes_of(state, shape, parameter_bytes=parameter_bytes) for state in paged)


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
