"""The experts' feed-forward over sorted tokens, as grouped matrix products (transformers integrations/moe.py,
grouped_mm_experts_forward).

Every token is copied `top_k` times, sorted by expert, multiplied with the stacked matrices group by group, weighted,
put back in order and summed. How tokens spread over the experts does not matter for memory: the rows are as many in all.
Autocast does not know the grouped product: it runs in the parameters' type.
"""

from math import ceil

from memcalc.autograd import adapters
from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import HALF, INT64, MatrixShape, Size, Step, Tape, Var
from memcalc.blocks.experts.routing import Router, scattered_scores
from memcalc.blocks.norm import Norm
from memcalc.frozen import NamedTuple

INT32 = 4  # bytes; where each expert's rows end


class Expert(NamedTuple):
    """The network that each routed expert is."""

    hidden: int  # the router's, unless experts work in a smaller space
    intermediate: int
    gated: bool = True
    bias: bool = False
    activation: str = "silu"
    bounded: bool = False  # gate and up are clamped before the activation (DeepSeek V4, GLM-5 Next)
    wide: bool = False  # activation and product are computed in fp32 (Beam)
    clamped: bool = False  # gate and up are clamped, the gate's activation is x · σ(αx) (gpt-oss)
    interleaved: bool = True  # clamped gate and up alternate in the product of both; else one follows the other

    norm: Norm | None = None  # of what each expert returns, one for all of them (Muse Spark)

    @property
    def ups(self) -> int:
        """Matrices that widen: gate and up, or up alone."""
        return 2 if self.gated else 1

    @property
    def parameters(self) -> int:
        biases = self.ups * self.intermediate + self.hidden if self.bias else 0
        return (self.ups + 1) * self.intermediate * self.hidden + biases


def rows(p: Profile, router: Router) -> float:
    """Rows that one rank's experts compute, for each token of the rank.

    Each token sends `top_k`. Over expert-parallel ranks as many arrive as leave when routing is balanced; over
    expert-tensor ranks every rank computes the rows of all. A capacity bounds them and, with padding, is what they are.
    """
    whole = min(1.0, p.degrees.stream * p.degrees.etp)
    sent = router.top_k * (p.load.imbalance if p.degrees.ep > 1 else 1.0)
    if not p.load.capacity_factor:
        return whole * sent
    tokens = p.batch.routed_tokens
    most = router.experts * capacity(tokens, router.top_k, router.experts, p.load.capacity_factor) / tokens
    return whole * (most if p.load.padded else min(sent, most))


def capacity(tokens: int, top_k: int, experts: int, factor: float) -> int:
    """Rows that an expert takes from one rank's tokens: ceil(tokens × top_k / experts × factor)
    (Lepikhin et al. 2020, section 2.2; Fedus et al. 2021, equation 3; Megatron-LM, moe_utils.py, get_capacity).
    """
    return ceil(tokens * top_k / experts * factor)


