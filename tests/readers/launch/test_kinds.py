"""Kinds of launch files in the ways in which people write them, and what is none: each file with facts that must come out."""

import json
from pathlib import Path
from typing import Any

import pytest

from memcalc.errors import InputError
from memcalc.readers.launch import recognise
from memcalc.readers.launch.kinds.llama_server import LLAMA_SERVER
from memcalc.readers.launch.kinds.llamafactory import LLAMAFACTORY
from memcalc.readers.launch.kinds.openrlhf import OPENRLHF
from memcalc.readers.launch.kinds.slime import SLIME
from memcalc.readers.launch.kinds.swift import SWIFT
from memcalc.readers.launch.meanings import Doubtful, Ignored, Unmodelled, meaning_of
from memcalc.readers.launch.nodes import Entry
from memcalc.readers.launch.reading import read_entries
from memcalc.sizing.importing import LaunchedJob, launched, warnings_of

LITGPT = """checkpoint_dir: checkpoints/meta-llama/Meta-Llama-3-8B
out_dir: out
precision: bf16-true
quantize: bnb.nf4-dq
devices: {devices}
lora_r: 32
lora_key: true
lora_mlp: true
train:
  global_batch_size: 8
  micro_batch_size: 2
  max_seq_length: 512
optimizer:
  class_path: torch.optim.AdamW
"""
NEMO = """trainer:
  devices: 8
  num_nodes: 4
  precision: bf16
model:
  tensor_model_parallel_size: 4
  virtual_pipeline_model_parallel_size: 2
  micro_batch_size: 1
  encoder_seq_length: 8192
  activations_checkpoint_granularity: full
  use_flash_attention: true
  optim:
    name: distributed_fused_adam
"""
SWEEP = """#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
for CONFIG in "2,1,4"; do
  IFS=',' read -r TP PP EP <<< "$CONFIG"
  MORE="model.tensor_model_parallel_size=$TP
     model.pipeline_model_parallel_size=$PP model.expert_model_parallel_size=$EP"
  CMD="python run_recipe.py --recipe gpt_oss_20b_peft_config"
  CMD="$CMD $(echo "$MORE" | tr '\\n' ' ' | sed 's/  \\+/ /g')"
  srun --mpi=pmix bash -c "$CMD train.micro_batch_size=1 train.global_batch_size=16"
done
"""
HERE = """read -r -d '' commands <<EOF
openrlhf.cli.train_dpo \\
   --data.max_len 2048 \\
   --train.micro_batch_size 2 \\
   --train.batch_size 256 \\
   --model.model_name_or_path meta-llama/Meta-Llama-3-8B \\
   --ds.zero_stage 3
EOF
if [[ ${1} != "slurm" ]]; then
    deepspeed --module $commands
fi
"""
ASKED = """TEST=$1
if [ ${TEST} == "0" ]
then
    torchrun --nproc_per_node=4 run_clm.py --model_name_or_path gpt2 --per_device_train_batch_size 2
elif [ ${TEST} == "z1" ]
then
    deepspeed --num_gpus=4 run_clm.py --model_name_or_path gpt2 --per_device_train_batch_size 3 --fp16
fi
"""
VERL_SFT = """torchrun --standalone --nnodes=1 --nproc_per_node=8 -m verl.trainer.fsdp_sft_trainer \\
    data.train_files=x.parquet data.micro_batch_size_per_gpu=4 data.max_length=2048 data.train_batch_size=64 \\
    model.partial_pretrain=google/gemma-1.1-7b-it ulysses_sequence_parallel_size=2 model.lora_rank=32
"""
TASK = """resources:
  accelerators: H100:4
num_nodes: 2
envs:
  MODEL: Qwen/Qwen3-8B
run: |
  vllm serve $MODEL --tensor-parallel-size $SKYPILOT_NUM_GPUS_PER_NODE --max-model-len 32k
"""
SUBMITTED = """python mason.py --cluster a -- accelerate launch --num_processes 8 train/dpo.py \\
    --model_name_or_path Qwen/Qwen3-8B --per_device_train_batch_size 1"""

