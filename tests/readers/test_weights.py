"""Weight files: exact bytes, roles and formats from the headers of safetensors and GGUF, alone or in sets."""

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.ledger import ROLES
from memcalc.blocks.stored import StoredTensor
from memcalc.dtypes import number_format
from memcalc.errors import InputError
from memcalc.readers.models import read_contents, read_model, stored_tensors
from memcalc.readers.weights import find_weights, gguf, read_weights
from memcalc.readers.weights.packing import described
from memcalc.readers.weights.roles import place
from memcalc.report.stored import groups

LLAMA = {  # two layers' worth of names in one: hidden 64, 4 heads, 2 key-value heads, feed-forward 128, vocabulary 96
    "model.embed_tokens.weight": (96, 64),
    "model.layers.0.input_layernorm.weight": (64,),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.self_attn.k_proj.weight": (32, 64),
    "model.layers.0.self_attn.v_proj.weight": (32, 64),
    "model.layers.0.self_attn.o_proj.weight": (64, 64),
    "model.layers.0.post_attention_layernorm.weight": (64,),
    "model.layers.0.mlp.gate_proj.weight": (128, 64),
    "model.layers.0.mlp.up_proj.weight": (128, 64),
    "model.layers.0.mlp.down_proj.weight": (64, 128),
    "model.norm.weight": (64,),
    "lm_head.weight": (96, 64),
}
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 96,
}  # fmt: skip
PARAMETERS = sum(map(prod, LLAMA.values()))


def bf16(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: ("BF16", shape) for name, shape in shapes.items()}


# --- safetensors ------------------------------------------------------------------------------------------------------


def test_a_safetensors_file_to_the_byte(tmp_path: Path, weight_files: Any) -> None:
    tensors = {**bf16(LLAMA), "model.layers.0.self_attn.q_proj.weight": ("F32", (64, 64))}
    stored = read_weights(weight_files.safetensors(tmp_path / "model.safetensors", tensors, __metadata__={"format": "pt"}))
    assert stored.parameters == PARAMETERS
    assert stored.bytes == 2 * PARAMETERS + 2 * 64 * 64
    assert stored.bytes_by_format == {"bf16": 2 * (PARAMETERS - 64 * 64), "fp32": 4 * 64 * 64}
    assert stored.metadata == {"format": "pt"}
    assert {role: sum(t.bytes for t in held) for role, held in stored.by_role.items()} == {
        "embedding": 2 * 96 * 64,
        "attention": 4 * 64 * 64 + 2 * (2 * 32 * 64 + 64 * 64),
        "mlp": 2 * 3 * 64 * 128,
        "norm": 2 * 3 * 64,
        "head": 2 * 96 * 64,
    }
    assert {t.layer for t in stored.by_role["mlp"]} == {0}
    assert stored.by_role["head"][0] == StoredTensor(
        "lm_head.weight", "bf16", (96, 64), 2 * 96 * 64, "model.safetensors", "head", None, "language", 96 * 64
    )


