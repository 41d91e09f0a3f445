"""Every key of `inspect`: weights tensor by tensor, of the architecture and of the files."""

from collections.abc import Sequence

from memcalc.blocks.architecture import Architecture, CountedWeight, Stack
from memcalc.blocks.stored import StoredTensor, StoredTensors
from memcalc.dtypes import number_format
from memcalc.estimates.explanation import Explanation, follows, given, of_formula, of_line, summed, tensor_parameters
from memcalc.estimates.serving.footprint import footprint
from memcalc.formulas.model_states import block_format_bytes
from memcalc.report.stored import groups
from memcalc.sizing.explaining.keys import Key, Table
from memcalc.sizing.explaining.shared import ALWAYS, model_key, origin, parameters
from memcalc.sizing.inspecting import Inspected


def architecture_of(a: Inspected) -> Architecture:
    found = a.model.architecture
    assert found
    return found


# --- the architecture -------------------------------------------------------------------------------------------------


def role(a: Inspected, key: Key) -> Explanation:
    """Parameters of one role in one part."""
    part, name = key.stars

    def chosen(entry: CountedWeight) -> bool:
        return (entry.part, entry.weight.role) == (part, name)

    return parameters(architecture_of(a), key.path, chosen)._replace(source=origin(a.model))


def layers(a: Inspected, key: Key) -> Explanation:
    """Parameters of equal layers that follow each other, and how many these are."""
    if key.last == "count":
        return given(key.path, key.value, f"layers that follow each other in {origin(a.model)}", "layers")
    name = key.stars[0]
    stacks = {f"{part.name}/{stack.path}": stack for part in architecture_of(a).parts for stack in part.stacks}
    stack: Stack = stacks[name]
    layer = next(layer for layer in stack.layers if layer.parameters == key.value)
    parts = [tensor_parameters(weight.path, weight.shape, weight.tensors, 1) for weight in layer.weights]
    return summed(key.path, parts, "parameters")


def in_format(a: Inspected, key: Key) -> Explanation:
    """All parameters in a number format."""
    architecture, row = architecture_of(a), number_format(key.last)
    made = of_formula(key.path, "B", block_format_bytes, parameters(architecture, "elements"), elements=architecture.parameters,
                      block=row.block_size, bytes_per_block=row.block_bytes)  # fmt: skip
    return made._replace(source=f"memcalc formats {row.name}")


def checkpoint(a: Inspected, key: Key) -> Explanation:
    """Weights as the checkpoint stores them: of the files where they are at hand, else as its config says."""
    if a.model.stored:
        return tensors(key.path, a.model.stored.tensors, "bytes", "B")
    return summed(key.path, [of_line(entry) for entry in footprint(architecture_of(a)).checkpoint])


def cache(a: Inspected, key: Key) -> Explanation:
    """What one token or one sequence keeps."""
    takes, context = footprint(architecture_of(a)), architecture_of(a).context
    groups_of = {
        "per_token": (*takes.growing, *takes.windowed), "per_token_windowed": takes.windowed,
        "per_source_token": takes.source, "per_sequence": takes.per_sequence,
    }  # fmt: skip
    if key.last == "window":
        return given(key.path, key.value, f"the largest window, as {origin(a.model)} says", "tokens")
    if key.last != "at_context":
        return summed(key.path, [of_line(entry) for entry in groups_of[key.last]])
    parts = [cache(a, key.at(f"cache.{name}")) for name in ("per_token", "per_token_windowed", "per_sequence")]
    formula = ("(cache.per_token - cache.per_token_windowed) * context + cache.per_token_windowed * min(context, window)"
               " + cache.per_sequence")  # fmt: skip
    return follows(key.path, key.value, "B", formula, *parts, inputs={"context": context, "window": takes.window or 0})


def block(a: Inspected, key: Key) -> Explanation:
    """A fact of a block, as its config says."""
    path = key.document["blocks"][key.number()]["path"]
    return given(key.path, key.value, f"of {path}, as {origin(a.model)} says")


# --- weight files -----------------------------------------------------------------------------------------------------


def stored_of(a: Inspected) -> StoredTensors:
    found = a.model.stored
    assert found
    return found


def tensors(path: str, chosen: Sequence[StoredTensor], quantity: str, unit: str) -> Explanation:
    """A sum over stored tensors; those that differ only in the numbers in their names count together."""
    parts = [
        Explanation(group["name"], group[quantity], unit, "", {"shape": group["shape"], "format": group["format"],
                                                               "tensors": group["count"]})
        for group in groups(chosen)
    ]  # fmt: skip
    return summed(path, parts, unit, why="read in the headers of the files")


def of_files(a: Inspected, key: Key) -> Explanation:
    """stored.*: bytes, parameters and numbers of tensors."""
    stored = stored_of(a)
    if key.last == "bits_per_parameter":
        sizes = tensors("stored.bytes", stored.tensors, "bytes", "B")
        counts = tensors("stored.parameters", stored.tensors, "parameters", "parameters")
        return follows(key.path, key.value, "bits", "8 * stored.bytes / stored.parameters", sizes, counts)
    if key.last == "tensors":
        return tensors(key.path, stored.tensors, "count", "tensors")
    return tensors(key.path, stored.tensors, key.last, {"bytes": "B"}.get(key.last, key.last))


def of_format(a: Inspected, key: Key) -> Explanation:
    chosen = [tensor for tensor in stored_of(a).tensors if tensor.format == key.stars[0]]
    if sum(tensor.bytes for tensor in chosen) != key.value:
        chosen = [t for t in stored_of(a).tensors if number_format(t.format).name == key.stars[0]]
    return tensors(key.path, chosen, "bytes", "B")


def of_role(a: Inspected, key: Key) -> Explanation:
    chosen = stored_of(a).by_role[key.stars[0]]
    quantity, unit = {"tensors": ("count", "tensors"), "bytes": ("bytes", "B")}.get(key.last, (key.last, key.last))
    return tensors(key.path, chosen, quantity, unit)


def group(a: Inspected, key: Key) -> Explanation:
    found = groups(stored_of(a).tensors)[key.number()]
    unit = {"bytes": "B", "parameters": "parameters"}.get(key.last, "")
    return given(key.path, key.value, f"{found['count']} × {found['name']}, read in the headers of the files", unit)


ROWS: Table = {
    "model.*": lambda a, key: model_key(a.model, key),
    "roles.*.*": role,
    "layers.*.*.*": layers,
    "formats.*": in_format,
    "checkpoint.bytes": checkpoint,
    "cache.*": cache,
    "blocks.*.**": block,
    "stored.bytes_by_format.*": of_format,
    "stored.roles.*.*": of_role,
    "stored.groups.*.**": group,
    "stored.*": of_files,
    **ALWAYS,
}
