"""What a model takes whoever serves it: its checkpoint's bytes, and the cache of one token and of one sequence in bf16."""

from collections.abc import Iterator

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.errors import MemcalcError
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage, stages
from memcalc.estimates.serving.mixers import caches, state_values, states
from memcalc.estimates.stored_weights import stored_weights
from memcalc.formulas.kv_cache import kv_cache_bytes
from memcalc.frozen import NamedTuple
from memcalc.specs.quantization import CHECKPOINT

CACHE_FORMAT = "bf16"


class Footprint(NamedTuple):
    """Lines, each of equal layers; a model without a language-model head generates nothing, so caches nothing."""

    checkpoint: tuple[Line, ...]  # weights as the checkpoint stores them; none where that is not known
    growing: tuple[Line, ...]  # of one token, in layers that keep all tokens
    windowed: tuple[Line, ...]  # of one token, in layers that keep the last of them
    source: tuple[Line, ...]  # of one token that an encoder has read
    per_sequence: tuple[Line, ...]  # of a sequence, however long it is
    window: int | None  # tokens that the layers with a window keep, the largest


def footprint(architecture: Architecture) -> Footprint:
    """The lines of a whole model on one device.

    >>> from memcalc.readers.models import read_model
    >>> llama = read_model("llama-3.1-8b").architecture
    >>> sum(entry.bytes for entry in footprint(llama).growing)  # keys and values of 8 heads of 128 in 32 layers, 2 bytes
    131072
    """
    (stage,) = stages(architecture, 1, 1, 1, 1)
    lines: dict[str, list[Line]] = {"growing": [], "windowed": [], "source": [], "per_sequence": []}
    window = None
    if architecture.predicted:
        for entry in caches(stage):
            cache = entry.cache
            kind = "per_sequence" if not cache.per_token else "source" if cache.source is not None else "growing"
            if kind == "growing" and cache.window:
                kind, window = "windowed", max(window or 0, cache.window)
            width = cache.local_width(1) * (1 if cache.per_token else cache.most)
            lines[kind].append(_line("kv_cache", entry.name, cache.format, width, entry.layers))
        lines["per_sequence"] += _states(stage)
    growing, windowed, source, per_sequence = map(tuple, lines.values())
    return Footprint(_checkpoint(stage, architecture), growing, windowed, source, per_sequence, window)


def _checkpoint(stage: Stage, architecture: Architecture) -> tuple[Line, ...]:
    try:
        return stored_weights(stage, architecture, CHECKPOINT)
    except MemcalcError:  # a quantisation that is not modelled
        return ()


def _states(stage: Stage) -> Iterator[Line]:
    for entry in states(stage):
        for tensor in entry.tensors:
            yield _line("state", f"{entry.path}/{tensor.path}", tensor.dtype, state_values(tensor, 1, 0), entry.layers)


def _line(component: str, name: str, own_format: str, width: int, layers: int) -> Line:
    stored = number_format(own_format or CACHE_FORMAT)
    return line(component, name, "always", kv_cache_bytes, width=width, tokens=1, layers=layers,
                bytes_numerator=stored.block_bytes, bytes_denominator=stored.block_size)  # fmt: skip
