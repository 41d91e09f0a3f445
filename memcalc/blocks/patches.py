"""The blocks before and after a vision tower's layers, recorded onto tapes: what makes its tokens, what hands them on."""

from collections.abc import Iterator
from math import prod
from typing import Any

from memcalc.autograd import operations as ops
from memcalc.autograd.operations import Matrix
from memcalc.autograd.profile import Profile
from memcalc.autograd.tape import FP32, Node, Size, Step, Tape, Var
from memcalc.blocks.architecture import Named
from memcalc.blocks.block import Block
from memcalc.blocks.convolution import Convolution
from memcalc.blocks.norm import Norm
from memcalc.blocks.plain import Plain
from memcalc.blocks.projection import Projection
from memcalc.errors import Unsupported

PIXELS = "pixels"


def onto_entry(blocks: Named, p: Profile) -> tuple[Tape, Var, Var]:
    """The tape of a tower's entry, the batch's pixels (fp32, as image processors make them) and the first layer's input."""
    t, x, pixels = Tape(), None, None
    for path, block in blocks:
        t.path = path
        if x is None:
            pixels, x = _embedded(t, p, block)
        elif isinstance(block, Plain):
            x = _with_table(t, p, block, x)
        elif isinstance(block, Norm):
            x = block.forward(t, p, x)
        else:
            raise Unsupported(f"{type(block).__name__} before a tower's layers is not modelled")
    assert x is not None
    assert pixels is not None
    return t, pixels, x


def with_pixels(blocks: Named, p: Profile) -> tuple[Tape, Var]:
    """The tape of a model that reads images alone, whose batch stays as it came, and the first layer's input."""
    t, pixels, x = onto_entry(blocks, p)
    t.update = p.method.update
    t.nodes.insert(0, Node("batch", pixels, (), (pixels,), ()))  # of which the backward, run last, has nothing to do
    return t, x


def _embedded(t: Tape, p: Profile, block: object) -> tuple[Var, Var]:
    """Patches that do not overlap, each through one matrix."""
    if isinstance(block, Convolution) and not block.stride:
        inputs, outputs = block.inputs * prod(block.kernel), block.outputs
    elif isinstance(block, Projection) and block.merge == 1:
        inputs, outputs = block.inputs, block.outputs
    else:
        raise Unsupported(f"{type(block).__name__} as a tower's first block is not modelled")
    pixels = Var(Size(token=inputs), FP32, False, PIXELS)
    bias = len(block.weights()) > 1
    return pixels, ops.linear(
        t, p, ops.cast(t, pixels, p.formats.weights), Matrix("patches", outputs, inputs * outputs, bias=bias * outputs)
    )


def _with_table(t: Tape, p: Profile, block: Plain, x: Var) -> Var:
    """Learned positions or a class token: a new tensor, and the table's whole gradient."""
    trained = p.method.trained and any(not weight.frozen for weight in block.tensors)
    size = sum(weight.parameters for weight in block.tensors)
    steps = [Step("share"), *([Step("weight", Size(fixed=size * p.formats.weights))] if trained else [])]
    return t.emit("with table", [x], x.elements, x.each, (), steps, trained=trained)


def onto_projector(
    exit_: Named, between: Named, p: Profile, hidden: int, *, read: float | None, flows: bool, placed: bool = False
) -> tuple[Tape, list[Var]]:
    """The tape of what follows a tower's layers, and the embeddings that the language model reads.

    `between` may be several chains, each named before a slash, that read the same (Qwen3-VL's deep stack). `read`: tokens of
    the language model for each of the tower's, where these are pooled, picked or laid out in rows; None: it reads all that the
    chain makes. `placed`: pooled by a matrix product with where each patch belongs, in fp32.
    """
    t = Tape()
    x, merged = Var(Size(token=hidden), p.formats.residual, flows, "input"), 1.0
    for path, block in exit_:
        x, merged = _next(t, p, path, block, x, merged)
    return t, [_chain(t, p, chain, x, read, placed, merged) for chain in _chains(between)]


def _chains(between: Named) -> Iterator[Named]:
    names = dict.fromkeys(path.rpartition("/")[0] for path, _ in between)
    for name in names:
        yield tuple((path, block) for path, block in between if path.rpartition("/")[0] == name)


CLAMPED = "clamped_"  # begins the name of a product whose result is clamped
# names of blocks of which each reads what the one before made
CHAINED = {"norm", "linear", "merge", "up", "down", "merge_up", "merge_down", "newline"}


