"""Mixture of experts: a router, routed experts (kept as stacked matrices), optional shared experts."""

from typing import Any

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.experts.kernels import Expert, compute, compute_all
from memcalc.blocks.experts.routing import Router, route
from memcalc.blocks.ledger import Split, Weight, linear, prefixed, whole
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.values import revised
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Experts(Block, without=("constants", "cache", "state")):
    """`top_k` of `experts` feed-forward networks a token; all of them are in memory.

    Routed matrices are stacked, [experts, outputs, inputs], as transformers 5 keeps them. `transposed` stacks
    [experts, inputs, outputs] (gpt-oss, Llama 4), which changes only how shards round. `flat` keeps gate, up and down
    each as one matrix [experts × intermediate, hidden] (DBRX).
    """

    hidden: int
    expert: Expert
    router: Router
    transposed: bool = False
    flat: bool = False
    in_turn: bool = False  # experts are computed one after the other, in fp32 whatever the matrices (OpenAI's privacy filter)
    dense: bool = False  # every expert computes every token, most of them zeros (Llama 4)
    latent: int = 0  # experts work in a smaller space (Nemotron 3): down- and up-projection around them
    latent_bias: bool = False
    latent_norm: Norm | None = None  # of what the down-projection makes (Muse Spark)
    shared: MLP | None = None
    shared_gate: bool = False  # a sigmoid gate on the shared expert (Qwen2-MoE)
    shared_first: bool = False  # the shared experts run before the router
    shared_weighed: int = 0  # the shared feed-forward is so many, which the router weighs too (Inkling)

    @property
    def experts(self) -> int:
        return self.router.experts

    @property
    def top_k(self) -> int:
        return self.router.top_k

    @property
    def identity_experts(self) -> int:
        return self.router.identity_experts

    @property
    def intermediate(self) -> int:
        return self.expert.intermediate

    @property
    def expert_parameters(self) -> int:
        """Parameters of one routed expert."""
        return self.expert.parameters

    @property
    def idle_parameters(self) -> int:
        """Parameters of the routed experts that a token does not pass through, on average over the router's choices."""
        used = self.top_k * self.expert_parameters * self.experts // self.router.choices
        return sum(weight.parameters for weight in self._routed()) - used

    @property
    def traits(self) -> Traits:
        return Traits(feed_forward=self.intermediate, gated=self.expert.gated, experts=self.experts, top_k=self.top_k,
            identity_experts=self.router.identity_experts, idle_parameters=self.idle_parameters,
            shared_feed_forward=self.shared.intermediate if self.shared else 0,
        )  # fmt: skip

    def weights(self) -> tuple[Weight, ...]:
        out = self.router.weights() + self._routed()
        if self.latent:
            out += linear("latent_down", "mlp", self.hidden, self.latent, bias=self.latent_bias)
            out += linear("latent_up", "mlp", self.latent, self.hidden, bias=self.latent_bias)
        norms = (("latent_norm", self.latent_norm), ("output_norm", self.expert.norm))
        out += tuple(weight for name, norm in norms if norm for weight in prefixed(name, norm.weights()))
        if self.shared:
            out += tuple(w._replace(path=f"shared/{w.path}") for w in self.shared.weights())
        if self.shared_gate:
            out += linear("shared_gate", "router", self.hidden, 1)
        return out

    def _routed(self) -> tuple[Weight, ...]:
        first, width, gated = self.expert.ups * self.intermediate, self.expert.hidden, self.expert.gated
        pieces = ((self.intermediate, 1),) * self.expert.ups
        if self.flat:
            shape = (self.experts * self.intermediate, width)
            names = ("gate", "up", "down") if gated else ("up", "down")
            return tuple(Weight(name, "experts", shape, whole(0, shape[0]), routed=True) for name in names)
        up_shape, down_shape = (first, width), (width, self.intermediate)
        up_dim, down_dim = 1, 2
        if self.transposed:
            up_shape, down_shape, up_dim, down_dim = up_shape[::-1], down_shape[::-1], 2, 1
        name = "gate_up" if gated else "up"
        out = [
            Weight(
                name,
                "experts",
                (self.router.choices, *up_shape),
                Split(up_dim, pieces),
                routed=True,
            ),
            Weight("down", "experts", (self.experts, *down_shape), whole(down_dim, self.intermediate), routed=True),
        ]
        if self.expert.bias:
            out.append(Weight(f"{name}.bias", "experts", (self.experts, first), Split(1, pieces), routed=True))
            out.append(Weight("down.bias", "experts", (self.experts, width), routed=True))
        return tuple(out)

    def forward(self, t: Tape, p: Profile, x: Var, weights: Var | None = None) -> Var:
        """Record the block: router, experts and shared experts, in the order of the modeling file. `weights`: of the chosen
        experts, where the router read something else than they do (`choose`)."""
        self._refuse()
        if self.shared and self.shared_weighed:
            from memcalc.blocks.experts.weighed import compute_weighed

            return compute_weighed(t, p, self.router, self.expert, self.shared, self.shared_weighed, x)
        shared = self._shared(t, p, x) if self.shared_first or p.kernels.merged else None
        if self.dense and not p.kernels.merged and p.degrees.ep == 1 and not p.load.capacity_factor:
            out = compute_all(t, p, self.router, self.expert, x)
        else:
            weights = weights or self.choose(t, p, x)
            out = self._chosen(t, p, x, weights)
        shared = shared or self._shared(t, p, x)
        if shared is None:
            return out
        return ops.add(t, out, self._gated(t, p, x, shared) if self.shared_gate else shared)

    def choose(self, t: Tape, p: Profile, x: Var) -> Var:
        """The weights of the experts that the router chooses by x."""
        return route(t, p, self.router, x)

    def _chosen(self, t: Tape, p: Profile, x: Var, weights: Var) -> Var:
        if self.latent:
            return self._latent(t, p, x, weights)
        if (self.flat or self.in_turn) and not p.kernels.merged:
            if p.degrees.ep > 1 or p.load.capacity_factor:
                raise Unsupported("expert parallelism of experts that are computed one after the other is not modelled")
            from memcalc.blocks.experts import loop

            computed = loop.compute_in_turn if self.flat else loop.compute_in_fp32
            return computed(t, p, self.router, self.expert, x, weights)
        return compute(t, p, self.router, self.expert, x, weights)

    def _latent(self, t: Tape, p: Profile, x: Var, weights: Var) -> Var:
        """The experts between a down- and an up-projection (modeling_nemotron_h.NemotronHMoE)."""
        matrix, bias = self.hidden * self.latent, self.latent_bias
        inner = ops.linear(t, p, x, Matrix("latent_down", self.latent * p.degrees.stream, matrix, bias=bias * self.latent))
        inner = self.latent_norm.forward(t, p, inner) if self.latent_norm else inner
        out = compute(t, p, self.router, self.expert, inner, weights)
        return ops.linear(t, p, out, Matrix("latent_up", self.hidden * p.degrees.stream, matrix, bias=bias * self.hidden))

    def _shared(self, t: Tape, p: Profile, x: Var) -> Var | None:
        if self.shared is None:
            return None
        path, t.path, since = t.path, f"{t.path}/shared", len(t.nodes)
        out = self.shared.forward(t, p, x)
        if "shared_experts" in p.modules:
            t.recompute(since, x)
        t.path = path
        return out

    def _gated(self, t: Tape, p: Profile, x: Var, shared: Var) -> Var:
        """sigmoid(gate(x)) · shared(x), one gate a token."""
        gate = ops.sigmoid(t, ops.linear(t, p, x, Matrix("shared_gate", p.degrees.stream, self.hidden)))
        return ops.weighted(t, shared, gate)

    def _refuse(self) -> None:
        if self.identity_experts:
            raise Unsupported("training with experts that return their input (LongCat) is not modelled")


def experts_of(hidden: int, intermediate: int, experts: int, top_k: int, *, latent: int = 0, **traits: Any) -> Experts:
    """Experts of these sizes; `traits` are fields of theirs, of the router (some with `router_` before) or of one expert."""
    made = Experts(hidden, Expert(latent or hidden, intermediate), Router(hidden, experts, top_k), latent=latent)
    return revised(made, **traits)
