"""Engines that people run at home: their own defaults, and what they add to llama.cpp's accounting."""

from typing import Any

import pytest

from memcalc import size_serving
from memcalc.dtypes import number_format
from memcalc.errors import Unsupported
from memcalc.estimates.serving.estimate import estimate
from memcalc.formulas.serving_engines import RELEASES
from memcalc.readers.hf import read_config
from memcalc.specs.quantization import Mixture, stored_as
from memcalc.specs.serving import Serving
from memcalc.specs.spec import SpecError
from memcalc.specs.unsloth import PUBLISHED

MIB, GIB = 2**20, 2**30
QWEN = {"model_type": "qwen2", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 1024,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "max_position_embeddings": 4096, "architectures": ["Qwen2ForCausalLM"]}  # fmt: skip


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


# Engine, model, weights where nobody says, and why
CATALOGUES = (
    ("ollama", "llama-3.1-8b", "Q4_K_M", "ollama.com/library/llama3.1: 8b is 8b-instruct-q4_K_M, 4.9 GB"),
    ("ollama@0.15.5", "llama-3.1-8b", "Q4_K_M", "the library is that of all releases"),
    ("ollama", "deepseek-v3", "Q4_K_M", "ollama.com/library/deepseek-v3: 671b, 404 GB; no GGUF type is fp8"),
    ("ollama", "gpt-oss-20b", "checkpoint", "ollama.com/library/gpt-oss: MXFP4"),
    ("ollama", "qwen3-embedding-8b", "Q4_K_M", "ollama.com/library/qwen3-embedding: 8b, 4.7 GB"),
    ("ollama", "bge-m3", "bf16", "ollama.com/library/bge-m3: F16"),
    ("lmstudio", "qwen3-8b", "Q4_K_M", "lms, src/subcommands/get.ts"),
    ("llama.cpp", "qwen3-8b", "bf16", "loads the file that it is given"),
)


@pytest.mark.parametrize(("engine", "model", "weights", "source"), CATALOGUES)
def test_weights_of_a_catalogue(engine: str, model: str, weights: str, source: str) -> None:
    found = size_serving(model, engine=engine, context=2048)
    assert found.run.weights == weights, source
    assert any("weights are not given" in text for text in found.doubts.assumptions) == (weights == "Q4_K_M")
    for settings in ({"weights": "Q8_0"}, {"precision": "bf16"}):
        given = size_serving(model, engine=engine, context=2048, **settings)
        assert given.run.weights == next(iter(settings.values()))
        assert not any("weights are not given" in text for text in given.doubts.assumptions)


def test_the_default_tag_is_as_large_as_published() -> None:
    """ollama.com/library: sizes of llama3.1:8b and deepseek-v3:671b on disk, in GB."""
    for model, published in (("llama-3.1-8b", 4.9e9), ("deepseek-v3", 404e9)):
        found = size_serving(model, engine="ollama", context=2048)
        assert sum(entry.bytes for entry in found.lines if entry.component == "weights") == pytest.approx(published, rel=0.01)


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


# --- mlx-lm -------------------------------------------------------------------------------------------------------------

# Bytes of published files (model.safetensors of mlx-community on the Hugging Face hub), of text models
MLX_FILES = (("llama-3.2-1b", "mlx-4bit", 695_283_921), ("llama-3.1-8b", "mlx-4bit", 4_517_000_000),
             ("llama-3.1-8b", "mlx-8bit", 8_532_000_000))  # fmt: skip


@pytest.mark.parametrize(("model", "weights", "published"), MLX_FILES)
def test_mlx_files(model: str, weights: str, published: int) -> None:
    assert size_serving(model, engine="mlx", weights=weights).weights == pytest.approx(published, rel=1e-3)


def test_mlx_words() -> None:
    """4-bit codes with a 16-bit scale and bias for 64 of them; the same under every spelling."""
    assert number_format("mlx-4bit").bits_per_value == 4.5
    assert number_format("mlx-8bit-g32").bits_per_value == 9
    assert stored_as("mlx-4-bit") == stored_as("mlx-int4-g64") != stored_as("mlx-4bit-g32")


