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
        (
            "unsloth/Llama-3.2-1B-bnb-4bit",
            r"names a stored format \(bnb-4bit\): llama-3.2-1b .* give llama-3.2-1b --weights nf4-dq",
        ),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "give qwen2.5-7b --weights awq"),
        ("hf.co/bartowski/Qwen3-8B-GGUF:Q4_K_M", "give qwen3-8b --weights Q4_K_M"),
        ("somebody/unheard-of-3b-gptq", "give the model, and the format as --weights gptq"),
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


# What people type for models that many run: hub ids of base models, fine-tunes and embedding models, ollama tags, by hand.
TYPED = """
meta-llama/Meta-Llama-3-8B  meta-llama/Llama-3.2-3B-Instruct  meta-llama/Llama-3.3-70B-Instruct
meta-llama/Llama-2-7b-chat-hf  meta-llama/Llama-3.2-11B-Vision-Instruct  meta-llama/Llama-4-Scout-17B-16E-Instruct
meta-llama/Llama-Guard-3-8B  Qwen/Qwen3-4B-Instruct-2507  Qwen/Qwen3-30B-A3B-Instruct-2507
Qwen/Qwen3-Coder-30B-A3B-Instruct  Qwen/QwQ-32B  Qwen/Qwen3-Next-80B-A3B-Instruct  Qwen/Qwen2.5-Coder-7B-Instruct
Qwen/Qwen2.5-VL-32B-Instruct  Qwen/Qwen3-VL-8B-Thinking  Qwen/Qwen3-Embedding-8B  Qwen/Qwen3-Reranker-0.6B
Qwen/Qwen2.5-Math-7B-Instruct  Qwen/Qwen3-32B-FP8  mistralai/Mistral-7B-Instruct-v0.3
mistralai/Mistral-Small-24B-Instruct-2501  mistralai/Mistral-Small-3.2-24B-Instruct-2506
mistralai/Mistral-Nemo-Instruct-2407  mistralai/Mixtral-8x7B-Instruct-v0.1  mistralai/Magistral-Small-2506
mistralai/Codestral-22B-v0.1  mistralai/Ministral-8B-Instruct-2410  google/gemma-3n-E4B-it  google/gemma-2-9b-it
google/gemma-4-31B-it  google/embeddinggemma-300m  microsoft/Phi-3-mini-4k-instruct  microsoft/Phi-3.5-mini-instruct
microsoft/Phi-4-mini-instruct  microsoft/Phi-4-reasoning  deepseek-ai/DeepSeek-R1-0528  deepseek-ai/DeepSeek-V3.1-Terminus
deepseek-ai/DeepSeek-R1-Distill-Qwen-7B  deepseek-ai/DeepSeek-R1-0528-Qwen3-8B  deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct
moonshotai/Kimi-K2-Instruct-0905  moonshotai/Kimi-K2-Thinking  zai-org/GLM-4.5-Air  zai-org/GLM-4.7  MiniMaxAI/MiniMax-M2
ibm-granite/granite-3.3-8b-instruct  nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16  nvidia/Llama-3.1-Nemotron-Nano-8B-v1
HuggingFaceTB/SmolLM3-3B  allenai/Olmo-3.1-32B-Instruct  tiiuae/Falcon3-7B-Instruct  CohereForAI/c4ai-command-r-v01
NousResearch/Hermes-3-Llama-3.1-8B  NousResearch/Hermes-4-70B  TinyLlama/TinyLlama-1.1B-Chat-v1.0  lmsys/vicuna-7b-v1.5
BAAI/bge-m3  BAAI/bge-reranker-v2-m3  sentence-transformers/all-MiniLM-L6-v2  intfloat/multilingual-e5-large
nomic-ai/nomic-embed-text-v1.5  google/flan-t5-xl  microsoft/deberta-v3-base  openai/whisper-large-v3  llama3.2:3b
llama3.2-vision:11b  gemma2:9b  qwen2.5-coder:32b  deepseek-r1:8b  deepseek-r1:671b  mistral:7b  phi4:14b  phi4-mini:3.8b
codellama:13b  nomic-embed-text:latest  qwen3-coder:30b  gptoss-20b  GLM-4.5-air  bert-large-uncased
""".split()  # noqa: SIM905


@pytest.mark.parametrize("text", TYPED)
def test_a_model_that_many_run_has_a_preset(text: str) -> None:
    assert read_model(text).origin == "preset"


@pytest.mark.parametrize("text", ["command r+", "LLAMA 3.3 70B", "Qwen3 235B A22B", "Llama_3.1_70B", "DeepSeek V3", "kimi k2"])
def test_a_model_in_words(text: str) -> None:
    assert read_model(text).origin == "preset"


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
