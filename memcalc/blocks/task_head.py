"""What stands on a model that predicts no next token: a pooler, the scores of a classifier, reward or span model."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight, linear
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Pooler(Block, without=("constants", "cache", "state", "traits")):
    """act(W x + b), W [outputs, inputs], of one token a sequence (transformers BertPooler).

    The token is a view, so all hidden states are kept for its sake, unless a dropout or a cast copies it first; what follows
    is a vector a sequence, counted as one. What one vector multiplies is not counted among the FLOPs of all tokens.
    """

    inputs: int
    outputs: int
    activation: str = "tanh"  # "" for none
    dropped: bool = False  # a dropout comes first (transformers RobertaClassificationHead)

    def weights(self) -> tuple[Weight, ...]:
        return linear("weight", "head", self.inputs, self.outputs, bias=True)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        x = _one_vector(t, p, x, self.inputs, self.outputs, copied=self.dropped and p.method.dropout)
        return t.emit("pooled", [x], x.elements, x.each, [x]) if self.activation else x


@dataclass(frozen=True)
class MeanOfTokens(Block, without=("weights", "constants", "cache", "state", "traits")):
    """The mean of a sequence's tokens; what follows is a vector a sequence, counted as one."""

    size: int

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Saves nothing; its gradient is spread over all tokens without a copy."""
        return t.emit("mean", [x], Size(fixed=self.size), x.each, (), [Step("input", x.bytes)])


@dataclass(frozen=True)
class TaskHead(Block, without=("constants", "cache", "state", "traits")):
    """W x (+ b), W [labels, size], and the cross-entropy of the labels.

    Decoders score every token and then take one of each sequence (transformers modeling_layers.py,
    GenericForSequenceClassification); after a pooler there is one vector a sequence.
    """

    scores = True

    size: int
    labels: int
    bias: bool = True
    dropout: float = 0.0  # on its input
    first: bool = False  # it scores the first token alone (ViT's class token)

    def weights(self) -> tuple[Weight, ...]:
        return linear("weight", "head", self.size, self.labels, bias=self.bias)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Scores, [tokens, labels] or [labels] of a pooled vector, in the compute type."""
        if self.first or not x.elements.token:
            return _one_vector(t, p, x, self.size, self.labels)
        x = ops.dropout(t, p, x, self.dropout)
        width = self.labels * p.degrees.stream
        return ops.linear(t, p, x, Matrix("scores", width, self.size * self.labels, bias=self.bias * self.labels))

    def loss(self, t: Tape, p: Profile, x: Var) -> Size:
        """Cross-entropy in fp32 (transformers loss/loss_utils.py); returns what the forward holds beside the saved tensors."""
        scores = t.result = self.forward(t, p, x)
        t.path = "loss"
        wide = ops.cast(t, scores, FP32)
        log_softmax = t.emit("log-softmax", [wide], wide.elements, wide.each)
        t.nodes[-1].saves = (log_softmax,)
        labels = Var(
            Size(token=wide.elements.token / self.labels, fixed=wide.elements.fixed / self.labels), INT64, False, "loss/labels"
        )
        t.emit("loss", [log_softmax], Size(fixed=1), FP32, [log_softmax, labels], [Step("input", log_softmax.bytes)])
        return scores.bytes + (wide.bytes if wide is not scores else Size())


@dataclass(frozen=True)
class EmbeddingHead(Block, without=("weights", "constants", "cache", "state", "traits")):
    """One vector a sequence: its tokens' mean, or the last one's, under the attention mask, and a contrastive loss.

    The mask is written out for every number of the hidden states and kept (sentence-transformers modules/pooling.py); the
    scores of a batch against itself are the estimate's own line.
    """

    scores = True

    size: int
    last: bool = False  # the last token's, gathered after the mask

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        mask = Var(x.elements, x.each, False, f"{t.path}/mask")
        masked = t.emit("masked", [x], x.elements, x.each, [mask])
        steps = [Step("input", x.bytes)] if self.last else [Step("share")]  # a sum's gradient is expanded, a view
        kept = [masked] if self.last else []  # gather keeps what it reads
        return t.emit("vector", [masked], Size(fixed=self.size), x.each, kept, steps)

    def loss(self, t: Tape, p: Profile, x: Var) -> Size:
        vector = t.result = self.forward(t, p, x)
        t.path = "loss"
        t.emit("loss", [vector], Size(fixed=1), FP32, [vector], [Step("input", x.bytes if not self.last else vector.bytes)])
        return vector.bytes


def _one_vector(t: Tape, p: Profile, x: Var, inputs: int, outputs: int, *, copied: bool = False) -> Var:
    """W x of one vector a sequence: keeps x, all of it where the vector is a view of the hidden states."""
    kept = Var(Size(fixed=inputs), p.formats.compute, False, "vector") if copied or p.formats.autocast else x
    steps = [Step("weight", Size(fixed=(inputs + 1) * outputs * p.formats.weights))] if p.method.trained else []
    saves = [kept] if p.method.trained else []
    if p.formats.autocast and p.formats.weights != p.formats.compute and x.grad:
        saves.append(Var(Size(fixed=inputs * outputs), p.formats.compute, False, f"{t.path}/weight cast"))
    return t.emit(
        "weight", [x], Size(fixed=outputs), p.formats.compute, saves,
        [*steps, Step("input", x.bytes)], trained=p.method.trained,
    )  # fmt: skip
