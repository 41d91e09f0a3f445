"""Cross-entropy as libraries of other years write it: bytes per logit, and what LitGPT's layers keep for adapters."""

import pytest

from memcalc.autograd.profile import KERNELS, LOSSES, Profile
from memcalc.blocks.architecture import Layer
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.head import Head
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.recording import record, record_exit
from memcalc.blocks.values import revised

V, H = 32000, 64

# loss, bytes per logit at the end of the forward, at the highest point of the backward, which copies these are
PER_LOGIT = (
    ("full", 10, 12, "fp32 copy and log-softmax beside the 16-bit logits; then two fp32 gradients and log-softmax"),
    ("upcast", 8, 12, "torchtitan until October 2024: the model returns the fp32 copy"),
    ("shifted", 14, 12, "transformers 4.48 ForCausalLMLoss: 2 logits, 4 upcast, 4 shifted, 4 log-softmax"),
    ("shifted-upcast", 12, 12, "transformers 4.45: the 16-bit logits are gone"),
    ("shifted-half", 6, 8, "transformers 4.48 GPTBigCode: logits, shifted, log-softmax; two gradients in their stead"),
    ("in-place", 8, 8, "Unsloth's kernel: upcast and shifted; the gradient is written over the shifted ones"),
    ("listed", 8, 9, "LitGPT: fp32 logits and log-softmax of every chunk; the gradient of one of eight"),
)


@pytest.mark.parametrize(("loss", "forward", "backward", "which"), PER_LOGIT, ids=[row[0] for row in PER_LOGIT])
def test_bytes_per_logit(loss: str, forward: int, backward: int, which: str) -> None:
    profile = revised(Profile(), loss=loss, trained=False)
    found = record_exit((("head", Head(V, H)),), profile, H)
    whole = found.saved_bytes + found.loss_held
    assert whole.token / V == pytest.approx(forward, abs=0.01), which
    assert max(peak.token for peak in found.peaks) / V == pytest.approx(backward, abs=0.2), which


# kernels, bytes per logit at the end of the forward and at the highest point of the backward: logits, and of one chunk of eight
CHUNKED = (
    ("eager", 2 + 4 / 8 + 4 / 8, 2 + 3 * 4 / 8 + 2 / 8, "fp32 copy and log-softmax; three fp32 temporaries and the gradient"),
    ("compiled", 2, 2 + 2 / 8, "torchtune/training/_compile.py: one kernel from the logits to their gradient"),
)


@pytest.mark.parametrize(("kernels", "forward", "backward", "which"), CHUNKED, ids=[row[0] for row in CHUNKED])
def test_bytes_per_logit_of_chunks(kernels: str, forward: float, backward: float, which: str) -> None:
    """torchtune/modules/loss/ce_chunked_output_loss.py. Llama 3.2 3B with LoRA and with QLoRA reached 8.5 and 4.6 GiB with 1.96
    GiB of logits (torchtune's README at 1814feb17): 8.7 and 4.8 compiled so, 10.2 and 6.3 as if each chunk were written out."""
    profile = revised(Profile(), kernels=KERNELS[kernels], loss="chunked", trained=False)
    found = record_exit((("head", Head(V, H)),), profile, H)
    assert (found.saved_bytes + found.loss_held).token / V == pytest.approx(forward, abs=0.01), which
    assert max(peak.token for peak in found.peaks) / V == pytest.approx(backward, abs=0.2), which


def test_a_head_is_trained_chunk_by_chunk() -> None:
    """While the second chunk's gradient of the matrix is made, the first one's is there (torch/csrc/autograd/input_buffer.cpp),
    and of the logits six eighths, with the gradient of one."""
    found = record_exit((("head", Head(V, H)),), revised(Profile(), kernels=KERNELS["compiled"], loss="chunked"), H)
    both = next(peak for peak in found.peaks if peak.fixed == 2 * 2 * V * H)
    assert both.token / V == pytest.approx(2 * 6 / 8 + 2 / 8, abs=0.02)


@pytest.mark.parametrize(("loss", "forward"), [("full", 14), ("upcast", 12)])
def test_bytes_per_logit_of_a_parallel_loss(loss: str, forward: int) -> None:
    """torch/distributed/tensor/parallel/loss.py: shifted logits in the forward, three temporaries beside the log-softmax in the
    backward, over half of the vocabulary on each of two ranks."""
    found = record_exit((("head", Head(V, H)),), revised(Profile(), loss=loss, trained=False, tp=2), H)
    assert (found.saved_bytes + found.loss_held).token / (V / 2) == pytest.approx(forward, abs=0.01)
    assert max(peak.token for peak in found.peaks) / (V / 2) == pytest.approx(16, abs=0.2)


def test_gathered_logits_are_whole_on_every_rank() -> None:
    """transformers/distributed/tensor_parallel.py, colwise_gather_output: the loss is that of one GPU."""
    one, two = (
        record_exit((("head", Head(V, H)),), revised(Profile(), trained=False, tp=tp, whole_logits=tp > 1), H) for tp in (1, 2)
    )
    assert (two.saved_bytes, two.loss_held) == (one.saved_bytes, one.loss_held)
    assert max(peak.token for peak in two.peaks) == max(peak.token for peak in one.peaks)


