"""Token and position embeddings, and whatever else turns ids into vectors."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Weight, whole


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