# text → label and facts. LitGPT: litgpt/finetune/lora.py (FSDP and recomputation above one device; adapters of query and value
# unless said otherwise). Bridge: megatron/bridge/peft/lora.py. verl: verl/trainer/config/sft_trainer.yaml.
FILES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "litgpt": (LITGPT.format(devices=1), "litgpt-yaml", {
        "model": "meta-llama/Meta-Llama-3-8B", "method": "qlora", "base_format": "nf4", "double_quant": True, "lora_rank": 32,
        "lora_targets": ["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"], "micro_batch": 2, "gpus": 1,
        "precision": "pure-bf16", "optimizer": "AdamW", "recompute": "none", "seq_len": 512, "global_batch": 8,
    }),
    "litgpt on four": (LITGPT.format(devices=4), "litgpt-yaml",
                       {"strategy": "fsdp1", "fsdp": "full", "recompute": "full", "gpus": 4}),
    "nemo": (NEMO, "megatron-bridge-yaml", {
        "gpus": 32, "gpus_per_node": 8, "precision": "bf16-mixed", "virtual_stages": 2, "recompute": "full",
            "attention": "flash",
        "strategy": "zero-1", "seq_len": 8192,
    }),
    "nemo told when it starts": (NEMO.replace("  num_nodes: 4\n", ""), "megatron-bridge-yaml", {"gpus": None}),
    "sweep": (SWEEP, "slurm-megatron-bridge-sh", {"tp": 2, "pp": 1, "ep": 4, "method": "lora", "lora_rank": 32, "gpus": 16,
                                                  "micro_batch": 1, "global_batch": 16}),
    "here": (HERE, "openrlhf-sh", {"model": "meta-llama/Meta-Llama-3-8B", "algorithm": "dpo", "zero_stage": 3,
        "micro_batch": 2}),
    "verl sft": (VERL_SFT, "verl-sft-sh", {"model": "google/gemma-1.1-7b-it", "algorithm": "sft", "method": "lora", "sp": "2",
                                           "global_batch": 64, "seq_len": 2048, "gpus": 8, "strategy": "fsdp1"}),
    "task": (TASK, "vllm-sh", {"model": "Qwen/Qwen3-8B", "tp": 4, "context": 32000, "gpu": "h100", "nodes": 2}),
    # ms-swift examples/yaml/megatron/sft.yaml; a here-document with a sum that nobody can work out, which is shown before it is
    # used (InferenceX, dsv4_fp4_b200_trt.sh)
    "swift": ("ENV:\n  MAX_PIXELS: '1003520'\nmodel: Qwen/Qwen3.5-35B-A3B\ntuner_type: lora\nlora_rank: 8\nmax_length: 2048\n"
              "micro_batch_size: 1\nglobal_batch_size: 4\nexpert_model_parallel_size: 4\nrecompute_granularity: full\n",
              "ms-swift-yaml", {"method": "lora", "ep": 4, "global_batch": 4, "seq_len": 2048, "recompute": "full",
                                "optimizer": "adam"}),
    "a sum": ("cat > x.yml <<EOF\ncuda_graph_config:\n  max_batch_size: $(( CONC > 16 ? CONC : 16 ))\nkv_cache_config:\n  "
              "dtype: fp8\nEOF\ncat x.yml\ntrtllm-serve Qwen/Qwen3-8B --tp_size 4 --config x.yml\n", "trtllm-sh",
              {"model": "Qwen/Qwen3-8B", "tp": 4, "kv_dtype": "fp8", "cuda_graph_max_bs": None}),
    "submitted": (SUBMITTED, "hf-args-sh", {"script": "mason.py", "processes": 8, "micro_batch": 1}),
}  # fmt: skip


def read(text: str, folder: Path, name: str = "launch") -> list[LaunchedJob]:
    path = folder / name
    path.write_text(text)
    return launched(str(path))


@pytest.mark.parametrize("name", FILES)
def test_facts_come_out(name: str, tmp_path: Path) -> None:
    text, label, expected = FILES[name]
    found = read(text, tmp_path)[0].job
    facts = {fact: found.reading.facts[fact].value if fact in found.reading.facts else None for fact in expected}
    assert facts == expected
    assert found.label == label


def test_branches_that_an_argument_decides_are_all_read(tmp_path: Path) -> None:
    jobs = read(ASKED, tmp_path)
    assert [job.job.reading.facts["micro_batch"].value for job in jobs] == [2, 3]


