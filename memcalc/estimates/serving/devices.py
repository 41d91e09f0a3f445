"""Which device llama.cpp puts which layer and which tensor on: --gpu-layers, --tensor-split, --n-cpu-moe, --override-tensor.

Source: src/llama-model.cpp, load_tensors (get_layer_buft_list); common/common.h, llm_ffn_exps_block_regex.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import StoredTensor, StoredTensors
from memcalc.caches import cached
from memcalc.estimates.gguf_names import tensor_names
from memcalc.estimates.placement import Held, Stage, depth_of, stages_of
from memcalc.frozen import NamedTuple
from memcalc.specs.offloading import pattern_and_device
from memcalc.specs.spec import SpecError

HOST = -1  # a device that is no GPU
EXPERTS = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps")


class Moves(NamedTuple):
    """What stands elsewhere than its layer: the experts of the first layers in host memory, then what patterns say."""

    experts: int = 0
    patterns: tuple[str, ...] = ()

    def of(self, name: str, layer: int | None) -> int | None:
        """The device of a tensor that is moved."""
        for pattern, device in _compiled(self.patterns):
            if pattern.search(name):
                return HOST if device is None else device
        return HOST if layer is not None and layer < self.experts and EXPERTS.search(name) else None


@cached(64)
def _compiled(patterns: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], int | None], ...]:
    return tuple(map(pattern_and_device, patterns))


class Placed(NamedTuple):
    """A run of layers, or a part of its tensors, on one device; the head is the last one's."""

    device: int
    stage: Stage


class Layers(NamedTuple):
    """Layers in host memory, then on each GPU; whether the last GPU has the head."""

    counts: tuple[int, ...]
    head: bool = True


@cached(256)
def layers_of(depth: int, gpu_layers: int | None, parts: tuple[float, ...], head_last: bool = False) -> Layers:
    """How --gpu-layers and the GPUs' parts divide a model. The head counts as a layer; it is offloaded first, and was last
    until pull 18148 (December 2025).

    >>> layers_of(32, None, (1, 1)).counts, layers_of(32, 9, (1,)).counts, layers_of(32, 9, (1,), head_last=True).counts
    ((0, 17, 15), (24, 8), (23, 9))
    """
    slots = depth + 1 if gpu_layers is None else min(gpu_layers, depth + 1)
    first, bounds = min(depth, max(0, depth + (not head_last) - slots)), list(accumulate(parts))
    counts = [0] * len(parts)
    for layer in range(first, depth):
        counts[min(bisect_right(bounds, bounds[-1] * (layer - first) / slots), len(parts) - 1)] += 1
    return Layers((first, *counts), slots > depth if head_last else slots > 0)


@cached(256)
def device_stages(architecture: Architecture, layers: Layers) -> tuple[Stage, ...]:
    """What stays in host memory, then what each GPU runs: its layers, their caches and states."""
    host, *gpus = stages_of(architecture, list(layers.counts))
    if not layers.head:
        last = gpus[-1]
        moved = tuple(held for held in last.held if not held.layered and not held.tied_copy)
        own = tuple(held for held in last.held if held.layered)
        gpus[-1] = Stage.of(last.index, own, False, last.sequence, before=last.before)
        host = Stage.of(0, host.held + moved, True, host.sequence)
    return host, *gpus


@cached(256)
def pieces(architecture: Architecture, layers: Layers, moves: Moves) -> tuple[Placed, ...]:
    """Weights by device, in runs of layers whose tensors are moved alike."""
    if not moves.experts and not moves.patterns:
        return tuple(Placed(number - 1, stage) for number, stage in enumerate(device_stages(architecture, layers)))
    cuts, marks, before = [], list(accumulate(layers.counts)), 0
    depth = marks[-1]
    for layer in range(1, depth + 1):
        ends = layer in marks or layer == moves.experts
        if ends or (moves.patterns and _moved(architecture, layer - 1, moves) != _moved(architecture, layer, moves)):
            cuts.append(layer - before)
            before = layer
    head = len(layers.counts) - 2 if layers.head else HOST
    found: list[Placed] = []
    for run in stages_of(architecture, [0, *cuts, 0]):
        own = bisect_right(marks, run.before) - 1 if run.layers else HOST
        for device, held in _parts(architecture, run, own, head, moves):
            found.append(Placed(device, Stage.of(run.index, held, run.last, run.sequence, before=run.before)))
    return tuple(found)


