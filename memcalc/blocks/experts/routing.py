"""Routers of mixtures of experts: from a token's hidden state to the weights of its chosen experts.

ROUTINGS is the table of what is known: which scores, in which type, taken before or after the choice. All of it is small
beside the experts themselves, but wide models with hundreds of experts keep a few fp32 scores for each of them.
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, FP32, INT64, Size, Step, Tape, Var
from memcalc.blocks.ledger import Weight, linear
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple


class Routing(NamedTuple):
    """How one family of models routes (its modeling file in `note`)."""

    scores: str  # softmax, sigmoid or sqrtsoftplus
    wide_product: bool = False  # hidden states and the router's matrix are cast to fp32 first
    wide_matrix: bool = False  # the router's matrix is kept in fp32
    without_autocast: bool = False  # autocast is switched off for the router
    chosen_only: bool = False  # the softmax is taken over the chosen experts alone
    corrected: bool = False  # the choice is made by other scores, so the weights are gathered afterwards
    wide_scores: bool = True  # scores are taken in fp32 even where logits are not
    wide_weights: bool = False  # the weights reach the experts in fp32
    in_place: bool = True  # the weights are normalised in place: what is divided is copied first
    scaled: bool = False  # its input is normalised and scaled, each weight is multiplied by its expert's learned scale
    note: str = ""


ROUTINGS = {
    "softmax": Routing("softmax", note="qwen2_moe, qwen3_moe, qwen3_next, olmoe, jamba"),
    "softmax-16": Routing("softmax", wide_scores=False, wide_weights=True, in_place=False, note="dbrx"),
    "softmax-fp32": Routing("softmax", wide_weights=True, note="mixtral, minimax"),
    "softmax-wide": Routing("softmax", wide_product=True, wide_weights=True, note="deepseek_v2"),
    "softmax-chosen": Routing("softmax", chosen_only=True, note="granitemoe, granitemoehybrid"),
    "softmax-chosen-16": Routing("softmax", chosen_only=True, wide_scores=False, note="gpt_oss"),
    "softmax-chosen-fp32": Routing(
        "softmax", wide_product=True, chosen_only=True, wide_scores=False, wide_weights=True, note="openai_privacy_filter"
    ),
    "sigmoid-chosen": Routing("sigmoid", chosen_only=True, note="llama4"),
    "softmax-fp32-router": Routing("softmax", wide_product=True, wide_matrix=True, wide_weights=True, note="hunyuan_v1_moe"),
    "softmax-corrected": Routing(
        "softmax", wide_product=True, without_autocast=True, corrected=True, in_place=False, note="ernie4_5_moe"
    ),
    "sigmoid": Routing(
        "sigmoid", wide_product=True, corrected=True, wide_weights=True, note="deepseek_v3, glm4_moe, dots1, nemotron_h"
    ),
    "sigmoid-fp32-router": Routing(
        "sigmoid", wide_product=True, wide_matrix=True, corrected=True, wide_weights=True, note="kimi_linear, bailing_hybrid"
    ),
    "sigmoid, corrected by a parameter": Routing("sigmoid", corrected=True, in_place=False, note="laguna, afmoe"),
    "gemma4": Routing("softmax", wide_weights=True, scaled=True, note="gemma4"),
    "sqrtsoftplus": Routing("sqrtsoftplus", corrected=True, wide_weights=True, in_place=False, note="deepseek_v4"),
    "sigmoid-narrow": Routing("sigmoid", corrected=True, wide_weights=True, note="minimax_m2, minimax_m3_vl"),
}


class Router(NamedTuple):
    """What chooses `top_k` of the experts for each token."""

    hidden: int
    experts: int
    top_k: int
    # It may also choose these, which return their input (LongCat). transformers allocates a gate and up matrix for each all
    # the same, which nothing reads.
    identity_experts: int = 0
    routing: str = "softmax"  # a row of ROUTINGS
    normalised: bool = True  # the chosen experts' weights are divided by their sum
    bias: bool = False
    bias_trained: bool = True  # DeepSeek's correction bias is a buffer, not a parameter
    hashed: bool = False  # a fixed table [vocabulary, top_k] picks the experts (DeepSeek V4's first layers)
    extras: tuple[Weight, ...] = ()  # further learned scales
    width: int = 0  # outputs of its matrix where they are not one for each choice (Doge's product keys)

    @property
    def choices(self) -> int:
        return self.experts + self.identity_experts

    def weights(self) -> tuple[Weight, ...]:
        bias = self.bias and self.bias_trained
        return linear("router", "router", self.hidden, self.width or self.choices, bias=bias) + self.extras


def route(t: Tape, p: Profile, router: Router, x: Var) -> Var:
    """The weights of the chosen experts, `top_k` a token."""
    if router.routing == "sparse-mixer":
        return _sparse_mixer(t, p, router, x)
    if router.routing not in ROUTINGS:
        raise Unsupported(f"training with the {router.routing!r} router is not modelled")
    routing = ROUTINGS[router.routing]
    if routing.without_autocast:
        p = revised(p, autocast=False)
    choice = _choice(t, p, router)
    logits = _logits(t, p, router, _scaled_input(t, p, router, x) if routing.scaled else x, routing)
    if routing.chosen_only:
        each = FP32 if routing.wide_scores else logits.each
        weights = _scores(t, p, routing, _choose(t, p, router, ops.cast(t, logits, each), "top-k"))
    else:
        weights = _choose(t, p, router, _scores(t, p, routing, logits), "gather" if routing.corrected else "top-k", choice)
        if router.normalised:
            weights = _normalised(t, router, weights, routing.in_place)
    if routing.scaled:
        weights = _by_expert(t, p, router, weights, choice)
    return weights if routing.wide_weights else ops.cast(t, weights, x.each if routing.without_autocast else p.formats.compute)


def _scaled_input(t: Tape, p: Profile, router: Router, x: Var) -> Var:
    """norm(x) times a learned vector and a constant (modeling_gemma4.Gemma4TextRouter)."""
    x = Norm(router.hidden, "rms-fp32", affine=False).forward(t, p, x)
    each, steps = max(x.each, p.formats.weights), [Step("input", x.bytes)]
    if p.method.trained:
        steps += [Step("temp", x.elements * each), Step("weight", Size(fixed=router.hidden * p.formats.weights))]
    saves = [x] if p.method.trained else []
    return ops.scale(t, t.emit("scaled", [x], x.elements, each, saves, steps, trained=p.method.trained))


def _by_expert(t: Tape, p: Profile, router: Router, weights: Var, choice: Var) -> Var:
    """Weights times a learned scale of their experts, which is gathered by the choice."""
    trained, table = p.method.trained, Size(fixed=router.experts * p.formats.weights)
    steps = [Step("temp", table), Step("weight", table)] if trained else []
    scales = t.emit("scales", [], weights.elements, p.formats.weights, [choice], steps, trained=trained)
    return ops.mul(t, weights, scales)


def scattered_scores(t: Tape, p: Profile, router: Router, x: Var) -> Var:
    """One score for every expert and token, zero for those not chosen (modeling_llama4.Llama4Router)."""
    logits = _logits(t, p, router, x, ROUTINGS["softmax"])
    chosen = _choose(t, p, router, logits, "top-k", choice := _choice(t, p, router))
    scattered = t.emit("scattered", [chosen], logits.elements, logits.each, [choice])
    scores = ops.cast(t, ops.sigmoid(t, ops.cast(t, scattered, FP32)), logits.each)
    return t.emit("contiguous", [scores], scores.elements, scores.each)


def _logits(t: Tape, p: Profile, router: Router, x: Var, routing: Routing) -> Var:
    """One logit an expert. A wide product casts input and matrix to fp32; autocast casts them back."""
    choices = router.choices
    if (
        routing.wide_product and not p.formats.autocast and not p.kernels.merged
    ):  # what autocast does to 16 bits is done here to fp32
        p = revised(p, autocast=True, compute=FP32, weights=FP32 if routing.wide_matrix else p.formats.weights)
    bias = router.bias and router.bias_trained
    return ops.linear(t, p, x, Matrix("router", choices * p.degrees.stream, router.hidden * choices, bias=bias * choices))


def _scores(t: Tape, p: Profile, routing: Routing, logits: Var) -> Var:
    """Softmax (always in fp32 under autocast) or sigmoid; a wide product's logits keep the type that it left them in."""
    if routing.scores == "softmax":
        return ops.softmax(t, logits, FP32 if routing.wide_scores or p.formats.autocast else logits.each)
    if routing.scores == "sqrtsoftplus":
        logits = ops.cast(t, logits, FP32) if p.formats.autocast else logits
        raised = t.emit("softplus", [logits], logits.elements, logits.each, [logits])
        root = t.emit("root", [raised], logits.elements, logits.each)
        t.nodes[-1].saves = (root,) if root.grad else ()
        return root
    return ops.sigmoid(t, logits if routing.wide_product else ops.cast(t, logits, FP32))


