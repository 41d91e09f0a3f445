"""What a checkpoint's tensors say against its config: they are believed, with a warning that names them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import prod

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import LANGUAGE, PREDICTION, StoredTensor, StoredTensors
from memcalc.errors import one_line

NAMED = 3  # tensors that a warning names


def reconciled(architecture: Architecture, stored: StoredTensors) -> Architecture:
    """The architecture, with a warning where the files hold more or fewer weights than it describes."""
    warnings, held = stored.warnings, 0
    if stored.parameters is not None and stored.tensors and not _matches(architecture, stored):
        own = [tensor for tensor in stored.tensors if not _beside(tensor, architecture)]
        held = sum(tensor.parameters or 0 for tensor in own)
        extra = held - architecture.parameters
        which = "; ".join(_differences(architecture, own))
        what = f"{abs(extra):,} {'more' if extra > 0 else 'fewer'} than its architecture describes"
        warnings += (f"the weight files hold {held:,} weights, {what} ({which})",)
    if not warnings:
        return architecture
    return replace(architecture, held=held, warnings=(*architecture.warnings, *warnings))


def _matches(architecture: Architecture, stored: StoredTensors) -> bool:
    """The router's correction is a buffer in most families, a frozen parameter in some (ERNIE 4.5)."""
    held = sum(tensor.parameters or 0 for tensor in stored.tensors if not _beside(tensor, architecture))
    corrections = sum(prod(tensor.shape) for tensor in stored.tensors if not tensor.parameters and "exp_probs_b" in tensor.name)
    return architecture.parameters - held in (0, corrections)


def _beside(tensor: StoredTensor, architecture: Architecture) -> bool:
    """Whether a tensor is none of the architecture's: of prediction layers, or a copy of a tied head."""
    depths = [stack.depth for part in architecture.parts if part.name == LANGUAGE for stack in part.stacks]
    predicts = tensor.part == LANGUAGE and tensor.layer is not None and bool(depths) and tensor.layer >= max(depths)
    tied = architecture.tied and tensor.role == "head" and len(tensor.shape) == 2
    return tensor.part == PREDICTION or predicts or tied


def _differences(architecture: Architecture, tensors: list[StoredTensor]) -> Iterator[str]:
    """Role by role, with the tensors of shapes that no weight of it has."""
    described = architecture.by_role()
    held: Counter[str] = Counter()
    for tensor in tensors:
        held[tensor.role] += tensor.parameters or 0
    shapes = {(weight.weight.role, weight.weight.shape) for weight in architecture.weights}
    for role in {**described, **held}:
        extra = held[role] - described.get(role, 0)
        if extra:
            mine = [tensor for tensor in tensors if tensor.role == role]
            odd = [tensor for tensor in mine if (role, tensor.shape) not in shapes] or mine
            named = ", ".join(one_line(tensor.name, 80) for tensor in odd[:NAMED]) + (", …" if len(odd) > NAMED else "")
            yield f"{role} {extra:+,}" + (f": {named}" if named else "")
