"""What kernels of Liger, flash-linear-attention and causal-conv1d keep and write over, counted by hand from their sources."""

from typing import Any

from memcalc.autograd.profile import KERNELS, Profile
from memcalc.autograd.tape import HALF, Size, Tape, Var
from memcalc.blocks.mixers.gated_delta import GatedDeltaNet
from memcalc.blocks.mixers.state_space import Mamba2
from memcalc.blocks.recording import Recorded, record
from memcalc.readers.hf import read_config
from memcalc.sizing.training import size_training

H, FF = 4096, 14336
LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": H, "intermediate_size": FF, "num_hidden_layers": 2, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip
T = 4096


def layer(kernels: str) -> Recorded:
    profile = Profile(kernels=KERNELS[kernels], attention="flash")
    return record(read_config(LLAMA).parts[0].stacks[0].layers[0], profile, H)


def test_liger_writes_gradients_over_gate_and_up() -> None:
    """ops/swiglu.py, _swiglu_backward_kernel: da and db are stored where a and b are. At its highest the backward has all that
    the layer keeps, the product's gradient and the residual's; without, gradients of gate and up beside gate and up."""
    liger, te = layer("liger"), layer("compiled")
    highest = [max(peak.token for peak in found.peaks) for found in (liger, te)]
    assert highest[0] - liger.saved_bytes.token == 2 * (FF + H)
    assert highest[1] - highest[0] == 2 * FF  # three gradients beside two inputs, instead of one beside them and the product


KEYS, HEADS, KEY, VALUE, CHUNK = 16, 48, 128, 128, 64


def delta_tape() -> Tape:
    """Qwen3.5-27B's linear attention under Megatron."""
    tape = Tape()
    x = Var(Size(token=5120), HALF, True, "input")
    GatedDeltaNet(5120, KEYS, HEADS, KEY, VALUE, 4).forward(tape, Profile(kernels=KERNELS["te"]), x)
    return tape


def test_what_flash_linear_attention_keeps() -> None:
    """fla/ops/gated_delta_rule/chunk.py, save_for_backward, and what stands around it in megatron/core/ssm/gated_delta_net.py:
    bytes of a token."""
    keys, queries_wide, values = 2 * KEYS * KEY, 2 * HEADS * KEY, 2 * HEADS * VALUE
    kept = {
        "the block's input": 2 * 5120,
        "the convolution's input": 2 * keys + values,
        "queries and keys of unit length, with their roots": 2 * (keys + 4 * KEYS),
        "the same for each value head": 2 * queries_wide,
        "values": values,
        "decay: what softplus reads and returns, and its sum": 3 * 4 * HEADS,
        "learning rate": 2 * HEADS,
        "inverse of each chunk's system": 2 * HEADS * CHUNK,
        "what the norm reads, with its statistic": values + 4 * HEADS,
        "the gate and what it multiplies": 2 * values,
        "the last product's input": values,
    }
    assert delta_tape().saved_bytes().token == sum(kept.values())


def test_long_sequences_of_linear_attention_on_megatron() -> None:
    """A published reading: Qwen3.6-27B, LoRA, tensor parallel over 8 H200 with sequence parallelism: 28.4 GiB allocated at
    131,072 tokens, 49.5 GiB at 262,144 (github.com/basetenlabs/ml-cookbook, pull request 105)."""
    for tokens, measured in ((131072, 28.4), (262144, 49.5)):
        found = size_training("qwen3.6-27b", gpus=8, tp=8, sequence_parallel=True, engine="megatron", method="lora",
                              lora_rank=16, recompute="full", attention="flash", seq_len=tokens)  # fmt: skip
        assert abs(found.peak / (measured * 2**30) - 1) < 0.05


MAMBA_HEADS, MAMBA_WIDE, GROUPS, STATE = 64, 64, 8, 128


def test_what_mamba_ssm_keeps() -> None:
    """mamba_ssm/ops/triton/ssd_combined.py, MambaSplitConv1dScanCombinedFn.save_for_backward, and the norm after it in
    megatron/core/ssm/mamba_mixer.py: bytes of a token of Nemotron 3 Nano's mixer."""
    tape, inner = Tape(), MAMBA_HEADS * MAMBA_WIDE
    x = Var(Size(token=2688), HALF, True, "input")
    Mamba2(2688, MAMBA_HEADS, MAMBA_WIDE, STATE, GROUPS, 4, norm_groups=GROUPS, chunk=128).forward(
        tape, Profile(kernels=KERNELS["te"]), x
    )
    kept = {
        "the block's input": 2 * 2688,
        "gate, x, B, C and step, projected": 2 * (2 * inner + 2 * GROUPS * STATE + MAMBA_HEADS),
        "answers before the gate": 2 * inner,
        "what the norm reads, with its statistics": 2 * inner + 4 * GROUPS,
        "the last product's input": 2 * inner,
    }
    assert tape.saved_bytes().token == sum(kept.values())
