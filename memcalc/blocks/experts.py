"""Mixture of experts: a router, routed experts (kept as stacked matrices), optional shared experts."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Split, Weight, linear, whole
from memcalc.blocks.mlp import MLP


@dataclass(frozen=True)
class Experts:
    """`top_k` of `experts` feed-forward networks a token; all of them are in memory.

    Routed matrices are stacked, [experts, outputs, inputs], as transformers 5 keeps them. `transposed` stacks
    [experts, inputs, outputs] (gpt-oss, Llama 4), which changes only how shards round. `flat` keeps gate, up and down
    each as one matrix [experts × intermediate, hidden] (DBRX).
    """

    hidden: int
    intermediate: int
    experts: int
    top_k: int
    gated: bool = True
    bias: bool = False
    transposed: bool = False
    activation: str = "silu"
    router_bias: bool = False
    router_bias_trained: bool = True  # DeepSeek's correction bias is a buffer, not a parameter
    router_hashed: bool = False  # a fixed table [vocabulary, top_k] picks the experts (DeepSeek V4's first layers)
    router_extras: tuple[Weight, ...] = ()  # further learned scales
    shared: MLP | None = None
    shared_gate: bool = False  # a sigmoid gate on the shared expert (Qwen2-MoE)
    latent: int = 0  # experts work in a smaller space (Nemotron 3): down- and up-projection around them
    latent_bias: bool = False
    flat: bool = False
    # The router may also choose these, which return their input (LongCat). transformers allocates a gate and up matrix
    # for each all the same, which nothing reads.
    identity_experts: int = 0

    @property
    def expert_hidden(self) -> int:
        return self.latent or self.hidden

    @property
    def expert_parameters(self) -> int:
        """Parameters of one routed expert."""
        ups = 2 if self.gated else 1
        biases = ups * self.intermediate + self.expert_hidden if self.bias else 0
        return (ups + 1) * self.intermediate * self.expert_hidden + biases

    @property
    def idle_parameters(self) -> int:
        """Parameters of the routed experts that a token does not pass through, on average over the router's choices."""
        choices = self.experts + self.identity_experts
        used = self.top_k * self.expert_parameters * self.experts // choices
        return sum(weight.parameters for weight in self._routed()) - used

    def weights(self) -> tuple[Weight, ...]:
        bias = self.router_bias and self.router_bias_trained
        out = linear("router", "router", self.hidden, self.experts + self.identity_experts, bias=bias)
        out += self.router_extras + self._routed()
        if self.latent:
            out += linear("latent_down", "mlp", self.hidden, self.latent, bias=self.latent_bias)
            out += linear("latent_up", "mlp", self.latent, self.hidden, bias=self.latent_bias)
        if self.shared:
            out += tuple(w._replace(path=f"shared/{w.path}") for w in self.shared.weights())
        if self.shared_gate:
            out += linear("shared_gate", "router", self.hidden, 1)
        return out

    def _routed(self) -> tuple[Weight, ...]:
        first = (2 if self.gated else 1) * self.intermediate
        pieces = ((self.intermediate, 1),) * (2 if self.gated else 1)
        width = self.expert_hidden
        if self.flat:
            shape = (self.experts * self.intermediate, width)
            names = ("gate", "up", "down") if self.gated else ("up", "down")
            return tuple(Weight(name, "experts", shape, whole(0, shape[0]), routed=True) for name in names)
        up_shape, down_shape = (first, width), (width, self.intermediate)
        up_dim, down_dim = 1, 2
        if self.transposed:
            up_shape, down_shape, up_dim, down_dim = up_shape[::-1], down_shape[::-1], 2, 1
        name = "gate_up" if self.gated else "up"
        out = [
            Weight(
                name,
                "experts",
                (self.experts + self.identity_experts, *up_shape),
                Split(up_dim, pieces),
                routed=True,
            ),
            Weight("down", "experts", (self.experts, *down_shape), whole(down_dim, self.intermediate), routed=True),
        ]
        if self.bias:
            out.append(Weight(f"{name}.bias", "experts", (self.experts, first), Split(1, pieces), routed=True))
            out.append(Weight("down.bias", "experts", (self.experts, width), routed=True))
        return tuple(out)
