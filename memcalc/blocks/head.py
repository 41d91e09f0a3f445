"""The output head: a matrix product over the vocabulary, its weight its own or shared with the embedding."""

from dataclasses import dataclass

from memcalc.blocks import operations as ops
from memcalc.blocks.ledger import Weight, linear, whole
from memcalc.blocks.profile import Profile
from memcalc.blocks.tape import FP32, INT64, Size, Step, Tape, Var


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

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Logits, [tokens, vocabulary], in the compute type."""
        width = -(-self.vocabulary // p.tp)
        logits = ops.linear(t, p, "logits", x, width, self.size * width, bias=self.bias, bias_size=width)
        if self.scaled:
            logits = ops.scale(t, logits)
        if self.softcap:
            logits = ops.scale(t, logits)
            logits = t.emit("softcap", [logits], logits.elements, logits.each)
            if logits.grad:
                t.nodes[-1].saves = (logits,)
            logits = ops.scale(t, logits)
        return logits

    def loss(self, t: Tape, logits: Var) -> Size:
        """Cross-entropy as transformers computes it: logits to fp32, log-softmax (kept), negative log-likelihood.

        Returns what the forward pass holds beside the saved tensors while it computes the loss: the logits and their fp32
        copy (transformers/loss/loss_utils.py ForCausalLMLoss).
        """
        wide = ops.cast(t, logits, FP32)
        held = logits.bytes + (wide.bytes if wide is not logits else Size())
        log_softmax = t.emit("log-softmax", [wide], wide.elements, FP32)
        t.nodes[-1].saves = (log_softmax,)
        labels = Var(Size(token=1), INT64, False, f"{t.path}/labels")
        t.emit("loss", [log_softmax], Size(fixed=1), FP32, [log_softmax, labels], [Step("input", log_softmax.bytes)])
        return held
