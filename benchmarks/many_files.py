"""How long `memcalc check` takes over fifty launch and sizing files that have nothing in common.

    python benchmarks/many_files.py                 seconds in process, beyond imports, and of the whole command
    python benchmarks/many_files.py --write DIR     the files, to look at
    python benchmarks/many_files.py --profile       where the time goes, by function

Each file is another model, layout and tool; nothing is asked twice. The command is run in processes of its own, once on the
smallest file and once on all, so that the difference is what the files cost beyond start-up.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

GPU = "h100"
MOST = 0.5  # seconds beyond start-up for fifty files


def deepspeed(model: str, stage: int, batch: int, length: int, gpus: int, **more: object) -> str:
    inner = json.dumps(
        {"bf16": {"enabled": True}, "zero_optimization": {"stage": stage, **more}, "train_micro_batch_size_per_gpu": batch}
    )
    return f"""#!/bin/bash
cat > ds_{stage}.json <<JSON
{inner}
JSON
deepspeed --num_gpus {gpus} train.py --model_name_or_path {model} --deepspeed ds_{stage}.json \\
  --per_device_train_batch_size {batch} --gradient_accumulation_steps 4 --block_size {length} --bf16 \\
  --gradient_checkpointing True
"""


def torchrun(model: str, fsdp: str, batch: int, length: int, gpus: int, optim: str) -> str:
    return f"""#!/usr/bin/env bash
set -euo pipefail
MODEL=${{MODEL:-{model}}}
GPUS={gpus}
BS={batch}
ACC=$(( 256 / (BS * GPUS) ))
torchrun --nproc_per_node=$GPUS train.py --model_name_or_path "$MODEL" --bf16 --fsdp "{fsdp}" \\
  --per_device_train_batch_size $BS --gradient_accumulation_steps=$ACC --block_size {length} \\
  --gradient_checkpointing True --optim {optim} --attn_implementation flash_attention_2
"""


def trl(model: str, rank: int, batch: int, length: int, gpus: int, more: str) -> str:
    return f"""accelerate launch --num_processes {gpus} --mixed_precision=bf16 sft.py --model_name_or_path {model} \\
  --torch_dtype bfloat16 --use_peft --lora_r {rank} --lora_target_modules q_proj v_proj {more} --max_length {length} \\
  --per_device_train_batch_size {batch} --gradient_accumulation_steps 8 --gradient_checkpointing True
"""


def axolotl(model: str, method: str, batch: int, length: int, gpus: int) -> str:
    return f"""cat > run.yaml <<YAML
base_model: {model}
adapter: {method}
load_in_4bit: {str(method == "qlora").lower()}
lora_r: 32
lora_alpha: 16
lora_target_linear: true
sequence_len: {length}
sample_packing: true
pad_to_sequence_len: true
micro_batch_size: {batch}
gradient_accumulation_steps: 2
optimizer: adamw_torch_fused
bf16: true
gradient_checkpointing: true
flash_attention: true
YAML
axolotl train run.yaml --launcher accelerate -- --num_processes {gpus}
"""


def llamafactory(model: str, kind: str, batch: int, length: int, gpus: int) -> str:
    return f"""cat > sft.yaml <<YAML
model_name_or_path: {model}
stage: sft
do_train: true
finetuning_type: {kind}
lora_target: all
cutoff_len: {length}
per_device_train_batch_size: {batch}
gradient_accumulation_steps: 8
bf16: true
flash_attn: fa2
YAML
FORCE_TORCHRUN=1 NPROC_PER_NODE={gpus} llamafactory-cli train sft.yaml
"""


def torchtitan(name: str, flavor: str, batch: int, length: int, gpus: int, tp: int, mode: str) -> str:
    return f"""cat > run.toml <<TOML
[model]
name = "{name}"
flavor = "{flavor}"
[optimizer]
name = "AdamW"
[training]
local_batch_size = {batch}
seq_len = {length}
[parallelism]
data_parallel_shard_degree = -1
tensor_parallel_degree = {tp}
[activation_checkpoint]
mode = "{mode}"
TOML
torchrun --nproc_per_node {gpus} -m torchtitan.train --job.config_file run.toml
"""


def megatron(layers: int, hidden: int, ffn: int, heads: int, tp: int, pp: int, nodes: int, more: str) -> str:
    return f"""#!/bin/bash
