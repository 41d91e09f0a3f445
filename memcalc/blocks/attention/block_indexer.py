"""Block-sparse attention's indexer (MiniMax M3): a small attention that picks which blocks of keys a query reads."""

from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class BlockIndexer:
    """Scores every earlier block of `block_size` tokens and keeps the best `selected_blocks`, the last ones always.

    Its one key a token, `head_dim` wide and normalised, is cached beside the attention's keys and values.
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
        return out + prefixed("q_norm", self.norm.weights()) + prefixed("k_norm", self.norm.weights())
