"""Keys that documents of several commands have: the model, the GPU, settings, lines and their inputs, the bibliography."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memcalc.blocks.architecture import Architecture, CountedWeight
from memcalc.estimates.explanation import (
    Explanation,
    follows,
    given,
    summed,
    tensor_parameters,
)
from memcalc.estimates.lines import Line
from memcalc.formulas.formula import ASSUMED, ESTIMATE, EXACT
from memcalc.readers.models import Model
from memcalc.sizing.explaining.keys import Key, Make, stated
from memcalc.specs.hardware import Accelerator

# --- settings ---------------------------------------------------------------------------------------------------------


def option(name: str) -> str:
    """How the command line spells a setting.

    >>> option("seq_len")
    '--seq-len'
    """
    return f"--{name.replace('_', '-')}"


def setting(path: str, value: Any, name: str, said: Mapping[str, Any], unit: str = "", why: str = "") -> Explanation:
    """A setting: given, or what is taken where nothing is said."""
    if name in said:
        return given(path, value, f"given by {option(name)}", unit)
    return given(path, value, why or f"default of {option(name)}", unit, ASSUMED)


# --- the model --------------------------------------------------------------------------------------------------------

NO_LAYERS = "given as MODEL: a parameter count, which says nothing of layers"


def origin(model: Model) -> str:
    """Where a model was read."""
    where = {"preset": "presets/models", "config": "its config.json", "weights": "its weight files", "hub": "the Hub"}
    return f"{model.name} of {where.get(model.origin, model.origin)}" + (f" ({model.source})" if model.source else "")


def parameters(architecture: Architecture, path: str, chosen: Callable[[CountedWeight], bool] = lambda _: True) -> Explanation:
    """Parameters of the weights chosen, tensor by tensor under the part and stack that they belong to."""
    groups: dict[str, list[Explanation]] = {}
    for entry in architecture.weights:
        if chosen(entry):
            first, _, rest = entry.path.partition("/")
            node = tensor_parameters(rest or first, entry.weight.shape, entry.weight.tensors, entry.copies)
            groups.setdefault(f"{entry.part}/{first}", []).append(node)
    return summed(path, [_lone(name, parts) for name, parts in groups.items()], "parameters")


def _lone(name: str, parts: Sequence[Explanation]) -> Explanation:
    """A group, or the one tensor that it is."""
    if len(parts) == 1:
        return parts[0].named(f"{name}/{parts[0].path}")
    return summed(name, parts, "parameters")


def all_parameters(architecture: Architecture, path: str) -> Explanation:
    """The same of all weights, and what the model's files hold beyond or short of them."""
    described = parameters(architecture, path)
    if not architecture.held:
        return described
    beyond = given(
        "in its weight files", architecture.held - architecture.parameters, "their tensors, see the warning", "parameters"
    )
    return summed(path, [described._replace(path="by its config.json"), beyond], "parameters")


def active_parameters(architecture: Architecture, path: str) -> Explanation:
    """Parameters that a token passes through."""
    idle = []
    for part in architecture.parts:
        for stack in part.stacks:
            for layer, count in zip(stack.layers, stack.counts, strict=True):
                for name, block in layer.blocks:
                    if each := block.traits.idle_parameters:
                        numbers = {"layers": count, "each": each, "experts": block.traits.experts}
                        place = f"{part.name}/{stack.path}/{name}"
                        idle.append(Explanation(place, each * count, "parameters", "each * layers", numbers))
    left_out = summed("idle experts", idle, "parameters", why="routed experts that a token does not pass")
    return follows(path, architecture.active_parameters, "parameters", "model.parameters - idle experts",
                   all_parameters(architecture, "model.parameters"), left_out)  # fmt: skip


MODEL_KEYS: dict[str, Callable[[Architecture, str], Explanation]] = {
    "parameters": all_parameters,
    "active_parameters": active_parameters,
    "embedding_parameters": lambda a, path: parameters(a, path, lambda c: _embeds(a, c)),
    "routed_expert_parameters": lambda a, path: parameters(a, path, lambda c: c.weight.routed),
}


