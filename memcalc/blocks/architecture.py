"""A model as memcalc sees it: parts, each a few blocks, a stack of layers and a few blocks more.

A stack lists its *distinct* layers once and how they follow each other as runs, so that 126 equal layers cost as much
as one.
"""

from collections.abc import Iterator
from dataclasses import field
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

from memcalc.blocks.block import Block
from memcalc.blocks.ledger import Weight
from memcalc.frozen import NamedTuple, dataclass

if TYPE_CHECKING:  # models of text have none
    from memcalc.blocks.images import ImageRule

Named = tuple[tuple[str, Block], ...]  # blocks under their path names, in the order they run


@dataclass(frozen=True)
class Layer:
    """One distinct layer: its blocks in order. `parallel`: attention and MLP read the same input (GPT-J, Falcon).

    `normalises_sum`: norms after a block take the sum with the residual (BERT, BART, OPT-350M), not what the block returns.
    `source`: it reads the encoder's tokens, of which there are Profile.source for each of the decoder's. `bridge`: no layer at
    all but what stands between encoder and decoder: the encoder's exit, then the decoder's entry. `wiring`: how its blocks are
    joined where they are not residual branches one after the other, a row of memcalc.blocks.wiring.WIRINGS.
    `predicts`: a first block makes its input and a last one its result (memcalc.blocks.predicting). `narrow`: its input is
    what a matrix product made, which autocast leaves in 16 bits.
    """

    blocks: Named
    parallel: bool = False
    normalises_sum: bool = False
    source: bool = False
    bridge: bool = False
    wiring: str = ""
    predicts: bool = False
    narrow: bool = False

    @cached_property
    def streams(self) -> int:
        """Residual streams side by side that it reads and writes."""
        return max((block.streams for _, block in self.blocks), default=1)

    @property
    def hands_on(self) -> bool:
        """Whether later layers may read the keys and values of the last of its kind (Gemma 3n and 4)."""
        return self.wiring in ("gemma3n", "gemma4")

    @cached_property
    def crosses(self) -> bool:
        """Whether it attends to what another stack made, for every sequence."""
        return any(block.traits.cross for _, block in self.blocks) and not self.skipped

    @cached_property
    def skipped(self) -> bool:
        """Whether it reads images alone, so that sequences without any pass it by (modeling_mllama.MllamaTextModel)."""
        return any(block.sees for _, block in self.blocks)

    @cached_property
    def weights(self) -> tuple[Weight, ...]:
        return tuple(named_weights(self.blocks))

    @cached_property
    def parameters(self) -> int:
        return sum(weight.parameters for weight in self.weights)