def sharded(folder: Path, weight_files: Any, shards: int, *, each: int = 1, metadata: Any = None) -> Path:
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    weight_map = {}
    for i, shard in enumerate(names):
        tensors = {f"model.layers.{i}.mlp.experts.{j}.up_proj.weight": ("F8_E4M3", (4, 8)) for j in range(each)}
        weight_files.safetensors(folder / shard, tensors)
        weight_map |= dict.fromkeys(tensors, shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": metadata or {"total_size": 32 * shards * each}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("given", ["folder", "index", "shard"])
def test_a_set_is_read_whole_by_any_of_its_names(tmp_path: Path, weight_files: Any, given: str) -> None:
    index = sharded(tmp_path, weight_files, 3, each=2)
    path = {"folder": tmp_path, "index": index, "shard": tmp_path / "model-00002-of-00003.safetensors"}[given]
    stored = read_weights(str(path))
    assert (len(stored.tensors), stored.bytes, len(stored.files)) == (6, 6 * 32, 3)
    assert {tensor.file for tensor in stored.tensors} == set(stored.files)


def test_shards_without_an_index_are_a_set_too(tmp_path: Path, weight_files: Any) -> None:
    sharded(tmp_path, weight_files, 3).unlink()
    assert len(read_weights(str(tmp_path)).tensors) == 3


def test_two_hundred_shards_are_one_set(tmp_path: Path, weight_files: Any) -> None:
    """How long that takes, benchmarks/headers.py says."""
    assert len(read_weights(str(sharded(tmp_path, weight_files, 200, each=60))).tensors) == 12_000


def test_an_index_alone_gives_its_totals_and_says_what_is_unknown(tmp_path: Path, weight_files: Any) -> None:
    index = sharded(tmp_path, weight_files, 2, metadata={"total_size": 4096, "total_parameters": 2048})
    for shard in tmp_path.glob("*.safetensors"):
        shard.unlink()
    stored = read_weights(str(index))
    assert (stored.bytes, stored.parameters, stored.tensors) == (4096, 2048, ())
    assert "not known" in stored.warnings[0]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "../model.safetensors"}}, "beside it"),
        ({"weight_map": {"a": "/etc/model.safetensors"}}, "beside it"),
        ({"weight_map": {"a": "x\\model.safetensors"}}, "beside it"),
        ({"weight_map": {"a": ".safetensors"}}, "beside it"),
        ({"weight_map": {"a": "model.safetensors.index.json"}}, "beside it"),
        ({"weight_map": {"a": "pytorch_model.bin"}}, "beside it"),
        ({"weight_map": {"a": 3}}, "beside it"),
        ({"weight_map": {"a": "x\0.safetensors"}}, "beside it"),
        ({"weight_map": {}}, "no weight_map"),
        ({"weight_map": ["a"]}, "no weight_map"),
        ({}, "no weight_map"),
        ({"weight_map": {"a": "m.safetensors"}}, "no total_size"),
        ({"weight_map": {"a": "m.safetensors"}, "metadata": {"total_size": -1}}, "metadata.total_size"),
        ({"weight_map": {"a": "m.safetensors"}, "metadata": {"total_size": 2**70}}, "metadata.total_size"),
        ({"weight_map": {f"a{i}": f"m{i}.safetensors" for i in range(10_001)}}, "10,001 files"),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, index: dict[str, Any], message: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        read_weights(str(path))


def test_an_incomplete_set_names_what_is_missing(tmp_path: Path, weight_files: Any) -> None:
    sharded(tmp_path, weight_files, 3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(InputError, match=r"1 of its 3 shards are missing, model-00002-of-00003\.safetensors the first"):
        read_weights(str(tmp_path))


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path, weight_files: Any) -> None:
    for number in (1, 2):
        weight_files.safetensors(tmp_path / f"m-0000{number}-of-00002.safetensors", {"a.weight": ("F32", (2,))})
    with pytest.raises(InputError, match=r"a\.weight is also in"):
        read_weights(str(tmp_path))


def test_an_index_that_disagrees_with_its_shards_warns(tmp_path: Path, weight_files: Any) -> None:
    index = sharded(tmp_path, weight_files, 1)
    values = json.loads(index.read_text())
    values["weight_map"]["ghost.weight"] = "model-00001-of-00001.safetensors"
    index.write_text(json.dumps(values))
    assert read_weights(str(index)).warnings == ("the index lists 2 tensors, the shards hold 1",)


def test_which_file_of_a_folder(tmp_path: Path, weight_files: Any) -> None:
    assert find_weights(str(tmp_path)) is None
    weight_files.safetensors(tmp_path / "consolidated.safetensors", {"a": ("F32", (2,))})
    assert find_weights(str(tmp_path)) == str(tmp_path / "consolidated.safetensors")
    weight_files.safetensors(tmp_path / "adapter.safetensors", {"a": ("F32", (2,))})
    with pytest.raises(InputError, match=r"several weight files \(adapter.safetensors, consolidated.safetensors\)"):
        find_weights(str(tmp_path))
    weight_files.safetensors(tmp_path / "model.safetensors", {"a": ("F32", (2,))})
    assert find_weights(str(tmp_path)) == str(tmp_path / "model.safetensors")


# --- with and without a config.json -----------------------------------------------------------------------------------


