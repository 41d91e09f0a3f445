"""mmproj files: towers and projector by themselves, and beside the decoder of their folder (llama.cpp tools/mtmd/clip.cpp)."""

import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import pytest

from memcalc.errors import InputError, Unsupported
from memcalc.readers.models import read_contents, read_model
from memcalc.readers.weights import choose, choose_tower
from memcalc.sizing.serving import size_serving
from memcalc.units import format_bytes

H, F, LAYERS, TEXT, V = 64, 128, 3, 32, 96
Tensors = dict[str, tuple[int, tuple[int, ...]]]


def tower(kind: int = 1) -> Tensors:
    made: Tensors = {
        "v.patch_embd.weight": (kind, (H, 3, 8, 8)),
        "v.position_embd.weight": (kind, (16, H)),
        "v.post_ln.weight": (0, (H,)),
        "a.conv1d.1.weight": (kind, (H, 16, 3)),
        "a.blk.0.attn_q.weight": (kind, (H, H)),
        "mm.0.weight": (kind, (TEXT, H)),
        "mm.a.fc.weight": (kind, (TEXT, H)),
    }
    for layer in range(LAYERS):
        made |= {f"v.blk.{layer}.{name}.weight": (kind, (H, H)) for name in ("attn_q", "attn_k", "attn_v", "attn_out")}
        made |= {f"v.blk.{layer}.ffn_up.weight": (kind, (F, H)), f"v.blk.{layer}.ffn_down.weight": (kind, (H, F))}
    return made


CLIP = {"general.architecture": "clip", "clip.has_vision_encoder": True, "clip.projector_type": "gemma3",
        "clip.vision.embedding_length": H}  # fmt: skip
DECODER: Tensors = {
    "token_embd.weight": (1, (V, TEXT)), "output_norm.weight": (0, (TEXT,)), "output.weight": (1, (V, TEXT)),
    **{f"blk.0.{name}.weight": (1, (TEXT, TEXT)) for name in ("attn_q", "attn_k", "attn_v", "attn_output")},
    "blk.0.attn_norm.weight": (0, (TEXT,)), "blk.0.ffn_norm.weight": (0, (TEXT,)),
    "blk.0.ffn_gate.weight": (1, (64, TEXT)), "blk.0.ffn_up.weight": (1, (64, TEXT)), "blk.0.ffn_down.weight": (1, (TEXT, 64)),
}  # fmt: skip
LLAMA = {"general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 256, "llama.embedding_length": TEXT,
         "llama.feed_forward_length": 64, "llama.attention.head_count": 4}  # fmt: skip


def parameters(tensors: Tensors) -> int:
    return sum(prod(shape) for _, shape in tensors.values())


def size(tensors: Tensors) -> int:
    return sum(prod(shape) * (2 if kind else 4) for kind, shape in tensors.values())


@pytest.fixture
def both(tmp_path: Path, weight_files: Any) -> Path:
    weight_files.gguf(tmp_path / "tiny-Q8_0.gguf", LLAMA, DECODER)
    weight_files.gguf(tmp_path / "mmproj-tiny-F16.gguf", CLIP, tower())
    weight_files.gguf(tmp_path / "mmproj-tiny-F32.gguf", CLIP, tower(0))
    return tmp_path


def test_towers_by_themselves(both: Path, memcalc: Callable[..., Any]) -> None:
    path = str(both / "mmproj-tiny-F16.gguf")
    model = read_model(path)
    assert model.architecture
    assert model.parameters == parameters(tower())
    assert [part.name for part in model.architecture.parts] == ["vision", "audio", "projector"]
    vision = model.architecture.parts[0].stacks[0]
    assert (vision.path, vision.depth, len(vision.layers)) == ("layers", LAYERS, 1)
    assert "projector gemma3" in model.architecture.notes
    shown = memcalc("inspect", path)
    assert shown.code == 0
    assert "not modelled" in " ".join(shown.out.split())
    with pytest.raises(Unsupported, match="stands beside a decoder"):
        size_serving(path, engine="llama.cpp")


