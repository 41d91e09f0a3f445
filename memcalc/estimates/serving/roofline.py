"""How fast a model can generate: the time of a prefill and of a decode step on one accelerator, and what bounds each.

A bound with stated efficiencies, not a promise: no latency of kernels, messages or the scheduler is in it. One prompt is
read at a time; a decode step makes one token for each of `batch` sequences at the full context.
"""

from collections.abc import Mapping
from math import ceil

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.errors import InputError, Unsupported
from memcalc.estimates.compute.flops import decode_flops, prefill_flops
from memcalc.estimates.lines import Figure, figure
from memcalc.estimates.serving.bytes_moved import Traffic, traffic
from memcalc.estimates.serving.passes import Machine, Pass
from memcalc.estimates.serving.roofline_notes import assumptions, reasons
from memcalc.formulas import roofline as formulas
from memcalc.formulas.energy import Default
from memcalc.formulas.roofline import LINK, MBU, MFU
from memcalc.frozen import NamedTuple
from memcalc.specs.hardware import Accelerator

# Peaks that products run at, the best first, by the number format of the weights. Scaled 8-bit integers and floats multiply
# as such where the accelerator can; llama.cpp quantises activations too and multiplies GGUF's blocks on int8 tensor cores
# (docs/build.md, GGML_CUDA_FORCE_MMQ), and fp16 with fp16 sums, which GeForce does twice as fast. All other formats are
# unpacked to 16 bits first.
HALF = ("bf16", "fp16")
FP8 = ("fp8_acc16", "fp8", *HALF)
INT8 = ("int8", *HALF)
COMPUTE: dict[str, tuple[str, ...]] = {
    "fp64": ("fp64_matrix", "fp64"),
    "fp32": ("fp32_matrix", "fp32"),
    "tf32": ("tf32",),
    "fp16": ("fp16_acc16", "fp16", "bf16"),
    "int8": INT8,
    "int8-channel": INT8,
    "mxfp8": FP8,
    "nvfp4": ("fp4", *HALF),
}
WIDE = {"fp64": 8, "fp64_matrix": 8, "fp32": 4, "fp32_matrix": 4, "tf32": 4}  # bytes of a hidden state's element; else 2

LEAST_SHARE = 0.001


class Roofline(NamedTuple):
    """Speed of one model served one way; what cannot be known is None, and `reasons` says why."""

    prompt: int
    context: int
    batch: int
    compute_format: str | None
    prefill: Pass | None
    prefill_tokens_per_second: Figure | None
    decode: Pass
    decode_tokens_per_second: Figure  # of all sequences
    sequence_tokens_per_second: Figure
    intensity: Figure
    ridge: Figure | None
    compute_bound_batch: int | None  # the fewest sequences whose decode step is bound by compute
    crossing: Figure | None  # where its arithmetic takes as long as its memory traffic
    efficiencies: tuple[Figure, Figure, Figure]  # of compute, memory and link
    reasons: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def bound(self) -> str:
        """What bounds a decode step: compute, memory or link."""
        return self.decode.bound

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every number of it, for a report's lines."""
        rates = (self.prefill_tokens_per_second, self.decode_tokens_per_second, self.sequence_tokens_per_second)
        passes = (*(self.prefill.figures if self.prefill else ()), *self.decode.figures)
        found = (*self.efficiencies, *passes, *rates, self.intensity, self.ridge, self.crossing)
        return tuple(entry for entry in found if entry)


