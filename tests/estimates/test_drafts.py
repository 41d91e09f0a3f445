"""Heads that guess tokens: what they hold beside the model, by method, engine and release."""

import json
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.draft_heads import draft_head
from memcalc.errors import InputError, MemcalcError
from memcalc.readers.drafts import head_method, read_head
from memcalc.readers.models import read_model
from memcalc.sizing.serving import SizedServing, size_serving
from memcalc.specs.spec import SpecError

LLAMA = read_model("llama-3.1-8b").architecture
QWEN = read_model("qwen3-8b").architecture
assert LLAMA
assert QWEN
H, FF, V, KV = 4096, 14336, 128256, 1024
LAYER = 2 * H * H + 2 * H * KV + 3 * H * FF + 2 * H  # attention and MLP of Llama 3.1 8B with their norms

# method → parameters of a head for Llama 3.1 8B. EAGLE: fc [h, 2h] and a layer (Li et al. 2024, section 4.1). EAGLE 3: fc
# [h, 3h], queries, keys and values of 2h, a norm more, a head of 32,000: 0.85 GB in 16 bits as yuhuili/EAGLE3-LLaMA3.1-8B is.
# Medusa: five residual blocks with a bias and five heads (Cai et al. 2024, section 2.1.1).
HEADS = (
    ("eagle", 2 * H * H + LAYER),
    ("eagle3", 3 * H * H + H + H * (H + 2 * KV) + LAYER + H + 32_000 * H),
    ("dflash", 5 * H * H + 2 * H + 5 * LAYER),
    ("medusa", 5 * (H * H + H + V * H)),
)


@pytest.mark.parametrize(("method", "parameters"), HEADS)
def test_what_heads_are_made_of(method: str, parameters: int) -> None:
    assert LLAMA
    assert draft_head(method, LLAMA).parameters == parameters


def sized(**settings: Any) -> SizedServing:
    return size_serving("llama-3.1-8b", "h100", **{"context": 8192} | settings)


# method, engine → layers of keys and values beside the model's 32
CACHED = (("eagle", 1), ("eagle3", 1), ("dflash", 5), ("ngram", 0), ("suffix", 0))


@pytest.mark.parametrize(("method", "layers"), CACHED)
def test_heads_have_a_cache_of_their_own(method: str, layers: int) -> None:
    alone, beside = sized(engine="vllm"), sized(engine="vllm", draft=method)
    assert beside.kv_cache_per_token - alone.kv_cache_per_token == layers * 2 * KV * 2
    assert (beside.weights > alone.weights) == (method not in ("ngram", "suffix"))
    assert beside.run.draft_method == method


def test_heads_stay_in_16_bits_beside_quantised_weights() -> None:
    alone, beside = (sized(engine="vllm", weights="fp8", draft=draft) for draft in (None, "eagle3"))
    assert beside.weights - alone.weights == 2 * dict(HEADS)["eagle3"]  # the rotary table is the model's own


# engine → what it refuses, what it takes
REFUSED = (
    ("vllm", "medusa"), ("vllm@0.19", "dflash"), ("sglang", "medusa"), ("sglang", "suffix"), ("sglang@0.5.9", "dflash"),
    ("tensorrt-llm", "eagle"), ("tensorrt-llm", "medusa"), ("llama.cpp", "eagle3"), ("transformers", "eagle"),
)  # fmt: skip
TAKEN = (("vllm@0.25", "medusa"), ("vllm", "dflash"), ("sglang", "dflash"), ("sglang", "eagle2"), ("tensorrt-llm", "eagle3"),
         ("llama.cpp", "ngram"), ("transformers", "ngram"), (None, "medusa"))  # fmt: skip


@pytest.mark.parametrize(("engine", "method"), REFUSED)
def test_methods_that_an_engine_does_not_have(engine: str, method: str) -> None:
    with pytest.raises(SpecError, match=f"{method} is of "):
        sized(engine=engine, draft=method)


@pytest.mark.parametrize(("engine", "method"), TAKEN)
def test_methods_that_it_has(engine: str | None, method: str) -> None:
    assert sized(engine=engine, draft=method).run.draft_tokens


def test_sglang_leaves_room_for_heads_until_it_counts_them() -> None:
    """server_args.py of 0.5.9: 2 GiB for a head, 6 for a draft model; since 0.5.14 loaded weights are counted."""
    memory = 81559
    for draft, gib in (("eagle3", 2), ("ngram", 0), ("qwen3-0.6b", 6)):
        alone, beside = (sized(engine="sglang@0.5.9", draft=one).share(85 * 10**9) for one in (None, draft))
        assert alone - beside == pytest.approx(gib * 1024 / memory, abs=0.001)
    new = [sized(engine="sglang", draft=one) for one in (None, "eagle3")]
    assert new[0].share(85 * 10**9) == new[1].share(85 * 10**9)
    assert any(entry.name == "draft: CUDA graphs" for entry in new[1].lines)


