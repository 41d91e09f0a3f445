"""Layers of models that live on the unit sphere, and loops over them (nGPT, Loshchilov et al. 2024; Dory, transformers
modeling_dory.py)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class UnitMLP(MLP, without=("constants", "cache", "state")):
    """Gate and up are scaled by channel, and their product is made as long as 1."""

    def weights(self) -> tuple[Weight, ...]:
        scales = tuple(Weight(name, self.role, (self.intermediate,)) for name in ("gate_scale", "up_scale"))
        return (*super().weights(), *scales)

    def _whole(self, t: Tape, p: Profile, x: Var) -> Var:
        if p.degrees.tp > 1:
            raise Unsupported("tensor parallelism of feed-forwards on the unit sphere (Dory) is not modelled")
        width, bias, each = self.intermediate, self.bias, p.formats.weights
        made = [ops.linear(t, p, x, Matrix(name, width, self.hidden * width, bias=bias * width)) for name in ("gate", "up")]
        gate, up = (ops.scale_by_norm(t, p, y, width, each) for y in made)
        product = ops.mul(t, ops.activation(t, p, gate, self.activation), up)
        normed = Norm(width, "rms-unit", affine=False).forward(t, p, product)
        return ops.linear(t, p, normed, Matrix("down", self.hidden, self.hidden * width, bias=bias * self.hidden))


@dataclass(frozen=True)
class Rates(Block, without=("constants", "cache", "state", "traits")):
    """How far the residual goes towards what a branch returns, by channel."""

    hidden: int

    wired = True

    def weights(self) -> tuple[Weight, ...]:
        return tuple(Weight(name, "other", (self.hidden,)) for name in ("attention_rate", "mlp_rate"))

    def forward(self, t: Tape, p: Profile, x: Var, y: Var | None = None) -> Var:
        """x + rate · (y − x), y what a branch made of x."""
        y = y or x
        each = max(x.each, y.each)
        mine = Step("share") if y.each == each else Step("input", y.bytes)
        difference = t.emit("difference", [y, x], x.elements, each, (), [mine, Step("input", x.bytes, 1)])
        return ops.add(t, x, ops.scale_by_norm(t, p, difference, self.hidden, p.formats.weights))


@dataclass(frozen=True)
class LoopPlace(Block, without=("weights", "constants", "cache", "state", "traits")):
    """A layer's place in a loop, each run of which begins with the last one's result, of length 1, plus what the first was
    given. `entry`: this layer begins a run; `first`, `last`: it is that of the first, or of the last."""

    hidden: int
    entry: bool
    first: bool
    last: bool

    wired = True

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """What the layer is given; all but the last run's stand beside a gradient of what the first was given."""
        norm = Norm(self.hidden, "rms-unit", affine=False)
        if self.first and self.entry:
            given = norm.forward(t, p, x)
        else:
            given = Var(x.elements, x.each, x.grad, f"{t.path}/given", outside=True)
        if given.grad and not self.last:
            t.carried.append(given)
        if not self.entry:
            return x
        out = ops.add(t, norm.forward(t, p, x), given)
        t.beyond = list(dict.fromkeys(var for node in t.nodes for var in node.saves if not var.outside))
        return out
