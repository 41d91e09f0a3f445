"""Attention of models that live on the unit sphere (nGPT, Loshchilov et al. 2024; transformers modeling_dory.DoryAttention)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.ledger import Cache, Weight
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class UnitAttention(Attention, without=("state",)):
    """Queries are scaled by channel once they are rotated, so is the gate, and what it lets pass is made as long as 1.

    `reads_later`: keys and values are cached by a later run of the same layer alone.
    """

    reads_later: bool = False

    def cache(self) -> tuple[Cache, ...]:
        return () if self.reads_later else super().cache()

    def read_caches(self) -> tuple[tuple[Cache, bool], ...]:
        return tuple((cache, self.reads_later) for cache in super().cache())

    def _extras(self) -> tuple[Weight, ...]:
        scales = tuple(Weight(name, "attention", (self.query_size,)) for name in ("query_scale", "gate_scale"))
        return (*super()._extras(), *scales)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block; norms are without scales."""
        if p.degrees.tp > 1:
            raise Unsupported("tensor parallelism of attention on the unit sphere (Dory) is not modelled")
        core, size, each = self._core(p), self.query_size, p.formats.weights
        query, key, value = self._project(t, p, core.shape, x)
        gate = ops.linear(t, p, x, Matrix("gate", size, self.inputs * size))
        query, key, value = self._normed(t, p, (query, self.heads), (key, self.kv_heads), (value, self.kv_heads))
        query, key = self.positions.rotate(t, p, query, key, self.head_dim)
        query = ops.scale_by_norm(t, p, query, size, each)
        mixed = self._result(t, p, core, query, key, value)
        mixed = ops.mul(t, mixed, ops.sigmoid(t, ops.scale_by_norm(t, p, gate, size, each)))
        mixed = Norm(size, "rms-unit", affine=False).forward(t, p, mixed, 1)
        bias = self.projections.output_bias * self.outputs
        return ops.linear(t, p, mixed, Matrix("output", self.outputs, size * self.outputs, bias=bias))