#SBATCH --nodes={nodes}
#SBATCH --gres=gpu:8
TP={tp}; PP={pp}
MODEL_ARGS=(
    --num-layers {layers} --hidden-size {hidden} --ffn-hidden-size {ffn} --num-attention-heads {heads}
    --seq-length 4096 --max-position-embeddings 4096 --swiglu --untie-embeddings-and-output-weights
    --position-embedding-type rope --vocab-size 32000 --normalization RMSNorm --disable-bias-linear
)
TRAIN_ARGS=( --micro-batch-size 1 --global-batch-size 256 --bf16 --lr 1.5e-4 )
PAR_ARGS=(
    --tensor-model-parallel-size ${{TP}} --pipeline-model-parallel-size ${{PP}} --sequence-parallel
    --use-distributed-optimizer --use-flash-attn {more}
)
ARGS="${{MODEL_ARGS[*]}} ${{TRAIN_ARGS[*]}} ${{PAR_ARGS[*]}}"
srun bash -c "torchrun --nproc_per_node 8 --nnodes {nodes} pretrain_gpt.py $ARGS"
"""


def swift(model: str, kind: str, batch: int, length: int, gpus: int) -> str:
    return f"""NPROC_PER_NODE={gpus} swift sft --model {model} --train_type {kind} --torch_dtype bfloat16 \\
  --max_length {length} --per_device_train_batch_size {batch} --gradient_accumulation_steps 2 \\
  --deepspeed zero3 --attn_impl flash_attn
"""


def vllm(model: str, tp: int, length: int, more: str) -> str:
    return f"""#!/bin/bash
PORT=${{PORT:-8000}}
vllm serve {model} -tp {tp} --max_model_len {length} --max-num-seqs 64 {more} --port $PORT
"""


def vllm_yaml(model: str, tp: int, length: int) -> str:
    return f"""# vllm serve --config this.yaml
model: {model}
tensor-parallel-size: {tp}
max-model-len: {length}
max_num_batched_tokens: 4096
gpu-memory-utilization: "0.85"
enforce-eager: true
"""


def compose(model: str, tp: int, length: int) -> str:
    return f"""services:
  llm:
    image: vllm/vllm-openai:v0.10.2
    command: >
      --model {model} --tensor-parallel-size {tp}
      --max-model-len ${{CTX:-{length}}} --gpu-memory-utilization 0.9
    ports: ["8000:8000"]
"""


def kubernetes(model: str, tp: int, length: int) -> str:
    return f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: server}}
spec:
  replicas: 2
  template:
    spec:
      containers:
        - name: vllm
          image: vllm/vllm-openai:v0.11.0
          env:
            - {{name: MODEL_ID, value: {model}}}
            - {{name: CTX, value: "{length}"}}
          command: ["/bin/bash", "-c"]
          args: ["vllm serve $(MODEL_ID) --max-model-len $(CTX) --tensor-parallel-size {tp} --dtype bfloat16"]
          resources: {{limits: {{nvidia.com/gpu: {tp}}}}}
"""


def sglang(model: str, tp: int, length: int, more: str) -> str:
    return f"""python3 -m sglang.launch_server --model-path {model} --tp {tp} --context-length {length} {more} \\
  --mem-fraction-static 0.85 --max-running-requests 64 --host 0.0.0.0
"""


def llama_server(model: str, length: int, more: str) -> str:
    return f"LLAMA_ARG_CTX_SIZE={length} ./llama-server -hf {model} -ngl 99 -np 4 -fa on {more} --port 8080\n"


def trtllm(model: str, tp: int, length: int) -> str:
    sizes = f"--max_batch_size 32 --max_num_tokens 4096 --max_seq_len {length}"
    return f"trtllm-serve {model} --backend pytorch --tp_size {tp} {sizes}\n"


def trained(model: str, gpus: int, zero: int, length: int, more: str = "") -> str:
    return f"""model = "{model}"
gpu = "{GPU}"
[training]
seq_len = {length}
recompute = "full"
{more}
[training.parallelism]
gpus = {gpus}
zero = {zero}
[limits]
verdict = "tight"
"""


