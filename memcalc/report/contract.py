"""The JSON contract as types: what scripts may rely on. Documents may hold more; these keys keep name, type and unit."""

from typing import Any, Literal

from typing_extensions import TypedDict


class ModelDocument(TypedDict, total=False):
    name: str
    parameters: int
    active_parameters: int
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


class PerGpu(TypedDict, total=False):
    """Bytes on the heaviest rank."""

    parameters: int
    gradients: int
    optimizer_states: int
    activations: int
    communication: int
    overhead: int
    steady: int
    after_forward: int
    peak_forward_backward: int
    peak_optimizer_step: int
    peak: int
    reserved: int
    device: int
    reserved_low: int
    reserved_high: int
    device_low: int
    device_high: int
    low: int
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


class Gpu(TypedDict, total=False):
    name: str
    memory: int
    usable: int
    fits: bool
    headroom: int


class Speed(TypedDict, total=False):
    """Seconds, tokens a second and FLOP a byte, all bounds at the stated efficiencies; what cannot be known is null."""

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


class LineDocument(TypedDict):
    path: str
    bytes: int
    phase: str
    formula: str
    inputs: dict[str, Any]
    source: str


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
    host: Host
    compute: ComputeDocument
    optimal: Optimum
    laws: list[Optimum]
    lines: list[LineDocument]
    assumptions: list[str]
    warnings: list[str]
    sources: dict[str, dict[str, Any]]
