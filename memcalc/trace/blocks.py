"""Which of memcalc's blocks a traced tensor belongs to.

A layer's modules are paired with the blocks of memcalc's layer in the order in which both run, norms with norms and the others
with the others, so no table of names is needed. Dropouts, and what is left of an MLP that a layer calls itself, stay with the
block before.
"""

from collections.abc import Sequence

from memcalc.blocks.architecture import Architecture, Layer, Named
from memcalc.blocks.norm import Norm
from memcalc.trace.allocations import Allocation
from memcalc.trace.model import Child
from memcalc.trace.step import BATCH, Traced

EMBEDDING, HEAD, TABLES = "embedding", "head and loss", "rotary tables and masks"
INPUT, RESULT = "input", "result of the layers"


def by_block(traced: Traced, architecture: Architecture) -> dict[str, int]:
    """Bytes that the forward leaves, by block; the sum is all that it leaves."""
    paired = {index: pair(traced.children.get(index, ()), layer.blocks) for index, layer in enumerate(_layers(architecture))}
    norms = [name for name, block in architecture.parts[0].exit if isinstance(block, Norm)]
    out: dict[str, int] = {}
    for kept in traced.kept:
        name = _block(kept, traced, paired, norms)
        out[name] = out.get(name, 0) + kept.bytes
    return out


def pair(children: Sequence[Child], blocks: Named) -> dict[str, str]:
    """A layer's modules → names of memcalc's blocks."""
    waiting = {norm: [name for name, block in blocks if isinstance(block, Norm) == norm] for norm in (True, False)}
    out: dict[str, str] = {}
    current = INPUT
    for child in children:
        if (child.norm or child.weights) and waiting[child.norm]:
            current = waiting[child.norm].pop(0)
        out[child.name] = current
    return out


def _layers(architecture: Architecture) -> list[Layer]:
    stacks = architecture.parts[0].stacks
    return [stack.layers[kind] for stack in stacks for kind, count in stack.runs for _ in range(count)]


def _block(kept: Allocation, traced: Traced, paired: dict[int, dict[str, str]], norms: list[str]) -> str:
    module, stack = kept.module, traced.layers
    if module == stack:
        return RESULT
    if module.startswith(f"{stack}."):
        index, _, inside = module.removeprefix(f"{stack}.").partition(".")
        return f"layers/{paired[int(index)].get(inside.partition('.')[0], INPUT)}"
    after = next((child for child in traced.exit if child.name == module), None)
    if after and after.norm and norms:
        return norms[0]
    if after or not module:
        return HEAD
    looked_up = kept.dtype == "int64"  # token and position ids
    return EMBEDDING if looked_up or module == BATCH or module in traced.entry else TABLES
