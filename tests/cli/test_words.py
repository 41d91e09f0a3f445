"""Words that people paste: options, optimizers, formats and numbers as launchers, engines and articles write them."""

from collections.abc import Callable
from typing import Any

import click
import pytest

from memcalc.cli import cli
from memcalc.cli.aliases import COMMON, SPELLINGS, Instead, Set, With
from memcalc.cli.spec_options import ROWS
from memcalc.formulas.optimizer_table import OPTIMIZERS
from memcalc.formulas.optimizers import SPELLINGS as OPTIMIZER_SPELLINGS
from memcalc.formulas.optimizers import optimizer, squashed
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.serving import Serving
from memcalc.specs.spec import choices
from memcalc.specs.training import Training
from memcalc.specs.words import HINTS, WORDS, meant

Run = Callable[..., Any]

TAKEN = (  # line, field, what it is then
    ("train gpt2 --optimizer adamw_torch", "run.optimizer", "adamw"),
    ("train gpt2 --optimizer adamw_torch", "run.optimizer_impl", "foreach"),
    ("train gpt2 --optimizer adamw_torch_fused", "run.optimizer_impl", "fused"),
    ("train gpt2 --optim adamw_bnb_8bit", "run.optimizer", "adamw-8bit"),
    ("train gpt2 --optimizer paged_adamw_8bit", "run.optimizer", "paged-adamw-8bit"),
    ("train gpt2 --optimizer paged_adamw_32bit", "run.optimizer", "paged-adamw"),
    ("train gpt2 --optimizer bitsandbytes.optim.PagedAdamW8bit", "run.optimizer", "paged-adamw-8bit"),
    ("train gpt2 --optimizer AdamW", "run.optimizer", "adamw"),
    ("train gpt2 --optimizer galore_adamw", "run.optimizer", "galore"),
    ("train gpt2 --optimizer came_pytorch", "run.optimizer", "came"),
    ("train gpt2 --precision FP32", "run.precision", "fp32"),
    ("train gpt2 --precision BF16_MIXED", "run.precision", "bf16-mixed"),
    ("train gpt2 --method LoRA", "run.method", "lora"),
    ("train gpt2 --method QLoRA --lora-targets all --lora-r 8", "run.lora_rank", "8"),
    ("train gpt2 --gpus 8 --fsdp FULL_SHARD", "run.parallelism.fsdp", "full"),
    ("train gpt2 --gpus 8 --zero-stage 3", "run.parallelism.zero", "3"),
    ("train gpt2 --num_processes=8 --zero_stage=2", "run.parallelism.gpus", "8"),
    ("train gpt2 --attn_implementation flash_attention_2", "run.attention", "flash"),
    ("train gpt2 --gradient-checkpointing", "run.recompute", "full"),
    ("train gpt2 --gradient_checkpointing True --micro-batch 2", "run.recompute", "full"),
    ("train gpt2 --gradient_checkpointing=false", "run.recompute", "none"),
    ("train gpt2 --per_device_train_batch_size 4", "run.micro_batch", "4"),
    ("train gpt2 --gradient_accumulation_steps 16", "run.grad_accum", "16"),
    ("train llama-3.1-8b --max_seq_length 8,192", "run.seq_len", "8192"),
    ("train llama-3.1-8b --context 2048", "run.seq_len", "2048"),
    ("train llama-3.1-8b --gpus 8 --tensor-model-parallel-size 4", "run.parallelism.tp", "4"),
    ("train llama-3.1-8b --use_liger_kernel true", "run.kernels", "liger"),
    ("train 1,000,000,000", "model.parameters", "1000000000"),
    ("infer llama-3.1-8b --max-model-len 8192", "run.context", "8192"),
    ("infer llama-3.1-8b --tensor-parallel-size 2", "run.tp", "2"),
    ("infer llama-3.1-8b --engine vLLM --max-num-seqs 64", "run.max_sequences", "64"),
    ("infer llama-3.1-8b --engine vllm --enforce-eager", "run.eager", "true"),
    ("infer llama-3.1-8b --engine llama-cpp --weights q4_k_m -ngl 20", "run.gpu_layers", "20"),
    ("infer llama-3.1-8b -c 2048", "run.context", "2048"),
    ("infer llama-3.1-8b --quantization fp8", "run.weights", "fp8"),
    ("infer llama-3.1-8b --weights FP32", "run.weights", "fp32"),
    ("infer llama-3.1-8b --precision torch.float16", "run.weights", "fp16"),
    ("infer llama-3.1-8b --engine sglang --mem-fraction-static 0.8 --gpu h100", "run.gpu_memory_utilization", "0.8"),
    ("budget --params 7B --tokens 1,000,000,000 --gpu h100 --price $2", "", None),
    ("train gpt2 --gpus 8 --sequence-parallel-size 4", "run.parallelism.cp_kind", "all-to-all"),
    ("train gpt2 --gpus 8 --ulysses=4", "run.parallelism.cp", "4"),
    ("train gpt2 --gpus 8 --global-batch-size 64", "run.grad_accum", "8"),
    ("train gpt2 --per_device_eval_batch_size 4", "run.eval_batch", "4"),
    ("train gpt2 --tiled-mlp-compute", "run.tiled_mlp", "true"),
    ("train gpt2 --ppo_max_token_len_per_gpu 2048", "run.tokens_per_batch", "2048"),
    ("train gpt2 --optim galore_adamw_layerwise", "run.optimizer_in_backward", "true"),
    ("train gpt2 --optimizer_in_bwd", "run.optimizer_in_backward", "true"),
    ("train gpt2 --optim paged_ademamix_8bit", "run.optimizer", "paged-ademamix-8bit"),
    ("train gpt2 --optim rmsprop_bnb_8bit", "run.optimizer", "rmsprop-8bit"),
    ("train gpt2 --optim stable_adamw", "run.optimizer", "stable-adamw"),
    ("train gpt2 --optim schedule_free_radam --max_grad_norm 1", "run.optimizer", "schedule-free-radam"),
    ("train gpt2 --gradient_clipping 1", "run.max_grad_norm", "1.0"),
    ("train gpt2 --kernels unsloth", "run.optimizer", "adamw-8bit"),  # unsloth/models/rl.py, replacements
    ("train gpt2 --kernels unsloth --optimizer adamw", "run.optimizer", "adamw"),
    ("train gpt2 --kernels unsloth --optimizer-impl foreach", "run.optimizer", "adamw"),
    ("train gpt2 --method rslora", "run.method", "lora"),
    ("train gpt2 --method qlora --base-format LLM.int8", "run.base_format", "int8"),
)  # fmt: skip


