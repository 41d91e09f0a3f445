"""llama.cpp: whole layers on each GPU, the rest in host memory, experts and tensors where one puts them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.linears import leaf
from memcalc.blocks.stored import PREDICTION, UNBUFFERED, StoredTensor, StoredTensors
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.errors import Unsupported
from memcalc.estimates.lines import Line, line, totals
from memcalc.estimates.overhead import overhead_lines
from memcalc.estimates.placement import Stage, depth_of
from memcalc.estimates.serving.assumed import assumptions
from memcalc.estimates.serving.cache import Kept, kept
from memcalc.estimates.serving.capacity import COMPONENTS, OnGpu, ServingEstimate
from memcalc.estimates.serving.compute_buffer import (
    NATIVE,
    Graph,
    buffer_lines,
    host_lines,
    tower_host_lines,
    tower_lines,
    tower_note,
)
from memcalc.estimates.serving.devices import (
    HOST,
    Layers,
    Moves,
    check_moves,
    device_stages,
    files_by_device,
    layers_of,
    pieces,
)
from memcalc.estimates.serving.weights import weight_lines
from memcalc.estimates.stored_weights import tensors_by_line
from memcalc.formulas.engine_families import divides_matrices
from memcalc.formulas.ggml import COPIES, rows_bytes
from memcalc.formulas.serving import file_bytes
from memcalc.formulas.sglang import NO_FACTS
from memcalc.frozen import NamedTuple
from memcalc.specs.quantization import CHECKPOINT
from memcalc.specs.serving import Serving

if TYPE_CHECKING:  # the few files that have one import it
    from memcalc.blocks.image_tower import ImageTower

SPLIT = ("attention", "linear-attention", "mlp", "head")  # roles whose matrices are cut into rows


EXPERTS = ("experts",)  # divided beside them where the cache is


class OneGpu(NamedTuple):
    """A GPU: its generation (sm_89), its memory [B], and what of it cannot be had [B]."""

    generation: str = ""
    memory: int = 0
    withheld: int = 0


def llama_cpp(
    architecture: Architecture, run: Serving, cards: tuple[OneGpu, ...], draft: Architecture | None, files: StoredTensors | None
) -> ServingEstimate:
    """The GPU with the least room left; `cards` has all of them."""
    ranks = list(_ranks(architecture, run, cards, draft, files))
    tightest = max(ranks, key=lambda rank: rank.device - cards[rank.card].memory + cards[rank.card].withheld)
    found = tuple(OnGpu(rank.stage.layers, rank.peak, rank.device, rank.needed) for rank in ranks)
    return tightest._replace(cards=found) if len(ranks) > 1 else tightest


def _ranks(
    architecture: Architecture, run: Serving, cards: tuple[OneGpu, ...], draft: Architecture | None, files: StoredTensors | None
) -> Iterator[ServingEstimate]:
    row, moves = run.engine_row, Moves(run.n_cpu_moe or 0, run.override_tensor)
    check_moves(architecture, moves, len(cards), files)
    parts = run.tensor_split or tuple(float(card.memory - card.withheld) or 1.0 for card in cards)
    shards = len(cards) if run.split_mode == "tensor" else 1
    if shards > 1:
        _check_divided(architecture, run, draft)
        parts = (1.0,)
    layers = layers_of(depth_of(architecture), run.gpu_layers, parts, row.head_last)
    in_host, *gpus = device_stages(architecture, layers)
    stored = _stored(architecture, run, layers, moves, files)
    if shards > 1:
        gpus, stored = gpus * shards, _by_rows(stored, (1.0,) * shards, (*SPLIT, *EXPERTS), mirrored=True)
    elif run.split_mode == "row" and len(cards) > 1:
        stored = _by_rows(stored, parts)
    small: tuple[Stage, ...] = ()
    if draft:
        split = layers_of(depth_of(draft), None, parts)
        small = device_stages(draft, split)
        beside = _stored(draft, run, split, Moves(), None)
        stored = {device: (*lines, *_named(beside.get(device, ()))) for device, lines in stored.items()}
    host, rows = list(stored.get(HOST, ())), run.slots or 1
    tokens = run.batched_tokens(cards[0].memory)
    whole = layers.head and not any(layers.counts[:1]) and not run.overridden and not run.cache_on_host
    copies = COPIES if len(cards) > 1 and whole and run.split_mode == "layer" else 1
    graph = Graph(tokens, tokens if row.all_logits else min(rows, tokens), copies)
    on_host = kept(run, in_host, 0) if in_host.layers else None
    host += [entry._replace(place="host") for entry in on_host.lines] if on_host else []
    fetched = _largest(architecture, run, layers, moves, files) if in_host.layers or run.overridden else 0
    caches = [kept(run, stage, card.memory, small[number + 1] if small else None, shards=shards)
              for number, (stage, card) in enumerate(zip(gpus, cards, strict=True))]  # fmt: skip
    if run.cache_on_host:
        host += [entry._replace(place="host") for cache in caches for entry in cache.lines]
    fullest = max(caches, key=lambda cache: len(cache.lines))
    host += host_lines(architecture, run, fullest, graph, computes=bool(fetched))
    tower = _tower(files) if files and run.weights == CHECKPOINT else None
    host += tower_host_lines(tower) if tower else ()
    said = _said(architecture, run, fullest, tower)
    for number, (stage, card, cache) in enumerate(zip(gpus, cards, caches, strict=True)):
        own = graph._replace(fetched=0 if number else fetched, native=card.generation in NATIVE)
        lines = [*stored.get(number, ()), *buffer_lines(architecture, run, stage, cache, own)]
        if small and draft:
            lines += _named(buffer_lines(draft, run, small[number + 1], cache, own._replace(fetched=0)))
        lines += tower_lines(tower, run.flash) if tower and not number else ()
        lines += [] if run.cache_on_host else cache.lines
        lines += overhead_lines(card.generation, False)
        sums = totals(lines, COMPONENTS)["gpu"]
        demand, each, full = cache.demand, cache.layout.per_token, cache.layout.full_per_token
        if run.cache_on_host:
            demand, each, full = demand._replace(unit=1, fixed=0, growth=()), 0, 0
        yield ServingEstimate(
            cards=(), run=run, lines=(*lines, *host), **sums, host=sum(entry.bytes for entry in host),
            kv_cache_per_token=each, full_per_token=full, requests=cache.requests, demand=demand, beside=0,
            assumptions=said,
            stage=stage, card=number, facts=NO_FACTS,
        )  # fmt: skip


def _tower(files: StoredTensors) -> "ImageTower | None":
    """The image tower among these tensors, if there is one."""
    from memcalc.blocks.image_tower import image_tower

    return image_tower(files)


def _said(architecture: Architecture, run: Serving, cache: Kept, tower: "ImageTower | None") -> tuple[str, ...]:
    """What is taken for granted, with the image that a tower's buffer is for."""
    said = assumptions(architecture, run.engine_row, run.weights, run.eager, cache.layout.windowed)
    return (*(entry for entry in said if entry != UNBUFFERED), tower_note(tower, run.flash)) if tower else said


