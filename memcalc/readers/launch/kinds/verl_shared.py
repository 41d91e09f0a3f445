"""What verl's trainers have in common: the model's keys, the cluster's, and what an actor's facts come to (verl/workers)."""

from memcalc.readers.launch.kinds.common import IDLE, world
from memcalc.readers.launch.meanings import FULL, Coded, KeyTable, Unmodelled
from memcalc.readers.launch.reading import Reading

CHECKPOINTING = Coded("recompute", FULL)
TRAINER: KeyTable = {"trainer.n_gpus_per_node": "gpus_per_node", "trainer.nnodes": "nodes"}
OFFLOADED = (("parameters", "param_offload"), ("optimizer", "optimizer_offload"))


def of_model(path: str) -> KeyTable:
    """The keys of the model that is trained, below this path (verl/trainer/config/model/hf_model.yaml)."""
    return {
        f"{path}path": "model", f"{path}lora_rank": "lora_rank", f"{path}lora.rank": "lora_rank",
        f"{path}target_modules": "lora_targets", f"{path}lora.*": IDLE, f"{path}enable_gradient_checkpointing": CHECKPOINTING,
        f"{path}use_remove_padding": "remove_padding", f"{path}use_fused_kernels": "fused_kernels",
        f"{path}use_liger": Coded("kernels", {"true": "liger", "false": ""}),
        f"{path}enable_activation_offload": "activation_offloading",
        f"{path}override_config.attn_implementation": "attention",
        f"{path}override_config.*":
            Unmodelled("settings of the model other than its own", ("0", "0.", "0.0", "false", "true")),
    }  # fmt: skip


def actor(out: Reading) -> None:
    """Adapters where a rank is said, what is offloaded, and how many GPUs there are."""
    if out.says("lora_rank", 0):
        out.facts.pop("lora_rank")
    offloaded = [name for name, key in OFFLOADED if out.says(key, True)]
    if offloaded:
        out.follow("offload", offloaded, "param_offload", "optimizer_offload")
    if out.says("lora_rank"):
        out.follow("method", "lora", "lora_rank")
        out.default("verl's default", lora_targets="all-linear")
    out.default("no adapter is named", method="full")
    world(out)
