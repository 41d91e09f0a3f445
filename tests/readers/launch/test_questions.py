"""What facts come to in memcalc's settings: precision, sharding, batches; what is asked for; and that options win."""

from pathlib import Path
from typing import Any

import pytest

from memcalc.errors import MemcalcError
from memcalc.sizing.import_report import imported
from memcalc.sizing.importing import asked_from, launched, merged
from memcalc.specs.serving import Serving
from memcalc.specs.spec import bounds
from memcalc.specs.training import Training

HF = "torchrun --nproc_per_node 2 t.py --model_name_or_path m --per_device_train_batch_size 1 --max_seq_length 512"
MEGATRON = ("torchrun --nproc_per_node 8 pretrain_gpt.py --num-layers 4 --hidden-size 512 --num-attention-heads 8 "
            "--vocab-size 1000 --seq-length 512 --micro-batch-size 1")  # fmt: skip
# command line, settings that must come of it. transformers training_args.py and trainer.py, accelerate accelerator.py (FSDP
# keeps fp32 shards), PEFT (adapters in fp32), torch.distributed.fsdp, Megatron-LM arguments.py, vLLM arg_utils.py
SETTINGS: tuple[tuple[str, dict[str, Any]], ...] = (
    (f"{HF} --bf16", {"precision": "bf16-amp", "gpus": 2, "optimizer": "adamw", "optimizer_impl": "fused"}),
    (f"{HF} --bf16 --torch_dtype bfloat16", {"precision": "bf16"}),
    (f"{HF} --bf16 --deepspeed zero3_offload", {"precision": "bf16-mixed", "zero": 3, "offload": ("optimizer", "parameters")}),
    (f"{HF} --fp16 --fsdp 'full_shard auto_wrap offload'", {"precision": "fp16-mixed", "fsdp": "full",
                                                           "offload": ("parameters", "optimizer")}),
    (f"{HF} --bf16 --torch_dtype bfloat16 --lora_r 8", {"method": "lora", "lora_rank": 8, "lora_targets": ("q", "v"),
                                                       "precision": "bf16-mixed"}),
    (f"{HF} --bf16 --lora_r 8 --load_in_4bit --lora_target_modules q_proj o_proj", {"method": "qlora", "base_format": "nf4",
                                                                                   "lora_targets": ("q", "output")}),
    (f"{HF} --lora_r 8 --load_in_8bit", {"method": "qlora", "base_format": "int8"}),
    (f"{HF} --lora_r 8 --modules_to_save lm_head", {"train_also": ("head",)}),
    (f"{HF} --optim adamw_torch", {"optimizer": "adamw", "optimizer_impl": "foreach"}),
    (f"{HF} --optim paged_adamw_32bit", {"optimizer": "paged-adamw"}),
    (f"{MEGATRON} --bf16 --tensor-model-parallel-size 2 --sequence-parallel --use-distributed-optimizer --global-batch-size 16",
     {"precision": "bf16-mixed", "tp": 2, "sequence_parallel": True, "zero": 1, "grad_accum": 4, "engine": "megatron"}),
    (f"{MEGATRON} --pipeline-model-parallel-size 2 --num-layers-per-virtual-pipeline-stage 1",
     {"pp": 2, "virtual_stages": 2, "pipeline_schedule": "interleaved"}),
    (f"{MEGATRON} --bf16 --recompute-granularity full --recompute-method block --recompute-num-layers 2",
     {"recompute": "full", "recompute_method": "block", "recompute_num_layers": 2}),
    ("vllm serve m -tp 2 --max-model-len 32k --kv-cache-dtype fp8", {"tp": 2, "context": 32000, "kv_dtype": "fp8",
                                                                     "engine": "vllm"}),
    ("vllm serve org/m-AWQ --enforce-eager", {"weights": "awq", "eager": True}),
    ("vllm serve m -tp 2 -dp 4 --enable-expert-parallel", {"tp": 2, "ep": 8}),  # 8 GPUs, 4 groups
    ("vllm serve m --enable-lora", {"lora_adapters": 1, "lora_rank": 16}),
    ("vllm serve m --speculative-config '{\"method\": \"eagle3\", \"model\": \"org/head\", \"num_speculative_tokens\": 3}'",
     {"draft": "eagle3", "draft_tokens": 3}),
    ("vllm serve m --speculative-config '{\"method\": \"qwen3_next_mtp\", \"num_speculative_tokens\": 2}'", {"draft": "mtp"}),
    ("vllm serve m --speculative-config '{\"model\": \"org/small\"}'", {"draft": "org/small"}),
    ("vllm serve m --kv-transfer-config '{\"kv_connector\": \"NixlConnector\", \"kv_role\": \"kv_consumer\"}'",
     {"role": "decode"}),
    ("vllm serve m --kv-transfer-config '{\"kv_connector\": \"P2pNcclConnector\", \"kv_buffer_size\": 1e9}'",
     {"transfer_buffer": 10**9}),
    ("vllm serve m -tp 2 --kv-offloading-size 64 --num-gpu-blocks-override 5000 --max-cudagraph-capture-size 64",
     {"cache_offload": 32 * 2**30, "cache_tokens": 80000, "max_graph_batch": 64}),
    ("vllm serve m --limit-mm-per-prompt '{\"image\": 2, \"video\": 0}'", {"images_per_prompt": 2}),
    ("vllm serve m --limit-mm-per-prompt image=2,video=0", {"images_per_prompt": 2}),
    ("vllm serve m --limit-mm-per-prompt.video 0 --limit-mm-per-prompt.image 3", {"images_per_prompt": 3}),
    ("vllm serve m --skip-mm-profiling", {"images_per_prompt": 0}),
    ("VLLM_PP_LAYER_PARTITION=20,12 vllm serve m -pp 2", {"pp_layers": (20, 12)}),
    ("vllm serve m -dp 8 --enable-expert-parallel --eplb-config '{\"num_redundant_experts\": 32}'",
     {"ep": 8, "redundant_experts": 32}),
    ("vllm serve m -dp 16 --enable-expert-parallel --all2all-backend deepep_low_latency",
     {"ep": 16, "all_to_all": "deepep-low-latency"}),
    ("python -m sglang.launch_server --model m --tp 16 --dp 16 --enable-dp-attention --moe-a2a-backend deepep "
     "--deepep-mode low_latency", {"ep": 16, "all_to_all": "deepep-low-latency"}),
    ("python -m sglang.launch_server --model m --tp 8 --moe-a2a-backend deepep", {"ep": 8, "all_to_all": "deepep"}),
    ("vllm serve m --enable-lora --max-loras 4 --fully-sharded-loras --language-model-only",
     {"lora_adapters": 4, "sharded_adapters": True, "language_model_only": True}),
    ("python -m sglang.launch_server --model m --tp 16 --dp 8 --enable-dp-attention --speculative-algorithm EAGLE",
     {"tp": 16, "attention_dp": 8, "draft": "mtp"}),
    ("python -m sglang.launch_server --model m --speculative-algorithm STANDALONE --speculative-draft-model-path org/small",
     {"draft": "org/small"}),
    ("python -m sglang.launch_server --model m --disaggregation-mode prefill --hicache-size 30 --max-running-requests 64",
     {"role": "prefill", "cache_offload": 30 * 10**9, "max_sequences": 64}),
    ("python -m sglang.launch_server --model m --tp 4 --mem-fraction-static 0.8", {"tp": 4, "gpu_memory_utilization": 0.8}),
    ("llama-server -m m.gguf -c 8192 -np 4 -ngl 20 -ctk q8_0 -ctv q4_0", {"context": 8192, "slots": 4, "gpu_layers": 20,
                                                                         "cache_type_k": "q8_0", "cache_type_v": "q4_0"}),
    ("docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.21.0 --model m --max-model-len 4096", {"context": 4096}),
)  # fmt: skip