def _downsampled(t: Tape, p: Profile, blocks: Named, x: Var) -> Var:
    """Squares of patches through a convolution, then a gated feed-forward behind a norm and GELU
    (modeling_glm4v.Glm4vVisionPatchMerger), its gate and up clamped in GLM-5 (modeling_glm5_next.Glm5NextVisionPatchMerger)."""
    block: dict[str, Any] = {path.removeprefix(CLAMPED): block for path, block in blocks}
    clamped = {path.removeprefix(CLAMPED) for path, _ in blocks if path.startswith(CLAMPED)}
    made = block["downsample"]
    t.path, squares = "downsample", prod(made.kernel)
    x = t.emit("squares", [x], x.elements, x.each)
    matrix = made.inputs * squares * made.outputs
    share = 1 / squares
    x = ops.linear(t, p, x, Matrix("weight", made.outputs * share, matrix, bias=made.bias * made.outputs, merged=share))
    widths = {name: block[name].outputs * share for name in ("linear", "gate", "up", "down")}

    def product(name: str, x: Var) -> Var:
        t.path = name
        x = ops.linear(t, p, x, Matrix("weight", widths[name], block[name].inputs * block[name].outputs, merged=share))
        return t.emit("clamped", [x], x.elements, x.each, [x]) if name in clamped else x

    x = product("linear", x)
    t.path = "norm"
    x = ops.activation(t, p, block["norm"].forward(t, p, x, share), "gelu")
    gate = ops.activation(t, p, product("gate", x), block["gate"].activation)
    return product("down", ops.mul(t, gate, product("up", x)))


def _pooled(t: Tape, x: Var, share: float, placed: bool) -> Var:
    """Squares of patches averaged: laid out anew (Gemma 3), or by their places (modeling_gemma4.Gemma4VisionPooler)."""
    t.path = "pooled"
    if not placed:
        x = ops.scale(t, x, "contiguous")
        return t.emit("pooled", [x], x.elements * share, x.each, [x], [Step("input", x.bytes)])
    each, x = x.each, ops.cast(t, ops.scale(t, x, "emptied"), FP32)
    places = Var(Size(pair=share), FP32, False, "pooled/places")
    x = ops.cast(t, t.emit("pooled", [x], x.elements * share, FP32, [places], [Step("input", x.bytes)]), each)
    return ops.cast(t, ops.scale(t, ops.cast(t, x, FP32)), each)


def _chain(t: Tape, p: Profile, blocks: Named, x: Var, read: float | None, placed: bool, merged: float) -> Var:
    """`merged`: tokens that are left of each of the tower's after its exit."""
    if blocks[0][0] == "downsample":
        return _downsampled(t, p, blocks, x)
    rows = [block for path, block in blocks if path == "newline" and isinstance(block, Plain)]
    merges = merged != 1 or any(isinstance(block, Projection) and block.merge > 1 for _, block in blocks)
    if read and not (merges or rows):
        x, merged = _pooled(t, x, read, placed), read
    for path, block in blocks:
        if path.rpartition("/")[2] not in CHAINED:
            raise Unsupported(f"a projector with {path} is not modelled")
        if block not in rows:
            x, merged = _next(t, p, path, block, x, merged)
    return _laid_out(t, p, x, read / merged, rows) if read and read != merged else x


def _laid_out(t: Tape, p: Profile, x: Var, share: float, rows: list[Plain]) -> Var:
    """The tokens that are no padding, copied, each row's end a learned vector where there is one
    (modeling_llava_next.pack_image_features, modeling_lfm2_vl.get_image_features)."""
    t.path = "laid out"
    size = sum(weight.parameters for block in rows for weight in block.tensors)
    trained = bool(size) and p.method.trained
    steps = [Step("input", x.bytes), *([Step("weight", Size(fixed=size * p.formats.weights))] if trained else [])]
    return t.emit("laid out", [x], x.elements * share, x.each, (), steps, trained=trained)


def _next(t: Tape, p: Profile, path: str, block: Block, x: Var, merged: float) -> tuple[Var, float]:
    """One block of a chain, and the tokens that are left of each of the tower's."""
    t.path = path
    if isinstance(block, Norm):
        return block.forward(t, p, x), merged
    if isinstance(block, Projection):
        merged /= block.merge
        width, matrix = block.outputs * merged, block.inputs * block.outputs
        x = ops.linear(t, p, x, Matrix("weight", width, matrix, bias=block.bias * block.outputs, merged=merged))
        return ops.activation(t, p, x, block.activation) if block.activation else x, merged
    raise Unsupported(f"{path} after a tower's layers is not modelled")
