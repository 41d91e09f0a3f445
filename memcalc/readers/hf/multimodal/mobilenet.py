"""MobileNetV5, Gemma 3n's vision tower. transformers builds it with timm; its shapes follow from its name alone.

Shapes: timm, timm/models/mobilenetv5.py, mobilenetv5_300m_enc.
"""

from collections.abc import Iterator, Sequence

from memcalc.blocks.architecture import Layer, Part, Stack
from memcalc.blocks.ledger import Weight
from memcalc.blocks.plain import Plain
from memcalc.caches import cached

NAME = "mobilenetv5_300m_enc"


@cached(maxsize=1)
def mobilenet_v5_300m() -> Part:
    """A stem, four stages, and a fusion of the last two stages' features ("msfa")."""
    stages = (
        [_edge_residual(64, 128), _edge_residual(128, 128), _edge_residual(128, 128)],
        [_bottleneck(128, 256, 6, 3, 5), *(_bottleneck(256, 256, 4, kernel) for kernel in (5, 3, 5, 3))],
        [
            _bottleneck(256, 640, 6, 5, 5),
            *(_bottleneck(640, 640, 4, 5) for _ in range(7)),
            _bottleneck(640, 640, 1),
            *_attention_pairs(640, heads=12, width=64, kernel=3, count=14),
        ],
        [_bottleneck(640, 1280, 6, 5, 5), *_attention_pairs(1280, heads=16, width=96, kernel=0, count=19)],
    )
    stem = (
        Weight("convolution", "other", (64, 3, 3, 3)),
        Weight("convolution.bias", "other", (64,)),
        Weight("norm", "norm", (64,)),
    )
    fused = 640 + 1280
    fusion = (
        *_pointwise("up", fused, 2 * fused),
        *_pointwise("down", 2 * fused, 2048),
        Weight("norm", "norm", (2048,)),
    )
    return Part(
        "vision",
        entry=(("stem", Plain(stem)),),
        stacks=tuple(_stack(f"stage{i}", layers) for i, layers in enumerate(stages)),
        exit=(("fusion", Plain(fusion)),),
    )


def _stack(path: str, layers: Sequence[tuple[Weight, ...]]) -> Stack:
    return Stack.of([Layer((("block", Plain(weights)),)) for weights in layers], path)


def _edge_residual(inputs: int, outputs: int) -> tuple[Weight, ...]:
    """One full 3 × 3 convolution that widens four times, one 1 × 1 that narrows."""
    wide = 4 * inputs
    widen = (Weight("expand", "other", (wide, inputs, 3, 3)), Weight("expand_norm", "norm", (wide,)))
    return (*widen, *_pointwise("down", wide, outputs))


def _bottleneck(inputs: int, outputs: int, ratio: int, first: int = 0, middle: int = 0) -> tuple[Weight, ...]:
    """Universal inverted bottleneck: depthwise convolutions of the given kernels (0: none) around a widening."""
    wide = ratio * inputs
    before = _depthwise("depthwise_first", inputs, first) if first else ()
    between = _depthwise("depthwise_middle", wide, middle) if middle else ()
    up, down = _pointwise("up", inputs, wide), _pointwise("down", wide, outputs)
    return (*before, *up, *between, *down, Weight("scale", "other", (outputs,)))


def _attention_pairs(size: int, *, heads: int, width: int, kernel: int, count: int) -> Iterator[tuple[Weight, ...]]:
    attention, feed_forward = tuple(_attention(size, heads, width, kernel)), _bottleneck(size, size, 2)
    for _ in range(count):
        yield from (attention, feed_forward)


def _attention(size: int, heads: int, width: int, kernel: int) -> Iterator[Weight]:
    """Multi-query attention over pixels; keys and values of a downsampled image where there is a kernel."""
    yield Weight("norm", "norm", (size,))
    yield Weight("query", "attention", (heads * width, size, 1, 1))
    for name in ("key", "value"):
        if kernel:
            yield Weight(f"{name}_downsample", "attention", (size, 1, kernel, kernel))
            yield Weight(f"{name}_norm", "norm", (size,))
        yield Weight(name, "attention", (width, size, 1, 1))
    yield Weight("output", "attention", (size, heads * width, 1, 1))
    yield Weight("scale", "other", (size,))


def _depthwise(path: str, size: int, kernel: int) -> tuple[Weight, ...]:
    return Weight(path, "other", (size, 1, kernel, kernel)), Weight(f"{path}_norm", "norm", (size,))


def _pointwise(path: str, inputs: int, outputs: int) -> tuple[Weight, ...]:
    return Weight(path, "mlp", (outputs, inputs, 1, 1)), Weight(f"{path}_norm", "norm", (outputs,))
