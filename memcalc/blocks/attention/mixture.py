"""Attention whose queries and outputs are experts' (JetMoE): a router picks, keys and values are shared."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Cache, Weight, linear, whole
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class MixtureAttention(Block, without=("constants", "state")):
    """`top_k` of `experts` give a token's queries, `kv_heads` each, and read the result back (transformers modeling_jetmoe)."""

    hidden: int
    experts: int
    top_k: int
    kv_heads: int
    head_dim: int

    @property
    def key_size(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def traits(self) -> Traits:
        heads, one = self.kv_heads * self.top_k, 2 * self.key_size * self.hidden
        return Traits(
            heads=heads, kv_heads=self.kv_heads, head_dim=self.head_dim, value_dim=self.head_dim,
            query_size=heads * self.head_dim, rotary=True, idle_parameters=(self.experts - self.top_k) * one,
        )  # fmt: skip

    def weights(self) -> tuple[Weight, ...]:
        count, size = self.experts, self.key_size
        return (
            Weight("q", "attention", (count, size, self.hidden), whole(1, size)),
            Weight("output", "attention", (count, self.hidden, size), whole(2, size)),
            Weight("output.bias", "attention", (self.hidden,)),
            *linear("router", "router", self.hidden, count),
            *linear("kv", "attention", self.hidden, 2 * size, cut="outputs", sections=((self.kv_heads, self.head_dim),) * 2),
        )

    def cache(self) -> tuple[Cache, ...]:
        return (Cache("keys and values", self.kv_heads, 2 * self.head_dim),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with mixtures of attention is not modelled")