def _choice(t: Tape, p: Profile, router: Router) -> Var:
    """The numbers of the chosen experts."""
    return Var(Size(token=router.top_k * p.degrees.stream), INT64, False, f"{t.path}/choice")


def _choose(t: Tape, p: Profile, router: Router, scores: Var, name: str, choice: Var | None = None) -> Var:
    """topk or gather: keeps the choice, and its backward scatters into zeros."""
    choice = choice or _choice(t, p, router)
    steps = [Step("temp", scores.bytes), Step("input", scores.bytes)]
    return t.emit(name, [scores], choice.elements, scores.each, [choice], steps)


def _normalised(t: Tape, router: Router, weights: Var, in_place: bool) -> Var:
    """weights / their sum. In place, a copy of them is what is kept; else the sum is clamped, which keeps it too."""
    kept = Var(weights.elements, weights.each, False, f"{t.path}/weights before normalisation") if in_place else weights
    totals = [
        Var(weights.elements * (1 / router.top_k), weights.each, False, f"{t.path}/sum of weights {i}")
        for i in range(1 if in_place else 2)
    ]
    steps = [Step("input", weights.bytes), *([Step("temp", weights.bytes)] * 2)]
    return t.emit("normalised", [weights], weights.elements, weights.each, [kept, *totals], steps)