def served(model: str, tp: int, context: int, more: str = "") -> str:
    return f"""model = "{model}"
gpu = "{GPU}"
[serving]
batch = 8
context = {context}
tp = {tp}
{more}
[limits]
verdict = "tight"
"""


FILES: tuple[tuple[str, str], ...] = (
    ("deepspeed_1.sh", deepspeed("meta-llama/Llama-3.1-8B", 3, 1, 4096, 8)),
    ("deepspeed_2.sh", deepspeed("Qwen/Qwen2.5-3B", 2, 2, 2048, 4)),
    ("deepspeed_3.sh", deepspeed("google/gemma-2-9b", 3, 1, 8192, 16)),
    ("deepspeed_4.sh", deepspeed("microsoft/phi-4", 3, 1, 2048, 8, overlap_comm=True)),
    ("deepspeed_5.sh", deepspeed("tiiuae/falcon-7b", 2, 1, 2048, 8, offload_optimizer={"device": "cpu"})),
    ("torchrun_1.sh", torchrun("Qwen/Qwen2.5-7B", "full_shard auto_wrap", 4, 4096, 8, "adamw_torch_fused")),
    ("torchrun_2.sh", torchrun("mistralai/Mistral-7B-v0.3", "full_shard auto_wrap", 2, 8192, 8, "adafactor")),
    ("torchrun_3.sh", torchrun("EleutherAI/pythia-1.4b", "shard_grad_op auto_wrap", 8, 2048, 4, "adamw_bnb_8bit")),
    ("torchrun_4.sh", torchrun("openai-community/gpt2-xl", "full_shard auto_wrap", 8, 1024, 2, "adamw_torch")),
    ("trl_1.sh", trl("meta-llama/Llama-3.2-3B", 16, 2, 4096, 2, "")),
    ("trl_2.sh", trl("Qwen/Qwen3-14B", 32, 1, 4096, 4, "--load_in_4bit")),
    ("trl_3.sh", trl("google/gemma-3-4b-it", 64, 1, 2048, 1, "")),
    ("trl_4.sh", trl("HuggingFaceTB/SmolLM2-1.7B", 8, 4, 8192, 1, "--load_in_8bit")),
    ("axolotl_1.sh", axolotl("mistralai/Mistral-Nemo-Instruct-2407", "qlora", 2, 4096, 1)),
    ("axolotl_2.sh", axolotl("Qwen/Qwen3-8B", "lora", 1, 8192, 2)),
    ("axolotl_3.sh", axolotl("google/gemma-2-2b", "lora", 4, 2048, 4)),
    ("llamafactory_1.sh", llamafactory("Qwen/Qwen2.5-14B-Instruct", "lora", 1, 4096, 4)),
    ("llamafactory_2.sh", llamafactory("Qwen/Qwen3-0.6B", "full", 4, 2048, 2)),
    ("llamafactory_3.sh", llamafactory("zai-org/GLM-4-9B-0414", "lora", 1, 2048, 8)),
    ("torchtitan_1.sh", torchtitan("llama3", "8B", 1, 8192, 8, 1, "selective")),
    ("torchtitan_2.sh", torchtitan("llama3", "70B", 2, 8192, 64, 8, "full")),
    ("megatron_1.sbatch", megatron(40, 5120, 13824, 40, 4, 2, 4, "--recompute-activations")),
    ("megatron_2.sbatch", megatron(32, 4096, 11008, 32, 2, 1, 1,
                                      "--recompute-granularity full --recompute-method uniform --recompute-num-layers 1")),
    ("megatron_3.sbatch", megatron(80, 8192, 28672, 64, 8, 4, 16, "--group-query-attention --num-query-groups 8")),
    ("swift_1.sh", swift("Qwen/Qwen3-4B", "full", 1, 4096, 8)),
    ("swift_2.sh", swift("Qwen/Qwen2.5-1.5B", "full", 2, 8192, 4)),
    ("vllm_1.sh", vllm("Qwen/Qwen2.5-72B-Instruct-AWQ", 4, 32768, "--quantization awq_marlin --kv-cache-dtype fp8")),
    ("vllm_2.sh", vllm("openai/gpt-oss-120b", 2, 65536, "--enable-prefix-caching")),
    ("vllm_3.sh", vllm("Qwen/Qwen3-30B-A3B", 2, 16384, "--enable-expert-parallel")),
    ("vllm_4.sh", vllm("deepseek-ai/DeepSeek-V3", 16, 8192, "--trust-remote-code")),
    ("vllm_5.yaml", vllm_yaml("meta-llama/Llama-3.1-8B-Instruct", 1, 16384)),
    ("vllm_6.yaml", vllm_yaml("google/gemma-3-27b-it", 2, 8192)),
    ("compose_1.yml", compose("Qwen/Qwen2.5-32B-Instruct", 2, 16384)),
    ("compose_2.yml", compose("mistralai/Mixtral-8x7B-Instruct-v0.1", 4, 8192)),
    ("kubernetes_1.yaml", kubernetes("mistralai/Mistral-Small-24B-Instruct-2501", 2, 8192)),
    ("kubernetes_2.yaml", kubernetes("microsoft/Phi-3.5-mini-instruct", 1, 4096)),
    ("sglang_1.sh", sglang("Qwen/Qwen3-235B-A22B", 8, 16384, "--enable-dp-attention --dp-size 8")),
    ("sglang_2.sh", sglang("meta-llama/Llama-3.3-70B-Instruct", 4, 32768, "--chunked-prefill-size 4096")),
    ("sglang_3.sh", sglang("deepseek-ai/DeepSeek-V2-Lite", 1, 8192, "--trust-remote-code")),
    ("llama_server_1.sh", llama_server("ggml-org/gpt-oss-20b-GGUF", 16384, "-ctk q8_0 -ctv q8_0")),
    ("llama_server_2.sh", llama_server("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M", 8192, "-ub 1024 -b 2048")),
    ("trtllm_1.sh", trtllm("meta-llama/Llama-3.2-1B-Instruct", 1, 8192)),
    ("trtllm_2.sh", trtllm("Qwen/Qwen3-32B", 4, 16384)),
    ("trained_1.toml", trained("olmo-2-7b", 8, 3, 4096)),
    ("trained_2.toml", trained("bert-large", 1, 0, 512)),
    ("trained_3.toml", trained("granite-3.1-8b", 16, 0, 2048, 'optimizer = "adafactor"')),
    ("trained_4.toml", trained("falcon-mamba-7b", 16, 3, 1024)),
    ("served_1.toml", served("command-r7b", 1, 8192)),
    ("served_2.toml", served("jamba-v0.1", 2, 4096, 'engine = "vllm"')),
    ("served_3.toml", served("kimi-k2", 16, 8192, 'engine = "sglang"')),
)  # fmt: skip


