"""Weights as stored, against published file sizes and what engines log after loading."""

from collections.abc import Callable
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.errors import Unsupported
from memcalc.estimates.layer_spans import layer_spans
from memcalc.estimates.placement import Stage, all_stages, stages
from memcalc.estimates.stored_weights import stored_weights, weight_assumptions
from memcalc.formulas.formula import expression
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_config_values, read_model
from memcalc.specs.quantization import CHECKPOINT, MIXTURES, stored_as, weight_words

Read = Callable[..., Architecture]
GIB = 2**30


def preset(name: str) -> Architecture:
    found = read_model(name).architecture
    assert found is not None
    return found


def weight_bytes(stage: Stage, model: Architecture, word: str, **settings: Any) -> int:
    return sum(line.bytes for line in stored_weights(stage, model, word, **settings) if line.place == "gpu")


def whole(model: Architecture, word: str, **settings: Any) -> int:
    (stage,) = stages(model, 1, 1, 1, 1)
    return weight_bytes(stage, model, word, **settings)


# --- GGUF -------------------------------------------------------------------------------------------------------------

# Bits for a parameter of Llama 3.1 8B: ggml-org/llama.cpp tools/quantize/README.md, commit 311c2c9
BITS = (
    ("IQ1_S", 2.0042), ("IQ1_M", 2.1460), ("IQ2_XXS", 2.3824), ("IQ2_XS", 2.5882), ("IQ2_S", 2.7403), ("IQ2_M", 2.9294),
    ("IQ3_XXS", 3.2548), ("IQ3_XS", 3.4977), ("IQ3_S", 3.6606), ("IQ3_M", 3.7628), ("IQ4_XS", 4.4597), ("IQ4_NL", 4.6818),
    ("Q2_K_S", 2.9697), ("Q2_K", 3.1593), ("Q3_K_S", 3.6429), ("Q3_K_L", 4.2979), ("Q4_K_S", 4.6672), ("Q4_K_M", 4.8944),
    ("Q5_K_S", 5.5704), ("Q5_K_M", 5.7036), ("Q6_K", 6.5633), ("Q8_0", 8.5008), ("F16", 16.0005),
)  # fmt: skip


@pytest.mark.parametrize(("word", "bits"), BITS)
def test_bits_of_a_gguf_file(word: str, bits: float) -> None:
    model = preset("llama-3.1-8b")
    found = 8 * whole(model, word, engine="llama.cpp") / model.parameters
    assert found == pytest.approx(bits, abs=0.0001), f"{word}: {found:.4f} bits, published {bits}"


# model, file type, GB of the file, where from; files also hold the vocabulary, 2 to 8 MB
FILES = (
    ("llama-3.1-70b", "Q4_0", 37.22 * 1.073741824, "ollama pull request 6279"),
    ("llama-3.1-70b", "Q4_K_M", 42.52, "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF: Q5_K for all values of a 70B"),
    ("llama-3.1-70b", "Q3_K_M", 34.27, "the same"),
    ("llama-3.1-70b", "IQ3_M", 31.94, "the same"),
    ("gemma-3-12b", "Q5_K_M", 7.86 * 1.073741824, "llama.cpp issue 12352: a tied table, 288 q5_K and 49 q6_K"),
)


@pytest.mark.parametrize(("name", "word", "size", "where"), FILES)
def test_size_of_a_gguf_file(name: str, word: str, size: float, where: str) -> None:
    found = whole(preset(name), word) / 1e9
    assert found == pytest.approx(size, rel=0.001), f"{found:.3f} GB, published {size:.2f}: {where}"


