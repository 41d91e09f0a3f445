"""Layouts of a deployment: how many GPUs hold one copy, how many copies there are, and in which formats weights are kept."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from memcalc.estimates.planning.accepts import Settings
from memcalc.formulas.verdict import Fit
from memcalc.frozen import NamedTuple
from memcalc.specs.hardware import Accelerator

# Formats that are tried where none was given, the finest first, by what the engine loads.
PLAIN_FORMATS = ("", "fp8", "int4-g128")  # "": the checkpoint's own, or 16 bits
GGUF_FORMATS = ("BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M")
GGUF_ENGINES = ("llama.cpp", "ollama", "lmstudio")
FORMATS = {
    **dict.fromkeys(GGUF_ENGINES, GGUF_FORMATS),
    "mlx": ("bf16", "mlx-8bit", "mlx-6bit", "mlx-5bit", "mlx-4bit", "mlx-3bit"),
    "exllamav3": ("exl3-8bpw", "exl3-6bpw", "exl3-5bpw", "exl3-4bpw", "exl3-3bpw"),
}
LAYERED = GGUF_ENGINES  # put whole layers on each GPU in place of a share of every matrix


class Deployment(NamedTuple):
    """A layout of a deployment: settings as `infer` takes them, for each of so many copies."""

    settings: Settings
    replicas: int
    gpus: int


class RankedService(NamedTuple):
    """A deployment that keeps the goals, with what it does."""

    rank: int
    model: str
    gpu: Accelerator
    served: Deployment
    command: str
    peak: int  # bytes
    fit: Fit
    ttft: float | None  # s; None where no dense 16-bit peak is published, so that nobody knows how fast prompts are read
    tpot: float  # s
    tokens_per_second: float  # of all copies: generated
    requests_per_second: float | None
    usd_per_m_output_tokens: float | None
    offloaded: int = 0  # layers in host memory
    parameters: int = 0

    @property
    def seconds_of_gpus(self) -> float:
        """GPU time of a token [s]."""
        return self.served.gpus / self.tokens_per_second


class ServicePlan(NamedTuple):
    """What was found, the best first."""

    ranked: tuple[RankedService, ...]
    candidates: int
    fitting: int
    seconds: float
    why: Mapping[str, int]
    note: str = ""


def deployments(
    engine: str | None, gpus: int, gpus_per_node: int, heads: int, experts: int, pinned: Settings,
    free: Mapping[str, Sequence[Any]],
) -> Iterator[Deployment]:  # fmt: skip
    """Every way to place copies of a model on so many GPUs."""
    weights = free.get("weights") or ((pinned["weights"],) if "weights" in pinned else formats_of(engine))
    layered = engine in LAYERED
    tried = {name: values for name, values in free.items() if name not in ("weights", "tp", "pp", "ep")}
    others = [[(name, value) for value in values] for name, values in tried.items()]
    degrees = product(_degrees("tp", gpus, gpus_per_node, pinned, free, not layered and bool(heads)),
                      _degrees("pp", gpus, gpus, pinned, free, True))  # fmt: skip
    for tp, pp in degrees:
        held = tp * pp * int(pinned.get("dp", 1))
        if held > gpus or gpus % held or (heads and heads % tp and "tp" not in pinned):
            continue
        if not layered and pp > 1 and tp < gpus_per_node and "pp" not in pinned and "pp" not in free:
            continue  # stages between nodes, shares of matrices inside them
        splits = _expert_splits(tp, experts and not layered, pinned, free)
        for ep, word, *rest in product(sorted(splits), weights, *others):
            settings: Settings = {**pinned, **dict(rest)}
            settings |= {name: value for name, value in (("tp", tp), ("pp", pp), ("ep", ep)) if value > 1}
            if word:
                settings["weights"] = word
            yield Deployment(settings, gpus // held, gpus)


def _expert_splits(tp: int, possible: object, pinned: Settings, free: Mapping[str, Sequence[Any]]) -> set[int]:
    if "ep" in pinned:
        return {int(pinned["ep"])}
    return set(free.get("ep", (1, tp) if possible and tp > 1 else (1,)))


def formats_of(engine: str | None) -> tuple[str, ...]:
    """Formats to try under an engine."""
    return FORMATS.get(engine or "", PLAIN_FORMATS)


def _degrees(
    name: str, gpus: int, most: int, pinned: Settings, free: Mapping[str, Sequence[Any]], possible: bool
) -> Sequence[int]:  # fmt: skip
    if name in pinned:
        return (int(pinned[name]),)
    if name in free:
        return [int(value) for value in free[name]]
    return [degree for degree in range(1, min(gpus, most) + 1) if gpus % degree == 0] if possible else (1,)
