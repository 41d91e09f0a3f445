"""The experts' feed-forward over sorted tokens, as grouped matrix products (transformers integrations/moe.py,
grouped_mm_experts_forward).

Every token is copied `top_k` times, sorted by expert, multiplied with the stacked matrices group by group, weighted,
put back in order and summed. How tokens spread over the experts does not matter for memory: the rows are as many in all.
Autocast does not know the grouped product: it runs in the parameters' type.
"""

from math import ceil
from typing import TYPE_CHECKING

from memcalc.blocks import operations as ops
from memcalc.blocks.profile import Profile
from memcalc.blocks.routing import scattered_scores
from memcalc.blocks.tape import INT64, Size, Step, Tape, Var

if TYPE_CHECKING:
    from memcalc.blocks.experts import Experts

INT32 = 4  # bytes; where each expert's rows end


def rows(p: Profile, e: "Experts") -> float:
    """Rows that one rank's experts compute, for each token of the rank.

    Each token sends `top_k`. Over expert-parallel ranks as many arrive as leave when routing is balanced; over
    expert-tensor ranks every rank computes the rows of all. A capacity bounds them and, with padding, is what they are.
    """
    whole = min(1.0, p.stream * p.etp)
    sent = e.top_k * (p.expert_imbalance if p.ep > 1 else 1.0)
    if not p.capacity_factor:
        return whole * sent
    most = e.experts * capacity(p.routed_tokens, e.top_k, e.experts, p.capacity_factor) / p.routed_tokens
    return whole * (most if p.pad_to_capacity else min(sent, most))


def capacity(tokens: int, top_k: int, experts: int, factor: float) -> int:
    """Rows that an expert takes from one rank's tokens: ceil(tokens × top_k / experts × factor)
    (Lepikhin et al. 2020, section 2.2; Fedus et al. 2021, equation 3; Megatron-LM, moe_utils.py, get_capacity).
    """
    return ceil(tokens * top_k / experts * factor)


