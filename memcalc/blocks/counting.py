"""What a block multiplies for each token, in training and in generation, read from its tape or, failing that, its weights."""

from math import prod

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Tape, Var, Work
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple

# What mixers call the products that only exist because they take many tokens at once.
RECURRENT = ("contraction", "matrix product", "solution", "scan", "blocks", "loop")
LOOKED_UP = ("embedding", "position", "norm")  # roles whose weights multiply nothing


class BlockWork(NamedTuple):
    """The work of one block. `reason` says why it is an estimate; empty: it was counted operation by operation."""

    works: tuple[Work, ...]
    reason: str = ""


@cached(4096)
def count(path: str, block: Block, profile: Profile, hidden: int) -> BlockWork:
    """Record one block on its own; a block that cannot record is estimated from its weights."""
    if isinstance(block, Embedding):
        return BlockWork(())  # a look-up multiplies nothing
    tape = Tape(path=path)
    try:
        block.forward(tape, profile, Var(Size(token=hidden), profile.formats.residual, True, "input"))
    except Unsupported:
        return BlockWork(_estimated(path, block, profile), f"{type(block).__name__}: 2 FLOP a token and weight")
    return BlockWork(tuple(tape.works))


def _estimated(path: str, block: Block, profile: Profile) -> tuple[Work, ...]:
    """2 FLOP for each weight that a token meets, and attention where the block has heads."""
    traits = block.traits
    matrices = sum(w.parameters for w in block.weights() if len(w.shape) > 1 and w.role not in LOOKED_UP)
    used = Size(token=2 * max(0, matrices - traits.idle_parameters))
    works = (Work(f"{path}/weights", used, used * 2),)
    if not traits.query_size:
        return works
    scores, mixing = Size(pair=2 * traits.query_size), Size(pair=2 * traits.heads * traits.value_dim)
    backward = scores * (2 if profile.attention == "eager" else 3) + mixing * 2
    return (*works, Work(f"{path}/attention", scores + mixing, backward, True, traits.window or traits.selected_tokens))


def decode_work(path: str, block: Block, profile: Profile, hidden: int) -> tuple[Work, ...]:
    """The same when tokens are generated one by one.

    Latent attention absorbs its up-projections, so every head reads the cached latent itself. Recurrent mixers leave their
    chunks and step the state: a multiply-add each to decay, to write and to read an element. Cross-attention has the
    encoder's keys and values in its cache.
    """
    works = count(path, block, profile, hidden).works
    traits = block.traits
    if traits.cross:
        return tuple(work for work in works if work.name.rpartition("/")[2] not in ("k", "v"))
    if rank := traits.kv_lora_rank:
        pair = Size(pair=2 * traits.heads * (2 * rank + traits.rope_head_dim))
        return tuple(work._replace(forward=pair) if work.forward.pair else work for work in works)
    if states := block.state():
        state = sum(prod(tensor.shape) for tensor in states if not tensor.convolution)
        kept = tuple(work for work in works if work.name.rpartition("/")[2] not in RECURRENT)
        return (*kept, Work(f"{path}/step", Size(token=6 * state), Size())) if state else kept
    return works


def pairs(batch: int, seq_len: int, *, causal: bool = True, window: int | None = None, chunked: bool = False) -> int:
    """Pairs of a query and an unmasked key in `batch` sequences.

    >>> pairs(1, 4), pairs(1, 4, window=2), pairs(1, 4, window=2, chunked=True), pairs(1, 4, causal=False)
    (10, 7, 6, 16)
    """
    if not causal:
        return batch * seq_len * (seq_len if window is None else min(window, seq_len))
    if window is None or window >= seq_len:
        return batch * seq_len * (seq_len + 1) // 2
    if chunked:
        whole, rest = divmod(seq_len, window)
        return batch * (whole * window * (window + 1) // 2 + rest * (rest + 1) // 2)
    return batch * (window * (window + 1) // 2 + (seq_len - window) * window)
