"""What of a layer's forward a run recomputes: whole layers one by one or in chunks, or parts of them."""

from typing import Annotated

from pydantic import Field

from memcalc.specs.spec import ACTIVATIONS, OneOf, SpecError, SpecPart, rule, setting, within

RECOMPUTATION = {
    "none": "keeps what the backward needs",
    "selective": "drops attention's scores, or as the engine chooses",
    "full": "keeps each layer's input and runs its forward again",
}
RECOMPUTE = tuple(RECOMPUTATION)
METHODS = {
    "block": "the first N layers of a stage, one by one",
    "uniform": "all layers, N at a time: the first one's input is kept",
}
MODULES = {  # megatron/core/transformer/transformer_config.py
    "core_attn": "attention's scores and probabilities (a fused kernel keeps none)",
    "mla_up_proj": "latent attention's up-projections and rotation",
    "layernorm": "norms before latent attention and experts",
    "mlp": "dense MLPs, with their norm",
    "moe": "experts and their router",
    "moe_act": "the experts' activation",
    "shared_experts": "shared experts",
}
Layers = Annotated[int, within(1, 65536)]


class Recomputation(SpecPart):
    """Activation recomputation (gradient checkpointing), in PyTorch's and in Megatron-LM's words."""

    recompute: Annotated[str, OneOf(RECOMPUTE)] = setting(
        "none", "Activation recomputation (gradient checkpointing).", ACTIVATIONS, choices=RECOMPUTATION
    )
    recompute_every: Layers | None = setting(
        None, "full: each N-th layer alone (torchtitan's selective N).", ACTIVATIONS, otherwise="every layer"
    )
    recompute_layers: Layers | None = setting(
        None, "full: a stage's first N layers alone (Megatron's block).", ACTIVATIONS, otherwise="all"
    )
    recompute_method: Annotated[str, OneOf(tuple(METHODS))] | None = setting(
        None, "full: which layers, in Megatron's words.", ACTIVATIONS, otherwise="every layer, one by one", choices=METHODS
    )
    recompute_num_layers: Layers | None = setting(None, "N of --recompute-method.", ACTIVATIONS, otherwise="1")
    recompute_modules: Annotated[tuple[Annotated[str, OneOf(tuple(MODULES))], ...], Field(strict=False)] = setting(
        (), "selective: which parts of layers (Megatron), with commas.", ACTIVATIONS, metavar="WORDS", otherwise="core_attn",
        choices=MODULES,
    )  # fmt: skip

    @rule("recompute_every", "recompute_layers", "recompute_method", "recompute_num_layers", "recompute_modules")
    def _check_recomputation(self) -> None:
        for name in ("recompute_every", "recompute_layers", "recompute_method", "recompute_num_layers"):
            if getattr(self, name) is not None and self.recompute != "full":
                raise SpecError("says which layers are recomputed; add recompute full", name, "recompute")
        if self.recompute_every is not None and self.recompute_layers is not None:
            raise SpecError("each n-th layer, or the first n of a stage; choose one", "recompute_every", "recompute_layers")
        if self.recompute_num_layers is not None and self.recompute_method is None:
            raise SpecError(
                "how many layers; add recompute_method block or uniform", "recompute_num_layers", "recompute_method"
            )
        for name in ("recompute_every", "recompute_layers"):
            if self.recompute_method is not None and getattr(self, name) is not None:
                raise SpecError("two ways to say which layers are recomputed; choose one", "recompute_method", name)
        if self.recompute_modules and self.recompute != "selective":
            raise SpecError("names parts of layers; add recompute selective", "recompute_modules", "recompute")

    @property
    def first_layers(self) -> int | None:
        """How many of a stage's first layers are recomputed alone; None: no such limit."""
        if self.recompute_method == "block":
            return self.recompute_num_layers or 1
        return self.recompute_layers

    @property
    def chunk(self) -> int:
        """Layers under one checkpoint."""
        return (self.recompute_num_layers or 1) if self.recompute_method == "uniform" else 1
