"""Context parallelism: what each way to exchange keys and values keeps and holds."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from memcalc.blocks.architecture import Architecture
from memcalc.estimates.training.estimate import TrainingEstimate, estimate
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.spec import SpecError
from memcalc.specs.training import Training

Read = Callable[..., Architecture]
LLAMA = "meta-llama/Meta-Llama-3.1-8B"  # 32 heads, 8 of keys and values, 128 wide, 32 layers
DEEPSEEK = "deepseek-ai/DeepSeek-V2"
KINDS = ("ring", "all-gather", "all-to-all")
QUERY, KEYS_VALUES = 2 * 4096, 2 * 2 * 1024  # bytes a token


def found(model: Architecture, cp: int, kind: str = "ring", **settings: Any) -> TrainingEstimate:
    divided = {"gpus": 8, "cp": cp, **({"cp_kind": kind} if cp > 1 else {}), **settings.pop("parallelism", {})}
    return estimate(model, Training(parallelism=Parallelism(**divided), **{"seq_len": 32768, "precision": "bf16", **settings}))


# kind, bytes a token and layer that are kept beside what one rank alone keeps; Transformer Engine, context_parallel.py
KEPT = (
    ("ring", 0, "q, kv, out and log-sum-exp of a rank's own tokens"),
    ("all-gather", QUERY, "the result of either chunk beside the joined one"),
    ("all-to-all", QUERY, "the result by heads, for the kernel, and by tokens, for the output projection"),
)


@pytest.mark.parametrize(("kind", "more", "source"), KEPT)
def test_what_is_kept(architecture: Read, kind: str, more: int, source: str) -> None:
    model, tokens = architecture(LLAMA), 32768 // 4
    alone = found(model, 1, seq_len=tokens).components["activations"]
    here = found(model, 4, kind).components["activations"]
    assert here - alone == 32 * tokens * more, f"{(here - alone) / 32 / tokens} B a token and layer, expected {more}: {source}"


# kind, cp → bytes a token of this rank that the backward of attention holds beside saved tensors and results
BUFFERS = (
    ("ring", 2, QUERY + 4 * KEYS_VALUES, "p2p_comm_buffers: 2 × (2, *kv.shape); dq_ and dkv_ of a step; less dkv, the result"),
    ("ring", 8, QUERY + 4 * KEYS_VALUES, "the same at any cp"),
    ("all-gather", 2, QUERY + 2 * 3 * KEYS_VALUES, "k_ag, v_ag; dk, dv; a step's dk_, dv_: cp × a rank's own"),
    ("all-gather", 8, QUERY + 8 * 3 * KEYS_VALUES, "the same"),
    ("all-to-all", 8, 2 * (QUERY + KEYS_VALUES), "put in order, and received"),
)


@pytest.mark.parametrize(("kind", "cp", "expected", "source"), BUFFERS)
def test_buffers(architecture: Read, kind: str, cp: int, expected: int, source: str) -> None:
    estimated = found(architecture(LLAMA), cp, kind)
    (line,) = (line for line in estimated.lines if line.name == f"context parallel ({kind})")
    assert line.bytes == expected * (32768 // cp), source
    communication = sum(line.bytes for line in estimated.lines if line.component == "communication" and line.place == "gpu")
    assert communication == estimated.components["communication"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
@pytest.mark.parametrize("attention", ["flash", "sdpa", "eager"])
def test_more_ranks_never_need_more(architecture: Read, kind: str, recompute: str, attention: str) -> None:
    """Of one sequence; one rank alone holds no buffers, but all of its tokens."""
    model = architecture(LLAMA)
    ranks = [found(model, cp, kind, recompute=recompute, attention=attention, seq_len=4096) for cp in (1, 2, 4, 8)]
    for fewer, more in pairwise(ranks):
        assert more.components["activations"] <= fewer.components["activations"]
        assert more.peak <= fewer.peak


def test_buffers_reach_the_peak(architecture: Read) -> None:
    """With a small vocabulary and recomputation, attention's backward over gathered keys is what counts."""
    model = architecture(LLAMA, vocab_size=1024, intermediate_size=2048, num_hidden_layers=4, num_key_value_heads=32)
    ring, gathered = (found(model, 8, kind, recompute="full", parallelism={"fsdp": "full"}) for kind in ("ring", "all-gather"))
    assert gathered.peak > ring.peak


def test_latent_attention(architecture: Read) -> None:
    model = architecture(DEEPSEEK)
    for kind in KINDS:
        assert any(line.name == f"context parallel ({kind})" for line in found(model, 4, kind, seq_len=4096).lines)


def test_fewer_key_heads_than_ranks(architecture: Read) -> None:
    """deepspeed/runtime/sequence_parallel/ulysses_sp.py: kv_replication_factor copies of each make one for every rank, which
    flash attention keeps, while queries are spread as ever; Megatron's a2a wants a key head for each rank."""
    model = architecture(LLAMA, num_key_value_heads=2)
    kept = {cp: found(model, cp, "all-to-all", attention="flash").components["activations"] for cp in (2, 8)}
    tokens, pair = 32768 // 8, 2 * 2 * 128 * 2  # keys and values of two heads of 128, bytes a token
    assert kept[8] - kept[2] / 4 == pytest.approx(32 * tokens * pair * 3, rel=0.02)  # four heads' worth a rank's own tokens
    with pytest.raises(SpecError, match="do not divide 2 kv_heads"):
        found(model, 8, "all-to-all", engine="megatron", precision="bf16-mixed")


def test_one_rank_has_no_buffers(architecture: Read) -> None:
    assert not any("context parallel" in line.name for line in found(architecture(LLAMA), 1).lines)


# parallelism, fields the refusal names, what it says
REFUSED: tuple[tuple[dict[str, Any], tuple[str, ...], str], ...] = (
    ({"cp": 16, "cp_kind": "all-to-all", "gpus": 32, "tp": 2}, ("cp_kind", "cp"), "do not divide 8 kv_heads"),
    ({"cp": 4, "tp": 4, "cp_kind": "all-to-all", "gpus": 16}, ("cp_kind", "cp"), "tp × cp = 4 × 4"),
    ({"cp": 64, "cp_kind": "all-to-all", "gpus": 64}, ("cp_kind", "cp"), "do not divide 32 heads"),
    ({"cp_kind": "all-to-all"}, ("cp_kind", "cp"), "cp is 1"),
    ({"cp": 2, "gpus": 2, "cp_kind": "broadcast"}, ("cp_kind",), "ring, all-gather, all-to-all"),
)


@pytest.mark.parametrize(("parallelism", "fields", "said"), REFUSED)
def test_refused(architecture: Read, parallelism: dict[str, Any], fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        estimate(architecture(LLAMA), Training(parallelism=Parallelism(**parallelism)))
    assert caught.value.fields == fields


def test_on_the_command_line(memcalc: Callable[..., Any], folder: Callable[..., str]) -> None:
    words = f"train {folder()} --gpus 8 --format json"
    result = memcalc(f"{words} --cp 4 --cp-kind all-gather")
    assert result.code == 0, result.err
    assert result.document["run"]["parallelism"]["cp_kind"] == "all-gather"
    assert any(said.startswith("context parallelism, all-gather") for said in result.document["assumptions"])
    lone = memcalc(f"{words} --cp-kind ring")
    assert lone.code == 2
    assert "--cp-kind" in lone.err
