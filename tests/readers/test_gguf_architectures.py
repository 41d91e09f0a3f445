"""Every text architecture of llama.cpp, against llama.cpp itself.

tests/reference/gguf_architectures.json: of each architecture a small model as llama.cpp of October 2026 (ggml 0.25.3) builds
it from keys (`metadata` beside `common`; a null takes a common key away): the tensors that it creates, and the buffers that it
logs for two sequences of 4,096 tokens (fp16 cache, flash attention, physical batch 512; MiB as printed). Names alone:
src/llama-arch.cpp.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.stored import StoredTensors
from memcalc.errors import InputError, MemcalcError, Unsupported
from memcalc.readers.models import read_model
from memcalc.readers.weights import read_weights
from memcalc.readers.weights.gguf_family import gguf_architecture, memory_of
from memcalc.readers.weights.gguf_layers import architecture_of
from memcalc.readers.weights.llama_cpp import KEEPING
from memcalc.sizing.serving import size_serving

Row = dict[str, Any]
REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "gguf_architectures.json").read_text(encoding="utf-8"))
ROWS: list[Row] = REFERENCE["rows"]
BY_NAME = {row["architecture"]: row for row in ROWS}
each_row = pytest.mark.parametrize("row", ROWS, ids=[f"{row['architecture']}{'-moe' * row['moe']}" for row in ROWS])
SEQUENCES, TOKENS = 2, 4096
MEBI = 2**20
# counted as buffers, not as weights
BUFFERS = ("rope_f", "exp_probs_b", "tid2eid", "layer_scalar", "out_scale")
UNMEASURED = {"eagle3", "gemma4-assistant", "gptj"}  # drafts, run beside a model only; and a name without an implementation


def tensors(row: Row) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, shape, *layers in row["tensors"]:
        names = [name.replace("{}", str(layer)) for layer in layers[0]] if layers else [name]
        yield from ((each, tuple(shape)) for each in names)


def metadata(row: Row, **changes: Any) -> dict[str, Any]:
    name = row["architecture"]
    keys = {**REFERENCE["common"], **row["metadata"], **changes}
    written = {f"{name}.{key}": value for key, value in keys.items() if value is not None}
    return {"general.architecture": name, **written}


def file_of(row: Row, folder: Path, weight_files: Any, **changes: Any) -> str:
    held = {name: (0, shape) for name, shape in tensors(row)}
    return str(weight_files.gguf(folder / "m.gguf", metadata(row, **changes), held))


def stored_of(row: Row, folder: Path, weight_files: Any, **changes: Any) -> StoredTensors:
    return read_weights(file_of(row, folder, weight_files, **changes))


def test_every_name_has_a_row() -> None:
    assert set(KEEPING) - set(BY_NAME) == UNMEASURED
    assert len(KEEPING) == 152, "src/llama-arch.cpp, LLM_ARCH_NAMES without clip"


@each_row
def test_weights_and_memory_are_those_of_llama_cpp(row: Row, tmp_path: Path, weight_files: Any) -> None:
    path = file_of(row, tmp_path, weight_files)
    model = read_model(path)
    assert model.architecture
    assert model.stored
    assert model.parameters == sum(prod(shape) for name, shape in tensors(row) if not any(word in name for word in BUFFERS))
    assert model.architecture.context == REFERENCE["common"]["context_length"]
    assert 0 < model.architecture.active_parameters <= model.parameters
    run = size_serving(path, engine="llama.cpp", context=TOKENS, batch=SEQUENCES, kv_dtype="fp16")
    for held, logged in ((run.kv_cache, row["cache"]), (run.state, row["state"])):
        assert held / MEBI == pytest.approx(sum(map(float, logged)), abs=0.005 * max(1, len(logged)))
    copied = model.architecture.tied and next(t.bytes for t in model.stored.tensors if t.name == "token_embd.weight")
    on_host = sum(line.bytes for line in run.lines if line.component == "weights" and line.place == "host")
    assert run.weights + on_host == (model.stored.bytes or 0) + copied


@pytest.mark.parametrize(
    ("name", "changes", "layers", "expected"),
    [
        # layers that predict further tokens have no cache (create_memory: il < n_layer) …
        ("glm4moe", {"block_count": 3, "nextn_predict_layers": 1}, 2, {"windowless": 2}),
        ("deepseek32", {"block_count": 3, "nextn_predict_layers": 1}, 2, {"windowless": 4}),
        # … but in MiniMax M3 and HunYuan 4, whose caches are made without that filter
        ("minimax-m3", {"block_count": 3, "nextn_predict_layers": 1}, 2, {"windowless": 5}),
        # a pattern is a number or a list; a window of 0 is none
        ("gemma3", {"attention.sliding_window_pattern": 1}, 2, {"windowless": 2}),
        ("gemma3", {"attention.sliding_window_pattern": [True, True]}, 2, {"windowed": 2}),
        ("gemma3", {"attention.sliding_window": 0}, 2, {"windowless": 2}),
        ("smallthinker", {"attention.sliding_window": 7, "attention.sliding_window_pattern": 2}, 2, {"windowless": 1, 4096: 1}),
        ("llama4", {"attention.sliding_window": None, "attention.sliding_window_pattern": None}, 4, {"windowless": 1, 8192: 3}),
        ("llama4", {"attention.sliding_window": 0}, 4, {"windowless": 4}),
        # only the model of 64 layers (src/models/exaone4.cpp)
        ("exaone4", {"attention.sliding_window": 64}, 2, {"windowless": 2}),
        # GLM-5.2 shares an indexer among four layers from a context of a million tokens on
        ("glm-dsa", {"context_length": 2**20}, 2, {"windowless": 4}),
        ("glm-dsa", {"attention.indexer.types": [1, 0]}, 2, {"windowless": 3}),
        # without the sizes of heads a latent is no latent: keys and values of all heads (llama_hparams::is_mla)
        ("deepseek2", {"attention.key_length_mla": None, "attention.value_length_mla": None}, 2, {"windowless": 2}),
    ],
)
def test_which_layers_keep_what(
    name: str, changes: dict[str, Any], layers: int, expected: dict[Any, int], tmp_path: Path, weight_files: Any
) -> None:
    made = architecture_of(stored_of(BY_NAME[name], tmp_path, weight_files, **changes), name)
    assert sum(stack.depth for part in made.parts for stack in part.stacks) == layers
    found: dict[Any, int] = {}
    for (_, _, window, *_), count in memory_of(made).items():
        key = "windowless" if window is None else window if window in expected else "windowed"
        found[key] = found.get(key, 0) + count
    assert found == expected


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma4", {"attention.sliding_window_pattern": 5}, "must list for each layer whether it has a window"),
        ("gemma4", {"attention.shared_kv_layers": 9}, "shared_kv_layers must be a whole number between 0 and 5, not 9"),
        ("cohere2", {"attention.sliding_window": None}, r"cohere2\.attention\.sliding_window is missing"),
        ("cohere2", {"attention.sliding_window": 0}, r"sliding_window must be a whole number between 1 and"),
        ("mamba", {"ssm.state_size": None}, r"mamba\.ssm\.state_size is missing"),
        ("rwkv7", {"wkv.head_size": "64"}, r"rwkv7\.wkv\.head_size must be a whole number"),
        ("deepseek4", {"attention.compress_ratios": [0]}, r"compress_ratios holds 1 values for 4 layers"),
        ("dots3note", {"attention.indexer.types": None}, r"indexer\.types must say of each layer"),
        ("nemotron_h", {"nextn_predict_layers": 9}, r"nextn_predict_layers must be a whole number between 0 and 3"),
        ("jamba", {"attention.head_count_kv": [2]}, r"head_count_kv holds 1 values for 2 layers"),
        ("llama", {"block_count": 5}, r"block_count says 5 layers, its tensors end with blk\.1"),
    ],
)
def test_keys_that_are_wrong_are_named(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path, weight_files: Any
) -> None:
    stored = stored_of(BY_NAME[name], tmp_path, weight_files, **changes)
    with pytest.raises(InputError, match=message):
        gguf_architecture(stored, "m.gguf")


JUNK = ("x", 2**31, 0, [], [0], [3, 1, 2, 9, 9, 9], True, 1.5)


@pytest.mark.parametrize("row", ROWS[::12], ids=[row["architecture"] for row in ROWS[::12]])
def test_junk_is_refused_or_read(row: Row, tmp_path: Path, weight_files: Any) -> None:
    """No value of any key ends in anything but an answer or a refusal."""
    stored = stored_of(row, tmp_path, weight_files)
    for key in [key for key in stored.metadata if key.startswith(row["architecture"])]:
        for value in JUNK:
            try:
                gguf_architecture(replace(stored, metadata={**stored.metadata, key: value}), "m.gguf")
            except MemcalcError:
                continue


@pytest.mark.parametrize("row", ROWS[::12], ids=[row["architecture"] for row in ROWS[::12]])
def test_any_tensor_may_be_odd(row: Row, tmp_path: Path, weight_files: Any) -> None:
    """One without dimensions, of one, two or three, or missing: every weight of what is read is counted all the same."""
    stored = stored_of(row, tmp_path, weight_files)
    for number, tensor in enumerate(stored.tensors):
        for shape in ((), (7,), (7, 7), (3, 7, 7), None):
            odd = [] if shape is None else [tensor._replace(shape=shape, parameters=prod(shape))]
            tensors = (*stored.tensors[:number], *odd, *stored.tensors[number + 1 :])
            try:
                made = gguf_architecture(replace(stored, tensors=tensors), "m.gguf")
            except MemcalcError:
                continue
            assert made.parameters == sum(each.parameters or 0 for each in tensors), (tensor.name, shape)


def test_prediction_layers_that_a_file_does_not_hold(tmp_path: Path, weight_files: Any) -> None:
    """DeepSeek V4's keys may say one all the same (src/models/deepseek4.cpp, mtp_probe)."""
    row = BY_NAME["deepseek4"]
    said = architecture_of(stored_of(row, tmp_path, weight_files, nextn_predict_layers=1), "m.gguf")
    plain = architecture_of(stored_of(row, tmp_path, weight_files), "m.gguf")
    assert said.parameters == plain.parameters
    assert memory_of(said) == memory_of(plain)