@pytest.mark.parametrize(("line", "wanted"), SETTINGS, ids=lambda value: value[-60:] if isinstance(value, str) else "")
def test_settings(line: str, wanted: dict[str, Any]) -> None:
    settings = {name: setting.value for name, setting in launched(line)[0].question.settings.items()}
    assert {name: settings.get(name) for name in wanted} == wanted


# command line, what is said of a value that its engine would not take; the setting is not made
BEYOND = (
    ("vllm serve m --max-model-len -5", "context", "command line:1: -5 is no number of tokens"),
    ("llama-server -m m.gguf -c -4", "context", "command line:1: -4 is no number of tokens"),
    ("vllm serve m --gpu-memory-utilization 7", "gpu_memory_utilization", "command line:1: 7 is no share"),
    (
        "python -m sglang.launch_server --model m --mem-fraction-static 0",
        "gpu_memory_utilization",
        "command line:1: 0 is no share",
    ),
)


@pytest.mark.parametrize(("line", "setting", "said"), BEYOND)
def test_a_value_that_cannot_be_is_named_with_its_place(line: str, setting: str, said: str) -> None:
    question = launched(line)[0].question
    assert setting not in question.settings
    assert any(warning.startswith(said) for warning in question.warnings), question.warnings


def test_no_tokens_is_the_models_own_context() -> None:
    assert not launched("llama-server -m m.gguf -c 0")[0].question.warnings