def compute(t: Tape, p: Profile, e: "Experts", x: Var, weights: Var) -> Var:
    """Σ weight · expert(x), as wide as x."""
    n, width = rows(p, e), -(-e.intermediate // p.etp)
    sorted_rows = _permuted(t, x, Size(token=n * e.expert_hidden), "token of each row", n)
    sorted_weights = _permuted(t, weights, Size(token=n), "order", n)
    ends = Var(Size(fixed=-(-e.experts // p.ep)), INT32, False, f"{t.path}/ends")
    groups = _Groups(t, p, e, n, ends)
    ups = 2 if e.gated else 1
    first = groups.product("gate_up" if e.gated else "up", sorted_rows, ups * width, e.expert_hidden)
    acted = _activated(t, p, e, first, Size(token=n * width))
    out = groups.product("down", acted, e.expert_hidden, width)
    weighted = ops.weighted(t, out, sorted_weights)
    restored = _permuted(t, weighted, weighted.elements, "inverse order", n)
    total = t.emit("summed", [restored], x.elements, restored.each, (), [Step("input", restored.bytes)])
    return ops.cast(t, total, x.each)


def compute_all(t: Tape, p: Profile, e: "Experts", x: Var) -> Var:
    """Every expert over every token, its inputs scaled by scores that are zero where it was not chosen
    (modeling_llama4.Llama4TextMoe)."""
    scores = scattered_scores(t, p, e, x)
    n, width = e.experts * p.stream, -(-e.intermediate // p.etp)
    repeated = t.emit("repeated", [x], x.elements * e.experts, x.each)
    scaled = ops.weighted(t, repeated, scores)
    first = _batched(t, p, e, "gate_up", scaled, n * 2 * width, e.experts * e.hidden * 2 * width)
    gate, up = ops.halves(t, first)
    product = ops.mul(t, up, ops.activation(t, p, gate, e.activation))
    out = _batched(t, p, e, "down", product, n * e.hidden, e.experts * e.hidden * width)
    total = t.emit("summed", [out], x.elements, out.each)
    return ops.cast(t, total, x.each)


def _batched(t: Tape, p: Profile, e: "Experts", name: str, x: Var, outputs: float, weight: float) -> Var:
    """bmm with stacked matrices: as a linear layer, each expert over its own rows; x's gradient comes first.

    Counted as work are the chosen experts: that the others multiply zeros here is this code's choice, not the model's.
    """
    return ops.linear(t, p, name, x, outputs, weight, used=e.top_k / e.experts)


def _permuted(t: Tape, x: Var, elements: Size, index: str, n: float) -> Var:
    """x[index]: keeps the index; its backward adds into zeros, out of place."""
    kept = Var(Size(token=n), INT64, False, f"{t.path}/{index}")
    return t.emit("permuted", [x], elements, x.each, [kept], [Step("temp", x.bytes), Step("input", x.bytes)])


class _Groups:
    """Grouped products that share where each expert's rows end and, with biases, each row's expert."""

    def __init__(self, t: Tape, p: Profile, e: "Experts", n: float, ends: Var) -> None:
        self.t, self.p, self.e, self.n, self.ends = t, p, e, n, ends
        self.expert = Var(Size(token=n), INT64, False, f"{t.path}/expert of each row")

    def product(self, name: str, x: Var, outputs: int, inputs: int) -> Var:
        """x Wᵀ for each expert's own W; the gradient of all experts' W comes first, then that of x."""
        t, p = self.t, self.p
        experts = -(-(self.e.experts + (self.e.identity_experts if name != "down" else 0)) // p.ep)
        x = ops.cast(t, x, p.weights)
        t.multiply(f"experts {name}", Size(token=2 * self.n * outputs * inputs), x.grad + p.trained)
        steps = [Step("input", x.bytes)]
        if p.trained:
            steps.insert(0, Step("weight", Size(fixed=experts * outputs * inputs * p.weights)))
        saves = [x, self.ends] if p.trained else [self.ends]
        out = t.emit(name, [x], Size(token=self.n * outputs), p.weights, saves, steps, trained=p.trained)
        return self._biased(out, experts * outputs) if self.e.bias else out

    def _biased(self, out: Var, size: int) -> Var:
        """Each row's bias is gathered and added in place: its backward adds into zeros, out of place."""
        table = Size(fixed=size * self.p.weights)
        steps = [Step("share")]
        if self.p.trained:
            steps += [Step("temp", table), Step("weight", table)]
        biased = self.t.emit("biased", [out], out.elements, out.each, [self.expert], steps, trained=self.p.trained)
        biased.whole = out  # in place: the sum is in the product's own memory
        return biased


def _activated(t: Tape, p: Profile, e: "Experts", first: Var, half: Size) -> Var:
    if not e.gated:
        return ops.activation(t, p, first, e.activation)
    if p.kernels.fused_activation:
        return t.emit("product", [first], half, first.each, [first])
    if e.clamped:
        return _clamped(t, first, half)
    gate, up = ops.halves(t, first)
    return ops.mul(t, ops.activation(t, p, gate, e.activation), up)


def _clamped(t: Tape, both: Var, half: Size) -> Var:
    """(up + 1) · gate · σ(α gate), gate and up clamped and interleaved (modeling_gpt_oss.GptOssExperts._apply_gate)."""
    parts = []
    for name in ("gate", "up"):
        part = t.emit(name, [both], half, both.each, (), [Step("input", both.bytes)])
        part.whole = both
        parts.append(t.emit(f"{name} clamped", [part], half, both.each, [part]))
    gate, up = parts
    glu = ops.mul(t, gate, ops.sigmoid(t, ops.scale(t, gate)))
    up = t.emit("plus one", [up], half, both.each, (), [Step("share")])
    return ops.mul(t, up, glu)
