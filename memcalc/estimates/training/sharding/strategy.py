"""What a sharding strategy answers: how model states are cut, where they live, what is gathered and reduced around a layer.

A new strategy is one more file beside this one, and a line in `strategy_of`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from memcalc.blocks.ledger import Shape
from memcalc.estimates.lines import Line, line
from memcalc.estimates.placement import Tensors
from memcalc.formulas import model_states
from memcalc.formulas.engines import DEEPSPEED
from memcalc.frozen import NamedTuple
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

GATHERED, REDUCING = "gathered parameters", "gradients being reduced"


class Cut(NamedTuple):
    """One rank's share of some tensors: a formula, and its inputs but for the bytes of an element."""

    formula: Callable[..., int]
    inputs: dict[str, int]

    def line(self, component: str, name: str, phase: str, place: str, bytes_each: int) -> Line:
        return line(component, name, phase, self.formula, place, bytes_each=bytes_each, **self.inputs)


Cutter = Callable[[Tensors, int], Cut]  # tensors, over how many ranks


def whole(held: Tensors, shards: int) -> Cut:
    """Every rank keeps all."""
    return Cut(model_states.whole_bytes, {"elements": held.elements()})


def by_rows(held: Tensors, shards: int) -> Cut:
    """Every tensor is cut along its first dimension (FSDP2)."""
    return Cut(model_states.fsdp_shard_bytes, {"sharded_elements": held.elements("rows", shards)})


def by_elements(held: Tensors, shards: int) -> Cut:
    """Every tensor is flattened and cut (ZeRO 3's parameters)."""
    return Cut(model_states.zero3_partition_bytes, {"partitioned_elements": held.elements("flat", shards)})


def flat(held: Tensors, shards: int) -> Cut:
    """All tensors are one flat buffer, which is cut (ZeRO)."""
    inputs = {"elements": held.elements(), "shards": shards, "alignment": DEEPSPEED.alignment}
    return Cut(model_states.zero_partition_bytes, inputs)


class Places(NamedTuple):
    """Where model states live between their uses: "gpu", "host" or "nvme"."""

    parameters: str
    gradients: str
    optimizer: str


class Around(NamedTuple):
    """What happens to parameters and gradients around a layer. Bytes are of one element."""

    gathers: bool = False  # parameters are gathered layer by layer, and dropped again
    keeps: bool = False  # gathered in the forward, kept until the backward is done
    reduces: bool = False  # gradients leave layer by layer, cut to shards
    each: int = 2  # of a gathered parameter and of its gradient before it is reduced
    reduced_each: int = 4  # in the reduce-scatter's buffer and in the stored shard
    shards: int = 1
    away: bool = False  # reduced gradients go to host memory
    prefetches: bool = True  # the next layer's parameters arrive during the backward of one
    live: int | None = None  # elements up to which parameters of later modules are fetched; None: a layer at a time
    root_waits: bool = False  # gradients of all that stands outside of layers leave together, when the backward is over

    def gathered(self, root: int, layer: int = 0, layers: int = 1) -> Line:
        """Whole parameters at one moment: those outside layers, and of so many layers so many elements each."""
        return line("communication", GATHERED, "forward and backward", model_states.gathered_bytes,
                    root=root, layer=layer, layers=layers, bytes_each=self.each)  # fmt: skip

    def fetched(self, needed: int, remaining: int) -> Line:
        """The same where later modules' parameters are fetched: so many elements are in use, so many are to come."""
        return line("communication", GATHERED, "forward and backward", model_states.fetched_bytes,
                    needed=needed, live=self.live or 0, remaining=remaining, bytes_each=self.each)  # fmt: skip

    def reducing(self, gradient: int) -> Line:
        """A layer's whole gradient [B] on its way into shards."""
        return line("communication", REDUCING, "backward", model_states.reduce_scatter_bytes,
                    gradient=gradient, bytes_each=self.each, reduced_each=self.reduced_each)  # fmt: skip

    def gradients(self, name: str, gradient: int, layers: int) -> Line:
        """What stays of so many layers' gradients [B each] once they have been through here."""
        if not self.reduces:
            return line("gradients", name, "backward", model_states.layer_gradient_bytes, gradient=gradient, layers=layers)
        return line("gradients", name, "backward", model_states.reduced_gradient_bytes, "host" if self.away else "gpu",
                    gradient=gradient, bytes_each=self.each, reduced_each=self.reduced_each, shards=self.shards,
                    layers=layers)  # fmt: skip


class Strategy(Protocol):
    """How the data-parallel ranks of a run share its model states."""

    def __hash__(self) -> int: ...

    @property
    def fp32_shards(self) -> bool:
        """Under mixed precision the shards themselves are the fp32 master copy."""
        ...

    @property
    def wraps_layers(self) -> bool:
        """Layers are modules of the library's own, which hold on to what passes through them."""
        ...

    @property
    def cuts_parameters(self) -> bool: ...

    @property
    def cuts_optimizer(self) -> bool: ...

    @property
    def cutters(self) -> tuple[Cutter, Cutter, Cutter]:
        """Of parameters, of gradients, of master weights and optimizer states."""
        ...

    def ranks(self, p: Parallelism) -> tuple[int, int]:
        """Over how many ranks dense tensors are shared, and routed experts."""
        ...

    def places(self, run: Training) -> Places: ...

    def state_shapes(self, held: Tensors, shards: int) -> Iterator[tuple[Shape, str, int]]:
        """What a rank's optimizer sees of some tensors: (shape, role, how many of them)."""
        ...

    def updated(self, held: Tensors, shards: int) -> int:
        """Elements that one rank's optimizer updates."""
        ...

    def buckets(self, run: Training, shards: int, trained: int, each: int) -> tuple[Line, ...]:
        """Buffers that stand as long as the run does; `trained` elements, `each` bytes of a gradient's."""
        ...

    @property
    def gradients_stand(self) -> bool:
        """Gradients have a buffer that stands as long as the run does."""
        ...

    def step_copies(self, run: Training, parts: Sequence[tuple[Tensors, int]], each: int, master: int) -> tuple[Line, ...]:
        """Copies of gradients that the step makes; `parts`: what is trained, over how many ranks; bytes of an element of a
        gradient and of a master weight."""
        ...

    def around_layer(self, run: Training, shards: int, compute: int, gradient: int) -> Around:
        """Bytes are of an element in the compute format and of a gradient."""
        ...

    def unknown_layers(self, around: Around, elements: int) -> tuple[Line, ...]:
        """What is gathered at most of a model that is nothing but so many elements."""
        ...


def offloaded(run: Training) -> str:
    """Where what is offloaded goes."""
    return "nvme" if run.offload_to == "nvme" else "host"


def tensor_shapes(held: Tensors, shards: int) -> Iterator[tuple[Shape, str, int]]:
    """Each tensor, cut along its first dimension."""
    return ((_cut(entry.shape, shards), entry.role, entry.copies) for entry in held.held)


def _cut(shape: Shape, shards: int) -> Shape:
    """A shard of a tensor; of a scalar every rank has the whole."""
    return (-(-shape[0] // shards), *shape[1:]) if shape else shape
