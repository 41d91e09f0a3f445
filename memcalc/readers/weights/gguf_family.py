"""Which of two readings of a GGUF file to take: as a model of a known family, or as the tensors that it holds.

A family's blocks say what is computed, so they are taken where they hold what the file holds and keep what llama.cpp keeps.
"""

from collections import Counter
from math import prod

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.stored import PREDICTION, StoredTensors
from memcalc.errors import MemcalcError
from memcalc.readers.hf import read_config
from memcalc.readers.weights.gguf_config import ROWS, config_values
from memcalc.readers.weights.gguf_layers import architecture_of


def gguf_architecture(stored: StoredTensors, place: str) -> Architecture:
    """The architecture of a GGUF file. An InputError names the key or the tensor that contradicts another."""
    made = architecture_of(stored, place)
    family = _family(stored, place)
    return family if family is not None and agree(family, made, stored) else made


def _family(stored: StoredTensors, place: str) -> Architecture | None:
    """The same as Hugging Face's model, where there is one and its reader knows these keys."""
    if stored.metadata.get("general.architecture") not in ROWS:
        return None
    try:
        return read_config(config_values(stored, place), place, translated=True)
    except MemcalcError:
        return None


def agree(family: Architecture, made: Architecture, stored: StoredTensors) -> bool:
    """Whether the family holds as many weights and keeps the same caches and states.

    A router's correction is a buffer in most families, a frozen parameter in some (ERNIE 4.5).
    """
    tensors = (t for t in stored.tensors if not t.parameters and "exp_probs_b" in t.name and t.part != PREDICTION)
    corrections = sum(prod(tensor.shape) for tensor in tensors)
    return family.parameters - made.parameters in (0, corrections) and memory_of(family) == memory_of(made)


def memory_of(architecture: Architecture) -> Counter[tuple[object, ...]]:
    """How many layers keep how much: elements a token and their window, elements of a state."""
    found: Counter[tuple[object, ...]] = Counter()
    for part in architecture.parts:
        for stack in part.stacks:
            for layer, layers in zip(stack.layers, stack.counts, strict=True):
                for _, block in layer.blocks:
                    for cache in block.cache():
                        found["cache", cache.local_width(1), cache.window, cache.per_token, cache.every] += layers
                    for state in block.state():
                        found["state", state.shape if state.convolution else prod(state.shape)] += layers
    return found