def roofline(
    architecture: Architecture, *, tp: int = 1, pp: int = 1, ep: int = 1, dp: int = 1,
    weights_bytes_per_rank: Mapping[str, int],
    weights_format: str, kv_format: str, prompt: int, context: int, batch: int, accelerator: Accelerator,
    mfu: float | None = None, mbu: float | None = None, link_efficiency: float | None = None,
    compute_format: str | None = None,
) -> Roofline:  # fmt: skip
    """The speed of `batch` sequences on each tensor-parallel group, prompts of `prompt` tokens, decode at `context` tokens.

    Tokens a second are those of all groups of all `dp` replicas; the stages of a pipeline read a prompt each.
    `weights_bytes_per_rank`: stored bytes [B] by role on one rank if all layers stood on one pipeline stage.
    `compute_format`: the peak that products run at, where it is not the one of COMPUTE. Efficiencies are shares of 1.
    Degrees are those that specs.serving and estimates.serving accept.
    Raises Unsupported for models that do not generate or whose reads are not known, InputError for shares out of range.
    """
    if accelerator.bandwidth is None:
        raise Unsupported(f"the bandwidth of {accelerator.name} is not known")
    need = traffic(architecture, weights_bytes_per_rank, kv_format, tp=tp, ep=ep, prompt=prompt, context=context)
    peak_format = _peak_format(weights_format, accelerator, compute_format)
    machine = Machine(
        architecture.hidden, WIDE.get(peak_format or "", 2), tp, pp, ep,
        accelerator.peak[peak_format] if peak_format else None, accelerator.bandwidth,
        accelerator.scale_up_bandwidth or accelerator.pcie_bandwidth,
        _share("mfu", mfu, MFU), _share("mbu", mbu, MBU), _share("link-efficiency", link_efficiency, LINK),
    )  # fmt: skip
    flops = decode_flops(architecture, context)
    decode = machine.decode(need, flops, batch)
    prefill = machine.prefill(need, prefill_flops(architecture, prompt, causal=True), prompt) if machine.peak else None
    turns = _compute_bound_batch(machine, need, flops)
    own = (mfu is not None, mbu is not None, link_efficiency is not None)
    return Roofline(
        prompt, context, batch, peak_format, prefill,
        _rate("prefill/tokens a second", prompt * machine.replicas * dp * pp, prefill) if prefill else None,
        decode, _rate("decode/tokens a second", batch * machine.replicas * dp, decode),
        _rate("decode/tokens a second and sequence", 1, decode),
        figure("decode/arithmetic intensity", "FLOP/B", formulas.arithmetic_intensity, flops=flops,
               sequences=decode.moved.inputs["sequences"], ranks=tp, bytes_moved=decode.moved.value),
        figure("ridge point", "FLOP/B", formulas.ridge_point, peak=machine.peak, bandwidth=machine.bandwidth)
        if machine.peak else None,
        turns, _crossing(machine, need, flops, machine.decode(need, flops, turns).moved.inputs["weights"]) if turns else None,
        _efficiencies(machine), tuple(reasons(machine, accelerator, weights_format, decode, turns)),
        tuple(assumptions(architecture, machine, accelerator, need, decode, peak_format, weights_format, own)),
    )  # fmt: skip


def _share(name: str, given: float | None, default: Default) -> float:
    if given is not None and not LEAST_SHARE <= given <= 1:
        raise InputError(f"{given:g} is not a share from {LEAST_SHARE} to 1", place=f"--{name}")
    return default.value if given is None else given


def _peak_format(weights: str, accelerator: Accelerator, asked: str | None) -> str | None:
    """The number format whose dense peak counts; None where none that would do is published."""
    if asked is not None:
        accelerator.dense_peak(asked)
        return asked
    name = number_format(weights).name
    wanted = INT8 if "_" in name else FP8 if name.startswith("fp8-") else COMPUTE.get(name, HALF)  # only GGUF's have "_"
    return next((found for found in wanted if found in accelerator.peak), None)


def _rate(path: str, tokens: int, run: Pass) -> Figure:
    return figure(path, "1/s", formulas.tokens_per_second, tokens=tokens, seconds=run.seconds.value)


def _efficiencies(machine: Machine) -> tuple[Figure, Figure, Figure]:
    return (
        figure("efficiency/compute", "share", formulas.compute_utilisation, mfu=machine.mfu),
        figure("efficiency/memory", "share", formulas.bandwidth_utilisation, mbu=machine.mbu),
        figure("efficiency/link", "share", formulas.link_utilisation, efficiency=machine.link_efficiency),
    )


def _compute_bound_batch(machine: Machine, need: Traffic, flops: float) -> int | None:
    """The fewest sequences whose decode step is bound by compute; None where no batch is.

    Arithmetic grows with the batch; so does the traffic of caches, and that of experts, ever slower. The difference of the
    two times is convex and below 0 at first, so it changes its sign once or never: between the batch that would do if no
    expert were read and the one that would do if all were.
    """
    if not machine.peak:
        return None

    def bound(batch: int) -> bool:
        return machine.decode(need, flops, batch).bound == "compute"

    try:
        least = _crossing(machine, need, flops, need.weights).value
        most = _crossing(machine, need, flops, need.weights + sum(choice.held for choice in need.routed)).value
    except ZeroDivisionError:  # the arithmetic and the cache of a sequence take exactly as long
        return None
    if least <= 0 or not bound(last := ceil(most) + 1):
        return None
    first = 1 if least <= machine.pp else ceil(least) - 1
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if bound(middle) else (middle + 1, last)
    return last


def _crossing(machine: Machine, need: Traffic, flops: float, weights: float) -> Figure:
    """Where arithmetic takes as long as memory traffic, if a step reads so many bytes of weights."""
    return figure(
        "decode/compute-bound sequences", "sequences", formulas.compute_bound_sequences,
        weights=weights, flops=flops, per_sequence=need.cache + 2 * need.state, ranks=machine.tp, stages=machine.pp,
        peak=machine.peak, mfu=machine.mfu, bandwidth=machine.bandwidth, mbu=machine.mbu,
    )  # fmt: skip