def write(folder: Path) -> list[str]:
    """The paths of all files, written."""
    paths = []
    for name, text in FILES:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    return paths


def in_process(paths: list[str]) -> None:
    from memcalc.report.checking import report
    from memcalc.sizing.checking import examined

    outcomes, problems = examined(*paths, gpu=GPU)
    for problem in problems:
        print(problem)
    assert not problems
    assert len(report(outcomes, problems).document["scenarios"]) == len(FILES)


def seconds(command: list[str], times: int = 5) -> float:
    """CPU seconds of a command, the least of so many runs."""
    return min(_once(command) for _ in range(times))


def _once(command: list[str]) -> float:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def profiled(what: Callable[[], None], rows: int) -> None:
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(what)
    for order in ("tottime", "cumulative"):
        pstats.Stats(profile).strip_dirs().sort_stats(order).print_stats(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="DIR")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rows", type=int, default=60)
    asked = parser.parse_args()
    if asked.write:
        asked.write.mkdir(parents=True, exist_ok=True)
        write(asked.write)
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder))
        if asked.profile:
            profiled(lambda: in_process(paths), asked.rows)
            return
        check = [sys.executable, "-m", "memcalc", "check", "--gpu", GPU, "--format", "json"]
        one, many = seconds([*check, paths[-3]]), seconds([*check, *paths])
        print(f"one file {one:.2f} s, {len(FILES)} files {many:.2f} s: {many - one:.2f} s beyond start-up (at most {MOST})")
        start = time.process_time()
        in_process(paths)
        print(f"in process, imports included: {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
