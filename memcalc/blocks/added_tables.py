"""More lookup tables beside those of tokens: sides of a word's box on the page, whose rows are added to its embedding."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import INT64, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class AddedTables(Block, without=("constants", "cache", "state", "traits")):
    """x plus a row of each table, of some two (`twice`). `boxes`: numbers of a token's box; their indices are views of it."""

    tables: tuple[tuple[str, int], ...]  # name, rows
    width: int
    twice: tuple[str, ...] = ()
    boxes: int = 4

    def weights(self) -> tuple[Weight, ...]:
        return tuple(Weight(name, "other", (rows, self.width)) for name, rows in self.tables)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Indices are saved, one tensor of all, and one of each difference; a second gradient of a table is added to the
        first (modeling_layoutlm.LayoutLMEmbeddings)."""
        trained, each = p.method.trained and not p.method.frozen_embeddings, p.formats.weights
        box = Var(Size(token=self.boxes), INT64, False, f"{t.path}/boxes")
        for name, rows in (*self.tables, *(table for table in self.tables if table[0] in self.twice)):
            size = Size(fixed=rows * self.width * each)
            ids = box if name in self.twice else Var(Size(token=1), INT64, False, f"{t.path}/{name} ids")
            looked = t.emit(name, [ids], Size(token=self.width), each, [ids], [Step("weight", size)], trained=trained)
            x = ops.add(t, x, looked)
        return x
