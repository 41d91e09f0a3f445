"""What is said of a training run beside its batch, and what follows from that: kernels, loss, formats, what is kept."""

from typing import Annotated

from pydantic import Field

from memcalc.allocator.settings import AllocatorSettings
from memcalc.autograd.profile import KERNELS, LOSSES, SCORING
from memcalc.caches import cached_property
from memcalc.formulas.engines import ENGINES, Engine
from memcalc.formulas.optimizer_steps import implementation
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.optimizers import optimizer
from memcalc.formulas.precision import PRECISION_NAMES, PRECISIONS, precision
from memcalc.specs.batches import Batches
from memcalc.specs.fine_tuning import MIXED, FineTuning, not_upcast
from memcalc.specs.main_states import MainStates
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.pipeline import predicting_of_layout
from memcalc.specs.recomputing import Recomputation
from memcalc.specs.spec import ACTIVATIONS, EXPERTS, STATES, Flag, OneOf, setting, within

OPTIMIZER_NAMES = tuple(OPTIMIZERS)
OFFLOADED = {
    "optimizer": "the optimizer's states, and its step on the host",
    "parameters": "parameters between their uses",
    "activations": "what layers keep for the backward",
    "gradients": "gradients as the backward makes them (torchao's offload_gradients)",
}
OFFLOADABLE = tuple(OFFLOADED)
ATTENTION_KERNELS = {
    "eager": "writes out the scores of every pair of tokens",
    "sdpa": "PyTorch's scaled_dot_product_attention",
    "flash": "FlashAttention: no scores are kept",
    "flash3": "the same by FlashAttention 3 or later: faster on Hopper and Blackwell",
}
ATTENTION = tuple(ATTENTION_KERNELS)
KERNEL_NAMES = tuple(KERNELS)
LOSS_NAMES = tuple(LOSSES)
STEPS = {
    "fused": "one kernel, nothing beside the states",
    "foreach": "all tensors at once: AdamW's temporaries are as large as the parameters",
    "for-loop": "tensor by tensor",
}
OPTIMIZER_IMPLS = tuple(STEPS)
AVERAGES = {"weights": "in the weights' own format", "fp32": "in fp32"}
ALLOCATORS = {
    "segments": "segments of fixed size, each for itself",
    "expandable-segments": "one that grows for each pool: little is lost to fragmentation",
}
HOSTS = {"cpu": "the host's memory", "nvme": "disk, through a buffer in host memory (ZeRO-Infinity)"}

MAX_PREDICTING = 16  # layers that predict further tokens