def test_a_file_with_its_config_is_a_model(tmp_path: Path, weight_files: Any) -> None:
    path = weight_files.safetensors(tmp_path / "model.safetensors", bf16(LLAMA))
    with pytest.raises(InputError, match=r"model's config\.json is needed beside it"):
        read_model(path)
    contents = read_contents(path)
    assert contents.architecture is None
    assert contents.stored
    assert contents.stored.parameters == PARAMETERS
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for given in (path, str(tmp_path), str(tmp_path / "config.json")):
        found = read_contents(given)
        assert found.architecture
        assert found.stored
        assert found.parameters == found.stored.parameters == PARAMETERS
        assert not found.architecture.warnings
        assert not found.problem


def test_weights_beside_a_config_are_found_when_asked_for(tmp_path: Path, weight_files: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    model = read_model(str(tmp_path))
    assert model.stored is None
    assert stored_tensors(model) is None
    weight_files.safetensors(tmp_path / "model.safetensors", bf16(LLAMA))
    stored = stored_tensors(model)
    assert stored
    assert stored.bytes == 2 * PARAMETERS
    assert stored_tensors(read_model("7B")) is None


def test_broken_weights_do_not_hide_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    found = read_contents(str(tmp_path))
    assert found.parameters == PARAMETERS
    assert "truncated" in str(found.problem)


@pytest.mark.parametrize(
    ("config", "tensors", "warning"),
    [
        ({}, {"extra.weight": (8, 8)}, "64 more"),
        ({"tie_word_embeddings": True}, {}, ""),  # a copy of the tied head
        ({}, {"model.layers.1.eh_proj.weight": (64, 128)}, ""),  # a layer that the model does not run
        ({"intermediate_size": 64}, {}, "12,288 more"),
        ({"intermediate_size": 192}, {}, "12,288 fewer"),
    ],
)
def test_a_config_that_disagrees_with_its_weights_warns(
    tmp_path: Path, weight_files: Any, config: dict[str, Any], tensors: dict[str, tuple[int, ...]], warning: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **config}))
    path = weight_files.safetensors(tmp_path / "model.safetensors", bf16({**LLAMA, **tensors}))
    architecture = read_model(path).architecture
    assert architecture
    assert bool(architecture.warnings) == bool(warning)
    assert warning in " ".join(architecture.warnings)


# --- GGUF -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [2, 3])
def test_a_gguf_file_to_the_byte(tmp_path: Path, weight_files: Any, order: str, version: int) -> None:
    metadata = {
        "general.architecture": "x", "general.name": "A model", "tokenizer.ggml.tokens": ["a", "bc"] * 3000,
        "x.scale": 0.5, "x.flag": True, "x.list": [1, 2, 3], "tokenizer.chat_template": "y" * 5000,
    }  # fmt: skip
    tensors = {
        "blk.7.attn_q.weight": (12, (4, 256)),
        "output_norm.weight": (0, (5,)),
        "blk.7.ffn_up_exps.weight": (39, (2, 3, 32)),
    }
    stored = read_weights(weight_files.gguf(tmp_path / "m.gguf", metadata, tensors, order=order, version=version))
    assert [(t.name, t.format, t.shape, t.bytes, t.role, t.layer) for t in stored.tensors] == [
        ("blk.7.attn_q.weight", "q4_k", (4, 256), 4 * 144, "attention", 7),
        ("output_norm.weight", "fp32", (5,), 20, "norm", None),
        ("blk.7.ffn_up_exps.weight", "mxfp4", (2, 3, 32), 2 * 3 * 17, "experts", 7),
    ]
    kept = {key: value for key, value in stored.metadata.items() if key.startswith("x.")}
    assert kept == {"x.scale": 0.5, "x.flag": True, "x.list": [1, 2, 3]}
    assert stored.metadata["tokenizer.ggml.tokens"] == gguf.Long(6000)
    assert stored.metadata["tokenizer.chat_template"] == gguf.Long(5000)


def test_a_vocabulary_longer_than_a_chunk_is_skipped(tmp_path: Path, weight_files: Any) -> None:
    metadata = {"tokenizer.ggml.tokens": ["x" * 1000] * 2500, "after": 7}  # 2.5 MB, read in chunks of 1 MiB
    stored = read_weights(weight_files.gguf(tmp_path / "m.gguf", metadata, {"a": (0, (1,))}))
    assert stored.metadata == {"tokenizer.ggml.tokens": gguf.Long(2500), "after": 7}