# loss, bytes of fp32 tiles at once in the forward and in the backward, where nothing but they is made
TILED = (
    ("chunked-head", 4 * 512 * V, "verl: logits, softmax, log-softmax, their product"),
    ("tiled-head", 4 * 1024 * 8192, "prime-rl: upcast, scaled, exponentials, their product with the logits"),
)


@pytest.mark.parametrize(("loss", "elements", "which"), TILED, ids=[row[0] for row in TILED])
@pytest.mark.parametrize("trained", [False, True])
def test_a_head_over_chunks(loss: str, elements: int, which: str, trained: bool) -> None:
    """No tensor of tokens × vocabulary: kept are the hidden states; in the backward both gradients and five fp32 tiles, or what
    the product for the weight's gradient takes beside three (verl/utils/experimental/torch_functional.py)."""
    tokens = LOSSES[loss].head_tokens
    profile = revised(Profile(), loss=loss, trained=trained, head_tokens=tokens)
    found = record_exit((("head", Head(V, H)),), profile, H)
    assert found.saved_bytes.token == 2 * H + 8
    assert found.loss_held.token <= 2 * H
    assert found.loss_held.fixed == 4 * elements, which
    highest = max(peak.fixed for peak in found.peaks)
    assert highest == 5 * elements + (2 * V * H if trained else 0)


# TRL 1.10's _chunked_cross_entropy_loss, traced with PyTorch 2.13 under fake tensors (hidden [T, H], weight [V, H], chunks
# of C tokens): formats, whether the weight is trained, T, H, V, C, bytes beside what the forward kept
CHUNKED_NLL = (
    ("bf16", True, 2048, 512, 32768, 256, 134220800, 237506048), ("bf16", True, 1024, 2048, 16384, 64, 138936320, 344977408),
    ("bf16", False, 2048, 512, 32768, 256, 134220800, 203427328), ("bf16", False, 1024, 2048, 16384, 64, 138936320, 155192320),
    ("amp", True, 2048, 512, 32768, 256, 117443584, 222562304), ("amp", True, 1024, 2048, 16384, 64, 69468160, 411565056),
    ("fp32", True, 2048, 512, 32768, 256, 134220800, 206045696), ("fp32", True, 1024, 2048, 16384, 64, 16777216, 411565056),
)  # fmt: skip


@pytest.mark.parametrize(("formats", "trained", "t", "h", "v", "c", "forward", "backward"), CHUNKED_NLL)
def test_trls_chunks_upcast_the_head(
    formats: str, trained: bool, t: int, h: int, v: int, c: int, forward: int, backward: int
) -> None:
    wide = formats != "bf16"
    settings = {"compute": 4 if formats == "fp32" else 2, "weights": 4 if wide else 2, "autocast": formats == "amp"}
    profile = revised(Profile(), loss="chunked-nll", trained=trained, head_tokens=c, **settings)
    found = record_exit((("head", Head(v, h)),), profile, h)
    assert found.loss_held.fixed == pytest.approx(forward, rel=0.04)
    assert max(peak.fixed + peak.token * t for peak in found.peaks) == pytest.approx(backward, rel=0.03)


def test_every_loss_is_played() -> None:
    for loss in LOSSES:
        assert record_exit((("head", Head(V, H)),), revised(Profile(), loss=loss), H).peaks, loss


def test_a_litgpt_layer_with_adapters_on_queries_and_values() -> None:
    """Llama-2-7B, LoRA rank 8 on q and v, dropout: per token and layer, bytes.

    Two norms keep their fp32 input (4h each, frozen scales keep nothing) and a statistic (4); attention q, k, the whole
    qkv (v is a view of it), output and log-sum-exp: 2h + 2h + 6h + 2h + 4 × 32; the adapters a mask h, the dropped input 2h,
    A's result 2 × 16 and what index_copy copied, 2 × 2h; the MLP gate, silu(gate), up: 6 × 11008. Measured: 5.96 MB a token
    over 32 layers and 8 bytes a logit (lit-gpt, 21.30 and 29.07 GB at micro-batch 1 and 2 of 1304 tokens).
    """
    h, ff, heads = 4096, 11008, 32
    blocks = (
        ("input_norm", Norm(h)),
        ("attention", attention_of(h, heads, heads, 128)),
        ("post_attention_norm", Norm(h)),
        ("mlp", MLP(h, ff)),
    )
    profile = revised(
        Profile(), kernels=KERNELS["litgpt"], loss="listed", trained=False, layers=("q", "v"), rank=8, adapters_itemsize=2,
        upcast=False, adapters_dropout=0.05,
    )  # fmt: skip
    found = record(Layer(blocks), profile, h)
    expected = 2 * (4 * h + 4) + 12 * h + 4 * heads + (h + 2 * h + 2 * 16 + 4 * h) + 6 * ff
    assert found.saved_bytes.token == expected
    measured = (29.07e9 - 21.30e9) / 1304
    assert 32 * expected + 8 * V == pytest.approx(measured, rel=0.01)
