"""Feed-forward blocks: gated (three matrices) and plain (two)."""

from typing import Any

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass

# Activations that learn something themselves: single numbers, one tensor each.
LEARNED = {"xielu": ("alpha_p", "alpha_n")}


@dataclass(frozen=True)
class MLP(Block, without=("constants", "cache", "state")):
    """down(act(gate(x)) * up(x)) when gated, else down(act(up(x)))."""

    hidden: int
    intermediate: int
    gated: bool = True
    bias: bool = False
    down_bias: bool | None = None  # default: as `bias`
    activation: str = "silu"
    fused: bool = False  # gate and up in one matrix (Phi-3, GLM)
    transposed: bool = False  # GPT-2's Conv1D keeps [inputs, outputs]
    inner_dropout: float = 0.0  # before the down projection
    dropout: float = 0.0  # after it
    role: str = "mlp"
    bounded: bool = False  # gate and up are clamped before the activation (DeepSeek V4, GLM-5 Next)
    wide: bool = False  # activation and product are computed in fp32 (Beam)
    names_product: bool = False  # a variable has what the down projection reads until the layer is through (BERT)
    cuts: bool = False  # what the gate has below so many deviations above its mean becomes 0 (Gemma 3n)
    norm: Norm | None = None  # before the down projection (BitNet)
    scaled: bool = False  # the result is multiplied by one learned number (Inkling)
    extras: tuple[Weight, ...] = ()  # further learned numbers, known by their shapes only

    @property
    def traits(self) -> Traits:
        return Traits(feed_forward=self.intermediate, gated=self.gated)

    def weights(self) -> tuple[Weight, ...]:
        pieces = (self.intermediate, 1)
        first: dict[str, Any] = {"bias": self.bias, "cut": "outputs", "transposed": self.transposed}
        if self.gated and self.fused:
            out = linear("gate_up", self.role, self.hidden, 2 * self.intermediate, **first, sections=(pieces, pieces))
        elif self.gated:
            out = linear("gate", self.role, self.hidden, self.intermediate, **first)
            out += linear("up", self.role, self.hidden, self.intermediate, **first)
        else:
            out = linear("up", self.role, self.hidden, self.intermediate, **first)
        out += tuple(Weight(name, self.role, (1,)) for name in LEARNED.get(self.activation, ()))
        out += self.extras
        out += (Weight("scale", self.role, (1,)),) * self.scaled
        if self.norm:
            out += prefixed("norm", self.norm.weights())
        bias = self.bias if self.down_bias is None else self.down_bias
        return out + linear(
            "down", self.role, self.intermediate, self.hidden, bias=bias, cut="inputs", transposed=self.transposed
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block: gate and up (or one fused matrix), activation, product, down."""
        if not p.batch.tiles:
            return self._whole(t, p, x)
        from memcalc.blocks.tiles import tiled

        return tiled(t, p, x, self._whole)

    def _whole(self, t: Tape, p: Profile, x: Var) -> Var:
        if self.extras:
            raise Unsupported("training with feed-forwards that learn scales of their own is not modelled")
        if self.norm and p.degrees.tp > 1:
            raise Unsupported("tensor parallelism of feed-forwards with a norm inside (BitNet) is not modelled")
        width = -(-self.intermediate // p.degrees.tp)
        if self.gated and not (self.fused or self.bias or self.dropout) and p.fuses_adapters:
            from memcalc.blocks import fused_adapters

            return fused_adapters.mlp(t, p, x, self.hidden, width)
        x = ops.gathered(t, p, x)
        if self.gated:
            product = self._gated(t, p, x, width)
        else:
            up = ops.linear(t, p, x, Matrix("up", width, self.hidden * width, bias=self.bias * width))
            product = ops.activation(t, p, up, self.activation)
        product = ops.dropout(t, p, self.norm.forward(t, p, product) if self.norm else product, self.inner_dropout)
        if self.names_product and p.formats.autocast and product.each == FP32:  # elsewhere the projection saves it
            t.returned.append(product)
        bias = self.bias if self.down_bias is None else self.down_bias
        matrix = Matrix("down", self.hidden * p.degrees.stream, self.hidden * width, bias=bias * self.hidden, reduced=True)
        down = ops.linear(t, p, product, matrix)
        down = ops.scale_by_norm(t, p, down, 1, p.formats.weights) if self.scaled else down
        return ops.dropout(t, p, down, self.dropout)

    def _gated(self, t: Tape, p: Profile, x: Var, width: int) -> Var:
        matrix = self.hidden * width
        if self.fused or (p.kernels.merged and p.adapters.merges("gate_up")):
            both = ops.linear(t, p, x, Matrix("gate_up", 2 * width, 2 * matrix, bias=self.bias * 2 * width))
            if p.kernels.merged:
                return t.emit("product", [both], Size(token=width), both.each, [both])
            if self.activation == ops.CLAMPED_GLU and not p.kernels.fused_activation:
                return ops.clamped_glu(t, *ops.halves(t, both))
            gate = t.emit("gate", [both], Size(token=width), both.each, (), [Step("input", both.bytes)])
            up = t.emit("up", [both], Size(token=width), both.each, (), [Step("input", both.bytes)])
            return self._fused_halves(t, p, both, gate, up)
        gate = ops.linear(t, p, x, Matrix("gate", width, matrix, bias=self.bias * width))
        if p.kernels.fused_activation:
            up = ops.linear(t, p, x, Matrix("up", width, matrix, bias=self.bias * width))
            kind = "over" if p.kernels.gates_in_place else "input"
            steps = [Step(kind, gate.bytes, 0), Step(kind, up.bytes, 1)]
            return t.emit("product", [gate, up], gate.elements, gate.each, [gate, up], steps)
        if self.bounded:
            up = ops.linear(t, p, x, Matrix("up", width, matrix, bias=self.bias * width))
            gate, up = (t.emit(f"{name} clamped", [y], y.elements, y.each, [y]) for name, y in (("gate", gate), ("up", up)))
            return ops.mul(t, ops.activation(t, p, gate, self.activation), up)
        if self.wide:
            up = ops.linear(t, p, x, Matrix("up", width, matrix, bias=self.bias * width))
            return ops.wide_glu(t, p, gate, up, self.activation)
        gate = _above_cutoff(t, p, gate) if self.cuts else gate
        acted = ops.activation(t, p, gate, self.activation)
        up = ops.linear(t, p, x, Matrix("up", width, matrix, bias=self.bias * width))
        return ops.mul(t, acted, up)

    def _fused_halves(self, t: Tape, p: Profile, both: Var, gate: Var, up: Var) -> Var:
        """The two halves are views: saving one keeps the whole matrix product's result."""
        if p.kernels.fused_activation:
            return t.emit("product", [gate, up], gate.elements, gate.each, [both])
        gate.whole = up.whole = both
        acted = ops.activation(t, p, gate, self.activation)
        return ops.mul(t, acted, up)


def _above_cutoff(t: Tape, p: Profile, x: Var) -> Var:
    """relu(x − mean − std × a constant), both over a token's values (modeling_gemma3n.Gemma3nTextMLP._gaussian_topk)."""
    one, spread = Size(token=p.degrees.stream), Step("input", x.bytes)
    mean = t.emit("mean", [x], one, x.each, (), [Step("temp", x.bytes), spread])
    deviation = t.emit("deviation", [x], one, x.each, [x], [Step("temp", x.bytes), spread])
    if deviation.grad:
        t.nodes[-1].saves = (x, deviation)
    cutoff = ops.add(t, mean, ops.scale(t, deviation))
    steps = [Step("share"), Step("temp", x.bytes), Step("input", cutoff.bytes, 1)]
    return ops.activation(t, p, t.emit("less cutoff", [x, cutoff], x.elements, x.each, (), steps), "relu")
