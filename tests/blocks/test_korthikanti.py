"""The textbook formulas fall out of the ledger where their assumptions hold.

Korthikanti et al. 2022 (arXiv 2205.05198): bytes per layer of a GPT block in 16 bit with dropout, kernels unfused:
    s b h (34 + 5 a s / h)                                equation 1
    s b h (10 + 24 / t + 5 a s / (h t))                   equation 2, tensor parallel
    s b h / t (34 + 5 a s / h)                            equation 4, with sequence parallelism
    s b h (10 + 24 / t), s b h 34 / t                     selective recomputation (attention core)
    s b h 2                                               full recomputation
The ledger also counts what the paper leaves out: fp32 statistics of the two LayerNorms, 16 bytes a token.
"""

import pytest

from memcalc.autograd.profile import KERNELS, Profile
from memcalc.blocks.architecture import Layer
from memcalc.blocks.attention.softmax import attention_of
from memcalc.blocks.mlp import MLP
from memcalc.blocks.norm import Norm
from memcalc.blocks.recording import record
from memcalc.blocks.values import revised

H, A, S, B = 4096, 32, 2048, 2
NORM = Norm(H, "layer")
BLOCK = Layer(
    (
        ("input_norm", NORM),
        (
            "attention",
            attention_of(H, A, A, H // A, fused=True, transposed=True, scores="as computed", query_bias=True,
                      output_bias=True, rotary=False,
                      dropout=0.1, output_dropout=0.1),
        ),
        ("post_attention_norm", NORM),
        ("mlp", MLP(H, 4 * H, gated=False, bias=True, activation="gelu", dropout=0.1)),
    )
)  # fmt: skip
TOKENS, PAIRS = B * S, B * S * S
SBH = S * B * H


def saved(**traits):
    kernels = KERNELS["eager"]._replace(gathers_again=True)  # section 4.2.2: each rank keeps its part of what is gathered
    profile = revised(Profile(kernels=kernels), attention="eager", **traits)
    return record(BLOCK, profile, H).saved_bytes.at(TOKENS, PAIRS)


CASES = [
    ("equation 1", {}, SBH * (34 + 5 * A * S / H), 16),
    ("equation 2, t=8", {"tp": 8}, SBH * (10 + 24 / 8 + 5 * A * S / (H * 8)), 16),
    ("equation 4, t=8", {"tp": 8, "sequence_parallel": True}, SBH / 8 * (34 + 5 * A * S / H), 16 / 8),
    ("selective, t=1", {"core_kept": False}, SBH * 34, 16),
    ("selective, t=4", {"tp": 4, "core_kept": False}, SBH * (10 + 24 / 4), 16),
    ("selective + sequence parallel, t=4", {"tp": 4, "sequence_parallel": True, "core_kept": False}, SBH * 34 / 4, 16 / 4),
]


@pytest.mark.parametrize(("name", "traits", "paper", "statistics"), CASES, ids=[case[0] for case in CASES])
def test_the_papers_formula(name, traits, paper, statistics):
    ours = saved(**traits) - statistics * TOKENS
    assert ours == pytest.approx(paper, rel=1e-9), f"{name}: {ours:.0f} here, {paper:.0f} in the paper"


def test_full_recomputation_keeps_the_input():
    assert record(BLOCK, Profile(), H).input.bytes.at(TOKENS, PAIRS) == 2 * SBH
