"""Megatron-LM's arguments (megatron/training/arguments.py). The model's own stand in $MODEL_ARGS: a name says too little."""

from memcalc.report.launching.launch import Launch, Written, argument, torchrun

DEGREES = {
    "tp": "tensor-model-parallel-size", "pp": "pipeline-model-parallel-size", "cp": "context-parallel-size",
    "ep": "expert-model-parallel-size", "etp": "expert-tensor-parallel-size",
}  # fmt: skip
FLAGS = {
    "sequence_parallel": "sequence-parallel", "count_embedding": "account-for-embedding-in-pipeline-split",
    "count_loss": "account-for-loss-in-pipeline-split",
}  # fmt: skip


def write(launch: Launch) -> tuple[Written, ...]:
    out = [argument("bf16"), *(argument(word, launch.get(name)) for name, word in DEGREES.items() if launch.get(name, 1) > 1)]
    if launch.get("virtual_stages", 1) > 1:
        out.append(argument("num-virtual-stages-per-pipeline-rank", launch.get("virtual_stages")))
    if launch.get("pipeline_layout"):
        out.append(argument("pipeline-model-parallel-layout", launch.get("pipeline_layout")))
    out += [argument(word) for name, word in FLAGS.items() if launch.get(name)]
    if launch.get("sequence_parallel") and launch.get("tp_overlap") != "off":
        out.append(argument("tp-comm-overlap"))
    if launch.get("zero"):
        out += [argument("use-distributed-optimizer"), argument("overlap-grad-reduce"), argument("overlap-param-gather")]
    out += [
        argument("micro-batch-size", launch.get("micro_batch", 1)),
        argument("global-batch-size", launch.global_batch),
        argument("seq-length", launch.get("seq_len", 4096)),
    ]
    if launch.get("precision") == "fp8-mixed":
        out.append(argument("fp8-format", "hybrid"))
    if launch.get("recompute") == "full":
        method, layers = launch.get("recompute_method", "uniform"), launch.get("recompute_num_layers", 1)
        out += [argument("recompute-granularity", "full"), argument("recompute-method", method),
                argument("recompute-num-layers", layers)]  # fmt: skip
    elif launch.get("recompute") == "selective":
        out.append(argument("recompute-granularity", "selective"))
        if launch.get("recompute_modules"):
            out.append(f"--recompute-modules {' '.join(launch.get('recompute_modules'))}")
    head = f"# {launch.model}: its own arguments in $MODEL_ARGS, data in $DATA_ARGS\n"
    first, rest = torchrun(launch, "pretrain_gpt.py $MODEL_ARGS $DATA_ARGS", out).split("\n", 1)
    return (Written("launch.sh", f"{first}\n{head}{rest}"),)
