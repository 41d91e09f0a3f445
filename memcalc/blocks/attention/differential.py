"""Differential attention (Ye et al. 2024; transformers modeling_diffllama.DiffLlamaAttention): what queries read of one half of
the value heads, less λ times what they read of the other."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.attention.core import Core
from memcalc.blocks.attention.kernels import attend
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mixers import operations as mixer
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class DifferentialAttention(Attention, without=("state",)):
    """Two attentions with the same queries and keys; pairs of heads are subtracted and normed without a scale. λ is made of
    four learned vectors."""

    def _extras(self) -> tuple[Weight, ...]:
        vectors = (Weight(f"lambda_{name}", "attention", (self.head_dim,)) for name in ("q1", "k1", "q2", "k2"))
        return (*super()._extras(), *vectors)

    def _attend(self, t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var) -> Var:
        if p.degrees.tp > 1:
            raise Unsupported("tensor parallelism of differential attention is not modelled")
        read = []
        for half in ops.halves(t, value):
            doubled = t.emit("value heads, twice", [half], value.elements, value.each, (), [Step("input", half.bytes)])
            read.append(attend(t, p, core, query, key, doubled))
        first, second = ops.halves(t, mixer.joined(t, *read))
        learned = [Step("temp", second.bytes), Step("weight", Size(fixed=4 * self.head_dim * p.formats.weights))]
        steps = [Step("input", second.bytes), *(learned if p.method.trained else [])]
        saves = [second] if p.method.trained else []
        taken = t.emit("by lambda", [second], second.elements, second.each, saves, steps, trained=p.method.trained)
        less = t.emit("less", [first, taken], first.elements, first.each, (), [Step("share"), Step("input", taken.bytes, 1)])
        less = ops.cast(t, less, FP32) if p.formats.autocast else less  # which norms in fp32
        statistic = Var(Size(token=core.shape.heads / 2), FP32, False, f"{t.path}/statistic")
        return ops.scale(t, t.emit("norm", [less], less.elements, less.each, [less, statistic]))
