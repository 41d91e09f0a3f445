"""The JSON contract of what is held: components, lines, moments, the GPU and its verdict."""

from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from memcalc.frozen import NamedTuple


class Means(NamedTuple):
    """What a key holds; it becomes the key's description in `memcalc schema`."""

    text: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "description": self.text}


class PerGpu(TypedDict, total=False):
    """Bytes on the heaviest rank. Components need not be alive together: what the peak consists of stands in `peak`."""

    parameters: Annotated[int, Means("As stored: a rank's shards where they are cut; gathered ones are communication")]
    gradients: Annotated[int, Means("Of a whole step, as stored when the optimizer steps")]
    optimizer_states: Annotated[int, Means("Master weights included")]
    activations: Annotated[int, Means("Training: what the forward leaves for the backward; serving: of the forward")]
    communication: Annotated[
        int,
        Means("Buckets and gathered parameters of the sharding strategy and of context parallelism, each at its largest; "
              "gradients on their way into shards are in `moments` alone"),
    ]  # fmt: skip
    overhead: Annotated[int, Means("Context, communicator and the workspace of matrix products: all beside the peak")]
    steady: Annotated[int, Means("Parameters and optimizer states: what is alive throughout")]
    after_forward: Annotated[int, Means("Allocated when the forward is over")]
    peak_forward_backward: Annotated[int, Means("The highest moment but the optimizer's step")]
    peak_optimizer_step: Annotated[int, Means("Allocated at the optimizer's step")]
    peak: Annotated[int, Means("The highest moment: the sum of `peak.lines`")]
    peak_moment: Annotated[str, Means("Its name in `moments`")]
    reserved: Annotated[int, Means("Peak and workspace in the allocator's segments")]
    device: Annotated[int, Means("What nvidia-smi shows: reserved, context and communicator")]
    needed: Annotated[
        int,
        Means("What the step, or these requests, need on a GPU: training: `device`; serving: without what a pool holds beside"),
    ]
    needed_low: int
    needed_high: Annotated[int, Means("The end of the range that published readings support")]
    reserved_low: int
    reserved_high: int
    device_low: int
    device_high: int
    low: Annotated[int, Means("Where measured runs lie: of the peak")]
    high: int
    weights: int
    kv_cache: int
    kv_cache_per_token: int
    kv_cache_reserved: int
    state: int


class Capacity(TypedDict, total=False):
    kv_tokens: int | None
    kv_cache_memory: int
    limit: str
    max_concurrency: float | None
    max_batch: int | None
    max_context: int | None
    starts: Annotated[bool, Means("Whether it holds one request at least")]
    waiting: Annotated[int, Means("Of the requests asked for, those that do not fit at once")]


class Gpu(TypedDict, total=False):
    name: str
    memory: Annotated[int, Means("As sold; vendors round either way, so that `usable` may be larger")]
    usable: Annotated[int, Means("As the driver reports it: nvidia-smi's total")]
    allocatable: Annotated[int, Means("What engines find and take their share of: cudaMemGetInfo's total")]
    limit: Annotated[int, Means("Bytes that the process can get: allocatable, less --reserved, a system's part of unified "
                                "memory, and what an engine's share leaves out")]  # fmt: skip
    limit_certainty: Literal["exact", "estimate", "assumed"]
    verdict: Annotated[Literal["no", "tight", "fits"], Means("needed > limit: no; needed_high > limit: tight; else fits")]
    fits: Annotated[bool, Means("Whether the verdict is not `no`")]
    headroom: Annotated[int, Means("limit − needed")]


class PartDocument(TypedDict):
    """One tensor of a line, `copies` times; bytes are of one copy, an average where parallelism leaves fractions. The shape is
    empty where only the bytes are known."""

    name: str
    shape: list[int]
    itemsize: int
    bytes: float
    copies: float


class LineDocument(TypedDict, total=False):
    """Bytes that live and die together, by one formula."""

    path: Annotated[str, Means("component/name, as in layers/attention")]
    bytes: int
    phase: Annotated[str, Means("When they live")]
    place: Literal["gpu", "host", "nvme"]
    formula: str
    inputs: dict[str, Any]
    evaluated: Annotated[str, Means("The formula with its inputs put in")]
    source: str
    certainty: Literal["exact", "estimate", "assumed"]
    tensors: Annotated[list[PartDocument], Means("What the line consists of, where that is known")]


class PathBytes(TypedDict):
    path: str
    bytes: int


class MomentDocument(TypedDict):
    """What is allocated at one moment of a training step."""

    name: str
    activations: Annotated[
        int, Means("Saved tensors, and all that the operation at work holds: temporaries and the gradients that it has made")
    ]
    gradients: Annotated[int, Means("Of the layers that the backward is through with, and of earlier micro-batches")]
    communication: Annotated[int, Means("Buckets, gathered parameters, gradients being reduced")]
    states: Annotated[int, Means("Parameters and optimizer states")]
    allocated: Annotated[int, Means("The sum of the lines, and of the four above")]
    lines: list[PathBytes]


class OutsideDocument(TypedDict, total=False):
    """A moment outside the step: loading or saving. It does not enter `per_gpu.peak` nor `gpu.verdict`."""

    name: str
    note: str
    allocated: Annotated[int, Means("On the heaviest rank's GPU: the sum of the lines")]
    device: Annotated[int, Means("allocated, context, communicator and workspace")]
    host_per_node: Annotated[int, Means("Host memory that a node needs then")]
    disk: Annotated[int, Means("Of save: what is written by all ranks")]
    verdict: Annotated[Literal["no", "fits"], Means("Whether `device` is within `gpu.limit`")]
    lines: list[PathBytes]


class PeakDocument(TypedDict):
    """The highest moment, line by line."""

    moment: str
    bytes: int
    certainty: Annotated[Literal["exact", "estimate", "assumed"], Means("That of its least sure line")]
    lines: list[LineDocument]
    sources: dict[str, dict[str, Any]]
