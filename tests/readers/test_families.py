"""Parameter counts of whole families, their heads, and what a reader does with keys that it does not know."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

from memcalc.blocks.task_head import TaskHead
from memcalc.cli import cli
from memcalc.errors import InputError
from memcalc.readers.hf import read_config
from memcalc.readers.hf.families import BY_MODULE, KIN

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from families import outcome, rows

ROWS = rows()
LLAMA3 = {
    "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['class']}-{row['variant']}")
def test_a_count_is_right_or_refused_or_doubted(row: dict[str, Any]) -> None:
    assert outcome(row) != "silently wrong"


def test_a_model_type_stands_in_one_place() -> None:
    named = [name for names in BY_MODULE.values() for name in names.split()]
    assert sorted(named + list(KIN)) == sorted({*named, *KIN})
    for module, names in BY_MODULE.items():
        table = import_module(f"memcalc.readers.hf.{module}").FAMILIES
        assert sorted(table) == sorted(names.split()), module


def test_most_of_the_table_is_exact() -> None:
    exact = [row for row in ROWS if outcome(row).startswith("exact")]
    assert len(exact) >= 855


@pytest.mark.parametrize(
    ("name", "parameters", "predicts"),
    [
        ("LlamaForCausalLM", 8_030_261_248, True),
        ("LlamaModel", 7_504_924_672, False),
        ("LlamaForSequenceClassification", 7_504_928_768, False),  # a reward model of one label
        ("LlamaForTokenClassification", 7_504_928_769, False),
        ("LlamaForQuestionAnswering", 7_504_924_672 + 2 * 4097, False),
    ],
)
def test_the_class_decides_the_head(name: str, parameters: int, predicts: bool) -> None:
    found = read_config({**LLAMA3, "architectures": [name], "id2label": {"0": "LABEL_0"}})
    assert (found.parameters, bool(found.predicted), found.warnings) == (parameters, predicts, ())


def test_labels_are_counted() -> None:
    found = read_config({**LLAMA3, "architectures": ["LlamaForSequenceClassification"], "num_labels": 7})
    (head,) = [block for _, block in found.parts[0].exit if isinstance(block, TaskHead)]
    assert head.labels == 7


def test_a_number_of_labels_outweighs_their_names() -> None:
    """transformers 5.24 configuration_utils.py: the setter of num_labels writes id2label anew."""
    found = read_config(
        {**LLAMA3, "architectures": ["LlamaForSequenceClassification"], "num_labels": 5, "id2label": {"0": "a", "1": "b"}}
    )
    assert found.parameters == 7_504_924_672 + 5 * 4096


@pytest.mark.parametrize("kind", ["deepseek_v2", "deepseek_v3", "axk1"])
def test_a_rank_of_zero_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match="q_lora_rank must be between 1"):
        read_config({**LLAMA3, "model_type": kind, "q_lora_rank": 0, "moe_intermediate_size": 8, "n_routed_experts": 8})


ZAMBA2 = {
    "model_type": "zamba2", "hidden_size": 2560, "num_attention_heads": 32, "vocab_size": 10, "num_hidden_layers": 4,
    "layers_block_type": ["linear_attention", "hybrid", "hybrid", "hybrid"], "num_mem_blocks": 2, "tie_word_embeddings": False,
}  # fmt: skip


def test_shared_blocks_that_are_not_tied_are_built_anew() -> None:
    """transformers 5.24 Zamba2ForCausalLM on the meta device: each block with the adapters of all uses of its kind."""
    assert read_config(ZAMBA2).parameters == 704_478_816
    assert read_config({**ZAMBA2, "tie_word_embeddings": True}).parameters == 528_153_696
    with pytest.raises(InputError, match="hybrid_layer_ids"):
        read_config({**ZAMBA2, "hybrid_layer_ids": [1, 2]})


def test_an_unknown_class_is_a_warning() -> None:
    found = read_config({**LLAMA3, "architectures": ["LlamaForSomethingElse"]})
    assert "LlamaForSomethingElse" in found.warnings[0]


@given(st.from_regex(r"[a-z]{3,9}_(size|layers|experts|heads|rank|dim)", fullmatch=True), st.integers(2, 10**6))
def test_a_size_that_no_reader_asked_for_is_told(key: str, value: int) -> None:
    assume(key not in LLAMA3 and key != "num_layers")  # another spelling of num_hidden_layers
    values = {**LLAMA3, key: value}
    assert any(key in warning for warning in read_config(values).warnings)
    with pytest.raises(InputError, match=key):
        read_config({**values, "model_type": "llama9"})


@pytest.mark.parametrize(
    "more",
    [
        {"num_experts": 8}, {"kv_lora_rank": 512}, {"ssm_cfg": {}}, {"vision_config": {}}, {"layer_types": ["a"] * 32},
        {"use_qk_norm": True}, {"no_bias": False}, {"cross_attention_layers": [3]}, {"hc_mult": 4}, {"mask_token_id": 4},
        {"layer_norm_eps": 1e-5}, {"hidden_act": "relu2"}, {"lambda_std_dev": 0.1}, {"norm_type": "layernorm"},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_llama_does_not_have_is_no_llama(more: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(more))):
        read_config({**LLAMA3, **more, "model_type": "llama9"})


def test_what_changes_no_count_does_not_keep_a_llama_from_being_one() -> None:
    plain = {"use_cache": True, "pad_token_id": 0, "rope_theta": 1e6, "initializer_range": 0.02, "sliding_window": None}
    found = read_config({**LLAMA3, **plain, "model_type": "llama9", "architectures": ["Llama9ForCausalLM"]})
    assert found.guessed
    assert found.parameters == 8_030_261_248


@pytest.mark.parametrize("option", ["--require-fit", "--require-sure-fit"])
@pytest.mark.parametrize("command", ["train", "infer"])
def test_a_guess_passes_no_gate(tmp_path: Path, command: str, option: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA3, "model_type": "llama9", "num_hidden_layers": 1}))
    result = CliRunner().invoke(cli, [command, str(tmp_path), "--gpu", "h200", option, "--get", "gpu.fits"])
    assert (result.exit_code, result.stdout) == (1, "true\n")
    assert "not answered for a guess" in result.stderr
    assert "read as a llama" in result.stderr


def test_a_guess_passes_no_check(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA3, "model_type": "llama9", "num_hidden_layers": 1}))
    file = tmp_path / "memcalc.toml"
    file.write_text('model = "config.json"\ngpu = "h200"\n[serving]\ncontext = 8\n[limits]\ndevice_memory = "141GB"\n')
    result = CliRunner().invoke(cli, ["check", str(file)])
    assert result.exit_code == 1
    said = " ".join(result.stdout.split())
    assert "NOT ANSWERED" in said
    assert "read as a llama" in said


def caches(values: dict[str, Any]) -> list[tuple[int, list[int | None]]]:
    """How many layers follow each other, and the windows of what each keeps of its tokens."""
    found = read_config(values).parts[0].stacks[0]
    return [(n, [cache.window for _, block in found.layers[k].blocks for cache in block.cache()]) for k, n in found.runs]


SMALL = {
    "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32,
    "intermediate_size": 64, "moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4,
    "vocab_size": 100, "sliding_window": 64,
}  # fmt: skip


def test_caches_are_those_that_transformers_makes() -> None:
    """transformers 5.24, cache_utils.get_layer_types_and_kwargs of each config."""
    assert caches({**SMALL, "model_type": "minimax"}) == [(1, [None]), (1, []), (1, [None]), (1, [])]  # masked, but kept
    assert caches({**SMALL, "model_type": "mixtral"}) == [(4, [64])]
    assert caches({**SMALL, "model_type": "qwen3_moe"}) == [(4, [None])]
    assert caches({**SMALL, "model_type": "qwen3_moe", "use_sliding_window": True}) == [(4, [64])]
    assert caches({"model_type": "qwen3_vl_moe", "text_config": SMALL}) == [(4, [64])]
    assert caches({"model_type": "qwen3_vl_moe", "text_config": SMALL | {"sliding_window": None}}) == [(4, [None])]


def test_text_leaves_nothing_in_the_cache_of_layers_that_read_images() -> None:
    """Llama 3.2 11B Vision: 32 layers of its own × 2 × 8 heads × 128 × 2 bytes a token; 8 more read images."""
    text = {"cross_attention_layers": [1], "num_hidden_layers": 3}
    assert caches({"model_type": "mllama", "text_config": text}) == [(1, [None]), (1, []), (1, [None])]
