"""Lightning attention (MiniMax): linear attention with one fixed decay a head."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Buffer, Weight, linear, prefixed, whole
from memcalc.blocks.mixers import operations as mixer
from memcalc.blocks.mixers.state import StateTensor
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass

ROLE = "linear-attention"


@dataclass(frozen=True)
class LightningAttention(Block, without=("cache",)):
    """S ← λ S + k vᵀ, read by the query, a head at a time; the result is normalised and gated by the input.

    Training and prefill take `chunk` tokens at once. Kept while generating, per sequence: S, [head_dim, head_dim]
    a head, however long the context.
    """

    hidden: int
    heads: int
    head_dim: int
    chunk: int = 256  # tokens of a block
    activation: str = "silu"

    @property
    def inner_size(self) -> int:
        return self.heads * self.head_dim

    @property
    def traits(self) -> Traits:
        return Traits(heads=self.heads, head_dim=self.head_dim, scan_chunk=self.chunk, uneven_scan=True)

    def weights(self) -> tuple[Weight, ...]:
        head = (self.heads, self.head_dim)
        by_head = ((self.heads, 3 * self.head_dim),)  # query, key and value of one head lie beside each other
        out = linear("qkv", ROLE, self.hidden, 3 * self.inner_size, cut="outputs", sections=by_head)
        out += prefixed("norm", Norm(self.inner_size).weights())
        out += linear("output_gate", ROLE, self.hidden, self.inner_size, cut="outputs", sections=(head,))
        return out + linear("output", ROLE, self.inner_size, self.hidden, cut="inputs", sections=(head,))

    def constants(self) -> tuple[Buffer, ...]:
        """Decays of queries, keys and pairs within a block, and their rate."""
        return (Buffer(self.heads * (self.chunk**2 + 2 * self.chunk + 1)),)

    def state(self) -> tuple[StateTensor, ...]:
        memory = (self.heads, self.head_dim, self.head_dim)
        return (StateTensor("recurrent", memory, whole(0, self.heads)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block as modeling_minimax.MiniMaxLightningAttention, a loop over blocks of tokens."""
        inner = -(-self.heads // p.degrees.tp) * self.head_dim
        x = ops.gathered(t, p, x)
        joined = ops.linear(t, p, x, Matrix("qkv", 3 * inner, self.hidden * 3 * inner))
        read = self._blocks(t, p, ops.activation(t, p, joined, self.activation), inner)
        normed = Norm(inner).forward(t, p, mixer.copied(t, read), 1)
        gate = ops.sigmoid(t, ops.linear(t, p, x, Matrix("output_gate", inner, self.hidden * inner)))
        mixed = ops.mul(t, gate, normed)
        return ops.linear(t, p, mixed, Matrix("output", self.hidden * p.degrees.stream, inner * self.hidden, reduced=True))

    def _blocks(self, t: Tape, p: Profile, joined: Var, inner: int) -> Var:
        """Queries, keys, values and scores of every block, and the memory before it. Decayed queries are kept from the
        second block on, where there is a memory to read; decayed keys, and values once more, where it is still written.

        Backward, the gradients of a block's slices are written into zeros as large as all blocks.
        """
        heads, each = inner // self.head_dim, p.formats.compute if p.formats.autocast else joined.each
        wide = Size(token=inner)
        after_first, before_last = self._shares(p)
        shares = {"query": 1.0, "key": 1.0, "value": 1.0, "decayed query": after_first,
                  "decayed key": before_last, "value to write": before_last}  # fmt: skip
        kept = [Var(wide * share, each, False, f"{t.path}/{name}") for name, share in shares.items() if share]
        scores = Var(Size(token=heads * self._neighbours(p)), each, False, f"{t.path}/scores")
        memory = Var(
            Size(token=inner * self.head_dim * p.batch.padding(self.chunk) / self.chunk), each, False, f"{t.path}/memory"
        )
        # scores and mixing within a block; what the memory answers and what is written to it
        t.multiply("blocks", Size(token=4 * inner * (self._neighbours(p) + self.head_dim)), 2)
        steps = [Step("temp", joined.bytes), Step("input", joined.bytes)]
        return t.emit("blocks", [joined], wide, each, [*kept, scores, memory], steps)

    def _shares(self, p: Profile) -> tuple[float, float]:
        """Of a sequence's tokens: those after the first block, and those before the last."""
        length, chunk = p.batch.length, self.chunk
        if not length:
            return 1.0, 1.0
        return max(0, length - chunk) / length, (length - 1) // chunk * chunk / length

    def _neighbours(self, p: Profile) -> float:
        """Tokens in the block of a token, on average: the last block may be short."""
        if not p.batch.length:
            return self.chunk
        whole_blocks, rest = divmod(p.batch.length, self.chunk)
        return (whole_blocks * self.chunk**2 + rest**2) / p.batch.length