def test_files_that_are_no_model_of_today_are_said(tmp_path: Path, weight_files: Any) -> None:
    stored = stored_of(BY_NAME["llama"], tmp_path, weight_files)
    adapter = replace(stored, metadata={**stored.metadata, "general.type": "adapter"})
    with pytest.raises(Unsupported, match=r"general\.type adapter, for one of llama"):
        gguf_architecture(adapter, "m.gguf")
    old = tuple(t._replace(name=t.name.replace("ffn_up_exps.weight", "ffn_up.0.weight")) for t in stored.tensors)
    with pytest.raises(Unsupported, match=r"each expert apart \(blk\.0\.ffn_up\.0\.weight\)"):
        gguf_architecture(replace(stored, tensors=old), "m.gguf")


def test_only_a_known_family_is_served_otherwise(tmp_path: Path, weight_files: Any) -> None:
    path = file_of(BY_NAME["rwkv7"], tmp_path, weight_files)
    for engine, more, message in (
        ("vllm", {}, "is known by the tensors of its GGUF file alone"),
        ("llama.cpp", {"weights": "Q4_K_M"}, "is served as it is stored"),
        (None, {"tp": 2}, "is not known, but by layers"),
    ):
        with pytest.raises((Unsupported, InputError), match=message):
            size_serving(path, engine=engine, **more)
