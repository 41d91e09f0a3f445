"""LitGPT's YAML (litgpt/args.py; litgpt/finetune/lora.py and full.py, litgpt/pretrain.py)."""

from memcalc.readers.launch.kind import Kind, has
from memcalc.readers.launch.kinds.common import DATA, IDLE, LOGGING, SCHEDULE, world
from memcalc.readers.launch.meanings import By, Ignored, KeyTable, Unmodelled, alike
from memcalc.readers.launch.nodes import Value
from memcalc.readers.launch.reading import Reading
from memcalc.readers.launch.values import Read, flag

WHY = "LitGPT's default"
TARGETS = {"lora_query": ["q_proj"], "lora_key": ["k_proj"], "lora_value": ["v_proj"], "lora_projection": ["o_proj"],
    "lora_mlp": ["gate_proj", "up_proj", "down_proj"]}  # fmt: skip


def _checkpoint(value: Value) -> dict[str, Read]:
    return {"model": str(value).removeprefix("checkpoints/")}


def _precision(value: Value) -> dict[str, Read]:
    """Lightning Fabric's words: true is what weights are stored in, mixed is autocast over fp32."""
    bits, _, how = str(value).partition("-")
    name = {"16": "fp16", "32": "fp32", "bf16": "bf16"}.get(bits, bits)
    return {"precision": f"pure-{name}"} if how == "true" and name != "fp32" else {"precision": name, "model_dtype": "fp32"}


def _quantize(value: Value) -> dict[str, Read]:
    word = str(value).removeprefix("bnb.")
    if word.startswith("int8"):
        return {"quantization_bit": 8}
    return {"quantization_bit": 4, "base_format": word.removesuffix("-dq"), "double_quant": word.endswith("-dq")}


def _optimizer(value: Value) -> dict[str, Read]:
    return {"optimizer": str(value).rpartition(".")[2]}


def _rank(value: Value) -> dict[str, Read]:
    return {"method": "lora", "lora_rank": int(str(value))}


def _target(value: Value) -> dict[str, Read]:
    flag(str(value))
    return {}


KEYS: KeyTable = {
    "checkpoint_dir": By(_checkpoint, "model"), "model_name": "model",
        "initial_checkpoint_dir": Ignored("where training begins", True),
    "precision": By(_precision, "precision"), "quantize": By(_quantize, "quantization_bit"),
    "devices": "gpus_per_node", "num_nodes": "nodes",
    "lora_r": By(_rank, "lora_rank"), "lora_alpha": IDLE, "lora_dropout": "lora_dropout",
    **{name: By(_target, "lora_targets") for name in TARGETS},
    "lora_head": Unmodelled("adapters of the head"),
    "train.micro_batch_size": "micro_batch", "train.global_batch_size": "global_batch", "train.max_seq_length": "seq_len",
    "train.max_norm": "max_grad_norm", "train.tie_embeddings": "tied",
    **alike("optimizer optimizer.class_path", By(_optimizer, "optimizer")), "optimizer.init_args.*": SCHEDULE,
    **alike("train.lr_* train.epochs train.max_tokens train.max_steps train.max_time train.min_lr", SCHEDULE),
    **alike("train.save_interval train.log_interval log.* logger_name out_dir eval.*", LOGGING),
    **alike("data data.* tokenizer_dir", DATA), **alike("seed resume access_token", IDLE),
    "model_config.*": Unmodelled("settings of the model other than its own"), "model_config": IDLE,
    **alike("adapter_* prefix_*", Unmodelled("another adapter than LoRA")),
}  # fmt: skip


def _finish(out: Reading) -> None:
    """FSDP over more than one device; fine-tuning recomputes each block there, pre-training none."""
    listed = {row.entry.key: str(row.entry.value).lower() == "true" for row in out.imported if row.entry.key in TARGETS}
    if out.says("method", "lora"):
        chosen = {"lora_query": True, "lora_value": True} | listed
        out.follow("lora_targets", [each for name, words in TARGETS.items() if chosen.get(name) for each in words], "lora_rank")
    if out.says("quantization_bit", 4) and out.says("method", "lora"):
        out.facts["method"] = out.facts["method"]._replace(value="qlora")
    out.default(WHY, method="full", nodes=1)
    if not any(row.entry.key == "devices" for row in out.imported):
        out.default(WHY, gpus_per_node=1)
    world(out)
    pretraining = any(row.entry.key in ("model_name", "initial_checkpoint_dir") for row in out.imported)
    gpus = out.facts["gpus"].value if "gpus" in out.facts else 1
    if isinstance(gpus, int) and gpus > 1:
        out.default(WHY, strategy="fsdp1", fsdp="hybrid" if pretraining else "full")
        if not pretraining:
            out.default(WHY, recompute="full")
    out.default(WHY, micro_batch=4 if pretraining else 1, optimizer="AdamW", recompute="none")


LITGPT = Kind(
    "litgpt-yaml", "LitGPT", (KEYS,), has("out_dir", "train.micro_batch_size", any_=("checkpoint_dir", "model_name")), _finish
)