# What shares words with a trainer or a server, and is none
STRANGERS = {
    "a generation script of Megatron": "torchrun --nproc_per_node 8 tools/run_text_generation_server.py --num-layers 32 "
    "--hidden-size 4096 --num-attention-heads 32 --seq-length 4096 --tensor-model-parallel-size 8",
    "a conversion": "python tools/checkpoint/convert.py --model-type GPT --tensor-model-parallel-size 2 --num-layers 2",
    "a build": "cmake -S . -B build -DX=1 --tp_size 2",
    "a client": "python client.py --model x --tensor-parallel-size 2",
    "MaxText": "base_config: base.yml\nici_fsdp_parallelism: 8\nper_device_batch_size: 8\nmax_target_length: 8192\n",
    "MLX": "model: mlx_model\nnum_layers: 16\nbatch_size: 4\niters: 100\nmax_seq_length: 2048\n",
    "prose": "guide: |\n  read from the message\nfrom: nowhere\nmessage: hello\n",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read(STRANGERS[name], tmp_path)


CHILD = """defaults: ../base.yaml
policy:
  model_name: org/model
  train_micro_batch_size: 1
  dynamic_batching:
    train_mb_tokens: ${mul:${policy.max_total_sequence_length}, ${..train_micro_batch_size}}
cluster:
  num_nodes: 2
"""
BASE = """grpo:
  num_generations_per_prompt: 16
policy:
  model_name: other/model
  precision: bfloat16
  train_micro_batch_size: 4
  max_total_sequence_length: 4096
  dtensor_cfg:
    enabled: true
    tensor_parallel_size: 8
    lora_cfg:
      enabled: false
      dim: 8
  megatron_cfg:
    enabled: false
    tensor_model_parallel_size: 2
cluster:
  gpus_per_node: 8
  num_nodes: 1
"""


def family(folder: Path, root: bool = True) -> Path:
    (folder / "recipes").mkdir()
    if root:
        (folder / ".git").mkdir()
    (folder / "base.yaml").write_text(BASE)
    child = folder / "recipes" / "child.yaml"
    child.write_text(CHILD)
    return child


def test_a_file_that_begins_with_another_has_its_keys(tmp_path: Path) -> None:
    """NeMo RL's defaults: the nearer file wins; a table that is switched off says nothing; ${…} of either file."""
    found = launched(str(family(tmp_path)))[0].job
    facts = {name: fact.value for name, fact in found.reading.facts.items()}
    wanted = {"model": "org/model", "micro_batch": 1, "n_samples": 16, "tp": 8, "gpus": 16, "method": "full",
              "max_tokens_per_gpu": 4096, "algorithm": "grpo"}  # fmt: skip
    assert {name: facts.get(name) for name in wanted} == wanted
    assert "lora_rank" not in facts
    places = {row.entry.key: row.entry.file for row in found.reading.imported}
    assert places["cluster.num_nodes"].endswith("child.yaml")
    assert places["cluster.gpus_per_node"].endswith("base.yaml")


def test_nothing_outside_the_repository_is_read(tmp_path: Path) -> None:
    child = family(tmp_path, root=False)
    (tmp_path / "recipes" / ".git").mkdir()
    (found,) = launched(str(child))
    assert any("is not here" in note for note in found.job.notes)
    assert "tp" not in found.job.reading.facts


def test_files_that_begin_with_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("defaults: b.yaml\npolicy:\n  model_name: x\n")
    (tmp_path / "b.yaml").write_text("defaults: a.yaml\ncluster:\n  num_nodes: 1\n")
    with pytest.raises(InputError, match="leads back to itself"):
        launched(str(tmp_path / "a.yaml"))


def test_many_files_that_begin_with_many_end(tmp_path: Path) -> None:
    names = [f"f{number}.yaml" for number in range(8)]
    for number, name in enumerate(names):
        others = "".join(f"\n  - {other}" for other in names[number + 1 :] * 8)
        (tmp_path / name).write_text(f"defaults:{others or ' []'}\npolicy:\n  model_name: x\n")
    with pytest.raises(InputError, match="too far"):
        launched(str(tmp_path / "f0.yaml"))


# --- what facts become --------------------------------------------------------------------------------------------------

V1 = """model: Qwen/Qwen3-4B
peft_config: {name: lora, r: 16, target_modules: all}
quant_config: {name: bnb, quantization_bit: 4}
dist_config: {name: fsdp2, reshard_after_forward: false}
train_dataset: data/mine.yaml
micro_batch_size: 2
global_batch_size: 64
cutoff_len: 4096
cp_size: 2
cp_mode: ulysses
flash_attn: flash_attention_2
"""


def test_llama_factory_version_1(tmp_path: Path) -> None:
    """src/llamafactory/v1/config/training_args.py, v1/plugins/model_plugins/peft.py and quantization.py: defaults."""
    file = tmp_path / "sft.yaml"
    file.write_text(V1)
    (found,) = launched(str(file))
    settings = {name: setting.value for name, setting in found.question.settings.items()}
    assert found.question.model == "Qwen/Qwen3-4B"
    assert settings == {
        "method": "qlora", "base_format": "nf4-dq", "lora_rank": 16, "lora_targets": ("all-linear",), "lora_dropout": 0.05,
        "micro_batch": 2, "global_batch": 64, "seq_len": 4096, "recompute": "full", "precision": "bf16", "optimizer": "adamw",
        "optimizer_impl": "foreach", "attention": "flash", "fsdp": "grad-op", "cp": 2, "cp_kind": "all-to-all",
    }  # fmt: skip
    assert not warnings_of(found)


# theirs → ours: Megatron-LM's --cp-comm-type, accelerate's cp_comm_strategy
@pytest.mark.parametrize(("said", "kind"), [("p2p", "ring"), ("a2a", "all-to-all"), ("all_gather", "all-gather"), ("x", None)])
def test_how_keys_and_values_are_exchanged(said: str, kind: str | None) -> None:
    line = (
        "torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 2 --hidden-size 512 --num-attention-heads 8 --bf16 "
        f"--micro-batch-size 1 --global-batch-size 8 --seq-length 512 --context-parallel-size 2 --cp-comm-type {said}"
    )
    (found,) = launched(line)
    setting = found.question.settings.get("cp_kind")
    assert (setting and setting.value) == kind
    assert ("not modelled; ring is taken" in " ".join(warnings_of(found))) == (kind is None)


# a line and a few settings that it comes to, by the tool's own defaults
DEFAULTS = (
    # accelerate/commands/launch.py: FSDP's options without a file
    ("accelerate launch --use_fsdp --fsdp_version 2 --fsdp_reshard_after_forward false --fsdp_offload_params true "
     "--num_processes 8 --mixed_precision bf16 train.py --model_name_or_path gpt2 --per_device_train_batch_size 1",
     {"fsdp": "grad-op", "offload": ("parameters", "optimizer"), "gpus": 8}),
    # axolotl/cli/main.py: what stands behind -- is the launcher's
    ("axolotl train x.yaml --base-model gpt2 --launcher accelerate -- --num_processes 4", {"gpus": 4, "gpus_per_node": None}),
    # ms-swift arguments/base_args/model_args.py and quant_args.py
    ("NPROC_PER_NODE=8 swift sft --model Qwen/Qwen3-4B --quant_bits 4 --torch_dtype float16 --max_length 512",
     {"method": "qlora", "base_format": "nf4-dq", "precision": "fp16-mixed"}),
    # swift/megatron/arguments/megatron_args.py: use_distributed_optimizer, cross_entropy_fusion_impl
    ("NPROC_PER_NODE=8 megatron sft --model Qwen/Qwen3-4B --max_length 512",
     {"precision": "bf16-mixed", "optimizer": "adamw", "zero": 1, "loss": "vocab-parallel", "expert_adapters": None}),
    ("NPROC_PER_NODE=8 megatron sft --model Qwen/Qwen3-4B --max_length 512 --use_distributed_optimizer false "
     "--cross_entropy_fusion_impl te", {"zero": None, "loss": "te"}),
    ("NPROC_PER_NODE=8 megatron sft --model Qwen/Qwen3-30B-A3B --max_length 512 --tuner_type lora "
     "--expert_model_parallel_size 8",
     {"lora_targets": ("all-linear",), "expert_adapters": "own"}),
    # trl/trainer/sft_config.py, loss_type
    ("trl sft --model_name_or_path Qwen/Qwen3-4B --max_length 512", {"loss": "chunked-nll"}),
    ("trl sft --model_name_or_path Qwen/Qwen3-4B --max_length 512 --loss_type nll", {"loss": "full"}),
    ("trl sft --model_name_or_path Qwen/Qwen3-4B --max_length 512 --use_liger_kernel", {"kernels": "liger", "loss": None}),
    ("trl dpo --model_name_or_path Qwen/Qwen3-4B --max_length 512", {"objective": "dpo", "loss": None}),
    # swift/cli/main.py: torchrun where NPROC_PER_NODE is set; else one process and device_map "auto"
    ("CUDA_VISIBLE_DEVICES=0,1 swift sft --model Qwen/Qwen2.5-72B-Instruct --max_length 512 --gradient_accumulation_steps 16",
     {"gpus": 2, "pp": 2, "grad_accum": 1}),
    ("NPROC_PER_NODE=2 CUDA_VISIBLE_DEVICES=0,1,2,3 swift sft --model Qwen/Qwen2.5-7B-Instruct --max_length 512",
     {"gpus": 4, "pp": 2}),
    ("NPROC_PER_NODE=2 CUDA_VISIBLE_DEVICES=0,1 swift sft --model Qwen/Qwen2.5-7B-Instruct --max_length 512",
     {"gpus": 2, "pp": None}),
    ("swift sft --model Qwen/Qwen2.5-7B-Instruct-AWQ --max_length 512", {"method": "qlora", "base_format": "awq"}),
    ("swift sft --model Qwen/Qwen2.5-0.5B --task_type seq_cls --num_labels 3 --max_length 512",
     {"objective": "classify", "labels": 3}),
    ("swift sft --model Qwen/Qwen3-Embedding-4B --task_type embedding --max_length 512", {"objective": "embed"}),
    # megatron/core/model_parallel_config.py: cross_entropy_loss_fusion False, cross_entropy_fusion_impl native
    ("torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 4 --hidden-size 512 --num-attention-heads 8 --seq-length 512 "
     "--max-position-embeddings 512 --micro-batch-size 1 --bf16", {"loss": "vocab-parallel", "zero": None}),
    # verl/trainer/config/sft_trainer.yaml
    ("torchrun --nproc_per_node 8 -m verl.trainer.fsdp_sft_trainer data.train_files=x model.partial_pretrain=gpt2 "
     "model.lora_rank=8 data.micro_batch_size_per_gpu=4", {"lora_targets": ("all-linear",), "optimizer": "adamw", "gpus": 8}),
    ("tune run --nproc_per_node 2 full_finetune_distributed --config x batch_size=4", {"gpus": 2}),
    ("vllm serve moonshotai/Kimi-K2-Instruct --quantization compressed-tensors --tensor-parallel-size 8", {"weights": None}),
    ("python -m sglang.launch_server --model-path Qwen/Qwen3-8B --quantization w8a8_int8 --kv-cache-dtype fp4_e2m1",
     {"weights": "w8a8", "kv_dtype": "nvfp4"}),
    ("python -m sglang.launch_server --model-path gpt2 --page-size 64 --tp 2", {"block_size": None, "tp": 2}),
    # ms-swift swift/llm/argument/infer_args.py
    ("swift infer --model Qwen/Qwen3-8B --infer_backend vllm --vllm_tensor_parallel_size 2 --vllm_max_model_len 8192 "
     "--vllm_gpu_memory_utilization 0.8 --max_new_tokens 64",
     {"engine": "vllm", "tp": 2, "context": 8192, "gpu_memory_utilization": 0.8}),
    ("swift deploy --model Qwen/Qwen3-8B --infer_backend sglang --sglang_tp_size 4 --sglang_mem_fraction_static 0.7",
     {"engine": "sglang", "tp": 4, "gpu_memory_utilization": 0.7}),
    ("swift deploy --model Qwen/Qwen3-8B", {"engine": "transformers"}),
    # vllm/config/vllm.py, _set_cudagraph_sizes; sglang/srt/server_args.py: the largest of the sizes that are captured
    ("vllm serve gpt2 --tensor-parallel-size 2 --cudagraph-capture-sizes 1 2 4 256", {"max_graph_batch": 256, "tp": 2}),
    ("python -m sglang.launch_server --model-path gpt2 --cuda-graph-bs 1 8 512 --tp 2", {"max_graph_batch": 512, "tp": 2}),
)  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), DEFAULTS, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_what_a_command_comes_to(line: str, expected: dict[str, object]) -> None:
    (found,) = launched(line)
    settings = {name: setting.value for name, setting in found.question.settings.items()}
    assert {name: settings.get(name) for name in expected} == expected


