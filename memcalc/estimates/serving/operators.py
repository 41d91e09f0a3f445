"""What one rank runs in a forward pass, as the operators that a time law knows, each with how many layers run it.

From the blocks' own weights, traits, caches and states, in the shapes of one tensor- and expert-parallel rank. Engines lay
matrices that read the same input side by side, so query, key and value are one product, and so are gate and up.
"""

from collections import Counter
from collections.abc import Iterator
from math import prod

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.block import Block
from memcalc.blocks.counting import RECURRENT, count
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Cache, Weight
from memcalc.blocks.linears import leaf
from memcalc.blocks.norm import Norm
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.estimates.compute.flops import PROFILE
from memcalc.estimates.compute.matrices import of_shape
from memcalc.estimates.placement import stages
from memcalc.frozen import NamedTuple

# Matrices that engines fuse where one block has several (vllm/model_executor/layers/linear.py: QKVParallelLinear,
# MergedColumnParallelLinear; deepseek_v2.py: fused_qkv_a_proj).
FUSED = (("q", "k", "v", "gate"), ("gate", "up"), ("q_down", "kv_down"), ("qkv", "z", "b", "a"))
NO_PRODUCT = ("embedding", "position", "norm")  # roles of weights that multiply nothing


class Product(NamedTuple):
    """A matrix product: rows × inputs → rows × outputs, with the weights of a role."""

    role: str
    outputs: int
    inputs: int
    last: bool = False  # of the last token of a sequence only: the head


class Attending(NamedTuple):
    """Softmax attention of one rank's heads over cached tokens."""

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int | None = None
    latent: int = 0  # width of the cached latent and its rotary key; 0: keys and values are cached by head
    rank: int = 0  # of that, the latent
    selected: int | None = None  # tokens that an indexer picks …
    index_width: int = 0  # … by keys of so many numbers a token
    shared: bool = False  # an earlier layer's cache: read here, written there


class Grouped(NamedTuple):
    """Routed experts of a rank, each a feed-forward `inner` wide."""

    experts: int  # of the layer
    here: int  # of them on this rank
    top_k: int
    hidden: int
    inner: int  # of one expert on this rank
    gated: bool


class Scan(NamedTuple):
    """A recurrence: what a token computes when many come at once, and the state that a sequence keeps."""

    flops: float
    state: int  # bytes on this rank


class Operators(NamedTuple):
    """Every operator of a pass, with how many layers run it; messages and traffic summed over all layers."""

    products: tuple[tuple[Product, int], ...]
    attending: tuple[tuple[Attending, int], ...]
    grouped: tuple[tuple[Grouped, int], ...]
    scans: tuple[tuple[Scan, int], ...]
    elements: int  # that norms, activations, rotations and additions read and write for a token
    kernels: int  # that do so
    all_reduces: int
    routed_copies: int  # experts a token, summed over layers whose experts stand on other ranks
    hidden: int
    layers: int


