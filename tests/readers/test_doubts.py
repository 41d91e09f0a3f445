"""Values of a config that cannot be meant: each is refused by name, or goes with a warning; none is taken without a word."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from memcalc.errors import InputError
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model

Config = Callable[..., dict[str, Any]]
LLAMA, GEMMA = "meta-llama/Meta-Llama-3.1-8B", "google/gemma-2-2b"
SLIDING = ["sliding_attention", "full_attention"] * 13

REFUSED = (  # model, keys, what the refusal names
    (LLAMA, {"max_position_embeddings": "8192"}, "max_position_embeddings"),
    (LLAMA, {"max_position_embeddings": [8192]}, "max_position_embeddings"),
    (LLAMA, {"max_position_embeddings": -1}, "max_position_embeddings"),
    (LLAMA, {"max_position_embeddings": 0}, "max_position_embeddings"),
    (LLAMA, {"max_position_embeddings": True}, "max_position_embeddings"),
    (LLAMA, {"max_position_embeddings": math.nan}, "max_position_embeddings"),
    (LLAMA, {"max_position_embeddings": 10**30}, "max_position_embeddings"),
    (LLAMA, {"torch_dtype": 16}, "torch_dtype"),
    (LLAMA, {"torch_dtype": ["bfloat16"]}, "torch_dtype"),
    (LLAMA, {"hidden_act": 3}, "hidden_act"),
    (LLAMA, {"rms_norm_eps": -1e-5}, "rms_norm_eps"),
    (LLAMA, {"attention_dropout": 7.0}, "attention_dropout"),
    (LLAMA, {"attention_dropout": -0.1}, "attention_dropout"),
    (LLAMA, {"resid_pdrop": 7.0}, "resid_pdrop"),
    (GEMMA, {"attn_logit_softcapping": -1.0}, "attn_logit_softcapping"),
    (GEMMA, {"layer_types": [*SLIDING[:-1], "sliding_atention"]}, "sliding_atention"),
    (GEMMA, {"layer_types": ["zzz"] * 26}, "layer_types"),
    (LLAMA, {"rope_scaling": "linear"}, "rope_scaling"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": "x"}}, "factor"),
    (LLAMA, {"rope_scaling": {"type": "linear", "factor": math.nan}}, "factor"),
    (LLAMA, {"rope_parameters": {"rope_type": "yarn", "factor": -2}}, "factor"),
    (LLAMA, {"n_layer": 2}, "n_layer"),
    (LLAMA, {"n_embd": 2}, "n_embd"),
    (LLAMA, {"hidden_size": 2**30, "intermediate_size": 2**31 - 1, "num_hidden_layers": 9999, "head_dim": 2**20}, "1e18"),
)  # fmt: skip

WARNED = (
    (LLAMA, {"hidden_act": "teleport"}, "teleport"),
    (LLAMA, {"rope_scaling": {"rope_type": "zzz", "factor": 8.0}}, "zzz"),
    (LLAMA, {"torch_dtype": "floaty"}, "floaty"),
    (LLAMA, {"n_inner": 11008}, "n_inner"),
    (LLAMA, {"n_ctx": 512}, "n_ctx"),
    (LLAMA, {"model_type": "zzz"}, "read as a llama"),
)

TAKEN = (
    (LLAMA, {"max_position_embeddings": 8192.0}),
    (LLAMA, {"max_position_embeddings": None}),
    (LLAMA, {"torch_dtype": None}),
    (LLAMA, {"dtype": "torch.float16", "torch_dtype": None}),
    (LLAMA, {"rope_scaling": None}),
    (LLAMA, {"n_layer": 32, "hidden_act": "gelu_new"}),
    (GEMMA, {"layer_types": SLIDING}),
)


@pytest.mark.parametrize(("model", "changes", "named"), REFUSED, ids=lambda value: str(value)[:50])
def test_refused(config: Config, model: str, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named) as refused:
        read_config(config(model, **changes))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(("model", "changes", "named"), WARNED, ids=lambda value: str(value)[:50])
@pytest.mark.parametrize("format_", ["table", "json", "csv", "markdown"])
@pytest.mark.parametrize("command", ["infer", "train"])
def test_warned(memcalc: Any, folder: Any, model: str, changes: dict[str, Any], named: str, format_: str, command: str) -> None:
    result = memcalc(command, folder(model, **changes), "--format", format_)
    assert result.code == 0, result.err
    if format_ == "json":
        assert any(named in warning for warning in result.document["warnings"])
    elif format_ != "csv":
        assert named in " ".join(result.out.split())


@pytest.mark.parametrize(("model", "changes"), TAKEN, ids=lambda value: str(value)[:50])
def test_taken_without_a_word(config: Config, model: str, changes: dict[str, Any]) -> None:
    assert read_config(config(model, **changes)).warnings == ()


QUANTISED = (  # quantization_config, what the refusal names
    ({"quant_method": "aqlm"}, "aqlm"),
    ({"quant_method": "exl2", "bits": 4}, "exl2"),
    ({"quant_method": "bitnet"}, "bitnet"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 100}, "g100"),
    ({"quant_method": "gptq", "bits": 4, "group_size": 0}, "group_size"),
    ({"quant_method": "awq", "bits": 4, "group_size": -7}, "group_size"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": True}, "both"),
    ({"quant_method": "bitsandbytes"}, "neither"),
    ({"quant_method": "compressed-tensors", "config_groups": {"0": {
        "targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 0}}}}, "group_size"),
    ("gptq", "must be an object"),
    (["gptq"], "must be an object"),
)  # fmt: skip


@pytest.mark.parametrize(("said", "named"), QUANTISED, ids=lambda value: str(value)[:60])
def test_a_checkpoint_whose_size_is_not_known_is_refused_unless_a_format_is_named(
    memcalc: Any, folder: Any, said: Any, named: str
) -> None:
    place = folder(quantization_config=said)
    refused = memcalc("infer", place, "--gpu", "h100")
    assert (refused.code, refused.out) == (2, "")
    assert named in refused.err
    assert "--weights" in refused.err
    assert memcalc("infer", place, "--weights", "bf16").code == 0
    assert memcalc("train", place).code == 0  # trains in its own precision


def test_presets_are_beyond_doubt() -> None:
    for name in ("llama-3.1-8b", "gemma-2-9b", "gpt2", "qwen3-8b", "deepseek-v3", "gpt-oss-20b", "phi-4", "bloom-7b1"):
        found = read_model(name).architecture
        assert found
        assert found.warnings == (), json.dumps(found.warnings)
