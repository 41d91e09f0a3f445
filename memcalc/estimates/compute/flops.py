"""FLOPs of a model counted block by block: forward, backward, recomputation, prefill and decode.

Counted as PyTorch's FlopCounterMode does: matrix products 2 FLOP a multiply-add, their backward twice that, attention over
all pairs of queries and keys, masked or not. What a kernel that skips masked pairs computes is counted beside it, as causal.
Fused attention makes its scores again in the backward, 2.5 times the forward: hardware FLOPs, not the model's.
"""

from collections.abc import Iterator
from typing import Any

from memcalc.autograd.profile import MethodTraits, Profile
from memcalc.autograd.tape import Size, Work, sum_of
from memcalc.blocks.architecture import Architecture, Named, Part
from memcalc.blocks.counting import count, decode_work, pairs
from memcalc.blocks.head import Head
from memcalc.blocks.norm import Norm
from memcalc.caches import cached
from memcalc.formulas.compute import block_flops
from memcalc.frozen import NamedTuple

TEXT_PARTS = ("language", "encoder", "decoder")
PROFILE = Profile(attention="eager", method=MethodTraits(dropout=False))
RECOMPUTE = ("none", "selective", "full")


class CountedBlock(NamedTuple):
    """One block and how many layers have it."""

    part: str
    path: str
    block: Any
    layers: int
    share: float  # of the tokens that pass it: in an encoder-decoder each token passes one of the two
    layered: bool
    last: bool  # the layer ends with it


class StepFlops(NamedTuple):
    """FLOPs of `batch` sequences of `seq_len` tokens."""

    forward: float
    backward: float
    recomputation: float  # of whole layers; PyTorch's checkpoint stops before a layer's last product, `stopped_early`
    stopped_early: float

    @property
    def model(self) -> float:
        return self.forward + self.backward

    @property
    def hardware(self) -> float:
        return self.model + self.recomputation


class BlockFlops(NamedTuple):
    """One line of the ledger: FLOPs a token and a pair, and in how many layers."""

    path: str
    layers: int
    per_token: float
    per_pair: float
    flops: float  # forward, of one sequence
    certainty: str

    def document(self) -> dict[str, Any]:
        return self._asdict()


def step_flops(
    architecture: Architecture, batch: int, seq_len: int, *, attention: str = "eager", recompute: str = "none",
    causal: bool = False,
) -> StepFlops:  # fmt: skip
    """Forward, backward and recomputation of one step. `causal`: unmasked pairs only; `attention` sdpa or flash: with the
    scores that a fused kernel makes again."""
    profile = PROFILE._replace(attention=attention)
    forward = backward = again = stopped = 0.0
    for entry in entries(architecture):
        works = count(entry.path, entry.block, profile, architecture.hidden).works
        made = [(work, *_both(work, entry, batch, seq_len, causal)) for work in works]
        forward += sum(ahead for _, ahead, _ in made)
        backward += sum(back for _, _, back in made)
        if entry.layered and recompute == "full":
            again += sum(ahead for _, ahead, _ in made)
            stopped += made[-1][1] if entry.last and made else 0.0
        elif recompute == "selective":
            again += sum(ahead for work, ahead, _ in made if work.forward.pair)
    return StepFlops(forward, backward, again, stopped)


def by_block(architecture: Architecture, seq_len: int, *, causal: bool = False) -> tuple[BlockFlops, ...]:
    """The forward of one sequence, block by block; blocks under the same path are one line."""
    out: dict[tuple[str, float, float], BlockFlops] = {}
    for entry in entries(architecture):
        counted = count(entry.path, entry.block, PROFILE, architecture.hidden)
        total = sum_of(work.forward for work in counted.works)
        if total == Size():
            continue
        flops = sum(_both(work, entry, 1, seq_len, causal)[0] for work in counted.works)
        certainty = "estimate" if counted.reason else "exact"
        line = BlockFlops(entry.path, entry.layers, total.token, total.pair, flops, certainty)
        key = (entry.path, total.token, total.pair)
        known = out.get(key)
        out[key] = line._replace(layers=known.layers + line.layers, flops=known.flops + flops) if known else line
    return tuple(out.values())


