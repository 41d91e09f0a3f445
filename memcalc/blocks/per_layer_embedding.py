"""Per-layer embeddings (Gemma 3n and 4): each layer gets a small vector of its own for each token.

All layers' vectors are one tensor, made before the first layer. Each layer reads its part of it, and its gradient is written
into zeros of the whole (modeling_gemma3n.py, modeling_gemma4.py: per_layer_inputs).
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import INT64, Size, Step, Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.frozen import dataclass

NORM = "rms-fp32"


@dataclass(frozen=True)
class PerLayerEmbedding(Block, without=("constants", "cache", "state")):
    """All layers' vectors at once: a lookup [vocabulary, layers × size] plus a projection of the token embedding.

    A lookup needs a row a token, so engines keep this table off the accelerator; the model holds it all the same.
    """

    vocabulary: int
    layers: int
    size: int
    hidden: int
    epsilon: float = 1e-6

    @property
    def idle_parameters(self) -> int:
        """The table: a look-up multiplies nothing."""
        return self.vocabulary * self.layers * self.size

    @property
    def traits(self) -> Traits:
        return Traits(idle_parameters=self.idle_parameters)

    def weights(self) -> tuple[Weight, ...]:
        width = self.layers * self.size
        table = Weight("table", "other", (self.vocabulary, width))
        return (
            table,
            *linear("projection", "other", self.hidden, width),
            *prefixed("norm", Norm(self.size, epsilon=self.epsilon).weights()),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record what all layers read; x passes by."""
        width = self.layers * self.size
        ids = Var(Size(token=1), INT64, False, f"{t.path}/ids")
        table = [Step("weight", Size(fixed=self.vocabulary * width * p.formats.weights))]
        trained = p.method.trains("embeddings") and not p.method.frozen_embeddings
        looked_up = t.emit("table", [], Size(token=width), p.formats.weights, [ids], table, trained=trained)
        looked_up = ops.scale(t, looked_up)
        made = ops.linear(t, p, x, Matrix("projection", width, self.hidden * width))
        made = ops.scale(t, made)
        made = Norm(self.size, NORM, epsilon=self.epsilon).forward(t, p, made, self.layers)
        made = ops.scale(t, ops.add(t, made, looked_up))
        t.carried.append(t.emit("handed to layers", [made], made.elements, made.each, [made], [Step("share")]))
        return x


@dataclass(frozen=True)
class PerLayerInput(Block, without=("constants", "cache", "state", "traits")):
    """norm(up(act(down(x)) × this layer's vector)), at the end of a layer."""

    wired = True

    hidden: int
    size: int
    layers: int
    activation: str
    epsilon: float = 1e-6

    @property
    def _norm(self) -> Norm:
        return Norm(self.hidden, NORM, epsilon=self.epsilon)

    def weights(self) -> tuple[Weight, ...]:
        out = linear("per_layer_input_gate", "mlp", self.hidden, self.size)
        out += linear("per_layer_projection", "mlp", self.size, self.hidden)
        return out + prefixed("norm", self._norm.weights())

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Record the block. The layers' vectors are the entry's, which counts them; their gradient is on its way."""
        matrix = self.hidden * self.size
        gate = ops.activation(t, p, ops.linear(t, p, x, Matrix("per_layer_input_gate", self.size, matrix)), self.activation)
        whole = Var(Size(token=self.size * self.layers), p.formats.residual, True, "per-layer vectors", outside=True)
        t.carried.append(whole)
        own = t.emit("own vectors", [whole], Size(token=self.size), whole.each, (), [Step("input", whole.bytes)])
        own.whole = whole
        made = ops.linear(t, p, ops.mul(t, gate, own), Matrix("per_layer_projection", self.hidden * p.degrees.stream, matrix))
        out = self._norm.forward(t, p, made)
        t.hold(made)
        return out