def test_a_vocabulary_alone_has_no_tensors(tmp_path: Path, weight_files: Any) -> None:
    path = Path(weight_files.gguf(tmp_path / "vocabulary.gguf", {"tokenizer.ggml.tokens": ["a"]}, {}))
    path.write_bytes(path.read_bytes().rstrip(b"\0"))
    stored = read_weights(str(path))
    assert (stored.tensors, stored.bytes) == ((), None)


def test_a_split_gguf_is_read_whole(tmp_path: Path, weight_files: Any) -> None:
    for number in (1, 2, 3):
        metadata = {"general.architecture": "x"} if number == 1 else {"split.no": number}
        weight_files.gguf(tmp_path / f"m-0000{number}-of-00003.gguf", metadata, {f"blk.{number}.attn_q.weight": (8, (2, 32))})
    for given in ("m-00002-of-00003.gguf", ""):
        stored = read_weights(str(tmp_path / given))
        assert [t.layer for t in stored.tensors] == [1, 2, 3]
        assert stored.metadata == {"general.architecture": "x"}
    (tmp_path / "m-00003-of-00003.gguf").unlink()
    with pytest.raises(InputError, match="1 of its 3 shards are missing"):
        read_weights(str(tmp_path / "m-00001-of-00003.gguf"))


def test_the_ggml_types_are_those_of_ggml() -> None:
    """Against the package that ggml publishes (gguf.constants.GGML_QUANT_SIZES)."""
    constants = pytest.importorskip("gguf").constants
    for kind, sizes in constants.GGML_QUANT_SIZES.items():
        if kind.name not in ("Q8_1", "Q8_K"):  # never in a file
            stored = number_format(gguf.TYPES[int(kind)])
            assert (stored.block_size, stored.block_bytes) == sizes, kind


