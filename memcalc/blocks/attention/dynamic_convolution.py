"""ConvBERT's attention: heads of half the width beside a convolution whose kernel each token makes (Jiang et al. 2020,
span-based dynamic convolution; transformers modeling_convbert.py, ConvBertSelfAttention). Scores are written out."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.attention.kernels import contiguous
from memcalc.blocks.attention.own_scores import attend_own
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.sequence_convolution import convolve
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class DynamicConvolution(Attention, without=("state",)):
    """Attention whose result stands beside that of a convolution as wide as it; the output projection reads both."""

    kernel: int = 9

    def _output(self) -> tuple[Weight, ...]:
        return linear("output", "attention", 2 * self.output_size, self.hidden, bias=True)

    def _extras(self) -> tuple[Weight, ...]:
        size, hidden = self.output_size, self.hidden
        return (
            Weight("depthwise", "attention", (hidden, 1, self.kernel)),
            Weight("pointwise", "attention", (size, hidden, 1)),
            Weight("pointwise.bias", "attention", (size, 1)),
            *linear("kernel", "attention", size, self.heads * self.kernel, bias=True),
            *linear("convolved", "attention", hidden, size, bias=True),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Keys, values, the convolution of keys, queries; the kernels that their product makes; both halves side by side."""
        if p.degrees.tp > 1:
            raise Unsupported("tensor parallelism of attention beside a convolution is not modelled")
        size, hidden, cast = self.output_size, self.hidden, p.formats.autocast
        matrix = {name: Matrix(name, size, hidden * size, bias=size) for name in ("k", "v", "q", "convolved")}
        key, value = ops.linear(t, p, x, matrix["k"]), ops.linear(t, p, x, matrix["v"])
        narrow = ops.cast(t, x, p.formats.compute) if cast else x
        spans = convolve(t, p, "depthwise", narrow, hidden, hidden * self.kernel)
        spans = convolve(t, p, "pointwise", spans, size, hidden * size)
        query = ops.linear(t, p, x, matrix["q"])
        product = contiguous(t, ops.mul(t, spans, query))
        kernels = self.heads * self.kernel
        made = ops.linear(t, p, product, Matrix("kernel", kernels, size * kernels, bias=kernels))
        made = ops.cast(t, ops.softmax(t, made, FP32 if cast else made.each), query.each)
        convolved = self._unfolded(t, p, x, matrix["convolved"])
        flops = Size(token=2 * size * self.kernel)
        t.multiply("convolution", flops, 2.0 if convolved.grad else 0.0)
        convolved = t.emit("convolution", [convolved, made], Size(token=size), made.each, [convolved, made])
        named = Size(token=size * (convolved.each + spans.each)) + product.bytes
        mixed = attend_own(t, p, self._core(p), self.positions.own, query, key, value, named)
        both = t.emit(
            "both", [mixed, convolved], Size(token=2 * size), mixed.each, (), [Step("share"), Step("share", source=1)]
        )
        out = ops.linear(t, p, both, Matrix("output", hidden, 2 * size * hidden, bias=hidden))
        return ops.dropout(t, p, out, self.output_dropout)

    def _unfolded(self, t: Tape, p: Profile, x: Var, matrix: Matrix) -> Var:
        """The neighbourhood of each token, laid out in full."""
        x = contiguous(t, ops.linear(t, p, x, matrix))
        unfolded = t.emit("unfolded", [x], x.elements * self.kernel, x.each)
        return contiguous(t, unfolded)
