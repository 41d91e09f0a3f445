"""SqueezeBERT's attention: its four matrices are convolutions in groups over one token, channels come before tokens, scores are
written out (Iandola et al. 2020; transformers modeling_squeezebert.py)."""

from memcalc.autograd import operations as ops
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Size, Step, Tape, Var
from memcalc.blocks.attention.kernels import multiply
from memcalc.blocks.attention.own_scores import unsaved
from memcalc.blocks.attention.softmax import Attention
from memcalc.blocks.block import Block, Traits
from memcalc.blocks.ledger import Weight
from memcalc.blocks.sequence_convolution import convolve
from memcalc.errors import Unsupported
from memcalc.frozen import NamedTuple, dataclass


class Groups(NamedTuple):
    """Into how many groups the channels of each matrix are divided."""

    query: int = 1
    key: int = 1
    value: int = 1
    output: int = 1


def grouped(name: str, role: str, inputs: int, outputs: int, groups: int) -> tuple[Weight, ...]:
    return (Weight(name, role, (outputs, inputs // groups, 1)), Weight(f"{name}.bias", role, (outputs,)))


def project(t: Tape, p: Profile, name: str, x: Var, inputs: int, outputs: int, groups: int) -> Var:
    """A convolution over one token."""
    if p.degrees.tp > 1:
        raise Unsupported("tensor parallelism of grouped convolutions is not modelled")
    x = ops.cast(t, x, p.formats.compute) if p.formats.autocast else x
    return convolve(t, p, name, x, outputs, outputs * inputs // groups, outputs)


@dataclass(frozen=True)
class GroupedAttention(Attention, without=("state",)):
    """Attention of convolutions over one token."""

    groups: Groups = Groups()

    def _projections(self) -> tuple[Weight, ...]:
        size, made = self.query_size, zip(("q", "k", "v"), self.groups[:3], strict=True)
        return tuple(weight for name, groups in made for weight in grouped(name, "attention", self.hidden, size, groups))

    def _output(self) -> tuple[Weight, ...]:
        return grouped("post_attention", "attention", self.output_size, self.hidden, self.groups.output)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        hidden, size, groups, core = self.hidden, self.query_size, self.groups, self._core(p)
        query, key, value = (
            project(t, p, name, x, hidden, size, count) for name, count in zip(("q", "k", "v"), groups[:3], strict=True)
        )
        multiply(t, core, query)
        pairs = Size(pair=core.shape.heads)
        scores = ops.scale(t, t.emit("scores", [query, key], pairs, query.each, [query, key]), "scores scaled")
        masked = t.emit("masked", [scores], pairs, scores.each, (), [Step("share")])
        probabilities = ops.softmax(t, masked, FP32 if p.formats.autocast else masked.each)
        dropped = ops.dropout(t, p, probabilities, self.softmax.dropout)
        mixing = ops.cast(t, dropped, value.each)
        out = t.emit("mixed", [mixing, value], Size(token=self.output_size), value.each, [mixing, value])
        t.passing.append(t.saved_bytes() + unsaved(t, masked, dropped) + out.bytes)
        out = t.emit("transposed", [out], out.elements, out.each)
        out = project(t, p, "post_attention", out, self.output_size, hidden, groups.output)
        return ops.dropout(t, p, out, self.output_dropout)


@dataclass(frozen=True)
class GroupedMLP(Block, without=("constants", "cache", "state")):
    """down(act(up(x))), both convolutions in groups over one token."""

    hidden: int
    intermediate: int
    up_groups: int = 1
    down_groups: int = 1
    activation: str = "gelu"
    dropout: float = 0.0

    @property
    def traits(self) -> Traits:
        return Traits(feed_forward=self.intermediate)

    def weights(self) -> tuple[Weight, ...]:
        up = grouped("intermediate", "mlp", self.hidden, self.intermediate, self.up_groups)
        return up + grouped("output", "mlp", self.intermediate, self.hidden, self.down_groups)

    def forward(self, t: Tape, p: Profile, x: Var) -> Var:
        x = project(t, p, "intermediate", x, self.hidden, self.intermediate, self.up_groups)
        x = ops.activation(t, p, x, self.activation)
        return ops.dropout(t, p, project(t, p, "output", x, self.intermediate, self.hidden, self.down_groups), self.dropout)
