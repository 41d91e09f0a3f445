"""A compute budget: what is known of model, data, hardware, time and money; the rest is solved."""

from typing import Annotated

from memcalc.formulas.engines import ENGINES
from memcalc.formulas.methods import METHODS
from memcalc.specs.hardware import PEAKS
from memcalc.specs.parallelism import MAX_GPUS
from memcalc.specs.spec import OneOf, Spec, SpecError, rule, setting, within

LEVEL_NOTES = {
    "6ND": "six a parameter and token (Kaplan et al. 2020)",
    "architecture": "every matrix product of the model's own blocks",
    "architecture-causal": "the same, attention over earlier tokens alone",
    "palm": "6N and attention's scores (PaLM, appendix B)",
    "palm-causal": "the same, attention over earlier tokens alone",
    "hoffmann": "embeddings, attention and head too (Chinchilla, appendix F)",
}
LEVELS = tuple(LEVEL_NOTES)
RECOMPUTED = {
    "none": "the forward runs once",
    "selective": "attention's scores are computed again",
    "full": "every layer's forward runs again",
}
RECOMPUTE = tuple(RECOMPUTED)

# What relations tie together, and what may therefore contradict each other. `cost` is a ceiling and stands apart.
SOLVABLE = ("params", "tokens", "flops", "pf_days", "gpus", "days", "gpu_hours", "mfu", "hfu", "price")


LAYOUT = "How it is laid out (of a MODEL on --gpus of a --gpu: predicts the utilisation)"
KNOWN, PRICES, COUNTED = "What is known", "Energy and money", "How FLOPs are counted"


class Budget(Spec):
    """Whatever is known; None is unknown. Utilisations are shares of the dense peak, prices USD an accelerator-hour."""

    params: Annotated[int, within(1, 10**18)] | None = setting(None, "Parameters, without a MODEL.", KNOWN)
    tokens: Annotated[int, within(1, 10**20)] | None = setting(None, "Training tokens.", KNOWN)
    flops: Annotated[float, within(1.0, 1e38)] | None = setting(None, "Model FLOPs: 3.14e23, 314 ZFLOP.", KNOWN, kind="flops")
    pf_days: Annotated[float, within(1e-18, 1e18)] | None = setting(None, "The same in petaFLOP/s-days of 8.64e19 FLOP.", KNOWN)
    gpus: Annotated[int, within(1, MAX_GPUS)] | None = setting(None, "Number of accelerators.", KNOWN)
    days: Annotated[float, within(1e-9, 1e6)] | None = setting(None, "Wall clock: 30, 36h, '2 weeks'.", KNOWN, kind="days")
    gpu_hours: Annotated[float, within(1e-9, 1e13)] | None = setting(None, "Hours of all accelerators together.", KNOWN)
    mfu: Annotated[float, within(0.0001, 1.0)] | None = setting(
        None,
        "Model FLOPs utilisation of the dense peak.",
        KNOWN,
        kind="share",
        otherwise="predicted of a layout, else by format: 0.4 in 16 bits",
    )
    hfu: Annotated[float, within(0.0001, 1.0)] | None = setting(
        None, "Hardware FLOPs utilisation, recomputation included.", KNOWN, kind="share"
    )
    cost: Annotated[float, within(1e-6, 1e15)] | None = setting(None, "Ceiling in USD: 5.5M.", PRICES)
    price: Annotated[float, within(1e-6, 1e6)] | None = setting(
        None, "USD an accelerator-hour.", PRICES, otherwise="a dated range"
    )
    pue: Annotated[float, within(1.0, 10.0)] | None = setting(
        None, "Power usage effectiveness of the data centre.", PRICES, otherwise="1.2"
    )
    grid_intensity: Annotated[float, within(0.0, 3.0)] | None = setting(
        None, "kg CO2e a kWh, or 385g.", PRICES, kind="grid", otherwise="0.475"
    )
    watts: Annotated[float, within(0.1, 1e6)] | None = setting(
        None, "Power of one accelerator.", PRICES, otherwise="its thermal design power"
    )
    power_share: Annotated[float, within(0.01, 2.0)] = setting(
        1.0, "Share of the thermal design power that it draws.", PRICES, kind="share"
    )
    precision: Annotated[str, OneOf(PEAKS)] | None = setting(
        None, "Whose dense peak counts.", COUNTED, otherwise="bf16, or fp16"
    )
    flops_by: Annotated[str, OneOf(LEVELS)] = setting(
        "6ND", "What counts as a FLOP of the model.", COUNTED, metavar="WORD", choices=LEVEL_NOTES
    )
    seq_len: Annotated[int, within(1, 2**31)] | None = setting(
        None, "Tokens a sequence, for attention.", COUNTED, otherwise="2048, or the model's context"
    )
    recompute: Annotated[str, OneOf(RECOMPUTE)] = setting(
        "none", "Activation recomputation: HFU above MFU.", COUNTED, choices=RECOMPUTED
    )

    method: Annotated[str, OneOf(tuple(METHODS))] = setting(
        "full", "What is trained: adapters' frozen matrices have no gradients.", COUNTED, metavar="WORD"
    )  # fmt: skip
    tp: Annotated[int, within(1, MAX_GPUS)] | None = setting(None, "Tensor parallel degree.", LAYOUT)
    pp: Annotated[int, within(1, MAX_GPUS)] | None = setting(None, "Pipeline parallel degree.", LAYOUT)
    cp: Annotated[int, within(1, MAX_GPUS)] | None = setting(None, "Context parallel degree.", LAYOUT)
    ep: Annotated[int, within(1, MAX_GPUS)] | None = setting(None, "Expert parallel degree.", LAYOUT)
    zero: Annotated[int, within(0, 3)] | None = setting(None, "ZeRO stage.", LAYOUT)
    fsdp: Annotated[str, OneOf(("full", "grad-op", "hybrid", "none"))] | None = setting(None, "FSDP.", LAYOUT)
    micro_batch: Annotated[int, within(1, 2**24)] | None = setting(None, "Sequences a GPU takes at a time.", LAYOUT)
    global_batch: Annotated[int, within(1, 2**40)] | None = setting(None, "Sequences of an optimizer step.", LAYOUT)
    engine: Annotated[str, OneOf(tuple(ENGINES))] | None = setting(None, "Whose kernels and habits.", LAYOUT, metavar="NAME")

    @property
    def layout(self) -> dict[str, int | str]:
        """What was said of the layout, in the words of training."""
        names = ("tp", "pp", "cp", "ep", "zero", "fsdp", "micro_batch", "global_batch", "engine")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @rule()
    def _check(self) -> None:
        if self.hfu is not None and self.mfu is not None and self.hfu < self.mfu:
            raise SpecError(
                f"HFU {self.hfu:g} is below MFU {self.mfu:g}; it counts the same FLOPs and recomputation besides", "mfu", "hfu"
            )

    @property
    def given(self) -> dict[str, float]:
        """What is known, of what can be solved."""
        return {name: value for name in SOLVABLE if (value := getattr(self, name)) is not None}
