"""Token and position embeddings, and whatever else turns ids into vectors."""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, INT64, Node, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Buffer, Weight, linear, whole
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class Embedding(Block, without=("cache", "state", "traits")):
    """Token embedding [vocabulary, size]; `position` adds a learned table of that many positions."""

    begins = True

    vocabulary: int
    size: int
    position: int = 0
    position_size: int = 0  # differs from `size` where tokens are projected to it before positions are added (OPT-350m)
    segments: int = 0  # BERT's token types
    dropout: float = 0.0
    scaled: bool = False  # Gemma multiplies by sqrt(hidden): one more activation
    trainable_position: bool = True  # Whisper's encoder keeps fixed sinusoids in a parameter
    buffers: tuple[Buffer, ...] = ()  # GPTBigCode's mask of the whole context
    tied: bool = False  # the token table is another part's (T5's decoder reads the encoder's)

    def constants(self) -> tuple[Buffer, ...]:
        return self.buffers

    def weights(self) -> tuple[Weight, ...]:
        out = []
        if self.vocabulary and not self.tied:
            out.append(Weight("tokens", "embedding", (self.vocabulary, self.size), whole(0, self.vocabulary)))
        if self.position:
            shape = (self.position, self.position_size or self.size)
            out.append(Weight("positions", "position", shape, frozen=not self.trainable_position))
        if self._projected:
            out += linear("projection", "projector", self.size, self.position_size)
        if self.segments:
            out.append(Weight("segments", "other", (self.segments, self.size)))
        return tuple(out)

    @property
    def _projected(self) -> bool:
        return self.position_size not in (0, self.size)

    def forward(self, t: Tape, p: Profile) -> Var:
        """Look up tokens (and positions): the ids are saved; each table's gradient is dense, as large as the table."""
        ids = Var(Size(token=1), INT64, False, f"{t.path}/ids")
        vocabulary = -(-self.vocabulary // p.degrees.tp)
        x = self._lookup(t, "tokens", ids, vocabulary * self.size, p, learned=p.method.trains("embeddings"))
        if p.method.leaf:
            x.grad = True  # transformers, enable_input_require_grads: who accumulates its gradient keeps it
            t.nodes.append(Node("leaf", x, (), (x,), ()))
        if p.method.prompt:  # peft/peft_model.py, PeftModelForCausalLM.forward: joined with the embedded tokens
            learned = Size(fixed=p.method.prompt * self.size * FP32)
            x = t.emit("prompt and tokens", [x], x.elements, x.each, (),
                       [Step("weight", learned), Step("input", x.bytes)], trained=True)  # fmt: skip
        if self.scaled:
            x = ops.scale(t, x)
        width = self.position_size or self.size
        if self._projected:
            x = ops.linear(t, p, x, Matrix("projection", width * p.degrees.stream, self.size * width))
        if self.position:
            positions = Var(Size(token=1), INT64, False, f"{t.path}/position ids")
            x = ops.add(t, x, self._lookup(t, "positions", positions, self.position * width, p, width, self.trainable_position))
        if self.segments:
            x = ops.add(t, x, self._lookup(t, "segments", ids, self.segments * self.size, p))
        return ops.dropout(t, p, x, self.dropout)

    def positioned(self, t: Tape, p: Profile, x: Var) -> Var:
        """x + positions, for what is no token (Whisper's encoder): a table that is not trained saves nothing."""
        each = max(x.each, p.formats.weights)
        steps = [Step("share")] if x.each == each else [Step("input", x.bytes)]
        if self.trainable_position and p.method.trained:
            raise Unsupported("training of positions that are added to no tokens is not modelled")
        return ops.dropout(t, p, t.emit("positions", [x], x.elements, each, (), steps), self.dropout)

    def _lookup(self, t: Tape, name: str, ids: Var, table: int, p: Profile, width: int = 0, learned: bool = True) -> Var:
        itemsize, elements = p.formats.weights, Size(token=(width or self.size) * p.degrees.stream)
        trained = learned and (p.method.trained or name == "tokens") and not p.method.frozen_embeddings
        steps = [Step("weight", Size(fixed=table * itemsize))] if learned else []
        return t.emit(name, [ids], elements, itemsize, [ids], steps, trained=trained)