def prefill_flops(architecture: Architecture, tokens: int, *, causal: bool = False) -> float:
    """A prompt of so many tokens; the head computes the last one only, as engines do."""
    return sum(flops for _, flops in prefill_by_block(architecture, tokens, causal=causal))


def prefill_by_block(architecture: Architecture, tokens: int, *, causal: bool = False) -> Iterator[tuple[CountedBlock, float]]:
    """The same block by block, in all layers that have one."""
    for entry in entries(architecture):
        works = count(entry.path, entry.block, PROFILE, architecture.hidden).works
        if isinstance(entry.block, Head):
            yield entry, sum(work.forward.token for work in works)
        else:
            yield entry, sum(_both(work, entry, 1, tokens, causal)[0] for work in works)


def decode_flops(architecture: Architecture, context: int) -> float:
    """One more token after `context` tokens; of an encoder-decoder, in the decoder."""
    return sum(flops for _, flops in decode_by_block(architecture, context))


def decode_by_block(architecture: Architecture, context: int) -> Iterator[tuple[CountedBlock, float]]:
    """The same block by block, in all layers that have one."""
    for entry in entries(architecture):
        if entry.share < 1 and entry.part == "encoder":
            continue
        flops = 0.0
        for work in decode_work(entry.path, entry.block, PROFILE, architecture.hidden):
            keys = min(context, work.window) if work.window else context
            flops += entry.layers * (work.forward.token + work.forward.pair * keys)
        yield entry, flops


def step_by_block(
    architecture: Architecture, seq_len: int, *, attention: str = "eager", causal: bool = False
) -> Iterator[tuple[CountedBlock, float, float]]:
    """Forward and backward of one sequence, block by block, in all layers that have one."""
    profile = PROFILE._replace(attention=attention)
    for entry in entries(architecture):
        works = count(entry.path, entry.block, profile, architecture.hidden).works
        both = [_both(work, entry, 1, seq_len, causal) for work in works]
        yield entry, sum(ahead for ahead, _ in both), sum(back for _, back in both)


@cached(256)
def estimated_blocks(architecture: Architecture) -> tuple[str, ...]:
    """Why some blocks are estimates, one sentence a kind of block; empty when all are counted."""
    counted = (count(e.path, e.block, PROFILE, architecture.hidden) for e in entries(architecture))
    return tuple(dict.fromkeys(found.reason for found in counted if found.reason))


@cached(256)
def entries(architecture: Architecture) -> tuple[CountedBlock, ...]:
    """The blocks that text passes; towers for images and sound are left out where there is a language part."""
    parts = [part for part in architecture.parts if part.name in TEXT_PARTS] or list(architecture.parts)
    share = 0.5 if is_encoder_decoder(architecture) else 1.0
    return tuple(entry for part in parts for entry in _part(part, share))


def is_encoder_decoder(architecture: Architecture) -> bool:
    return {"encoder", "decoder"} <= {part.name for part in architecture.parts}


def _part(part: Part, share: float) -> Iterator[CountedBlock]:
    yield from _blocks(part.name, "", part.entry, 1, share, layered=False)
    for stack in part.stacks:
        for layer, layers in zip(stack.layers, stack.counts, strict=True):
            yield from _blocks(part.name, f"{stack.path}/", layer.blocks, layers, share, layered=True)
    yield from _blocks(part.name, "", part.exit, 1, share, layered=False)


def _blocks(part: str, prefix: str, blocks: Named, layers: int, share: float, *, layered: bool) -> Iterator[CountedBlock]:
    for number, (path, block) in enumerate(blocks, start=1):
        run = block.computed
        last = number == len(blocks) and not isinstance(run, Norm)
        yield CountedBlock(part, f"{part}/{prefix}{path}", run, layers, share, layered, last)


def _both(work: Work, entry: CountedBlock, batch: int, seq_len: int, causal: bool) -> tuple[float, float]:
    """FLOPs of one operation in all layers that have it: forward, backward."""
    tokens = batch * seq_len * entry.share
    over = batch * seq_len**2
    if causal and (work.causal or work.window):
        over = pairs(batch, seq_len, causal=work.causal, window=work.window, chunked=work.chunked)
    ahead, back = work.forward, work.backward
    return (
        block_flops(ahead.token, tokens, ahead.pair, over * entry.share, entry.layers),
        block_flops(back.token, tokens, back.pair, over * entry.share, entry.layers),
    )
