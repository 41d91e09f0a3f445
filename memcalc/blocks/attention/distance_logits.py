"""Attention whose scores get a learned logit for each query, head and distance, out of what the query's own token says.

Each token's few numbers a head, times a trained bank of profiles, make a logit for every distance up to an extent; those are
gathered for every pair, and are nothing beyond it (modeling_inkling.InklingRelativeLogits, InklingAttention). With sdpa they
are the mask (transformers integrations/sdpa_attention.py, create_position_bias_mask).
"""

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import BYTE, INT64, Size, Step, Tape, Var
from memcalc.blocks.attention.core import Core
from memcalc.blocks.attention.kernels import by_products, fused_kernel, narrowed, repeated, written_out
from memcalc.blocks.attention.positions import sharpened
from memcalc.frozen import NamedTuple


class DistanceLogits(NamedTuple):
    """Profiles of one layer."""

    rank: int  # numbers of each token and head
    extent: int  # distances that a profile covers
    sharpened: bool = False  # times a number that grows with the position, as the queries are

    def logits(self, t: Tape, p: Profile, core: Core, states: Var) -> Var:
        """For all pairs, from heads × rank numbers a token."""
        heads = core.shape.heads
        square = Size(pair=1 / p.batch.sequences)
        # both sides of the product are views of what they were made of
        bank = Matrix("distance_logits", heads * self.extent, self.rank * self.extent, merged=heads)
        bare = p._replace(method=p.method._replace(fake_quantised=False, quantised=False))  # no linear layer
        made = ops.linear(t, bare, states, bank)
        t.products.pop()
        index = Var(square, INT64, False, f"{t.path}/distances")
        bias = t.emit("by distance", [made], Size(pair=heads), made.each, [index, made])
        beyond = Var(square, BYTE, False, f"{t.path}/beyond extent")
        inside = t.emit("within extent", [bias], bias.elements, bias.each, [beyond])
        return sharpened(t, inside) if self.sharpened else inside


def attend_by_distance(t: Tape, p: Profile, core: Core, query: Var, key: Var, value: Var, bias: Var) -> Var:
    """The attention result, heads × head_dim a token. Where no mask is there yet, sdpa groups heads itself, which no fused
    kernel does under a mask."""
    if p.attention == "eager":
        out = written_out(t, p, core, query, key, value, bias)
        t.hold(query, key, value, bias)
        return out
    masked = core.mask.applied(p)
    kept = Var(Size(pair=1 / p.batch.sequences), BYTE, False, f"{t.path}/causal mask", outside=masked)
    mask = t.emit("causal bias", [bias], bias.elements, bias.each, [kept])
    if core.shape.grouped and not masked:
        out = by_products(t, p, core, query, key, value, mask)
        t.hold(query, key, value, bias, mask)
        return out
    key, value, core = repeated(t, core, key, value)
    query, key, value = narrowed(t, p, query, key, value)
    mask = ops.cast(t, mask, query.each)
    out = fused_kernel(t, core, query, key, value)
    if mask.grad and out.grad:
        node = t.nodes[-1]
        node.inputs, node.saves = (*node.inputs, mask), (*node.saves, mask)
        node.steps = (*node.steps, Step("input", mask.bytes, 3))
    return out