@cached(256)
def operators(architecture: Architecture, tp: int, ep: int) -> Operators:
    """Of a forward pass through all layers on one rank."""
    etp, apart = max(1, tp // ep), ep > tp
    stage = stages(architecture, tp, 1, ep, etp)[0]
    found: dict[type, Counter[NamedTuple]] = {kind: Counter() for kind in (Product, Attending, Grouped, Scan)}
    hidden = architecture.hidden
    elements = kernels = all_reduces = copies = depth = 0
    for path, block in stage.exit:
        if isinstance(block, Head):
            found[Product][Product("head", -(-architecture.predicted // tp), hidden, True)] += 1
        elif isinstance(block, Norm):
            elements, kernels = elements + 2 * block.size, kernels + 1
        else:
            for made in _of_block(path, block, hidden, tp, ep, etp):
                found[type(made)][made] += 1
    for layer, layers in zip(stage.sequence.kinds, stage.sequence.counts, strict=True):
        depth += layers
        cut = 0
        for path, whole in layer.blocks:
            block = whole.computed
            for made in _of_block(path, block, hidden, tp, ep, etp):
                found[type(made)][made] += layers
            moved, launched = _moved(block, hidden, tp, etp)
            elements, kernels = elements + moved * layers, kernels + launched * layers
            cut += any(weight.split for weight in block.weights() if not (weight.routed and apart))
            copies += block.traits.top_k * layers if apart else 0
        all_reduces += min(cut, 1 if layer.parallel else 2) * layers
    listed = {kind: tuple(counted.items()) for kind, counted in found.items()}
    return Operators(
        listed[Product], listed[Attending], listed[Grouped], listed[Scan],  # type: ignore[arg-type]  # by their kind
        elements, kernels, all_reduces, copies, hidden, depth,
    )  # fmt: skip


def _of_block(path: str, block: Block, hidden: int, tp: int, ep: int, etp: int) -> Iterator[NamedTuple]:
    yield from _products(block.weights(), tp, ep, etp)
    traits = block.traits
    if traits.experts:
        yield Grouped(
            traits.experts, -(-traits.experts // ep), traits.top_k, _expert_width(block.weights()) or hidden,
            -(-traits.feed_forward // etp), traits.gated,
        )  # fmt: skip
    if traits.query_size:
        yield _attending(block, tp)
    if state := block.state():
        works = count(path, block, PROFILE, hidden).works
        scanned = sum(work.forward.token for work in works if leaf(work.name) in RECURRENT)
        kept = sum(prod(each.local_shape(tp)) * number_format(each.dtype or "bf16").bytes_for(1) for each in state)
        yield Scan(scanned / tp, kept)


def _products(weights: tuple[Weight, ...], tp: int, ep: int, etp: int) -> Iterator[Product]:
    """Matrices that read the same input, side by side."""
    local = [(weight, weight.local_shape(tp, ep, etp)) for weight in weights]
    multiplied = [(w, shape) for w, shape in local if not w.routed and len(shape) == 2 and w.role not in NO_PRODUCT]
    names = {(_within(weight), leaf(weight.path)) for weight, _ in multiplied}
    sides: dict[tuple[str, str, int, str], int] = {}
    for weight, shape in multiplied:
        where, found = _within(weight), of_shape(shape, weight)
        mates = next(
            (group for group in FUSED if leaf(weight.path) in group and {(where, n) for n in group[:2]} <= names), None
        )
        key = (where, weight.role, found.inputs, mates[0] if mates else leaf(weight.path))
        sides[key] = sides.get(key, 0) + found.outputs * weight.tensors
    return (Product(role, outputs, inputs) for (_, role, inputs, _), outputs in sides.items())


def _within(weight: Weight) -> str:
    """The block inside a block that has it."""
    return weight.path.rpartition("/")[0]


def _expert_width(weights: tuple[Weight, ...]) -> int:
    """Inputs of one routed expert's first matrix."""
    return next((of_shape(w.shape, w).inputs for w in weights if w.routed and leaf(w.path) in ("gate_up", "gate", "up")), 0)


def _attending(block: Block, tp: int) -> Attending:
    traits = block.traits
    reads = block.read_caches()
    heads = -(-traits.heads // tp)
    indexes = next((cache.width for cache, _ in reads if cache.indexes), 0)
    keys = next(((cache, shared) for cache, shared in reads if not cache.indexes), None)
    latent = keys[0].width if keys and traits.kv_lora_rank else 0
    return Attending(
        heads, heads if latent else -(-(traits.kv_heads or traits.heads) // tp), traits.head_dim,
        traits.value_dim or traits.head_dim, traits.window, latent, traits.kv_lora_rank,
        traits.selected_tokens, indexes, bool(keys and keys[1]),
    )  # fmt: skip


def _moved(block: Block, hidden: int, tp: int, etp: int) -> tuple[int, int]:
    """Elements read and written for a token by what is no product, and kernels that do it.

    A norm takes in and gives back the residual beside what it normalises (vLLM's fused_add_rms_norm); attention rotates
    queries and keys in place and writes its cache; a feed-forward reads its wide products and writes their activation.
    """
    traits = block.traits
    if isinstance(block, Norm):
        return 4 * block.size, 1
    moved = kernels = 0
    if traits.query_size:
        local = (traits.query_size + (traits.kv_heads or 1) * traits.head_dim) // tp
        moved, kernels = moved + 2 * local + 2 * _written(block.cache(), tp), kernels + 2
        normed = sum(weight.role == "norm" for weight in block.weights())
        moved, kernels = moved + (2 * local if normed else 0), kernels + bool(normed)
    if block.state():
        moved, kernels = moved + 4 * sum(state.local_shape(tp)[0] for state in block.state() if state.convolution), kernels + 4
    if traits.feed_forward and not traits.experts:
        moved, kernels = moved + (3 if traits.gated else 2) * -(-traits.feed_forward // tp), kernels + 1
    if traits.shared_feed_forward:
        moved, kernels = moved + 3 * -(-traits.shared_feed_forward // tp) + 3 * hidden, kernels + 2
    return moved, kernels


def _written(caches: tuple[Cache, ...], tp: int) -> int:
    return sum(cache.local_width(tp) for cache in caches if cache.per_token)