def growth(model: str, **settings: Any) -> float:
    """Bytes that a token of context more takes, far from the smallest contexts."""
    near, far = (size_serving(model, "m4-max", engine="mlx", weights="mlx-4bit", context=context, **settings)
                 for context in (2**16, 2**17))  # fmt: skip
    return (far.peak - near.peak) / 2**16


def test_mlx_scores_of_wide_heads() -> None:
    """About 86 KB of peak a token of context were reported of heads of 256 (16 heads, 20 KB of cache a token, chunks of 2,048
    tokens): no kernel fuses a prompt's attention there, so a chunk's scores are in memory."""
    cache = 10 * 2 * 2 * 256 * 2
    found = growth("qwen3.5-35b-a3b")
    assert found == pytest.approx(86_000, rel=0.03)
    assert found - cache == 2048 * (16 * 2 + 1)
    assert growth("qwen3.5-35b-a3b", max_batched_tokens=512) - cache == 512 * (16 * 2 + 1)


def test_mlx_fused_heads_grow_by_their_cache() -> None:
    """Heads of 128 have a kernel: the cache alone, and one layer's keys or values while they grow."""
    per_token = 36 * 2 * 8 * 128 * 2
    assert per_token <= growth("qwen3-8b") <= per_token + 8 * 128 * 2


def test_mlx_quantised_cache_has_scores() -> None:
    """mlx-lm models/base.py, quantized_scaled_dot_product_attention: no kernel for it; windows are not quantised at all."""
    assert growth("qwen3-8b", kv_dtype="mlx-8bit") == pytest.approx(36 * 2 * 8 * 128 * 8.5 / 8 + 2048 * (32 * 2 + 1), rel=1e-3)
    with pytest.raises(Unsupported, match="sliding window"):
        size_serving("gemma-3-4b", engine="mlx", kv_dtype="mlx-8bit", context=4096)


def test_mlx_windows_hold_a_chunk_more() -> None:
    """RotatingKVCache: the window and a chunk of the prompt, less one token."""
    long = size_serving("gemma-3-4b", "m4", engine="mlx", context=32768)
    kept = {entry.name: entry.inputs["tokens"] for entry in long.lines if entry.component == "kv_cache"}
    assert sorted(kept.values()) == [1024 + 2048, 32768]


def test_mlx_is_apples() -> None:
    with pytest.raises(SpecError, match="Apple alone, not on NVIDIA H100"):
        size_serving("qwen3-8b", "h100", engine="mlx")


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_mlx_checkpoints(key: str) -> None:
    """A config of mlx-lm names no method: group size and bits, and other settings by path."""
    config = dict(QWEN, **{key: {"group_size": 64, "bits": 4, "lm_head": {"group_size": 64, "bits": 8},
                                 "model.layers.1.mlp.down_proj": False}})  # fmt: skip
    read = read_config(config, "config.json")
    assert read.quantization.method == "mlx"
    lines = {entry.name: entry.bytes for entry in estimate(read, Serving(engine="mlx", weights="checkpoint")).lines}
    assert lines["embedding, mlx-4bit"] == 1024 * 256 * 9 // 16
    assert lines["head, mlx-8bit"] == 1024 * 256 * 17 // 16
    assert lines["mlp, bf16"] == 512 * 256 * 2


# --- ExLlamaV3 ----------------------------------------------------------------------------------------------------------


def test_exl3_weights() -> None:
    """Trellis codes, a 16-bit scale for each input and output; a head of 6 bits, of a tied table too; the table on the host."""
    found = size_serving("llama-3.2-1b", engine="exllamav3", weights="exl3-4.25bpw")
    sizes = {(entry.place, entry.name): entry.bytes for entry in found.lines if entry.component == "weights"}
    table = 128256 * 2048
    assert sizes["host", "embedding, bf16"] == found.host == table * 2
    assert sizes["gpu", "head, exl3-6bpw"] == pytest.approx(table * 6 / 8, rel=1e-5)
    assert sizes["gpu", "mlp, exl3-4.25bpw"] == pytest.approx(16 * 3 * 2048 * 8192 * 4.25 / 8, rel=1e-4)
    assert sizes["gpu", "mlp, exl3-4.25bpw, scales"] == 16 * 3 * (2048 + 8192) * 2