@pytest.mark.parametrize(("line", "field", "expected"), TAKEN, ids=[f"{case[0]} {case[1]}" for case in TAKEN])
def test_a_word_that_means_the_same_is_taken(memcalc: Run, line: str, field: str, expected: str | None) -> None:
    result = memcalc(*line.split(), *(["--get", field] if expected else []))
    assert (result.code, result.err) == (0, "")
    assert expected is None or result.out.strip() == expected


REFUSED = (
    ("train gpt2 --batch-size 8", "--micro-batch"),
    ("train gpt2 --packing", "--tokens-per-batch"),
    ("train gpt2 --bf16", "bf16-amp"),
    ("train gpt2 --cpu-offload", "--offload"),
    ("train gpt2 --load_in_4bit", "--method qlora"),
    ("infer gpt2 --gpus 2", "--tp"),
    ("infer gpt2 --dtype bfloat16", "--precision"),
    ("infer gpt2 --batch-size 8", "--batch"),
    ("infer gpt2 --weights 4bit", "Q4_K_M"),
    ("infer gpt2 --weights Q4", "Q4_K_M"),
    ("infer gpt2 --weights 8bit", "Q8_0"),
    ("train gpt2 --optimizer adamwx", "adamw"),
    ("train gpt2 --engine Unsloth", "--kernels unsloth"),
    ("train gpt2 --engine llama-factory", "engine accelerate"),
    ("train gpt2 --engine nemo", "engine megatron"),
    ("train gpt2 --engine fsdp", "--fsdp"),
    ("infer gpt2 --engine koboldcpp", "engine llama.cpp"),
    ("infer gpt2 --engine TGI", "not modelled"),
    ("train gpt2 --engine zero3", "--zero"),
    ("train gpt2 --gpus 8 --fsdp FSDP2", "the engine says whose"),
    ("train gpt2 --method dpo", "--objective"),
    ("train gpt2 --method sft", "the next token's loss is the default"),
    ("train gpt2 --objective GRPO", "not modelled yet"),
    ("train gpt2 --objective bi-encoder", "embed"),
    ("train gpt2 --recompute true", "full"),
    ("train gpt2 --offload cpu", "--offload-to"),
    ("train gpt2 --kernels flash_attention", "--attention"),
    ("train gpt2 --precision mixed", "bf16-amp"),
)


def test_a_word_that_has_a_hint_is_refused_somewhere() -> None:
    """Nor does it mean one of ours there: then it would be taken."""
    named = [(field, rule.names) for spec in (Training, Parallelism, Serving) for field, rule in choices(spec).items()]
    for field, word in HINTS:
        assert any(meant(field, word, names) not in names for name, names in named if name == field), (field, word)


