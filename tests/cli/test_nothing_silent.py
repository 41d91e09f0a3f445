"""Nothing silent: what is typed changes an answer, is refused, or is warned of; what nobody typed is said."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import memcalc as api
from memcalc.cli.spec_options import ROWS
from memcalc.formulas.serving_engines import SERVING_ENGINES

Run = Callable[..., Any]

# A value of every option that differs from its default.
VALUES: dict[str, object] = {
    "backward_prefetch": "post",
    "gpus": 8, "gpus_per_node": 4, "zero": 2, "fsdp": "full", "shard_size": 2, "tp": 2, "pp": 2, "cp": 2,
    "tp_overlap": "off", "cp_kind": "all-gather",
    "ep": 2, "etp": 2, "pipeline_schedule": "gpipe", "precision": "fp32", "optimizer": "sgd",
    "micro_batch": 3, "grad_accum": 4,
    "seq_len": 512, "recompute": "full", "recompute_every": 2, "recompute_layers": 2, "expert_imbalance": 2,
    "capacity_factor": 1.5, "attention": "eager", "kernels": "liger", "loss": "chunked", "optimizer_impl": "foreach",
    "engine": "megatron", "method": "lora", "freeze": "embeddings", "lora_rank": 32, "lora_targets": "q", "lora_dropout": 0.1,
    "base_format": "nf4", "offload": "optimizer", "offload_to": "nvme", "weights": "fp8", "kv_dtype": "fp8", "context": 512,
    "max_new_tokens": 100, "batch": 3, "samples": 2, "beams": 2, "shared_prefix": 64, "dp": 2, "gpu_memory_utilization": 0.5,
    "kv_cache_memory": "4GiB", "max_batched_tokens": 1024, "max_sequences": 7, "block_size": 64, "gpu_layers": 4,
    "lora_adapters": 2, "draft_tokens": 3, "allocator": "expandable-segments", "max_split_size": 32,
    "global_batch": 64, "seq_len_max": 8192, "tokens_per_batch": 16384, "grad_accum_dtype": "fp32", "mlp_tiles": 4,
    "eval_batch": 64, "eval_accumulation": 2, "images": 2, "image_size": "640x480", "image_tokens": 256,
    "objective": "classify", "labels": 3, "passages": 2, "passage_len": 512, "cached_batch": 2,
    "library": "transformers==4.46", "ema": "fp32", "max_grad_norm": 1.0,
    "recompute_method": "block", "recompute_num_layers": 2,
    "recompute_modules": "mlp", "main_grads_dtype": "bf16", "main_params_dtype": "fp16", "exp_avg_dtype": "bf16",
    "exp_avg_sq_dtype": "bf16", "offload_fraction": 0.5, "virtual_stages": 2, "first_stage_layers": 5,
    "last_stage_layers": 7, "pipeline_layout": "Et*10|t*6L", "reduce_bucket_size": 200_000_000, "sub_group_size": 1_000_000,
    "hpz_partition_size": 2, "kbit_prepare": "all", "train_also": "norms", "train_layers": 2, "virtual_tokens": 64,
    "mtp_layers": 1, "max_live_parameters": 10_000_000,
    "engine_version": "2025", "n_cpu_moe": 4, "override_tensor": "ffn_up=CPU", "tensor_split": "1,3", "split_mode": "row",
    "adapter_dtype": "half", "expert_adapters": "own",
    "reference": "precomputed", "draft_method": "eagle3", "images_per_prompt": 4, "cache_tokens": 4096,
    "pp_layers": "10,6", "attention_dp": 2, "redundant_experts": 2, "role": "decode", "all_to_all": "one-sided",
    "all_to_all_tokens": 1000, "transfer_buffer": "4GiB",
    "max_graph_batch": 16, "cache_offload": "8GiB", "prefix_hit_rate": 0.5, "gpu_experts": 8, "host_experts": "int4",
    "flash_attention": "off", "slots": 4, "cache_type_k": "q8_0", "cache_type_v": "q8_0",
}  # fmt: skip
MORE = {"train": (), "infer": (("draft", "llama-3.2-1b"), ("mfu", 0.4), ("mbu", 0.4), ("link_efficiency", 0.4))}
SPECS = {"train": ("Parallelism", "Training"), "infer": ("Serving",)}

# Options that may stand beside an answer they do not change, and why.
SAME = {
    "engine_version": "an engine of which one row is known accounts alike in all of its releases",
    "gpus_per_node": "says what the machine is: host memory and hybrid sharding depend on it",
    "ddp": "says the default of several GPUs",
    "pipeline_schedule": "the two orders hold as much where there are few micro-batches",
    "virtual_stages": "chunks hold as much where there are few micro-batches",
    "max_new_tokens": "divides the context into prompt and answer: speed and samples depend on it",
    "dp": "replicas: what one GPU holds stays",
    "role": "says which server of a pair it is: what moves between them is --transfer-buffer, towers stay with prompts",
}

# And where: stage 3 partitions gradients into a buffer that stands throughout (DeepSpeed runtime/zero/stage3.py).
# LM Studio's slots share a cache whether one says it or not.
SAME_THERE = {
    "llama-3.2-1b --gpus 8 --zero 3": ("--grad-accum", "--global-batch"),
    "llama-3.2-1b --gpu h100 --context 990 --engine lmstudio": ("--unified",),
}
RUNS = {"mlx": "llama-3.2-1b --gpu m3-max", "ktransformers": "qwen3-30b-a3b --gpu h100"}  # of engines that run little else

CONFIGURATIONS = (
    ("train", "7B"), ("train", "7B --gpu h100 --gpus 8"), ("train", "llama-3.2-1b"),
    ("train", "llama-3.2-1b --gpus 8 --gpu h100"), ("train", "llama-3.2-1b --gpus 8 --zero 3"),
    ("train", "llama-3.2-1b --gpus 16 --fsdp full"), ("train", "mixtral-8x7b --gpus 8 --zero 1"),
    ("train", "llama-3.2-1b --method qlora"), ("train", "llama-3.2-1b --gpus 8 --pp 2 --tp 2"),
    ("infer", "llama-3.2-1b"), ("infer", "llama-3.2-1b --gpu h100 --context 990"),
    *(("infer", f"{RUNS.get(name, 'llama-3.2-1b --gpu h100')} --context 990 --engine {name}") for name in SERVING_ENGINES),
    ("infer", "qwen3-30b-a3b --gpu h200 --engine vllm --context 990"),
)  # fmt: skip


@pytest.mark.parametrize(("command", "line"), CONFIGURATIONS, ids=lambda value: value)
def test_every_option_changes_the_answer_or_is_refused(memcalc: Run, command: str, line: str) -> None:
    words = [command, *line.split(), "--format", "json"]
    before = _answer(memcalc(*words).document)
    silent = []
    rows = [row for spec in SPECS[command] for row in ROWS[spec]]
    options = [(name, None if kind == "flag" else VALUES.get(name)) for name, kind, *_ in rows]
    for name, value in (*options, *MORE[command]):
        option = f"--{name.replace('_', '-')}"
        if option in words or name in SAME:
            continue
        result = memcalc(*words, option, *([] if value is None else [str(value)]))
        assert result.code in (0, 2), f"{option}: {result.err}"
        if result.code == 0 and _answer(result.document) == before:
            silent.append(option)
    assert not set(silent) - set(SAME_THERE.get(line, ()))


def _answer(document: dict[str, Any]) -> dict[str, Any]:
    """A document without the echo of what was typed."""
    return {key: value for key, value in document.items() if key not in ("run", "suggestions")}


def test_every_option_has_a_value_here() -> None:
    rows = [row for command in SPECS for spec in SPECS[command] for row in ROWS[spec]]
    assert {name for name, kind, *_ in rows if kind != "flag"} <= set(VALUES)


WARNINGS = (
    ("infer llama-3.1-8b --engine vllm --gpu m4", "vllm on accelerators of Apple runs there by a backend of its own"),
    ("infer llama-3.1-8b --engine tensorrt-llm --gpu mi300x", "tensorrt-llm on accelerators of AMD does not run there"),
    ("train gpt2 --seq-len 131072", "1,024 positions"),
    ("train llama-3.1-8b --seq-len 200k", "RoPE scaling"),
    ("infer gpt2 --context 131072 --gpu h100", "1,024 positions"),
    ("infer qwen3-8b --context 10M --gpu rtx-4090", "RoPE scaling"),
    ("train qwen3-8b --zero 3 --engine megatron --gpus 8", "Megatron-LM"),
    ("train qwen3-8b --zero 2 --engine torchtitan --gpus 8", "FSDP"),
    ("train qwen3-8b --fsdp full --engine deepspeed --gpus 8", "DeepSpeed shards by ZeRO"),
    ("infer qwen3-8b --engine vllm --weights Q4_K_M", "GGUF"),
    ("infer qwen3-8b --engine tensorrt-llm --weights Q4_K_M", "GGUF"),
    ("infer qwen3-8b --engine transformers --weights Q8_0", "dequantises"),
    ("infer qwen3-8b --engine llama.cpp --weights fp8", "GGUF"),
    ("infer qwen3-8b --gpu-memory-utilization 0.8", "--gpu"),
    ("train t5-base --max-split-size 32", "max_split_size: without effect"),
    ("train t5-base --allocator expandable-segments", "allocator: without effect"),
)
QUIET = (
    "train llama-3.1-8b --seq-len 131072", "train llama-3.1-8b --gpus 8 --zero 1 --engine megatron",
    "infer qwen3-8b --engine vllm", "train llama-3.1-8b --gpus 8 --zero 3",
    "train llama-3.1-8b --gpus 8 --fsdp full --engine torchtitan",
    "infer qwen3-8b --engine llama.cpp --weights Q4_K_M", "infer qwen3-8b --engine llama.cpp --weights bf16",
    "infer gpt-oss-20b --engine vllm", "infer gpt2 --engine vllm --gpu h100", "train 7B",
    "infer gpt2 --engine vllm --gpu mi300x", "infer gpt2 --engine llama.cpp --gpu m4 --weights F16",
    "infer gpt2 --engine tensorrt-llm --gpu-memory 24GiB",
)  # fmt: skip


@pytest.mark.parametrize(("line", "said"), WARNINGS, ids=lambda value: value)
def test_what_is_doubtful_is_said_in_every_output(memcalc: Run, line: str, said: str) -> None:
    assert any(said in warning for warning in memcalc(*line.split(), "--format", "json").document["warnings"])
    assert said in " ".join(memcalc(*line.split(), "--format", "markdown").out.split())


@pytest.mark.parametrize("line", QUIET)
def test_what_is_meant_has_no_warning(memcalc: Run, line: str) -> None:
    assert memcalc(*line.split(), "--format", "json").document["warnings"] == []


REFUSED = (
    ("train 7B --micro-batch 8", "--micro-batch"), ("train 7B --seq-len 32k", "--seq-len"),
    ("train llama-3.1-8b --gpus 8 --etp 2", "--etp"), ("train 7B --allocator segments", "--allocator"),
    ("train 7B --max-split-size 64", "--max-split-size"),
)  # fmt: skip


@pytest.mark.parametrize(("line", "named"), REFUSED, ids=lambda value: value)
def test_what_has_no_effect_is_refused(memcalc: Run, line: str, named: str) -> None:
    result = memcalc(*line.split())
    assert (result.code, result.out) == (2, "")
    assert named in result.err


LENGTHS = (  # line, key, tokens, why
    ("infer llama-3.1-8b", "context", 4096, "memcalc's default"),
    ("infer gpt2", "context", 1024, "the model's maximum"),
    ("infer llama-3.1-8b --engine vllm", "context", 131072, "as vllm takes it"),
    ("infer llama-3.1-8b --engine sglang", "context", 131072, "as sglang takes it"),
    ("infer llama-3.1-8b --engine llama.cpp", "context", 131072, "as llama.cpp takes it"),
    ("infer llama-3.1-8b --engine transformers", "context", 4096, "memcalc's default"),
    ("train llama-3.1-8b", "seq_len", 4096, "the model has 131,072 positions"),
    ("train gpt2", "seq_len", 1024, "the model's maximum"),
)


@pytest.mark.parametrize(("line", "key", "tokens", "why"), LENGTHS, ids=lambda value: str(value))
def test_a_length_that_nobody_gave_is_said(memcalc: Run, line: str, key: str, tokens: int, why: str) -> None:
    document = memcalc(*line.split(), "--format", "json").document
    assert document["run"][key] == tokens
    (said,) = [sentence for sentence in document["assumptions"] if sentence.startswith(f"{key} is not given")]
    assert f"{tokens:,} tokens" in said
    assert why in said
    given = memcalc(*line.split(), f"--{key.replace('_', '-')}", str(tokens), "--format", "json").document
    assert given["per_gpu"] == document["per_gpu"]
    assert not [sentence for sentence in given["assumptions"] if "is not given" in sentence]


def test_python_and_files_have_the_same_lengths() -> None:
    assert api.size_serving("llama-3.1-8b", engine="vllm").run.context == 131072
    assert api.size_serving("llama-3.1-8b", run=api.Serving(engine="vllm", context=8192)).run.context == 8192


PATHS = (
    "train qwen3-8b --method qlora --gpu rtx-4090", "train llama-3.1-8b --method lora", "train gpt2 --freeze embeddings",
    "train llama-3.1-8b --gpus 8 --zero 3 --offload optimizer,parameters", "train t5-base --optimizer muon",
    "train mixtral-8x7b --gpus 8 --zero 2 --recompute full --recompute-every 2", "train whisper-medium",
    "infer qwen3-30b-a3b --engine llama.cpp --weights Q4_K_M --gpu-layers 30 --gpu rtx-4090",
    "infer gemma-3-4b --engine vllm --gpu h100", "infer llama-3.1-8b --engine vllm --draft llama-3.2-1b --gpu h100",
    "infer deepseek-v3 --tp 16 --gpu h100", "train mamba-2.8b --recompute full",
    "train llama-3.1-8b --optimizer paged-adamw-8bit",
)  # fmt: skip


@pytest.mark.parametrize("line", PATHS)
def test_lines_have_paths_of_their_own_and_no_negative_bytes(memcalc: Run, line: str) -> None:
    document = memcalc(*line.split(), "--format", "json").document
    for lines in (document["lines"], document.get("peak", {}).get("lines", ())):
        counts = Counter(entry["path"] for entry in lines)
        assert not [path for path, count in counts.items() if count > 1]
        assert all(entry["bytes"] >= 0 for entry in lines)


@pytest.mark.parametrize("model", ["qwen3-8b", "gpt2", "mixtral-8x7b"])
def test_plain_weights_come_from_the_config_not_from_nf4(memcalc: Run, model: str) -> None:
    document = memcalc("infer", model, "--format", "json").document
    weights = [entry for entry in document["lines"] if entry["path"].startswith("weights/")]
    assert {entry["source"].partition(":")[0] for entry in weights} == {"model-config"}
    assert "NF4" not in json.dumps(document)


REACHED = ("t5-base", "bart-base", "llama-3.2-11b-vision", "llama-3.1-8b", "gemma-3-4b", "mamba-2.8b", "whisper-medium")


@pytest.mark.parametrize("engine", [None, "vllm", "transformers", "llama.cpp"])
@pytest.mark.parametrize("model", REACHED)
def test_the_longest_context_is_one_that_fits(model: str, engine: str | None) -> None:
    served = api.size_serving(model, "l40s", engine=engine, context=256)
    assert served.capacity_there
    longest = served.capacity_there.max_context
    if longest is None or longest >= 2**31 - 1:  # nothing limits it
        return
    assert api.size_serving(model, "l40s", engine=engine, context=longest).fits
    assert not api.size_serving(model, "l40s", engine=engine, context=longest + max(1024, longest // 50)).fits


@pytest.mark.parametrize(
    ("said", "weights", "cache", "why"),
    [
        ({}, "bf16", "bf16", "memcalc's default"),
        ({"engine": "vllm"}, "bf16", "bf16", "as vllm does by default"),  # config/model.py, _resolve_auto_dtype
        ({"engine": "sglang"}, "fp16", "fp16", "as sglang does by default"),  # model_config.py, _get_and_verify_dtype
        ({"engine": "transformers"}, "fp32", "fp32", "as transformers does by default"),  # modeling_utils.py, _get_dtype
        ({"engine": "transformers", "weights": "bf16"}, "bf16", "bf16", ""),
        ({"engine": "vllm", "precision": "fp32"}, "fp32", "fp32", ""),
    ],
)
def test_what_becomes_of_a_float32_checkpoint_is_said(said: dict[str, Any], weights: str, cache: str, why: str) -> None:
    config = {
        "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "vocab_size": 1000,
        "num_hidden_layers": 2, "dtype": "float32",
    }  # fmt: skip
    found = api.size_serving(config, **said)
    assert (found.run.weights, found.run.kv_dtype) == (weights, cache)
    assert [why in line for line in found.doubts.assumptions if "checkpoint is float32" in line] == ([True] if why else [])
