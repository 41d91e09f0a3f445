"""The gated delta rule by flash-linear-attention's kernels, which keep their inputs and one small matrix a chunk.

fla/ops/gated_delta_rule/chunk.py: the forward saves queries, keys, values, the summed decay, the learning rate and the inverse
of each chunk's triangular system; the backward makes the memory before each chunk again.
"""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, FUSED, Size, Step, Tape, Var
from memcalc.blocks.mixers import operations as mixer
from memcalc.frozen import NamedTuple


class FlashDelta(NamedTuple):
    """Sizes of one rank's heads."""

    heads: int
    key_dim: int
    value_dim: int
    chunk: int

    def record(self, t: Tape, query: Var, key: Var, value: Var, decay: Var, rate: Var) -> Var:
        """The memory's answers, [heads, value_dim] a token, in the inputs' type."""
        self._multiply(t)
        each = value.each
        total = Var(decay.elements, FP32, False, f"{t.path}/decay, summed")
        inverse = Var(Size(token=self.heads * self.chunk), each, False, f"{t.path}/inverse")
        memory = Size(token=self.heads * self.key_dim * self.value_dim / self.chunk) * each
        made = [key.bytes, value.bytes, memory, value.bytes]  # w, u, the memory and the values written, again
        made += [memory, value.bytes, key.bytes, key.bytes]  # gradients: of the memory, of u, of w, the second of the keys
        inputs = [query, key, value, decay, rate]
        steps = [*(Step("temp", size) for size in made), *(Step("input", var.bytes, i) for i, var in enumerate(inputs))]
        return t.emit("delta rule", inputs, value.elements, each, [query, key, value, total, rate, inverse], steps)

    def _multiply(self, t: Tape) -> None:
        """The same products as where they are written out (memcalc.blocks.mixers.delta_rule)."""
        pairs = Size(token=2 * self.heads * self.chunk * self.key_dim)
        for _ in ("keys with keys", "queries with keys"):
            t.multiply(FUSED, pairs, 2)
        for size in (self.value_dim, self.key_dim):
            t.multiply(FUSED, Size(token=self.heads * size * self.chunk), 2)
        memory, own = 3 * self.key_dim * self.value_dim, self.chunk * self.value_dim
        t.multiply(FUSED, Size(token=2 * self.heads * (memory + own)), 2)


def unit_length(t: Tape, x: Var, groups: int) -> Var:
    """x / √Σx²: keeps its result and the reciprocal roots (fla/modules/l2norm.py)."""
    roots = Var(Size(token=groups), FP32, False, f"{t.path}/reciprocal root")
    y = t.emit("unit length", [x], x.elements, x.each)
    if y.grad:
        t.nodes[-1].saves = (y, roots)
    return y


def convolution(t: Tape, p: Profile, x: Var, kernel: int, channels: int) -> Var:
    """A causal depthwise convolution with its activation in one kernel, of channels laid out anew: keeps its input
    (causal_conv1d_interface.py, CausalConv1dFn)."""
    x = mixer.copied(t, x)
    t.multiply("convolution", Size(token=2 * kernel * channels), x.grad + p.method.trained)
    steps = [Step("input", x.bytes)]
    if p.method.trained:
        steps.append(Step("weight", Size(fixed=channels * kernel * p.formats.weights)))
    return t.emit("convolution", [x], x.elements, x.each, [x], steps, trained=p.method.trained)