def test_what_gradients_are_accumulated_in_is_deepspeeds(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text(
        '{"zero_optimization": {"stage": 2}, "bf16": {"enabled": true}, "data_types": {"grad_accum_dtype": "fp32"}}'
    )
    (found,) = launched(str(file))
    assert found.question.settings["grad_accum_dtype"].value == "fp32"


# --- no key that matters is dropped ------------------------------------------------------------------------------------

KEYS = json.loads((Path(__file__).parents[2] / "reference" / "launch_keys.json").read_text())
KINDS = {
    "deepspeed": recognise.DEEPSPEED, "accelerate": recognise.ACCELERATE, "transformers": recognise.TRANSFORMERS,
    "trl": recognise.TRL, "axolotl": recognise.AXOLOTL, "llamafactory": LLAMAFACTORY, "torchtune": recognise.TORCHTUNE,
    "torchtitan": recognise.TORCHTITAN, "nanotron": recognise.NANOTRON, "megatron": recognise.MEGATRON,
    "bridge": recognise.BRIDGE, "nemo_rl": recognise.NEMO_RL, "swift": SWIFT, "verl": recognise.VERL, "openrlhf": OPENRLHF,
    "slime": SLIME, "vllm": recognise.VLLM, "sglang": recognise.SGLANG, "llama.cpp": LLAMA_SERVER, "trtllm": recognise.TRTLLM,
    "litgpt": recognise.LITGPT, "llamafactory_v1": recognise.LLAMAFACTORY_V1,
}  # fmt: skip
# What the tables name and no byte depends on: which kernels run products in fp8, or experts
NUMERICS = {("accelerate", "fp8_config.backend"), ("trtllm", "moe_config.backend")}


@pytest.mark.parametrize("kind", KEYS)
def test_every_key_that_matters_is_taken_or_told(kind: str) -> None:
    """Keys that decide memory, speed or cost (the tools' own documentation): a fact, or a warning; never passed over."""
    tables = KINDS[kind].keys
    dropped = [
        key for key in KEYS[kind] if isinstance(meaning_of(key, *tables), Ignored | None) and (kind, key) not in NUMERICS
    ]
    assert not dropped


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", ["made_up_batch_size", "made_up_offload", "made_up_parallel_size", "made_up_dtype"])
def test_no_pattern_passes_over_what_speaks_of_memory(kind: str, word: str) -> None:
    """Below every table of a kind: a key that nobody knows, whose name speaks of memory, is not ignored with its neighbours."""
    for table in KINDS[kind].keys:
        for pattern, meaning in table.items():
            if isinstance(meaning, Ignored) and not meaning.topic and pattern.endswith((".*", "_*")):
                found = meaning_of(pattern[:-1] + word, *KINDS[kind].keys)
                assert not isinstance(found, Ignored) or found.topic, pattern[:-1] + word


def test_what_is_doubtful_is_told_unless_it_is_off() -> None:
    text = "vllm serve Qwen/Qwen3-8B --async-scheduling --data-parallel-buffer-size 4 --ray-made-up-cache-size 0"
    (found,) = launched(text)
    told = " ".join(warnings_of(found))
    assert "data-parallel-buffer-size" in told
    assert "ray-made-up-cache-size" not in told


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [("verl", "actor_rollout_ref.actor.fsdp_config.qat.enable", "true"),
     ("verl", "actor_rollout_ref.actor.entropy_checkpointing", "True"),
     ("nemo_rl", "policy.optimizer.kwargs.exp_avg_dtype", "torch.bfloat16"), ("bridge", "model.fp8_params", "true"),
     ("sglang", "mamba-ssm-dtype", "bfloat16")],
)  # fmt: skip
def test_what_changes_memory_and_is_not_modelled_is_told(kind: str, key: str, value: str) -> None:
    found = read_entries([Entry(key, value, 1)], *KINDS[kind].keys)
    assert found.imported[0].matters, found.imported[0]