@dataclass(frozen=True)
class Stack:
    """Layers in order: `runs` holds (index into `layers`, how many follow each other)."""

    layers: tuple[Layer, ...]
    runs: tuple[tuple[int, int], ...]
    path: str = "layers"

    @classmethod
    def uniform(cls, layer: Layer, count: int, path: str = "layers") -> "Stack":
        return cls((layer,), ((0, count),), path)

    @classmethod
    def of(cls, sequence: list[Layer], path: str = "layers") -> "Stack":
        """From one layer object a position; equal layers are kept once."""
        distinct: list[Layer] = []
        for layer in {id(layer): layer for layer in sequence}.values():
            if layer not in distinct:
                distinct.append(layer)
        index = {id(layer): distinct.index(layer) for layer in sequence}
        order = (index[id(layer)] for layer in sequence)
        return cls(tuple(distinct), tuple((kind, len(list(run))) for kind, run in groupby(order)), path)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How often each distinct layer occurs."""
        totals = [0] * len(self.layers)
        for kind, count in self.runs:
            totals[kind] += count
        return tuple(totals)

    @property
    def depth(self) -> int:
        return sum(self.counts)


@dataclass(frozen=True)
class Part:
    """One part of a model (language, vision, encoder, …): `entry` blocks, stacks of layers, `exit` blocks.

    `tokens`: how many it reads of each sequence where that is fixed (Whisper's encoder: 30 seconds of sound). `images`: of a
    vision tower, how it cuts images, where the family's rule is known.
    """

    name: str
    entry: Named = ()
    stacks: tuple[Stack, ...] = ()
    exit: Named = ()
    tokens: int = 0
    images: "ImageRule | None" = None


class CountedWeight(NamedTuple):
    """A weight with its full path and how many copies of it the model holds (one a layer)."""

    part: str
    path: str
    weight: Weight
    copies: int
    layered: bool  # belongs to a layer of a stack, so pipeline parallelism may move it

    @property
    def parameters(self) -> int:
        return self.weight.parameters * self.copies


class StoredAs(NamedTuple):
    """Layers `first` to `stop` - 1 of a tensor are stored as `word` says, a word of `--weights`."""

    first: int
    stop: int
    word: str


class Quantization(NamedTuple):
    """How a checkpoint stores its weights, as its quantization_config says.

    `stored` has the quantised tensors, by full path and whether they are routed experts'; everything else is plain.
    """

    method: str = ""
    stored: tuple[tuple[tuple[str, bool], tuple[StoredAs, ...]], ...] = ()
    kv_format: str = ""  # of the cache, where the checkpoint asks for one
    problem: str = ""  # why the stored sizes are not known
    tied_head: str = ""  # the scheme of the head's own matrix, where the token table is tied and stays as it is


UNQUANTISED = Quantization()


@dataclass(frozen=True, eq=False)
class Architecture:
    """A whole model. Compared by identity: caches keyed by it stay cheap."""

    model_type: str
    parts: tuple[Part, ...]
    hidden: int
    vocabulary: int
    tied: bool
    context: int | None = None
    dtype: str = ""
    name: str = ""
    quantization: Quantization = UNQUANTISED
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    guessed: str = ""  # why it may not be the model that the file means; "" where the family is known
    wide_stream: bool = False  # the residual stream is fp32 whatever the type of the weights (residual_in_fp32)
    local_rotary: bool = False  # layers with a window have a rotary table of their own (Gemma 3)
    mixture_rules: str = ""  # llama.cpp's rules for the types of a mixture's tensors: "falcon", "llama" (its 70B) or none
    held: int = 0  # parameters that the files beside it hold, where these are not its own
    as_stored: bool = False  # made of the tensors of a GGUF file: known as llama.cpp loads it, and in no other form
    rotary_stretch: tuple[float, ...] = (1.0,)  # rows of engines' tables of cosines, in contexts: of full, of sliding layers

    @cached_property
    def weights(self) -> tuple[CountedWeight, ...]:
        return tuple(_counted(self))

    @cached_property
    def parameters(self) -> int:
        return sum(counted.parameters for counted in self.weights)

    @property
    def total(self) -> int:
        """Its parameters, by the files beside it where these say otherwise."""
        return self.held or self.parameters

    @cached_property
    def active_parameters(self) -> int:
        """Parameters a token passes through: of the routed experts only top_k of n, all else whole."""
        idle = 0
        for part in self.parts:
            for stack in part.stacks:
                for layer, count in zip(stack.layers, stack.counts, strict=True):
                    idle += count * sum(block.traits.idle_parameters for _, block in layer.blocks)
        return self.total - idle

    @cached_property
    def embedding_parameters(self) -> int:
        """Input embedding, learned positions and the head's matrix where it is its own."""
        return self._role("embedding") + self._role("position") + self.head_parameters

    @cached_property
    def predicted(self) -> int:
        """The vocabulary that it predicts tokens from, 0 for a model without a language-model head."""
        from memcalc.blocks.head import Head

        heads = (block for part in self.parts for _, block in part.exit if isinstance(block, Head))
        return next((head.vocabulary for head in heads), 0)

    @cached_property
    def head_parameters(self) -> int:
        """The head's own vocabulary matrix (0 when tied; its bias is not counted here)."""
        return sum(c.parameters for c in self.weights if c.weight.role == "head" and self.vocabulary in c.weight.shape[:-1])

    @cached_property
    def routed_expert_parameters(self) -> int:
        return sum(c.parameters for c in self.weights if c.weight.routed)

    def _role(self, role: str) -> int:
        return sum(c.parameters for c in self.weights if c.weight.role == role)

    def by_role(self, part: str | None = None) -> dict[str, int]:
        """Parameters by role, over the whole model or one part, largest concepts first as in ROLES."""
        from memcalc.blocks.ledger import ROLES

        totals = dict.fromkeys(ROLES, 0)
        for counted in self.weights:
            if part in (None, counted.part):
                totals[counted.weight.role] += counted.parameters
        return {role: count for role, count in totals.items() if count}

    def layers_by_run(self) -> dict[str, list[tuple[int, int]]]:
        """Per stack: (parameters of a layer, how many such layers follow each other)."""
        out = {}
        for part in self.parts:
            for stack in part.stacks:
                runs = ((stack.layers[kind].parameters, count) for kind, count in stack.runs)
                merged = [(size, sum(n for _, n in group)) for size, group in groupby(runs, key=lambda run: run[0])]
                out[f"{part.name}/{stack.path}"] = merged
        return out


def named_weights(blocks: Named) -> Iterator[Weight]:
    for path, block in blocks:
        for weight in block.weights():
            yield weight._replace(path=f"{path}/{weight.path}")


def _counted(architecture: Architecture) -> Iterator[CountedWeight]:
    for part in architecture.parts:
        for weight in named_weights(part.entry):
            yield CountedWeight(part.name, weight.path, weight, 1, layered=False)
        for stack in part.stacks:
            for layer, count in zip(stack.layers, stack.counts, strict=True):
                for weight in layer.weights:
                    yield CountedWeight(part.name, f"{stack.path}/{weight.path}", weight, count, layered=True)
        for weight in named_weights(part.exit):
            yield CountedWeight(part.name, weight.path, weight, 1, layered=False)


def prediction_layers_of(architecture: Architecture) -> int:
    """How many prediction layers stand behind a model's own."""
    return sum(
        count for part in architecture.parts for stack in part.stacks
        for layer, count in zip(stack.layers, stack.counts, strict=True) if layer.predicts
    )  # fmt: skip
