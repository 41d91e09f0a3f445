"""quantization_config of real checkpoints: which tensors are stored how, and in which layers."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture, Quantization
from memcalc.errors import InputError
from memcalc.estimates.placement import stages
from memcalc.estimates.stored_weights import stored_weights
from memcalc.readers.hf import read_config
from memcalc.readers.hf.module_names import Selection, module_names
from memcalc.readers.models import read_config_values

Values = dict[str, Any]
LLAMA = "llama-3.1-8b"
CONFIGS: dict[str, Values] = {}


def read(preset: str, quantization: Values, **changes: Any) -> Architecture:
    values = CONFIGS.setdefault(preset, read_config_values(preset))
    return read_config({**values, **changes, "quantization_config": quantization})


def stored(model: Architecture) -> dict[str, Any]:
    return {path: tuple(tuple(run) for run in runs) for (path, _), runs in model.quantization.stored}


def size(model: Architecture) -> float:
    (stage,) = stages(model, 1, 1, 1, 1)
    return sum(line.bytes for line in stored_weights(stage, model, "checkpoint")) / 1e9


def compressed(ignore: tuple[str, ...] = ("lm_head",), **weights: Any) -> Values:
    group = {"targets": ["Linear"], "weights": {"symmetric": True, **weights}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": list(ignore)}


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
TORCHAO = {"default": {"_type": "Int4WeightOnlyConfig", "_version": 1, "_data": {"group_size": 64}}}
# settings, the word for every linear layer of a dense model
METHODS: list[tuple[Values, str]] = [
    ({"quant_method": "fp8"}, "fp8"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block128"),
    ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, "fp8-channel"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, "gptq-int4-g128"),
    ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "gptq-int8-g32"),
    ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "int4-channel"),
    ({"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True}, "awq-int4-g64"),
    ({"quant_method": "awq", "w_bit": 4, "q_group_size": 128}, "awq-int4-g128"),
    (compressed(**INT4), "int4-g128"),
    (compressed(**{**INT4, "symmetric": False}), "awq-int4-g128"),
    (compressed(num_bits=8, type="int", strategy="channel"), "w8a8"),
    (compressed(num_bits=8, type="float", strategy="channel"), "fp8-channel"),
    (compressed(num_bits=8, type="float", strategy="tensor"), "fp8"),
    (compressed(num_bits=8, type="float", strategy="block", block_structure=[128, 128]), "fp8-block128"),
    (compressed(num_bits=4, type="float", strategy="tensor_group", group_size=16), "nvfp4"),
    (compressed(num_bits=4, type="float", strategy="group", group_size=32), "mxfp4"),
    (NF4, "nf4"),
    ({**NF4, "bnb_4bit_use_double_quant": True}, "nf4-dq"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-fp4"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-int8"),
    ({"quant_method": "mxfp4"}, "mxfp4"),
    ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
    ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_gptq"}, "gptq-int4-g128"),
    ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "packing_format": "auto_round:auto_awq"}, "awq-int4-g128"),
    ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}}, "fp8"),
    ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group"}}}, "mxfp4"),
    ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "w8a8"),
    ({"quant_method": "torchao", "quant_type": TORCHAO}, "hqq-int4-g64"),
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, "hqq-int4-g64"),
    ({"quant_method": "eetq"}, "eetq"),
]


@pytest.mark.parametrize(("settings", "word"), METHODS, ids=lambda value: value if isinstance(value, str) else "")
def test_methods(settings: Values, word: str) -> None:
    model = read(LLAMA, settings)
    assert model.quantization.problem == ""
    names = ("attention/q", "attention/k", "attention/v", "attention/output", "mlp/gate", "mlp/up", "mlp/down")
    assert stored(model) == {f"language/layers/{name}": ((0, 32, word),) for name in names}


# settings, what the refusal says
PROBLEMS: list[tuple[Values, str]] = [
    ({"quant_method": "aqlm"}, "quant_method 'aqlm' is not modelled"),
    ({}, ""),
    ({"bits": 4}, "quant_method 'unnamed'"),
    ({"quant_method": "fp8", "weight_block_size": [64, 64]}, "weight_block_size [64, 64] is not modelled"),
    ({"quant_method": "gptq", "bits": "four"}, "bits must be a whole number, not 'four'"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 13}, "a multiple of 8"),
    ({"quant_method": "gptq", "bits": 1, "group_size": 128}, "'gptq-int1-g128' is no way to store weights"),
    ({"quant_method": "awq", "modules_to_not_convert": [3]}, "modules_to_not_convert must be a list"),
    (compressed(num_bits=3, type="float"), "float weights of 3 bits"),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"]}}}, "says nothing about weights"),
    ({**compressed(**INT4), "format": "sparse-24"}, "sparse weights"),
    ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, "without quantized_layers"),
    ({"quant_method": "modelopt", "quant_algo": "W1"}, "quant_algo 'W1'"),
    ({"quant_method": "torchao", "quant_type": "codebook"}, "quant_type 'codebook'"),
    ({"quant_method": "quark"}, "says nothing about weights"),
    ({"quant_method": "gptq", "dynamic": {"+:.*": {"bits": 8}}}, "layers of different bits"),
    (compressed(("re:(.*)*x",), **INT4), "the pattern"),
    (compressed(("re:(",), **INT4), "is no regular expression"),
    (compressed(("re:" + ".*a" * 9,), **INT4), "too many repetitions"),
    (compressed(("re:(?P<x>a)", "re:(?P<x>b)"), **INT4), "names groups"),
]


@pytest.mark.parametrize(("settings", "said"), PROBLEMS, ids=lambda value: str(value)[:50])
def test_what_is_not_known_is_said_when_asked(settings: Values, said: str) -> None:
    model = read(LLAMA, settings)
    assert said in model.quantization.problem
    assert "\n" not in model.quantization.problem
    assert bool(model.quantization.problem) is bool(said)


def test_no_quantization() -> None:
    values = read_config_values(LLAMA)
    assert read_config(values).quantization == Quantization()
    assert read_config({**values, "quantization_config": None}).quantization == Quantization()


# --- lists of modules -------------------------------------------------------------------------------------------------

DOWN, GATE, Q = (module_names(path, routed=False) for path in ("mlp/down", "mlp/gate", "attention/q"))
EXPERT = module_names("mlp/gate_up", routed=True)
ALL = frozenset(range(4))
# entries, modules, the layers of four that they select
SELECTED = (
    (["lm_head"], DOWN, frozenset()),
    (["lm_head"], ("lm_head",), ALL),
    (["model.layers.2.mlp.down_proj"], DOWN, {2}),
    (["model.layers.2.mlp.down_proj"], GATE, frozenset()),
    (["model.language_model.layers.1.mlp"], GATE, {1}),
    (["model.layers.3"], Q, {3}),
    (["model.layers.1"], DOWN, {1}),
    (["self_attn"], Q, ALL),
    (["q_proj"], Q, ALL),
    (["gate", "mlp.gate", "model.layers.0.mlp.gate"], GATE, frozenset()),
    (["model.layers.*.self_attn"], Q, ALL),
    (["model.layers.*.mlp.router"], EXPERT, frozenset()),
    (["model.language_model.layers.3.self_attn*"], Q, {3}),
    (["*.mlp.shared_expert.*"], EXPERT, frozenset()),
    (["*.experts.*"], EXPERT, ALL),
    (["re:.*mlp\\.(gate|up|down)_proj.*"], DOWN, ALL),
    (["re:.*mlp\\.(gate|up|down)_proj.*"], EXPERT, frozenset()),
    (["re:.*layers\\.(0|3)\\..*"], Q, {0, 3}),
    (["re:.*lm_head"], Q, frozenset()),
    (["model.visual.blocks.0.attn.qkv", "visual", "mtp.layers.0.mlp.down_proj"], DOWN, frozenset()),
    (["model.vision_tower.encoder.layers.1.self_attn.q_proj"], Q, frozenset()),
    (["model.layers.9.mlp.down_proj"], DOWN, frozenset()),
    (["", f"model.layers.{'9' * 5000}.mlp"], DOWN, frozenset()),
    (["model.layers.*"], DOWN, ALL),
)


@pytest.mark.parametrize(("entries", "names", "expected"), SELECTED, ids=lambda value: str(value)[:60])
def test_lists_select_modules(entries: list[str], names: tuple[str, ...], expected: set[int]) -> None:
    assert Selection(entries).layers(names, 4) == expected


def test_too_many_patterns() -> None:
    with pytest.raises(InputError, match="at most 1000"):
        Selection([f"re:.*{i}" for i in range(501)] + [f"*.{i}" for i in range(501)])


def test_layers_left_alone_are_runs() -> None:
    plain = [f"model.layers.{i}.mlp.down_proj" for i in (0, 1, 7, 31)]
    model = read(LLAMA, {"quant_method": "fp8", "modules_to_not_convert": plain})
    assert stored(model)["language/layers/mlp/down"] == ((2, 7, "fp8"), (8, 31, "fp8"))


def test_groups_with_targets() -> None:
    """Two config groups: attention in fp8, the rest in nvfp4."""
    q = compressed(num_bits=4, type="float", strategy="tensor_group", group_size=16)
    q["config_groups"]["group_1"] = {
        "targets": ["re:.*self_attn.*"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
    }  # fmt: skip
    found = stored(read(LLAMA, q))
    assert found["language/layers/attention/q"] == ((0, 32, "fp8-channel"),)
    assert found["language/layers/mlp/up"] == ((0, 32, "nvfp4"),)


def test_heads_and_caches() -> None:
    model = read(LLAMA, {"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True})
    assert stored(model)["language/head/weight"] == ((0, 1, "gptq-int4-g128"),)
    for settings, expected in (
        ({**compressed(**INT4), "kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "fp8-e4m3"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "fp8-e4m3"),
        (compressed(**INT4), ""),
    ):
        assert read(LLAMA, settings).quantization.kv_format == expected


def test_a_dense_layer_and_an_expert_that_share_a_name() -> None:
    """Kimi K2 Thinking: experts in int4, groups of 32; dense layers, shared experts and attention plain; 594 GB."""
    ignore = ("lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*")
    model = read("kimi-k2", compressed(ignore, **{**INT4, "group_size": 32}))
    assert {path for (path, routed), _ in model.quantization.stored if routed} == {
        "language/layers/mlp/gate_up", "language/layers/mlp/down",
    }  # fmt: skip
    assert all(routed for (_, routed), _ in model.quantization.stored)
    assert size(model) == pytest.approx(594, rel=0.002)


# model of the reference, GB of its safetensors as published with it
CHECKPOINTS = (
    ("openai/gpt-oss-120b", 65.25, "model card: 60.8 GiB"),
    ("Qwen/Qwen3-235B-A22B-FP8", 236.4, "a byte for each of 234 B linear weights, scales, bf16 embedding and head"),
    ("deepseek-ai/DeepSeek-V3", 673.2, "671 B parameters, a byte each; the draft layer is not part of the model"),
)


@pytest.mark.parametrize(("name", "expected", "where"), CHECKPOINTS)
def test_real_checkpoints(config: Callable[..., Values], name: str, expected: float, where: str) -> None:
    model = read_config(config(name), name)
    assert size(model) == pytest.approx(expected, rel=0.001), where


def test_towers_stay_plain_unless_bitsandbytes_takes_them() -> None:
    for settings, expected in (
        ({"quant_method": "fp8"}, False),
        (NF4, True),
        ({**NF4, "llm_int8_skip_modules": ["lm_head", "visual"]}, False),
    ):
        model = read("qwen3-vl-8b", settings)
        assert any(path.startswith("vision") for (path, _), _ in model.quantization.stored) is expected


def test_long_lists_are_read_quickly() -> None:
    """126 layers with every projection named, as Llama 3.1 405B FP8 has them, and as many globs."""
    names = [f"model.layers.{i}.{m}" for i in range(126) for m in ("self_attn.q_proj", "self_attn.o_proj*", "mlp.down_proj")]
    started = time.process_time()
    model = read("llama-3.1-405b", {"quant_method": "fp8", "modules_to_not_convert": names})
    assert time.process_time() - started < 10, "cost grows with layers times names"
    assert stored(model).keys() == {
        f"language/layers/{x}" for x in ("attention/k", "attention/v", "mlp/gate", "mlp/up")
    }  # fmt: skip
