"""A replica's group of ranks under its engine, from what the estimate of its memory holds."""

from memcalc.blocks.architecture import Architecture
from memcalc.dtypes import number_format
from memcalc.estimates.placement import stages
from memcalc.estimates.serving.capacity import ServingEstimate
from memcalc.estimates.serving.clock import HostMemory, ServingRank
from memcalc.estimates.serving.kernels import Stored, stored_roles
from memcalc.estimates.serving.load import Server
from memcalc.estimates.serving.operators import operators
from memcalc.estimates.stored_weights import leading_format
from memcalc.formulas.serving_hosts import host_of
from memcalc.formulas.timing.constants import OPERANDS
from memcalc.formulas.timing.law import TimeLaw
from memcalc.formulas.timing.llama_cpp import GgmlKernels, kernels_of
from memcalc.specs.serving import Serving

LLAMA_CPP = "llama.cpp"
TENSORRT_LLM = "tensorrt-llm"  # multiplies prompts in fp8 over such a cache: thop/attentionOp.cpp, mFP8ContextFMHA
SIXTEEN_BIT = ("bf16", "fp16")
UNBOUNDED = 2**31
ENDLESS = 1e18  # FLOP/s
# Of the machine around the GPUs, where nobody says: two channels of DDR5-5600, 89.6 GB/s, of which a CPU reads nine tenths;
# and what sixteen cores multiply in 16 and 8 bits.
HOST_BANDWIDTH, HOST_FLOPS = 80e9, 1e12


def server(
    architecture: Architecture, run: Serving, law: TimeLaw, whole: ServingEstimate, memory: int,
    host_bandwidth: float | None = None,
) -> Server:  # fmt: skip
    """`whole`: the estimate of this run as if all layers stood on one pipeline stage.

    Where no dense peak is known, arithmetic takes no time: enough for a step of few sequences, but for no prompt.
    """
    law = law.of_engine(run.engine_row.kin)
    ggml = run.engine_row.host_embedding  # llama.cpp and its kin
    peaks = law.hardware.peaks
    peaked = any(name in peaks for name in (*SIXTEEN_BIT, "fp32"))
    if not any(name in peaks for name in SIXTEEN_BIT):  # Pascal multiplies 16-bit values in fp32
        law = TimeLaw.of(law.name, law.hardware._replace(peaks={"bf16": peaks.get("fp32", ENDLESS)}), law.constants)
    etp = max(1, run.tp // run.ep)
    (stage, *_) = stages(architecture, run.tp, 1, run.ep, etp)
    elements: dict[str, int] = {}
    for held in stage.held:
        elements[held.role] = elements.get(held.role, 0) + held.elements
    lines = [entry for entry in whole.lines if not entry.name.startswith("draft: ")]
    stored = stored_roles(lines, elements, leading_format(architecture, run.weights), law.hardware.peaks, ggml=ggml)
    stored.setdefault("head", stored.get("embedding", Stored("bf16"))._replace(on_host=0.0))
    away = any(each.on_host for role, each in stored.items() if role != "embedding")
    kept = [number_format(word) for word in (run.key_format, run.value_format)]
    narrow = all(row.bits <= 8 for row in kept)
    cache = "bf16-fp8" if narrow else "fp32" if run.compute_format == "fp32" and not ggml else "bf16"
    host = host_of(run.engine_row.kin, eager=run.eager)
    if host.cast and any(OPERANDS[each.kernel].quantised for each in stored.values() if each.kernel in OPERANDS):
        host = host._replace(layer=host.layer + host.cast)
    kernels = kernels_of(run.engine_version if run.engine == LLAMA_CPP else None) if ggml else None
    rank = ServingRank(
        operators(architecture, run.tp, run.ep), law, run.engine_row.kin, stored,
        cache, "fp8" if narrow and run.engine_row.kin == TENSORRT_LLM else cache,
        sum(row.bits_per_value for row in kept) / 16, run.tp, run.pp, run.ep,
        HostMemory(host_bandwidth or HOST_BANDWIDTH, law.hardware.pcie, HOST_FLOPS) if away else None,
        kernels, ggml and not run.flash, _gap(kernels, law) if kernels else 0.0,
    )  # fmt: skip
    budget = UNBOUNDED if run.engine_row.whole_prompt or not run.engine else run.batched_tokens(memory)
    return Server(rank, host, budget, reads=peaked)


def _gap(kernels: GgmlKernels, law: TimeLaw) -> float:
    """Between a layer's kernels [s], less what releases of llama.cpp have fused for this accelerator."""
    return (1 - law.constants.ggml.fused * (1 - kernels.gaps)) * law.constants.ggml.gap
