"""xLSTM's matrix memory: C ← f C + i v kᵀ, n ← f n + i k, read by the query and gated."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear, whole
from memcalc.blocks.mixers.state import StateTensor
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass

ROLE = "linear-attention"


@dataclass(frozen=True)
class MatrixLSTM(Block, without=("constants", "cache")):
    """The mLSTM of transformers modeling_xlstm.

    Kept while generating, per sequence: C [heads, key, value], n [heads, key] and the gates' running maximum [heads, 1].
    """

    hidden: int
    heads: int
    key_size: int
    value_size: int
    bias: bool = False
    chunk: int = 64  # tokens that the training and prefill kernels take at once

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads, scan_chunk=self.chunk)

    def weights(self) -> tuple[Weight, ...]:
        keys, values = (((self.heads, size // self.heads),) for size in (self.key_size, self.value_size))
        wide = {
            "q": (self.key_size, keys),
            "k": (self.key_size, keys),
            "v": (self.value_size, values),
            "z": (self.value_size, values),
        }
        projections = (
            weight
            for name, (size, sections) in wide.items()
            for weight in linear(name, ROLE, self.hidden, size, bias=self.bias, cut="outputs", sections=sections)
        )
        gates = (
            w for name in ("input", "forget") for w in linear(name, ROLE, self.hidden, self.heads, bias=True, cut="outputs")
        )
        norms = ("norm/scale", "norm/shift") if self.bias else ("norm/scale",)
        return (
            *projections,
            *gates,
            *(Weight(name, "norm", (self.value_size,)) for name in norms),
            *linear("output", ROLE, self.value_size, self.hidden, bias=self.bias, cut="inputs", sections=values),
        )

    def state(self) -> tuple[StateTensor, ...]:
        by_head, key, value = whole(0, self.heads), self.key_size // self.heads, self.value_size // self.heads
        return (
            StateTensor("recurrent", (self.heads, key, value), by_head),
            StateTensor("normaliser", (self.heads, key), by_head),
            StateTensor("maximum", (self.heads, 1), by_head),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with xLSTM's memory is not modelled")