# preset, file type, bytes of all tensors as llama-bench prints them, half of the last digit
MIB = 2**20
BENCHED = (
    ("gemma-3-1b", "Q4_K_M", 762.49 * MIB, 0.005 * MIB, "gemma3 1B, 999.89 M parameters: rows of 1152 fall back"),
    ("qwen2.5-0.5b", "Q4_K_M", 373.71 * MIB, 0.005 * MIB, "qwen2 1B, 494.03 M: rows of 896 fall back, tied"),
    ("lfm2-1.2b", "Q4_K_M", 694.76 * MIB, 0.005 * MIB, "lfm2 1.2B: attention in some layers only"),
    ("phi-3-mini", "Q4_K_M", 2.23 * GIB, 0.005 * GIB, "phi3 3B, 3.82 B: fused queries, keys and values"),
    ("phi-4", "Q4_K_M", 8.43 * GIB, 0.005 * GIB, "phi3 14B, 14.66 B"),
    ("gemma-3-4b", "Q4_K_M", 2.31 * GIB, 0.005 * GIB, "gemma3 4B, 3.88 B: without its tower"),
    ("gemma-4-26b-a4b", "Q4_K_M", 15.63 * GIB, 0.005 * GIB, "gemma4 26B.A4B, 25.23 B: experts' rows of 704 fall back"),
    ("gemma-4-31b", "Q4_K_M", 17.39 * GIB, 0.005 * GIB, "gemma4 31B, 30.70 B"),
    ("mixtral-8x7b", "Q4_K_M", 26.49 * GIB, 0.005 * GIB, "llama 8x7B, 46.70 B"),
    ("qwen3-30b-a3b", "Q4_K_M", 17.28 * GIB, 0.005 * GIB, "qwen3moe 30B.A3B, 30.53 B"),
    ("deepseek-v2-lite", "Q4_K_M", 9.65 * GIB, 0.005 * GIB, "deepseek2 16B, 15.71 B: latent attention"),
    ("deepseek-v3", "Q4_K_M", 376.65 * GIB, 0.07 * GIB, "deepseek2 671B, of a conversion that kept kv_b in one"),
    ("llama-4-scout", "Q4_K_M", 60.86 * GIB, 0.005 * GIB, "llama4 17Bx16E (Scout), 107.77 B"),
    ("gpt-oss-20b", "MXFP4_MOE", 11.27 * GIB, 0.005 * GIB, "gpt-oss 20B MXFP4 MoE, 20.91 B"),
    ("gpt-oss-120b", "MXFP4_MOE", 59.02 * GIB, 0.005 * GIB, "gpt-oss 120B MXFP4 MoE, 116.83 B"),
)


@pytest.mark.parametrize(("name", "word", "size", "digit", "model"), BENCHED)
def test_tensors_that_llama_bench_counts(name: str, word: str, size: float, digit: float, model: str) -> None:
    found = whole(preset(name), word)
    assert abs(found - size) <= digit, f"{found / GIB:.4f} GiB, llama-bench prints {size / GIB:.4f}: {model}"


def _tensors(model: Architecture, word: str) -> dict[str, int]:
    (stage,) = stages(model, 1, 1, 1, 1)
    return {line.name: line.bytes for line in stored_weights(stage, model, word)}


def test_rows_that_are_no_whole_blocks_fall_back(architecture: Read) -> None:
    """Qwen 2.5 72B: 29568 = 115.5 × 256, so ffn_down goes from Q4_K to Q5_0 and from Q6_K to Q8_0; the published file has
    47 415 707 136 B, vocabulary included."""
    found = _tensors(preset("qwen2.5-72b"), "Q4_K_M")
    assert {"mlp, q5_0", "mlp, q8_0", "mlp, q4_k"} <= found.keys()
    assert sum(found.values()) / 1e9 == pytest.approx(47.4157, rel=0.0002)


def test_eight_experts_get_more_bits() -> None:
    """Mixtral 8×7B: keys and values in Q8_0, attention output in Q5_K."""
    found = _tensors(preset("mixtral-8x7b"), "Q4_K_M")
    assert {"attention, q8_0", "attention, q5_k", "attention, q4_k"} <= found.keys()


def test_the_token_table_stays_with_the_host() -> None:
    """llama.cpp keeps the input table in host memory; a tied one is copied to the GPU as the head."""
    for name, copied in (("llama-3.1-8b", False), ("gemma-3-12b", True)):
        model = preset(name)
        (stage,) = stages(model, 1, 1, 1, 1)
        lines = stored_weights(stage, model, "Q4_K_M", host_embedding=True)
        host = sum(line.bytes for line in lines if line.place == "host")
        gpu = sum(line.bytes for line in lines if line.place == "gpu")
        assert host == model.vocabulary * model.hidden * (210 / 256 if copied else 144 / 256)
        assert gpu + host - whole(model, "Q4_K_M") == (host if copied else 0)


def test_what_llama_cpp_logs_for_a_tied_model() -> None:
    """Command R 35B in Q4_K_S: 5434.38 + 13989.53 MiB on two GPUs, 1640.62 MiB in host memory (llama.cpp pull request
    6122): the tied table is there twice."""
    model = preset("command-r")
    (stage,) = stages(model, 1, 1, 1, 1)
    lines = stored_weights(stage, model, "Q4_K_S", engine="llama.cpp", host_embedding=True)
    found = {place: sum(line.bytes for line in lines if line.place == place) / 2**20 for place in ("gpu", "host")}
    assert found["gpu"] == pytest.approx(5434.38 + 13989.53, abs=0.02)
    assert found["host"] == pytest.approx(1640.62, abs=0.02)


