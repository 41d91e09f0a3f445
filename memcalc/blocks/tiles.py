"""A block run over tiles of its tokens, and again in its backward: what stays is its input alone."""

from collections.abc import Callable

from memcalc.autograd.backward import backward
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import ZERO, Size, Step, Tape, Var


def tiled(t: Tape, p: Profile, x: Var, run: Callable[[Tape, Profile, Var], Var]) -> Var:
    """Record `run` as an autograd function that keeps x and goes through Profile.batch.tiles tiles of it one by one.

    Its backward makes the whole input gradient first, then for each tile the forward and backward of `run`: parameters'
    gradients of later tiles are added to those of the first (deepspeed/runtime/sequence_parallel/ulysses_sp.py, TiledMLP,
    which axolotl and ArcticTraining put in place of a model's feed-forwards).
    """
    share = 1 / p.batch.tiles
    inner = Tape(path=t.path)
    out = run(inner, p, Var(x.elements, x.each, x.grad, f"{t.path}/tile"))
    t.works += (work._replace(backward=work.backward + work.forward) for work in inner.works)  # the forward runs once more
    weights = [step for node in inner.nodes for step in node.steps if step.kind == "weight"]
    made = [*([Step("input", x.bytes)] if x.grad else []), *weights]
    result = whole = t.emit("tiles", [x], out.elements, out.each, [x], made, trained=bool(weights))
    if not whole.grad:
        return whole
    standing = inner.weight_gradient_bytes() + (x.bytes if x.grad else ZERO)
    for peak in backward(inner, out, gradients=False):
        tile = peak - x.bytes  # a view; the gradient that arrives is one too, but the tile's result is held
        temporary = Size(tile.token * share, tile.pair * share, tile.fixed) + standing
        result = t.emit("tile", [result], whole.elements, whole.each, (), [Step("temp", temporary), Step("share")])
        result.whole = whole
    return result
