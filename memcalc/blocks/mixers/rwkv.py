"""RWKV 4: time mixing, a linear attention that decays channel by channel, and channel mixing in place of a feed-forward."""

from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import Tape, Var
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight, linear, whole
from memcalc.blocks.mixers.state import StateTensor
from memcalc.errors import Unsupported
from memcalc.frozen import dataclass

ROLE = "linear-attention"


@dataclass(frozen=True)
class TimeMix(Block, without=("constants", "cache")):
    """Key, value and receptance of x mixed with the token before it; the sum of values weighted by exp(key) decays in time.

    Kept while generating, per sequence: the last input, in the model's type, and numerator, denominator and maximum of the
    running sum in fp32 (transformers modeling_rwkv.RwkvModel, `state`).
    """

    hidden: int
    inner: int

    @property
    def traits(self) -> Traits:
        return Traits()

    def weights(self) -> tuple[Weight, ...]:
        mixed = tuple(Weight(f"mix_{name}", ROLE, (1, 1, self.hidden)) for name in ("key", "value", "receptance"))
        return (
            *(Weight(name, ROLE, (self.inner,), whole(0, self.inner)) for name in ("decay", "first")),
            *mixed,
            *(w for name in ("key", "value", "receptance") for w in linear(name, ROLE, self.hidden, self.inner, cut="outputs")),
            *linear("output", ROLE, self.inner, self.hidden, cut="inputs"),
        )

    def state(self) -> tuple[StateTensor, ...]:
        return (
            StateTensor("last input", (self.hidden,), whole(0, self.hidden)),
            *(StateTensor(name, (self.inner,), whole(0, self.inner), "float32") for name in ("sum", "weights", "maximum")),
        )

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with RWKV's mixers is not modelled")


@dataclass(frozen=True)
class ChannelMix(Block, without=("constants", "cache")):
    """sigmoid(receptance(x)) · value(relu(key(x))²), of x mixed with the token before it, which is kept while generating."""

    hidden: int
    intermediate: int

    @property
    def traits(self) -> Traits:
        return Traits(feed_forward=self.intermediate)

    def weights(self) -> tuple[Weight, ...]:
        return (
            *(Weight(f"mix_{name}", "mlp", (1, 1, self.hidden)) for name in ("key", "receptance")),
            *linear("key", "mlp", self.hidden, self.intermediate, cut="outputs"),
            *linear("receptance", "mlp", self.hidden, self.hidden),
            *linear("value", "mlp", self.intermediate, self.hidden, cut="inputs"),
        )

    def state(self) -> tuple[StateTensor, ...]:
        return (StateTensor("last input", (self.hidden,), whole(0, self.hidden)),)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        """Refused: what autograd keeps here has not been checked against PyTorch."""
        raise Unsupported("training with RWKV's mixers is not modelled")
