"""Megatron-LM: gradients in their bucket, dummy gradients, sequence parallelism, experts and losses."""

import pytest

from memcalc.estimates.training.estimate import estimate
from memcalc.readers.hf import read_config
from memcalc.specs.parallelism import Parallelism
from memcalc.specs.training import Training

LLAMA = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
MIXTURE = LLAMA | {
    "model_type": "qwen3_moe", "num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 512, "head_dim": 64,
    "mlp_only_layers": [], "decoder_sparse_step": 1, "norm_topk_prob": True,
}  # fmt: skip


def found(config=LLAMA, **settings):
    names = set(Parallelism.model_fields)
    parallelism = Parallelism(**{name: value for name, value in settings.items() if name in names})
    rest = {name: value for name, value in settings.items() if name not in names}
    run = Training(parallelism=parallelism, engine="megatron", **{"seq_len": 2048, "attention": "flash"} | rest)
    return estimate(read_config(config), run)


def line(of, name):
    return next((entry for entry in of.rank.lines if entry.name == name), None)


STATES = [  # megatron/core/optimizer/distrib_optimizer.py; docs: theoretical bytes a parameter
    ("plain data parallel", {"gpus": 8}, 18),
    ("distributed optimizer", {"gpus": 8, "zero": 1}, 6 + 12 / 8),
    ("one GPU", {}, 18),
]


@pytest.mark.parametrize(("name", "settings", "bytes_each"), STATES, ids=[case[0] for case in STATES])
def test_bytes_of_a_parameter_at_the_step(name, settings, bytes_each):
    step = found(**settings)
    dummies = line(step, "dummy weight gradients").bytes
    assert step.peak_optimizer_step - dummies == pytest.approx(bytes_each * step.trainable, rel=1e-6), name


DUMMIES = [  # transformer_engine/pytorch/module/base.py, get_dummy_wgrad: one for each distinct shape of a rank's stage
    ("merged products and the head", LLAMA, {}, [(2048, 1024), (1024, 1024), (5632, 1024), (1024, 2816), (32000, 1024)]),
    ("cut over ranks", LLAMA, {"gpus": 2, "tp": 2}, [(1024, 1024), (1024, 512), (2816, 1024), (1024, 1408), (16000, 1024)]),
    ("one expert's", MIXTURE, {"gpus": 8, "ep": 8}, [(2048, 1024), (1024, 1024), (1024, 512), (32000, 1024)]),
]


@pytest.mark.parametrize(("name", "config", "settings", "shapes"), DUMMIES, ids=[case[0] for case in DUMMIES])
def test_dummy_gradients(name, config, settings, shapes):
    made = line(found(config, **settings), "dummy weight gradients")
    assert sorted(part.shape for part in made.parts) == sorted(set(shapes)), name
    assert made.bytes == sum(2 * rows * columns for rows, columns in set(shapes))


LOSSES = [  # bytes for each logit at the highest moment of the head's backward
    ("te", 2),  # written over the 16-bit logits
    ("te-fp32", 6),  # an fp32 gradient, and its cast
    ("vocab-parallel", 6),  # over fp32 probabilities, and its cast
]


@pytest.mark.parametrize(("loss", "each"), LOSSES)
def test_the_loss(loss, each):
    step = found(loss=loss, seq_len=8192, gpus=1)
    head = next(moment for moment in step.shown if moment.name == "gradient of the loss")
    other = next(moment for moment in found(loss="te", seq_len=8192).shown if moment.name == "gradient of the loss")
    logits = 8192 * 32000
    assert head.activations - other.activations == pytest.approx((each - 2) * logits, abs=3 * 8192 * 1024 * 2), loss


def test_sequence_parallel_ranks_keep_their_share_and_gather_again():
    share = found(gpus=4, tp=4, sequence_parallel=True).at_peak
    named = {part.name for entry in share.lines for part in entry.parts}
    kept = [part for entry in share.lines for part in entry.parts if entry.name == "layers/input_norm"]
    assert {part.shape for part in kept if part.name == "norm"} == {(2048, 256)}
    assert "head's input, gathered" in named  # megatron/core/tensor_parallel/layers.py: the global memory buffer


def test_torch_keeps_what_it_gathers():
    """DTensor's redistribution is not undone: a linear layer keeps its whole input (torch/nn/functional, F.linear)."""
    run = Training(parallelism=Parallelism(gpus=4, tp=4, sequence_parallel=True), engine="torchtitan", seq_len=2048)
    step = estimate(read_config(LLAMA), run)
    names = [part for entry in step.lines for part in entry.parts if part.name == "gathered"]
    assert names
    assert {part.shape for part in names} == {(2048, 1024)}


def test_experts_weight_their_rows_before_the_second_product():
    """megatron/core/transformer/moe/experts.py: no result of the second product is kept, nor weighted in fp32."""
    step = found(MIXTURE, gpus=8, ep=8)
    kept = {part.name: part for entry in step.lines for part in entry.parts if entry.name == "layers/mlp"}
    assert "down" not in kept
    assert kept["gate_up"].shape == (2048, 4 * 2 * 512)  # four rows a token
    assert any(moment.name == "forward of the last layer" for moment in step.shown)


UNFUSED = [  # megatron/core/transformer/dot_product_attention.py
    ("llama: probabilities", 2),
]


@pytest.mark.parametrize(("name", "each"), UNFUSED)
def test_unfused_attention(name, each):
    step = found(attention="eager", seq_len=1024)
    pairs = [part for entry in step.lines for part in entry.parts if entry.name == "layers/attention" and len(part.shape) == 4]
    assert sum(part.bytes for part in pairs) == each * 16 * 1024**2, name