def _embeds(architecture: Architecture, entry: CountedWeight) -> bool:
    """Input embedding, learned positions, and a head's matrix of its own, as embedding_parameters counts them."""
    weight = entry.weight
    return weight.role in ("embedding", "position") or (weight.role == "head" and architecture.vocabulary in weight.shape[:-1])


def model_key(model: Model, key: Key) -> Explanation:
    """A key of model.*."""
    if model.architecture is None:
        return given(key.path, key.value, NO_LAYERS, "parameters" if key.last.endswith("parameters") else "")
    if make := MODEL_KEYS.get(key.last):
        return make(model.architecture, key.path)._replace(source=origin(model))
    return given(key.path, key.value, origin(model))


# --- lines ------------------------------------------------------------------------------------------------------------


def line_keys(
    prefix: str, lines: Callable[[Any], Sequence[Line]], explain: Callable[[Any, Line], Explanation]
) -> dict[str, Make]:  # fmt: skip
    """Rows for a list of lines under `prefix`: their bytes, inputs and tensors."""

    def bytes_(answer: Any, key: Key) -> Explanation:
        return explain(answer, lines(answer)[key.number()]).named(key.path)

    def input_(answer: Any, key: Key) -> Explanation:
        whole = explain(answer, lines(answer)[key.number()])
        found = next((part for part in whole.parts if part.path == key.last), None)
        if found:
            return found.named(key.path)
        return given(key.path, key.value, f"put into {whole.path}: {whole.formula}", certainty=whole.certainty)

    def tensor(answer: Any, key: Key) -> Explanation:
        entry = lines(answer)[key.number()]
        part = entry.parts[key.number(1)]
        if key.last == "bytes":
            return given(key.path, part.bytes, f"one of {part.copies:g} × {part.name} of {entry.path}", "B")
        return given(key.path, key.value, f"{part.name} of {entry.path}")

    return {
        f"{prefix}.*.bytes": bytes_,
        f"{prefix}.*.inputs.*": input_,
        f"{prefix}.*.tensors.*.**": tensor,
    }


# --- the GPU, and what everything has ---------------------------------------------------------------------------------


def gpu_fact(gpu: Accelerator, path: str, value: Any, field: str, unit: str) -> Explanation:
    """A number of the catalogue, with where it was read."""
    first, *others = gpu.sources
    several = f"{first}, and {len(others)} more" if others else first
    source = {"driver_mib": gpu.driver_source, "cuda_mib": gpu.cuda_source}.get(field) or several
    sure = EXACT if gpu.is_verified(field) else ASSUMED
    return given(path, value, f"presets/gpus/{gpu.id}.toml, {field}: {source}", unit, sure)


def usable(gpu: Accelerator, path: str) -> Explanation:
    """Bytes that the driver reports, or the vendor's figure where nobody read the driver's."""
    if gpu.driver_mib:
        read = gpu_fact(gpu, "driver_mib", gpu.driver_mib, "driver_mib", "MiB")
        return follows(path, gpu.usable, "B", "driver_mib * 1048576", read)
    return gpu_fact(gpu, path, gpu.usable, "vendor_bytes", "B")


def allocatable(gpu: Accelerator, path: str) -> Explanation:
    """Bytes that a process can allocate, or what the driver reports."""
    if gpu.cuda_mib:
        read = gpu_fact(gpu, "cuda_mib", gpu.cuda_mib, "cuda_mib", "MiB")
        return follows(path, gpu.allocatable, "B", "cuda_mib * 1048576", read)
    if gpu.unified:
        return usable(gpu, path)
    kept = given("reserve", gpu.usable - gpu.allocatable, f"what the driver keeps: {gpu.limit_assumed}", "B", ASSUMED)
    return follows(path, gpu.allocatable, "B", "gpu.usable - reserve", usable(gpu, "gpu.usable"), kept)


