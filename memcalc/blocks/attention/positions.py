"""How softmax attention knows where keys stand."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Tape, Var
from memcalc.blocks.attention.core import Relative
from memcalc.blocks.attention.rotary import RotaryTable, rotate
from memcalc.frozen import NamedTuple


class Positions(NamedTuple):
    """How a query knows where its keys stand."""

    rotary: bool = True
    rotary_dim: int | None = None  # rotated dimensions of each head (None: all; Phi, GPT-NeoX, GLM: a part)
    rotary_wide: bool = False  # rotated in fp32 and cast back (Cohere, OLMo 1, Ernie)
    rotary_tables: str = ""  # fp32, complex (pairs of it; Llama 4), halves (gpt-oss), copied (in each layer), copied fp32
    rotary_joined: bool = False  # the rotated part is concatenated with the rest even where there is none (Phi-3)
    sharpened: bool = False  # queries are multiplied, in fp32, by a number that grows with the position (Beam)
    alibi: str = ""  # a linear bias on the scores instead: whose way of adding it, a row of ALIBI
    own: str = ""  # scores written out in the family's own way: a row of memcalc.blocks.attention.own_scores.OWN
    relative: Relative = Relative()  # T5: a learned bias, made in the first layer of a stack for all others

    @property
    def joined(self) -> bool:
        """Each head is put together anew from a rotated and an unrotated part."""
        return self.rotary and bool(self.rotary_dim or self.rotary_joined)

    def table(self, head_dim: int) -> RotaryTable | None:
        """cos and sin that all layers of this kind share."""
        if not self.rotary or "copied" in self.rotary_tables:
            return None
        dims = self.rotary_dim or head_dim
        halved = self.rotary_tables in ("complex", "halves")
        return RotaryTable(dims // 2 if halved else dims, FP32 if self.rotary_tables in ("fp32", "complex") else 0)

    def own_tables(self, t: Tape, p: Profile, head_dim: int) -> list[Var]:
        """cos and sin of a layer that lays them out anew; one pair for all sequences of a batch."""
        if "copied" not in self.rotary_tables:
            return []
        itemsize = FP32 if "fp32" in self.rotary_tables else p.formats.residual
        size = Size(position=self.rotary_dim or head_dim)
        return [Var(size, itemsize, False, f"{t.path}/{name}") for name in ("cos", "sin")]

    def sharpen(self, t: Tape, query: Var) -> Var:
        """The query, where it grows with its position (modeling_beam.BeamAttention)."""
        return sharpened(t, query) if self.sharpened else query

    def rotate(self, t: Tape, p: Profile, query: Var, key: Var, head_dim: int) -> tuple[Var, Var]:
        tables, share = self.own_tables(t, p, head_dim), 1.0 if self.rotary_dim is None else self.rotary_dim / head_dim
        query = rotate(t, p, query, share, wide=self.rotary_wide, tables=tables)
        return query, rotate(t, p, key, share, wide=self.rotary_wide, tables=tables)


def sharpened(t: Tape, x: Var) -> Var:
    """x times a number of its position, in fp32."""
    scale = Var(Size(position=1), FP32, False, f"{t.path}/scale of each position")
    wide = ops.cast(t, x, FP32)
    return ops.cast(t, t.emit("sharpened", [wide], wide.elements, FP32, [scale]), x.each)
