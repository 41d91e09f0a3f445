"""What Mistral Large 4 learns of its rotary frequencies, once for all layers."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import dataclass


@dataclass(frozen=True)
class LearnedFrequencies(Block, without=("constants", "cache", "state", "traits")):
    """One learned exponent for each rotary frequency, before the first layer (Mistral Large 4)."""

    size: int

    def weights(self) -> tuple[Weight, ...]:
        return (Weight("alpha", "other", (self.size,)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """The hidden states as they are; cos and sin are counted with those of all layers."""
        if not p.method.trained:
            return x
        out = t.emit(
            "passed", [x], x.elements, x.each, (), [Step("share"), Step("weight", Size(fixed=self.size * FP32))], trained=True
        )
        out.whole = x
        return out
