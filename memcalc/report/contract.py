"""The JSON contract as types: what scripts may rely on. Documents may hold more; these keys keep name, type and unit."""

from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from memcalc.report.contract_memory import (
    Capacity,
    Gpu,
    LineDocument,
    Means,
    MomentDocument,
    OutsideDocument,
    PeakDocument,
    PerGpu,
)


class ModelDocument(TypedDict, total=False):
    name: str | None  # null: a budget of no model in particular
    parameters: int | None
    active_parameters: int | None
    embedding_parameters: int | None


class StoredRole(TypedDict):
    tensors: int
    parameters: int | None
    bytes: int


class StoredGroup(TypedDict):
    """Equal tensors: `*` stands for the numbers that differ; bytes and parameters are those of all `count` of them."""

    name: str
    role: str
    part: str
    format: str
    shape: list[int]
    count: int
    bytes: int
    parameters: int | None


class Stored(TypedDict, total=False):
    """What weight files hold, exactly as stored."""

    kind: Literal["safetensors", "gguf"]
    files: list[str]
    tensors: int
    bytes: int | None
    parameters: int | None
    bits_per_parameter: float | None
    bytes_by_format: dict[str, int]
    roles: dict[str, StoredRole]
    groups: list[StoredGroup]


class TimeParts(TypedDict):
    """Seconds that add up to a step."""

    forward: float
    backward: float
    recompute: float
    optimizer: float
    exposed_communication: Annotated[float, Means("Messages that nothing hides, and what hidden ones take from computing")]
    bubble: Annotated[float, Means("Waiting for other pipeline stages")]
    launch: Annotated[float, Means("Where the host takes longer to launch kernels than the device to run them")]


class TimeDocument(TypedDict, total=False):
    """A training step in seconds; with --gpu."""

    step_seconds: float
    step_seconds_low: Annotated[float, Means("Where published runs lie; the range contains the point")]
    step_seconds_high: float
    tokens_per_second: float
    tokens_per_second_per_gpu: float
    tokens_per_step: Annotated[float, Means("Of all GPUs, an optimizer step")]
    mfu: Annotated[float, Means("Model FLOPs, attention over unmasked pairs, of the dense peak in `peak_format`")]
    hfu: Annotated[float, Means("The same with recomputation")]
    peak_format: str
    certainty: Literal["estimate", "assumed"]
    parts: TimeParts
    tokens: Annotated[int, Means("With --tokens or --dataset-samples: of the whole run")]
    days: float
    gpu_hours: float
    cost_usd: Annotated[float | None, Means("At --price, or the middle of a dated range; null where there is neither")]


class SuggestionDocument(TypedDict, total=False):
    """A change with which it fits."""

    flags: Annotated[str, Means("Options to type after the command")]
    command: Annotated[str, Means("The whole command, ready to run")]
    changes: Annotated[dict[str, Any], Means("The same as settings: names as in Python and the sizing file")]
    costs: Annotated[list[str], Means("What each change costs, cheapest first")]
    device: int
    headroom: int
    per_gpu: PerGpu
    gpu: Gpu


class Speed(TypedDict, total=False):
    """Seconds, tokens a second and FLOP a byte: of the time law, or bounds at the efficiencies that were given; what cannot be
    known is null. `law`: seconds of a prefill and of a decode step by operator; `load`: what --concurrency came to."""

    ttft_seconds: float | None
    ttft_seconds_low: float | None
    ttft_seconds_high: float | None
    tpot_seconds: float | None
    tpot_seconds_low: float | None
    tpot_seconds_high: float | None
    requests_per_second: float | None
    requests_per_second_low: float | None
    requests_per_second_high: float | None
    law: dict[str, dict[str, float] | None] | None
    load: dict[str, float | None] | None
    prefill_seconds: float | None
    prefill_tokens_per_second: float | None
    prefill_bound: str | None
    decode_seconds: float | None
    decode_tokens_per_second: float | None
    decode_tokens_per_second_per_sequence: float | None
    bound: str | None
    arithmetic_intensity: float | None
    ridge_point: float | None
    compute_bound_batch: int | None
    mfu: float
    mbu: float
    link_efficiency: float
    reasons: list[str]


