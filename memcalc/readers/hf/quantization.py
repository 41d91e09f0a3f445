"""A config's `quantization_config` → which weights are stored how, layer by layer.

A method or setting that is not known is no error: the architecture is read, and
the refusal stands ready for whoever asks for the weights as the checkpoint stores them.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from memcalc.blocks.architecture import UNQUANTISED, Architecture, CountedWeight, Quantization, StoredAs
from memcalc.blocks.linears import is_linear
from memcalc.errors import InputError, one_line
from memcalc.readers.hf.config import QUANTIZATION_KEYS
from memcalc.readers.hf.module_names import HEAD, Selection, module_names, of_another_part
from memcalc.readers.hf.quantization_methods import METHODS, NotModelled, Plan, cache_format
from memcalc.specs.quantization import stored_as

INSTEAD = "name a format or scheme with --weights"
MAIN = ("language", "encoder", "decoder")
MLX = "mlx"  # whose settings name no method
TABLES = ("embed_tokens", "wte", "word_embeddings", "embeddings")


def read_quantization(values: Mapping[str, Any], architecture: Architecture, place: str) -> Quantization:
    """How the checkpoint of this config stores its weights, or why that is not known."""
    found = _find(values)
    if found is None:
        return UNQUANTISED
    if not isinstance(found, Mapping):
        shown = one_line(repr(found), 40)
        return Quantization("unnamed", problem=f"{place}: quantization_config: must be an object, not {shown}; {INSTEAD}")
    unnamed = MLX if {"group_size", "bits"} <= found.keys() else "unnamed"
    method = str(found.get("quant_method") or found.get("quant_algo") or unnamed).lower()
    shown = one_line(method, 40)
    try:
        reader = METHODS.get(method)
        if reader is None:
            raise NotModelled(f"quant_method {shown!r} is not modelled")
        plan = reader(found, values)
        for group in plan.groups:
            stored_as(group.word)
        stored = tuple(_stored(architecture, plan))
    except (NotModelled, InputError) as error:
        problem = f"{place}: quantization_config: {error}; {INSTEAD}"
        return Quantization(shown, kv_format=cache_format(found), problem=problem)
    return Quantization(shown, stored, plan.kv_format or cache_format(found), tied_head=plan.tied_head)


def _find(values: Mapping[str, Any]) -> Any:
    """The first setting that is there, whatever it is."""
    for outer in (values, values.get("text_config")):
        for key in QUANTIZATION_KEYS:
            if isinstance(outer, Mapping) and (found := outer.get(key)):
                return found
    return None


def _stored(architecture: Architecture, plan: Plan) -> Iterator[tuple[tuple[str, bool], tuple[StoredAs, ...]]]:
    plain = Selection(plan.plain)
    named = [(group.word, Selection(group.targets)) for group in plan.groups if group.targets is not None]
    rest = next((group.word for group in plan.groups if group.targets is None), "")
    depths = {f"{part.name}/{stack.path}": stack.depth for part in architecture.parts for stack in part.stacks}
    routed = plan.experts_only and any(counted.weight.routed for counted in architecture.weights)
    towers = plan.everywhere and not any(of_another_part(entry) for entry in plan.plain)
    seen: set[tuple[str, bool]] = set()
    for counted in architecture.weights:
        key = (f"{counted.part}/{counted.path}", counted.weight.routed)
        if key in seen or not _reached(counted, plan, towers) or (routed and not counted.weight.routed):
            continue
        seen.add(key)
        depth, names = 1, TABLES if counted.weight.role == "embedding" else HEAD
        if counted.layered:
            stack, _, within = counted.path.partition("/")
            depth, names = depths[f"{counted.part}/{stack}"], module_names(within, counted.weight.routed)
        kept = plain.layers(names, depth)
        words = ["" if number in kept else rest for number in range(depth)]
        for word, selection in named:
            for number in selection.layers(names, depth) - kept:
                words[number] = word
        runs = tuple(_runs(words))
        if runs:
            yield key, runs


def _reached(counted: CountedWeight, plan: Plan, towers: bool) -> bool:
    """Whether a method may quantise a weight. `towers`: the other parts of the model as well, which it spares whole when its
    list of exceptions names one of their modules."""
    weight = counted.weight
    if plan.tables and weight.role == "embedding" and counted.part in MAIN and len(weight.shape) == 2:
        return True
    if not counted.layered:
        targeted = any(name in HEAD for group in plan.groups for name in group.targets or ())
        return (weight.role == "head" and len(weight.shape) == 2 and (plan.head or targeted)) or (
            towers and weight.role == "projector" and len(weight.shape) == 2
        )
    return (towers or counted.part in MAIN) and is_linear(counted.path, weight.role, weight.shape)


def _runs(words: list[str]) -> Iterator[StoredAs]:
    start = 0
    for word, equal in groupby(words):
        count = len(list(equal))
        if word:
            yield StoredAs(start, start + count, word)
        start += count
