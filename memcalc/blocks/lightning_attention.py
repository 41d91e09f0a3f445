"""Lightning attention (MiniMax): linear attention with one fixed decay a head."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Weight, linear, prefixed, whole
from memcalc.blocks.norm import Norm
from memcalc.blocks.profile import Profile
from memcalc.blocks.state import StateTensor
from memcalc.blocks.tape import Tape, Var
from memcalc.errors import Unsupported

ROLE = "linear-attention"


@dataclass(frozen=True)
class LightningAttention:
    """S ← λ S + k vᵀ, read by the query, a head at a time; the result is normalised and gated by the input.

    Training and prefill take `block_size` tokens at once. Kept while generating, per sequence: S, [head_dim, head_dim]
    a head, however long the context.
    """

    hidden: int
    heads: int
    head_dim: int
    block_size: int = 256
    activation: str = "silu"

    @property
    def inner_size(self) -> int:
        return self.heads * self.head_dim

    def weights(self) -> tuple[Weight, ...]:
        head = (self.heads, self.head_dim)
        by_head = ((self.heads, 3 * self.head_dim),)  # query, key and value of one head lie beside each other
        out = linear("qkv", ROLE, self.hidden, 3 * self.inner_size, cut="outputs", sections=by_head)
        out += prefixed("norm", Norm(self.inner_size).weights())
        out += linear("output_gate", ROLE, self.hidden, self.inner_size, cut="outputs", sections=(head,))
        return out + linear("output", ROLE, self.inner_size, self.hidden, cut="inputs", sections=(head,))

    def state(self) -> tuple[StateTensor, ...]:
        memory = (self.heads, self.head_dim, self.head_dim)
        return (StateTensor("recurrent", memory, whole(0, self.heads)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with lightning attention is not modelled")