class StepSettings(Batches, Recomputation, MainStates, FineTuning):
    """The settings of a training step, and what engine, method and libraries make of them."""

    parallelism: Parallelism = Field(default_factory=Parallelism, description="How the work is divided over GPUs.")
    precision: Annotated[str, OneOf(PRECISION_NAMES)] = setting(
        "bf16-mixed", "Number formats of a step.", STATES, metavar="WORD", choices={row.name: row.note for row in PRECISIONS}
    )
    optimizer: Annotated[str, OneOf(OPTIMIZER_NAMES)] = setting(
        "adamw", "As in `memcalc optimizers`; Unsloth's trainers take adamw-8bit.", STATES, metavar="NAME"
    )
    optimizer_impl: Annotated[str, OneOf(OPTIMIZER_IMPLS)] | None = setting(
        None, "How the optimizer's step is run.", STATES, otherwise="the engine's", choices=STEPS
    )
    optimizer_in_backward: Flag = setting(
        False, "Step each tensor as its gradient is made (torchtune's optimizer_in_bwd): no gradients are kept.", STATES
    )
    max_grad_norm: Annotated[float, within(0.0, 1e9)] = setting(
        0.0, "Clip gradients to this norm; 0 does not.", STATES, otherwise="no clipping"
    )
    ema: Annotated[str, OneOf(tuple(AVERAGES))] | None = setting(
        None, "A moving average of what is trained, on the GPU.", STATES, otherwise="none", choices=AVERAGES
    )
    offload: Annotated[tuple[Annotated[str, OneOf(OFFLOADABLE)], ...], Field(strict=False)] = setting(
        (), "What is kept off the GPU, separated by commas.", STATES, metavar="WORDS", choices=OFFLOADED
    )
    offload_to: Annotated[str, OneOf(tuple(HOSTS))] = setting("cpu", "Where it goes.", STATES, choices=HOSTS)
    loss: Annotated[str, OneOf(LOSS_NAMES)] | None = setting(
        None, "How the cross-entropy is computed.", ACTIVATIONS, metavar="WORD", otherwise="the kernels', or the engine's",
        choices={row.name: row.note for row in LOSSES.values()},
    )  # fmt: skip
    library: str | None = setting(
        None, "The version whose loss it is where --loss names none: transformers==4.46, transformer-engine==2.18.",
        ACTIVATIONS, metavar="NAME==VERSION", otherwise="a recent one",
    )  # fmt: skip
    attention: Annotated[str, OneOf(ATTENTION)] = setting("sdpa", "Attention kernel.", ACTIVATIONS, choices=ATTENTION_KERNELS)
    kernels: Annotated[str, OneOf(KERNEL_NAMES)] | None = setting(
        None, "Whose kernels run the blocks.", ACTIVATIONS, metavar="WORD", otherwise="the engine's",
        choices={row.name: row.note for row in KERNELS.values()},
    )  # fmt: skip
    allocator: Annotated[str, OneOf(tuple(ALLOCATORS))] | None = setting(
        None, "How PyTorch's caching allocator grows (PYTORCH_ALLOC_CONF).", ACTIVATIONS,
        otherwise="segments, or torchtitan's expandable-segments", choices=ALLOCATORS,
    )  # fmt: skip
    max_split_size: Annotated[int, within(21, 2**24)] | None = setting(
        None, "Blocks of so many MiB are not split (max_split_size_mb).", ACTIVATIONS, metavar="MIB"
    )
    engine: Annotated[str, OneOf(tuple(ENGINES))] | None = setting(
        None, "Whose habits to follow, as in `memcalc engines`.", ACTIVATIONS, metavar="NAME",
        otherwise="torch, or ZeRO's deepspeed", choices={row.name: row.note for row in ENGINES.values()},
    )  # fmt: skip
    expert_imbalance: Annotated[float, within(1.0, 65536.0)] = setting(
        1.0, "Rows on the busiest rank of --ep over the mean.", EXPERTS
    )
    capacity_factor: Annotated[float, within(0.01, 65536.0)] | None = setting(
        None, "Experts take so many times an even share of rows; the rest is dropped.", EXPERTS, otherwise="no token is dropped"
    )
    pad_to_capacity: Flag = setting(False, "Pad every expert's rows to its capacity.", EXPERTS)
    mtp_layers: Annotated[int, within(0, MAX_PREDICTING)] | None = setting(
        None, "Layers that predict further tokens, a loss each (Megatron's mtp_num_layers).", STATES,
        otherwise="those of --pipeline-layout",
    )  # fmt: skip

    @cached_property
    def engine_row(self) -> Engine:
        """The engine asked for; ZeRO is DeepSpeed's unless another is named."""
        return ENGINES[self.engine or ("deepspeed" if self.parallelism.zero is not None else "torch")]

    @property
    def upcast(self) -> str:
        """What stands in fp32 beside quantised matrices: "all", "norms" or ""."""
        if not self.method_row.quantised:
            return ""
        if self.kbit_prepare:
            return self.kbit_prepare.replace("none", "")
        habit = self.engine_row.kbit_prepare
        return "" if habit == "none" or not self.base.kbit or self._not_upcast(habit) else habit

    @property
    def autocasts(self) -> bool:
        """Whether a step runs under autocast; beside upcast weights that is what a trainer's mixed precision means."""
        return precision(self.precision).autocast or (self.upcast != "" and self.precision in MIXED)

    @property
    def attention_used(self) -> str:
        """The kind of attention kernel, whatever its version."""
        return "flash" if self.attention == "flash3" else self.attention

    @property
    def fp32_adapters(self) -> bool:
        """Whether LoRA's matrices are fp32 whatever the precision."""
        return self.engine_row.peft if self.adapter_dtype is None else self.adapter_dtype == "fp32"

    @property
    def expert_adapters_used(self) -> str:
        """What stands beside routed experts: Megatron's grouped products alone are modules that can be adapted."""
        if not self.method_row.pairs or self.method_row.magnitude or self.kernels_used != "te":
            return "none"
        return self.expert_adapters or self.engine_row.expert_adapters

    @property
    def keeps_tables_wide(self) -> bool:
        """Whether 8-bit optimizers of bitsandbytes keep fp32 states of embeddings: transformers' Trainer registers these by
        module, which finds them where nothing flattens parameters. Before 4.19 it had no such optimizers, and users made them.
        """
        from memcalc.specs.libraries import is_before

        p, old = self.parallelism, is_before(self.library, "transformers", (4, 19))
        return self.engine_row.trainer and not old and not p.zero and p.fsdp in (None, "none")

    @property
    def masks_padding(self) -> bool:
        """Whether rows of a batch are padded to its longest and attention is told by a mask (transformers masking_utils.py,
        _ignore_causal_mask_sdpa); LitGPT's and torchtune's fine-tuning pads without one."""
        return self.seq_len_max is not None and self.rows > 1 and self.engine_row.trainer

    @property
    def tp_overlaps(self) -> tuple[bool, bool]:
        """Whether tensor-parallel messages pass beside the products that they feed, forward and backward.

        Transformer Engine cuts both into pieces, which needs sequence parallelism (Megatron-LM, --tp-comm-overlap; on in
        NVIDIA's published recipes). torch.compile does where it is asked to (torchtitan, enable_async_tensor_parallel, off by
        default), in the forward: up to 29 % are gained there, and 8 % in all (discuss.pytorch.org/t/209487, 2024).
        """
        p = self.parallelism
        if self._overlaps_compiled:
            return p.sequence_parallel and p.tp_overlap == "on", False
        beside = p.sequence_parallel and self.kernels_used == "te" and p.tp_overlap != "off"
        return beside, beside

    @property
    def _overlaps_compiled(self) -> bool:
        return self.engine_row.async_tp and self.kernels_used == "compiled"

    @property
    def kernels_used(self) -> str:
        return self.kernels or self.engine_row.kernels

    @property
    def loss_used(self) -> str:
        return self.loss or self._loss_of_objective() or self._loss_of_library() or self._loss_of_kernels()

    def _loss_of_kernels(self) -> str:
        return KERNELS[self.kernels_used].loss or self.engine_row.loss

    def _loss_of_objective(self) -> str:
        """How log-probabilities are taken: of logits in fp32 where accelerate converts what the model returns, which it does
        under its own autocast (accelerator.py, prepare_model; DeepSpeed and Megatron have formats of their own)."""
        if not self.objective_row.scored or self._loss_of_kernels() in SCORING:
            return ""
        if self.kernels_used == "te":  # each rank's share of the vocabulary: megatron/core/tensor_parallel/cross_entropy.py
            return "vocab-parallel"
        own = self.parallelism.zero is not None or not self.engine_row.traced
        return "log-probs" if own or not (self.autocasts or self.precision == "fp32") else "log-probs-fp32"

    @property
    def extra_passes(self) -> int:
        """Forward passes of a micro-batch without a gradient: those of the reference, and of answers of other prompts."""
        row = self.objective_row
        return row.passes - 1 + (row.passes if self.reference_used in ("same", "frozen") else 0)

    @property
    def reference_used(self) -> str:
        """Where the reference's log-probabilities come from; none where the objective has no reference."""
        if not self.objective_row.reference:
            return "none"
        return self.reference or ("same" if self.adapts else "frozen")

    def _loss_of_library(self) -> str | None:
        """Raises SpecError where the library's version is not known."""
        if self.library is None:
            return None
        from memcalc.specs.libraries import loss_of

        return loss_of(self.library, self.kernels_used)

    @property
    def optimizer_impl_used(self) -> str:
        """The step's implementation; "own" where the library has but one."""
        return implementation(optimizer(self.optimizer), self.optimizer_impl or self.engine_row.optimizer_impl)

    @property
    def steps_in_backward(self) -> bool:
        """Whether each tensor is updated as its gradient is made."""
        return self.optimizer_in_backward or optimizer(self.optimizer).in_backward

    @property
    def gradients_leave(self) -> bool:
        """Whether no gradient outlives the operation that makes it: it is used up, or goes to the host."""
        return self.steps_in_backward or "gradients" in self.offload

    @property
    def allocator_settings(self) -> AllocatorSettings:
        grows = self.engine_row.expandable if self.allocator is None else self.allocator == "expandable-segments"
        return AllocatorSettings(grows, self.max_split_size or 0)

    @property
    def defers_gradients(self) -> bool:
        """Whether gradients of earlier micro-batches stand whole, though FSDP shards them."""
        p, defers = self.parallelism, self.engine_row.defers
        return defers and self.grad_accum > 1 and p.shards_by_fsdp and not (p.sync_each_batch or self.gradients_leave)

    @property
    def mixes_units(self) -> bool:
        """Whether frozen weights share FSDP1's flat parameters with adapters, so that they have gradients too."""
        return self.engine_row.mixes_units and self.adapts and not self.method_row.quantised and self.parallelism.shards_by_fsdp

    @property
    def main_gradients(self) -> bool:
        """Whether matrix products add weights' gradients to a buffer of the engine's, which stands."""
        return self.engine_row.fp32_gradients and not self.adapts

    @property
    def fsdp(self) -> bool:
        return self.parallelism.fsdp is not None

    @property
    def modules(self) -> tuple[str, ...]:
        """Parts of layers that are recomputed alone."""
        if self.recompute != "selective" or self.engine_row.by_operation:
            return ()
        return self.recompute_modules or ("core_attn",)

    @cached_property
    def row_length(self) -> int:
        """Tokens of a row at its longest, virtual ones among them, which memory must hold."""
        return super().row_length + self.prompt

    @property
    def prompt(self) -> int:
        """Virtual tokens before each sequence."""
        return self.virtual_tokens if self.method_row.adapter == "prompt" and self.adapts else 0

    @property
    def prefix(self) -> int:
        """Virtual tokens of which every layer has keys and values."""
        return self.virtual_tokens if self.method_row.adapter == "prefix" else 0

    @cached_property
    def predicting(self) -> int:
        """Layers beside the model's own that predict further tokens."""
        layout = self.parallelism.pipeline_layout
        return self.mtp_layers or (predicting_of_layout(layout) if layout else 0)

    def _not_upcast(self, which: str) -> str:
        sharded = self.parallelism.zero == 3 or self.parallelism.fsdp not in (None, "none")
        return not_upcast(which, self.base, sharded, self.kernels_used, self.precision)
