"""FLOPs of the ledger against PyTorch's FlopCounterMode (tests/reference/flops.json; PyTorch 2.13, transformers 5.18)."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.blocks.attention.global_local import GlobalTokens
from memcalc.blocks.attention.predicting_streams import StreamsAhead
from memcalc.blocks.counting import LOOKED_UP, count, pairs
from memcalc.blocks.embedding import Embedding
from memcalc.blocks.task_head import Pooler
from memcalc.blocks.unread import Unread
from memcalc.estimates.compute.flops import (
    PROFILE,
    by_block,
    decode_flops,
    entries,
    estimated_blocks,
    prefill_flops,
    step_flops,
)
from memcalc.estimates.compute.levels import levels
from memcalc.readers.catalogue import preset_names
from memcalc.readers.hf import read_config
from memcalc.readers.models import read_model_preset

ROWS = json.loads((Path(__file__).parents[1] / "reference" / "flops.json").read_text(encoding="utf-8"))


def traced(row: dict[str, Any]) -> Architecture:
    """The row's model at the depth that was traced."""
    config = copy.deepcopy(row["config"])
    for key in ("num_hidden_layers", "n_layer"):
        if key in config:
            config[key] = row["num_layers"]
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][: row["num_layers"]]
    return read_config(config)


def not_counted(row: dict[str, Any], architecture: Architecture) -> tuple[float, float]:
    """Grouped products of experts, for which FlopCounterMode has no formula: forward, backward."""
    if "grouped" not in row.get("note", ""):
        return 0, 0
    works = [
        (work, entry.layers * row["tokens"])
        for entry in entries(architecture)
        for work in count(entry.path, entry.block, PROFILE, architecture.hidden).works
        if "/experts " in work.name
    ]
    return sum(w.forward.token * n for w, n in works), sum(w.backward.token * n for w, n in works)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['model']}-{r['batch']}x{r['seq']}-{r['attn']}-{r['checkpointing']}")
def test_flop_counter_mode(row: dict[str, Any]) -> None:
    """Forward within the product that makes the rotary table, backward to the FLOP."""
    architecture = traced(row)
    assert not estimated_blocks(architecture)
    found = step_flops(architecture, row["batch"], row["seq"], attention=row["attn"], recompute=row["checkpointing"])
    ahead, back = not_counted(row, architecture)
    assert found.forward - ahead == pytest.approx(row["forward_flops"], rel=1e-6)
    # PyTorch's checkpoint stops recomputing once the layer's last saved tensor is there
    backward = found.backward + found.recomputation - found.stopped_early - back
    assert backward == pytest.approx(row["backward_flops"], rel=1e-12)


def test_experts_count_by_those_chosen(architecture: Callable[..., Architecture]) -> None:
    """Mixtral 8x22B: 2 of 8 experts; 6·N·D of the active parameters and the products differ by the embedding only."""
    model = architecture("mistralai/Mixtral-8x22B-v0.1")
    found = step_flops(model, 1, 1)
    matrices = model.active_parameters - model.vocabulary * model.hidden  # a look-up is no product
    assert found.forward == pytest.approx(2 * matrices, rel=0.001)


def test_causal_attention_is_half(architecture: Callable[..., Architecture]) -> None:
    model = architecture("meta-llama/Meta-Llama-3.1-8B")
    full, causal, none = (step_flops(model, 1, s, causal=c).forward for s, c in ((8192, False), (8192, True), (1, False)))
    scores, masked = full - 8192 * none, causal - 8192 * none
    assert masked / scores == pytest.approx(0.5, rel=0.001)


