"""llama.cpp's compute buffer on one device: inputs of a physical batch, and the widest moment of the layers that it runs."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.block import Block
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.estimates.serving.cache import Kept
from memcalc.estimates.serving.layouts import CacheKind
from memcalc.formulas import ggml
from memcalc.frozen import NamedTuple
from memcalc.specs.serving import Serving
from memcalc.units import format_bytes

if TYPE_CHECKING:  # the few files that have one import it
    from memcalc.blocks.image_tower import ImageTower

FLASH_MASK, MASK = 2, 4  # bytes of a mask's element
NATIVE = ("apple",)  # generations whose kernels read a quantised cache as it is


class BufferPart(NamedTuple):
    """A formula of the buffer with its inputs."""

    name: str
    formula: Callable[..., int]
    inputs: dict[str, Any]

    @property
    def bytes(self) -> int:
        return self.formula(**self.inputs)

    def line(self, place: str = "gpu") -> Line:
        return line("activations", self.name, "forward", self.formula, place, **self.inputs)


class Graph(NamedTuple):
    """What the buffer of a device depends on, beside its layers."""

    tokens: int  # of a physical batch
    rows: int  # of logits
    copies: int = 1  # of inputs
    fetched: int = 0  # bytes of the largest matrix in host memory that this device computes with
    native: bool = False  # a quantised cache is read as it is


def buffer_lines(architecture: Architecture, run: Serving, stage: Stage, cache: Kept, graph: Graph) -> tuple[Line, ...]:
    """The larger of the head's end and of the inputs with the widest moment of a layer."""
    moments = [list(moment) for moment in _moments(architecture, run, stage, cache, graph)]
    size = {id(moment): sum(part.bytes for part in moment) for moment in moments}
    widest = max(moments, key=lambda moment: size[id(moment)], default=[])
    parts = [*inputs(architecture, run, cache, graph), *widest] if widest else []
    if stage.last and architecture.predicted:
        head = BufferPart("compute buffer: logits", ggml.head_bytes, {
            "rows": graph.rows, "hidden": architecture.hidden, "vocabulary": architecture.predicted,
        })  # fmt: skip
        if head.bytes > sum(part.bytes for part in parts):
            parts = [head]
    return tuple(part.line() for part in parts)


def host_lines(
    architecture: Architecture, run: Serving, cache: Kept | None, graph: Graph, *, computes: bool
) -> tuple[Line, ...]:  # fmt: skip
    """The part in host memory: inputs where they are made, what the CPU computes, and the output."""
    parts = list(inputs(architecture, run, cache, graph._replace(copies=1))) if cache else []
    if computes:
        parts.append(_embedded("compute buffer: hidden states", architecture, graph._replace(copies=1)))
    if architecture.predicted:
        parts.append(BufferPart("output buffer", ggml.output_bytes, {"rows": graph.rows, "vocabulary": architecture.predicted}))
    return tuple(part.line("host") for part in parts)


def tower_lines(tower: "ImageTower", flash: bool) -> tuple[Line, ...]:
    """A buffer of its own: an image, and the widest moment of the tower's layers."""
    shape = {"patches": tower.patches, "hidden": tower.hidden, "feed_forward": tower.feed_forward, "branches": tower.branches}
    layer = BufferPart("image tower: its layers", ggml.tower_bytes, {**shape, "scored": 0 if flash else tower.heads})
    return (_image(tower).line(), layer.line())


def tower_host_lines(tower: "ImageTower") -> tuple[Line, ...]:
    return (_image(tower).line("host"),)


def _image(tower: "ImageTower") -> BufferPart:
    inputs = {"side": tower.side, "patches": tower.patches, "position": tower.position}
    return BufferPart("image tower: an image", ggml.image_bytes, inputs)


def tower_note(tower: "ImageTower", flash: bool) -> str:
    """Which image the buffer is for, and what the largest makes of it."""
    said = f"the image tower's buffer is that of the warm-up's image, {tower.side} × {tower.side} pixels"
    if not tower.most:
        return said
    grown = sum(entry.bytes for entry in tower_lines(tower.largest(), flash))
    return f"{said}; it grows with the first image that is larger, to {format_bytes(grown)} for {tower.most:,} tokens"


def inputs(architecture: Architecture, run: Serving, cache: Kept, graph: Graph) -> Iterator[BufferPart]:
    """Masks, one for the layers of each window, and the batch as the first layer reads it."""
    wide = run.engine_row.wide_mask or not run.flash
    each = MASK + FLASH_MASK if wide and run.flash else MASK if wide else FLASH_MASK
    for window, cells in masked(cache).items():
        yield BufferPart(f"compute buffer: mask{f', window {window}' if window else ''}", ggml.mask_bytes, {
            "cells": cells, "tokens": graph.tokens, "bytes_each": each, "copies": graph.copies,
        })  # fmt: skip
    yield _embedded("compute buffer: embedded tokens", architecture, graph)