def test_exl3_cache_and_windows() -> None:
    """Pages of 256 tokens; a 16-bit scale for 32 values; rings of windows for 16 sequences from the start."""
    plain, narrow = (size_serving("llama-3.2-1b", engine="exllamav3", context=1000, kv_dtype=word).kv_cache
                     for word in ("fp16", "int6-g32"))  # fmt: skip
    assert plain == 1024 * 16 * 2 * 8 * 64 * 2
    assert narrow == plain * 6.5 / 16
    found = size_serving("gpt-oss-20b", engine="exllamav3", weights="exl3-4bpw", context=4096)
    kept = {entry.name: entry.inputs["tokens"] for entry in found.lines if entry.component == "kv_cache"}
    assert sorted(kept.values()) == [4096, 16 * (128 // 256 + 1 + 2) * 256]
    fewer = size_serving("gpt-oss-20b", engine="exllamav3", weights="exl3-4bpw", context=4096, max_sequences=1)
    assert fewer.kv_cache < found.kv_cache


def test_exl3_makes_a_matrix_again() -> None:
    found = size_serving("llama-3.1-70b", engine="exllamav3", weights="exl3-4bpw", context=4096)
    (matrix,) = [entry.bytes for entry in found.lines if entry.name == "the largest matrix in fp16"]
    assert matrix == 8192 * 28672 * 2
    plain = size_serving("llama-3.1-70b", engine="exllamav3", context=4096)
    assert not [entry for entry in plain.lines if entry.name == "the largest matrix in fp16"]


def test_exl3_checkpoints() -> None:
    config = dict(QWEN, tie_word_embeddings=True, quantization_config={"quant_method": "exl3", "bits": 3.5, "head_bits": 6})
    read = read_config(config, "config.json")
    lines = {entry.name: entry.bytes for entry in estimate(read, Serving(engine="exllamav3", weights="checkpoint")).lines}
    assert lines["head, exl3-6bpw"] == -(-1024 * 256 // 800) * 600
    assert lines["mlp, exl3-3.5bpw"] == 2 * 3 * -(-512 * 256 // 800) * 350
    broken = read_config(dict(QWEN, quantization_config={"quant_method": "exl3", "bits": "four"}), "config.json")
    assert "bits must be a number" in broken.quantization.problem


# --- KTransformers ------------------------------------------------------------------------------------------------------


def test_ktransformers() -> None:
    """DeepSeek V3.2 on an L20 with one expert of each layer on the GPU, 40,000 tokens: about 27 GB there and 350 GB on the host
    with 4-bit experts (doc/en/kt-kernel/deepseek-v3.2-sglang-tutorial.md)."""
    found = size_serving("deepseek-v3.2", "l20", engine="ktransformers", weights="fp8-block128", host_experts="int4-channel",
                         gpu_experts=1, context=40000, max_batched_tokens=4096)  # fmt: skip
    assert found.needed.bytes == pytest.approx(27 * GIB, rel=0.1)
    assert found.host == pytest.approx(350e9, rel=0.1)


def test_ktransformers_divides_experts() -> None:
    """What leaves the GPU stands in host memory; tensor parallelism divides the GPUs' part alone."""

    def sizes(**settings: Any) -> tuple[int, int]:
        found = size_serving("qwen3-30b-a3b", "rtx-4090", engine="ktransformers", context=4096, **settings)
        return sum(entry.bytes for entry in found.lines if entry.group == "experts" and entry.place == "gpu"), found.host

    whole = sizes()[1]
    assert sizes() == (0, whole)
    assert whole == 48 * 128 * 3 * 2048 * 768 * 2
    assert sizes(gpu_experts=32) == (whole // 4, whole * 3 // 4)
    assert sizes(gpu_experts=32, tp=2) == (whole // 8, whole * 3 // 4)
    assert sizes(gpu_experts=128) == (whole, 0)
    for wrong, message in ((129, "129 of 128"), (-1, "gpu_experts")):
        with pytest.raises(SpecError, match=message):
            sizes(gpu_experts=wrong)
    with pytest.raises(Unsupported, match="has none"):
        size_serving("qwen3-8b", "rtx-4090", engine="ktransformers")
    with pytest.raises(SpecError, match="give tp"):
        size_serving("qwen3-30b-a3b", "rtx-4090", engine="ktransformers", pp=2)