@pytest.mark.parametrize("big", [False, True])
def test_files_written_by_the_gguf_package(tmp_path: Path, big: bool) -> None:
    package, numpy = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    path = tmp_path / "m.gguf"
    endian = package.GGUFEndian.BIG if big else package.GGUFEndian.LITTLE
    writer = package.GGUFWriter(path, "llama", endianess=endian)
    writer.add_block_count(3)
    writer.add_token_list(["a", "b"] * 40_000)
    writer.add_tensor("token_embd.weight", numpy.zeros((10, 64), numpy.float16))
    if not big:
        q8 = package.GGMLQuantizationType.Q8_0
        writer.add_tensor("blk.0.attn_q.weight", package.quantize(numpy.zeros((4, 64), numpy.float32), q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored = read_weights(str(path))
    assert stored.metadata["llama.block_count"] == 3
    seen = {t.name: (t.format, t.shape, t.bytes) for t in stored.tensors}
    assert seen.pop("token_embd.weight") == ("fp16", (10, 64), 1280)
    assert seen == ({} if big else {"blk.0.attn_q.weight": ("q8_0", (4, 64), 4 * 2 * 34)})


def test_files_written_by_the_safetensors_package(tmp_path: Path) -> None:
    package, numpy = pytest.importorskip("safetensors.numpy"), pytest.importorskip("numpy")
    path = str(tmp_path / "m.safetensors")
    arrays = {
        "a": numpy.zeros((3, 5), numpy.float16),
        "b": numpy.zeros((), numpy.int64),
        "empty": numpy.zeros((0, 4), numpy.int8),
    }
    package.save_file(arrays, path, metadata={"format": "np"})
    seen = {t.name: (t.format, t.shape, t.bytes) for t in read_weights(path).tensors}
    assert seen == {"a": ("fp16", (3, 5), 30), "b": ("int64", (), 8), "empty": ("int8", (0, 4), 0)}


# --- what a tensor is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role", "part", "layer"),
    [
        ("model.embed_tokens.weight", "embedding", "language", None),
        ("transformer.wte.weight", "embedding", "language", None),
        ("token_embd.weight", "embedding", "language", None),
        ("transformer.wpe.weight", "position", "language", None),
        ("model.layers.12.self_attn.q_proj.weight_scale_inv", "attention", "language", 12),
        ("model.layers.12.self_attn.q_norm.weight", "norm", "language", 12),
        ("transformer.h.3.attn.c_attn.bias", "attention", "language", 3),
        ("gpt_neox.layers.3.attention.query_key_value.weight", "attention", "language", 3),
        ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "attention", "language", 0),
        ("model.layers.0.mlp.gate.weight", "router", "language", 0),
        ("model.layers.0.mlp.gate_proj.weight", "mlp", "language", 0),
        ("model.layers.0.mlp.experts.255.gate_proj.weight", "experts", "language", 0),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "experts", "language", 0),
        ("model.layers.0.mlp.shared_experts.up_proj.weight", "mlp", "language", 0),
        ("model.layers.0.block_sparse_moe.experts.0.w1.weight", "experts", "language", 0),
        ("model.layers.0.linear_attn.in_proj_qkvz.weight", "linear-attention", "language", 0),
        ("backbone.layers.0.mixer.in_proj.weight", "state-space", "language", 0),
        ("lm_head.weight", "head", "language", None),
        ("output.weight", "head", "language", None),
        ("blk.3.attn_output.weight", "attention", "language", 3),
        ("blk.3.ffn_gate_inp.weight", "router", "language", 3),
        ("blk.3.ffn_down_exps.weight", "experts", "language", 3),
        ("blk.3.ffn_up_shexp.weight", "mlp", "language", 3),
        ("blk.3.post_ffw_norm.weight", "norm", "language", 3),
        ("blk.3.ssm_conv1d.weight", "state-space", "language", 3),
        ("blk.47.nextn.eh_proj.weight", "other", "prediction", 47),
        ("vision_tower.vision_model.encoder.layers.5.mlp.fc1.weight", "mlp", "vision", 5),
        ("model.visual.blocks.5.attn.qkv.weight", "attention", "vision", 5),
        ("multi_modal_projector.linear_1.weight", "projector", "projector", None),
        ("rope_freqs.weight", "other", "language", None),
        ("nobody.knows.this", "other", "language", None),
    ],
)
def test_place_of_a_tensor(name: str, role: str, part: str, layer: int | None) -> None:
    assert place(name) == (role, layer, part)
    assert role in ROLES


GPTQ = {"quant_method": "gptq", "bits": 4}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"format": "pack-quantized", "weights": {"num_bits": 4, "type": "int"}}},
}
THREE = {"config_groups": {"group_0": {"weights": {"num_bits": 3, "type": "int"}}}}  # vLLM and the library: 32 // 3 codes
MIXED = {"config_groups": {str(bits): {"weights": {"num_bits": bits, "type": "int"}} for bits in (4, 8)}}

