"""Engines that people run at home: their own defaults, and what they add to llama.cpp's accounting."""

from typing import Any

import pytest

from memcalc import size_serving
from memcalc.formulas.serving_engines import RELEASES
from memcalc.specs.quantization import Mixture, stored_as
from memcalc.specs.spec import SpecError
from memcalc.specs.unsloth import PUBLISHED

MIB, GIB = 2**20, 2**30


# --- ollama: server/routes.go (Serve), server/sched.go (automaticGenerationBatch) of 0.33 ------------------------------

# GPU and how many, model, tokens that it takes where nobody says: 4k below 23 GiB, 32k below 47, 256k from there on, at most
# the model's
CONTEXTS = (
    ("rtx-3060-12", 1, "llama-3.1-8b", 4096), ("rtx-3060-12", 2, "llama-3.1-8b", 32768), ("rtx-4090", 1, "llama-3.1-8b", 32768),
    ("rtx-4090", 1, "qwen3-8b", 32768), ("h100", 1, "qwen3-8b", 40960), ("rtx-4090", 2, "llama-3.1-8b", 131072),
    ("rtx-5090", 1, "llama-3.1-8b", 32768),
)  # fmt: skip


@pytest.mark.parametrize(("gpu", "count", "model", "tokens"), CONTEXTS)
def test_ollama_contexts_by_memory(gpu: str, count: int, model: str, tokens: int) -> None:
    found = size_serving(model, gpu, engine="ollama", weights="Q4_K_M", pp=count)
    assert found.run.context == tokens
    assert f"{tokens:,} tokens" in "".join(found.doubts.assumptions)


def test_ollama_gives_each_request_a_context() -> None:
    """`-c` is num_ctx × OLLAMA_NUM_PARALLEL, `-np` the latter: cells as logged in ollama issue 16480 (0.30.2, 1,024 tokens)."""
    found = size_serving("gpt-oss-120b", "h100", engine="ollama", context=131072, batch=2, max_batched_tokens=1024)
    assert found.kv_cache == (9216 + 90) * MIB


@pytest.mark.parametrize(
    ("gpu", "weights", "context", "tokens"),
    [
        ("h100", "Q4_K_M", 4096, 512),  # a short context
        ("h100", "Q4_K_M", 8192, 1024),
        ("h100", "Q4_K_M", 40000, 2048),
        ("rtx-3060-12", "Q8_0", 8192, 512),  # predicted 9.3 GiB of 11.6: above 75 %
        ("rtx-4090", "Q8_0", 32768, 1024),
    ],
)
def test_ollama_steps_by_what_is_free(gpu: str, weights: str, context: int, tokens: int) -> None:
    found = size_serving("qwen3-8b", gpu, engine="ollama", weights=weights, context=context)
    assert found.run.max_batched_tokens == tokens
    assert size_serving("qwen3-8b", gpu, engine="ollama", weights=weights, context=context,
                        max_batched_tokens=512).run.max_batched_tokens == 512  # fmt: skip


def test_what_is_free_is_left_free() -> None:
    """llama-server's --fit-target: 1 GiB of a GPU, else layers go to host memory."""

    def warned(**settings: Any) -> bool:
        found = size_serving("qwen3-8b", "rtx-3060-12", engine="llama.cpp", weights="Q8_0", **settings)
        assert found.fits
        return any("--fit off" in text for text in found.doubts.warnings)

    most = size_serving("qwen3-8b", "rtx-3060-12", engine="llama.cpp", weights="Q8_0", context="max").run.context
    assert warned(context=most)
    assert not warned(context=most, gpu_layers=37)
    assert not warned(context=4096)
    assert not warned(context="max", engine_version="2025")


# --- LM Studio ----------------------------------------------------------------------------------------------------------


def test_lm_studio() -> None:
    """4,096 tokens for four requests, lmstudio.ai/docs; sliding layers keep the whole context, as its log says (issue 900 of
    its bug tracker: 131,072 cells in all 24 layers of gpt-oss 20B, 3,072 MiB each kind)."""
    found = size_serving("gpt-oss-20b", "rtx-4090", engine="lmstudio")
    assert (found.run.context, found.run.slots, found.run.unified) == (4096, 4, True)
    logged = size_serving("gpt-oss-20b", "rtx-4090", engine="lmstudio", context=131072, slots=1)
    assert logged.kv_cache == 2 * 3072 * MIB
    assert size_serving("gpt-oss-20b", "rtx-4090", engine="lmstudio", batch=2).run.slots is None


@pytest.mark.parametrize("name", [row.name for row in RELEASES.values() if row.like == "llama.cpp"])
def test_kin_of_llama_cpp_load_gguf(name: str) -> None:
    """The same weights and formats, suggestions and range as llama.cpp's own, where nothing else differs."""
    settings: dict[str, Any] = {"weights": "Q4_K_M", "context": 4096, "slots": 1, "max_batched_tokens": 512}
    own, kin = (size_serving("qwen3-8b", "rtx-4090", engine=word, **settings) for word in ("llama.cpp", name))
    assert (own.weights, own.cache, own.activations) == (kin.weights, kin.cache, kin.activations)
    assert own.needed == kin.needed
    assert own.speed
    assert kin.speed
    assert own.speed.roofline == kin.speed.roofline


# --- Unsloth's mixtures by name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_unsloth_by_name(name: str) -> None:
    """The bytes are the median's, the range is that of the files, and the sentence says both."""
    stored = stored_as(name)
    assert isinstance(stored, Mixture)
    assert stored_as(name.lower().replace("-", "_")) == stored
    bits = [each for _, each in stored.published]
    assert min(bits) <= stored.bits <= max(bits)
    found = size_serving("glm-4.6", engine="llama.cpp", weights=name, context=4096)
    language = found.model.architecture.parameters
    whole = found.weights + sum(entry.bytes for entry in found.lines if entry.place == "host" and entry.component == "weights")
    assert whole == pytest.approx(language * stored.bits / 8, rel=1e-3)
    assert found.needed.low <= found.needed.bytes - found.weights * (1 - min(bits) / stored.bits) + 1
    assert found.needed.high >= found.needed.bytes + found.weights * (max(bits) / stored.bits - 1) - 1
    assert any(f"{stored.bits:g} bits per parameter" in text for text in found.assumptions)


def test_unsloth_unknown_names_are_refused() -> None:
    with pytest.raises(SpecError, match=r"UD-Q9_K_XL.*did you mean UD-"):
        size_serving("qwen3-8b", weights="UD-Q9_K_XL")


def test_unsloth_mixtures_are_ordered() -> None:
    """More bits in the name are more bits in the file."""
    order = ["UD-IQ1_S", "UD-IQ2_XXS", "UD-Q2_K_XL", "UD-IQ3_XXS", "UD-Q3_K_XL", "UD-IQ4_XS", "UD-Q4_K_XL", "UD-Q5_K_XL",
             "UD-Q6_K_XL", "UD-Q8_K_XL"]  # fmt: skip
    bits = [stored.bits for word in order if isinstance(stored := stored_as(word), Mixture)]
    assert len(bits) == len(order)
    assert bits == sorted(bits)
