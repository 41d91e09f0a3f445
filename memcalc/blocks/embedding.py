"""Token and position embeddings, and whatever else turns ids into vectors."""

from dataclasses import dataclass

from memcalc.blocks import operations as ops
from memcalc.blocks.ledger import Weight, whole
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import INT64, Node, Size, Step, Tape, Var


@dataclass(frozen=True)
class Embedding:
    """Token embedding [vocabulary, size]; `position` adds a learned table of that many positions."""

    vocabulary: int
    size: int
    position: int = 0
    position_size: int = 0  # differs from `size` only where the embedding is projected (OPT-350m)
    segments: int = 0  # BERT's token types
    dropout: float = 0.0
    scaled: bool = False  # Gemma multiplies by sqrt(hidden): one more activation
    trainable_position: bool = True  # Whisper's encoder keeps fixed sinusoids in a parameter
    tied: bool = False  # the token table is another part's (T5's decoder reads the encoder's)

    def weights(self) -> tuple[Weight, ...]:
        out = []
        if self.vocabulary and not self.tied:
            out.append(Weight("tokens", "embedding", (self.vocabulary, self.size), whole(0, self.vocabulary)))
        if self.position:
            out.append(Weight("positions", "position", (self.position, self.position_size or self.size)))
        if self.segments:
            out.append(Weight("segments", "other", (self.segments, self.size)))
        return tuple(out)

    def forward(self, t: Tape, p: Profile) -> Var:
        """Look up tokens (and positions): the ids are saved; each table's gradient is dense, as large as the table."""
        ids = Var(Size(token=1), INT64, False, f"{t.path}/ids")
        vocabulary = -(-self.vocabulary // p.tp)
        x = self._lookup(t, "tokens", ids, vocabulary * self.size, p)
        if p.leaf and p.frozen_embeddings:  # transformers, enable_input_require_grads: who accumulates its gradient keeps it
            x.grad = True
            t.nodes.append(Node("leaf", x, (), (x,), ()))
        if self.scaled:
            x = ops.scale(t, x)
        if self.position:
            positions = Var(Size(token=1), INT64, False, f"{t.path}/position ids")
            table = self.position * (self.position_size or self.size)
            x = ops.add(t, x, self._lookup(t, "positions", positions, table, p))
        if self.segments:
            x = ops.add(t, x, self._lookup(t, "segments", ids, self.segments * self.size, p))
        return ops.dropout(t, p, x, self.dropout)

    def _lookup(self, t: Tape, name: str, ids: Var, table: int, p: Profile) -> Var:
        steps, trained = [Step("weight", Size(fixed=table * p.weights))], p.trained and not p.frozen_embeddings
        return t.emit(name, [ids], Size(token=self.size * p.stream), p.weights, [ids], steps, trained=trained)