def test_the_towers_are_a_file_of_their_own() -> None:
    model = preset("gemma-3-12b")
    assert not any("projector" in line.name for line in stored_weights(stages(model, 1, 1, 1, 1)[0], model, "Q4_K_M"))
    assert any("mmproj" in said for said in weight_assumptions(model, "Q4_K_M"))
    assert not any("mmproj" in said for said in weight_assumptions(preset("llama-3.1-8b"), "Q4_K_M"))


@pytest.mark.parametrize("word", ["Q4_K_M", "Q3_K_M", "IQ3_XS", "Q2_K_S"])
def test_pipeline_stages_share_a_file(word: str) -> None:
    """Every layer keeps its own type, wherever it stands."""
    model = preset("llama-3.1-8b")
    for pp in (2, 3, 5, 32):
        parts = [weight_bytes(stage, model, word) for stage in all_stages(model, 1, pp, 1, 1)]
        assert sum(parts) == whole(model, word), f"{pp} stages"


# --- engines' logs ----------------------------------------------------------------------------------------------------

ROTARY = 131072 * 128 * 2  # vLLM's table of cosines and sines, counted with the weights
# preset, tp, word, GiB logged, where from
LOGGED = (
    ("llama-3.1-8b", 1, "bf16", 14.99, "vLLM 0.19, llm-d-planner pull request 205"),
    ("llama-3.1-8b", 1, "fp32", 29.98, "the same; its table is in fp32 too"),
    ("llama-3.1-8b", 1, "fp8", 8.49, "the same, online fp8"),
    ("llama-3.1-8b", 1, "w8a8", 8.49, "the same, RedHatAI quantized.w8a8"),
    ("llama-3.1-8b", 1, "gptq", 5.38, "the same, RedHatAI quantized.w4a16 (gptq_marlin)"),
    ("llama-3.3-70b", 2, "w8a8", 33.88, "the same, RedHatAI quantized.w8a8"),
    ("llama-3.3-70b", 2, "fp8-dynamic", 33.88, "vLLM 0.11, RedHatAI FP8-dynamic"),
    ("llama-3.1-70b", 1, "w8a8", 67.7229, "vLLM pull request 12569"),
)


@pytest.mark.parametrize(("name", "tp", "word", "logged", "where"), LOGGED)
def test_weights_that_vllm_logs(name: str, tp: int, word: str, logged: float, where: str) -> None:
    model = preset(name)
    (stage,) = stages(model, tp, 1, 1, tp)
    table = ROTARY * (2 if word == "fp32" else 1)
    found = (weight_bytes(stage, model, word, engine="vllm") + table) / GIB
    assert found == pytest.approx(logged, rel=0.002), f"{found:.3f} GiB, logged {logged}: {where}"


# word, GiB logged, where from
GPT_OSS = (
    ("mxfp4", 64.38, "vLLM 0.14.1 with Triton kernels, issue 33155: swizzled scales beside the loaded ones"),
    ("checkpoint", 64.38, "the same, from its quantization_config"),
    ("mxfp4-marlin", 65.9651, "vLLM 0.10.1, issue 23278: hidden padded to 3072, intermediate to 2944"),
)


@pytest.mark.parametrize(("word", "logged", "where"), GPT_OSS)
def test_gpt_oss(word: str, logged: float, where: str) -> None:
    found = whole(preset("gpt-oss-120b"), word, engine="vllm") / GIB
    assert found == pytest.approx(logged, rel=0.002), f"{found:.3f} GiB, logged {logged}: {where}"
    assert whole(preset("gpt-oss-120b"), "mxfp4") / 1e9 == pytest.approx(65.25, abs=0.01), "the file"


def test_llama_405b_in_fp8() -> None:
    """vLLM issue 6746: 57.752 GiB on each of 8 GPUs; attention and the first and last MLP stay in bf16, and the first
    release had 16 key-value heads."""
    plain = [f"model.layers.{i}.self_attn.{x}_proj" for i in range(126) for x in "qkvo"]
    plain += [f"model.layers.{i}.mlp.{x}_proj" for i in (0, 125) for x in ("gate", "up", "down")]
    config = {
        **read_config_values("llama-3.1-405b"), "num_key_value_heads": 16,
        "quantization_config": {"quant_method": "fbgemm_fp8", "modules_to_not_convert": plain},
    }  # fmt: skip
    model = read_config(config)
    (stage,) = stages(model, 8, 1, 1, 8)
    assert (weight_bytes(stage, model, "checkpoint") + ROTARY) / GIB == pytest.approx(57.752, abs=0.003)


