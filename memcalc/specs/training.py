"""One training run: precision, optimizer, batch, what is trained and what is recomputed or offloaded."""

from memcalc.autograd.profile import OF_TOKENS, SCORING
from memcalc.formulas.optimizer_steps import choices
from memcalc.formulas.optimizers import optimizer
from memcalc.specs.batches import ACCUMULATING
from memcalc.specs.main_states import PARTS
from memcalc.specs.pipeline import predicting_of_layout
from memcalc.specs.spec import Spec, SpecError, rule
from memcalc.specs.step_settings import StepSettings


class Training(StepSettings, Spec):
    """How a model is trained. Sizes are per GPU: micro_batch sequences of seq_len tokens at a time."""

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

    @rule("parallelism")
    def _check_overlap(self) -> None:
        if self.parallelism.tp_overlap is not None and not (self.kernels_used == "te" or self._overlaps_compiled):
            raise SpecError(
                "is Transformer Engine's, and torchtitan's where it compiles; add engine megatron or torchtitan",
                "tp_overlap", "engine",
            )  # fmt: skip

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
    def _check_freezing(self) -> None:
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
        if loss in OF_TOKENS and self.parallelism.tp > 1 and not self.engine_row.gathers_logits:
            raise SpecError("log-probabilities over a divided vocabulary are modelled for Megatron's loss", "objective", "tp")
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
        if not row.adapters or row.pairs:
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
        if not self.method_row.pairs:
            raise SpecError("is about LoRA's matrices; add method lora, qlora or dora", "adapter_dtype", "method")
        if self.adapter_dtype == "fp32" and not self.engine_row.peft:
            raise SpecError(f"{self.engine_row.name} has adapters of its own, in the precision's format; leave it out",
                            "adapter_dtype", "engine")  # fmt: skip

    @rule("expert_adapters")
    def _check_expert_adapters(self) -> None:
        if self.expert_adapters in (None, "none"):
            return
        if not self.method_row.pairs or self.method_row.magnitude:
            raise SpecError("is about LoRA's matrices; add method lora", "expert_adapters", "method")
        if self.kernels_used != "te":
            raise SpecError("is modelled for Megatron's grouped products; transformers keeps experts as parameters, which "
                            "all-linear leaves out; add engine megatron", "expert_adapters", "engine")  # fmt: skip

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

    @rule("mtp_layers", "pipeline_layout")
    def _check_predicting(self) -> None:
        laid = self.parallelism.pipeline_layout
        if self.mtp_layers == 0 and laid and predicting_of_layout(laid):
            raise SpecError(f"0, but the layout has {predicting_of_layout(laid)} (m)", "mtp_layers", "pipeline_layout")
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
