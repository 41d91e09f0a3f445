"""Layers that predict further tokens while training: multi-token prediction as Megatron-LM builds it.

Each is one more decoder layer behind a matrix that joins two normalised states, what the layers before made of a token and
the embedding of a later one, with a norm of its own; the embedding and the head are the model's, and the loss is computed
once more for each (DeepSeek-V3, arXiv 2412.19437, section 2.2; megatron/core/transformer/multi_token_prediction.py,
MultiTokenPredictionLayer and process_mtp_loss).
"""

from dataclasses import replace

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Size, Tape, Var
from memcalc.blocks.architecture import Architecture, Layer, Part, Stack, prediction_layers_of
from memcalc.blocks.block import Block
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.head import Head
from memcalc.blocks.ledger import Weight, linear, prefixed
from memcalc.blocks.norm import Norm
from memcalc.caches import cached
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class JoinedStates(Block, without=("constants", "cache", "state", "traits")):
    """W [norm(embedding of a later token), norm(hidden)], W [hidden, 2 × hidden]; the table is the model's own."""

    tokens: Embedding
    norm: Norm

    @property
    def hidden(self) -> int:
        return self.norm.size

    def weights(self) -> tuple[Weight, ...]:
        matrix = linear("matrix", "mlp", 2 * self.hidden, self.hidden, cut="outputs")
        norms = (w for name in ("embedding_norm", "hidden_norm") for w in prefixed(name, self.norm.weights()))
        return (*norms, *matrix)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        path = t.path
        embedded = self.tokens.forward(t, p)
        normed = []
        for name, state in (("embedding_norm", embedded), ("hidden_norm", x)):
            t.path = f"{path}/{name}"
            normed.append(self.norm.forward(t, p, state))
        t.path = path
        joined = t.emit("joined", normed, normed[0].elements + normed[1].elements, normed[1].each)
        width = -(-self.hidden // p.degrees.tp)
        out = ops.linear(t, p, ops.gathered(t, p, joined), Matrix("matrix", width, 2 * self.hidden * width))
        if p.degrees.tp == 1:
            return out
        out = t.emit("whole", [out], Size(token=self.hidden), out.each)  # gathered over the tensor-parallel ranks
        return t.emit("own tokens", [out], x.elements, out.each) if p.degrees.sequence_parallel else out


@cached(64)
def predicting(architecture: Architecture, count: int) -> Architecture:
    """The model with so many prediction layers, each like its last layer. Raises Unsupported where that is not modelled."""
    if prediction_layers_of(architecture) == count:  # it has them already
        return architecture
    part = next((part for part in architecture.parts if part.name == "language"), None)
    table = next((block for _, block in part.entry if isinstance(block, Embedding)), None) if part else None
    norm = next((block for _, block in part.exit if isinstance(block, Norm)), None) if part else None
    if not part or not table or not norm or len(architecture.parts) > 1 or not architecture.predicted:
        raise Unsupported("prediction layers are modelled for text decoders with a final norm and a head alone")
    stack = part.stacks[-1]
    last = stack.layers[stack.runs[-1][0]]
    if last.wiring or last.parallel or last.normalises_sum or table.position or table.segments:
        raise Unsupported("prediction layers behind layers of this kind are not modelled")
    layer = Layer((("join", JoinedStates(table, norm)), *last.blocks, ("final_norm", norm)), predicts=True)
    exit_ = tuple((path, replace(block, predictions=count) if isinstance(block, Head) else block) for path, block in part.exit)
    stacks = (*part.stacks, Stack.uniform(layer, count, "prediction"))
    return replace(architecture, parts=(Part(part.name, part.entry, stacks, exit_),))