def _sparse_mixer(t: Tape, p: Profile, router: Router, x: Var) -> Var:
    """SparseMixer draws two experts one after the other (modeling_phimoe.sparsemixer): each keeps its masked softmax,
    mask, choice and multiplier."""
    logits = _logits(t, p, router, x, ROUTINGS["softmax"])
    drawn = [_drawn(t, p, logits, i) for i in range(2)]
    steps = [Step("input", var.bytes, i) for i, var in enumerate(drawn)]
    return t.emit("joined", drawn, Size(token=2 * p.degrees.stream), drawn[0].each, (), steps)


def _drawn(t: Tape, p: Profile, logits: Var, number: int) -> Var:
    one, wide = Size(token=p.degrees.stream), FP32 if p.formats.autocast else logits.each
    mask = Var(logits.elements, BYTE, False, f"{t.path}/mask {number}")
    masked = t.emit("masked", [logits], logits.elements, logits.each, [mask])
    gates = ops.softmax(t, masked, wide)
    choice = Var(one, INT64, False, f"{t.path}/choice {number}")
    multiplier = t.emit("gather", [gates], one, wide, [choice], [Step("temp", gates.bytes), Step("input", gates.bytes)])
    steps = [Step("temp", gates.bytes), Step("input", logits.bytes)]
    return t.emit("multiplier", [logits], one, wide, [multiplier, choice, gates], steps)
