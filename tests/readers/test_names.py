"""A model under the names that people use for it."""

import json
import sys
from io import BytesIO, TextIOWrapper

import pytest

from memcalc.errors import InputError
from memcalc.readers.catalogue import find_preset, preset_names
from memcalc.readers.models import read_model


@pytest.mark.parametrize(
    ("text", "preset"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("NousResearch/Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("https://huggingface.co/meta-llama/Llama-3.1-8B", "llama-3.1-8b"),
        ("https://huggingface.co/Qwen/Qwen3-8B/tree/main?x=1", "qwen3-8b"),
        ("hf.co/Qwen/Qwen3-32B", "qwen3-32b"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b"),
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("google/gemma-3-4b-it", "gemma-3-4b"),
        ("microsoft/phi-4", "phi-4"),
        ("llama3.1:8b", "llama-3.1-8b"),
        ("gpt-oss:20b", "gpt-oss-20b"),
        ("qwen3:30b-a3b", "qwen3-30b-a3b"),
        ("gemma3:4b", "gemma-3-4b"),
        ("mixtral:8x7b", "mixtral-8x7b"),
        ("deepseek-r1:32b", "qwen2.5-32b"),
        ("Llama-3.1-8B", "llama-3.1-8b"),
        ("llama 3.1 8b", "llama-3.1-8b"),
        ("Qwen3_8B", "qwen3-8b"),
        ("GPT-2", "gpt2"),
        ("phi4", "phi-4"),
    ],
)
def test_a_name_as_people_write_it(text: str, preset: str) -> None:
    assert read_model(text).name == read_model(preset).name


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("TheBloke/Llama-2-7B-GGUF", "names a stored format"),
        ("llama3.1:8b-instruct-q4_K_M", "names a stored format"),
        ("unsloth/Llama-3.2-1B-bnb-4bit", "names a stored format"),
        ("nobody/no-such-model", "hf://nobody/no-such-model asks the hub"),
        ("deepseek-r1:9b", "did you mean"),
        ("llama-3-18b", "unknown model"),  # not Llama 3.1 8B
        ("nobody/llama-3.1-8b-pruned", "no preset of that name"),
        ("../etc/passwd", "no such file"),
    ],
)
def test_another_model_is_not_taken_for_a_known_one(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_model(text)


@pytest.mark.parametrize("kind", ["models", "gpus"])
def test_every_name_finds_its_own_preset(kind: str) -> None:
    for name in preset_names(kind):
        assert find_preset(kind, name.upper()).endswith(f"/{name}.toml")


def test_a_config_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 96, "vocab_size": 32}  # fmt: skip
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(json.dumps(values).encode())))
    assert read_model("-").architecture
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"{")))
    with pytest.raises(InputError, match="stdin: not JSON"):
        read_model("-")