# command line, the setting that must be asked for
OPEN = (
    ("vllm serve m --max-model-len $LEN", "context"),
    ("vllm serve m --tensor-parallel-size $TP", "tp"),
    ("vllm serve m --max-num-seqs many", "max_sequences"),
    ("torchrun --nproc_per_node $N t.py --model_name_or_path m --per_device_train_batch_size 1 --max_seq_length 9", "gpus"),
    (
        "torchrun --nproc_per_node 2 t.py --model_name_or_path m --per_device_train_batch_size $B --max_seq_length 9",
        "micro_batch",
    ),
    ("vllm serve $MODEL --max-model-len 9", "model"),
)


@pytest.mark.parametrize(("line", "setting"), OPEN)
def test_what_a_variable_leaves_open_is_asked_for(line: str, setting: str) -> None:
    found = launched(line)[0]
    assert setting in found.question.asks
    with pytest.raises(MemcalcError, match=r"no file (says|names)"):
        asked_from(found.question.command, [line], None, None, {})
    said = {} if setting == "model" else {setting: 8}
    assert asked_from(found.question.command, [line], "m", None, said).model == "m"


# settings of files, what was said, what is left of both
MERGED: tuple[tuple[dict[str, Any], dict[str, Any], dict[str, Any]], ...] = (
    ({"micro_batch": 4}, {"micro_batch": 2}, {"micro_batch": 2}),
    ({"zero": 3, "sub_group_size": 9}, {"fsdp": "full"}, {"fsdp": "full"}),
    ({"fsdp": "full", "shard_size": 4}, {"ddp": True}, {"ddp": True}),
    ({"method": "qlora", "lora_rank": 8, "base_format": "nf4"}, {"method": "full"}, {"method": "full"}),
    ({"recompute": "full", "recompute_method": "block"}, {"recompute": "none"}, {"recompute": "none"}),
    ({"micro_batch": 2, "grad_accum": 4}, {"tokens_per_batch": 4096}, {"grad_accum": 4, "tokens_per_batch": 4096}),
    ({"pp": 2, "virtual_stages": 2}, {"pp": 1}, {"pp": 1}),
    ({"optimizer": "adamw", "optimizer_impl": "fused"}, {"optimizer": "adafactor"}, {"optimizer": "adafactor"}),
)  # fmt: skip