class Host(TypedDict, total=False):
    per_node: int
    weights: int


class ComputeDocument(TypedDict, total=False):
    flops: float | None
    pf_days: float | None
    gpu_hours: float | None
    days: float | None
    cost_usd: float | None
    energy_kwh: float | None
    co2e_kg: float | None


class Optimum(TypedDict, total=False):
    law: str
    parameters: int | None
    tokens: int | None
    flops: float | None
    loss: float | None


class SolvedDocument(TypedDict):
    """A setting whose largest value was asked for with `max`; the value stands in `run` too."""

    key: str
    value: Annotated[int | None, Means("null where not even the smallest fits; then `run` and the verdict are of that")]
    limited_by: Literal["memory", "positions", "max_sequences", "width", "bound"]


class ExplanationDocument(TypedDict):
    """One number and what it is made of. A part whose path is a name in `inputs` explains that input; all other parts add up to
    the value."""

    path: str
    value: Any
    unit: str
    formula: Annotated[str, Means("In symbols: paths of parts and names of inputs")]
    inputs: dict[str, Any]
    evaluated: Annotated[str, Means("The formula with its inputs put in; empty where that says no more")]
    source: Annotated[str, Means("A key of the bibliography with its place, or who gave the number")]
    certainty: Literal["exact", "estimate", "assumed"]
    parts: "list[ExplanationDocument]"


class ImportedDocument(TypedDict, total=False):
    """One key of a launch file; it has one of `becomes`, `ignored` and `unknown`."""

    file: str
    line: int
    key: str
    value: str | list[str] | None
    becomes: Annotated[str, Means("Options of memcalc, or facts where there is no option")]
    ignored: Annotated[str, Means("Why it changes nothing")]
    unknown: Annotated[str, Means("That it is not known, or matters and is not modelled")]


class LaunchDocument(TypedDict, total=False):
    """A run or a server that launch files describe."""

    name: str
    file: str
    kind: str
    command: Literal["train", "infer"]
    model: Annotated[Any, Means("A name, a config of a model in numbers, or null")]
    gpu: str | None
    facts: dict[str, Any]
    settings: dict[str, Any]
    asks: Annotated[list[str], Means("What no file says")]
    hints: list[str]
    warnings: list[str]


class Document(TypedDict, total=False):
    """What every command prints with --format json."""

    schema: Literal["memcalc/1"]
    command: str
    model: ModelDocument
    stored: Stored
    per_gpu: PerGpu
    capacity: Capacity | None
    speed: Speed | None
    gpu: Gpu
    time: TimeDocument
    suggestions: Annotated[list[SuggestionDocument], Means("What would make it fit, or surely fit where it is tight")]
    nearest_miss: Annotated[SuggestionDocument | None, Means("Where nothing does: what comes nearest")]
    solved: list[SolvedDocument]
    host: Host
    moments: list[MomentDocument]
    peak: PeakDocument
    start: Annotated[list[OutsideDocument], Means("Before the first step")]
    save: list[OutsideDocument]
    compute: ComputeDocument
    optimal: Optimum
    imported: Annotated[list[ImportedDocument], Means("With --from, and of import: what became of every key")]
    jobs: list[LaunchDocument]
    sizing: Annotated[str, Means("The sizing file that import prints")]
    laws: list[Optimum]
    lines: Annotated[list[LineDocument], Means("What each `per_gpu` component consists of")]
    explain: Annotated[list[ExplanationDocument], Means("With --explain: the tree behind each key that was asked for")]
    assumptions: list[str]
    warnings: list[str]
    sources: dict[str, dict[str, Any]]