# --- what schemes leave alone -----------------------------------------------------------------------------------------


def test_who_is_quantised() -> None:
    model = preset("qwen3-vl-8b")
    (stage,) = stages(model, 1, 1, 1, 1)
    fp8 = {line.name: line.bytes for line in stored_weights(stage, model, "fp8")}
    everywhere = {line.name for line in stored_weights(stage, model, "nf4")}
    assert {"embedding, bf16", "head, bf16", "projector, bf16", "norm, bf16"} <= fp8.keys()
    assert "projector, nf4" in everywhere, "bitsandbytes: every nn.Linear but the head"
    assert "head, bf16" in everywhere


def test_experts_alone_where_there_are_any() -> None:
    said = " ".join(weight_assumptions(preset("qwen3-30b-a3b"), "mxfp4"))
    assert said == "only the routed experts are quantised; embeddings, norms, routers and the head stay bf16"
    moe = {line.name for line in stored_weights(*_one("qwen3-30b-a3b"), "mxfp4")}
    dense = {line.name for line in stored_weights(*_one("qwen3-8b"), "mxfp4")}
    assert "experts, mxfp4" in moe
    assert "attention, bf16" in moe
    assert {"attention, mxfp4", "mlp, mxfp4"} <= dense


def _one(name: str) -> tuple[Any, Architecture]:
    model = preset(name)
    return stages(model, 1, 1, 1, 1)[0], model


def test_convolutions_and_decays_stay_plain() -> None:
    stage, model = _one("mamba-130m")
    convolutions = sum(h.elements for h in stage.held if h.path.endswith(("/conv", "/A_log")))
    found = {line.name: line.bytes for line in stored_weights(stage, model, "w8a8")}
    assert found["state-space, bf16"] >= 2 * convolutions


def test_scales_beside_the_values() -> None:
    """Llama 3.1 8B: outputs of a layer 4096 + 2 × 1024 + 4096 in attention; 224 matrices; tiles of 128 × 128."""
    stage, model = _one("llama-3.1-8b")
    by = {
        word: {x.name: x.bytes for x in stored_weights(stage, model, word)} for word in ("fp8", "w8a8", "fp8-block128", "gptq")
    }
    assert by["w8a8"]["attention, w8a8, scales"] == 32 * (4096 + 2048 + 4096) * 4
    assert by["fp8"]["attention, fp8, scales"] + by["fp8"]["mlp, fp8, scales"] == 224 * 4
    assert by["fp8-block128"]["attention, fp8-block128, scales"] == 32 * (2 * 32 * 32 + 2 * 8 * 32) * 4
    assert by["gptq"]["attention, gptq-int4-g128, order"] == 32 * 4 * 4096 * 4


# --- every word on every kind of model --------------------------------------------------------------------------------

KINDS = (
    "llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-20b", "gemma-3n-e2b", "gpt2-xl", "falcon-7b", "qwen3-next-80b-a3b",
    "jamba-v0.1", "nemotron-3-nano-30b-a3b", "t5-small", "qwen3-vl-30b-a3b", "dbrx", "kimi-linear-48b-a3b", "lfm2-1.2b",
)  # fmt: skip


EVERY = ("checkpoint", "int3-g96", "mxfp4-triton", *dict.fromkeys(stored_as(w).name for w in weight_words() if w != CHECKPOINT))