def _parts(
    architecture: Architecture, run: Stage, own: int, head: int, moves: Moves
) -> Iterator[tuple[int, tuple[Held, ...]]]:  # fmt: skip
    """The tensors of equal layers by device."""
    found: dict[int, list[Held]] = {}
    for held in run.held:
        usual = own if held.layered else HOST if held.role == "embedding" and not held.tied_copy else head
        number = run.before if held.layered else None
        names = [f"blk.{number}.{name}" if held.layered else name for name in tensor_names(held)]
        devices = [usual if (device := moves.of(name, number)) is None else device for name in names]
        if len(set(devices)) == 1:
            found.setdefault(devices[0], []).append(held)
            continue
        for device in devices:
            found.setdefault(device, []).append(_half(held, architecture.hidden))
    yield from ((device, tuple(held)) for device, held in found.items())


def _half(held: Held, hidden: int) -> Held:
    """One of the two matrices that are one here."""
    side = next((n for n in range(len(held.shape) - 1, 0, -1) if held.shape[n] != hidden), len(held.shape) - 1)
    shape = tuple(size // 2 if n == side else size for n, size in enumerate(held.shape))
    return held._replace(shape=shape)


@cached(4096)
def _moved(architecture: Architecture, layer: int, moves: Moves) -> tuple[int | None, ...]:
    """Where the tensors of a layer are moved to; of the one after the last, nothing."""
    if layer >= depth_of(architecture):
        return ()
    kinds = _named(architecture)
    return tuple(moves.of(f"blk.{layer}.{name}", layer) for name in kinds)


@cached(256)
def _named(architecture: Architecture) -> tuple[str, ...]:
    """Names of all tensors that any layer has."""
    (whole,) = stages_of(architecture, [depth_of(architecture)])
    return tuple(dict.fromkeys(name for held in whole.held if held.layered for name in tensor_names(held)))


# --- tensors of a file ------------------------------------------------------------------------------------------------


@cached(64)
def files_by_device(files: StoredTensors, moves: Moves) -> tuple[StoredTensors, tuple[tuple[int, StoredTensors], ...]]:
    """The tensors that stand with their layers, and those that are moved, by device."""
    found: dict[int, list[StoredTensor]] = {}
    rest: list[StoredTensor] = []
    for tensor in files.tensors:
        device = moves.of(tensor.name, tensor.layer)
        (rest if device is None else found.setdefault(device, [])).append(tensor)
    return replace(files, tensors=tuple(rest)), tuple(
        (device, replace(files, tensors=tuple(tensors))) for device, tensors in found.items()
    )


def check_moves(architecture: Architecture, moves: Moves, gpus: int, files: StoredTensors | None) -> None:
    """Refuses what moves nothing, and GPUs that there are not."""
    if moves.experts and not any(counted.weight.routed for counted in architecture.weights) and not architecture.as_stored:
        raise SpecError("the model has no routed experts", "n_cpu_moe")
    if not moves.patterns:
        return
    names = {tensor.name for tensor in files.tensors} if files and files.tensors else _all_names(architecture)
    for text, (pattern, device) in zip(moves.patterns, _compiled(moves.patterns), strict=True):
        if device is not None and device >= gpus:
            raise SpecError(f"{text!r:.60}: there are GPUs 0 to {gpus - 1}", "override_tensor")
        if not any(map(pattern.search, names)):
            example = min((name for name in names if "ffn" in name), default="")
            raise SpecError(f"{text!r:.60} matches no tensor; names are as {example}", "override_tensor")


@cached(256)
def _all_names(architecture: Architecture) -> frozenset[str]:
    """Names of all tensors of a model, as a GGUF file has them."""
    depth = depth_of(architecture)
    (whole,) = stages_of(architecture, [depth])
    outside = {name for held in whole.held if not held.layered for name in tensor_names(held)}
    return frozenset(outside | {f"blk.{layer}.{name}" for layer in range(depth) for name in _named(architecture)})
