"""Experts that are computed one after the other, each over the tokens that chose it (modeling_dbrx.DbrxExperts).

All experts' matrices are one tensor, of which an expert's is a view: its gradient is written into zeros of the whole, and added
to what the experts after it made. Tokens are taken to spread evenly over the experts.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, MatrixShape, Size, Step, Tape, Var
from memcalc.blocks.experts.kernels import Expert, activated, permuted, rows
from memcalc.blocks.experts.routing import Router


def compute_in_turn(t: Tape, p: Profile, router: Router, expert: Expert, x: Var, weights: Var) -> Var:
    """Σ weight · expert(x), as wide as x."""
    n, width = rows(p, router) / router.experts, -(-expert.intermediate // p.degrees.etp)
    path = t.path
    out = Var(x.elements, x.each, False, f"{path}/zeros")
    for number in range(router.experts):
        t.path = f"{path}/{number}"
        own = _Own(t, p, router, n, last=number == router.experts - 1)
        kept = Var(Size(token=2 * n), INT64, False, f"{t.path}/tokens")
        taken = permuted(t, x, Size(token=n * expert.hidden), kept)
        gate = own.product("gate", taken, width, expert.hidden)
        up = own.product("up", taken, width, expert.hidden)
        product = ops.mul(t, ops.activation(t, p, gate, expert.activation), up)
        down = own.product("down", product, expert.hidden, width)
        states = ops.weighted(t, down, permuted(t, weights, Size(token=n), kept))
        steps = [Step("share"), Step("input", states.bytes, 1)]
        added = t.emit("added", [out, states], out.elements, out.each, [kept, states], steps)
        added.whole = out.whole or out
        out = added
    t.path = path
    return out


def compute_in_fp32(t: Tape, p: Profile, router: Router, expert: Expert, x: Var, weights: Var) -> Var:
    """The same of stacked matrices: rows, matrices and biases are cast to fp32, results are added up in it and cast back
    (modeling_openai_privacy_filter.OpenAIPrivacyFilterExperts)."""
    n, width = rows(p, router) / router.experts, -(-expert.intermediate // p.degrees.etp)
    path = t.path
    out = Var(x.elements, FP32, False, f"{path}/zeros")
    for number in range(router.experts):
        t.path = f"{path}/{number}"
        own = _Own(t, p, router, n, last=number == router.experts - 1, wide=True)
        kept = Var(Size(token=2 * n), INT64, False, f"{t.path}/tokens")
        taken = ops.cast(t, permuted(t, x, Size(token=n * expert.hidden), kept), FP32)
        both = own.biased("gate_up", taken, expert.ups * width, expert.hidden)
        down = own.biased("down", activated(t, p, expert, both, Size(token=n * width)), expert.hidden, width)
        states = ops.weighted(t, down, ops.cast(t, permuted(t, weights, Size(token=n), kept), FP32))
        added = t.emit(
            "added", [out, states], out.elements, FP32, [kept, states], [Step("share"), Step("input", states.bytes, 1)]
        )
        added.whole = out.whole or out
        out = added
    t.path = path
    return ops.scale(t, ops.cast(t, out, x.each), "by the number chosen")


class _Own:
    """Products with one expert's part of the matrices; `wide`: which is cast to fp32."""

    def __init__(self, t: Tape, p: Profile, router: Router, n: float, *, last: bool, wide: bool = False) -> None:
        self.t, self.p, self.router, self.n, self.last, self.wide = t, p, router, n, last, wide

    def _part(self, name: str, elements: int) -> Var:
        """The expert's part of what all have, a view."""
        t, p, trained = self.t, self.p, self.p.method.trained
        size = Size(fixed=elements)
        whole = size * (self.router.experts * p.formats.weights)
        # the backward begins with the last expert, whose gradient is the first
        steps = [Step("weight", whole)] if self.last else [Step("temp", whole), Step("temp", whole)]
        part = t.emit(f"{name} part", [], size, p.formats.weights, (), steps if trained else [], trained=trained)
        part.whole = Var(Size(), p.formats.weights, False, f"{t.path}/{name}", outside=True)
        return ops.cast(t, part, FP32) if self.wide else part

    def biased(self, name: str, x: Var, outputs: int, inputs: int) -> Var:
        """x times the expert's own matrix, and its own bias in fp32."""
        bias = self._part(f"{name}.bias", outputs)
        product = self.product(name, x, outputs, inputs)
        shared = Step("share") if product.each == FP32 else Step("input", product.bytes)
        return self.t.emit("biased", [product, bias], product.elements, FP32, (), [shared, Step("input", bias.bytes, 1)])

    def product(self, name: str, x: Var, outputs: int, inputs: int) -> Var:
        """x times the expert's own matrix."""
        t, p, trained = self.t, self.p, self.p.method.trained
        matrix = self._part(name, outputs * inputs)
        each = FP32 if self.wide and not p.formats.autocast else p.formats.product
        x, matrix = ops.cast(t, x, each), ops.cast(t, matrix, each)
        t.multiply(f"experts {name}", Size(token=2 * self.n * outputs * inputs), x.grad + trained,
                   shape=MatrixShape(self.n, outputs, inputs, 1, x.grad, trained))  # fmt: skip
        saves = [*((x,) if trained else ()), matrix]
        return t.emit(name, [x, matrix], Size(token=self.n * outputs), x.each, saves,
                      [Step("input", x.bytes), Step("input", matrix.bytes, 1)])  # fmt: skip