def test_a_folder_holds_decoder_and_towers(both: Path) -> None:
    model = read_model(str(both))
    assert model.architecture
    assert model.stored
    assert model.stored.files == ("tiny-Q8_0.gguf", "mmproj-tiny-F16.gguf"), (
        "the nearest in bits (llama.cpp common/download.cpp)"
    )
    assert model.parameters == parameters(DECODER) + parameters(tower())
    assert model.stored.bytes == size(DECODER) + size(tower())


@pytest.mark.parametrize(("gpu_layers", "resident"), [(None, True), (0, False)])
def test_the_towers_are_on_the_first_gpu(both: Path, gpu_layers: int | None, resident: bool) -> None:
    """clip.cpp takes the first GPU, whatever -ngl says."""
    more = {} if gpu_layers is None else {"gpu_layers": gpu_layers}
    alone = size_serving(str(both / "tiny-Q8_0.gguf"), engine="llama.cpp", **more)
    beside = size_serving(str(both), engine="llama.cpp", **more)
    assert beside.weights - alone.weights == size(tower())
    assert beside.host == alone.host
    assert any("mmproj" in said for said in beside.assumptions)
    assert not any("mmproj" in said for said in alone.assumptions)
    assert (alone.weights > 0) == resident


QWEN = {"general.architecture": "clip", "clip.projector_type": "qwen3vl_merger", "clip.vision.embedding_length": H,
        "clip.vision.feed_forward_length": F, "clip.vision.attention.head_count": 4, "clip.vision.patch_size": 16,
        "clip.vision.image_size": 768, "clip.vision.spatial_merge_size": 2}  # fmt: skip


def with_tower(folder: Path, weight_files: Any, metadata: dict[str, Any], **more: Any) -> str:
    weight_files.gguf(folder / "tiny-Q8_0.gguf", LLAMA, DECODER)
    tensors = {name: held for name, held in (tower() | more).items() if not name.startswith(("a.", "mm.a."))}
    weight_files.gguf(folder / "mmproj-tiny-F16.gguf", metadata, tensors)
    return str(folder)


def buffer(model: str, place: str = "gpu", **more: Any) -> int:
    lines = size_serving(model, engine="llama.cpp", **more).lines
    return sum(entry.bytes for entry in lines if entry.name.startswith("image tower") and entry.place == place)


@pytest.mark.parametrize(
    ("said", "side", "patches", "position"),
    [
        ({}, 1472, 8464, 16),
        ({"clip.projector_type": "pixtral", "clip.vision.patch_size": 14}, 448, 1024, 8),
        ({"clip.projector_type": "gemma3", "clip.vision.patch_size": 14, "clip.vision.image_size": 896}, 896, 4096, 4),
        ({"clip.projector_type": "gemma4v", "clip.vision.spatial_merge_size": 3}, 768, 2304, 8),
    ],
)
def test_the_towers_buffer_is_that_of_the_warm_ups_image(
    tmp_path: Path, weight_files: Any, said: dict[str, Any], side: int, patches: int, position: int
) -> None:
    model = with_tower(tmp_path, weight_files, QWEN | said)
    image = 12 * side**2 + patches * position
    assert buffer(model) == image + patches * 4 * 6 * H
    assert buffer(model, "host") == image
    assert buffer(model, flash_attention="off") == image + patches * 4 * (6 * H + 4 * patches)
    found = size_serving(model, engine="llama.cpp")
    assert any(f"{side} × {side} pixels" in entry for entry in found.assumptions)
    assert not any("not modelled" in entry for entry in found.assumptions)


def test_a_larger_image_makes_the_buffer_grow(tmp_path: Path, weight_files: Any) -> None:
    model = with_tower(tmp_path, weight_files, QWEN)
    said = " ".join(size_serving(model, engine="llama.cpp").assumptions)
    assert f"to {format_bytes(12 * 2048**2 + 16384 * (16 + 24 * H))} for 4,096 tokens" in said


def test_a_gated_tower_keeps_three_branches(tmp_path: Path, weight_files: Any) -> None:
    gate = {"v.blk.0.ffn_gate.weight": (1, (F, H))}
    model = with_tower(tmp_path, weight_files, QWEN, **gate)
    assert buffer(model) == 12 * 1472**2 + 8464 * (16 + 4 * (2 * H + 3 * F))