@pytest.mark.parametrize(("files", "said", "wanted"), MERGED)
def test_options_win(files: dict[str, Any], said: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert merged(files, said) == wanted


# TRL's defaults: eight examples of 1,024 tokens, a copy beside the model unless adapters are trained, weights in fp32
PREFERENCES = (
    ("dpo", "", {"objective": "dpo", "micro_batch": 8, "seq_len": 1024}, 16),
    ("dpo", " --precompute_ref_log_probs true", {"objective": "dpo", "reference": "precomputed"}, 16),
    ("kto", "", {"objective": "kto"}, 8), ("reward", "", {"objective": "reward"}, 16),
)  # fmt: skip


@pytest.mark.parametrize(("algorithm", "more", "wanted", "rows"), PREFERENCES)
def test_preferences_are_sized(algorithm: str, more: str, wanted: dict[str, Any], rows: int) -> None:
    from memcalc.sizing.training import size_training

    line = f"trl {algorithm} --model_name_or_path Qwen/Qwen3-0.6B --max_length 1024{more}"
    asked = asked_from("train", [line], None, None, {"gpus": 1})
    assert {name: asked.settings.get(name) for name in wanted} == wanted
    assert size_training(asked.model, None, **asked.settings).run.rows == rows


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_an_objective_that_is_not_modelled_is_refused_by_name(algorithm: str) -> None:
    line = f"trl {algorithm} --model_name_or_path Qwen/Qwen3-0.6B --bf16"
    found = launched(line)[0]
    assert found.job.reading.facts["algorithm"].value == algorithm
    with pytest.raises(MemcalcError, match=f"{algorithm} is imported with all its facts, but"):
        asked_from("train", [line], None, None, {"gpus": 1, "seq_len": 512})


VIDEOS = (('{"image": 2, "video": 1}', True), ('{"image": 2, "video": 0}', False),
          ('{"video": {"count": 1, "num_frames": 8}}', True), ("image=2", False))  # fmt: skip


@pytest.mark.parametrize(("limit", "told"), VIDEOS)
def test_videos_that_a_profile_may_take(tmp_path: Path, limit: str, told: bool) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(f"vllm serve Qwen/Qwen2.5-VL-7B-Instruct --limit-mm-per-prompt '{limit}'\n")
    warnings = imported([str(script)]).document["warnings"]
    assert any("serve.sh:1: videos of the profile" in line for line in warnings) == told


def test_keys_that_matter_and_are_not_modelled_are_warnings_with_their_place(tmp_path: Path) -> None:
    script = tmp_path / "serve.sh"
    script.write_text(
        "#!/bin/sh\nvllm serve m \\\n  --cpu-offload-gb 4 \\\n  --enable-eplb --nobody-knows 3\n", encoding="utf-8"
    )
    warnings = imported([str(script)]).document["warnings"]
    assert any("serve.sh:3: weights in host memory" in line for line in warnings), warnings
    assert any("serve.sh:4: enable-eplb" in line and "not modelled" in line for line in warnings), warnings
    assert any("not known: nobody-knows" in line and "serve.sh:4" in line for line in warnings), warnings


def test_several_servers_are_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "compose.yml"
    path.write_text("services:\n  a: {image: vllm/vllm-openai, command: --model m -tp 2}\n"
                    "  b: {image: vllm/vllm-openai, command: --model n -tp 4}\n", encoding="utf-8")  # fmt: skip
    assert [found.job.name for found in launched(str(path))] == ["a", "b"]
    assert asked_from("infer", [f"{path}#b"], None, None, {}).settings["tp"] == 4
    assert asked_from("infer", [f"{path}#1"], None, None, {}).settings["tp"] == 2
    with pytest.raises(MemcalcError, match="holds 2: a, b; choose one with --from FILE#NAME"):
        asked_from("infer", [str(path)], None, None, {})
    with pytest.raises(MemcalcError, match="holds a, b, not 'c'"):
        launched(f"{path}#c")


# manifests that hold no command line, settings that must come of them (KServe's documentation)
MANIFESTS = (
    ("apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nspec:\n  predictor:\n    minReplicas: 2\n"
     "    model:\n      modelFormat: {name: huggingface}\n      storageUri: hf://org/m\n"
     "      args: [--max-model-len=4096, -tp, '2']\n"
     "      resources: {limits: {nvidia.com/gpu: '2'}}\n",
     {"model": "org/m", "context": 4096, "tp": 2, "gpus_in_pod": 2, "replicas": 2}),
    ("apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: a}\nspec:\n  predictor:\n    model:\n"
     "      args: [--model_name=x, --model_id=org/m]\n", {"model": "org/m"}),
    ("apiVersion: serving.kserve.io/v1alpha1\nkind: LLMInferenceService\nmetadata: {name: a}\nspec:\n  model: {uri: 'hf://org/m'}\n"
     "  parallelism: {tensor: 4, data: 2}\n", {"model": "org/m", "tp": 4, "dp": 2}),
    ("apiVersion: batch/v1\nkind: Job\nmetadata: {name: a}\nspec:\n  template:\n    spec:\n      containers:\n      - name: t\n"
     "        env: [{name: BS, value: '3'}]\n        command: [torchrun, --nproc_per_node=4, t.py, --model_name_or_path, m,\n"
     "          --per_device_train_batch_size, $(BS)]\n", {"model": "m", "micro_batch": 3, "gpus": 4}),
)  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), MANIFESTS)
def test_manifests(text: str, wanted: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(text, encoding="utf-8")
    facts = launched(str(path))[0].job.reading.facts
    assert {name: facts[name].value if name in facts else None for name in wanted} == wanted


TITAN = """
[model]
name = "llama3"
flavor = "8B"
[training]
local_batch_size = 1
seq_len = 8192
[compile]
enable = {compiles}
[parallelism]
tensor_parallel_degree = {tp}
data_parallel_shard_degree = 4
enable_async_tensor_parallel = true
"""


@pytest.mark.parametrize(("tp", "compiles", "sequence_parallel", "overlap", "warns"), [
    (2, "true", True, "on", False), (2, "false", True, None, True), (1, "true", None, None, False),
])  # fmt: skip
def test_torchtitans_tensor_parallelism_divides_norms_and_may_overlap(
    tmp_path: Path, tp: int, compiles: str, sequence_parallel: bool | None, overlap: str | None, warns: bool
) -> None:
    """torchtitan: models/llama3/infra/parallelize.py (SequenceParallel), distributed/tensor_parallel.py."""
    path = tmp_path / "run.toml"
    path.write_text(TITAN.format(tp=tp, compiles=compiles), encoding="utf-8")
    (job,) = launched(str(path))
    settings = {name: setting.value for name, setting in job.question.settings.items()}
    assert (settings.get("sequence_parallel"), settings.get("tp_overlap")) == (sequence_parallel, overlap)
    assert any("torch.compile" in line for line in imported([str(path)]).document["warnings"]) == warns


def test_a_program_is_known_by_the_file_that_it_reads(tmp_path: Path) -> None:
    """accelerate launch --config_file A run.py --config B: neither its name nor its options say what it is."""
    (tmp_path / "a.yaml").write_text(
        "distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\nnum_processes: 8\n", encoding="utf-8"
    )
    (tmp_path / "b.yaml").write_text("model_name_or_path: m\nper_device_train_batch_size: 2\nmax_length: 512\npacking: true\n",
                                     encoding="utf-8")  # fmt: skip
    script = tmp_path / "run.sh"
    script.write_text("accelerate launch --config_file a.yaml run.py --config b.yaml --learning_rate 1e-5\n", encoding="utf-8")
    settings = launched(str(script))[0].question.settings
    assert {name: settings[name].value for name in ("gpus", "fsdp", "micro_batch", "seq_len", "recompute")} == {
        "gpus": 8, "fsdp": "full", "micro_batch": 2, "seq_len": 512, "recompute": "full",
    }  # fmt: skip


def test_words_behind_a_number_stand_alone() -> None:
    """tune run --nproc_per_node 2 RECIPE key=value."""
    found = launched(
        "python -m torch.distributed.run --nproc_per_node 2 t.py --per_device_train_batch_size 3 --model_name_or_path m"
    )
    assert found[0].question.settings["gpus"].value == 2


COUNTS = {
    "vllm serve Qwen/Qwen3-8B": ("max-num-seqs", "max-model-len", "tensor-parallel-size", "pipeline-parallel-size",
                                 "data-parallel-size", "max-num-batched-tokens", "block-size", "max-lora-rank"),
    "python -m sglang.launch_server --model-path Qwen/Qwen3-8B": ("tp-size", "dp-size", "context-length",
                                                                  "chunked-prefill-size", "page-size"),
    "llama-server -m qwen3-8b.gguf": ("ctx-size", "parallel", "n-gpu-layers", "ubatch-size", "n-cpu-moe"),
    HF: ("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs"),
}  # fmt: skip


@pytest.mark.parametrize("value", ["-3", "0", "99999999999999999999"])
@pytest.mark.parametrize(("line", "option"), [(line, option) for line, options in COUNTS.items() for option in options])
def test_no_setting_is_a_number_that_it_cannot_be(line: str, option: str, value: str) -> None:
    """What `import` writes is what memcalc reads: a count of -3 is left out, and said so where it means nothing."""
    (found,) = launched(f"{line} --{option} {value}")
    limits = bounds(Serving if found.question.command == "infer" else Training)
    for name, setting in found.question.settings.items():
        if name in limits and isinstance(setting.value, (int, float)):
            low, high = limits[name]
            assert low <= setting.value <= high
            assert str(setting.value) != value or low <= int(value) <= high


def test_what_is_left_out_is_said() -> None:
    (found,) = launched("vllm serve Qwen/Qwen3-8B --max-num-seqs -3 --tensor-parallel-size 0")
    assert [text for text in found.question.warnings if "is left out" in text] == [
        "command line:1: 0 is no tp (from 1 to 65,536); it is left out",
        "command line:1: -3 is no max sequences (from 1 to 16,777,216); it is left out",
    ]