@pytest.mark.parametrize("name", KINDS)
def test_every_word_on_every_kind(name: str) -> None:
    model = preset(name)
    for degrees in ((1, 1, 1, 1), (2, 2, 1, 2)):
        for stage in stages(model, *degrees):
            elements = sum(held.elements for held in stage.held)
            for word in EVERY:
                lines = stored_weights(stage, model, word)
                for line in lines:
                    shown = eval(expression(line.formula), {"ceil_div": lambda a, b: -(-a // b), **line.inputs})
                    assert shown == line.bytes
                total = sum(line.bytes for line in lines)
                assert 0 < total <= 9 * elements, f"{name} in {word}: {total} B for {elements} elements"


@pytest.mark.parametrize("name", KINDS)
def test_spans_cover_every_layer_once(name: str) -> None:
    model = preset(name)
    for pp in (1, 2, 5):
        seen: dict[tuple[str, str], list[int]] = {}
        for stage in all_stages(model, 1, pp, 1, 1):
            for (part, stack, _), spans in layer_spans(model, stage).items():
                seen.setdefault((part, stack), []).extend(n for span in spans for n in range(span.first, span.stop))
        for part in model.parts:
            for stack in part.stacks:
                assert sorted(seen[part.name, stack.path]) == list(range(stack.depth))


def test_cost_does_not_grow_with_depth(config: Callable[..., dict[str, Any]]) -> None:
    """A file type's rules count layers; they do not visit them."""
    for depth in (32, 8000):
        model = read_config(config("meta-llama/Meta-Llama-3.1-8B", num_hidden_layers=depth))
        (stage,) = stages(model, 1, 1, 1, 1)
        lines = {line.name: line.inputs for line in stored_weights(stage, model, "Q4_K_M")}
        more = depth // 8 + (depth - 7 * depth // 8) + (7 * depth // 8 - depth // 8) // 3
        assert lines["attention, q6_k"]["blocks"] == more * 4096 * 1024 // 256, f"{depth} layers"


def test_file_types_grow_with_their_bits() -> None:
    model = preset("llama-3.1-8b")
    for low, high in (("Q2_K_S", "Q2_K"), ("Q3_K_S", "Q3_K_M"), ("Q3_K_M", "Q3_K_L"), ("Q4_K_S", "Q4_K_M"), ("Q4_0", "Q4_1")):
        assert whole(model, low) < whole(model, high), (low, high)
    assert whole(model, "MXFP4_MOE") == whole(model, "Q8_0"), "no experts"
    assert max(MIXTURES, key=lambda name: whole(model, name)) in ("Q8_0", "MXFP4_MOE")


def test_an_unknown_checkpoint_is_refused_only_when_asked(config: Callable[..., dict[str, Any]]) -> None:
    model = read_config(config("meta-llama/Meta-Llama-3.1-8B", quantization_config={"quant_method": "aqlm"}))
    assert whole(model, "bf16") == 2 * model.parameters
    with pytest.raises(Unsupported, match="'aqlm' is not modelled; name a format or scheme"):
        whole(model, "checkpoint")


# scheme, model → roles stored in nvfp4, by Model-Optimizer's NVFP4 default, MLP-only and experts-only configs
REACHED = (
    ("nvfp4", "qwen3-next-80b-a3b", {"linear-attention", "attention", "mlp", "experts"}),
    ("nvfp4-mlp-only", "qwen3-next-80b-a3b", {"mlp", "experts"}), ("nvfp4-experts-only", "qwen3-next-80b-a3b", {"experts"}),
    ("nvfp4_mlp_only", "qwen3-8b", {"mlp"}), ("nvfp4-experts-only", "qwen3-8b", set()),
)  # fmt: skip


@pytest.mark.parametrize(("scheme", "name", "roles"), REACHED)
def test_schemes_that_leave_attention_in_16_bits(scheme: str, name: str, roles: set[str]) -> None:
    assert {line.name.split(",")[0] for line in stored_weights(*_one(name), scheme) if "nvfp4" in line.name} == roles


def test_nvidias_mixture_with_fp8_attention() -> None:
    """nvidia/Qwen3.6-35B-A3B-NVFP4: 23.5 GB on the hub, with one layer for prediction in bf16 (sgl-project/sglang pull 27906:
    FP8 attention and recurrent projections, W4A16 NVFP4 for experts and head; club-3090 pull 607: MTP unquantised)."""
    stage, architecture = _one("qwen3.6-35b-a3b")
    found = stored_weights(stage, architecture, "nvfp4-mlp-fp8-attn")
    formats = {tuple(line.name.split(", ")[:2]) for line in found if "scales" not in line.name}
    assert {("experts", "nvfp4-mlp-fp8-attn"), ("mlp", "nvfp4-mlp-fp8-attn"), ("head", "nvfp4")} <= formats
    assert {("attention", "fp8"), ("linear-attention", "fp8"), ("linear-attention", "bf16"), ("embedding", "bf16")} <= formats
    experts, attention = 256 * 3 * 512 * 2048, 2048 * (8192 + 2 * 512 + 4096)
    prediction = 2 * (experts + 3 * 512 * 2048 + attention + 2 * 2048 * 2048 + 257 * 2048)
    assert sum(line.bytes for line in found) + prediction == pytest.approx(23.5e9, rel=0.004)
    assert any("other linears of the layers in fp8" in text for text in weight_assumptions(architecture, "nvfp4-mlp-fp8-attn"))