@pytest.mark.parametrize(
    "said",
    [
        {"clip.projector_type": "resampler"},
        {"clip.projector_type": 3},
        {"clip.vision.patch_size": 0},
        {"clip.vision.patch_size": 1 << 30},
        {"clip.vision.spatial_merge_size": 1 << 19, "clip.vision.patch_size": 1},
        {"clip.vision.embedding_length": "wide"},
    ],
)
def test_what_is_not_known_of_a_tower_is_said(tmp_path: Path, weight_files: Any, said: dict[str, Any]) -> None:
    model = with_tower(tmp_path, weight_files, QWEN | said)
    assert buffer(model) == 0
    assert any("not modelled" in entry for entry in size_serving(model, engine="llama.cpp").assumptions)


@pytest.mark.parametrize(
    ("names", "chosen", "beside"),
    [
        (["a-Q4_K_M.gguf", "mmproj-BF16.gguf", "mmproj-F32.gguf"], "a-Q4_K_M.gguf", "mmproj-BF16.gguf"),
        (["a-Q4_K_M.gguf", "mmproj-a-Q8_0.gguf", "mmproj-a-f16.gguf"], "a-Q4_K_M.gguf", "mmproj-a-Q8_0.gguf"),
        (["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "mmproj.gguf"], "a-00001-of-00002.gguf", "mmproj.gguf"),
        (["a.gguf", "imatrix_unsloth.gguf", "mtp-a.gguf"], "a.gguf", None),
        (["mmproj.gguf"], "mmproj.gguf", None),
        (["model.safetensors", "mmproj.gguf"], "model.safetensors", None),
    ],
)
def test_which_file_is_the_model(names: list[str], chosen: str, beside: str | None) -> None:
    assert choose(names, "folder") == chosen
    assert choose_tower(names, chosen) == beside


def test_two_models_are_still_refused() -> None:
    with pytest.raises(InputError, match="holds several weight files"):
        choose(["a-Q4_K_M.gguf", "a-Q8_0.gguf", "mmproj.gguf"], "folder")


# --- safetensors: the tensors are believed ----------------------------------------------------------------------------

CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
          "intermediate_size": 128, "vocab_size": 128, "tie_word_embeddings": True}  # fmt: skip
NAMES = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64), "self_attn.o_proj": (64, 64),
         "mlp.gate_proj": (128, 64), "mlp.up_proj": (128, 64), "mlp.down_proj": (64, 128), "input_layernorm": (64,),
         "post_attention_layernorm": (64,)}  # fmt: skip


def checkpoint(folder: Path, weight_files: Any, config: dict[str, Any], **more: tuple[int, ...]) -> int:
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (128, 64), "model.norm.weight": (64,)}
    tensors |= {f"model.layers.0.{name}.weight": shape for name, shape in NAMES.items()} | more
    weight_files.safetensors(folder / "model.safetensors", {name: ("BF16", shape) for name, shape in tensors.items()})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return sum(prod(shape) for shape in tensors.values())


def test_tensors_that_the_config_has_not_are_counted_and_named(tmp_path: Path, weight_files: Any) -> None:
    bias = {"model.layers.0.self_attn.q_proj.bias": (64,)}
    held = checkpoint(tmp_path, weight_files, CONFIG, **bias)
    model = read_contents(str(tmp_path))
    assert model.architecture
    assert model.parameters == model.architecture.total == held
    assert model.architecture.parameters == held - 64
    assert (
        "64 more than its architecture describes (attention +64: model.layers.0.self_attn.q_proj.bias)"
        in (model.architecture.warnings[-1])
    )


def test_a_config_that_cannot_be_read_leaves_the_tensors(
    tmp_path: Path, weight_files: Any, memcalc: Callable[..., Any]
) -> None:
    held = checkpoint(tmp_path, weight_files, {"model_type": "nobody_moe", "n_routed_experts": 8})
    shown = memcalc("inspect", str(tmp_path), "--format", "json")
    assert shown.code == 0
    assert shown.document["model"]["parameters"] == held
    assert shown.document["stored"]["bytes_by_format"] == {"bf16": 2 * held}
    assert "nobody_moe" in " ".join(shown.document["warnings"])
    assert memcalc("infer", str(tmp_path)).code == 2