def _named(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    return tuple(entry._replace(name=f"draft: {entry.name}") for entry in lines)


def _stored(
    architecture: Architecture, run: Serving, layers: Layers, moves: Moves, files: StoredTensors | None
) -> dict[int, tuple[Line, ...]]:
    """Weights by device, as lines; those in host memory say so."""
    if files is None and not run.lora_adapters:
        return _stored_alone(architecture, run.weights, run.engine_row.kin, layers, moves)
    return _stored_anew(architecture, run, layers, moves, files)


@cached(1024)
def _stored_alone(
    architecture: Architecture, weights: str, engine: str, layers: Layers, moves: Moves
) -> dict[int, tuple[Line, ...]]:
    """The same of a model without files, whatever else is asked; not to be changed."""
    return _stored_anew(architecture, Serving(engine=engine, weights=weights), layers, moves, None)


def _stored_anew(
    architecture: Architecture, run: Serving, layers: Layers, moves: Moves, files: StoredTensors | None
) -> dict[int, tuple[Line, ...]]:
    found: dict[int, list[Line]] = {number: [] for number in range(HOST, len(layers.counts) - 1)}
    if files and files.tensors and run.weights == CHECKPOINT:
        rest, moved = files_by_device(files, moves)
        for number, stage in enumerate(device_stages(architecture, layers), HOST):
            mine = rest if number == 0 else rest.decoder  # towers are on the first GPU, whatever stays in host memory
            for entry in weight_lines(architecture, run, stage, mine, whole=number == HOST):
                found[HOST if entry.place == "host" else number].append(entry)
        for device, tensors in moved:
            found[device] += _of_files(tensors)
    else:
        for device, stage in pieces(architecture, layers, moves):
            found[device] += weight_lines(architecture, run, stage, whole=True)
    placed = {device: tuple(_merged(lines)) for device, lines in found.items()}
    return placed | {HOST: tuple(entry._replace(place="host") for entry in placed[HOST])}


def _of_files(stored: StoredTensors) -> Iterator[Line]:
    sums: dict[tuple[str, str], int] = {}
    for tensor in stored.tensors:
        if tensor.part != PREDICTION:
            sums[tensor.role, tensor.format] = sums.get((tensor.role, tensor.format), 0) + tensor.bytes
    for (role, form), size in sums.items():
        name = f"{role}, {number_format(form).name}"
        yield line("weights", name, "always", file_bytes, stored=size, held=1, whole=1).within(role)


def _merged(lines: list[Line]) -> Iterator[Line]:
    """Lines of one name that count the same thing, as one: pieces of a device."""
    groups: dict[object, list[Line]] = {}
    for entry in lines:
        counted = next(iter(entry.inputs))
        rest = tuple((name, value) for name, value in entry.inputs.items() if name != counted)
        groups.setdefault((entry.name, entry.group, entry.formula, counted, rest), []).append(entry)
    for same in groups.values():
        first, counted = same[0], next(iter(same[0].inputs))
        if len(same) == 1:
            yield first
            continue
        inputs = first.inputs | {counted: sum(entry.inputs[counted] for entry in same)}
        yield line("weights", first.name, first.phase, first.formula, first.place, **inputs).within(first.group)


def _check_divided(architecture: Architecture, run: Serving, draft: Architecture | None) -> None:
    """What llama.cpp refuses where matrices and cache are divided, and what is not modelled."""
    if not divides_matrices(architecture.model_type):
        raise Unsupported(f"llama.cpp does not divide matrices of {architecture.model_type} (--split-mode tensor): take layer")
    if min(number_format(word).bits_per_value for word in (run.key_format, run.value_format)) < 16:
        raise Unsupported("llama.cpp does not divide a quantised cache (--split-mode tensor): take fp16, or layer")
    if draft or run.draft_tokens:
        raise Unsupported("a draft model beside matrices that are divided (--split-mode tensor) is not modelled")


def _by_rows(
    stored: dict[int, tuple[Line, ...]], parts: tuple[float, ...], roles: tuple[str, ...] = SPLIT, *, mirrored: bool = False
) -> dict[int, tuple[Line, ...]]:
    """Rows of every matrix on every GPU: routed experts, norms and the cache stay with their layer, or are everywhere."""
    split: dict[str, int] = {}
    found: dict[int, list[Line]] = {}
    for device, lines in stored.items():
        for entry in lines:
            if device != HOST and entry.group in roles:
                split[entry.group] = split.get(entry.group, 0) + entry.bytes
            else:
                for place in range(len(parts)) if mirrored and device != HOST else (device,):
                    found.setdefault(place, []).append(entry)
    for number, part in enumerate(parts):
        share = part / sum(parts)
        found.setdefault(number, []).extend(
            line("weights", f"{role}, rows", "always", rows_bytes, matrices=size, share=share).within(role)
            for role, size in split.items()
        )
    return {device: tuple(lines) for device, lines in found.items()}


def _largest(
    architecture: Architecture, run: Serving, layers: Layers, moves: Moves, files: StoredTensors | None
) -> int:  # fmt: skip
    """Bytes of the largest matrix of a layer in host memory: a GPU that computes with it fetches it whole.

    ggml/src/ggml-backend.cpp, ggml_backend_sched_backend_id_from_cur (op_offload): from 32 tokens a pass.
    """
    if files and files.tensors and run.weights == CHECKPOINT:
        return max((tensor.bytes for tensor in files.tensors if _on_host(tensor, layers.counts[0], moves)), default=0)
    return _largest_of(architecture, run.weights, run.engine_row.kin, layers, moves)


def _on_host(tensor: StoredTensor, first: int, moves: Moves) -> bool:
    """Whether a tensor of a layer is in host memory, where those of the first so many layers are."""
    if tensor.layer is None or tensor.part == PREDICTION:
        return False
    device = moves.of(tensor.name, tensor.layer)
    return device == HOST or (device is None and tensor.layer < first)


@cached(256)
def _largest_of(architecture: Architecture, weights: str, engine: str, layers: Layers, moves: Moves) -> int:
    found = 0
    for device, stage in pieces(architecture, layers, moves):
        if device != HOST:
            continue
        lines = {(entry.place, entry.name): entry for entry in weight_lines(
            architecture, Serving(engine=engine, weights=weights), stage, whole=True)}  # fmt: skip
        for key, items in tensors_by_line(stage, architecture, weights, engine=engine).items():
            total = sum(number for _, number in items)
            for held, number in items:
                if held.layered and key in lines:
                    halves = 2 if leaf(held.path) == "gate_up" else 1
                    found = max(found, lines[key].bytes * number // max(1, total) // held.copies // halves)
    return found
