"""Lines of an estimate in words: activations/layers/mlp is "MLP of 32 layers", dense/master weights "fp32 master weights"."""

import re
from collections.abc import Iterable

from memcalc.estimates.lines import Line
from memcalc.frozen import NamedTuple
from memcalc.units import counted

# What blocks and roles are called where their names are not yet words.
NAMES = {
    "mlp": "MLP", "norm": "norms", "input_norm": "norm before attention", "post_attention_norm": "norm after attention",
    "pre_mlp_norm": "norm before the MLP", "post_mlp_norm": "norm after the MLP", "final_norm": "last norm",
    "cross_attention": "cross-attention", "cross_attention_norm": "norm before cross-attention",
    "state_space": "state space", "state-space": "state space", "linear_attention": "linear attention",
    "linear-attention": "linear attention", "position": "position embeddings", "head": "output head",
    "embedding_norm": "norm of the embedding", "head_transform": "head's transform", "head_norm": "head's norm",
    "final_dropout": "last dropout", "convolution1": "first convolution", "convolution2": "second convolution",
    "input": "inputs", "other": "other weights", "adapters": "adapters", "bridge": "encoder's result",
    "dense": "all but routed experts", "experts": "routed experts", "frozen": "frozen weights",
    "shared projections": "shared frozen projections", "copies": "trained copies", "norm copies": "trained copies of norms",
    "upcast": "frozen weights in fp32", "nf4": "frozen 4-bit matrices",
    "quantised": "frozen quantised matrices",
    "rule of thumb": "rule of thumb", "layers": "layers", "logits": "logits", "keys and values": "keys and values",
    "latent": "latent keys and values", "recurrent": "recurrent state", "convolution": "convolution columns",
}  # fmt: skip
MOMENTS = ("head in its backward", "layer in its backward", "embedding in its backward")
LAYERS = "layers"
MASK = re.compile(r"\w+ (?:input|weight) mask$")  # of a fake quantiser, one a matrix
MASKS = "masks of the fake quantiser"


class Titled(NamedTuple):
    """Equal lines in words, added up."""

    title: str
    bytes: int


def parts(lines: Iterable[Line], *, experts: bool) -> list[Titled]:
    """The lines of a component in words, those of one path together; `experts`: whether routed experts stand apart."""
    by_path: dict[str, list[Line]] = {}
    for entry in lines:
        by_path.setdefault(MASK.sub(MASKS, entry.name), []).append(entry)
    return [Titled(_title(name, same, experts), sum(entry.bytes for entry in same)) for name, same in by_path.items()]


def _title(name: str, same: list[Line], experts: bool) -> str:
    """The words for lines of one name.

    >>> word("mlp"), word("rotary table, 128 wide"), word("attention, fp8, scales")
    ('MLP', 'rotary table, 128 wide', 'attention, fp8, scales')
    """
    head, _, rest = name.partition("/")
    if head == LAYERS and rest:
        count = sum(int(entry.inputs.get("layers", 0)) for entry in same if entry.name == same[0].name)
        return f"{word(rest)} of {counted(count, 'layer')}" if count else word(rest)
    if head in ("dense", "experts") and rest:
        return _state(rest, same[0]) + (" of routed experts" if head == "experts" else "")
    if head == "dense" and not experts:
        return "weights"
    if head in MOMENTS and rest:
        return f"{word(rest)} ({head})"
    return ", ".join(word(part) for part in name.split("/"))


def _state(name: str, entry: Line) -> str:
    """An optimizer's state, or one kind of parameters."""
    if name == "master weights":
        return f"fp{8 * int(entry.inputs.get('bytes_each', 4))} master weights"
    if name == "moving average":
        return name
    if entry.component == "optimizer_states":
        return f"states of {name.replace('/', ', ')}"
    return word(name)


def word(name: str) -> str:
    """A name in words; what follows its first comma or colon stays."""
    if ": " in name:  # a second model's
        whose, _, name = name.partition(": ")
        return f"{whose}: {word(name)}"
    first, comma, rest = name.partition(", ")
    return NAMES.get(first, first.replace("_", " ")) + comma + rest