EAGLE3 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": H, "intermediate_size": FF,
    "num_attention_heads": 32, "num_key_value_heads": 8, "num_hidden_layers": 1, "vocab_size": V, "draft_vocab_size": 32000,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip
# config → method that it says
SAID = (
    (EAGLE3, "eagle3"), ({"architectures": ["Eagle3LlamaForCausalLM"]}, "eagle3"), ({"model_type": "medusa"}, "medusa"),
    ({"medusa_num_heads": 4}, "medusa"), ({"architectures": ["DFlashDraftModel"]}, "dflash"), ({"model_type": "llama"}, ""),
    ({"architectures": ["EagleLlamaForCausalLM"]}, "eagle"),
)  # fmt: skip


@pytest.mark.parametrize(("config", "method"), SAID)
def test_what_a_config_says_that_it_is(config: dict[str, Any], method: str) -> None:
    assert head_method(config) == method


def test_a_heads_own_config(tmp_path: Path) -> None:
    """The published head of Llama 3.1 8B, read from its config: as by the method's name."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(EAGLE3))
    named, read = (sized(engine="vllm", draft=draft) for draft in ("eagle3", str(path)))
    assert named.weights == read.weights
    assert read.run.draft_method == "eagle3"
    wide = EAGLE3 | {"intermediate_size": 2 * FF, "draft_vocab_size": 64000}
    path.write_text(json.dumps(wide))
    assert sized(engine="vllm", draft=str(path)).weights - read.weights == 2 * (3 * H * FF + 32000 * H)
    plain = {key: value for key, value in EAGLE3.items() if key != "draft_vocab_size"}
    path.write_text(json.dumps(plain))
    assert sized(engine="vllm", draft=str(path)).run.draft_method == "model"
    assert sized(engine="vllm", draft=str(path), draft_method="eagle").weights == sized(engine="vllm", draft="eagle").weights


def test_a_narrower_head_has_an_embedding_of_its_own() -> None:
    assert QWEN
    found = read_head(EAGLE3 | {"hidden_size": 2048, "num_attention_heads": 16, "head_dim": 128}, "eagle3", QWEN).architecture
    assert found
    assert found.by_role()["embedding"] == QWEN.vocabulary * 2048
    assert found.by_role()["projector"] == 3 * QWEN.hidden * 2048


@pytest.mark.parametrize("value", [0, -1, "many", 2**40, True, 1.5])
def test_hostile_counts(value: Any) -> None:
    assert LLAMA
    with pytest.raises(InputError, match="draft_vocab_size"):
        read_head(EAGLE3 | {"draft_vocab_size": value}, "eagle3", LLAMA)


# settings → what is said
WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"draft_method": "model"}, "needs its name"), ({"draft": "eagle3", "draft_method": "medusa"}, "give one"),
    ({"draft": "qwen3-0.6b", "draft_method": "eagle3"}, "config"), ({"draft": "eagel3"}, "unknown model"),
    ({"draft_method": "eagel3"}, "eagle3"),
)  # fmt: skip


@pytest.mark.parametrize(("settings", "said"), WRONG)
def test_what_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(MemcalcError, match=said):
        sized(engine="vllm", **settings)


def test_mixtures_name_their_heads_config() -> None:
    with pytest.raises(MemcalcError, match=r"config\.json"):
        size_serving("qwen3-30b-a3b", "h100", engine="vllm", draft="eagle3")


def test_guesses_take_passes_of_their_own() -> None:
    """Heads that use the model's own head read it for each guess; DFlash and Medusa make all guesses in one pass."""

    def seconds(**settings: Any) -> float:
        speed = sized(engine="vllm@0.25", acceptance=0.0, **settings).speed
        assert speed
        assert speed.timed
        return speed.timed.tpot

    alone = seconds(draft="ngram", draft_tokens=1)
    eagle, eagle3 = (seconds(draft=name, draft_tokens=8) - alone for name in ("eagle", "eagle3"))
    assert eagle > eagle3 > 0  # 128,256 tokens are predicted from, not 32,000
    five, ten = (seconds(draft="medusa", draft_tokens=n) for n in (5, 10))
    assert ten - five < 0.2 * (five - alone)
