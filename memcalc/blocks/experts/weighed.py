"""Experts whose router weighs the shared ones too: what they take is not the routed ones' (modeling_inkling.InklingMoE)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, Size, Step, Tape, Var
from memcalc.blocks.experts.kernels import Expert, compute
from memcalc.blocks.experts.routing import Router
from memcalc.blocks.mixers.operations import exponential, product
from memcalc.blocks.mlp import MLP
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported


def compute_weighed(t: Tape, p: Profile, router: Router, expert: Expert, shared: MLP, count: int, x: Var) -> Var:
    """Routed experts of x, and `count` shared ones, which `shared` is side by side."""
    if p.degrees.tp > 1:
        raise Unsupported("tensor parallelism of shared experts that the router weighs (Inkling) is not modelled")
    routed, weights = _route(t, p, router, count, x)
    out = compute(t, p, router, expert, x, routed)
    return ops.add(t, out, _shared(t, p, shared, count, x, weights))


def _route(t: Tape, p: Profile, router: Router, count: int, x: Var) -> tuple[Var, Var]:
    """Weights of the chosen experts and of the shared ones, in the input's type: in fp32, a softmax of log-sigmoids over both
    (modeling_inkling.InklingTopkRouter)."""
    stream = p.degrees.stream
    wide = revised(p, autocast=False) if p.formats.weights == FP32 else revised(p, autocast=True, compute=FP32)
    outputs = router.experts + count
    logits = ops.linear(t, wide, ops.cast(t, x, FP32), Matrix("router", outputs * stream, router.hidden * outputs))
    chosen = Size(token=router.top_k * stream)
    both = Size(token=(router.top_k + count) * stream)
    choice = Var(chosen, INT64, False, f"{t.path}/choice")
    full = Step("temp", logits.bytes)
    gathered = t.emit("gather", [logits], chosen, FP32, [choice, logits], [full, full, Step("input", logits.bytes)])
    joined = t.emit("joined", [gathered], both, FP32, (), [Step("share")])
    logs = t.emit("log-sigmoid", [joined], both, FP32, [joined])
    steps = [Step("temp", logs.bytes), Step("input", logs.bytes)]
    total = t.emit("log-sum-exp", [logs], Size(token=stream), FP32, [logs], steps)
    if total.grad:
        t.nodes[-1].saves = (logs, total)
    weights = exponential(t, t.emit("less sum", [logs, total], both, FP32, (), [Step("share"), Step("input", total.bytes, 1)]))
    weights = ops.scale_by_norm(t, p, ops.scale(t, weights), 1, FP32)
    weights = ops.cast(t, weights, x.each)
    apart = [Step("input", weights.bytes)]
    routed = t.emit("of routed", [weights], chosen, x.each, (), apart)
    return routed, t.emit("of shared", [weights], Size(token=count * stream), x.each, (), apart)


def _shared(t: Tape, p: Profile, shared: MLP, count: int, x: Var, weights: Var) -> Var:
    """All shared experts at once, as stacked matrices, and the sum of what they return
    (modeling_inkling.InklingSharedExperts)."""
    path, t.path = t.path, f"{t.path}/shared"
    hidden, inner = shared.hidden, shared.intermediate  # of all of them
    gate = _stacked(t, p, _spread(t, x, count), "gate", inner, hidden)
    up = _stacked(t, p, _spread(t, x, count), "up", inner, hidden)
    acted = ops.mul(t, ops.activation(t, p, gate, shared.activation), up)
    acted = ops.weighted(t, acted, weights)
    down = _stacked(t, p, acted, "down", hidden * count, inner / count)
    wide = ops.cast(t, down, FP32)
    total = t.emit("sum of experts", [wide], Size(token=hidden), FP32, (), [Step("share")])
    t.path = path
    return ops.cast(t, total, x.each)


def _spread(t: Tape, x: Var, count: int) -> Var:
    """A view of x for each expert, whose gradients are summed."""
    wide = t.emit("for each", [x], x.elements * count, x.each, (), [Step("input", x.bytes)])
    wide.whole = x.whole or x
    return wide


def _stacked(t: Tape, p: Profile, x: Var, name: str, width: float, inputs: float) -> Var:
    """A batched product with transposed matrices: their gradient is laid out anew once it is there."""
    matrix = Size(fixed=width * inputs)
    laid_out = [Step("weight", matrix * p.formats.weights)]
    weight = t.emit(name, [], matrix, p.formats.weights, (), laid_out, trained=p.method.trained)
    weight.outside = True  # the parameter itself
    return product(t, p, x, weight, Size(token=width), Size(fixed=inputs), name)
