"""The output head: a matrix product over the vocabulary, its weight its own or shared with the embedding."""

from dataclasses import dataclass

from memcalc.blocks.ledger import Weight, linear, whole


@dataclass(frozen=True)
class Head:
    """Language-model head [vocabulary, size]. Tied: no weight of its own, the product is still computed."""

    vocabulary: int
    size: int
    tied: bool = False
    bias: bool = False
    softcap: float | None = None  # Gemma 2: final logits through tanh
    scaled: bool = False  # Cohere, Granite multiply the logits by a constant

    def weights(self) -> tuple[Weight, ...]:
        if not self.tied:
            return linear("weight", "head", self.size, self.vocabulary, bias=self.bias, cut="outputs")
        return (Weight("bias", "head", (self.vocabulary,), whole(0, self.vocabulary)),) if self.bias else ()
