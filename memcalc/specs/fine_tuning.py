"""What is trained of a model and beside it: method, adapters, how frozen weights are stored, what is frozen."""

from typing import Annotated

from pydantic import Field

from memcalc.formulas.methods import BASES, METHODS, BaseFormat, TrainingMethod
from memcalc.specs.spec import STATES, OneOf, SpecPart, setting, within

METHOD_NAMES = tuple(METHODS)
FROZEN_PARTS = {  # words of --freeze → parts of a model
    "vision": ("vision", "video"), "audio": ("audio",), "projector": ("projector", "audio_projector", "resampler", "qformer"),
}  # fmt: skip
FREEZING = {
    "embeddings": "what is looked up by token and position; a tied head goes with it",
    "vision": "towers for images and video",
    "audio": "towers for sound",
    "projector": "what stands between towers and language model",
}
FREEZABLE = tuple(FREEZING)
ALSO = {
    "embeddings": "the table that tokens are looked up in (embed_tokens)",
    "head": "the output head (lm_head)",
    "norms": "all norms",
}
TRAINED_ALSO = tuple(ALSO)
BASE_FORMATS = tuple(BASES)
UPCASTS = {
    "all": "all that is not quantised, and the residual stream (PEFT's prepare_model_for_kbit_training)",
    "norms": "norms alone (TRL 0.13; LLaMA-Factory's upcast_layernorm)",
    "none": "nothing",
}
KBIT_PREPARATIONS = tuple(UPCASTS)
ADAPTER_FORMATS = {
    "fp32": "fp32 beside 16-bit frozen weights, as PEFT keeps them (autocast_adapter_dtype)",
    "half": "the frozen weights' own 16 bits (autocast_adapter_dtype=False; PEFT before 0.11)",
}
ADAPTER_DTYPES = tuple(ADAPTER_FORMATS)
OF_EXPERTS = {
    "own": "each expert has a pair of its own (ms-swift; Megatron-Bridge's share_expert_adapters=False)",
    "shared": "one pair for all experts of a rank (Megatron-Bridge)",
    "none": "nothing: adapters stand beside attention, dense and shared feed-forwards alone",
}
EXPERT_ADAPTERS = tuple(OF_EXPERTS)
MIXED = ("bf16-mixed", "fp16-mixed")
MAX_RANK = 65536


class FineTuning(SpecPart):
    """Which weights are trained, and beside what."""

    method: Annotated[str, OneOf(METHOD_NAMES)] = setting(
        "full", "Which weights are trained, and beside what.", STATES, metavar="WORD",
        choices={row.name: row.note for row in METHODS.values()},
    )  # fmt: skip
    lora_rank: Annotated[int, within(1, MAX_RANK)] = setting(16, "Rank of the adapters.", STATES, kind="largest")
    lora_targets: Annotated[tuple[str, ...], Field(strict=False)] = setting(
        ("all-linear",), "Which matrices they adapt: all-linear, or some of q,k,v,output,gate,up,down.", STATES, metavar="WORDS"
    )
    lora_dropout: Annotated[float, within(0.0, 0.999)] = setting(0.0, "Dropout on the adapters' input.", STATES)
    adapter_dtype: Annotated[str, OneOf(ADAPTER_DTYPES)] | None = setting(
        None, "Number format of LoRA's matrices.", STATES, otherwise="the engine's", choices=ADAPTER_FORMATS
    )
    expert_adapters: Annotated[str, OneOf(EXPERT_ADAPTERS)] | None = setting(
        None, "What stands beside Megatron's routed experts where LoRA targets feed-forwards.", STATES, metavar="WORD",
        otherwise="shared under Megatron, none under others", choices=OF_EXPERTS,
    )  # fmt: skip
    virtual_tokens: Annotated[int, within(1, 65536)] = setting(
        20, "Virtual tokens that prompt or prefix tuning trains.", STATES
    )
    base_format: Annotated[str, OneOf(BASE_FORMATS)] = setting(
        "nf4-dq", "How qlora stores frozen matrices.", STATES, choices={row.name: row.note for row in BASES.values()}
    )
    kbit_prepare: Annotated[str, OneOf(KBIT_PREPARATIONS)] | None = setting(
        None, "What is fp32 beside quantised matrices.", STATES, otherwise="the engine's", choices=UPCASTS
    )
    train_also: Annotated[tuple[Annotated[str, OneOf(TRAINED_ALSO)], ...], Field(strict=False)] = setting(
        (), "Trained beside adapters, as copies of their own (PEFT's modules_to_save).", STATES, metavar="WORDS",
        otherwise="nothing", choices=ALSO,
    )  # fmt: skip
    train_layers: Annotated[int, within(1, 65536)] | None = setting(
        None, "Train the last N layers alone (LLaMA-Factory's freeze_trainable_layers).", STATES, otherwise="all"
    )
    freeze: Annotated[tuple[Annotated[str, OneOf(FREEZABLE)], ...], Field(strict=False)] = setting(
        (), "What is not trained.", STATES, metavar="WORDS", choices=FREEZING
    )

    @property
    def method_row(self) -> TrainingMethod:
        return METHODS[self.method]

    @property
    def base(self) -> BaseFormat:
        """How frozen matrices are stored where the method quantises them."""
        return BASES[self.base_format]

    @property
    def adapts(self) -> bool:
        """Whether adapters are trained beside frozen weights."""
        return self.method_row.adapters

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """The matrices that adapters stand on, in the user's words or as the method has it."""
        return self.lora_targets if "lora_targets" in self.model_fields_set else self.method_row.targets

    @property
    def frozen_parts(self) -> frozenset[str]:
        """Names of a model's parts of which nothing is trained."""
        return frozenset(name for word in self.freeze for name in FROZEN_PARTS.get(word, ()))


def not_upcast(which: str, base: BaseFormat, sharded: bool, kernels: str, precision: str) -> str:
    """Why a k-bit preparation does not happen; empty where it can."""
    if which == "none":
        return ""
    if sharded:  # TRL prepare_peft_model, is_sharded_qlora; axolotl loaders/model.py
        return "sharded parameters must have one type, so libraries upcast none of them; leave it out"
    if which == "all" and not base.upcasts:
        return f"PEFT leaves what stands beside {base.name} matrices as it is; norms, or none"
    if kernels == "unsloth":
        return "Unsloth upcasts nothing; leave it out"
    if precision not in (*MIXED, "bf16-amp", "bf16") or (which == "norms" and precision == "bf16"):
        return f"{which} in fp32 is modelled under bf16-mixed and bf16-amp{', and bf16' if which == 'all' else ''}"
    return ""