@pytest.mark.parametrize("window", [None, 1, 3, 8, 50])
@pytest.mark.parametrize("causal", [True, False])
def test_pairs_are_counted(window: int | None, causal: bool) -> None:
    def seen(q: int, k: int) -> bool:
        return (not causal or k <= q) and (window is None or q - k < window)

    for length in (1, 2, 7, 20):
        if causal:
            assert pairs(3, length, window=window) == 3 * sum(seen(q, k) for q in range(length) for k in range(length))
        if window and causal:
            alike = sum(k <= q and q // window == k // window for q in range(length) for k in range(length))
            assert pairs(3, length, window=window, chunked=True) == 3 * alike


def test_windows_bound_what_is_computed(architecture: Callable[..., Architecture]) -> None:
    """Gemma 2: every other layer sees 4096 tokens, so beyond that causal attention grows slower."""
    model = architecture("google/gemma-2-2b")
    full = step_flops(model, 1, 32768, causal=False).forward
    causal = step_flops(model, 1, 32768, causal=True).forward
    linear = step_flops(model, 1, 1).forward * 32768
    assert (causal - linear) / (full - linear) < 0.4
    assert decode_flops(model, 40_000) - decode_flops(model, 20_000) == pytest.approx(
        13 * 4 * 8 * 256 * 20_000, rel=1e-9
    )  # only the 13 global layers, 8 heads of 256


def test_decode_is_two_flops_a_parameter(architecture: Callable[..., Architecture]) -> None:
    """Without context, 2 × the matrices; with, 4 × heads × head_dim a key and layer."""
    model = architecture("meta-llama/Meta-Llama-3.1-8B")
    matrices = 6_979_321_856 + 128_256 * 4096  # blocks and head
    assert decode_flops(model, 0) == 2 * matrices
    assert decode_flops(model, 8192) - decode_flops(model, 0) == 32 * 4 * 32 * 128 * 8192
    assert prefill_flops(model, 1000) == pytest.approx(
        2 * 6_979_321_856 * 1000 + 2 * 128_256 * 4096 + 32 * 4 * 32 * 128 * 1000**2, rel=1e-12
    )  # logits of the last token only


def test_an_encoder_decoder_decodes_in_its_decoder() -> None:
    """T5 small (arXiv:1910.10683, section 3.7): width 512, 8 heads of 64, inner 2048, six decoder layers. A token makes its own
    query, key, value and output, and the query and output of cross-attention, whose keys and values are cached."""
    model = read_model_preset("t5-small").architecture
    assert model
    layer = 4 * 512 * 512 + 2 * 512 * 512 + 2 * 512 * 2048
    assert decode_flops(model, 0) == 2 * (6 * layer + 512 * 32128)
    assert decode_flops(model, 100) - decode_flops(model, 0) == 6 * 2 * 4 * 8 * 64 * 100  # both attentions of each layer


def test_latent_attention_decodes_absorbed(architecture: Callable[..., Architecture]) -> None:
    """DeepSeek V3: each of 128 heads reads 512 + 64 as key and 512 as value, in 61 layers."""
    model = read_model_preset("deepseek-v3").architecture
    assert model
    assert decode_flops(model, 1000) - decode_flops(model, 0) == 61 * 2 * 128 * (2 * 512 + 64) * 1000


def test_recurrent_mixers_decode_by_their_state() -> None:
    """Mamba 2 2.7B: no cache grows, and a step costs 6 FLOP an element of the state beside the matrices."""
    model = read_model_preset("mamba2-2.7b").architecture
    assert model
    assert decode_flops(model, 100_000) == decode_flops(model, 0)
    assert decode_flops(model, 0) < step_flops(model, 1, 256).forward / 256
    assert decode_flops(model, 0) > 2 * 2_700_000_000


UNMULTIPLIED = (Embedding, GlobalTokens, Pooler, StreamsAhead, Unread)  # looked up; one vector a sequence; never read


@pytest.mark.parametrize("name", preset_names("models"))
def test_nothing_is_forgotten(name: str) -> None:
    """Every counted block multiplies at least each of its matrices once, whatever the kind; estimates say so."""
    model = read_model_preset(name).architecture
    assert model
    for entry in entries(model):
        found = count(entry.path, entry.block, PROFILE, model.hidden)
        if found.reason or isinstance(entry.block, UNMULTIPLIED) or getattr(entry.block, "first", False):
            continue
        matrices = sum(w.parameters for w in entry.block.weights() if len(w.shape) > 1 and w.role not in LOOKED_UP)
        matrices -= getattr(entry.block, "idle_parameters", 0)
        assert sum(work.forward.token for work in found.works) >= 2 * matrices * 0.98, entry.path
    whole, blocks = step_flops(model, 1, 512), by_block(model, 512)
    assert whole.forward == pytest.approx(sum(block.flops for block in blocks), rel=1e-12)
    assert whole.backward >= whole.forward
    assert step_flops(model, 1, 512, causal=True).forward <= whole.forward
    assert step_flops(model, 3, 512).forward == pytest.approx(3 * whole.forward, rel=1e-12)
    assert any(block.certainty == "estimate" for block in blocks) == bool(
        [r for e in entries(model) if (r := count(e.path, e.block, PROFILE, model.hidden)).reason and r.works[0].forward.token]
    )


def test_levels_name_what_does_not_apply(architecture: Callable[..., Architecture]) -> None:
    gpt2 = architecture("openai-community/gpt2")
    found = {level.name: level for level in levels(gpt2, gpt2.parameters, 1024, "full")}
    assert all(level.per_token for level in found.values())
    # Narayanan's equation 3 is the ledger of a GPT-2 with full recomputation
    assert found["narayanan"].per_token == pytest.approx(found["architecture-hardware"].per_token, rel=1e-6)
    # karpathy/nanoGPT, transformer_sizing.ipynb: its own count of GPT-2 124M, one sequence
    assert found["architecture"].per_token == 874_944_921_600 / 1024
    llama = architecture("meta-llama/Meta-Llama-3.1-8B")
    refused = {level.name: level for level in levels(llama, llama.parameters, 8192, "none")}
    assert refused["narayanan"].per_token is None
    assert "two matrices" in refused["narayanan"].counts
    assert refused["palm"].per_token == pytest.approx(6.106647e10, rel=1e-6)
    assert refused["palm-causal"].per_token == pytest.approx(5.462402e10, rel=1e-6)
    assert refused["architecture"].per_token == pytest.approx(5.791285e10, rel=1e-6)  # 6 (blocks + V d) + 12 L H Q s


def test_look_ups_cost_nothing() -> None:
    """Gemma 3n E2B: 5.42 B parameters, of which 2.01 B are a table of per-layer embeddings."""
    model = read_model_preset("gemma-3n-e2b").architecture
    assert model
    language = sum(c.parameters for c in model.weights if c.part == "language")
    assert decode_flops(model, 0) / 2 == pytest.approx(language - 262_144 * 30 * 256, rel=0.001)