# packing, its tensors (name, format, shape), quantization_config, weights they stand for: 64 × 128 where that is known
PACKED: list[tuple[str, str, dict[str, Any], int | None]] = [
    ("gptq", "qweight int32 16×64, qzeros int32 1×8, scales fp16 1×64, g_idx int32 128", GPTQ, 8192),
    ("gptq of 8 bits, by its zeros", "qweight int32 32×64, qzeros int32 1×16, scales fp16 1×64", {}, 8192),
    ("gptq of 3 bits, by its zeros", "qweight int32 12×64, qzeros int32 1×6, scales fp16 1×64", {}, 8192),
    ("gptq, by the config", "qweight int32 16×64", GPTQ, 8192),
    ("gptq, unknown", "qweight int32 16×64", {}, None),
    ("awq", "qweight int32 128×8, qzeros int32 1×8, scales fp16 1×64", {}, 8192),
    (
        "compressed-tensors",
        "weight_packed int32 64×16, weight_scale bf16 64×1, weight_shape int64 2, weight_zero_point int32 8×1, "
        "weight_g_idx int32 128",
        COMPRESSED,
        8192,
    ),
    ("compressed-tensors of 3 bits, ten to an element", "weight_packed int32 64×12, weight_scale bf16 64×1", THREE, 64 * 120),
    ("compressed-tensors of two widths", "weight_packed int32 64×16, weight_scale bf16 64×1", MIXED, None),
    (
        "compressed-tensors nvfp4",
        "weight_packed uint8 64×64, weight_scale fp8-e4m3 64×8, weight_global_scale fp32 1, input_global_scale fp32 1",
        {},
        8192,
    ),
    ("compressed-tensors fp8", "weight fp8-e4m3 64×128, weight_scale bf16 64×1, input_scale bf16 1", {}, 8192),
    (
        "bitsandbytes nf4",
        "weight uint8 4096×1, weight.absmax uint8 128, weight.quant_map fp32 16, weight.nested_absmax fp32 1, "
        "weight.nested_quant_map fp32 256, weight.quant_state.bitsandbytes__nf4 uint8 100",
        {},
        8192,
    ),
    (
        "bitsandbytes fp4 in bf16",
        "weight bf16 2048×1, weight.absmax fp32 128, weight.quant_state.bitsandbytes__fp4 uint8 100",
        {},
        8192,
    ),
    ("e8m0 scales of DeepSeek's own names", "weight fp8-e4m3 64×128, scale fp8-e8m0 1×1", {}, 8192),
    ("bitsandbytes int8", "weight int8 64×128, SCB fp32 64, weight_format uint8 1", {}, 8192),
    ("fp8 blocks", "weight fp8-e4m3 64×128, weight_scale_inv fp32 1×1", {}, 8192),
    ("modelopt nvfp4", "weight uint8 64×64, weight_scale fp8-e4m3 64×8, weight_scale_2 fp32 1, input_scale fp32 1", {}, 8192),
    ("codes that nothing explains", "W_q uint8 64×64", {}, None),
]


@pytest.mark.parametrize(("tensors", "config", "parameters"), [row[1:] for row in PACKED], ids=[row[0] for row in PACKED])
def test_packed_weights_count_what_they_stand_for(tensors: str, config: dict[str, Any], parameters: int | None) -> None:
    listed = []
    for entry in tensors.split(", "):
        name, kind, shape = entry.split(" ")
        listed.append(StoredTensor(f"model.layers.0.self_attn.q_proj.{name}", kind, tuple(map(int, shape.split("×"))), 0, "f"))
    found = list(described(listed, config))
    assert {tensor.role for tensor in found} == {"attention"}
    counts = [tensor.parameters for tensor in found]
    assert (None if None in counts else sum(count or 0 for count in counts)) == parameters


@pytest.mark.parametrize(
    ("name", "shape", "parameters"),
    [
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", (2, 64, 4, 16), 2 * 64 * 128),  # gpt-oss: 32 codes in 16 bytes
        ("model.layers.0.mlp.experts.gate_up_proj_scales", (2, 64, 4), 0),
    ],
)
def test_mxfp4_blocks(name: str, shape: tuple[int, ...], parameters: int) -> None:
    stem = name.rpartition("_")[0]
    listed = [StoredTensor(f"{stem}_{tail}", "uint8", shape, 0, "f") for tail in ("blocks", "scales")]
    assert {t.name: t.parameters for t in described(listed)}[name] == parameters


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("transformer.h.0.attn.bias", (1, 1, 8, 8)),
        ("transformer.h.0.attn.masked_bias", ()),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (8,)),
        ("model.layers.3.mlp.gate.e_score_correction_bias", (8,)),
        ("blk.3.exp_probs_b.bias", (8,)),
        ("rope_freqs.weight", (64,)),
        ("bert.embeddings.position_ids", (1, 512)),
    ],
)
def test_buffers_are_no_parameters(name: str, shape: tuple[int, ...]) -> None:
    (found,) = described([StoredTensor(name, "fp32", shape, 4, "f")])
    assert found.parameters == 0


def test_groups_fold_layers_and_experts(tmp_path: Path, weight_files: Any) -> None:
    stored = read_weights(str(sharded(tmp_path, weight_files, 3, each=4)))
    (group,) = groups(stored.tensors)
    assert group["name"] == "model.layers.*.mlp.experts.*.up_proj.weight"
    assert (group["count"], group["bytes"], group["parameters"]) == (12, 12 * 32, 12 * 32)
