"""Weights exactly as a file holds them: each tensor's bytes, on the rank that loads it."""

from collections.abc import Iterator
from math import prod

from memcalc.blocks.stored import LANGUAGE, PREDICTION, StoredTensor, StoredTensors
from memcalc.caches import cached
from memcalc.dtypes import number_format
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Stage
from memcalc.formulas.serving import file_bytes

LAST = ("head", "norm")  # roles outside layers that stand on the last stage
# What llama.cpp looks up in host memory (src/llama-arch.cpp, LLM_TENSOR_LAYER_INPUT); all else outside layers goes to a GPU.
INPUTS = ("token_embd.weight", "position_embd.weight", "token_types.weight", "per_layer_token_embd.weight",
          "masked_embd_centroids.weight", "masked_embd_ordering.weight")  # fmt: skip


@cached(256)
def file_lines(stored: StoredTensors, stage: Stage, host_embedding: bool, tied: bool) -> tuple[Line, ...]:
    """One line for each role and number format. Tensor and expert parallelism hold of a role what they hold of its weights.

    Tensors of prediction layers (MTP) are not loaded without speculation. With `host_embedding`, token tables stay in host
    memory and a `tied` one is on the GPU too, for the head.
    """
    totals: dict[tuple[str, str, str], int] = {}
    for tensor, place in placed(stored, stage, host_embedding, tied):
        key = (place, tensor.role, tensor.format)
        totals[key] = totals.get(key, 0) + tensor.bytes
    shares = _shares(stage)
    return tuple(
        line("weights", f"{role}, {number_format(form).name}", "always", file_bytes, place, stored=size,
             held=shares.get(role, (1, 1))[0], whole=shares.get(role, (1, 1))[1]).within(role)
        for (place, role, form), size in totals.items()
    )  # fmt: skip


def placed(stored: StoredTensors, stage: Stage, host_embedding: bool, tied: bool) -> Iterator[tuple[StoredTensor, str]]:
    """The tensors of a stage, each with where it is."""
    tied = tied and not any(tensor.role == "head" and len(tensor.shape) > 1 for tensor in stored.tensors)
    first, stop, start = stage.before, stage.before + stage.layers, stage.index == 0
    for tensor in stored.tensors:
        if tensor.part == PREDICTION:
            continue
        table = tensor.part == LANGUAGE and tensor.role == "embedding"
        looked_up = table or (stored.kind == "gguf" and tensor.name in INPUTS)
        if tensor.part == LANGUAGE and tensor.layer is not None:
            here = first <= tensor.layer < stop
        elif tensor.part == LANGUAGE and (tensor.role in LAST or (stored.kind == "gguf" and not looked_up)):
            here = stage.last
        else:  # llama.cpp keeps towers on the first GPU: whoever gives them says which that is
            here = start or (tensor.part != LANGUAGE and host_embedding)
        if here:
            yield tensor, "host" if looked_up and host_embedding else "gpu"
        if table and tied and stage.last and (host_embedding or not start):
            yield tensor._replace(role="head"), "gpu"


def _shares(stage: Stage) -> dict[str, tuple[int, int]]:
    """By role: elements that the stage's rank holds, and those of its tensors undivided."""
    shares: dict[str, tuple[int, int]] = {}
    for held in stage.held:
        if held.weight is None:
            continue
        mine, whole = shares.get(held.role, (0, 0))
        tensors = held.copies * prod(held.weight.shape)
        shares[held.role] = mine + held.elements, whole + tensors
    return shares
