"""What one rank moves while generating: weights and caches through its memory, hidden states over its link.

Counted as if all layers stood on one pipeline stage: several stages move the same bytes, one after the other. Walks the
distinct layers of a model, so depth costs nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.block import Block
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Cache, Weight
from memcalc.blocks.mixers.state import StateTensor
from memcalc.caches import cached
from memcalc.dtypes import NumberFormat, number_format
from memcalc.errors import Unsupported
from memcalc.estimates.compute.flops import is_encoder_decoder
from memcalc.estimates.lines import Line
from memcalc.estimates.placement import Stage, stages
from memcalc.frozen import NamedTuple

LOOKED_UP = ("tokens", "positions", "segments", "table")  # weights of which a token needs one row


class Routed(NamedTuple):
    """Routed experts of all layers that choose alike: `top_k` of `experts` a token."""

    experts: int
    top_k: int
    held: float  # bytes on one rank


class Traffic(NamedTuple):
    """Bytes on one rank; cache and state are those of one sequence."""

    weights: float  # read in every pass, whatever the batch: all but look-up tables and routed experts
    routed: tuple[Routed, ...]
    cache: float  # read in a decode step
    written: float  # cache that a prompt leaves
    state: float
    all_reduces: int  # of a pass through all layers, among tensor-parallel ranks
    copies: int  # experts a token in all layers, where they stand on other ranks than its attention


class Read(NamedTuple):
    """Equal caches in `layers` layers; `selected` bounds the tokens that attention reads of them."""

    cache: Cache
    selected: int | None
    layers: int
    shared: bool  # an earlier layer's: read here too, but written there

    def bytes(self, tokens: int, tp: int, stored: NumberFormat) -> float:
        stored = number_format(self.cache.format) if self.cache.format else stored
        elements = self.cache.local_width(tp) * tokens * self.layers
        return elements * stored.block_bytes / (stored.block_size * self.cache.every)


class _Ledger(NamedTuple):
    """Elements on one rank, by role: all that it holds, what a pass reads; experts also by how they are chosen."""

    held: Mapping[str, int]
    read: Mapping[str, int]
    routed: Mapping[tuple[int, int, str], int]  # (experts, top_k, role)
    reads: tuple[Read, ...]
    states: tuple[tuple[StateTensor, int], ...]
    all_reduces: int
    copies: int


def stored_by_role(lines: Iterable[Line]) -> dict[str, int]:
    """Bytes of the weights by role, from the lines of a serving estimate ("mlp", also where some of it is not quantised)."""
    stored: Counter[str] = Counter()
    for entry in lines:
        if entry.component == "weights":
            stored[entry.group or entry.name] += entry.bytes
    return dict(stored)


def traffic(
    architecture: Architecture, weights: Mapping[str, int], kv_format: str, *, tp: int, ep: int, prompt: int, context: int
) -> Traffic:
    """What a rank moves. `weights`: stored bytes [B] by role on one rank, all layers on one pipeline stage."""
    ledger, stored = _ledger(architecture, tp, ep), number_format(kv_format)
    each = {role: weights[role] / elements for role, elements in ledger.held.items() if elements}
    routed: dict[tuple[int, int], float] = {}
    for (experts, top_k, role), elements in ledger.routed.items():
        routed[experts, top_k] = routed.get((experts, top_k), 0) + elements * each[role]
    return Traffic(
        weights=sum(elements * each[role] for role, elements in ledger.read.items()),
        routed=tuple(Routed(*choice, held) for choice, held in routed.items()),
        cache=sum(r.bytes(_least(context, r.cache.window, r.selected), tp, stored) for r in ledger.reads),
        written=sum(r.bytes(_least(prompt, r.cache.window), tp, stored) for r in ledger.reads if not r.shared),
        state=sum(
            prod(state.local_shape(tp)) * layers * number_format(state.dtype or "bf16").bytes_for(1)
            for state, layers in ledger.states
        ),
        all_reduces=ledger.all_reduces,
        copies=ledger.copies,
    )


def _least(tokens: int, *bounds: int | None) -> int:
    return min(tokens, *(bound or tokens for bound in bounds))


@cached(256)
def _ledger(architecture: Architecture, tp: int, ep: int) -> _Ledger:
    etp, apart = max(1, tp // ep), ep > tp
    stage = stages(architecture, tp, 1, ep, etp)[0]
    _check_whole(architecture, stage)
    held, read, routed = Counter[str](), Counter[str](), Counter[tuple[int, int, str]]()
    reads: Counter[tuple[Cache, int | None, bool]] = Counter()
    states: Counter[StateTensor] = Counter()
    all_reduces = copies = 0
    for entry in stage.held:
        held[entry.role] += entry.elements

    def weigh(weight: Weight, block: Block, layers: int) -> None:
        elements = prod(weight.local_shape(tp, ep, etp)) * weight.tensors * layers
        if weight.routed:
            traits = block.traits
            routed[traits.experts + traits.identity_experts, traits.top_k, weight.role] += elements
        else:
            read[weight.role] += elements

    for _, block in (*stage.entry, *stage.exit):
        for weight in block.weights():
            if weight.path not in LOOKED_UP or (architecture.tied and weight.role == "embedding"):
                weigh(weight, block, 1)
    for layer, layers in zip(stage.sequence.kinds, stage.sequence.counts, strict=True):
        blocks = [block.computed for _, block in layer.blocks]
        cut = sum(any(weight.split for weight in block.weights() if not (weight.routed and apart)) for block in blocks)
        all_reduces += min(cut, 1 if layer.parallel else 2) * layers
        for block in blocks:
            _check(block)
            for weight in block.weights():
                weigh(weight, block, layers)
            for state in block.state():
                states[state] += layers
            for cache, selected, shared in _caches(block):
                reads[cache, selected, shared] += layers
            copies += block.traits.top_k * layers if apart else 0
    return _Ledger(
        held, read, routed,
        tuple(Read(cache, selected, layers, shared) for (cache, selected, shared), layers in reads.items()),
        tuple(states.items()), all_reduces, copies,
    )  # fmt: skip


def _caches(block: Block) -> list[tuple[Cache, int | None, bool]]:
    """The caches that a block reads, an earlier layer's among them; an indexer bounds what attention reads of its own."""
    selected = block.traits.selected_tokens
    return [(cache, selected if n == 0 else None, shared) for n, (cache, shared) in enumerate(block.read_caches())]


def _check(block: Block) -> None:
    """Blocks whose reads are not known."""
    reason = ""
    if block.traits.compressed:
        reason = "attention over compressed entries (DeepSeek V4)"
    elif block.traits.shares_selection:
        reason = "attention to the tokens that an earlier layer's indexer selected (GLM-5.2)"
    elif block.traits.cross:
        reason = "cross-attention"
    elif not block.traits.causal:
        reason = "attention that sees later tokens"
    if reason:
        raise Unsupported(f"the speed of {reason} is not modelled")


def _check_whole(architecture: Architecture, stage: Stage) -> None:
    if is_encoder_decoder(architecture):
        raise Unsupported("the speed of encoder-decoder models is not modelled")
    if not any(isinstance(block, Head) for _, block in stage.exit):
        raise Unsupported("a model without a head generates nothing")
