"""What every block answers, so that whoever asks never has to guess.

Its FLOPs follow from what it records on a tape, the bytes it moves from its weights, caches and states. What a class has none
of it must say (`without`): one that neither answers nor says so is refused when it is defined.
"""

from typing import TYPE_CHECKING, Any

from memcalc.frozen import NamedTuple

if TYPE_CHECKING:
    from memcalc.autograd.profile import Profile
    from memcalc.autograd.tape import Size, Var
    from memcalc.blocks.attention.rotary import RotaryTable
    from memcalc.blocks.ledger import Buffer, Cache, Weight
    from memcalc.blocks.mixers.state import StateTensor

ANSWERS = ("weights", "constants", "cache", "state", "forward", "traits")


class Compression(NamedTuple):
    """Entries `width` wide that stand for `rate` tokens each; `overlapping`: an entry sees the window before it too."""

    width: int
    rate: int
    overlapping: bool = False
    indexes: bool = False


class Traits(NamedTuple):
    """Sizes and habits of a block that others ask for; 0, None or False is what a block without such a thing has."""

    heads: int = 0  # query heads, or those of a recurrence
    kv_heads: int = 0
    head_dim: int = 0  # of queries and keys
    value_dim: int = 0  # of values
    query_size: int = 0  # of softmax attention: heads × head_dim
    nope_head_dim: int = 0  # latent attention: the part of a head without position …
    rope_head_dim: int = 0  # … and the part with it
    kv_lora_rank: int = 0  # latent attention: the cached latent
    window: int | None = None  # tokens that a query sees
    chunked: bool = False  # the window is an aligned chunk
    selected_tokens: int | None = None  # tokens that an indexer lets a query see
    shares_selection: bool = False  # of an earlier layer's indexer
    compressed: bool = False  # attends to compressed entries
    compressions: tuple[Compression, ...] = ()  # that it keeps
    causal: bool = True
    cross: bool = False  # keys and values come from the encoder
    rotary: bool = False
    rotary_dim: int | None = None  # rotated dimensions of each head; None: all
    squares: bool = False  # it makes tensors of all pairs of positions, one for all sequences
    by_sequence: bool = False  # it makes something for each sequence, however long
    scan_chunk: int = 0  # tokens that a scan takes at once
    uneven_scan: bool = False  # whose first and last chunk differ from the others whatever the length
    feed_forward: int = 0  # inner width of an MLP, or of one routed expert
    gated: bool = False
    shared_feed_forward: int = 0  # inner width of the shared expert
    experts: int = 0  # routed
    identity_experts: int = 0  # chosen beside them, which return their input
    top_k: int = 0
    idle_parameters: int = 0  # of its weights, those that one token does not meet


class Block:
    """One building block of a model. Subclasses are small frozen values that name what they have none of."""

    begins = False  # its forward takes no input: it makes the stream from tokens or from a recording
    scores = False  # the last block, whose `loss` is the cross-entropy of what it predicts
    outside_layers = False  # training through it is modelled before and after the layers alone
    hears = False  # a layer over sound before the layers, with a checkpoint of its own where these are recomputed
    sees = False  # it reads what a tower makes of images, and nothing else
    wired = False  # training through it is modelled in layers that have a wiring
    passed = False  # the stream passes it by: it only stores weights
    streams = 1  # residual streams side by side that it reads
    predictions = 0  # further tokens that it predicts, each with a loss of its own

    def __init_subclass__(cls, without: tuple[str, ...] = (), **rest: Any) -> None:
        super().__init_subclass__(**rest)
        unknown = set(without) - set(ANSWERS)
        answered = {name for name in ANSWERS for base in cls.__mro__[:-1] if base is not Block and name in vars(base)}
        silent = [name for name in ANSWERS if name not in answered and name not in without]
        if unknown or silent:
            what = (
                f"says nothing about {', '.join(silent)}" if silent else f"is without {', '.join(unknown)}, which no block has"
            )
            raise TypeError(f"{cls.__name__} {what}; define it, or name it in `without` if there is none")

    def weights(self) -> "tuple[Weight, ...]":
        """Its parameter tensors."""
        return ()

    def cache(self) -> "tuple[Cache, ...]":
        """What it keeps of each token while generating."""
        return ()

    def read_caches(self) -> "tuple[tuple[Cache, bool], ...]":
        """The caches that it reads while generating, and whether an earlier layer keeps them."""
        return tuple((cache, False) for cache in self.cache())

    def handed(self, p: "Profile") -> "Size":
        """Bytes of what every layer of its kind is given beside its input: recomputed layers refer to it until the backward."""
        from memcalc.autograd.tape import ZERO

        return ZERO

    def constants(self) -> "tuple[Buffer, ...]":
        """What stands beside its parameters."""
        return ()

    def state(self) -> "tuple[StateTensor, ...]":
        """What it keeps of each sequence while generating, however long."""
        return ()

    def forward(self, *arguments: Any) -> "Var":
        """Record its forward pass on a tape: (tape, profile, input) → output. Raises Unsupported where that is not modelled."""
        from memcalc.errors import Unsupported

        raise Unsupported(f"training through {type(self).__name__} blocks is not modelled")

    def loss(self, *arguments: Any) -> "Size":
        """Record the cross-entropy of what it predicts: (tape, profile, input) → bytes held beside what is saved."""
        from memcalc.errors import Unsupported

        raise Unsupported(f"{type(self).__name__} blocks predict nothing")

    @property
    def traits(self) -> Traits:
        """Its sizes and habits."""
        return Traits()

    @property
    def table(self) -> "RotaryTable | None":
        """The rotary table that all layers of its kind share."""
        return None

    @property
    def computed(self) -> "Block":
        """The block that runs here, wherever its weights are stored."""
        return self