def _embedded(name: str, architecture: Architecture, graph: Graph) -> BufferPart:
    inputs = {"tokens": graph.tokens, "hidden": architecture.hidden, "copies": graph.copies}
    return BufferPart(name, ggml.embedded_bytes, inputs)


def masked(cache: Kept) -> dict[int, int]:
    """Cells that attention's masks cover, by window; 0: none."""
    return {kind.held.cache.window or 0: cells_of(kind, cache) for kind in cache.layout.kinds}


def cells_of(kind: CacheKind, cache: Kept) -> int:
    """Cells of one stream of a kind of cache."""
    return kind.growth.kept(cache.requests.stream) // kind.held.cache.every


class Widest(NamedTuple):
    """A block's widest moment: its formula with the widths of it, and what it attends to."""

    name: str
    formula: Callable[..., int]
    widths: tuple[tuple[str, int], ...]
    heads: int = 0  # of attention
    window: int | None = None


def _moments(
    architecture: Architecture, run: Serving, stage: Stage, cache: Kept, graph: Graph
) -> Iterator[Iterator[BufferPart]]:  # fmt: skip
    for widest in _widest(stage):
        yield _moment(architecture, run, widest, cache, graph)


def _moment(
    architecture: Architecture, run: Serving, widest: Widest, cache: Kept, graph: Graph
) -> Iterator[BufferPart]:  # fmt: skip
    shape: dict[str, Any] = {"tokens": graph.tokens, "hidden": architecture.hidden, **dict(widest.widths)}
    if widest.formula is ggml.experts_bytes:
        shape["copied"] = graph.fetched
    yield BufferPart(f"compute buffer: {widest.name}", widest.formula, shape)
    if widest.heads:
        yield from _of_cache(run, widest, cache, graph)


@cached(1024)
def _widest(stage: Stage) -> tuple[Widest, ...]:
    """The distinct moments of a stage's blocks."""
    found = (_of_block(block) for layer in stage.sequence.kinds for _, block in layer.blocks)
    return tuple(dict.fromkeys(one for one in found if one))


def _of_block(block: Block) -> Widest | None:
    traits = block.traits
    if traits.experts:
        width = max(traits.feed_forward, -(-traits.shared_feed_forward // max(1, traits.top_k)))
        return Widest("experts", ggml.experts_bytes, (("feed_forward", width), ("top_k", traits.top_k)))
    if traits.feed_forward:
        return Widest("MLP", ggml.mlp_bytes, (("feed_forward", traits.feed_forward),))
    if convolved := sum(tensor.shape[0] for tensor in block.state() if tensor.convolution):
        inner = max((t.shape[0] * max(t.shape[1:], default=1) for t in block.state() if not t.convolution), default=convolved)
        widths = (("convolved", convolved), ("inner", min(inner, convolved)))
        return Widest("recurrent layer", ggml.recurrent_bytes, widths)
    if queries := _queries(block):
        return Widest("attention", ggml.attention_bytes, (("queries", queries),), traits.heads, traits.window)
    return None


def _queries(block: Block) -> int:
    """Values of a token's queries: of latent attention as they are after absorbing its up-projection."""
    traits = block.traits
    return traits.heads * (traits.kv_lora_rank + traits.rope_head_dim) if traits.kv_lora_rank else traits.query_size


def _of_cache(run: Serving, widest: Widest, cache: Kept, graph: Graph) -> Iterator[BufferPart]:
    """What attention needs beside for each cell of its cache: scores, or the cache in fp16."""
    window = widest.window
    kinds = [kind for kind in cache.layout.kinds if kind.held.cache.window == window and not kind.held.cache.indexes]
    cells = max((cells_of(kind, cache) for kind in kinds), default=0)
    if not cells:
        return
    if not run.flash:
        yield BufferPart("compute buffer: scores", ggml.scores_bytes, {
            "cells": cells, "tokens": graph.tokens, "heads": widest.heads,
        })  # fmt: skip
    elif run.engine_row.copies_cache and not graph.native:
        formats = {kind.held.cache.name: kind.stored for kind in kinds}
        width = {kind.held.cache.name: kind.width for kind in kinds}
        values = sum(width[name] for name, stored in formats.items() if number_format(stored.name).bits_per_value < 16)
        if values:
            yield BufferPart("compute buffer: cache in fp16", ggml.copied_cache_bytes, {"cells": cells, "values": values})
