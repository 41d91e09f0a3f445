"""Every architecture family of the presets against PyTorch's own count, block by block (marked torch)."""

from collections.abc import Callable
from typing import Any

import pytest

# One preset a family. The others cannot be traced as one language model, or their mixers loop over tokens, which takes minutes.
DENSE = (
    "apertus-8b", "aya-23-8b", "command-r7b", "exaone-4.0-32b", "falcon-7b", "falcon-40b", "falcon-180b", "gemma-2b",
    "gemma-2-2b", "gemma-3-1b", "glm-4-9b", "glm-4-9b-0414", "gpt2", "granite-3.0-2b", "llama-3.2-1b", "mistral-7b-v0.1",
    "nemotron-4-340b", "olmo-1b", "olmo-2-1b", "olmo-3-7b", "opt-125m", "phi-2", "phi-3-mini", "pythia-160m", "qwen2-0.5b",
    "qwen3-0.6b", "seed-oss-36b", "smollm3-3b", "stablelm-2-1.6b", "starcoder2-3b", "starcoderbase-1b",
)  # fmt: skip
EAGER_ONLY = ("gpt-neo-125m", "gpt-j-6b")
SPARSE = (
    "granite-3.0-1b-a400m", "hunyuan-a13b", "minimax-m2", "mixtral-8x7b", "olmoe-1b-7b", "phi-3.5-moe", "qwen1.5-moe-a2.7b",
    "qwen3-30b-a3b",
)  # fmt: skip
HYBRID = ("minimax-text-01", "qwen3-next-80b-a3b")
MAMBA2 = ("granite-4.0-h-tiny", "mamba2-130m", "nemotron-h-8b")
SETTINGS = (("bf16", "sdpa", "256"), ("bf16-amp", "sdpa", "160"), ("fp32", "eager", "160"), ("bf16", "eager", "160"))
SMALL = 16_384  # bytes of a block that rounding and single numbers make
# (preset, block) → why PyTorch's ledger differs by more
KNOWN: dict[tuple[str, str], str] = {
    ("qwen3-next-80b-a3b", "layers/linear_attention"): "padded chunks under autocast",
    ("gpt-j-6b", "layers/attention"): "sines of every token, gathered anew in each layer",
    ("gpt-j-6b", "rotary tables and masks"): "sines of every token, gathered anew in each layer",
}
TOTALS = ("after_forward", "peak_forward_backward", "peak_optimizer_step")


def cases() -> list[Any]:
    rows = [(name, 0.001, setting) for name in DENSE for setting in SETTINGS]
    rows += [(name, 0.001, setting) for name in EAGER_ONLY for setting in SETTINGS if setting[1] == "eager"]
    rows += [(name, 0.01, setting) for name in (*SPARSE, *HYBRID) for setting in SETTINGS]
    # not counted: the state of zeros that a sequence starts with, 2 % of short sequences, 0.1 % of 4096 tokens
    rows += [(name, 0.025, setting) for name in MAMBA2 for setting in SETTINGS]
    return [pytest.param(*row, id="-".join((row[0], *row[2]))) for row in rows]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("preset", "tolerance", "setting"), cases())
def test_a_family(memcalc: Callable[..., Any], preset: str, tolerance: float, setting: tuple[str, ...]) -> None:
    """Steady state, what the forward leaves by block and in all, and the peaks."""
    words = ("--precision", setting[0], "--attention", setting[1], "--seq-len", setting[2], "--micro-batch", "2")
    result = memcalc("trace", preset, "--layers", "2", *words, "--format", "json")
    if "no sdpa attention" in result.err:
        pytest.skip(result.err.strip())
    assert (result.code, result.err) == (0, "")
    found = result.document
    wrong = {
        block["path"]: (block["bytes"], block["traced_bytes"])
        for block in found["blocks"]
        if abs((block["bytes"] or 0) - block["traced_bytes"]) > max(SMALL, tolerance * block["traced_bytes"])
    }
    if abs(found["errors"]["steady"]) > 0.0005:
        wrong["steady"] = (found["per_gpu"]["steady"], found["traced"]["steady"])
    assert not {name: sizes for name, sizes in wrong.items() if (preset, name) not in KNOWN}
    if (preset, "steady") not in KNOWN:
        assert abs(found["errors"]["after_forward"]) <= tolerance
        assert max(abs(found["errors"][name]) for name in TOTALS) <= 0.02
