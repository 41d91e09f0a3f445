"""One training run: precision, optimizer, batch, what is trained and what is recomputed or offloaded."""

from typing import Annotated

from pydantic import Field

from memcalc.allocator.settings import AllocatorSettings
from memcalc.autograd.profile import KERNELS, LOSSES, OF_TOKENS, SCORING
from memcalc.caches import cached_property
from memcalc.formulas.engines import ENGINES, Engine
from memcalc.formulas.optimizer_steps import choices, implementation
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.optimizers import optimizer
from memcalc.formulas.precision import PRECISION_NAMES, PRECISIONS
from memcalc.specs.batches import ACCUMULATING, Batches
from memcalc.specs.fine_tuning import MIXED, FineTuning, not_upcast
from memcalc.specs.main_states import PARTS, MainStates
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.pipeline import predicting_of_layout
from memcalc.specs.recomputing import Recomputation
from memcalc.specs.spec import ACTIVATIONS, EXPERTS, STATES, Flag, OneOf, SpecError, rule, setting, within

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


class Training(Batches, Recomputation, MainStates, FineTuning):
    """How a model is trained. Sizes are per GPU: micro_batch sequences of seq_len tokens at a time."""

    parallelism: Parallelism = Field(default_factory=Parallelism, description="How the work is divided over GPUs.")
    precision: Annotated[str, OneOf(PRECISION_NAMES)] = setting(
        "bf16-mixed", "Number formats of a step.", STATES, metavar="WORD", choices={row.name: row.note for row in PRECISIONS}
    )
    optimizer: Annotated[str, OneOf(OPTIMIZER_NAMES)] = setting("adamw", "As in `memcalc optimizers`.", STATES, metavar="NAME")
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
        return self.precision.endswith("-amp") or (self.upcast != "" and self.precision in MIXED)

    @property
    def attention_used(self) -> str:
        """The kind of attention kernel, whatever its version."""
        return "flash" if self.attention == "flash3" else self.attention

    @property
    def fp32_adapters(self) -> bool:
        """Whether LoRA's matrices are fp32 whatever the precision."""
        return self.engine_row.peft if self.adapter_dtype is None else self.adapter_dtype == "fp32"

    @property
    def kernels_used(self) -> str:
        return self.kernels or self.engine_row.kernels

    @property
    def loss_used(self) -> str:
        return self.loss or self._loss_of_library() or self._loss_of_objective() or self._loss_of_kernels()

    def _loss_of_kernels(self) -> str:
        return KERNELS[self.kernels_used].loss or self.engine_row.loss

    def _loss_of_objective(self) -> str:
        """How log-probabilities are taken: of logits in fp32 where accelerate converts what the model returns, which it does
        under its own autocast (accelerator.py, prepare_model; DeepSpeed and Megatron have formats of their own)."""
        if not self.objective_row.scored or self._loss_of_kernels() in SCORING:
            return ""
        if (
            self.kernels_used == "te"
        ):  # over each rank's share of the vocabulary (megatron/core/tensor_parallel/cross_entropy.py)
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
    def fsdp(self) -> bool:
        return self.parallelism.fsdp is not None

    @property
    def modules(self) -> tuple[str, ...]:
        """Parts of layers that are recomputed alone."""
        if self.recompute != "selective" or self.engine_row.by_operation:
            return ()
        return self.recompute_modules or ("core_attn",)

    @rule("parallelism")
    def _check_divided(self) -> None:
        p, name = self.parallelism, "tokens_per_batch" if self.tokens_per_batch else "seq_len"
        if p.cp == 1 and not p.sequence_parallel:
            return
        for length in dict.fromkeys((self.row_length, self.tokens_per_batch or self.seq_len)):
            if length % p.cp:
                raise SpecError(f"context parallelism {p.cp} must divide the sequence of {length} tokens", "cp", name)
            if p.sequence_parallel and length // p.cp % p.tp:
                raise SpecError(
                    f"sequence parallelism: tp {p.tp} must divide the {length // p.cp} tokens of a sequence", "tp", name
                )

    @rule("global_batch")
    def _check_global_batch(self) -> None:
        made = self.micro_batch * self.grad_accum * self.parallelism.data_parallel
        if self.global_batch not in (None, made):
            raise SpecError(
                f"{self.global_batch:,}, but micro_batch × grad_accum × data-parallel ranks = "
                f"{self.micro_batch:,} × {self.grad_accum:,} × {self.parallelism.data_parallel:,} = {made:,}",
                "global_batch", "grad_accum",
            )  # fmt: skip

    @rule("grad_accum_dtype")
    def _check_accumulation(self) -> None:
        if self.grad_accum_dtype is not None and self.engine_row.name != ACCUMULATING:
            raise SpecError(
                f"is DeepSpeed's; {self.engine_row.name} has no such choice (Megatron's is main_grads_dtype)",
                "grad_accum_dtype", "engine",
            )  # fmt: skip

    @rule("recompute_modules")
    def _check_modules(self) -> None:
        if self.recompute_modules and self.kernels_used != "te":
            raise SpecError("names parts of Megatron-LM's layers; add engine megatron", "recompute_modules", "engine")

    @rule(*PARTS)
    def _check_formats(self) -> None:
        part = next((part for part in PARTS if getattr(self, part) is not None), None)
        if part is None:
            return
        if not self.engine_row.fp32_gradients or self.precision not in ("bf16-mixed", "fp8-mixed"):
            raise SpecError(
                "belongs to Megatron-LM under bf16-mixed or fp8-mixed; add engine megatron", part, "engine", "precision"
            )
        if self.adapts:
            raise SpecError(f"formats of what {self.method} freezes; leave it out", part, "method")
        if part != "main_grads_dtype" and (self.parallelism.zero != 1 or self.optimizer != "adamw"):
            raise SpecError(
                "is the precision-aware optimizer's, which is Adam over shards; add zero 1 (the distributed optimizer)",
                part, "zero", "optimizer",
            )  # fmt: skip

    @rule("expert_imbalance", "pad_to_capacity")
    def _check_routing(self) -> None:
        if self.expert_imbalance > 1 and self.parallelism.ep == 1:
            raise SpecError(
                "one rank holds all experts, so it has all rows however they spread; add ep", "expert_imbalance", "ep"
            )
        if self.pad_to_capacity and self.capacity_factor is None:
            raise SpecError(
                "pads each expert's rows to its capacity; add a capacity_factor", "pad_to_capacity", "capacity_factor"
            )
        if self.pad_to_capacity and self.expert_imbalance > 1:
            raise SpecError(
                "padded experts compute as many rows however tokens spread; choose one", "pad_to_capacity", "expert_imbalance"
            )

    @rule("freeze")
    def _check_frozen(self) -> None:
        if "embeddings" in self.freeze and self.adapts:
            raise SpecError(
                f"{self.method} freezes the whole model; only its adapters are trained, of which a tower may have none "
                f"(freeze vision)", "freeze", "method",
            )  # fmt: skip

    @rule("parallelism", "method", "precision")
    def _check_eight_bits(self) -> None:
        if not self.parallelism.quantized_frozen:
            return
        if not self.adapts or self.method_row.quantised:
            raise SpecError("is for the frozen weights beside adapters; add method lora", "quantized_frozen", "method")
        if self.precision not in ("fp16", "fp16-mixed"):  # runtime/engine.py, quantize_dstensor
            raise SpecError("DeepSpeed quantises fp16 weights alone; add precision fp16-mixed", "quantized_frozen", "precision")

    @rule("optimizer")
    def _check_sharding(self) -> None:
        zero = self.parallelism.zero or 0
        if zero and not optimizer(self.optimizer).elementwise:
            raise SpecError(
                f"{self.optimizer} looks at whole matrices, but ZeRO {zero} cuts the flattened parameters; "
                f"use --zero 0, or an elementwise optimizer such as adamw",
                "optimizer",
                "zero",
            )

    @rule("offload", "offload_fraction", "offload_to")
    def _check_offload(self) -> None:
        zero, fsdp = self.parallelism.zero or 0, self.parallelism.fsdp
        if "parameters" in self.offload and zero != 3 and fsdp in (None, "none"):
            raise SpecError(
                "offloading parameters needs them sharded: zero 3, or fsdp full, grad-op or hybrid", "offload", "zero"
            )
        if self.offload_fraction < 1 and "optimizer" not in self.offload:
            raise SpecError("is the share that is offloaded; add offload optimizer", "offload_fraction", "offload")
        if "optimizer" in self.offload and not zero and fsdp in (None, "none") and self.parallelism.gpus > 1:
            raise SpecError("offloading the optimizer needs zero 1, 2 or 3, or fsdp, or one GPU", "offload", "zero")
        if "gradients" in self.offload and (self.parallelism.zero is not None or fsdp or "optimizer" not in self.offload):
            raise SpecError(
                "offloading gradients is torchao's, for one GPU, with offload optimizer; ZeRO-Offload and FSDP move them with "
                "the optimizer or the parameters",
                "offload",
            )
        if self.offload_to == "nvme" and zero != 3:
            raise SpecError("NVMe offload is part of ZeRO 3 (ZeRO-Infinity)", "offload_to", "zero")

    @rule("objective", "loss", "parallelism", "engine", "kernels")
    def _check_scored(self) -> None:
        scored, loss = self.objective_row.scored, self.loss_used
        if not scored and self.loss in OF_TOKENS:
            raise SpecError("is of preferences; add objective dpo, kto, orpo, cpo or simpo", "loss", "objective")
        if not scored:
            return
        if loss not in SCORING:
            names = ", ".join(SCORING)
            raise SpecError(f"{self.objective} takes log-probabilities, {loss} gives none; one of {names}", "loss", "objective")
        p = self.parallelism
        if loss in OF_TOKENS and p.tp > 1 and not self.engine_row.gathers_logits:
            raise SpecError(
                "log-probabilities over a divided vocabulary are modelled for Megatron's loss alone", "objective", "tp"
            )
        if self.reference == "same" and not self.adapts:
            raise SpecError("needs adapters, which are switched off for it; frozen is a copy", "reference", "method")

    @rule("base_format")
    def _check_base(self) -> None:
        sharded = self.parallelism.zero == 3 or self.parallelism.fsdp not in (None, "none")
        if self.method_row.quantised and sharded and self.base_format in ("int8", "hqq", "awq", "fp8"):
            raise SpecError(f"{self.base_format} matrices cannot be sharded; nf4, fp4 and gptq can", "base_format")

    @rule("method")
    def _check_adapter(self) -> None:
        row = self.method_row
        if not row.adapters or row.adapter == "lora":
            return
        if not self.engine_row.leaf or self.kernels_used not in ("eager", "liger"):
            raise SpecError(
                f"{self.method} is PEFT's, around transformers: engine torch, accelerate or deepspeed, kernels eager or liger",
                "method", "engine", "kernels",
            )  # fmt: skip
        if self.parallelism.tp > 1:
            raise SpecError(f"{self.method} over tensor-parallel ranks is not modelled", "method", "tp")

    @rule("adapter_dtype")
    def _check_adapter_dtype(self) -> None:
        if self.adapter_dtype is None:
            return
        if self.method_row.adapter != "lora" or not self.adapts:
            raise SpecError("is about LoRA's matrices; add method lora, qlora or dora", "adapter_dtype", "method")
        if self.adapter_dtype == "fp32" and not self.engine_row.peft:
            raise SpecError(f"{self.engine_row.name} has adapters of its own, in the precision's format; leave it out",
                            "adapter_dtype", "engine")  # fmt: skip

    @rule("train_also")
    def _check_copies(self) -> None:
        if not self.train_also:
            return
        if not self.adapts:
            raise SpecError("trains copies beside adapters; add method lora", "train_also", "method")
        if not self.engine_row.peft:
            raise SpecError(f"is PEFT's modules_to_save; {self.engine_row.name} has no such thing", "train_also", "engine")
        if self.kernels_used == "unsloth":
            raise SpecError("Unsloth trains fp32 copies beside originals that it moves off the GPU, which is not modelled",
                            "train_also", "kernels")  # fmt: skip

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

    @rule("method")
    def _check_prompt(self) -> None:
        if not (self.prompt or self.prefix):
            return
        if self.prefix and self.recompute != "none":
            raise SpecError("prefix tuning does not work with recomputation (peft/peft_model.py, _setup_prompt_encoder)",
                            "method", "recompute")  # fmt: skip
        for name, wrong in (
            ("tokens_per_batch", self.tokens_per_batch is not None), ("train_also", bool(self.train_also)),
            ("pp", self.parallelism.pp > 1), ("cp", self.parallelism.cp > 1), ("images", bool(self.images)),
            ("sequence_parallel", self.parallelism.sequence_parallel), ("objective", self.objective == "embed"),
        ):  # fmt: skip
            if wrong:
                raise SpecError(f"{self.method} is modelled without {name}", "method", name)

    @cached_property
    def predicting(self) -> int:
        """Layers beside the model's own that predict further tokens."""
        layout = self.parallelism.pipeline_layout
        return self.mtp_layers or (predicting_of_layout(layout) if layout else 0)

    @rule("mtp_layers", "pipeline_layout")
    def _check_predicting(self) -> None:
        if not self.predicting:
            return
        said = "mtp_layers" if self.mtp_layers else "pipeline_layout"
        if not self.engine_row.fp32_gradients:
            raise SpecError("prediction layers are Megatron's; add engine megatron", said, "engine")
        layout = self.parallelism.pipeline_layout
        if layout and predicting_of_layout(layout) != self.predicting:
            found = predicting_of_layout(layout)
            raise SpecError(f"{self.predicting}, but the layout has {found} (m)", "mtp_layers", "pipeline_layout")
        for name, wrong in (("method", self.method != "full"), ("objective", self.objective is not None)):
            if wrong:
                raise SpecError(f"prediction layers are modelled for full training of language models, without {name}",
                                said, name)  # fmt: skip

    @rule("train_layers")
    def _check_layers(self) -> None:
        if self.train_layers is None:
            return
        for name, wrong in (
            ("method", self.method != "full"), ("pp", self.parallelism.pp > 1), ("images", bool(self.images)),
            ("freeze", bool(self.freeze)), ("recompute", self.recompute == "selective"),
            ("recompute_every", self.recompute_every is not None), ("recompute_layers", self.recompute_layers is not None),
            ("recompute_method", self.recompute_method is not None), ("engine", self.engine_row.fp32_gradients),
        ):  # fmt: skip
            if wrong:
                raise SpecError(f"the last layers alone are modelled under method full, without {name}", "train_layers", name)

    @rule("kbit_prepare")
    def _check_upcast(self) -> None:
        if (asked := self.kbit_prepare) and (reason := self._not_upcast(asked)):
            raise SpecError(reason, "kbit_prepare")

    def _not_upcast(self, which: str) -> str:
        sharded = self.parallelism.zero == 3 or self.parallelism.fsdp not in (None, "none")
        return not_upcast(which, self.base, sharded, self.kernels_used, self.precision)

    @rule("library")
    def _check_library(self) -> None:
        if self.library is None:
            return
        if self.engine_row.loss != "full":
            raise SpecError(f"{self.engine_row.name} has a loss of its own; leave it out", "library", "engine")
        self._loss_of_library()

    @rule("optimizer", "optimizer_impl", "optimizer_in_backward", "offload")
    def _check_step(self) -> None:
        row, p = optimizer(self.optimizer), self.parallelism
        if self.optimizer_impl and self.optimizer_impl not in (can := choices(row)):
            raise SpecError(f"{self.optimizer}'s step is {' or '.join(can)}", "optimizer_impl")
        if self.optimizer_in_backward and row.in_backward:
            raise SpecError(f"{self.optimizer} steps in the backward anyway; leave it out", "optimizer_in_backward")
        if not self.gradients_leave:
            return
        what = "offload gradients" if "gradients" in self.offload else "a step inside the backward"
        if self.grad_accum > 1:
            raise SpecError(f"{what} leaves no gradient to accumulate to; grad_accum 1", "grad_accum")
        if p.zero is not None or self.engine_row.fp32_gradients:
            raise SpecError(f"{what} is not what DeepSpeed's and Megatron's optimizers do", "optimizer_in_backward")
        if p.shard_ranks > 1 and not self.fsdp:
            raise SpecError(f"{what} comes before DDP has reduced the gradient; use fsdp, or one GPU", "optimizer_in_backward")
        if self.max_grad_norm:
            raise SpecError(f"{what} comes before the norm of all gradients is known", "max_grad_norm")
        if self.steps_in_backward and "optimizer" in self.offload and not self.fsdp:
            raise SpecError("the step is on the host, after the backward", "optimizer_in_backward", "offload")
