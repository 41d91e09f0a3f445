"""The ledger's entries: weight tensors, with what each parallelism may divide.

A weight is a name, a shape and two facts about its axes: along which dimension tensor parallelism cuts it (and in which
indivisible pieces), and whether its first dimension counts routed experts. Everything else (bytes, shards, optimizer
state) is arithmetic on these.
"""

from math import prod

from memcalc.frozen import NamedTuple

Shape = tuple[int, ...]


class Split(NamedTuple):
    """How tensor parallelism divides one dimension: sections of `units` indivisible pieces, each `width` wide.

    A fused query-key-value matrix has three sections; key-value heads are pieces that are replicated once there are
    fewer of them than ranks (Megatron-LM, vLLM and SGLang alike).
    """

    dim: int
    sections: tuple[tuple[int, int], ...]

    def local(self, ranks: int) -> int:
        """Length of this dimension on one of `ranks` tensor-parallel ranks.

        >>> Split(0, ((32, 128), (8, 128), (8, 128))).local(16)
        512
        """
        return sum(-(-units // ranks) * width for units, width in self.sections)


class Weight(NamedTuple):
    """One parameter tensor of a block."""

    path: str
    role: str  # one of ROLES
    shape: Shape
    split: Split | None = None  # None: replicated over tensor-parallel ranks
    routed: bool = False  # dimension 0 counts routed experts; expert parallelism divides it
    tensors: int = 1  # identical tensors of this shape, e.g. experts that are kept apart
    latent_up: bool = False  # latent attention's up-projection, which engines absorb into queries and outputs
    frozen: bool = False  # never trained, so it has no gradient and no optimizer states (Whisper's sinusoids)

    @property
    def parameters(self) -> int:
        return prod(self.shape) * self.tensors

    def local_shape(self, tensor: int = 1, expert: int = 1, expert_tensor: int = 1) -> Shape:
        """The shape on one rank of the given tensor, expert and expert-tensor parallel degrees.

        Routed experts are divided by expert × expert-tensor parallelism, all else by tensor parallelism.
        """
        ranks = expert_tensor if self.routed else tensor
        shape = list(self.shape)
        if self.split and ranks > 1:
            shape[self.split.dim] = self.split.local(ranks)
        if self.routed and expert > 1:
            shape[0] = -(-shape[0] // expert)
        return tuple(shape)


class Buffer(NamedTuple):
    """A constant beside the parameters, whole on every rank for as long as they stand."""

    elements: int
    each: int = 0  # bytes; 0: of the parameters' type


class Cache(NamedTuple):
    """What a block keeps per sequence while generating: `heads` × `width` elements a token, or a fixed state.

    Heads are divided over tensor-parallel ranks and replicated once there are fewer of them than ranks; heads = 0 marks a
    cache that every rank holds whole (latent attention). `window` bounds the tokens kept. `format` overrides the cache's
    number format where an engine fixes it (recurrent states in fp32). `source`: these are keys and values of an encoder's
    tokens, so many, or 0 for as many as the prompt has. `expanded`: the heads that a library makes of them before it
    caches them. `indexes`: these are what a sparse indexer looks tokens up by. `every`: one entry stands for so many tokens;
    of a fixed state: it holds the tokens of a window of so many until that is full, at most `every` - 1.
    """

    name: str
    heads: int
    width: int
    window: int | None = None
    per_token: bool = True
    format: str = ""
    source: int | None = None
    expanded: int = 0
    indexes: bool = False
    every: int = 1

    @property
    def most(self) -> int:
        """Times its width that a fixed state takes at most."""
        return max(1, self.every - 1)

    def local_width(self, ranks: int) -> int:
        """Elements a token (or a state) on one rank.

        >>> Cache("keys", heads=8, width=128).local_width(16)
        128
        """
        return -(-self.heads // ranks) * self.width if self.heads else self.width


# Roles in the order reports show them.
ROLES = (
    "embedding",
    "position",
    "attention",
    "linear-attention",
    "state-space",
    "mlp",
    "experts",
    "router",
    "norm",
    "projector",
    "head",
    "other",
)


def whole(dim: int, size: int) -> Split:
    """Tensor parallelism may cut `size` anywhere."""
    return Split(dim, ((size, 1),))


def prefixed(path: str, weights: tuple[Weight, ...]) -> tuple[Weight, ...]:
    """The weights of a block within a block, under its name."""
    return tuple(weight._replace(path=f"{path}/{weight.path}") for weight in weights)


def linear(
    path: str,
    role: str,
    inputs: int,
    outputs: int,
    *,
    bias: bool = False,
    cut: str = "",
    sections: tuple[tuple[int, int], ...] = (),
    transposed: bool = False,
) -> tuple[Weight, ...]:
    """The weight (and bias) of a linear layer, stored [outputs, inputs], or [inputs, outputs] when `transposed`.

    cut = "outputs" (column parallel: the bias is cut too), "inputs" (row parallel: the bias is whole) or "" (replicated).
    `sections` says in which pieces the cut dimension comes; without it, it may be cut anywhere.
    """
    shape = (inputs, outputs) if transposed else (outputs, inputs)
    split, bias_split = None, None
    if cut == "outputs":
        pieces = sections or ((outputs, 1),)
        split, bias_split = Split(1 if transposed else 0, pieces), Split(0, pieces)
    elif cut == "inputs":
        split = Split(0 if transposed else 1, sections or ((inputs, 1),))
    weight = Weight(path, role, shape, split)
    return (weight, Weight(f"{path}.bias", role, (outputs,), bias_split)) if bias else (weight,)
