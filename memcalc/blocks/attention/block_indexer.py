"""Block-sparse attention's indexer (MiniMax M3): a small attention that picks which blocks of keys a query reads."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Tape
from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class BlockIndexer:
    """Scores every earlier block of `block_size` tokens and keeps the best `selected_blocks`, the last ones always.

    Its one key a token, `head_dim` wide and normalised, is cached beside the attention's keys and values. What it picks are
    numbers of blocks, through which no gradient flows: its weights get none.
    """

    hidden: int
    heads: int
    head_dim: int
    block_size: int
    selected_blocks: int
    local_blocks: int
    norm: Norm

    @property
    def selected_tokens(self) -> int:
        """Tokens that a query attends to at most."""
        return self.selected_blocks * self.block_size

    def weights(self) -> tuple[Weight, ...]:
        out = linear("q", "attention", self.hidden, self.heads * self.head_dim)
        out += linear("k", "attention", self.hidden, self.head_dim)
        out += prefixed("q_norm", self.norm.weights()) + prefixed("k_norm", self.norm.weights())
        return tuple(weight._replace(frozen=True) for weight in out)

    def select(self, t: Tape, p: Profile, there: Size, masks: int) -> None:
        """Its products, and what runs by beside what is `there`: scores of every pair, once more where they are masked; then a
        mask for each of `masks` heads, which is made of what is kept, what is not, and zeros
        (modeling_minimax_m3_vl.MiniMaxM3VLIndexer)."""
        scores, mask = Size(pair=2 * self.heads * FP32), Size(pair=masks * (3 + 2 * p.formats.compute))
        for passing in (scores, mask):
            t.passing.append(t.saved_bytes() + there + passing)
        projected = sum(weight.parameters for weight in self.weights() if len(weight.shape) > 1)
        t.multiply("indexer", Size(token=2 * projected, pair=2 * self.heads * self.head_dim), 0, causal=True)