def test_a_part_of_a_tree_of_configs_is_no_server(tmp_path: Path) -> None:
    part = "_target_: verl.workers.config.RolloutConfig\ntensor_model_parallel_size: 2\ngpu_memory_utilization: 0.5\n"
    with pytest.raises(InputError, match="part of verl's tree"):
        read(part, tmp_path)


def test_doubtful_is_no_fact() -> None:
    assert isinstance(meaning_of("ray_made_up_cache_size", *recognise.VLLM.keys), Doubtful)
    assert isinstance(meaning_of("fsdp_config.auto_wrap_policy", *recognise.ACCELERATE.keys), Unmodelled)


# --- Hydra's trees of configs ------------------------------------------------------------------------------------------

# As verl's trainer/config is laid out: groups that are mounted somewhere, and that begin with others of their own
TREE = {
    "ppo_trainer.yaml": """defaults:
  - actor@actor_rollout_ref.actor: dp_actor
  - model@actor_rollout_ref.model: hf_model
  - data@data: legacy_data
  - optional missing@nowhere: null
  - _self_
algorithm:
  adv_estimator: grpo
trainer:
  nnodes: 2
  n_gpus_per_node: 8
""",
    "actor/dp_actor.yaml": """defaults:
  - ../engine@fsdp_config: fsdp
  - actor
  - _self_
_target_: verl.workers.config.FSDPActorConfig
strategy: fsdp2
""",
    "actor/actor.yaml": """strategy: ???
ppo_micro_batch_size_per_gpu: 2
ppo_mini_batch_size: 128
ulysses_sequence_parallel_size: ${oc.select:actor_rollout_ref.actor.nowhere,4}
""",
    "engine/fsdp.yaml": "param_offload: true\noptimizer_offload: ${oc.env:OFFLOAD,true}\n",
    "model/hf_model.yaml": "path: Qwen/Qwen2.5-7B-Instruct\nenable_gradient_checkpointing: true\n",
    "data/legacy_data.yaml": "max_prompt_length: 512\nmax_response_length: 1024\ntrain_batch_size: 1024\n",
    "mine.yaml": """defaults:
  - ppo_trainer
  - _self_
data:
  train_batch_size: 256
actor_rollout_ref:
  actor:
    ppo_micro_batch_size_per_gpu: 1
""",
    "elsewhere/own.yaml": """hydra:
  searchpath:
    - file://config
defaults:
  - ppo_trainer
data:
  train_batch_size: 64
""",
}


