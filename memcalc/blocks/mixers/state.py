"""What a recurrent mixer keeps for each sequence while it generates: a fixed state, however long the context.

Two tensors a layer: the last inputs of its causal convolution and the recurrence's own state. They are described like
weights, so tensor parallelism cuts them the same way.
"""

from memcalc.blocks.ledger import Shape, Split, Weight
from memcalc.frozen import NamedTuple

Sections = tuple[tuple[int, int], ...]  # (indivisible pieces, width of each), as in ledger.Split


class StateTensor(NamedTuple):
    """One tensor of the state of one sequence. `dtype` "" means that of the activations."""

    path: str
    shape: Shape
    split: Split
    dtype: str = ""
    convolution: bool = False  # the last inputs of a causal convolution, [channels, columns]; else the recurrence's own

    def local_shape(self, tensor: int = 1) -> Shape:
        """The shape on one of `tensor` tensor-parallel ranks.

        >>> StateTensor("recurrent", (48, 128, 128), Split(0, ((48, 1),)), "float32").local_shape(8)
        (6, 128, 128)
        """
        shape = list(self.shape)
        shape[self.split.dim] = self.split.local(tensor)
        return tuple(shape)


def length(sections: Sections) -> int:
    """The size of a dimension that comes in these sections."""
    return sum(units * width for units, width in sections)


def convolution_state(columns: int, sections: Sections) -> StateTensor:
    """The last `columns` inputs of a causal depthwise convolution, [channels, columns].

    transformers keeps as many columns as the kernel is wide; vLLM and mamba_ssm one fewer, which is all it takes.
    """
    return StateTensor("convolution", (length(sections), columns), Split(0, sections), convolution=True)


def depthwise(path: str, role: str, kernel: int, sections: Sections, *, bias: bool) -> tuple[Weight, ...]:
    """The weight (and bias) of a causal depthwise convolution: [channels, 1, kernel]."""
    channels, split = length(sections), Split(0, sections)
    weight = Weight(path, role, (channels, 1, kernel), split)
    return (weight, Weight(f"{path}.bias", role, (channels,), split)) if bias else (weight,)