def test_a_meaning_goes_before_names_that_are_spelled_alike(memcalc: Run) -> None:
    assert "did you mean" not in memcalc("train", "gpt2", "--objective", "grpo").err


@pytest.mark.parametrize(("line", "words"), REFUSED, ids=[case[0] for case in REFUSED])
def test_a_word_that_means_something_else_is_refused_by_meaning(memcalc: Run, line: str, words: str) -> None:
    result = memcalc(*line.split())
    assert (result.code, result.out) == (2, "")
    assert words in result.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train gpt2 --gpu 24GB", "--gpu-memory 24GB"),
        ("train gpt2 --gpu 80", "--gpu-memory 80GB"),
        ("infer gpt2 --gpu 80GiB", "--gpu-memory 80GiB"),
        ("budget 7B --gpu 80g", "--gpu-memory 80GB"),
        ("train gpt2 --gpu 4xH100", "--gpu h100 with --gpus 4"),
        ("infer gpt2 --gpu 8*h100", "--tp 8"),
        ("train gpt2 --gpu h100x8", "--gpu h100 with --gpus 8"),
        ("train gpt2 --gpu 8-x-h100", "--gpu h100 with --gpus 8"),
        ("train gpt2 --gpu H100:8", "--gpu h100 with --gpus 8"),
        ("train gpt2 --gpu 0xh100", "did you mean h100"),
        ("train gpt2 --gpu dgx-h100", "--gpus 8"),
        ("train gpt2 --gpu 8xfoo", "unknown GPU '8xfoo'"),
        (f"train gpt2 --gpu {'1*' * 3000}h100", "cannot be a GPU's name"),
        ("train gpt2 --gpu h100 --gpu a100-80gb", "h100 and a100-80gb: one at a time"),
    ],
)
def test_an_accelerator_is_one_name(memcalc: Run, line: str, words: str) -> None:
    result = memcalc(line)
    assert (result.code, result.out) == (2, "")
    assert words in result.err
    assert memcalc("train gpt2 --gpu H100 --gpu h100 --get gpu.fits").out == "true\n"


def test_spellings_lead_to_options_that_exist() -> None:
    for name in ("train", "infer", "budget"):
        command = cli.get_command(click.Context(cli), name)
        assert command
        options = {word for param in command.params for word in param.opts}
        for spelling, meaning in SPELLINGS.get(name, COMMON).items():
            if not isinstance(meaning, Instead):
                ours = meaning.option if isinstance(meaning, (Set, With)) else meaning
                assert f"--{ours}" in options, spelling
            assert f"--{spelling}" not in options, f"{spelling} is an option of ours: its row is never read"


EVERY = {(name, rule.names) for spec in (Parallelism, Training, Serving) for name, rule in choices(spec).items()}


def test_words_lead_to_names_that_exist() -> None:
    for field, words in WORDS.items():
        names = [name for other, accepted in EVERY if other == field for name in accepted]
        for word, meaning in words.items():
            assert meaning in names, f"{field}: {word}"
            assert word == squashed(word)
    assert all(meaning in OPTIMIZERS for meaning in OPTIMIZER_SPELLINGS.values())


@pytest.mark.parametrize(("field", "names"), sorted(EVERY))
def test_capitals_and_hyphens_do_not_matter(field: str, names: tuple[str, ...]) -> None:
    assert len({squashed(name) for name in names}) == len(names)
    for name in names:
        for spelling in (name.upper(), name.title(), name.replace("-", "_")):
            assert meant(field, spelling, names) == name


def test_python_takes_the_same_words() -> None:
    assert Training(optimizer="paged_adamw_32bit", method="LoRA").optimizer == "paged-adamw"
    assert Parallelism(gpus=8, fsdp="SHARD_GRAD_OP").fsdp == "grad-op"
    assert Training(offload=("params",), parallelism=Parallelism(gpus=8, zero=3)).offload == ("parameters",)
    assert Serving(engine="TensorRT_LLM").engine == "tensorrt-llm"
    assert optimizer("adamw_torch_8bit").name == "adamw-8bit-torchao"


BYTES = sorted((spec, name) for spec, rows in ROWS.items() for name, kind, *_ in rows if kind == "bytes")


@pytest.mark.parametrize(("spec", "name"), BYTES)
def test_bare_numbers_are_no_amount_of_memory(memcalc: Run, spec: str, name: str) -> None:
    """Every option that takes bytes, whichever command has it."""
    command = {"Serving": "infer", "Training": "train", "Parallelism": "train", "Budget": "budget", "Device": "infer",
               "ServingQuestion": "infer"}[spec]  # fmt: skip
    for value in ("8", "80", "1024"):
        result = memcalc(command, "gpt2", f"--{name.replace('_', '-')}", value)
        assert result.code == 2
        assert "GiB" in result.err