@pytest.mark.parametrize(("file", "changed"), [
    ("config/ppo_trainer.yaml", {}), ("config/mine.yaml", {"train_batch": 256, "micro_batch": 1}),
    ("config/elsewhere/own.yaml", {"train_batch": 64}),
])  # fmt: skip
def test_a_tree_of_configs(file: str, changed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name, text in TREE.items():
        path = tmp_path / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (found,) = launched(str(tmp_path / file))
    expected = {
        "model": "Qwen/Qwen2.5-7B-Instruct", "algorithm": "grpo", "strategy": "fsdp2", "micro_batch": 2, "mini_batch": 128,
        "train_batch": 1024, "prompt_len": 512, "response_len": 1024, "sp": "4", "param_offload": True,
        "optimizer_offload": True, "gpus": 16, "recompute": "full",
    } | changed  # fmt: skip
    facts = {fact: found.job.reading.facts[fact].value for fact in expected}
    assert facts == expected
    place = found.job.reading.facts["mini_batch"].place
    assert place.endswith("config/actor/actor.yaml:3"), place


def test_an_engine_that_is_not_known_is_asked_for() -> None:
    (found,) = launched("swift infer --model Qwen/Qwen3-8B --infer_backend lmdeploy --lmdeploy_tp 2 --max_new_tokens 64")
    assert "engine" not in found.question.settings
    assert any("lmdeploy" in each for each in warnings_of(found))


def test_a_tree_that_is_not_here_is_told(tmp_path: Path) -> None:
    text = "defaults:\n  - ppo_trainer\n  - _self_\nalgorithm:\n  adv_estimator: gae\ndata:\n  train_batch_size: 8\n"
    (found,) = read(text, tmp_path)
    assert any("defaults" in each for each in warnings_of(found))


def test_trees_that_lead_back_to_themselves_end(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("defaults: [b, _self_]\nalgorithm: {adv_estimator: gae}\n")
    (tmp_path / "b.yaml").write_text("defaults: [a@x]\n")
    with pytest.raises(InputError, match="leads back"):
        launched(str(tmp_path / "a.yaml"))