def withheld(answer: Any) -> Explanation:
    """What a process cannot get of that: a system's part of unified memory, and what others hold."""
    system = answer.gpu.allocatable - answer.gpu.limit
    parts = [given("reserved", answer.others, "given by --reserved" if answer.others else "default of --reserved", "B")]
    if system:
        parts.append(given("of the system", system, answer.gpu.limit_assumed, "B", ASSUMED))
    return summed("withheld", parts, why="what others hold, and what the system keeps of unified memory")


def verdict_keys(needed: Callable[[Any, str], Explanation], limit: Callable[[Any, str], Explanation]) -> dict[str, Make]:
    """Rows of the verdict, of what is needed and of the limit."""

    def end(which: str) -> Make:
        def make(answer: Any, key: Key) -> Explanation:
            found = answer.needed
            source = f"how far measured runs lie from the prediction: the {which} end"
            share = given(which, getattr(found, which) - found.bytes, source, "B", ESTIMATE)
            return follows(key.path, key.value, "B", f"per_gpu.needed + {which}", needed(answer, "per_gpu.needed"), share)

        return make

    def verdict(answer: Any, key: Key) -> Explanation:
        high = end("high")(answer, key.at("per_gpu.needed_high"))
        parts = (needed(answer, "per_gpu.needed"), high, limit(answer, "gpu.limit"))
        if key.last == "fits":
            return follows(key.path, key.value, "", "per_gpu.needed <= gpu.limit", parts[0], parts[2])
        words = '"no" if per_gpu.needed > gpu.limit else "tight" if per_gpu.needed_high > gpu.limit else "fits"'
        return follows(key.path, key.value, "", words, *parts)

    return {
        "per_gpu.needed": lambda a, key: needed(a, key.path),
        "per_gpu.needed_low": end("low"),
        "per_gpu.needed_high": end("high"),
        "gpu.limit": lambda a, key: limit(a, key.path),
        "gpu.limit_certainty": lambda a, key: given(key.path, key.value, a.gpu.limit_assumed or "read on such a GPU"),
        "gpu.headroom": lambda a, key: follows(
            key.path, key.value, "B", "gpu.limit - per_gpu.needed", limit(a, "gpu.limit"), needed(a, "per_gpu.needed")
        ),
        "gpu.verdict": verdict,
        "gpu.fits": verdict,
        "solved.*.*": stated('the largest value for which the verdict is not "no" (with --require-sure-fit: is "fits")'),
    }


GPU: dict[str, Make] = {
    "gpu.memory": lambda a, key: gpu_fact(a.gpu, key.path, key.value, "vendor_bytes", "B"),
    "gpu.usable": lambda a, key: usable(a.gpu, key.path),
    "gpu.allocatable": lambda a, key: allocatable(a.gpu, key.path),
    "gpu.tdp": lambda a, key: gpu_fact(a.gpu, key.path, key.value, "tdp", "W"),
}

ALWAYS: dict[str, Make] = {
    "sources.**": stated("the bibliography, memcalc/sources.py"),
    "peak.sources.**": stated("the bibliography, memcalc/sources.py"),
}


# --- suggestions ------------------------------------------------------------------------------------------------------


def suggested(answer: Any, key: Key) -> Explanation:
    """A figure of a changed run: the command of the suggestion explains it."""
    entry = key.document[key.steps[0]]
    if isinstance(entry, list):
        entry = entry[key.number()]
    return given(key.path, key.value, f"the answer of {entry['command']}", "B" if isinstance(key.value, int) else "", ESTIMATE)


CHANGED = stated("what is changed")
SUGGESTED: dict[str, Make] = {
    "suggestions.*.changes.**": CHANGED,
    "suggestions.*.**": suggested,
    "nearest_miss.changes.**": CHANGED,
    "nearest_miss.**": suggested,
}