def compute(t: Tape, p: Profile, router: Router, expert: Expert, x: Var, weights: Var) -> Var:
    """Σ weight · expert(x), as wide as x."""
    if p.kernels.merged:
        return _dispatched(t, p, router, expert, x, weights)
    n, width = rows(p, router), -(-expert.intermediate // p.degrees.etp)
    _exchange_rows(t, p, n * expert.hidden * x.each, x.grad, 1)
    sorted_rows = _permuted(t, x, Size(token=n * expert.hidden), "token of each row", n)
    sorted_weights = _permuted(t, weights, Size(token=n), "order", n)
    ends = Var(Size(fixed=-(-router.experts // p.degrees.ep)), INT32, False, f"{t.path}/ends")
    groups = _Groups(t, p, router, expert, n, ends)
    first = groups.product("gate_up" if expert.gated else "up", sorted_rows, expert.ups * width, expert.hidden)
    acted = activated(t, p, expert, first, Size(token=n * width))
    out = groups.product("down", acted, expert.hidden, width)
    out = expert.norm.forward(t, p, out, n) if expert.norm else out
    weighted = ops.weighted(t, out, sorted_weights)
    restored = _permuted(t, weighted, weighted.elements, "inverse order", n)
    total = t.emit("summed", [restored], x.elements, restored.each, (), [Step("input", restored.bytes)])
    return ops.cast(t, total, x.each)


def _dispatched(t: Tape, p: Profile, router: Router, expert: Expert, x: Var, weights: Var) -> Var:
    """Megatron-LM's all-to-all: tokens travel to their experts, which weight them between their two products, and back
    (megatron/core/transformer/moe: token_dispatcher.py, MoEAlltoAllTokenDispatcher; experts.py, TEGroupedMLP)."""
    n, width = rows(p, router), -(-expert.intermediate // p.degrees.etp)
    local = -(-router.experts // p.degrees.ep)
    moved = [name for name, needed in (("sent", p.degrees.ep > 1), ("sorted by expert", local > 1)) if needed]
    wide, order = Size(token=n * expert.hidden), Var(Size(token=n), INT32, False, f"{t.path}/token of each row")
    _exchange_rows(t, p, n * expert.hidden * x.each, x.grad, 1 if p.load.padded else router.top_k)
    sent = t.emit("permuted", [x], wide, x.each, [order])
    arrived = t.emit("weights permuted", [weights], Size(token=n), weights.each, [order], [Step("input", weights.bytes)])
    for name in moved:
        sent, arrived = (t.emit(name, [var], var.elements, var.each) for var in (sent, arrived))
    groups = _Groups(t, p, router, expert, n, Var(Size(fixed=local), INT32, False, f"{t.path}/ends"))
    first = groups.product("gate_up" if expert.gated else "up", sent, expert.ups * width, expert.hidden)
    acted = t.emit("product", [first, arrived], Size(token=n * width), first.each, [first, arrived])
    out = groups.product("down", acted, expert.hidden, width)
    if "moe_act" in p.modules:
        t.discard(acted)
    # Python's variables hold what was sent and what arrived until the layer is through, and the way back makes two at a time
    t.passing.append(t.saved_bytes() + sent.bytes * (len(moved) + (2 if moved else 1)))
    for name in reversed(moved):
        out = t.emit(f"{name}, back", [out], out.elements, out.each)
    return t.emit("restored", [out], x.elements, x.each, [order])


def _exchange_rows(t: Tape, p: Profile, size: float, grad: bool, copies: int) -> None:
    """Rows travel to the ranks of their experts and back, their gradients likewise. `copies`: of a token, where a dispatcher
    sends one alone to each rank (DeepEP); PyTorch's all-to-all and padded buffers carry every row."""
    if p.degrees.ep > 1:
        t.send("ep", Size(token=size), ("all-to-all",) * 2, ("all-to-all",) * 2 if grad else (), copies)


def compute_all(t: Tape, p: Profile, router: Router, expert: Expert, x: Var) -> Var:
    """Every expert over every token, its inputs scaled by scores that are zero where it was not chosen
    (modeling_llama4.Llama4TextMoe)."""
    scores = scattered_scores(t, p, router, x)
    n, width = router.experts * p.degrees.stream, -(-expert.intermediate // p.degrees.etp)
    repeated = t.emit("repeated", [x], x.elements * router.experts, x.each)
    scaled = ops.weighted(t, repeated, scores)
    first = _batched(t, p, router, "gate_up", scaled, n * 2 * width, router.experts * expert.hidden * 2 * width)
    gate, up = ops.halves(t, first)
    product = ops.mul(t, up, ops.activation(t, p, gate, expert.activation))
    out = _batched(t, p, router, "down", product, n * expert.hidden, router.experts * expert.hidden * width)
    total = t.emit("summed", [out], x.elements, out.each)
    return ops.cast(t, total, x.each)


def _batched(t: Tape, p: Profile, router: Router, name: str, x: Var, outputs: float, weight: float) -> Var:
    """bmm with stacked matrices: as a linear layer, each expert over its own rows; x's gradient comes first.

    Counted as work are the chosen experts: that the others multiply zeros here is this code's choice, not the model's.
    """
    return ops.linear(t, p, x, Matrix(name, outputs, weight, used=router.top_k / router.experts))


def _permuted(t: Tape, x: Var, elements: Size, index: str, n: float) -> Var:
    return permuted(t, x, elements, Var(Size(token=n), INT64, False, f"{t.path}/{index}"))


def permuted(t: Tape, x: Var, elements: Size, kept: Var) -> Var:
    """x[index]: keeps the index; its backward adds into zeros, out of place."""
    return t.emit("permuted", [x], elements, x.each, [kept], [Step("temp", x.bytes), Step("input", x.bytes)])


class _Groups:
    """Grouped products that share where each expert's rows end and, with biases, each row's expert."""

    def __init__(self, t: Tape, p: Profile, router: Router, expert: Expert, n: float, ends: Var) -> None:
        self.t, self.p, self.router, self.expert, self.n, self.ends = t, p, router, expert, n, ends
        self.expert_of_row = Var(Size(token=n), INT64, False, f"{t.path}/expert of each row")

    def product(self, name: str, x: Var, outputs: int, width: int) -> Var:
        """x Wᵀ for each expert's own W; the gradient of all experts' W comes first, then that of x."""
        t, p = self.t, self.p
        experts = -(-(self.router.experts if name == "down" else self.router.choices) // p.degrees.ep)
        given, each = x.each, p.formats.compute if p.formats.kbit else p.formats.weights
        x = ops.cast(t, x, each)
        shape = MatrixShape(self.n, outputs, width, experts, x.grad, p.method.trained)
        t.multiply(f"experts {name}", Size(token=2 * self.n * outputs * width), x.grad + p.method.trained, shape=shape)
        steps = [Step("input", x.bytes)]
        if p.method.trained and not p.method.accumulated:
            steps.insert(0, Step("weight", Size(fixed=experts * outputs * width * p.formats.weights)))
        inputs, saves = [x], [x, self.ends] if p.method.trained else [self.ends]
        if p.method.quantised and p.method.expands:
            # a parametrisation: whole while it is read, and kept for the input's gradient (bitsandbytes nn/parametrize.py)
            whole = t.emit(f"{name} expanded", [], Size(fixed=experts * outputs * width), HALF)
            inputs.append(whole)
            saves.append(whole)
        out = t.emit(name, inputs, Size(token=self.n * outputs), each, saves, steps, trained=p.method.trained)
        out = ops.cast(t, out, given) if p.formats.kbit else out
        out = self._biased(out, experts * outputs) if self.expert.bias else out
        return adapters.grouped(t, p, name, x, out, shape) if name in p.adapters.experts else out

    def _biased(self, out: Var, size: int) -> Var:
        """Each row's bias is gathered and added in place: its backward adds into zeros, out of place."""
        table = Size(fixed=size * self.p.formats.weights)
        steps = [Step("share")]
        if self.p.method.trained:
            steps += [Step("temp", table), Step("weight", table)]
        biased = self.t.emit(
            "biased", [out], out.elements, out.each, [self.expert_of_row], steps, trained=self.p.method.trained
        )
        biased.whole = out  # in place: the sum is in the product's own memory
        return biased


def activated(t: Tape, p: Profile, expert: Expert, first: Var, half: Size) -> Var:
    if not expert.gated:
        return ops.activation(t, p, first, expert.activation)
    if p.kernels.fused_activation:
        return t.emit("product", [first], half, first.each, [first])
    if expert.clamped and expert.interleaved:
        return _clamped(t, first, half)
    gate, up = ops.halves(t, first)
    if expert.clamped or expert.activation == ops.CLAMPED_GLU:
        return ops.clamped_glu(t, gate, up)
    if expert.wide:
        return ops.wide_glu(t, p, gate, up, expert.activation)
    if expert.bounded:
        gate, up = (t.emit(f"{name} clamped", [y], half, y.each, [y]) for name, y in (("gate", gate), ("up", up)))
    return ops.mul(t, ops.activation(t, p, gate, expert.activation), up)


def _clamped(t: Tape, both: Var, half: Size) -> Var:
    """Of interleaved gate and up, each taken out of the whole."""
    gate, up = (t.emit(name, [both], half, both.each, (), [Step("input", both.bytes)]) for name in ("gate", "up"))
    gate.whole = up.whole = both
    return ops.clamped_glu(t, gate, up)
